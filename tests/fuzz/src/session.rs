//! Fuzzes the session machine.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tandem_edge::fuzz::fuzz_session(bytes));
