//! Decisions, pure and synchronous: what a session does with what comes to it, which receipts are
//! worth making, and which submit lane an event takes.

pub mod admit;
pub mod bucket;
pub mod courses;
pub mod effect;
pub mod frame;
pub mod lanes;
pub mod places;
pub mod receipts;
pub mod recent;
pub mod retained;
pub mod session;
