//! What the service does, one file a kind of call.

pub(crate) mod accounts;
pub(crate) mod contacts;
pub(crate) mod find;
pub(crate) mod publish;
pub(crate) mod push_tokens;
pub(crate) mod resume;
pub(crate) mod sign_in;

use std::sync::Arc;

use tandem_chassis::Doors;
use tandem_kernel::{Address, Code};
use tandem_log::Log;
use tandem_store::Store;
use tokio::sync::{Mutex, MutexGuard};

use crate::{config::Config, error::Error, metrics::Metrics};

/// Locks by which changes of one user wait for each other in this process.
const STRIPES: usize = 256;

/// How often a put-if that another process was faster than is tried.
const TRIES: usize = 64;

/// What every use case stands on.
pub(crate) struct Service {
    pub doors: Doors,
    pub log: Arc<dyn Log>,
    pub store: Arc<dyn Store>,
    pub config: Config,
    pub metrics: Metrics,
    locks: Vec<Mutex<()>>,
}

impl Service {
    pub(crate) fn new(
        doors: Doors,
        log: Arc<dyn Log>,
        store: Arc<dyn Store>,
        config: Config,
    ) -> Self {
        let locks = (0..STRIPES).map(|_| Mutex::default()).collect();
        Self {
            doors,
            log,
            store,
            config,
            metrics: Metrics::new(),
            locks,
        }
    }

    /// Spares put-ifs that would fail; correctness rests on the put-ifs. Never hold two.
    async fn lock(&self, user: &Address) -> MutexGuard<'_, ()> {
        let key = user.as_str().as_bytes();
        let stripe = tandem_kernel::seq::partition_of(key, STRIPES as u32);
        self.locks[stripe as usize].lock().await
    }
}

fn contended<T>() -> Result<T, Error> {
    Err(Error::refused(
        Code::Unavailable,
        "others keep changing the same account: try again",
    ))
}

pub(crate) fn address(text: &str) -> Result<Address, Error> {
    Address::parse(text).map_err(|e| Error::refused(Code::InvalidArgument, e.to_string()))
}

fn no_account(user: &Address) -> Error {
    Error::refused(
        Code::NoAccount,
        format!("there is no account {user}, or it is closed"),
    )
}
