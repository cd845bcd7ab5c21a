//! The gate that every request passes: so many under way, so many waiting, the others refused; tried again
//! where that does no harm; measured.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use tandem_chassis::{
    Doors,
    metrics::{Counter, Gauge, Histogram},
};
use tandem_store::StoreError;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{
    Config,
    error::{Failure, Kind},
};

/// Before a request is tried again, at first; twice as long each time.
const PAUSE: Duration = Duration::from_millis(25);

/// Bounds of the histogram, in seconds.
const BOUNDS: [f64; 12] = [
    0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
];

/// What is asked of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    Get,
    GetMany,
    Range,
    Write,
    PutIf,
}

impl Asked {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Get, "get"),
        (Self::GetMany, "get_many"),
        (Self::Range, "range"),
        (Self::Write, "write"),
        (Self::PutIf, "put_if"),
    ];
}

/// The gate.
pub(crate) struct Gate {
    doors: Doors,
    permits: Semaphore,
    waiting: AtomicUsize,
    max_waiting: usize,
    wait: Duration,
    attempts: u32,
    took: Vec<Histogram>,
    errors: Vec<Counter>,
    refused: Counter,
    in_flight: Gauge,
}

struct Under<'a>(
    &'a Gate,
    #[allow(dead_code, reason = "held")] SemaphorePermit<'a>,
);

impl Drop for Under<'_> {
    fn drop(&mut self) {
        self.0.in_flight.add(-1);
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Gate {
    pub fn new(config: &Config, doors: Doors) -> Self {
        let took = Asked::ALL.map(|(_, name)| {
            Histogram::new(
                "tandem.store.request",
                "s",
                "time that requests to the store's cluster took",
                &BOUNDS,
                &[("operation", name)],
            )
        });
        let errors = Kind::ALL.map(|kind| {
            Counter::new(
                "tandem.store.errors",
                "{request}",
                "attempts at requests to the store's cluster that failed",
                &[("kind", kind.as_str())],
            )
        });
        Self {
            doors,
            permits: Semaphore::new(config.max_in_flight),
            waiting: AtomicUsize::new(0),
            max_waiting: config.max_waiting,
            wait: Duration::from_millis(config.wait_timeout_ms),
            attempts: config.attempts,
            took: took.into(),
            errors: errors.into(),
            refused: Counter::new(
                "tandem.store.refused",
                "{request}",
                "requests that found too many others before them",
                &[],
            ),
            in_flight: Gauge::new(
                "tandem.store.in_flight",
                "{request}",
                "requests to the store's cluster that are under way",
                &[],
            ),
        }
    }

    async fn enter(&self) -> Result<Under<'_>, StoreError> {
        let permit = if let Ok(permit) = self.permits.try_acquire() {
            permit
        } else {
            let before = self.waiting.fetch_add(1, Ordering::Relaxed);
            let _waiting = Waiting(&self.waiting);
            let in_time = async {
                if before >= self.max_waiting {
                    return None;
                }
                let permit = tokio::time::timeout(self.wait, self.permits.acquire()).await;
                permit.ok()?.ok()
            };
            in_time.await.ok_or_else(|| {
                self.refused.add(1);
                StoreError::Unavailable("too many requests before this one".into())
            })?
        };
        self.in_flight.add(1);
        Ok(Under(self, permit))
    }

    /// One attempt.
    pub async fn once<T>(
        &self,
        asked: Asked,
        request: impl Future<Output = Result<T, Failure>>,
    ) -> Result<Result<T, Failure>, StoreError> {
        let _under = self.enter().await?;
        let began = self.doors.clock.monotonic();
        let answer = request.await;
        let took = self.doors.clock.monotonic().saturating_sub(began);
        self.took[asked as usize].record(took.as_secs_f64());
        if let Err(failure) = &answer {
            self.errors[failure.kind as usize].add(1);
        }
        Ok(answer)
    }

    /// As often as is worth it: the request does no harm when it is done twice.
    pub async fn run<T, F>(&self, asked: Asked, request: impl Fn() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let mut attempt = 1;
        loop {
            match self.once(asked, request()).await? {
                Ok(answer) => return Ok(answer),
                Err(failure) if failure.kind.may_pass() && attempt < self.attempts => {
                    tracing::debug!(kind = failure.kind.as_str(), attempt, "trying again");
                    self.pause(attempt).await;
                    attempt += 1;
                }
                Err(failure) => return Err(failure.into()),
            }
        }
    }

    /// Waits before the next attempt.
    pub async fn pause(&self, attempt: u32) {
        let most = PAUSE * 2_u32.saturating_pow(attempt.min(8));
        let jitter = self.doors.rng.below(most.as_millis() as u64 / 2 + 1);
        tokio::time::sleep(most / 2 + Duration::from_millis(jitter)).await;
    }

    /// How often a request is tried.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn every_operation_and_kind_has_its_instrument() {
        for (at, (asked, _)) in Asked::ALL.iter().enumerate() {
            assert_eq!(*asked as usize, at);
        }
        for (at, kind) in Kind::ALL.iter().enumerate() {
            assert_eq!(*kind as usize, at);
        }
    }

    fn gate() -> Arc<Gate> {
        let config = Config {
            max_in_flight: 2,
            max_waiting: 3,
            wait_timeout_ms: 1_000,
            ..Config::default()
        };
        Arc::new(Gate::new(&config, Doors::for_test(1)))
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_are_under_way_so_many_wait_and_the_others_are_refused() {
        let gate = gate();
        let mut asked = tokio::task::JoinSet::new();
        for _ in 0..10 {
            let gate = Arc::clone(&gate);
            asked.spawn(async move {
                let request = tokio::time::sleep(Duration::from_mins(1));
                let request = async {
                    request.await;
                    Ok(())
                };
                gate.once(Asked::Get, request).await.is_ok()
            });
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!((gate.in_flight.get(), gate.refused.get()), (2, 5));
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!((gate.in_flight.get(), gate.refused.get()), (2, 8));
        let done = asked.join_all().await;
        assert_eq!(done.iter().filter(|d| **d).count(), 2);
        assert_eq!(gate.in_flight.get(), 0);
        let after = gate.once(Asked::Get, async { Ok(()) }).await;
        assert!(after.is_ok_and(|a| a.is_ok()));
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_pass_is_tried_again_and_what_may_not_is_not() {
        let gate = gate();
        for (kind, attempts) in [(Kind::Timeout, 3), (Kind::Refused, 1)] {
            let tried = AtomicUsize::new(0);
            let answer: Result<(), _> = gate
                .run(Asked::Write, || async {
                    tried.fetch_add(1, Ordering::Relaxed);
                    Err(Failure {
                        kind,
                        reason: "test".into(),
                        undone: false,
                    })
                })
                .await;
            assert!(matches!(answer, Err(StoreError::Unavailable(_))));
            assert_eq!(tried.load(Ordering::Relaxed), attempts);
        }
    }
}
