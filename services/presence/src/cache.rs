//! Relations as accounts has them, kept in memory and invalidated by the topic `accounts`.
//!
//! What is returned is at least as new as the newest change that the topic had shown before the call.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt, stream};
use moka::sync::Cache;
use tandem_chassis::{Doors, grpc::Channel};
use tandem_kernel::Address;
use tandem_proto::accounts::{RelationsRequest, accounts_client::AccountsClient};

use crate::{config::Config, domain::relations::Relations, error::Error};

/// Changed accounts whose versions are remembered, for loads that are on their way meanwhile.
const VERSIONS: u64 = 65_536;

/// Loads at once.
const AT_ONCE: usize = 32;

/// How often relations that changed while they were loaded are loaded again.
const TRIES: usize = 4;

type Kept<V> = Cache<Address, V, ahash::RandomState>;

/// The cache.
pub(crate) struct RelationsCache {
    accounts: AccountsClient<Channel>,
    timeout: Duration,
    kept: Kept<Arc<Relations>>,
    versions: Kept<u64>,
}

impl RelationsCache {
    pub(crate) fn new(accounts: Channel, doors: &Doors, config: &Config) -> Self {
        let seed = || doors.rng.u64();
        let hasher = ahash::RandomState::with_seeds(seed(), seed(), seed(), seed());
        Self {
            accounts: AccountsClient::new(accounts),
            timeout: Duration::from_millis(config.accounts_timeout_ms),
            kept: Cache::builder()
                .max_capacity(config.contacts_cached)
                .weigher(|_, r: &Arc<Relations>| {
                    u32::try_from(r.mutual().len())
                        .unwrap_or(u32::MAX)
                        .saturating_add(1)
                })
                .build_with_hasher(hasher.clone()),
            versions: Cache::builder()
                .max_capacity(VERSIONS)
                .build_with_hasher(hasher),
        }
    }

    /// If they are in memory.
    pub(crate) fn peek(&self, user: &Address) -> Option<Arc<Relations>> {
        self.kept.get(user)
    }

    /// The relations of a user; nobody's if there is no such account.
    pub(crate) async fn get(&self, user: &Address) -> Result<Arc<Relations>, Error> {
        if let Some(relations) = self.kept.get(user) {
            return Ok(relations);
        }
        for _ in 0..TRIES {
            let relations = Arc::new(self.load(user).await?);
            self.kept.insert(user.clone(), Arc::clone(&relations));
            // the follower notes the version first and looks here then: one of the two sees the other
            if self
                .versions
                .get(user)
                .is_none_or(|v| v <= relations.version)
            {
                return Ok(relations);
            }
            self.kept.invalidate(user);
        }
        Err(Error::Accounts(
            "relations older than their newest change".to_owned(),
        ))
    }

    /// The relations of users, in their order.
    pub(crate) async fn get_many(&self, users: &[Address]) -> Vec<Result<Arc<Relations>, Error>> {
        let loads = users.iter().map(|user| self.get(user).boxed());
        stream::iter(loads.collect::<Vec<_>>())
            .buffered(AT_ONCE)
            .collect()
            .await
    }

    async fn load(&self, user: &Address) -> Result<Relations, Error> {
        let request = RelationsRequest {
            user: user.to_string(),
        };
        let mut accounts = self.accounts.clone();
        match tokio::time::timeout(self.timeout, accounts.relations(request)).await {
            Ok(Ok(response)) => Ok(Relations::read(response.get_ref())),
            Ok(Err(status)) => Err(Error::Accounts(status.message().to_owned())),
            Err(_) => Err(Error::Accounts("no answer in time".to_owned())),
        }
    }

    /// The account has this version by now.
    pub(crate) fn changed(&self, user: &Address, version: u64) {
        let newest = self.versions.get(user).map_or(version, |v| v.max(version));
        self.versions.insert(user.clone(), newest);
        if self.kept.get(user).is_some_and(|r| r.version < newest) {
            self.kept.invalidate(user);
        }
    }

    /// Changes may have been missed.
    pub(crate) fn forget_all(&self) {
        self.kept.invalidate_all();
    }
}
