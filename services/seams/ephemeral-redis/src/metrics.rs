//! What the adapter counts.

use std::time::Duration;

use tandem_chassis::metrics::{Counter, Histogram};
use tandem_ephemeral::EphemeralError;

use crate::link::Fault;

/// A call of the trait.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Operation {
    Renew,
    Release,
    Put,
    Remove,
    Reach,
    FlagResync,
    ClearResync,
    Statuses,
    Settle,
    Renumber,
    Due,
    Settled,
    Mark,
    TakeMarks,
}

const OPERATIONS: [&str; 14] = [
    "renew",
    "release",
    "put",
    "remove",
    "reach",
    "flag_resync",
    "clear_resync",
    "statuses",
    "settle",
    "renumber",
    "due",
    "settled",
    "mark",
    "take_marks",
];

/// Bounds of the latency's buckets, seconds.
const BOUNDS: [f64; 11] = [
    0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 2.0,
];

#[derive(Debug)]
pub(crate) struct Metrics {
    latency: Vec<Histogram>,
    unreachable: Counter,
    timeout: Counter,
    refused: Counter,
    corrupt: Counter,
    /// Connections opened.
    pub connects: Counter,
    /// Connections lost.
    pub disconnects: Counter,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let latency = |operation: &&'static str| {
            Histogram::new(
                "tandem.redis.latency",
                "s",
                "time of a call to the ephemeral store, by operation",
                &BOUNDS,
                &[("operation", operation)],
            )
        };
        let error = |kind: &'static str| {
            Counter::new(
                "tandem.redis.errors",
                "{error}",
                "calls to the ephemeral store that failed, by kind",
                &[("kind", kind)],
            )
        };
        Self {
            latency: OPERATIONS.iter().map(latency).collect(),
            unreachable: error("unreachable"),
            timeout: error("timeout"),
            refused: error("refused"),
            corrupt: error("corrupt"),
            connects: Counter::new(
                "tandem.redis.connects",
                "{connection}",
                "times that Redis was connected to",
                &[],
            ),
            disconnects: Counter::new(
                "tandem.redis.disconnects",
                "{connection}",
                "connections to Redis that were lost",
                &[],
            ),
        }
    }

    pub(crate) fn took(&self, operation: Operation, time: Duration) {
        if let Some(latency) = self.latency.get(operation as usize) {
            latency.record(time.as_secs_f64());
        }
    }

    /// Counts a fault and says it in the seam's words.
    pub(crate) fn failed(&self, fault: Fault) -> EphemeralError {
        match fault {
            Fault::Timeout => {
                self.timeout.add(1);
                EphemeralError::Unavailable("redis does not answer in time".to_owned())
            }
            Fault::Unreachable(why) => {
                self.unreachable.add(1);
                EphemeralError::Unavailable(why)
            }
            Fault::Refused(why) => {
                self.refused.add(1);
                EphemeralError::Unavailable(why)
            }
            Fault::Corrupt(why) => {
                self.corrupt.add(1);
                EphemeralError::Corrupt(why)
            }
        }
    }
}
