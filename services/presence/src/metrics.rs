//! What is counted.

use tandem_chassis::metrics::{Counter, Gauge};

/// The instruments, made once.
pub(crate) struct Metrics {
    /// Statuses that became another.
    pub changes: Counter,
    /// Statuses handed to edges, counted by session.
    pub delivered: Counter,
    /// Parcels that an edge did not take.
    pub lost: Counter,
    /// Users whose watchers could not be found out, and who are tried again.
    pub retried: Counter,
    /// Users found by the sweep.
    pub swept: Counter,
    /// Records that could not be read, parked.
    pub parked: Counter,
    /// Edges with an open stream.
    pub edges: Gauge,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let c = |name, unit, about| Counter::new(name, unit, about, &[]);
        Self {
            changes: c(
                "tandem.presence.changes",
                "{change}",
                "statuses that became another",
            ),
            delivered: c(
                "tandem.presence.delivered",
                "{delivery}",
                "frames handed to edges, by session",
            ),
            lost: c(
                "tandem.presence.lost",
                "{parcel}",
                "parcels that an edge did not take",
            ),
            retried: c(
                "tandem.presence.retried",
                "{user}",
                "users whose watchers are looked up again",
            ),
            swept: c(
                "tandem.presence.swept",
                "{user}",
                "users whose status was found due",
            ),
            parked: c(
                "tandem.presence.parked",
                "{record}",
                "records that could not be read, parked",
            ),
            edges: Gauge::new(
                "tandem.presence.edges",
                "{edge}",
                "edges with an open stream",
                &[],
            ),
        }
    }
}
