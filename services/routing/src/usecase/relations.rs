//! Relations of subscribers, kept in memory.
//!
//! accounts owns them and says each change on the topic `accounts`. Relations of a version below one
//! that was seen there are never used.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt, stream};
use moka::sync::Cache;
use parking_lot::Mutex;
use prost::Message;
use tandem_chassis::{Doors, Lifecycle, grpc::Channel};
use tandem_kernel::{ACCOUNTS_TOPIC, Address, event::AccountChange};
use tandem_log::{Log, LogError, Next, Reader, Start};
use tandem_proto::accounts::{RelationsRequest, accounts_client::AccountsClient};

use crate::{config::Config, domain::relations::Relations, error::Error};

/// Relations asked for at once.
const LOADS: usize = 32;
/// How often relations that a change overtook are loaded again.
const OVERTAKEN: usize = 3;

#[derive(Clone)]
struct Entry {
    relations: Arc<Relations>,
    loaded_at: Duration,
}

/// The cache.
pub struct RelationsCache {
    client: AccountsClient<Channel>,
    doors: Doors,
    entries: Cache<Address, Entry, ahash::RandomState>,
    /// Versions seen on the topic lately.
    versions: Cache<Address, u64, ahash::RandomState>,
    /// Moves with each change of anybody's relations.
    epoch: AtomicU64,
    down_until: Mutex<Duration>,
    timeout: Duration,
    cooldown: Duration,
    refresh: Duration,
}

impl RelationsCache {
    pub fn new(channel: Channel, doors: Doors, config: &Config) -> Self {
        let size = config.relations_cached;
        let hasher = ahash::RandomState::new;
        Self {
            client: AccountsClient::new(channel),
            doors,
            entries: Cache::builder()
                .max_capacity(size)
                .build_with_hasher(hasher()),
            versions: Cache::builder()
                .max_capacity(size)
                .build_with_hasher(hasher()),
            epoch: AtomicU64::new(1),
            down_until: Mutex::new(Duration::ZERO),
            timeout: Duration::from_millis(config.accounts_timeout_ms),
            cooldown: Duration::from_millis(config.peer_cooldown_ms),
            refresh: Duration::from_millis(config.relations_refresh_ms),
        }
    }

    /// The relations, if they are in memory and were confirmed lately.
    pub fn get(&self, user: &Address, now: Duration) -> Option<Arc<Relations>> {
        let entry = self.entries.get(user)?;
        (now < entry.loaded_at + self.refresh).then_some(entry.relations)
    }

    /// Moves whenever anybody's relations may have become others.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Loads the relations of `users` into memory and returns them in their order.
    pub async fn load(&self, users: &[Address]) -> Result<Vec<Arc<Relations>>, Error> {
        if let [user] = users {
            return Ok(vec![self.load_one(user).await?]);
        }
        let loads = stream::iter(users.to_vec())
            .map(|user| async move { self.load_one(&user).await })
            .buffered(LOADS);
        let loaded: Vec<_> = loads.collect().await;
        loaded.into_iter().collect()
    }

    async fn load_one(&self, user: &Address) -> Result<Arc<Relations>, Error> {
        const DOWN: Error = Error::Peer("accounts");
        let now = self.doors.clock.monotonic();
        let held = self.entries.get(user);
        if let Some(entry) = &held
            && now < entry.loaded_at + self.refresh
        {
            return Ok(Arc::clone(&entry.relations));
        }
        if now < *self.down_until.lock() {
            // what was not overtaken by a change still holds
            return held.map(|e| e.relations).ok_or(DOWN);
        }
        for _ in 0..OVERTAKEN {
            let request = RelationsRequest {
                user: user.as_str().to_owned(),
            };
            let mut client = self.client.clone();
            let answer = tokio::time::timeout(self.timeout, client.relations(request)).await;
            let Ok(Ok(response)) = answer else {
                *self.down_until.lock() = self.doors.clock.monotonic() + self.cooldown;
                return self.entries.get(user).map(|e| e.relations).ok_or(DOWN);
            };
            let response = response.into_inner();
            let relations = Arc::new(Relations::from_response(&response));
            let loaded_at = self.doors.clock.monotonic();
            let changed = held
                .as_ref()
                .is_none_or(|h| h.relations.version != relations.version);
            self.entries.insert(
                user.clone(),
                Entry {
                    relations: Arc::clone(&relations),
                    loaded_at,
                },
            );
            if changed {
                self.epoch.fetch_add(1, Ordering::AcqRel);
            }
            // the follower notes a version first and then looks here: one of the two sees the other
            if self
                .versions
                .get(user)
                .is_none_or(|seen| relations.version >= seen)
            {
                return Ok(relations);
            }
            self.entries.invalidate(user);
        }
        Err(DOWN)
    }

    /// Someone's account changed.
    pub fn changed(&self, user: &Address, version: u64) {
        // two changes may lie on the topic in either order
        let newest = self.versions.get(user).map_or(version, |v| v.max(version));
        self.versions.insert(user.clone(), newest);
        if self
            .entries
            .get(user)
            .is_some_and(|e| e.relations.version < newest)
        {
            self.entries.invalidate(user);
        }
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }

    /// Forgets everything: changes may have been missed.
    fn clear(&self) {
        self.entries.invalidate_all();
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }
}

/// Follows the topic `accounts` from now on, until the process stops.
pub async fn follow(
    log: Arc<dyn Log>,
    cache: Arc<RelationsCache>,
    mut reader: Box<dyn Reader>,
    lifecycle: Lifecycle,
) {
    let mut wait = Duration::from_millis(100);
    loop {
        let next = tokio::select! {
            () = lifecycle.stopped() => return,
            next = reader.next() => next,
        };
        match next {
            Ok(Next::Records(_, records)) => {
                wait = Duration::from_millis(100);
                for stored in records {
                    apply(&cache, &stored.record.value);
                }
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, "following the topic accounts failed; beginning again");
                match again(&log, &mut wait, &lifecycle).await {
                    Some(new) => reader = new,
                    None => return,
                }
                cache.clear();
            }
        }
    }
}

fn apply(cache: &RelationsCache, value: &[u8]) {
    match AccountChange::decode(value).map(|c| (Address::parse(&c.user), c.version)) {
        Ok((Ok(user), version)) => cache.changed(&user, version),
        // whose it is cannot be said, so nobody's relations are certain
        Ok((Err(_), _)) | Err(_) => {
            tracing::warn!("a change of an account cannot be read; all relations are loaded again");
            cache.clear();
        }
    }
}

async fn again(
    log: &Arc<dyn Log>,
    wait: &mut Duration,
    lifecycle: &Lifecycle,
) -> Option<Box<dyn Reader>> {
    loop {
        tokio::select! {
            () = lifecycle.stopped() => return None,
            () = tokio::time::sleep(*wait) => {}
        }
        *wait = (*wait * 2).min(Duration::from_secs(5));
        match log.follow(ACCOUNTS_TOPIC, Start::Newest).await {
            Ok(reader) => return Some(reader),
            Err(LogError::Closed) => return None,
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use tandem_chassis::grpc::{LocalPeers, Peers};

    use super::*;

    #[tokio::test]
    async fn of_changes_that_lie_in_either_order_the_newest_counts() {
        let channel = LocalPeers::new().service("accounts");
        let cache = RelationsCache::new(channel, Doors::for_test(1), &Config::default());
        let user = Address::parse("a@x.test").unwrap();
        cache.changed(&user, 3);
        cache.changed(&user, 2);
        let relations = Arc::new(Relations::new(2, Vec::new(), Vec::new()));
        let loaded_at = Duration::ZERO;
        cache.entries.insert(
            user.clone(),
            Entry {
                relations,
                loaded_at,
            },
        );
        // told once more, as after a replay
        cache.changed(&user, 2);
        assert!(cache.entries.get(&user).is_none(), "older than the newest");
        assert_eq!(cache.versions.get(&user), Some(3));
    }
}
