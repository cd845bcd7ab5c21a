//! A line: the one connection to one process, made anew whenever it is lost.
//!
//! A call waits for an attempt to connect that is under way (or that it causes), and fails with it.
//! What cannot be sent is handed back, so that its caller may send it elsewhere without sending it twice.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::{Request, Response, Uri, uri};
use http_body_util::BodyExt;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    sync::{Notify, watch},
    time::{sleep, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::body::Body;

use super::heard::Heard;
use crate::{Doors, Lifecycle, metrics::Counter, tls::Tls};

type Sender = http2::SendRequest<Body>;
type Io = TokioIo<Heard>;
type Connection = http2::Connection<Io, Body, TokioExecutor>;

/// Two attempts to connect do not begin within this time.
const SPACING: Duration = Duration::from_millis(100);
/// Longest pause between two attempts that nobody asked for.
const MAX_PAUSE: Duration = Duration::from_secs(2);
/// A connection that broke within this time was none.
const SETTLED: Duration = Duration::from_secs(1);
/// How often a call that finds its connection closing is given to the next one.
const HANDOVERS: usize = 3;

/// How lines connect.
pub(super) struct Dialer {
    pub doors: Doors,
    pub lifecycle: Lifecycle,
    pub tls: Option<Tls>,
    /// Longest time to connect, up to the peer's first octets.
    pub connect: Duration,
    /// A peer is asked for a sign of life so often...
    pub keepalive: Duration,
    /// ...and is given up when it gives none within this time.
    pub keepalive_timeout: Duration,
}

impl Dialer {
    /// Connects to `addr`, whose certificate must be good for `name`. Done once the peer has spoken:
    /// a frozen one's machine still accepts connections, and one that refuses our certificate
    /// says so after the handshake.
    async fn dial(&self, addr: &str, name: &str) -> Result<(Sender, Connection), String> {
        let dialing = async {
            let io = self.doors.net.connect(addr).await;
            let io = io.map_err(|e| format!("cannot connect: {e}"))?;
            let io = match &self.tls {
                Some(tls) => tls
                    .connect(name, io)
                    .await
                    .map_err(|e| format!("tls: {e}"))?,
                None => io,
            };
            let (io, heard) = Heard::new(io);
            let (sender, mut connection) = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .keep_alive_interval(self.keepalive)
                .keep_alive_timeout(self.keepalive_timeout)
                .keep_alive_while_idle(true)
                .handshake(TokioIo::new(io))
                .await
                .map_err(|e| reason(&e))?;
            tokio::select! {
                biased;
                ended = &mut connection => Err(match ended {
                    Ok(()) => "the peer closed the connection".to_owned(),
                    Err(e) => reason(&e),
                }),
                Ok(()) = heard => Ok((sender, connection)),
            }
        };
        timeout(self.connect, dialing)
            .await
            .unwrap_or_else(|_| Err("the peer does not answer".to_owned()))
    }
}

/// The error with its causes.
fn reason(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(e) = source {
        text.push_str(": ");
        text.push_str(&e.to_string());
        source = e.source();
    }
    text
}

enum State {
    /// Nobody has asked for a connection.
    Idle,
    Connecting,
    Up(Sender),
    /// The last attempt failed.
    Down(Arc<str>),
}

/// What is known of the connection, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    Up,
    Unknown,
    Down,
}

struct Shared {
    addr: String,
    name: Arc<str>,
    state: watch::Sender<State>,
    /// A call wants an attempt.
    wanted: Notify,
    /// Connect unasked, and again when the connection is lost.
    keep: AtomicBool,
    /// Calls under way, until their answers have ended.
    open: AtomicUsize,
}

/// A line. Cheap to clone; with the last clone the connection goes, once what is under way has ended.
#[derive(Clone)]
pub(super) struct Line {
    shared: Arc<Shared>,
    _alive: Arc<DropGuard>,
}

/// Why there is no answer.
pub(super) struct Failure {
    /// The call, if it certainly never reached the peer.
    pub unsent: Option<Request<Body>>,
    pub reason: String,
}

impl Line {
    /// A line to `addr`, whose certificate must be good for `name`. Unless it is to `keep` a
    /// connection, it makes one when there is a call. `lost` is told when a connection or an attempt fails.
    pub fn new(dialer: Arc<Dialer>, addr: String, name: Arc<str>, keep: bool, lost: Lost) -> Self {
        let shared = Arc::new(Shared {
            addr,
            name,
            state: watch::Sender::new(if keep { State::Connecting } else { State::Idle }),
            wanted: Notify::new(),
            keep: AtomicBool::new(keep),
            open: AtomicUsize::new(0),
        });
        let alive = CancellationToken::new();
        let lifecycle = dialer.lifecycle.clone();
        let driver = drive(Arc::clone(&shared), dialer, lost, alive.clone());
        lifecycle.spawn_support("grpc.line", driver);
        Self {
            shared,
            _alive: Arc::new(alive.drop_guard()),
        }
    }

    /// The peer's address.
    pub fn addr(&self) -> &str {
        &self.shared.addr
    }

    /// Calls under way.
    pub fn load(&self) -> usize {
        self.shared.open.load(Ordering::Relaxed)
    }

    pub fn standing(&self) -> Standing {
        match &*self.shared.state.borrow() {
            State::Up(sender) if !sender.is_closed() => Standing::Up,
            State::Idle | State::Connecting | State::Up(_) => Standing::Unknown,
            State::Down(_) => Standing::Down,
        }
    }

    /// Connects no more unless asked.
    pub fn retire(&self) {
        self.shared.keep.store(false, Ordering::Relaxed);
    }

    /// Sends the call; the answer's head comes back.
    pub async fn send(&self, request: Request<Body>) -> Result<Response<Body>, Failure> {
        let open = Open::new(&self.shared);
        let mut request = to(&self.shared.name, request);
        for _ in 0..HANDOVERS {
            let mut sender = match self.sender().await {
                Ok(sender) => sender,
                Err(reason) => {
                    let reason = format!("{}: {reason}", self.shared.addr);
                    return Err(Failure {
                        unsent: Some(request),
                        reason,
                    });
                }
            };
            match sender.try_send_request(request).await {
                Ok(response) => {
                    return Ok(response.map(|body| {
                        // the call is open for as long as its answer
                        Body::new(body.map_frame(move |frame| {
                            let _open = &open;
                            frame
                        }))
                    }));
                }
                Err(mut error) => {
                    let Some(back) = error.take_message() else {
                        let reason = format!("{}: {}", self.shared.addr, reason(error.error()));
                        return Err(Failure {
                            unsent: None,
                            reason,
                        });
                    };
                    request = back;
                }
            }
        }
        let reason = format!("{}: connections close as they come up", self.shared.addr);
        Err(Failure {
            unsent: Some(request),
            reason,
        })
    }

    async fn sender(&self) -> Result<Sender, Arc<str>> {
        let mut state = self.shared.state.subscribe();
        let mut asked = false;
        loop {
            match &*state.borrow_and_update() {
                State::Up(sender) if !sender.is_closed() => return Ok(sender.clone()),
                State::Down(reason) if asked => return Err(Arc::clone(reason)),
                State::Idle | State::Down(_) => self.shared.wanted.notify_one(),
                State::Up(_) | State::Connecting => {}
            }
            asked = true;
            if state.changed().await.is_err() {
                return Err("the line is closed".into());
            }
        }
    }
}

/// Told when a connection or an attempt to connect fails.
#[derive(Clone)]
pub(super) struct Lost {
    pub notify: Arc<Notify>,
    pub count: Counter,
}

/// Counts a call while it is under way.
struct Open(Arc<Shared>);

impl Open {
    fn new(shared: &Arc<Shared>) -> Self {
        shared.open.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(shared))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// HTTP/2 wants to know the scheme and whom it speaks to.
fn to(name: &str, mut request: Request<Body>) -> Request<Body> {
    let path = request.uri().path_and_query().cloned();
    let uri = Uri::builder()
        .scheme(uri::Scheme::HTTP)
        .authority(name)
        .path_and_query(path.unwrap_or_else(|| uri::PathAndQuery::from_static("/")))
        .build();
    if let Ok(uri) = uri {
        *request.uri_mut() = uri;
    }
    *request.version_mut() = http::Version::HTTP_2;
    request
}

/// Keeps the connection, until no handle is left.
async fn drive(shared: Arc<Shared>, dialer: Arc<Dialer>, lost: Lost, alive: CancellationToken) {
    let clock = Arc::clone(&dialer.doors.clock);
    let mut failures: u32 = 0;
    loop {
        let keep = shared.keep.load(Ordering::Relaxed);
        let pause = match (keep, failures) {
            (false, _) => Duration::MAX,
            (true, 0) => Duration::ZERO,
            (true, n) => jittered(
                &dialer.doors,
                SPACING.saturating_mul(1 << n.min(8)).min(MAX_PAUSE),
            ),
        };
        tokio::select! {
            () = alive.cancelled() => return,
            () = shared.wanted.notified() => {}
            () = sleep(pause) => {}
        }
        let began = clock.monotonic();
        shared.state.send_replace(State::Connecting);
        let dialed = tokio::select! {
            () = alive.cancelled() => return,
            dialed = dialer.dial(&shared.addr, &shared.name) => dialed,
        };
        let mut settled = false;
        let ended = match dialed {
            Ok((sender, connection)) => {
                let up = clock.monotonic();
                tracing::debug!(peer = shared.addr, service = &*shared.name, "connected");
                shared.state.send_replace(State::Up(sender));
                let ended = hold(connection, &shared, &alive).await;
                if alive.is_cancelled() {
                    return;
                }
                settled = clock.monotonic().saturating_sub(up) >= SETTLED;
                ended.map_err(|e| reason(&e))
            }
            Err(error) => Err(error),
        };
        lost.count.add(1);
        lost.notify.notify_one();
        let (peer, service) = (&shared.addr, &*shared.name);
        match ended {
            Err(error) if !settled => {
                if failures == 0 {
                    tracing::warn!(peer, service, error, "no connection");
                }
                failures += 1;
                shared.state.send_replace(State::Down(error.into()));
            }
            ended => {
                let error = ended.err();
                tracing::info!(peer, service, error, "a connection ended");
                failures = 0;
                let keep = shared.keep.load(Ordering::Relaxed);
                let next = if keep { State::Connecting } else { State::Idle };
                shared.state.send_replace(next);
            }
        }
        let since = clock.monotonic().saturating_sub(began);
        tokio::select! {
            () = alive.cancelled() => return,
            () = sleep(SPACING.saturating_sub(since)) => {}
        }
    }
}

/// Runs the connection to its end. Without handles it ends by itself, once nothing is under way.
async fn hold(
    connection: Connection,
    shared: &Shared,
    alive: &CancellationToken,
) -> hyper::Result<()> {
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = alive.cancelled() => {}
    }
    shared.state.send_replace(State::Idle);
    connection.await
}

/// Between half of it and all.
fn jittered(doors: &Doors, pause: Duration) -> Duration {
    let millis = pause.as_millis() as u64;
    Duration::from_millis(millis / 2 + doors.rng.below(millis / 2 + 1))
}
