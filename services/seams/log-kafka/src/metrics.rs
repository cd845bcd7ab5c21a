//! What is counted.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use tandem_chassis::metrics::{Counter, Gauge, Histogram};

/// Counts of the appends.
pub struct Appends {
    pub records: Counter,
    pub bytes: Counter,
    pub failed: Counter,
    pub refused: Counter,
    pub producers: Counter,
    pub took: Histogram,
}

impl Appends {
    pub fn new() -> Self {
        Self {
            records: Counter::new("tandem.log.records", "{record}", "records appended", &[]),
            bytes: Counter::new(
                "tandem.log.bytes",
                "By",
                "keys and values of records appended",
                &[],
            ),
            failed: Counter::new(
                "tandem.log.failed",
                "{record}",
                "records refused or failed",
                &[],
            ),
            refused: Counter::new(
                "tandem.log.refused",
                "{record}",
                "records refused because too much waits to be appended",
                &[],
            ),
            producers: Counter::new(
                "tandem.log.producers",
                "{producer}",
                "producers begun; more than one a process after an error that ended one",
                &[],
            ),
            took: Histogram::new(
                "tandem.log.append_duration",
                "s",
                "from an append to its answer",
                &[
                    0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
                    20.0,
                ],
                &[],
            ),
        }
    }
}

type Key = (Arc<str>, Arc<str>, u32);

struct Entry {
    gauge: Gauge,
    /// What the group has committed, or where it began; `None` while another reads the partition.
    place: Option<u64>,
}

/// How far this process' readers are behind, by topic, group and partition.
#[derive(Default)]
pub struct Lags(Mutex<BTreeMap<Key, Entry>>);

impl Lags {
    /// This process reads the partition, and is at `place`.
    pub fn at(&self, topic: &Arc<str>, group: &Arc<str>, partition: u32, place: u64) {
        let mut entries = self.0.lock();
        let key = (Arc::clone(topic), Arc::clone(group), partition);
        let entry = entries.entry(key).or_insert_with(|| Entry {
            gauge: Gauge::new(
                "tandem.log.lag",
                "{record}",
                "offsets between what the group has committed and the end of the partition",
                &[
                    ("topic", topic),
                    ("group", group),
                    ("partition", &partition.to_string()),
                ],
            ),
            place: None,
        });
        entry.place = Some(place);
    }

    /// Another reads the partition, and tells its lag.
    pub fn gone(&self, topic: &Arc<str>, group: &Arc<str>, partition: u32) {
        let key = (Arc::clone(topic), Arc::clone(group), partition);
        if let Some(entry) = self.0.lock().get_mut(&key) {
            entry.place = None;
            entry.gauge.set(0);
        }
    }

    /// Topics of which a partition is read here.
    pub fn topics(&self) -> Vec<Arc<str>> {
        let entries = self.0.lock();
        let read = entries.iter().filter(|(_, entry)| entry.place.is_some());
        let mut topics: Vec<_> = read.map(|((topic, ..), _)| Arc::clone(topic)).collect();
        topics.dedup();
        topics
    }

    /// The topic's partitions end there.
    pub fn ends(&self, topic: &str, ends: &[u64]) {
        for ((of, _, partition), entry) in self.0.lock().iter() {
            if let (true, Some(place), Some(end)) =
                (&**of == topic, entry.place, ends.get(*partition as usize))
            {
                let behind = end.saturating_sub(place);
                entry.gauge.set(i64::try_from(behind).unwrap_or(i64::MAX));
            }
        }
    }

    #[cfg(test)]
    fn lag(&self, topic: &Arc<str>, group: &Arc<str>, partition: u32) -> i64 {
        let key = (Arc::clone(topic), Arc::clone(group), partition);
        self.0.lock()[&key].gauge.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_is_told_by_whoever_reads_the_partition() {
        let (lags, topic, group): (_, Arc<str>, Arc<str>) =
            (Lags::default(), "t".into(), "g".into());
        lags.at(&topic, &group, 0, 5);
        lags.at(&topic, &group, 1, 7);
        assert_eq!(lags.topics(), [Arc::clone(&topic)]);
        lags.ends("t", &[15, 7]);
        assert_eq!(
            (lags.lag(&topic, &group, 0), lags.lag(&topic, &group, 1)),
            (10, 0)
        );
        lags.at(&topic, &group, 0, 12);
        lags.ends("other", &[100, 100]);
        lags.ends("t", &[15, 7]);
        assert_eq!(lags.lag(&topic, &group, 0), 3);
        lags.gone(&topic, &group, 0);
        lags.gone(&topic, &group, 1);
        lags.ends("t", &[20, 20]);
        assert_eq!(lags.lag(&topic, &group, 0), 0);
        assert!(lags.topics().is_empty());
    }
}
