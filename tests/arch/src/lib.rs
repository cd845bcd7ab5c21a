//! The import rule and other rules of the house, held by tests.
