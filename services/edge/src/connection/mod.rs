//! The one loop of each session: moves what comes from the device, the mailbox and the jobs into the
//! session, carries out its effects, and writes what results, all of it before each flush.

mod effects;
mod jobs;
mod write;

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tandem_kernel::Code;
use tandem_proto::client::Status;
use tokio::{
    sync::oneshot,
    time::{Instant, Sleep},
};

use self::{
    jobs::{Done, Jobs},
    write::Written,
};
use crate::{
    domain::{
        effect::{Effect, Refusal},
        frame::Frame,
        session::Session,
    },
    edge::Edge,
    mailbox::{Item, Resume},
    usecase::{registry::Handle, sign_in::SignedIn, sync::Step},
    wire::{Carrier, Incoming, Wire},
};

/// Most frames taken from a device before what results is written.
const FRAMES: usize = 32;
/// How long a connection that is let go may take for the last frames.
const LAST: Duration = Duration::from_secs(1);
/// The timer is never set further ahead.
const FAR: Duration = Duration::from_hours(24);

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
pub async fn run(edge: Arc<Edge>, wire: Box<Wire>) {
    let now = edge.doors.clock.monotonic();
    let session = Session::new(Arc::clone(&edge.rules), now);
    let at = session.wake_at();
    let mut connection = Connection {
        session,
        wire: Some(wire),
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
            // a sync that is to stop tells nothing more
            self.perform();
        }
        while let Poll::Ready(done) = self.jobs.poll_done(cx) {
            any = true;
            self.take_done(done);
        }
        if let Poll::Ready(presences) = self.jobs.poll_snapshot(cx) {
            any = true;
            self.session.on_presences(presences, &mut self.effects);
        }
        if let Poll::Ready(step) = self.jobs.poll_sync(cx) {
            any = true;
            match step {
                Step::From(ends) => self.session.on_sync_from(ends),
                Step::Part(heads, complete) => {
                    self.session.on_sync(heads, complete, &mut self.effects);
                }
            }
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
                Incoming::Alive => {
                    let now = self.now();
                    self.session.on_alive(now, &mut self.effects);
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
                Item::Unsynced => self.session.on_unsynced(&mut self.effects),
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
            status,
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
        if let (Some(status), Some(handle)) = (status, &self.handle) {
            self.edge.registry.status_again(handle, status);
        }
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
                        status,
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
            status.unwrap_or(Status::Online),
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
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.count(None);
        if let Some(handle) = self.handle.take() {
            self.edge.remove(&handle, self.at_once);
        }
    }
}
