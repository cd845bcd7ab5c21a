//! Makes events of what devices confirmed: one task, one timer, for all of an edge.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tandem_chassis::Doors;
use tandem_proto::client::{Body, Submit, body::Kind};
use tokio::{
    sync::{Notify, mpsc},
    time::sleep,
};

use crate::{
    domain::receipts::{Key, Mark, Receipts},
    metrics::Metrics,
    usecase::submits::{Origin, Submits},
};

/// The coalescer.
pub struct Coalescer {
    receipts: Mutex<Receipts>,
    wake: Notify,
    doors: Doors,
    metrics: Arc<Metrics>,
    submits: Arc<Submits>,
}

impl Coalescer {
    /// Merges for `delay`.
    pub fn new(
        delay: Duration,
        doors: Doors,
        metrics: Arc<Metrics>,
        submits: Arc<Submits>,
    ) -> Arc<Self> {
        let receipts = Mutex::new(Receipts::new(delay));
        Arc::new(Self {
            receipts,
            wake: Notify::new(),
            doors,
            metrics,
            submits,
        })
    }

    /// A device confirmed something.
    pub fn add(&self, key: Key, mark: Mark) {
        self.metrics.receipt_marks.add(1);
        let now = self.doors.clock.monotonic();
        if self.receipts.lock().add(key, mark, now) {
            self.wake.notify_one();
        }
    }

    /// Whether nothing waits to be said.
    pub fn is_empty(&self) -> bool {
        self.receipts.lock().next_due().is_none()
    }

    /// Says what falls due, for ever. `refused` names receipts that were refused for good.
    pub async fn run(&self, mut refused: mpsc::UnboundedReceiver<Key>) {
        loop {
            let due = self.receipts.lock().next_due();
            let now = self.doors.clock.monotonic();
            match due {
                Some(at) if at <= now => self.flush(now),
                Some(at) => sleep(at.saturating_sub(now)).await,
                None => tokio::select! {
                    () = self.wake.notified() => {}
                    Some(key) = refused.recv() => self.receipts.lock().forget(&key),
                },
            }
        }
    }

    fn flush(&self, now: Duration) {
        let due = self.receipts.lock().take_due(now);
        let at = self.doors.clock.unix();
        for (key, receipt) in due {
            self.metrics.receipts.add(1);
            let submit = Submit {
                event_id: self.doors.rng.event_id(at).to_string(),
                conversation: key.1.as_ref().to_owned(),
                to: String::new(),
                body: Some(Body {
                    kind: Some(Kind::Receipt(receipt)),
                }),
                retry: false,
            };
            self.submits
                .submit(Arc::clone(&key.1), Origin::Receipt(key), submit);
        }
    }
}
