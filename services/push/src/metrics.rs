//! What push counts.

use std::sync::Arc;

use tandem_chassis::metrics::{Counter, Gauge, Histogram};

/// Push's instruments. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics(Arc<Instruments>);

impl std::ops::Deref for Metrics {
    type Target = Instruments;
    fn deref(&self) -> &Instruments {
        &self.0
    }
}

/// The instruments.
#[derive(Debug)]
pub struct Instruments {
    /// Notifications taken by the channel.
    pub delivered: Counter,
    /// Notifications whose device is no longer reached there.
    pub dead: Counter,
    /// Notifications given up and parked on `push.dead`.
    pub given_up: Counter,
    /// Notifications ended because the person's device confirmed the event meanwhile.
    pub confirmed: Counter,
    /// Recipients without a device to notify.
    pub no_device: Counter,
    /// Events too old to be notified of.
    pub expired: Counter,
    /// Attempts that failed and are made again.
    pub retried: Counter,
    /// Notifications withdrawn (one for each device).
    pub withdrawn: Counter,
    /// Withdrawals that failed; the notification stays until the person looks.
    pub not_withdrawn: Counter,
    /// Records that could not be read, parked on `push.parked`.
    pub unreadable: Counter,
    /// Copies of events left out.
    pub copies: Counter,
    /// Events that do not count where they stand.
    pub void: Counter,
    /// Recipients whose receipt is waited for.
    pub waiting: Gauge,
    /// Recipients for whom a notification is under way.
    pub notifying: Gauge,
    /// Notifications that wait for another attempt.
    pub retrying: Gauge,
    /// From the event in the log to the channel's answer.
    pub latency: Histogram,
}

impl Metrics {
    /// The instruments, for notifications by `channel`.
    pub fn new(channel: &'static str) -> Self {
        let notified = |outcome: &'static str| {
            Counter::new(
                "tandem.push.notified",
                "{notification}",
                "notifications by channel and outcome",
                &[("channel", channel), ("outcome", outcome)],
            )
        };
        let events = |outcome: &'static str| {
            Counter::new(
                "tandem.push.left_out",
                "{event}",
                "recipients and events without a notification, by reason",
                &[("reason", outcome)],
            )
        };
        let withdrawn = |outcome: &'static str| {
            Counter::new(
                "tandem.push.withdrawn",
                "{notification}",
                "notifications withdrawn after they were read elsewhere",
                &[("channel", channel), ("outcome", outcome)],
            )
        };
        let window = |state: &'static str| {
            Gauge::new(
                "tandem.push.window",
                "{recipient}",
                "recipients in the window, by state",
                &[("state", state)],
            )
        };
        Self(Arc::new(Instruments {
            delivered: notified("delivered"),
            dead: notified("dead"),
            given_up: notified("given_up"),
            confirmed: notified("confirmed"),
            no_device: events("no_device"),
            expired: events("expired"),
            copies: events("copy"),
            void: events("void"),
            retried: Counter::new(
                "tandem.push.retried",
                "{attempt}",
                "attempts that failed and are made again",
                &[("channel", channel)],
            ),
            withdrawn: withdrawn("delivered"),
            not_withdrawn: withdrawn("failed"),
            unreadable: Counter::new(
                "tandem.push.parked",
                "{record}",
                "records that could not be read",
                &[],
            ),
            waiting: window("waiting"),
            notifying: window("notifying"),
            retrying: window("retrying"),
            latency: Histogram::new(
                "tandem.push.latency",
                "ms",
                "from the event in the log to the channel's answer",
                &[
                    50.0, 100.0, 250.0, 500.0, 1_000.0, 2_500.0, 5_000.0, 6_000.0, 7_500.0,
                    10_000.0, 30_000.0, 60_000.0, 300_000.0,
                ],
                &[("channel", channel)],
            ),
        }))
    }
}
