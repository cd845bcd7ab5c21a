//! One file for each kind of thing that routing does, and the memories that they share.

pub mod address;
pub mod admit;
pub mod deliver;
pub mod directory;
pub mod facts;
pub mod members;
pub mod relations;
pub mod submit;
pub mod typing;
