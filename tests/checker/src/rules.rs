//! The bounds of the guarantees, in microseconds.

/// How long things may take. The defaults are the architecture's.
#[derive(Debug, Clone)]
pub struct Rules {
    /// G1: an accepted event to a synced device.
    pub reach_us: u64,
    /// G4: a delivered event to history.
    pub history_us: u64,
    /// G5: how long a confirmation is waited for.
    pub push_window_us: u64,
    /// G5: from the end of that window to the push gateway.
    pub push_us: u64,
    /// G6: a change of a status to its watchers.
    pub presence_us: u64,
    /// G6: how long a device whose connection was lost still counts, before its status changes.
    pub damping_us: u64,
    /// G9: a change of a relation to whom it concerns; until then either state may show.
    pub relation_us: u64,
    /// Examples kept of each kind of violation.
    pub examples: usize,
}

impl Default for Rules {
    fn default() -> Self {
        const SECOND: u64 = 1_000_000;
        Self {
            reach_us: 5 * SECOND,
            history_us: 5 * SECOND,
            push_window_us: 5 * SECOND,
            push_us: 5 * SECOND,
            presence_us: 5 * SECOND,
            damping_us: 5 * SECOND,
            relation_us: 5 * SECOND,
            examples: 5,
        }
    }
}
