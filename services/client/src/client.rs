//! What programs use: a handle to a device's session, and the stream of what happens.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tandem_chassis::{Doors, Lifecycle, lifecycle::OnEnd};
use tandem_kernel::{
    Code, ConversationId,
    event::{
        Body, Delete, Edit, GroupCreate, Kind, MemberLeave, MemberRemove, MembersAdd, Nudge,
        Reaction, Role, RoleSet, Text, TitleSet,
    },
};
use tandem_proto::client::{
    ClientFrame, Contact, ContactChange, ContactsRequest, Device, FindRequest, Found, Head,
    HeadsRequest, Members, MembersRequest, Page, PageRequest, Problem, PushToken, PushTokenChange,
    ServerFrame, SetPresence, Status, Typing, client_frame, contact_change, request::Op,
    response::Result as Answer,
};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    address::Server,
    domain::{Core, Pages, Update},
    session,
    shared::Shared,
    token::TokenSource,
};

/// How a device connects.
#[derive(Clone)]
pub struct Options {
    /// Where to.
    pub server: Server,
    /// Its tokens.
    pub tokens: Arc<dyn TokenSource>,
    /// Which device it is.
    pub device: Device,
    /// What it fetches by itself.
    pub pages: Pages,
    /// Status to start with.
    pub status: Status,
    /// Shortest pause before a connection is tried again.
    pub retry_min: Duration,
    /// Longest pause before a connection is tried again.
    pub retry_max: Duration,
    /// Clock, randomness, network.
    pub doors: Doors,
    /// Looks at each frame, for who keeps a record: one that leaves just before it does, one that came
    /// before anything is made of it.
    pub watch: Option<Watch>,
}

/// Looks at frames. It must not call the client.
pub type Watch = Arc<dyn Fn(Watched<'_>) + Send + Sync>;

/// A frame, and which way it goes.
#[derive(Debug, Clone, Copy)]
pub enum Watched<'a> {
    /// To the edge. It may not reach it.
    Leaves(&'a ClientFrame),
    /// From the edge.
    Came(&'a ServerFrame),
}

impl Options {
    /// The usual ones.
    pub fn new(doors: Doors, server: Server, tokens: Arc<dyn TokenSource>, device: Device) -> Self {
        Self {
            server,
            tokens,
            device,
            pages: Pages::All,
            status: Status::Online,
            retry_min: Duration::from_millis(100),
            retry_max: Duration::from_secs(10),
            doors,
            watch: None,
        }
    }
}

/// What became of a sent event: its conversation and place, or why it was refused.
pub type Outcome = Result<Taken, Problem>;

/// Where an event stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Its conversation.
    pub conversation: String,
    /// Its place.
    pub seq: u64,
}

/// An event on its way. Dropping it cancels nothing.
#[derive(Debug)]
pub struct Sent {
    /// Its id.
    pub event_id: String,
    outcome: oneshot::Receiver<Outcome>,
}

impl Sent {
    /// Waits for the answer, through breaks of the connection.
    pub async fn outcome(self) -> Outcome {
        self.outcome.await.unwrap_or_else(|_| Err(stopped()))
    }
}

fn stopped() -> Problem {
    Problem {
        code: Code::Unavailable.as_str().into(),
        message: "the client was stopped".into(),
        retry_after_ms: 0,
    }
}

fn unexpected() -> Problem {
    Problem {
        code: Code::Internal.as_str().into(),
        message: "the answer is not to what was asked".into(),
        retry_after_ms: 0,
    }
}

struct Handle {
    shared: Arc<Shared>,
    doors: Doors,
    next_question: AtomicU64,
    /// Ends the session when the last handle is dropped.
    #[allow(dead_code, reason = "held for its drop")]
    stop: DropGuard,
}

/// A device's session, kept open until the last clone of the handle is dropped, or [`Client::stop`].
#[derive(Clone)]
pub struct Client(Arc<Handle>);

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

impl Client {
    /// Begins to connect and returns at once. The stream ends after `Closed`.
    pub fn connect(
        options: Options,
        lifecycle: &Lifecycle,
    ) -> (Self, mpsc::UnboundedReceiver<Update>) {
        let (updates, stream) = mpsc::unbounded_channel();
        let stop = CancellationToken::new();
        let shared = Arc::new(Shared {
            core: Mutex::new(Core::new(options.pages)),
            wake: Notify::new(),
            stop: stop.clone(),
            presence: Mutex::new((options.status, String::new())),
            outcomes: Mutex::default(),
            questions: Mutex::default(),
            updates: Mutex::new(Some(updates)),
        });
        let doors = options.doors.clone();
        let (inner, stopped) = (shared.clone(), lifecycle.clone());
        lifecycle.spawn("client", OnEnd::Fine, async move {
            let stop = inner.stop.clone();
            let run = session::run(inner, options);
            tokio::pin!(run);
            tokio::select! {
                () = &mut run => return,
                () = stopped.stopped() => stop.cancel(),
            }
            run.await;
        });
        let stop = stop.drop_guard();
        let next_question = AtomicU64::new(1);
        (
            Self(Arc::new(Handle {
                shared,
                doors,
                next_question,
                stop,
            })),
            stream,
        )
    }

    /// Says goodbye and ends the session.
    pub fn stop(&self) {
        self.0.shared.stop.cancel();
    }

    /// Looks at what the device holds. Do not keep the session waiting.
    pub fn look<T>(&self, look: impl FnOnce(&Core) -> T) -> T {
        look(&self.0.shared.core.lock())
    }

    // ------------------------------------------------------------ sending

    /// Sends a body. `to` is a conversation id, an address, or the local part of one in one's own
    /// domain. What is sent while offline is kept, and sent on return.
    pub fn send(&self, to: &str, kind: Kind) -> Sent {
        let now = self.0.doors.clock.unix();
        let event_id = self.0.doors.rng.event_id(now).to_string();
        let (outcome, answer) = oneshot::channel();
        if !self.0.shared.stop.is_cancelled() {
            self.0
                .shared
                .outcomes
                .lock()
                .insert(event_id.clone(), outcome);
            let body = Body { kind: Some(kind) };
            self.0
                .shared
                .core
                .lock()
                .submit(to, event_id.clone(), body, now.0);
            self.0.shared.wake.notify_one();
        }
        Sent {
            event_id,
            outcome: answer,
        }
    }

    /// Sends a message.
    pub fn send_text(&self, to: &str, text: impl Into<String>) -> Sent {
        self.send(
            to,
            Kind::Text(Text {
                text: text.into(),
                ..Text::default()
            }),
        )
    }

    /// Replaces the text of one's own message at `seq`.
    pub fn edit(&self, conversation: &str, seq: u64, text: impl Into<String>) -> Sent {
        let text = Some(Text {
            text: text.into(),
            ..Text::default()
        });
        self.send(conversation, Kind::Edit(Edit { target: seq, text }))
    }

    /// Removes one's own message.
    pub fn delete(&self, conversation: &str, seq: u64) -> Sent {
        self.send(conversation, Kind::Delete(Delete { target: seq }))
    }

    /// Sets one's reaction to a message; an empty one removes it.
    pub fn react(&self, conversation: &str, seq: u64, emoji: impl Into<String>) -> Sent {
        self.send(
            conversation,
            Kind::Reaction(Reaction {
                target: seq,
                emoji: emoji.into(),
            }),
        )
    }

    /// Asks for attention.
    pub fn nudge(&self, to: &str) -> Sent {
        self.send(to, Kind::Nudge(Nudge {}))
    }

    /// Begins a group in one's own domain. `None` before the first session, as the domain is not known.
    pub fn create_group(&self, title: &str, members: Vec<String>) -> Option<(String, Sent)> {
        let domain = self.look(|core| {
            core.me()
                .and_then(|me| me.split_once('@').map(|(_, domain)| domain.to_owned()))
        })?;
        let id = ConversationId::group(self.0.doors.rng.uuid(), &domain)
            .as_str()
            .to_owned();
        let create = GroupCreate {
            title: title.to_owned(),
            members,
        };
        let sent = self.send(&id, Kind::GroupCreate(create));
        Some((id, sent))
    }

    /// Adds members to a group.
    pub fn add_members(&self, conversation: &str, members: Vec<String>) -> Sent {
        self.send(conversation, Kind::MembersAdd(MembersAdd { members }))
    }

    /// Removes a member from a group.
    pub fn remove_member(&self, conversation: &str, member: &str) -> Sent {
        self.send(
            conversation,
            Kind::MemberRemove(MemberRemove {
                member: member.to_owned(),
            }),
        )
    }

    /// Leaves a group.
    pub fn leave(&self, conversation: &str) -> Sent {
        self.send(conversation, Kind::MemberLeave(MemberLeave {}))
    }

    /// Sets a group's title.
    pub fn set_title(&self, conversation: &str, title: &str) -> Sent {
        self.send(
            conversation,
            Kind::TitleSet(TitleSet {
                title: title.to_owned(),
            }),
        )
    }

    /// Sets a member's role.
    pub fn set_role(&self, conversation: &str, member: &str, role: Role) -> Sent {
        let set = RoleSet {
            member: member.to_owned(),
            role: role.into(),
        };
        self.send(conversation, Kind::RoleSet(set))
    }

    /// The person has read a conversation up to `seq`.
    pub fn read(&self, conversation: &str, seq: u64) {
        self.0.shared.core.lock().read(conversation, seq);
        self.0.shared.wake.notify_one();
    }

    /// The person types, or ceased to.
    pub fn typing(&self, conversation: &str, active: bool) {
        let conversation = conversation.to_owned();
        self.say(client_frame::Frame::Typing(Typing {
            conversation,
            active,
        }));
    }

    /// Sets the person's status and personal message, now and at each later connection.
    pub fn set_presence(&self, status: Status, message: &str) {
        *self.0.shared.presence.lock() = (status, message.to_owned());
        let set = SetPresence {
            status: status.into(),
            message: message.to_owned(),
        };
        self.say(client_frame::Frame::SetPresence(set));
    }

    fn say(&self, frame: client_frame::Frame) {
        self.0.shared.core.lock().say(frame);
        self.0.shared.wake.notify_one();
    }

    // ------------------------------------------------------------ asking

    /// Asks and waits for the answer, at most 30 s.
    pub async fn ask(&self, op: Op) -> Result<Answer, Problem> {
        let number = self.0.next_question.fetch_add(1, Ordering::Relaxed);
        let (question, answer) = oneshot::channel();
        self.0.shared.questions.lock().insert(number, question);
        let asked = self.0.shared.core.lock().ask(number, op);
        if !asked {
            self.0.shared.questions.lock().remove(&number);
            let message = "not connected".to_owned();
            let code = Code::Unavailable.as_str().to_owned();
            return Err(Problem {
                code,
                message,
                retry_after_ms: 0,
            });
        }
        self.0.shared.wake.notify_one();
        if let Ok(answer) = tokio::time::timeout(Duration::from_secs(30), answer).await {
            return answer.unwrap_or_else(|_| Err(stopped()));
        }
        self.0.shared.questions.lock().remove(&number);
        let code = Code::DeadlineExceeded.as_str().to_owned();
        Err(Problem {
            code,
            message: "no answer".into(),
            retry_after_ms: 0,
        })
    }

    /// A page of a conversation's events, which the device then holds.
    pub async fn page(&self, page: PageRequest) -> Result<Page, Problem> {
        match self.ask(Op::Page(page)).await? {
            Answer::Page(page) => Ok(page),
            _ => Err(unexpected()),
        }
    }

    /// Fetches the newest page that a conversation lacks, going back; whether there was one to fetch.
    pub async fn page_back(&self, conversation: &str, limit: u32) -> Result<bool, Problem> {
        let gap = self.look(|core| {
            core.conversation(conversation)
                .and_then(|c| c.ranges().newest_gap())
        });
        let Some((_, before)) = gap else {
            return Ok(false);
        };
        let conversation = conversation.to_owned();
        // `before` excludes: the gap's newest event may have the seq `before` itself
        let page = PageRequest {
            conversation,
            before: before + 1,
            after: 0,
            limit,
        };
        self.page(page).await?;
        Ok(true)
    }

    /// The heads of the person's conversations, newest first.
    pub async fn heads(&self, limit: u32, before_ms: i64) -> Result<Vec<Head>, Problem> {
        match self
            .ask(Op::Heads(HeadsRequest { limit, before_ms }))
            .await?
        {
            Answer::Heads(heads) => Ok(heads.heads),
            _ => Err(unexpected()),
        }
    }

    /// The person's contacts.
    pub async fn contacts(&self) -> Result<Vec<Contact>, Problem> {
        match self.ask(Op::Contacts(ContactsRequest {})).await? {
            Answer::Contacts(all) => Ok(all.contacts),
            _ => Err(unexpected()),
        }
    }

    /// Changes what the person is to another.
    pub async fn contact_change(
        &self,
        who: &str,
        action: contact_change::Action,
        name: &str,
    ) -> Result<Contact, Problem> {
        let (who, name) = (who.to_owned(), name.to_owned());
        let change = ContactChange {
            who,
            action: action.into(),
            name,
        };
        match self.ask(Op::ContactChange(change)).await? {
            Answer::Contacts(mut changed) => changed.contacts.pop().ok_or_else(unexpected),
            _ => Err(unexpected()),
        }
    }

    /// Sets or removes this device's push subscription.
    pub async fn push_token(&self, token: Option<PushToken>) -> Result<(), Problem> {
        self.done(Op::PushToken(PushTokenChange { token })).await
    }

    async fn done(&self, op: Op) -> Result<(), Problem> {
        match self.ask(op).await? {
            Answer::Done(_) => Ok(()),
            _ => Err(unexpected()),
        }
    }

    /// A group's title and members.
    pub async fn members(&self, conversation: &str) -> Result<Members, Problem> {
        let conversation = conversation.to_owned();
        match self
            .ask(Op::Members(MembersRequest { conversation }))
            .await?
        {
            Answer::Members(members) => Ok(members),
            _ => Err(unexpected()),
        }
    }

    /// Finds a subscriber by address or phone number.
    pub async fn find(&self, who: &str) -> Result<Found, Problem> {
        match self
            .ask(Op::Find(FindRequest {
                who: who.to_owned(),
            }))
            .await?
        {
            Answer::Found(found) => Ok(found),
            _ => Err(unexpected()),
        }
    }
}
