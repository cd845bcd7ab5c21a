//! One call: its deadline, and whom it is sent to, and again where that is safe.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use tokio::time::{sleep, timeout};
use tonic::{Status, body::Body};
use tower::Service;

use super::{
    BoxError,
    line::{Failure, Line},
    methods,
    set::Set,
};
use crate::{metrics::Counter, rng::Rng};

/// gRPC's header for the time that a call has left.
const TIMEOUT: &str = "grpc-timeout";
/// The first pause before a call is tried again; it doubles.
const PAUSE: Duration = Duration::from_millis(20);

/// How calls are treated.
pub(super) struct Rules {
    /// Longest time for a call that names none.
    pub deadline: Duration,
    /// How often one is tried again.
    pub retries: u32,
    pub rng: Rng,
    pub retried: Counter,
    pub overdue: Counter,
}

/// Whom a call may go to.
#[derive(Clone)]
pub(super) enum Route {
    /// This process alone.
    Line(Line),
    /// Any of them.
    Set(Arc<Set>),
}

/// Makes calls.
#[derive(Clone)]
pub(super) struct Caller {
    pub route: Route,
    pub rules: Arc<Rules>,
}

impl Service<Request<Body>> for Caller {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<Body>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move { Ok(this.answer(request).await) })
    }
}

impl Caller {
    async fn answer(&self, mut request: Request<Body>) -> Response<Body> {
        let path = request.uri().path();
        let (idempotent, streaming) = (methods::is_idempotent(path), methods::is_streaming(path));
        let limit = time_left(request.headers()).unwrap_or_else(|| {
            let limit = self.rules.deadline;
            if !streaming && let Ok(left) = HeaderValue::try_from(format!("{}m", limit.as_millis()))
            {
                request.headers_mut().insert(TIMEOUT, left);
            }
            limit
        });
        match timeout(limit, self.attempts(request, idempotent)).await {
            Ok(Ok(response)) => response,
            Ok(Err(reason)) => Status::unavailable(reason).into_http(),
            Err(_) => {
                self.rules.overdue.add(1);
                Status::deadline_exceeded("no answer in time").into_http()
            }
        }
    }

    async fn attempts(
        &self,
        request: Request<Body>,
        idempotent: bool,
    ) -> Result<Response<Body>, String> {
        let (mut request, copy) = if idempotent {
            let copy = Copy::of(request).await?;
            (copy.request(), Some(copy))
        } else {
            (request, None)
        };
        let mut tried = Vec::new();
        loop {
            let line = match &self.route {
                Route::Line(line) => line.clone(),
                Route::Set(set) => set.pick(&tried, &self.rules.rng).await?,
            };
            let Failure { unsent, reason } = match line.send(request).await {
                Ok(response) => return Ok(response),
                Err(failure) => failure,
            };
            // a process that was asked for by name stays the one that is meant
            let again = match &self.route {
                Route::Line(_) => None,
                Route::Set(_) => unsent.or_else(|| copy.as_ref().map(Copy::request)),
            };
            let n = tried.len() as u32;
            request = again.filter(|_| n < self.rules.retries).ok_or(reason)?;
            tried.push(line.addr().to_owned());
            self.rules.retried.add(1);
            let pause = PAUSE.saturating_mul(1 << n.min(8)).as_millis() as u64;
            sleep(Duration::from_millis(self.rules.rng.below(pause))).await;
        }
    }
}

/// A call that can be sent again.
struct Copy {
    head: http::request::Parts,
    body: Bytes,
}

impl Copy {
    async fn of(request: Request<Body>) -> Result<Self, String> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(|e| e.to_string())?.to_bytes();
        Ok(Self { head, body })
    }

    fn request(&self) -> Request<Body> {
        let body = Body::new(Full::new(self.body.clone()));
        Request::from_parts(self.head.clone(), body)
    }
}

/// The time that the call says it has left. One that cannot be read counts as none.
fn time_left(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let n: u64 = digits.parse().ok().filter(|_| digits.len() <= 8)?;
    match unit {
        "H" => Some(Duration::from_secs(n * 3600)),
        "M" => Some(Duration::from_secs(n * 60)),
        "S" => Some(Duration::from_secs(n)),
        "m" => Some(Duration::from_millis(n)),
        "u" => Some(Duration::from_micros(n)),
        "n" => Some(Duration::from_nanos(n)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_calls_own_deadline_is_read_as_grpc_writes_it() {
        let read = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(TIMEOUT, HeaderValue::from_static(text));
            time_left(&headers)
        };
        assert_eq!(read("250m"), Some(Duration::from_millis(250)));
        assert_eq!(read("2S"), Some(Duration::from_secs(2)));
        assert_eq!(read("99999999n"), Some(Duration::from_nanos(99_999_999)));
        for bad in ["", "m", "5", "5x", "-5m", "999999999m"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
