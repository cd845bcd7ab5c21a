//! The edge's instruments.

use tandem_chassis::metrics::{Counter, Gauge, Histogram};
use tandem_kernel::Code;
use tandem_proto::client::DeviceClass;

use crate::wire::Carrier;

/// All of them, made once.
#[derive(Debug)]
pub struct Metrics {
    sessions: [[Gauge; 3]; 3],
    refused: Vec<Counter>,
    /// Frames from devices.
    pub frames_in: Counter,
    /// Frames to devices.
    pub frames_out: Counter,
    /// Events handed to routing.
    pub submits: Counter,
    /// Events unanswered by routing.
    pub unanswered: Gauge,
    /// Submit streams that broke.
    pub lanes_failed: Counter,
    /// Sessions that were closed since they read too slowly.
    pub slow_readers: Counter,
    /// Sessions that went on after a break.
    pub resumed: Counter,
    /// Sessions that could not, and synced.
    pub not_resumed: Counter,
    /// Sessions synced again since a gap was possible.
    pub resyncs: Counter,
    /// Confirmations from devices that were news.
    pub receipt_marks: Counter,
    /// Events made of them.
    pub receipts: Counter,
    /// From the registration to `Synced`.
    pub sync_ms: Histogram,
    /// From a delivery to its frame's being written, of one in 64.
    pub deliver_ms: Histogram,
    /// Sessions that the ephemeral store does not know yet.
    pub unregistered: Gauge,
}

const CARRIERS: [Carrier; 3] = [Carrier::Binary, Carrier::Json, Carrier::Grpc];
const CLASSES: [&str; 3] = ["pc", "mobile", "portal"];

impl Metrics {
    /// Makes them.
    pub fn new() -> Self {
        let counter = |name, about| Counter::new(name, "{event}", about, &[]);
        let sessions = CARRIERS.map(|carrier| {
            CLASSES.map(|class| {
                let pairs = [("transport", carrier.as_str()), ("class", class)];
                Gauge::new(
                    "tandem.edge.sessions",
                    "{session}",
                    "connected sessions",
                    &pairs,
                )
            })
        });
        let refused = Code::ALL
            .iter()
            .map(|code| {
                let pairs = [("code", code.as_str())];
                Counter::new(
                    "tandem.edge.refused",
                    "{event}",
                    "refused frames, events and connections",
                    &pairs,
                )
            })
            .collect();
        Self {
            sessions,
            refused,
            frames_in: counter("tandem.edge.frames_in", "frames from devices"),
            frames_out: counter("tandem.edge.frames_out", "frames to devices"),
            submits: counter("tandem.edge.submits", "events handed to routing"),
            unanswered: Gauge::new(
                "tandem.edge.unanswered",
                "{event}",
                "events unanswered by routing",
                &[],
            ),
            lanes_failed: counter("tandem.edge.lanes_failed", "submit streams that broke"),
            slow_readers: counter(
                "tandem.edge.slow_readers",
                "sessions closed as slow readers",
            ),
            resumed: counter("tandem.edge.resumed", "sessions resumed"),
            not_resumed: counter(
                "tandem.edge.not_resumed",
                "resumes that fell back to a sync",
            ),
            resyncs: counter(
                "tandem.edge.resyncs",
                "sessions synced again since a gap was possible",
            ),
            receipt_marks: counter("tandem.edge.receipt_marks", "confirmations that were news"),
            receipts: counter("tandem.edge.receipts", "receipt events made"),
            sync_ms: Histogram::new(
                "tandem.edge.sync",
                "ms",
                "from the registration to synced",
                &[1.0, 5.0, 20.0, 100.0, 500.0, 2_000.0, 10_000.0, 60_000.0],
                &[],
            ),
            deliver_ms: Histogram::new(
                "tandem.edge.deliver",
                "ms",
                "from a delivery to its frame's being written, sampled",
                &[0.1, 0.5, 1.0, 2.0, 5.0, 20.0, 100.0, 500.0, 2_000.0],
                &[],
            ),
            unregistered: Gauge::new(
                "tandem.edge.unregistered",
                "{session}",
                "sessions to be registered or changed in the ephemeral store",
                &[],
            ),
        }
    }

    /// Counts a refusal.
    pub fn refuse(&self, code: Code) {
        if let Some(counter) = self.refused.get(code as usize) {
            counter.add(1);
        }
    }

    /// How many refusals there were with this code.
    pub fn refused(&self, code: Code) -> u64 {
        self.refused.get(code as usize).map_or(0, Counter::get)
    }

    /// The gauge of sessions on this carrier and class.
    pub fn sessions(&self, carrier: Carrier, class: DeviceClass) -> &Gauge {
        let carrier = match carrier {
            Carrier::Binary => 0,
            Carrier::Json => 1,
            Carrier::Grpc => 2,
        };
        let class = match class {
            DeviceClass::Mobile => 1,
            DeviceClass::Portal => 2,
            DeviceClass::Pc | DeviceClass::Unspecified => 0,
        };
        &self.sessions[carrier][class]
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
