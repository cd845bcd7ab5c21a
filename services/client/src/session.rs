//! Keeps a session open: connects, says hello, pumps frames, renews the token, and comes back after a
//! break. All decisions about conversations are the core's.

use std::{future::pending, sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use tandem_proto::client::{
    Bye, ClientFrame, Closing, Hello, RenewToken, SetPresence, client_frame, server_frame,
};

use crate::{
    carrier::{Broken, Connection},
    client::{Options, Watched},
    domain::Update,
    shared::Shared,
    token::{Token, TokenError},
};

/// Codes with which a connection may be tried again, whatever `reconnect_after_ms` says: a new token is
/// fetched at each.
const PASSING: [&str; 6] = [
    "token_expired",
    "idle_timeout",
    "slow_reader",
    "draining",
    "unavailable",
    "internal",
];

/// How a connection ended.
enum End {
    /// The caller wanted it.
    Stopped,
    /// It is not to be tried again.
    Refused { code: String, message: String },
    /// It is to be tried again, after the time if one was named.
    Broken {
        reason: String,
        after: Option<Duration>,
        opened: bool,
    },
}

impl End {
    fn broken(reason: &dyn std::fmt::Display, opened: bool) -> Self {
        Self::Broken {
            reason: reason.to_string(),
            after: None,
            opened,
        }
    }
}

/// Runs until the client is dropped, stopped or refused.
pub(crate) async fn run(shared: Arc<Shared>, options: Options) {
    let mut failures = 0u32;
    loop {
        let end = tokio::select! {
            end = connection(&shared, &options) => end,
            () = shared.stop.cancelled() => End::Stopped,
        };
        shared.core.lock().disconnected();
        let (reason, after, opened) = match end {
            End::Stopped => {
                let (code, message) = ("stopped".to_owned(), String::new());
                shared.core.lock().tell(Update::Closed { code, message });
                break;
            }
            End::Refused { code, message } => {
                shared.core.lock().tell(Update::Closed { code, message });
                break;
            }
            End::Broken {
                reason,
                after,
                opened,
            } => (reason, after, opened),
        };
        failures = if opened {
            0
        } else {
            failures.saturating_add(1)
        };
        // spread out, so that those whom one break hits do not come back as one; and never at once
        let doubled = options.retry_min * 2u32.saturating_pow(failures.min(16) + 2);
        let spread = doubled
            .min(options.retry_max)
            .saturating_sub(options.retry_min);
        let jitter = options.doors.rng.below(spread.as_millis() as u64 + 1);
        let pause = options.retry_min + Duration::from_millis(jitter);
        let retry_in = after.map_or(pause, |after| after.max(options.retry_min));
        tracing::debug!(%reason, ?retry_in, "connection broke");
        shared
            .core
            .lock()
            .tell(Update::Disconnected { reason, retry_in });
        shared.deliver();
        tokio::select! {
            () = tokio::time::sleep(retry_in) => {}
            () = shared.stop.cancelled() => {}
        }
    }
    shared.ended();
}

async fn connection(shared: &Shared, options: &Options) -> End {
    let token = match options.tokens.token().await {
        Ok(token) => token,
        Err(TokenError::Refused(message)) => {
            return End::Refused {
                code: "token_invalid".into(),
                message,
            };
        }
        Err(e) => return End::broken(&e, false),
    };
    let mut connection = match Connection::open(&options.doors, &options.server).await {
        Ok(connection) => connection,
        Err(e) => return End::broken(&e, false),
    };
    let mut hello = shared.core.lock().hello();
    hello.token.clone_from(&token.token);
    hello.device = Some(options.device.clone());
    hello.status = shared.presence.lock().0.into();
    let end = pump(shared, options, &mut connection, hello, &token).await;
    if matches!(end, End::Stopped) {
        let bye = ClientFrame {
            ack: 0,
            frame: Some(client_frame::Frame::Bye(Bye {})),
        };
        let _ = connection.send([bye]).await;
    }
    connection.close().await;
    end
}

/// When, from now on, a token is to be renewed: after four fifths of the time that it has left.
fn renew_in(options: &Options, token: &Token) -> Option<Duration> {
    let left = token.expires_at?.since(options.doors.clock.unix());
    Some((left * 4 / 5).max(Duration::from_secs(1)))
}

async fn pump(
    shared: &Shared,
    options: &Options,
    connection: &mut Connection,
    hello: Hello,
    token: &Token,
) -> End {
    let clock = &options.doors.clock;
    let hello = ClientFrame {
        ack: 0,
        frame: Some(client_frame::Frame::Hello(hello)),
    };
    let leaves = |frame: &ClientFrame| {
        if let Some(watch) = &options.watch {
            watch(Watched::Leaves(frame));
        }
    };
    leaves(&hello);
    if let Err(e) = connection.send([hello]).await {
        return End::broken(&e, false);
    }
    let (mut sent, mut heard) = (clock.monotonic(), clock.monotonic());
    let mut renew_at = renew_in(options, token).map(|d| clock.monotonic() + d);
    let mut renewal: Option<BoxFuture<'_, Result<Token, TokenError>>> = None;
    let mut frames = Vec::new();
    let (mut opened, mut resumed, mut greeted) = (false, false, false);
    let mut closing: Option<Closing> = None;
    loop {
        let now = clock.monotonic();
        let (mut out, wait) = shared.core.lock().take_out(now);
        shared.deliver();
        let heartbeat = if opened {
            shared.core.lock().heartbeat()
        } else {
            Duration::from_secs(4)
        };
        let (mut next, dead) = (sent + heartbeat, heard + heartbeat * 5 / 2);
        if out.is_empty() && opened && now >= next {
            out.push(shared.core.lock().ping());
        }
        if now >= dead {
            return End::broken(&Broken::Timeout, opened);
        }
        if !out.is_empty() {
            out.iter().for_each(leaves);
            if let Err(e) = connection.send(out).await {
                return End::broken(&e, opened);
            }
            sent = clock.monotonic();
            next = sent + heartbeat;
        }
        if renewal.is_none() && renew_at.is_some_and(|at| now >= at) {
            renewal = Some(options.tokens.token().boxed());
        }
        // at least once a second, for pages to be asked for again
        let until = [
            Some(next),
            Some(dead),
            renew_at.filter(|_| renewal.is_none()),
            wait.map(|w| now + w),
        ]
        .into_iter()
        .flatten()
        .min()
        .unwrap_or(next)
        .saturating_sub(now)
        .clamp(Duration::from_millis(1), Duration::from_secs(1));
        tokio::select! {
            received = connection.receive(&mut frames) => {
                heard = clock.monotonic();
                let mut core = shared.core.lock();
                for frame in frames.drain(..) {
                    if let Some(watch) = &options.watch {
                        watch(Watched::Came(&frame));
                    }
                    match &frame.frame {
                        Some(server_frame::Frame::Welcome(w)) => (opened, resumed) = (true, w.resumed),
                        Some(server_frame::Frame::Closing(c)) => closing = Some(c.clone()),
                        _ => {}
                    }
                    core.on_frame(frame, heard);
                }
                if opened && !greeted {
                    greeted = true;
                    let (status, message) = shared.presence.lock().clone();
                    // a resumed session still has the message of before
                    if !message.is_empty() || resumed {
                        let set = SetPresence { status: status.into(), message };
                        core.say(client_frame::Frame::SetPresence(set));
                    }
                }
                drop(core);
                if let Err(e) = received {
                    return after(closing, &e, opened);
                }
            }
            () = shared.wake.notified() => {}
            () = tokio::time::sleep(until) => shared.core.lock().tick(),
            renewed = async {
                match renewal.as_mut() {
                    Some(renewal) => renewal.await,
                    None => pending().await,
                }
            } => {
                renewal = None;
                renew_at = match renewed {
                    Ok(token) => {
                        let at = renew_in(options, &token).map(|d| clock.monotonic() + d);
                        let frame = RenewToken { token: token.token };
                        shared.core.lock().say(client_frame::Frame::RenewToken(frame));
                        at
                    }
                    Err(e) => {
                        tracing::debug!(error = %e, "token not renewed yet");
                        Some(clock.monotonic() + Duration::from_secs(5))
                    }
                };
            }
            () = shared.stop.cancelled() => {
                // what was queued just before still leaves
                let (out, _) = shared.core.lock().take_out(clock.monotonic());
                out.iter().for_each(leaves);
                let _ = connection.send(out).await;
                return End::Stopped;
            }
        }
    }
}

/// What follows from the end of a connection that may have been announced.
fn after(closing: Option<Closing>, e: &Broken, opened: bool) -> End {
    let Some(closing) = closing else {
        return End::broken(e, opened);
    };
    if closing.reconnect_after_ms > 0 {
        let after = Some(Duration::from_millis(closing.reconnect_after_ms.into()));
        return End::Broken {
            reason: closing.code,
            after,
            opened,
        };
    }
    if PASSING.contains(&closing.code.as_str()) {
        return End::broken(&closing.code, opened);
    }
    End::Refused {
        code: closing.code,
        message: closing.message,
    }
}
