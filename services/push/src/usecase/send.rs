//! Sending to a device: attempts, few at once to one service, until it ends.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use tandem_chassis::Doors;
use tandem_kernel::Code;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::{
    config::Config,
    domain::{backoff::Backoff, notification::Notice},
    metrics::Metrics,
    ports::{Channel, Outcome, Target},
};

/// How a device's notification ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// The channel has taken it.
    Delivered,
    /// The device is not reached there any more.
    Dead,
    /// Nobody need be notified any more.
    Confirmed,
    /// It will not be tried again, and why.
    GivenUp(Code, String),
}

/// Sends.
pub struct Sender {
    channel: Arc<dyn Channel>,
    doors: Doors,
    metrics: Metrics,
    per_service: usize,
    most_retrying: usize,
    retrying: AtomicUsize,
    services: Mutex<BTreeMap<String, Arc<Semaphore>>>,
}

impl Sender {
    /// Sends by `channel`.
    pub fn new(channel: Arc<dyn Channel>, doors: Doors, metrics: Metrics, config: &Config) -> Self {
        Self {
            channel,
            doors,
            metrics,
            per_service: config.per_service,
            most_retrying: config.retrying,
            retrying: AtomicUsize::new(0),
            services: Mutex::default(),
        }
    }

    /// Tries until it ends.
    pub async fn send(
        &self,
        target: &Target,
        notice: &Notice<'_>,
        confirmed: &CancellationToken,
        backoff: Backoff,
    ) -> End {
        let begun = self.doors.clock.monotonic();
        let service = self.service(target);
        let mut failed = 0;
        loop {
            let Ok(permit) = service.acquire().await else {
                return End::GivenUp(Code::Internal, "no more requests to this service".into());
            };
            if confirmed.is_cancelled() {
                return End::Confirmed;
            }
            let outcome = self.channel.send(target, notice).await;
            drop(permit);
            let (after, reason) = match outcome {
                Outcome::Delivered => return End::Delivered,
                Outcome::Dead => return End::Dead,
                Outcome::Refused { code, reason } => return End::GivenUp(code, reason),
                Outcome::Retry { after, reason } => (after, reason),
            };
            failed += 1;
            let elapsed = self.doors.clock.monotonic().saturating_sub(begun);
            let delay = backoff.next(failed, elapsed, after, self.doors.rng.u64());
            let room = self.retrying.load(Ordering::Relaxed) < self.most_retrying;
            let Some(delay) = delay.filter(|_| room) else {
                return End::GivenUp(Code::Unavailable, reason);
            };
            self.metrics.retried.add(1);
            let _waiting = Retrying::new(self);
            tokio::select! {
                biased;
                () = confirmed.cancelled() => return End::Confirmed,
                () = tokio::time::sleep(delay) => {}
            }
        }
    }

    fn service(&self, target: &Target) -> Arc<Semaphore> {
        let name = self.channel.service(target);
        let mut services = self.services.lock();
        if services.len() >= 1_024 {
            services.retain(|_, s| Arc::strong_count(s) > 1);
        }
        let new = || Arc::new(Semaphore::new(self.per_service));
        Arc::clone(services.entry(name).or_insert_with(new))
    }
}

/// Counts a notification that waits for another attempt.
struct Retrying<'a>(&'a Sender);

impl<'a> Retrying<'a> {
    fn new(sender: &'a Sender) -> Self {
        let now = sender.retrying.fetch_add(1, Ordering::Relaxed) + 1;
        sender.metrics.retrying.set(now as i64);
        Self(sender)
    }
}

impl Drop for Retrying<'_> {
    fn drop(&mut self) {
        let now = self.0.retrying.fetch_sub(1, Ordering::Relaxed) - 1;
        self.0.metrics.retrying.set(now as i64);
    }
}
