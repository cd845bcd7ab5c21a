//! Contacts by mutual consent: what one side of a pair knows, and what its changes tell the other.
//!
//! Each side owns one [`Register`] (its consent, and which of the other's consents it has voided) and
//! holds a copy of the other's. Both derive the relation from the two by the same rule, so once the
//! newest register of each has reached the other they agree, whatever crossed on the way. A block is
//! the blocker's alone: it is in no register, so the blocked side sees what it would see without it.

use serde::{Deserialize, Serialize};
use tandem_kernel::Code;
use tandem_proto::client::{contact::State, contact_change::Action};

/// What one side says to the other. Only its owner changes it; a higher version replaces a lower one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Register {
    /// Rises with each change; above every version of the other that was known by then.
    pub version: u64,
    /// The version at which consent was given; 0: not given.
    pub consent: u64,
    /// The other's consents up to this one are void.
    pub cancels: u64,
    /// The version at which provisioning last made them contacts; 0: never.
    pub connected: u64,
}

/// The relation as the two registers have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// Neither consents.
    None,
    /// This side has asked.
    Asked,
    /// The other side has asked.
    AskedBy,
    /// Both consent.
    Mutual,
}

/// One side of a pair.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Side {
    /// This side's register.
    pub own: Register,
    /// The other's register as far as it is known.
    pub peer: Register,
    /// This side blocks the other.
    pub blocked: bool,
    /// Consents of the other up to this one came while it was blocked: never shown as a request.
    pub hidden: u64,
    /// Name to show for the other.
    pub name: String,
}

/// Why a change is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refusal {
    /// Error code.
    pub code: Code,
    /// For people.
    pub text: &'static str,
}

/// What a change of one's own side comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// The side after it.
    pub side: Side,
    /// The register changed: the other side must learn of it.
    pub tell: bool,
}

impl Side {
    /// The relation, blocks aside.
    pub fn relation(&self) -> Relation {
        let own = self.own.consent > self.peer.cancels;
        let peer = self.peer.consent > self.own.cancels;
        match (own, peer) {
            (false, false) => Relation::None,
            (true, false) => Relation::Asked,
            (false, true) => Relation::AskedBy,
            (true, true) => Relation::Mutual,
        }
    }

    /// The relation as it is shown to this side.
    pub fn state(&self) -> State {
        if self.blocked {
            return State::Blocked;
        }
        match self.relation() {
            Relation::None => State::None,
            Relation::Asked => State::Asked,
            Relation::AskedBy if self.peer.consent <= self.hidden => State::None,
            Relation::AskedBy => State::AskedBy,
            Relation::Mutual => State::Mutual,
        }
    }

    fn next_version(&self) -> u64 {
        self.own.version.max(self.peer.version) + 1
    }

    fn consent(&mut self) {
        self.own.version = self.next_version();
        self.own.consent = self.own.version;
    }

    fn withdraw(&mut self) {
        self.own.version = self.next_version();
        self.own.consent = 0;
        self.own.cancels = self.peer.consent;
    }

    /// Changes the relation on behalf of this side. `name` is set where it is given (for a rename it
    /// must be). `Ok(None)`: it is so already.
    pub fn change(&self, action: Action, name: &str) -> Result<Option<Changed>, Refusal> {
        let mut side = self.clone();
        match (action, self.state()) {
            (Action::Request | Action::Accept | Action::Decline, State::Blocked) => {
                return refuse(Code::Conflict, "this contact is blocked: unblock first");
            }
            (Action::Request, State::None | State::AskedBy) | (Action::Accept, State::AskedBy) => {
                side.consent();
            }
            (Action::Accept, State::None | State::Asked) => {
                return refuse(Code::Conflict, "there is no request to accept");
            }
            (Action::Decline, State::Asked | State::Mutual) => {
                return refuse(Code::Conflict, "there is no request to decline");
            }
            (Action::Remove, State::Blocked) => match self.relation() {
                Relation::Asked | Relation::Mutual => side.withdraw(),
                Relation::AskedBy if self.peer.consent > self.hidden => side.withdraw(),
                Relation::AskedBy | Relation::None => {}
            },
            (Action::Decline, State::AskedBy)
            | (Action::Remove, State::Asked | State::AskedBy | State::Mutual) => side.withdraw(),
            (Action::Block, _) => side.blocked = true,
            (Action::Unblock, _) => side.blocked = false,
            (Action::Rename, State::None) => {
                return refuse(Code::NotFound, "there is no such contact");
            }
            (Action::Unspecified, _) => {
                return refuse(Code::InvalidArgument, "say what to change: set `action`");
            }
            (
                Action::Request
                | Action::Accept
                | Action::Decline
                | Action::Remove
                | Action::Rename,
                _,
            ) => {}
        }
        if !name.is_empty() && matches!(action, Action::Request | Action::Accept | Action::Rename) {
            name.clone_into(&mut side.name);
        }
        let tell = side.own != self.own;
        Ok((side != *self).then_some(Changed { side, tell }))
    }

    /// Makes them contacts without asking this side; the other's consent is given by [`Side::receive`].
    /// `None`: they are already.
    pub fn connect(&self) -> Option<Side> {
        if self.relation() == Relation::Mutual {
            return None;
        }
        let mut side = self.clone();
        side.consent();
        side.own.connected = side.own.version;
        Some(side)
    }

    /// Takes over the other's register. `closed`: this side's account has ended, so any consent of the other
    /// is void. `None`: it was known already, or is older than what is known.
    pub fn receive(&self, peer: Register, closed: bool) -> Option<Changed> {
        if peer.version <= self.peer.version {
            return None;
        }
        let mut side = self.clone();
        if self.blocked && peer.consent > self.peer.consent && peer.connected == self.peer.connected
        {
            side.hidden = peer.consent;
        }
        side.peer = peer;
        if closed {
            if side.peer.consent > side.own.cancels {
                side.withdraw();
            }
        } else if peer.connected > self.peer.connected && side.own.consent <= peer.cancels {
            side.consent();
        }
        let tell = side.own != self.own;
        Some(Changed { side, tell })
    }
}

fn refuse<T>(code: Code, text: &'static str) -> Result<T, Refusal> {
    Err(Refusal { code, text })
}

#[cfg(test)]
#[path = "relation_tests.rs"]
mod tests;
