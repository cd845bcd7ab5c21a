//! What holds when: states that change at a time not known exactly, and that take a while to show.

/// A state that may show from `from` until `until`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Possible<S> {
    pub(crate) state: S,
    pub(crate) from: u64,
    pub(crate) until: u64,
}

/// A change of a state: it may show from `from` on, and what was before may not after `due`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Turn<S> {
    pub(crate) state: S,
    pub(crate) from: u64,
    pub(crate) due: u64,
}

/// What may show when, given the first state and the changes in order.
pub(crate) fn possible<S: Copy>(first: S, turns: &[Turn<S>]) -> Vec<Possible<S>> {
    let mut out = Vec::with_capacity(turns.len() + 1);
    out.push(Possible {
        state: first,
        from: 0,
        until: u64::MAX,
    });
    for turn in turns {
        if let Some(last) = out.last_mut() {
            last.until = turn.due;
        }
        out.push(Possible {
            state: turn.state,
            from: turn.from,
            until: u64::MAX,
        });
    }
    out
}

/// Yes or no over time; no at first.
#[derive(Debug, Default)]
pub(crate) struct YesNo {
    /// (asked for, answered, what).
    pub(crate) changes: Vec<(u64, u64, bool)>,
    possible: Vec<Possible<bool>>,
}

impl YesNo {
    /// The record is complete; `due` says until when a change that was answered at a time must show.
    pub(crate) fn close(&mut self, due: impl Fn(u64) -> u64) {
        let turn = |(since, at, state): &(u64, u64, bool)| Turn {
            state: *state,
            from: *since,
            due: due(*at),
        };
        let turns: Vec<_> = self.changes.iter().map(turn).collect();
        self.possible = possible(false, &turns);
    }

    /// Whether it may have been `state` at some time from `from` to `until`.
    pub(crate) fn may_be(&self, state: bool, from: u64, until: u64) -> bool {
        let overlaps = |p: &&Possible<bool>| p.from <= until && p.until >= from;
        self.possible
            .iter()
            .filter(overlaps)
            .any(|p| p.state == state)
    }

    /// Times after which a state may not show any more.
    pub(crate) fn deadlines(&self) -> impl Iterator<Item = u64> {
        self.possible.iter().map(|p| p.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn while_it_changes_either_may_be() {
        let mut blocked = YesNo {
            changes: vec![(100, 120, true), (500, 510, false)],
            ..YesNo::default()
        };
        blocked.close(|at| at + 50);
        let may = |state, at| blocked.may_be(state, at, at);
        assert!(may(false, 99) && !may(true, 99));
        assert!(may(false, 170) && may(true, 100));
        assert!(!may(false, 171) && may(true, 171));
        assert!(may(false, 500) && may(true, 560) && !may(true, 561));
        assert!(blocked.may_be(false, 150, 300));
    }
}
