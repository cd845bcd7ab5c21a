//! What push does: deliver notifications, look groups up, park what is given up, replay it.

pub mod dead;
pub mod deliver;
pub mod devices;
pub mod directory;
pub mod parking;
pub mod send;
mod withdraw;
