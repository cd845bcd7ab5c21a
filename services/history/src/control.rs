//! Pauses: those that a test wants, and those between attempts.

use std::time::Duration;

use tokio::sync::watch;

use crate::Config;

/// Longest pause between two attempts.
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// A hold on the reader, for tests: paused, it really reads nothing, and syncs stay open.
#[derive(Debug, Clone)]
pub struct HistoryControl {
    wanted: watch::Sender<bool>,
    is: watch::Receiver<bool>,
}

impl HistoryControl {
    /// A control, and the reader's side of it: what is wanted, and where it says what is.
    pub(crate) fn new() -> (Self, watch::Receiver<bool>, watch::Sender<bool>) {
        let (wanted, wanted_seen) = watch::channel(false);
        let (is_sender, is) = watch::channel(false);
        (Self { wanted, is }, wanted_seen, is_sender)
    }

    /// Stops the reader. Once it returns, nothing more is stored until [`HistoryControl::resume`].
    pub async fn pause(&self) {
        self.wanted.send_replace(true);
        let mut is = self.is.clone();
        // an error: the reader has ended, and stores nothing either
        let _ = is.wait_for(|paused| *paused).await;
    }

    /// Lets the reader go on.
    pub fn resume(&self) {
        self.wanted.send_replace(false);
    }
}

/// Pauses between attempts, each twice as long as the one before.
pub(crate) struct Pause {
    first: Duration,
    next: Duration,
}

impl Pause {
    pub fn new(config: &Config) -> Self {
        let first = Duration::from_millis(config.retry_ms);
        Self { first, next: first }
    }

    /// The next pause is the first again.
    pub fn reset(&mut self) {
        self.next = self.first;
    }

    pub async fn wait(&mut self) {
        let now = self.next;
        self.next = (now * 2).min(MAX_PAUSE);
        tokio::time::sleep(now).await;
    }
}
