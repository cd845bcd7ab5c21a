//! What a person's status may show at a time: derived from their sessions, each of which may be in more than
//! one state while a change is on its way.

use crate::{
    device::{Session, Why},
    model::Model,
    record::{Guarantee, Status},
    timeline::{Possible, Turn, possible},
};

/// The states of a person's devices over time.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    devices: Vec<Vec<Possible<Option<Session>>>>,
}

/// A status that sessions add up to, and the messages of those that give it.
#[derive(Debug, Clone, Default)]
struct Sum {
    status: Option<Status>,
    messages: Vec<u32>,
}

impl Truth {
    /// Of every person.
    pub(crate) fn all(model: &Model) -> Vec<Self> {
        let mut all: Vec<Self> = (0..model.users.len()).map(|_| Self::default()).collect();
        for device in &model.devices {
            let (presence, damping) = (model.rules.presence_us, model.rules.damping_us);
            let mut turns: Vec<Turn<Option<Session>>> = Vec::with_capacity(device.changed.len());
            for changed in &device.changed {
                let bound = match changed.why {
                    Why::Lost => presence + damping,
                    Why::Said | Why::Closed => presence,
                };
                let due = model.faults.due(Guarantee::G6, changed.at, bound);
                if changed.why != Why::Said {
                    // what was said just before may have gone with the connection
                    let before = turns.iter_mut().rev();
                    for turn in before.take_while(|t| t.due > changed.at) {
                        turn.due = turn.due.max(due);
                    }
                }
                turns.push(Turn {
                    state: changed.session,
                    from: changed.from,
                    due,
                });
            }
            all[device.user as usize]
                .devices
                .push(possible(None, &turns));
        }
        all
    }

    /// Whether anything is known of the person.
    pub(crate) fn is_known(&self) -> bool {
        !self.devices.is_empty()
    }

    /// Times after which a state may not show any more.
    pub(crate) fn deadlines(&self) -> impl Iterator<Item = u64> {
        self.devices.iter().flatten().map(|p| p.until)
    }

    /// Whether the person may show so at a time.
    pub(crate) fn may_show(&self, at: u64, shown: Session) -> bool {
        let mut sums = vec![Sum::default()];
        for device in &self.devices {
            let states = device.iter().filter(|p| p.from <= at && at <= p.until);
            sums = states
                .flat_map(|p| sums.iter().map(|sum| sum.with(p.state)))
                .collect();
        }
        sums.iter().any(|sum| sum.shows(shown))
    }
}

impl Sum {
    fn with(&self, session: Option<Session>) -> Self {
        let mut sum = self.clone();
        let Some(session) = session else {
            return sum;
        };
        let wins = match sum.status {
            None => true,
            Some(Status::AppearOffline) => false,
            Some(status) => session.status == Status::AppearOffline || session.status < status,
        };
        if wins {
            sum.status = Some(session.status);
            sum.messages.clear();
        }
        if sum.status == Some(session.status) {
            sum.messages.push(session.message);
        }
        sum
    }

    fn shows(&self, shown: Session) -> bool {
        match self.status {
            None | Some(Status::AppearOffline | Status::Offline) => shown.status == Status::Offline,
            Some(status) => status == shown.status && self.messages.contains(&shown.message),
        }
    }
}
