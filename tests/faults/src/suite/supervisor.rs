//! Starts again, as Kubernetes would, what ended by itself.

use std::{
    collections::BTreeSet,
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;

use super::Suite;

/// How often it looks.
const LOOK: Duration = Duration::from_millis(250);
/// How long a process is left dead.
const BACK_OFF: Duration = Duration::from_secs(1);

/// A process that ended by itself.
#[derive(Debug, Clone)]
pub struct Crash {
    /// Which.
    pub name: String,
    /// How.
    pub status: String,
}

/// What ended by itself, and what is not to be started.
#[derive(Debug, Default)]
pub struct Crashes {
    all: Mutex<Vec<Crash>>,
    held: Mutex<BTreeSet<String>>,
}

impl Crashes {
    /// Those so far.
    pub fn all(&self) -> Vec<Crash> {
        self.all.lock().clone()
    }

    /// Leaves this process alone.
    pub fn hold(&self, name: &str) {
        self.held.lock().insert(name.to_owned());
    }

    /// Looks after it again.
    pub fn release(&self, name: &str) {
        self.held.lock().remove(name);
    }
}

/// Looks after the services until the suite is gone.
pub(super) async fn watch(suite: Arc<Suite>) {
    let suite: Weak<Suite> = {
        let weak = Arc::downgrade(&suite);
        drop(suite);
        weak
    };
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(suite) = suite.upgrade() else { return };
        let mut dead = Vec::new();
        for replica in &suite.replicas {
            let name = &replica.process.name;
            let held = suite.crashes.held.lock().contains(name);
            if !held && let Some(status) = replica.process.ended() {
                let name = name.clone();
                suite.crashes.all.lock().push(Crash { name, status });
                dead.push(replica);
            }
        }
        if !dead.is_empty() {
            tokio::time::sleep(BACK_OFF).await;
        }
        for replica in dead {
            // one that cannot be started is found by whoever waits for it
            let _ = replica.process.start();
        }
    }
}
