//! What history tells about itself.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use tandem_chassis::metrics::{Counter, Gauge, Histogram};

pub(crate) struct Metrics {
    pub stored: Counter,
    pub receipts: Counter,
    pub duplicates: Counter,
    pub voided: Counter,
    pub parked: Counter,
    pub retries: Counter,
    pub unavailable: Gauge,
    pub cached: Gauge,
    pub waiters: Gauge,
    pub group: Histogram,
    pub write_ms: Histogram,
    lag: Mutex<BTreeMap<u32, Gauge>>,
}

impl Metrics {
    pub fn new() -> Self {
        Self {
            stored: Counter::new("tandem.history.stored", "{event}", "events stored", &[]),
            receipts: Counter::new(
                "tandem.history.receipts",
                "{event}",
                "receipts that moved a mark",
                &[],
            ),
            duplicates: Counter::new(
                "tandem.history.duplicates",
                "{event}",
                "copies dropped",
                &[],
            ),
            voided: Counter::new(
                "tandem.history.voided",
                "{event}",
                "events that do not count at their place",
                &[],
            ),
            parked: Counter::new(
                "tandem.history.parked",
                "{record}",
                "records that could not be read or stored",
                &[],
            ),
            retries: Counter::new(
                "tandem.history.retries",
                "{attempt}",
                "attempts on the store or the log that failed and are repeated",
                &[],
            ),
            unavailable: Gauge::new(
                "tandem.history.unavailable",
                "1",
                "1 while the store or the log does not do as asked",
                &[],
            ),
            cached: Gauge::new(
                "tandem.history.cached_conversations",
                "{conversation}",
                "conversations whose state is in memory",
                &[],
            ),
            waiters: Gauge::new(
                "tandem.history.sync_waiters",
                "{sync}",
                "syncs that wait",
                &[],
            ),
            group: Histogram::new(
                "tandem.history.group",
                "{record}",
                "records handled together",
                &[1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0],
                &[],
            ),
            write_ms: Histogram::new(
                "tandem.history.write_duration",
                "ms",
                "time until a group was durable",
                &[
                    0.5, 1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 1000.0, 5000.0,
                ],
                &[],
            ),
            lag: Mutex::new(BTreeMap::new()),
        }
    }

    /// Records of the partition that are not stored yet.
    pub fn lag(&self, partition: u32, records: u64) {
        let mut lag = self.lag.lock();
        let gauge = lag.entry(partition).or_insert_with(|| {
            let pairs = [("partition", partition.to_string())];
            let pairs: Vec<(&'static str, &str)> =
                pairs.iter().map(|(k, v)| (*k, v.as_str())).collect();
            Gauge::new(
                "tandem.history.lag",
                "{record}",
                "records not stored yet",
                &pairs,
            )
        });
        gauge.set(i64::try_from(records).unwrap_or(i64::MAX));
    }
}
