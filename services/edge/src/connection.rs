//! The one loop of each session: moves what comes from the device, the mailbox and the jobs into the
//! session, carries out its effects, and writes what results, all of it before each flush.

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::{
    FutureExt, Stream, StreamExt,
    future::BoxFuture,
    stream::{BoxStream, FuturesUnordered},
};
use tandem_kernel::{Address, Code};
use tandem_proto::client::{Head, Presence, response};
use tokio::{
    sync::oneshot,
    time::{Instant, Sleep, timeout},
};

use crate::{
    domain::{
        frame::Frame,
        session::{Effect, Refusal, Session},
    },
    edge::Edge,
    mailbox::{Item, Resume},
    usecase::{registry::Handle, sign_in::SignedIn, submits::Origin},
    wire::{Carrier, Incoming, Wire},
};

/// Most frames taken from a device before what results is written.
const FRAMES: usize = 32;
/// How long a connection that is let go may take for the last frames.
const LAST: Duration = Duration::from_secs(1);
/// The timer is never set further ahead.
const FAR: Duration = Duration::from_secs(86_400);

enum Done {
    SignedIn(Box<Result<SignedIn, Refusal>>),
    Renewed(Result<(Address, Duration), Refusal>),
    Presences(Vec<Presence>),
    Response(u64, Box<Result<response::Result, Refusal>>),
}

/// What a session waits for from other services. Takes no heap while there is nothing.
#[derive(Default)]
struct Jobs {
    sync: Option<BoxStream<'static, (Vec<Head>, bool)>>,
    open: Option<Box<FuturesUnordered<BoxFuture<'static, Done>>>>,
}

impl Jobs {
    fn push(&mut self, job: impl Future<Output = Done> + Send + 'static) {
        self.open.get_or_insert_default().push(job.boxed());
    }

    fn poll_done(&mut self, cx: &mut Context<'_>) -> Poll<Done> {
        let Some(open) = &mut self.open else {
            return Poll::Pending;
        };
        match open.poll_next_unpin(cx) {
            Poll::Ready(Some(done)) => Poll::Ready(done),
            Poll::Ready(None) => {
                self.open = None;
                Poll::Pending
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn poll_sync(&mut self, cx: &mut Context<'_>) -> Poll<(Vec<Head>, bool)> {
        let Some(sync) = &mut self.sync else {
            return Poll::Pending;
        };
        match Pin::new(sync).poll_next(cx) {
            Poll::Ready(Some(part)) => Poll::Ready(part),
            Poll::Ready(None) => {
                self.sync = None;
                Poll::Pending
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

/// How a write ended.
enum Written {
    /// Everything is on its way.
    All,
    /// Something urgent came first.
    Interrupted,
    /// The connection is gone.
    Gone,
    /// The device takes nothing.
    Stalled,
}

struct Connection {
    edge: Arc<Edge>,
    session: Session,
    wire: Option<Box<Wire>>,
    /// As it was counted.
    carrier: Option<Carrier>,
    handle: Option<Arc<Handle>>,
    jobs: Jobs,
    mail: VecDeque<Item>,
    effects: Vec<Effect>,
    out: VecDeque<Frame>,
    timer: Pin<Box<Sleep>>,
    timer_at: Duration,
    signed_in: Option<Box<SignedIn>>,
    sample: Option<Duration>,
    disconnect: bool,
    at_once: bool,
}

/// Runs a connection, and the session that begins on it, to its end.
pub async fn run(edge: Arc<Edge>, wire: Wire) {
    let now = edge.doors.clock.monotonic();
    let session = Session::new(Arc::clone(&edge.rules), now);
    let at = session.wake_at();
    let mut connection = Connection {
        session,
        wire: Some(Box::new(wire)),
        carrier: None,
        handle: None,
        jobs: Jobs::default(),
        mail: VecDeque::new(),
        effects: Vec::new(),
        out: VecDeque::new(),
        timer: Box::pin(tokio::time::sleep(at.saturating_sub(now))),
        timer_at: at,
        signed_in: None,
        sample: None,
        disconnect: false,
        at_once: false,
        edge,
    };
    connection.run().await;
}

impl Connection {
    async fn run(&mut self) {
        if self.edge.is_draining() {
            self.draining();
        }
        loop {
            if let Some(signed_in) = self.signed_in.take() {
                Box::pin(self.begin(*signed_in)).await;
            }
            if !self.session.is_over() && !self.disconnect {
                match self.write().await {
                    Written::All | Written::Interrupted => {}
                    Written::Gone => self.lost(),
                    Written::Stalled => self.too_slow(),
                }
            }
            if self.disconnect || self.session.is_over() {
                Box::pin(self.let_go()).await;
                if self.session.is_over() {
                    return;
                }
                continue;
            }
            poll_fn(|cx| self.poll_input(cx)).await;
        }
    }

    fn now(&self) -> Duration {
        self.edge.doors.clock.monotonic()
    }

    fn draining(&mut self) {
        let after = self.edge.reconnect_after();
        self.session.on_close(
            Code::Draining,
            "the service is going down",
            Some(after),
            &mut self.effects,
        );
        self.perform();
    }

    /// Takes in whatever there is. Ready when there was something.
    fn poll_input(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut any = false;
        if let Some(handle) = &self.handle
            && let Poll::Ready(overflown) = handle.mailbox.poll_drain(cx, &mut self.mail)
        {
            any = true;
            self.take_mail(overflown);
        }
        while let Poll::Ready(done) = self.jobs.poll_done(cx) {
            any = true;
            self.take_done(done);
        }
        if let Poll::Ready((heads, complete)) = self.jobs.poll_sync(cx) {
            any = true;
            self.session.on_sync(heads, complete, &mut self.effects);
        }
        for _ in 0..FRAMES {
            if !self.session.reads() {
                break;
            }
            let Some(wire) = &mut self.wire else { break };
            let Poll::Ready(incoming) = wire.poll_recv(cx) else {
                break;
            };
            any = true;
            match incoming {
                Incoming::Frame(frame) => {
                    self.edge.metrics.frames_in.add(1);
                    let now = self.now();
                    self.session.on_frame(*frame, now, &mut self.effects);
                }
                Incoming::Unreadable(code, message) => {
                    self.session.on_unreadable(code, message, &mut self.effects);
                }
                Incoming::Gone => {
                    self.lost();
                    break;
                }
            }
        }
        if self.timer_at != Duration::MAX && self.timer.as_mut().poll(cx).is_ready() {
            any = true;
            let now = self.now();
            self.session.on_tick(now, &mut self.effects);
            self.timer_at = Duration::MAX;
        }
        self.perform();
        if self.set_timer() {
            // to be polled once, to be woken
            any |= self.timer.as_mut().poll(cx).is_ready();
        }
        if any { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Sets the timer if it would be late. True if it was set.
    fn set_timer(&mut self) -> bool {
        let at = self.session.wake_at();
        if at >= self.timer_at {
            return false;
        }
        self.timer_at = at;
        let left = at.saturating_sub(self.now()).min(FAR);
        self.timer.as_mut().reset(Instant::now() + left);
        true
    }

    fn take_mail(&mut self, overflown: bool) {
        let mut mail = std::mem::take(&mut self.mail);
        for item in mail.drain(..) {
            match item {
                Item::Parcel(parcel) => {
                    if parcel.sampled_at.is_some() {
                        self.sample = parcel.sampled_at;
                    }
                    self.session.on_parcel(&parcel, &mut self.effects);
                }
                Item::Answer(conversation, answer) => {
                    self.session
                        .on_answer(&conversation, *answer, &mut self.effects);
                }
                Item::Registered => self.session.on_registered(&mut self.effects),
                Item::Resume(resume) => self.resume(*resume),
                Item::Replaced => self.session.on_close(
                    Code::Replaced,
                    "a newer session of this device has come",
                    None,
                    &mut self.effects,
                ),
                Item::Drain(after) => {
                    self.session.on_close(
                        Code::Draining,
                        "the service is going down",
                        Some(after),
                        &mut self.effects,
                    );
                }
            }
        }
        self.mail = mail;
        if overflown {
            self.too_slow();
        }
    }

    fn too_slow(&mut self) {
        self.edge.metrics.slow_readers.add(1);
        self.session.on_close(
            Code::SlowReader,
            "the device reads too slowly",
            Some(LAST),
            &mut self.effects,
        );
        self.perform();
    }

    fn resume(&mut self, resume: Resume) {
        let Resume {
            wire,
            n,
            grant,
            back,
        } = resume;
        if !self.session.resumable(n) {
            self.edge.metrics.not_resumed.add(1);
            // the device begins anew on its new connection
            let _ = back.send((wire, grant));
            self.wire = None;
            self.session.on_close(
                Code::Replaced,
                "a newer session of this device has come",
                None,
                &mut self.effects,
            );
            return;
        }
        self.edge.metrics.resumed.add(1);
        self.perform();
        // what the old connection has not had is among what is replayed
        self.out.clear();
        self.disconnect = false;
        self.count(None);
        self.wire = Some(wire);
        self.count_attached();
        let now = self.now();
        self.session.on_resume(n, grant, now, &mut self.effects);
    }

    fn take_done(&mut self, done: Done) {
        match done {
            Done::SignedIn(signed_in) => match *signed_in {
                Ok(signed_in) => self.signed_in = Some(Box::new(signed_in)),
                Err(refusal) => {
                    let now = self.now();
                    self.session
                        .on_authenticated(Err(refusal), now, &mut self.effects);
                }
            },
            Done::Renewed(renewed) => self.session.on_renewed(renewed, &mut self.effects),
            Done::Presences(presences) => self.session.on_presences(presences, &mut self.effects),
            Done::Response(id, answer) => self.session.on_response(id, *answer, &mut self.effects),
        }
    }

    /// Goes on with a broken session of this edge, or begins one.
    async fn begin(&mut self, signed_in: SignedIn) {
        let SignedIn {
            mut grant,
            device,
            class,
            status,
            resume,
        } = signed_in;
        if let Some((id, n)) = resume {
            let old = self
                .edge
                .registry
                .get(id)
                .filter(|h| h.user == grant.user && h.device == device);
            match (old, self.wire.take()) {
                (Some(old), Some(wire)) => {
                    grant.session = id;
                    let (back, answer) = oneshot::channel();
                    let item = Item::Resume(Box::new(Resume {
                        wire,
                        n,
                        grant,
                        back,
                    }));
                    let returned = match old.mailbox.push(item, self.edge.mailbox) {
                        Ok(()) => answer.await.ok(),
                        Err(Item::Resume(resume)) => Some((resume.wire, resume.grant)),
                        Err(_) => None,
                    };
                    let Some((wire, mut back)) = returned else {
                        // the session goes on with it
                        let now = self.now();
                        self.session.on_authenticated(
                            Err(Refusal::new(Code::Replaced, "resumed")),
                            now,
                            &mut self.effects,
                        );
                        self.effects.clear();
                        return;
                    };
                    back.session = self.edge.doors.rng.session_id();
                    self.wire = Some(wire);
                    grant = back;
                }
                (_, wire) => {
                    self.edge.metrics.not_resumed.add(1);
                    self.wire = wire;
                }
            }
        }
        let handle = Arc::new(Handle::new(
            grant.session,
            grant.user.clone(),
            device,
            class,
            status,
        ));
        self.handle = Some(Arc::clone(&handle));
        self.count_attached();
        let now = self.now();
        // its Welcome is queued before anything else can come
        self.session
            .on_authenticated(Ok(grant), now, &mut self.effects);
        self.edge.registry.insert(&handle);
        self.perform();
        if self.edge.is_draining() {
            self.draining();
        }
    }

    fn count_attached(&mut self) {
        let carrier = self.wire.as_ref().map(|w| w.carrier());
        self.count(carrier);
    }

    fn count(&mut self, carrier: Option<Carrier>) {
        let Some(handle) = &self.handle else { return };
        if let Some(old) = self.carrier.take() {
            self.edge.metrics.sessions(old, handle.class).add(-1);
        }
        if let Some(new) = carrier {
            self.edge.metrics.sessions(new, handle.class).add(1);
        }
        self.carrier = carrier;
    }

    fn lost(&mut self) {
        self.wire = None;
        self.out.clear();
        self.count(None);
        let now = self.now();
        self.session.on_lost(now, &mut self.effects);
        self.perform();
    }

    fn perform(&mut self) {
        if self.effects.is_empty() {
            return;
        }
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain(..) {
            self.perform_one(effect);
        }
        if effects.capacity() <= 64 {
            self.effects = effects;
        }
    }

    fn perform_one(&mut self, effect: Effect) {
        match effect {
            Effect::Send(frame) => {
                if self.wire.is_some() {
                    self.out.push_back(frame);
                }
                return;
            }
            Effect::Refused(code) => {
                self.edge.metrics.refuse(code);
                return;
            }
            Effect::Authenticate(hello) => {
                let sign_in = Arc::clone(&self.edge.sign_in);
                self.jobs
                    .push(async move { Done::SignedIn(Box::new(sign_in.verify(*hello).await)) });
                return;
            }
            Effect::Disconnect => {
                self.disconnect = true;
                return;
            }
            Effect::End(at_once) => {
                self.at_once = at_once;
                return;
            }
            _ => {}
        }
        let Some(handle) = &self.handle else { return };
        match effect {
            Effect::Submit(conversation, submit) => {
                self.edge.submits.submit(
                    conversation,
                    Origin::Session(Arc::clone(handle)),
                    *submit,
                );
            }
            Effect::Typing(conversation, active) => {
                self.edge
                    .submits
                    .typing(&handle.user, &handle.device, conversation, active);
            }
            Effect::Receipt(conversation, mark) => {
                self.edge
                    .receipts
                    .add((handle.user.clone(), conversation), mark);
            }
            Effect::Sync(have) => {
                self.jobs.sync = Some(self.edge.syncer.start(handle.user.clone(), have).boxed());
            }
            Effect::Snapshot => {
                let (asks, user) = (Arc::clone(&self.edge.asks), handle.user.clone());
                // best effort: changes come by themselves
                self.jobs.push(async move {
                    Done::Presences(asks.presences(&user).await.unwrap_or_default())
                });
            }
            Effect::Ask(id, op) => {
                let (asks, handle) = (Arc::clone(&self.edge.asks), Arc::clone(handle));
                self.jobs.push(async move {
                    Done::Response(
                        id,
                        Box::new(asks.ask(&handle.user, &handle.device, *op).await),
                    )
                });
            }
            Effect::Renew(token) => {
                let sign_in = Arc::clone(&self.edge.sign_in);
                self.jobs
                    .push(async move { Done::Renewed(sign_in.renew(&token).await) });
            }
            Effect::Status(status, message) => self.edge.registry.status(handle, status, message),
            Effect::Attached(attached) => self.edge.registry.attached(handle, attached),
            _ => {}
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Written> {
        let Some(wire) = &mut self.wire else {
            return Poll::Ready(Written::All);
        };
        while !self.out.is_empty() {
            match wire.poll_ready(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(())) => return Poll::Ready(Written::Gone),
                Poll::Pending => return Poll::Pending,
            }
            if let Some(frame) = self.out.pop_front() {
                self.edge.metrics.frames_out.add(1);
                if wire.start_send(&frame).is_err() {
                    return Poll::Ready(Written::Gone);
                }
            }
        }
        wire.poll_flush(cx).map(|flushed| {
            if flushed.is_ok() {
                Written::All
            } else {
                Written::Gone
            }
        })
    }

    async fn write(&mut self) -> Written {
        if self.wire.is_none() || self.out.is_empty() {
            return Written::All;
        }
        let written = match poll_fn(|cx| Poll::Ready(self.poll_write(cx))).await {
            Poll::Ready(written) => written,
            Poll::Pending => Box::pin(self.write_slowly()).await,
        };
        if self.out.is_empty() && self.out.capacity() > 64 {
            self.out = VecDeque::new();
        }
        if let (Some(at), Written::All) = (self.sample.take(), &written) {
            let took = self.now().saturating_sub(at);
            self.edge
                .metrics
                .deliver_ms
                .record(took.as_secs_f64() * 1000.0);
        }
        written
    }

    /// Waits for a device that does not take everything at once, for as long as it takes something.
    async fn write_slowly(&mut self) -> Written {
        let stall = self.edge.stall;
        loop {
            let left = self.out.len();
            let attempt = timeout(
                stall,
                poll_fn(|cx| {
                    if let Poll::Ready(written) = self.poll_write(cx) {
                        return Poll::Ready(written);
                    }
                    match &self.handle {
                        Some(handle) => handle
                            .mailbox
                            .poll_urgent(cx)
                            .map(|()| Written::Interrupted),
                        None => Poll::Pending,
                    }
                }),
            )
            .await;
            match attempt {
                Ok(written) => return written,
                Err(_) if self.out.len() < left => {}
                Err(_) => return Written::Stalled,
            }
        }
    }

    /// Writes the last frames and closes the connection.
    async fn let_go(&mut self) {
        self.disconnect = false;
        self.count(None);
        if let Some(handle) = self.handle.take_if(|_| self.session.is_over()) {
            self.edge.registry.remove(&handle, self.at_once);
        }
        let written = timeout(LAST, poll_fn(|cx| self.poll_write(cx))).await;
        self.out.clear();
        if let (Some(mut wire), Ok(Written::All)) = (self.wire.take(), written) {
            wire.close(LAST).await;
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.count(None);
        if let Some(handle) = self.handle.take() {
            self.edge.registry.remove(&handle, self.at_once);
        }
    }
}
