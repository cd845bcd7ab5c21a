//! How far history is, durably, in each partition: what syncs wait for.
//!
//! The partitions that this process reads move on with its writes. The others' places are asked of the
//! log, and only while somebody waits for one of them.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tandem_chassis::Lifecycle;
use tandem_log::Log;
use tokio::sync::{Notify, oneshot};

use crate::{Error, domain::barrier::Barrier, metrics::Metrics};

/// How often the lag is measured.
const LAG_EVERY: Duration = Duration::from_secs(5);

#[derive(Default)]
struct Inner {
    barrier: Barrier,
    own: Vec<bool>,
    waiters: HashMap<u64, oneshot::Sender<()>, ahash::RandomState>,
}

/// The places, shared by the reader and the syncs.
pub(crate) struct Places {
    inner: Mutex<Inner>,
    others: Notify,
    metrics: Arc<Metrics>,
}

impl Places {
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            inner: Mutex::default(),
            others: Notify::new(),
            metrics,
        }
    }

    /// The topic has this many partitions. Waiters of before are kept if that is not new.
    pub fn set_partitions(&self, partitions: u32) {
        let mut inner = self.inner.lock();
        if inner.barrier.partitions() != partitions as usize {
            inner.barrier = Barrier::new(partitions as usize);
            inner.waiters.clear();
        }
        inner.own = vec![false; partitions as usize];
    }

    /// Number of partitions; 0: not known yet.
    pub fn partitions(&self) -> u32 {
        self.inner.lock().barrier.partitions() as u32
    }

    /// Whether this process reads the partition.
    pub fn set_own(&self, partition: u32, own: bool) {
        let mut inner = self.inner.lock();
        if let Some(o) = inner.own.get_mut(partition as usize) {
            *o = own;
        }
        self.look(&inner);
    }

    /// Everything below `place` is durable.
    pub fn advance(&self, partition: u32, place: u64) {
        let mut inner = self.inner.lock();
        for id in inner.barrier.advance(partition as usize, place) {
            if let Some(waiter) = inner.waiters.remove(&id) {
                let _ = waiter.send(());
            }
        }
        self.look(&inner);
    }

    fn look(&self, inner: &Inner) {
        self.metrics.waiters.set(inner.waiters.len() as i64);
        if waits_for_others(inner) {
            self.others.notify_one();
        }
    }

    /// Whether a sync waits for a place.
    pub fn awaited(&self) -> bool {
        !self.inner.lock().waiters.is_empty()
    }

    /// Whether all places have reached `ends`; if not, what ends when they have (or, with an error, when
    /// they never will). `ends` must name every partition.
    pub fn reach(self: &Arc<Self>, ends: &[u64]) -> Result<Option<Wait>, Error> {
        let mut inner = self.inner.lock();
        let partitions = inner.barrier.partitions();
        if partitions == 0 {
            return Err(Error::NotReady);
        }
        if ends.len() != partitions {
            let (given, text) = (ends.len(), "ends must name the end of each partition");
            return Err(Error::Invalid(format!("{text}: {partitions}, not {given}")));
        }
        let Some(id) = inner.barrier.wait(ends.to_vec()) else {
            return Ok(None);
        };
        let (sender, reached) = oneshot::channel();
        inner.waiters.insert(id, sender);
        self.look(&inner);
        Ok(Some(Wait {
            id,
            reached,
            places: Arc::clone(self),
        }))
    }

    /// Asks for the others' places while they are waited for, and measures the lag of the own ones.
    /// Ends with the lifecycle.
    pub async fn follow(
        self: Arc<Self>,
        log: Arc<dyn Log>,
        topic: String,
        poll: Duration,
        lifecycle: Lifecycle,
    ) {
        loop {
            tokio::select! {
                () = lifecycle.stopped() => return,
                () = self.others.notified() => self.ask_others(&log, &topic, poll, &lifecycle).await,
                () = tokio::time::sleep(LAG_EVERY) => self.measure(&log, &topic).await,
            }
        }
    }

    async fn ask_others(&self, log: &Arc<dyn Log>, topic: &str, poll: Duration, l: &Lifecycle) {
        while waits_for_others(&self.inner.lock()) && !l.stopping() {
            match log.committed(topic, crate::consumer::GROUP).await {
                Ok(places) => {
                    for (partition, place) in (0u32..).zip(places) {
                        self.advance(partition, place.unwrap_or(0));
                    }
                }
                Err(error) => {
                    self.metrics.retries.add(1);
                    tracing::warn!(%error, "cannot ask for the places of other replicas");
                }
            }
            tokio::time::sleep(poll).await;
        }
    }

    async fn measure(&self, log: &Arc<dyn Log>, topic: &str) {
        let Ok(ends) = log.end_offsets(topic).await else {
            return;
        };
        let inner = self.inner.lock();
        for ((partition, end), own) in (0u32..).zip(ends).zip(&inner.own) {
            let behind = end.saturating_sub(inner.barrier.place(partition as usize));
            // whoever reads a partition tells its lag
            self.metrics.lag(partition, if *own { behind } else { 0 });
        }
    }
}

fn waits_for_others(inner: &Inner) -> bool {
    !inner.waiters.is_empty()
        && inner
            .own
            .iter()
            .enumerate()
            .any(|(p, own)| !own && inner.barrier.waits_for(p))
}

/// Ends when the places are reached. Dropping it ends the waiting.
pub(crate) struct Wait {
    id: u64,
    reached: oneshot::Receiver<()>,
    places: Arc<Places>,
}

impl Wait {
    /// True once the places are reached; false if they never will be.
    pub async fn reached(&mut self) -> bool {
        (&mut self.reached).await.is_ok()
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        let mut inner = self.places.inner.lock();
        if inner.waiters.remove(&self.id).is_some() {
            inner.barrier.forget(self.id);
            self.places.metrics.waiters.set(inner.waiters.len() as i64);
        }
    }
}
