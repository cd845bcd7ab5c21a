//! A device as the record has it: its sessions, what reached it, and whom it watches.

use std::collections::BTreeMap;

use crate::{
    model::Said,
    record::{How, Status},
};

/// A copy of an event on a device.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Copy {
    pub(crate) event: u32,
    pub(crate) line: u32,
    pub(crate) seq: u64,
    pub(crate) at: u64,
    /// `None`: the device made it, and was told its place.
    pub(crate) how: Option<How>,
    pub(crate) shown: bool,
}

/// A span of time; `until` is open as long as it lasts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub(crate) from: u64,
    pub(crate) until: u64,
    pub(crate) line: u32,
}

/// A session as it counts for the person's status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) status: Status,
    /// Number of the personal message's text.
    pub(crate) message: u32,
}

/// Why a device's session changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// It came, or set another status.
    Said,
    /// It said goodbye.
    Closed,
    /// Its connection was lost.
    Lost,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Changed {
    pub(crate) session: Option<Session>,
    /// It may have shown since.
    pub(crate) from: u64,
    pub(crate) at: u64,
    pub(crate) why: Why,
}

/// The status of a contact as the device was told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Told {
    pub(crate) said: Said,
    pub(crate) session: Session,
    pub(crate) version: u64,
}

#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) user: u32,
    /// user/device.
    pub(crate) name: String,
    pub(crate) declared: bool,
    pub(crate) listens: bool,
    /// Since when it has had a push token, or none.
    pub(crate) tokens: Vec<(u64, bool)>,
    /// Where it forgot everything: line and time.
    pub(crate) emptied: Vec<Said>,
    pub(crate) copies: Vec<Copy>,
    /// Lines of the sessions that went on with none before.
    pub(crate) fresh: Vec<u32>,
    pub(crate) synced: Vec<Span>,
    /// Connected, and told of its contacts.
    pub(crate) watching: Vec<Span>,
    pub(crate) changed: Vec<Changed>,
    /// By contact: what it shows of them, in the order in which it was told.
    pub(crate) told: BTreeMap<u32, Vec<Told>>,
    /// `Hello` was sent and not answered.
    hello: Option<(u64, Status)>,
    connected: bool,
    was_synced: bool,
    message: u32,
}

impl Device {
    pub(crate) fn new(user: u32, name: String) -> Self {
        Self {
            user,
            name,
            declared: false,
            listens: true,
            tokens: Vec::new(),
            emptied: Vec::new(),
            copies: Vec::new(),
            fresh: Vec::new(),
            synced: Vec::new(),
            watching: Vec::new(),
            changed: Vec::new(),
            told: BTreeMap::new(),
            hello: None,
            connected: false,
            was_synced: false,
            message: 0,
        }
    }

    pub(crate) fn hello(&mut self, at: u64, status: Status) {
        if self.connected {
            self.lost(at, at, Why::Lost);
        }
        self.hello = Some((at, status));
    }

    pub(crate) fn welcome(&mut self, said: Said, resumed: bool) {
        let (from, status) = self.hello.take().unwrap_or((said.at, Status::Online));
        if !resumed {
            self.fresh.push(said.line);
            // what it is to be told again does not survive a session
            self.message = 0;
        }
        self.connected = true;
        self.watch(said);
        if resumed && self.was_synced {
            self.synced(said);
        }
        self.was_synced = false;
        let session = Session {
            status,
            message: self.message,
        };
        self.change(Some(session), from, said.at, Why::Said);
    }

    pub(crate) fn synced(&mut self, said: Said) {
        if self.synced.last().is_none_or(|s| s.until != u64::MAX) {
            self.synced.push(open_span(said));
        }
    }

    pub(crate) fn resyncing(&mut self, said: Said) {
        close(&mut self.synced, said.at);
        // presence may have been kept from it, too
        if self.connected {
            self.watch(said);
        }
    }

    /// The connection ended; the edge had been heard until `heard`.
    pub(crate) fn lost(&mut self, heard: u64, at: u64, why: Why) {
        if let Some((sent, status)) = self.hello.take() {
            // the edge may have taken it
            let message = 0;
            self.change(Some(Session { status, message }), sent, at, Why::Said);
            self.change(None, sent, at, Why::Lost);
        }
        if !self.connected {
            return;
        }
        self.connected = false;
        self.was_synced = close(&mut self.synced, at);
        close(&mut self.watching, at);
        self.change(None, heard.min(at), at, why);
    }

    pub(crate) fn emptied(&mut self, said: Said) {
        self.lost(said.at, said.at, Why::Lost);
        self.was_synced = false;
        self.emptied.push(said);
    }

    pub(crate) fn set(&mut self, at: u64, session: Session) {
        if self.connected {
            self.message = session.message;
            self.change(Some(session), at, at, Why::Said);
        }
    }

    fn watch(&mut self, said: Said) {
        close(&mut self.watching, said.at);
        self.watching.push(open_span(said));
    }

    fn change(&mut self, session: Option<Session>, from: u64, at: u64, why: Why) {
        self.changed.push(Changed {
            session,
            from,
            at,
            why,
        });
    }

    /// Whether it could be notified throughout.
    pub(crate) fn has_token(&self, from: u64, until: u64) -> bool {
        let before = self.tokens.partition_point(|(at, _)| *at <= from);
        let had = before > 0 && self.tokens[before - 1].1;
        let later = self.tokens[before..].iter();
        had && later.take_while(|(at, _)| *at <= until).all(|(_, is)| *is)
    }

    /// Whether it is synced when the record ends.
    pub(crate) fn synced_at_end(&self) -> Option<Span> {
        self.synced.last().copied().filter(|s| s.until == u64::MAX)
    }
}

fn open_span(said: Said) -> Span {
    Span {
        from: said.at,
        until: u64::MAX,
        line: said.line,
    }
}

/// Whether a span was open.
fn close(spans: &mut [Span], at: u64) -> bool {
    match spans.last_mut().filter(|s| s.until == u64::MAX) {
        Some(last) => {
            last.until = at;
            true
        }
        None => false,
    }
}
