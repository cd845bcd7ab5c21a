//! Work that blocks (disk): on tokio's blocking threads, or in place when simulated.

#![allow(clippy::disallowed_methods, reason = "this is the door to threads")]

/// Where blocking work runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    /// On the runtime's blocking threads.
    Pool,
    /// In place, in the order of the calls: deterministic.
    Inline,
}

/// The work panicked, or the runtime is going down.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("blocking work did not end")]
pub struct Unfinished;

impl Threads {
    /// Runs `work` to its end and returns what it returned. Work that was begun is not cancelled
    /// when the future is dropped.
    pub async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Unfinished> {
        match self {
            Self::Pool => tokio::task::spawn_blocking(work)
                .await
                .map_err(|_| Unfinished),
            Self::Inline => Ok(work()),
        }
    }
}
