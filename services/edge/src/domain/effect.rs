//! What a session is held to, and what it wants done.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tandem_kernel::{Address, Code, SessionId};
use tandem_proto::client::{
    Accepted, Hello, Problem, Rejected, Status, Submit, Welcome, request::Op,
};

use super::{courses::Held, frame::Frame, receipts::Mark, retained::Bound};

/// What sessions are held to.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Time for the first frame.
    pub hello_within: Duration,
    /// Silence beyond 2.5 times this closes the connection.
    pub heartbeat: Duration,
    /// How long a session waits for its device to come back.
    pub resume_within: Duration,
    /// Submitted events a second, and at once.
    pub events: (u32, u32),
    /// Frames other than events and useful confirmations, a second and at once.
    pub frames: (u32, u32),
    /// Conversations with unanswered events.
    pub conversations: u32,
    /// Open requests.
    pub requests: usize,
    /// Largest text in bytes.
    pub text_bytes: u32,
    /// Events a page.
    pub page: u32,
    /// Unacknowledged frames kept.
    pub retained: Bound,
}

/// What is to be done.
#[derive(Debug, PartialEq)]
pub enum Effect {
    /// Write a frame.
    Send(Frame),
    /// Find out who this is, then `Session::on_authenticated`.
    Authenticate(Box<Hello>),
    /// Verify the token, then `Session::on_renewed`.
    Renew(String),
    /// Hand an event to routing, then `Session::on_answer`. The number is that of the last refusal for now
    /// that the device has acknowledged.
    Submit(Arc<str>, u64, Box<Submit>),
    /// Refuse an event for now, in its order with what the session sends to that conversation, then
    /// `Session::on_answer`.
    Postpone(Arc<str>, Box<Rejected>),
    /// Hand a typing signal to routing.
    Typing(String, bool),
    /// Confirm events of a conversation.
    Receipt(Arc<str>, Mark),
    /// Sync from the end offsets on, with what the device holds; replaces a sync under way.
    Sync(HashMap<String, u64>),
    /// End the sync that is under way, if any, before anything more of it is taken in.
    StopSync,
    /// Fetch the statuses of the contacts, then `Session::on_presences`; replaces a fetch under way.
    Snapshot,
    /// Answer a question, then `Session::on_response`.
    Ask(u64, Box<Op>),
    /// Register the status and the personal message that the person chose.
    Status(Status, String),
    /// The session is attached (true) or waits for its device: register that.
    Attached(bool),
    /// Let the connection go after what was written.
    Disconnect,
    /// The session is over: let the connection go after what was written, remove the session, `at_once` if true.
    End(bool),
    /// Something was refused: count it.
    Refused(Code),
}

/// A verified sign-in.
#[derive(Debug, Clone)]
pub struct Grant {
    /// Id of the session.
    pub session: SessionId,
    /// Who it is.
    pub user: Address,
    /// To be sent; `session` and `resumed` are set here.
    pub welcome: Welcome,
    /// For each conversation, up to where the device holds everything.
    pub have: HashMap<String, u64>,
    /// When the token stops counting.
    pub token_until: Duration,
}

/// A problem to be told to the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The code.
    pub code: Code,
    /// For people.
    pub message: String,
    /// When trying again may help.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// Without a hint of when to try again.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            retry_after: None,
        }
    }

    pub(super) fn problem(self) -> Problem {
        Problem {
            code: self.code.as_str().to_owned(),
            message: self.message,
            retry_after_ms: millis(self.retry_after.unwrap_or_default()),
        }
    }
}

/// What became of a submitted event.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// It is in the log.
    Accepted(Accepted),
    /// It is not.
    Rejected(Rejected),
    /// It is not, for now.
    Postponed(Held),
}

/// Milliseconds on the wire.
pub(super) fn millis(d: Duration) -> u32 {
    u32::try_from(d.as_millis()).unwrap_or(u32::MAX)
}
