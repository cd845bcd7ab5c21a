//! routing's instruments.

use std::collections::BTreeMap;

use tandem_chassis::metrics::{Counter, Gauge, Histogram};
use tandem_kernel::Code;

const BOUNDS_MS: &[f64] = &[
    0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 250.0, 500.0, 1_000.0, 3_000.0,
];

/// Made once.
#[derive(Debug)]
pub struct Metrics {
    pub admitted: Counter,
    refused: BTreeMap<&'static str, Counter>,
    pub answered_again: Counter,
    pub append_retries: Counter,
    pub append_ms: Histogram,
    pub delivered: Counter,
    pub voided: Counter,
    pub duplicates: Counter,
    pub parked: Counter,
    pub flagged: Counter,
    pub deliver_ms: Histogram,
    pub typing: Counter,
    pub typing_dropped: Counter,
    pub lookup_failed: Counter,
}

fn counter(name: &'static str, unit: &'static str, about: &'static str) -> Counter {
    Counter::new(name, unit, about, &[])
}

impl Metrics {
    pub fn new() -> Self {
        let refused = |code: &Code| {
            let about = "events that were refused, by code";
            let pairs = [("code", code.as_str())];
            (
                code.as_str(),
                Counter::new("tandem.routing.refused", "{event}", about, &pairs),
            )
        };
        Self {
            admitted: counter(
                "tandem.routing.admitted",
                "{event}",
                "events appended to the log",
            ),
            refused: Code::ALL.iter().map(refused).collect(),
            answered_again: counter(
                "tandem.routing.answered_again",
                "{event}",
                "resent events that were found in the log and answered",
            ),
            append_retries: counter(
                "tandem.routing.append_retries",
                "{event}",
                "events appended again since the log did not say what became of them",
            ),
            append_ms: Histogram::new(
                "tandem.routing.append",
                "ms",
                "time until the log has a group of events",
                BOUNDS_MS,
                &[],
            ),
            delivered: counter(
                "tandem.routing.delivered",
                "{event}",
                "events handed to a session, counted for each session",
            ),
            voided: counter(
                "tandem.routing.voided",
                "{event}",
                "events that did not count at their place in the log",
            ),
            duplicates: counter(
                "tandem.routing.duplicates",
                "{event}",
                "second copies of events, not delivered",
            ),
            parked: counter(
                "tandem.routing.parked",
                "{record}",
                "records that could not be read and were parked",
            ),
            flagged: counter(
                "tandem.routing.flagged",
                "{session}",
                "sessions flagged for resync since their edge did not take an event",
            ),
            deliver_ms: Histogram::new(
                "tandem.routing.deliver",
                "ms",
                "time from the log's taking a batch's first event to its acknowledgement by all edges",
                BOUNDS_MS,
                &[],
            ),
            typing: counter(
                "tandem.routing.typing",
                "{signal}",
                "typing signals handed to edges",
            ),
            typing_dropped: counter(
                "tandem.routing.typing_dropped",
                "{signal}",
                "typing signals dropped: too many, or nobody may see them",
            ),
            lookup_failed: counter(
                "tandem.routing.lookup_failed",
                "{lookup}",
                "facts that history did not give in time",
            ),
        }
    }

    /// Counts a refusal.
    pub fn refuse(&self, code: Code) {
        if let Some(counter) = self.refused.get(code.as_str()) {
            counter.add(1);
        }
    }

    /// How far the reader is behind the end of a partition.
    pub fn lag(partition: u32) -> Gauge {
        let about = "events of a partition that are not delivered yet";
        let partition = partition.to_string();
        let pairs = [("partition", partition.as_str())];
        Gauge::new("tandem.routing.lag", "{event}", about, &pairs)
    }
}
