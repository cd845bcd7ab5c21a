//! The checker: decides G1 to G6 and G9 from the record alone.
