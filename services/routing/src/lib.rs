//! Admission of events to the log, the directory, delivery.
