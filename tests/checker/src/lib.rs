//! The checker: decides G1 to G6 and G9 from the record alone.
//!
//! [`record`] is the format in which a driver writes down what every client did and saw.

pub mod record;

pub use record::{Excuse, Guarantee, How, Kind, Line, Record, Status, VERSION, What, Who};
