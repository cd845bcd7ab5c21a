//! What the store knows: edges' leases, users' sessions and statuses, and who is due. Synchronous; the
//! caller says what time it is.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use tandem_chassis::Doors;
use tandem_ephemeral::{
    DAMPING, LEASE, Reach, Renewal, Session, UserStatus,
    status::{Standing, derive},
};
use tandem_kernel::{Address, EdgeId, SessionId};
use tandem_proto::client::{DeviceClass, Status};

use crate::millis;

/// A session as it is held. What its edge's slot says is not repeated here.
#[derive(Debug)]
struct Held {
    id: SessionId,
    /// Since when it is detached.
    detached: Option<u64>,
    message: Option<Box<str>>,
    /// Index of its edge's slot.
    edge: u32,
    status: Status,
    class: DeviceClass,
    resync: bool,
    /// Removed, and kept only because it still counts for the status.
    gone: bool,
}

impl Held {
    fn message(&self) -> &str {
        self.message.as_deref().unwrap_or_default()
    }
}

#[derive(Debug, Default)]
struct User {
    sessions: Vec<Held>,
    settled: Option<Box<UserStatus>>,
    due: Option<u64>,
}

impl User {
    fn held(&mut self, id: SessionId) -> Option<&mut Held> {
        self.sessions.iter_mut().find(|h| h.id == id)
    }
}

/// An edge, from its first renewal or session to its release or the sweep after its lease has lapsed.
#[derive(Debug)]
struct Edge {
    id: EdgeId,
    /// The lease lives before this.
    until: u64,
    registered: u64,
    /// Every session that names this edge, gone ones too.
    sessions: BTreeMap<SessionId, Address>,
    resync: BTreeSet<SessionId>,
}

pub(crate) struct State {
    epoch: u64,
    born: u64,
    next_version: u64,
    slots: Vec<Option<Edge>>,
    free: Vec<u32>,
    edges: BTreeMap<EdgeId, u32>,
    /// Never iterated.
    users: HashMap<Address, User, ahash::RandomState>,
    due: BTreeSet<(u64, Address)>,
}

impl State {
    /// An empty state in a new epoch. Versions are above `versions`, and above those of an earlier
    /// process (2^20 changes a millisecond are not reached).
    pub(crate) fn new(doors: &Doors, versions: u64) -> Self {
        let unix = u64::try_from(doors.clock.unix().0).unwrap_or(0);
        let seed = || doors.rng.u64();
        Self {
            epoch: seed().max(1),
            born: millis(doors.clock.monotonic()),
            next_version: (unix << 20).max(versions).max(1),
            slots: Vec::new(),
            free: Vec::new(),
            edges: BTreeMap::new(),
            users: HashMap::with_hasher(ahash::RandomState::with_seeds(
                seed(),
                seed(),
                seed(),
                seed(),
            )),
            due: BTreeSet::new(),
        }
    }

    pub(crate) fn next_version(&self) -> u64 {
        self.next_version
    }

    pub(crate) fn renew(&mut self, id: &EdgeId, registered: u64, now: u64) -> Renewal {
        let lives = self.edges.get(id).is_some_and(|e| self.lives(*e, now));
        if !lives {
            self.drop_edge(id, now);
        }
        let epoch = self.epoch;
        let slot = self.slot(id);
        let mut resync = Vec::new();
        if let Some(edge) = self.edge_mut(slot) {
            edge.until = now.saturating_add(millis(LEASE));
            edge.registered = registered;
            resync.extend(&edge.resync);
        }
        Renewal {
            epoch,
            lapsed: !lives,
            resync,
        }
    }

    pub(crate) fn release(&mut self, id: &EdgeId, now: u64) {
        self.drop_edge(id, now);
    }

    pub(crate) fn put(&mut self, new: &Session, now: u64) {
        let slot = self.slot(&new.edge);
        let message = (!new.message.is_empty()).then(|| Box::from(new.message.as_str()));
        let user = self.users.entry(new.user.clone()).or_default();
        let mut due = now;
        let mut flagged = false;
        let mut moved_from = None;
        if let Some(held) = user.held(new.id) {
            let same = (held.status, held.class, held.message.as_deref())
                == (new.status, new.class, message.as_deref())
                && held.edge == slot;
            let was = held.detached.is_none();
            if same && was == new.attached && !held.gone {
                return;
            }
            if held.edge != slot {
                moved_from = Some(held.edge);
            }
            if same && was && !new.attached {
                due = now.saturating_add(millis(DAMPING));
            }
            held.detached = match (new.attached, held.detached) {
                (true, _) => None,
                (false, since) => Some(since.unwrap_or(now)),
            };
            held.message = message;
            held.edge = slot;
            held.status = new.status;
            held.class = new.class;
            held.gone = false;
            flagged = held.resync;
        } else {
            user.sessions.push(Held {
                id: new.id,
                detached: (!new.attached).then_some(now),
                message,
                edge: slot,
                status: new.status,
                class: new.class,
                resync: false,
                gone: false,
            });
            user.sessions.shrink_to_fit();
        }
        if let Some(old) = moved_from.and_then(|s| self.edge_mut(s)) {
            old.sessions.remove(&new.id);
            old.resync.remove(&new.id);
        }
        if let Some(edge) = self.edge_mut(slot) {
            edge.sessions
                .entry(new.id)
                .or_insert_with(|| new.user.clone());
            if flagged {
                edge.resync.insert(new.id);
            }
        }
        self.make_due(&new.user, due);
    }

    pub(crate) fn remove(&mut self, user: &Address, id: SessionId, at_once: bool, now: u64) {
        let Some(held) = self.users.get_mut(user).and_then(|u| u.held(id)) else {
            return;
        };
        let slot = held.edge;
        if let Some(edge) = self.slots.get_mut(slot as usize).and_then(Option::as_mut) {
            edge.resync.remove(&id);
        }
        if at_once {
            self.forget(user, id);
            self.make_due(user, now);
        } else {
            held.gone = true;
            held.resync = false;
            let since = *held.detached.get_or_insert(now);
            self.make_due(user, since.saturating_add(millis(DAMPING)).max(now));
        }
    }

    pub(crate) fn reach(&self, user: &Address, now: u64) -> Reach {
        let mut reach = Reach::default();
        let Some(user) = self.users.get(user) else {
            return reach;
        };
        for held in user.sessions.iter().filter(|h| !h.gone) {
            let Some(edge) = self.edge(held.edge).filter(|e| e.until > now) else {
                continue;
            };
            reach.sessions += 1;
            reach.attached += usize::from(held.detached.is_none());
            if !held.resync {
                reach.live.push((edge.id.clone(), held.id));
            }
        }
        reach
    }

    pub(crate) fn set_resync(&mut self, user: &Address, id: SessionId, flag: bool) {
        let Some(held) = self.users.get_mut(user).and_then(|u| u.held(id)) else {
            return;
        };
        if held.gone {
            return;
        }
        held.resync = flag;
        let slot = held.edge;
        if let Some(edge) = self.edge_mut(slot) {
            if flag {
                edge.resync.insert(id);
            } else {
                edge.resync.remove(&id);
            }
        }
    }

    pub(crate) fn status(&self, user: &Address) -> Option<UserStatus> {
        self.users.get(user)?.settled.as_deref().cloned()
    }

    pub(crate) fn settle(&mut self, address: &Address, now: u64) -> Option<UserStatus> {
        let user = self.users.get(address)?;
        let since = |at: u64| Duration::from_millis(now.saturating_sub(at));
        let lives = |h: &&Held| self.lives(h.edge, now);
        let derived = derive(user.sessions.iter().filter(lives).map(|h| Standing {
            id: h.id,
            status: h.status,
            message: h.message(),
            class: h.class,
            detached_for: h.detached.map(since),
        }));
        let same = match user.settled.as_deref() {
            Some(s) => {
                (s.status, s.message.as_str(), s.class)
                    == (derived.status, derived.message, derived.class)
            }
            None => derived.status == Status::Offline,
        };
        let change = (!same).then(|| UserStatus {
            status: derived.status,
            message: derived.message.to_owned(),
            class: derived.class,
            version: self.next_version,
        });
        let again = derived.again_in.map(|d| now.saturating_add(millis(d)));
        let expired: Vec<SessionId> = user
            .sessions
            .iter()
            .filter(|h| h.gone && h.detached.is_none_or(|at| since(at) >= DAMPING))
            .map(|h| h.id)
            .collect();
        for id in expired {
            self.forget(address, id);
        }
        if let Some(status) = &change {
            self.next_version += 1;
            if let Some(user) = self.users.get_mut(address) {
                user.settled = Some(Box::new(status.clone()));
            }
        }
        self.set_due(address, again);
        change
    }

    pub(crate) fn renumber(&mut self, user: &Address) -> Option<UserStatus> {
        let settled = self.users.get_mut(user)?.settled.as_deref_mut()?;
        settled.version = self.next_version;
        self.next_version += 1;
        Some(settled.clone())
    }

    /// Whether [`State::due`] would find nothing to do.
    pub(crate) fn idle(&self, now: u64) -> bool {
        self.due.first().is_none_or(|(at, _)| *at > now)
            && self.edges.values().all(|e| self.lives(*e, now))
    }

    pub(crate) fn due(&mut self, limit: usize, now: u64) -> Vec<Address> {
        let lapsed: Vec<EdgeId> = self
            .edges
            .iter()
            .filter(|(_, slot)| !self.lives(**slot, now))
            .map(|(id, _)| id.clone())
            .collect();
        for id in lapsed {
            self.drop_edge(&id, now);
        }
        self.due
            .iter()
            .take_while(|(at, _)| *at <= now)
            .take(limit)
            .map(|(_, user)| user.clone())
            .collect()
    }

    pub(crate) fn settled(&self, now: u64) -> bool {
        now.saturating_sub(self.born) >= millis(LEASE)
            && self
                .edges
                .values()
                .filter_map(|slot| self.edge(*slot))
                .all(|e| e.until <= now || e.registered == self.epoch)
    }

    fn edge(&self, slot: u32) -> Option<&Edge> {
        self.slots.get(slot as usize)?.as_ref()
    }

    fn edge_mut(&mut self, slot: u32) -> Option<&mut Edge> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    fn lives(&self, slot: u32, now: u64) -> bool {
        self.edge(slot).is_some_and(|e| e.until > now)
    }

    /// The edge's slot; a new one has no lease.
    fn slot(&mut self, id: &EdgeId) -> u32 {
        if let Some(slot) = self.edges.get(id) {
            return *slot;
        }
        let edge = Edge {
            id: id.clone(),
            until: 0,
            registered: 0,
            sessions: BTreeMap::new(),
            resync: BTreeSet::new(),
        };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            (self.slots.len() - 1) as u32
        });
        self.slots[slot as usize] = Some(edge);
        self.edges.insert(id.clone(), slot);
        slot
    }

    /// Takes the edge and its sessions away; their users are due now.
    fn drop_edge(&mut self, id: &EdgeId, now: u64) {
        let Some(slot) = self.edges.remove(id) else {
            return;
        };
        let Some(edge) = self.slots[slot as usize].take() else {
            return;
        };
        for (session, user) in edge.sessions {
            self.forget(&user, session);
            self.make_due(&user, now);
        }
        self.free.push(slot);
    }

    /// Takes a session away without a trace.
    fn forget(&mut self, address: &Address, id: SessionId) {
        let Some(user) = self.users.get_mut(address) else {
            return;
        };
        let Some(at) = user.sessions.iter().position(|h| h.id == id) else {
            return;
        };
        let held = user.sessions.remove(at);
        user.sessions.shrink_to_fit();
        if let Some(edge) = self.edge_mut(held.edge) {
            edge.sessions.remove(&id);
            edge.resync.remove(&id);
        }
    }

    /// The user is due at `at`, or earlier if that was so.
    fn make_due(&mut self, user: &Address, at: u64) {
        let earlier = self.users.get(user).and_then(|u| u.due);
        self.set_due(user, Some(earlier.map_or(at, |e| e.min(at))));
    }

    fn set_due(&mut self, address: &Address, at: Option<u64>) {
        let Some(user) = self.users.get_mut(address) else {
            return;
        };
        if user.due == at {
            return;
        }
        if let Some(old) = user.due.take() {
            // a key of the set is a pair, so the address is cloned to find it; it is short
            self.due.remove(&(old, address.clone()));
        }
        user.due = at;
        if let Some(at) = at {
            self.due.insert((at, address.clone()));
        }
        if user.due.is_none() && user.sessions.is_empty() && user.settled.is_none() {
            self.users.remove(address);
        }
    }
}
