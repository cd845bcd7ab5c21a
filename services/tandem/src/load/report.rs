//! What a run found, for people and as one JSON object.

use std::{collections::BTreeMap, fmt::Write};

use hdrhistogram::Histogram;
use serde::Serialize;

/// Percentiles in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Percentiles {
    /// Half were faster.
    pub p50: f64,
    /// 99 of 100 were faster.
    pub p99: f64,
    /// 999 of 1,000 were faster.
    pub p999: f64,
    /// The slowest.
    pub max: f64,
}

impl Percentiles {
    /// Of a histogram of microseconds.
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let ms = |us: u64| us as f64 / 1000.0;
        Self {
            p50: ms(histogram.value_at_quantile(0.5)),
            p99: ms(histogram.value_at_quantile(0.99)),
            p999: ms(histogram.value_at_quantile(0.999)),
            max: ms(histogram.max()),
        }
    }
}

/// What a run found. Fields that were not measured are null in JSON.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// Subscribers.
    pub people: u64,
    /// Sessions that were held open.
    pub sessions: u64,
    /// Conversations.
    pub conversations: u64,
    /// Messages that were submitted.
    pub submitted: u64,
    /// Messages that the server said it has.
    pub accepted: u64,
    /// Pairs of a message and a device, other than the sending one, that has it.
    pub delivered: u64,
    /// Pairs of an accepted message and a device that should have it and has not.
    pub lost: u64,
    /// Pairs of a message and a device to which history shows it at more than one place.
    pub doubled: u64,
    /// Messages shown in another order than sent or than on other devices, or delivered live out of order.
    pub out_of_order: u64,
    /// Messages with other words, sender or conversation than were sent, or on a device of a stranger.
    pub altered: u64,
    /// Submitted messages that had no answer by the end.
    pub unanswered: u64,
    /// Refused messages by code.
    pub rejected: BTreeMap<String, u64>,
    /// Further copies that devices dropped by their id.
    pub copies_dropped: u64,
    /// Of those, pairs of a message and a device whose live copies stood at another place than the first.
    pub copies_elsewhere: u64,
    /// Receipts that authors were shown.
    pub receipts: u64,
    /// Devices that began after the end, with nothing, and were checked like the rest.
    pub late_devices: u64,
    /// Sessions opened, again after a break or not.
    pub sessions_opened: u64,
    /// Ends of connections by reason.
    pub connections_ended: BTreeMap<String, u64>,
    /// Seconds from the first message to the last acceptance.
    pub seconds: f64,
    /// Accepted messages a second.
    pub messages_per_s: f64,
    /// From the time at which a message was due (or was submitted) to each recipient's device.
    pub latency_ms: Percentiles,
    /// From the same time to the sender's `Accepted`.
    pub accept_ms: Percentiles,
    /// CPU seconds of the server's process for 10,000 accepted messages.
    pub server_cpu_s_per_10k: Option<f64>,
    /// CPU seconds of this program for 10,000 accepted messages.
    pub client_cpu_s_per_10k: Option<f64>,
    /// Resident bytes of the server for each idle session.
    pub server_bytes_per_idle_session: Option<f64>,
    /// CPU milliseconds of the server for each login.
    pub server_cpu_ms_per_login: Option<f64>,
    /// What else is to be known about the figures.
    pub notes: Vec<String>,
}

impl Report {
    /// Whether nothing was lost, doubled, out of order or altered, and everything had its answer.
    pub fn is_good(&self) -> bool {
        let wrong = self.lost + self.doubled + self.out_of_order + self.altered + self.unanswered;
        wrong == 0
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let mut line = |name: &str, value: String| {
            let _ = writeln!(out, "{name:<22}{value}");
        };
        let map = |m: &BTreeMap<String, u64>| {
            let pairs: Vec<String> = m.iter().map(|(k, v)| format!("{k} {v}")).collect();
            if pairs.is_empty() {
                "none".to_owned()
            } else {
                pairs.join(", ")
            }
        };
        let percentiles = |p: &Percentiles| {
            format!(
                "p50 {:.2}, p99 {:.2}, p99.9 {:.2}, max {:.2} ms",
                p.p50, p.p99, p.p999, p.max
            )
        };
        line(
            "people, sessions",
            format!("{}, {}", self.people, self.sessions),
        );
        if self.submitted > 0 {
            line(
                "accepted",
                format!("{} of {}", self.accepted, self.submitted),
            );
            line("delivered", self.delivered.to_string());
            line("lost", self.lost.to_string());
            line("doubled", self.doubled.to_string());
            line("out of order", self.out_of_order.to_string());
            line("altered", self.altered.to_string());
            line("unanswered", self.unanswered.to_string());
            line("rejected", map(&self.rejected));
            line("receipts", self.receipts.to_string());
            line("late devices checked", self.late_devices.to_string());
            line("connections ended", map(&self.connections_ended));
            line(
                "rate",
                format!(
                    "{:.0} messages/s over {:.1} s",
                    self.messages_per_s, self.seconds
                ),
            );
            line("to each device", percentiles(&self.latency_ms));
            line("to acceptance", percentiles(&self.accept_ms));
        }
        let per = |v: Option<f64>| v.map_or("not measured".to_owned(), |v| format!("{v:.3}"));
        if self.submitted > 0 {
            line("server CPU s per 10k", per(self.server_cpu_s_per_10k));
            line("client CPU s per 10k", per(self.client_cpu_s_per_10k));
        }
        if self.server_bytes_per_idle_session.is_some() {
            line("bytes per session", per(self.server_bytes_per_idle_session));
        }
        if self.server_cpu_ms_per_login.is_some() {
            line("CPU ms per login", per(self.server_cpu_ms_per_login));
        }
        for note in &self.notes {
            line("note", note.clone());
        }
        out.trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_object_has_the_fields_that_scripts_rely_on() {
        let object = serde_json::to_value(Report::default()).unwrap();
        for field in [
            "accepted",
            "delivered",
            "lost",
            "doubled",
            "out_of_order",
            "messages_per_s",
            "server_cpu_s_per_10k",
            "server_bytes_per_idle_session",
            "server_cpu_ms_per_login",
        ] {
            assert!(object.get(field).is_some(), "{field}");
        }
        for percentile in ["p50", "p99", "p999"] {
            assert!(object["latency_ms"][percentile].is_f64());
        }
    }

    #[test]
    fn a_run_is_good_only_if_nothing_is_wrong() {
        assert!(Report::default().is_good());
        assert!(
            !Report {
                lost: 1,
                ..Report::default()
            }
            .is_good()
        );
        assert!(
            !Report {
                out_of_order: 1,
                ..Report::default()
            }
            .is_good()
        );
        assert!(
            !Report {
                unanswered: 1,
                ..Report::default()
            }
            .is_good()
        );
    }

    #[test]
    fn percentiles_are_milliseconds() {
        let mut h = Histogram::new(3).unwrap();
        (1..=1000u64).for_each(|ms| h.record(ms * 1000).unwrap());
        let p = Percentiles::of(&h);
        assert!(
            (p.p50 - 500.0).abs() < 1.0 && (p.p99 - 990.0).abs() < 1.0,
            "{p:?}"
        );
    }
}
