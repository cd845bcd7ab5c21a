//! What a session waits for from other services.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures::{
    FutureExt, Stream, StreamExt,
    future::BoxFuture,
    stream::{BoxStream, FuturesUnordered},
};
use tandem_kernel::Address;
use tandem_proto::client::{Presence, response};

use crate::{
    domain::effect::Refusal,
    usecase::{sign_in::SignedIn, sync::Step},
};

pub(super) enum Done {
    SignedIn(Box<Result<SignedIn, Refusal>>),
    Renewed(Result<(Address, Duration), Refusal>),
    Response(u64, Box<Result<response::Result, Refusal>>),
}

/// What a session waits for from other services. Takes no heap while there is nothing.
#[derive(Default)]
pub(super) struct Jobs {
    pub(super) sync: Option<BoxStream<'static, Step>>,
    pub(super) snapshot: Option<BoxFuture<'static, Vec<Presence>>>,
    pub(super) open: Option<Box<FuturesUnordered<BoxFuture<'static, Done>>>>,
}

impl Jobs {
    pub(super) fn push(&mut self, job: impl Future<Output = Done> + Send + 'static) {
        self.open.get_or_insert_default().push(job.boxed());
    }

    pub(super) fn poll_done(&mut self, cx: &mut Context<'_>) -> Poll<Done> {
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

    pub(super) fn poll_snapshot(&mut self, cx: &mut Context<'_>) -> Poll<Vec<Presence>> {
        let Some(fetch) = &mut self.snapshot else {
            return Poll::Pending;
        };
        let fetched = fetch.as_mut().poll(cx);
        if fetched.is_ready() {
            self.snapshot = None;
        }
        fetched
    }

    pub(super) fn poll_sync(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
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
