//! What the service does, one file a kind of input.

pub(crate) mod relation;
pub(crate) mod snapshot;
pub(crate) mod status;

use std::{collections::BTreeSet, sync::Arc};

use parking_lot::Mutex;
use tandem_chassis::Doors;
use tandem_ephemeral::{Ephemeral, Reach};
use tandem_kernel::{Address, Code};
use tandem_log::Log;
use tokio::sync::Notify;

use crate::{
    cache::RelationsCache, config::Config, domain::parcel::Sorter, edges::Edges, error::Error,
    metrics::Metrics,
};

/// What every use case stands on.
pub(crate) struct Service {
    pub doors: Doors,
    pub log: Arc<dyn Log>,
    pub ephemeral: Arc<dyn Ephemeral>,
    pub relations: RelationsCache,
    pub edges: Arc<Edges>,
    pub config: Config,
    pub metrics: Arc<Metrics>,
    /// Users who are said to have changed.
    pub changed: Mutex<BTreeSet<Address>>,
    pub wake: Notify,
    /// Users whose new status has not been told yet: accounts did not answer.
    pub untold: Mutex<BTreeSet<Address>>,
}

impl Service {
    /// Where each of the users is to be reached, in their order.
    async fn reach(&self, users: &[Address]) -> Result<Vec<Reach>, Error> {
        let mut reaches = Vec::with_capacity(users.len());
        for part in users.chunks(self.config.reach_batch) {
            reaches.extend(self.ephemeral.reach(part).await?);
        }
        Ok(reaches)
    }

    async fn send(&self, sorter: Sorter) {
        for (edge, parcel) in sorter.parcels(self.config.edge_batch) {
            self.edges.send(&edge, parcel).await;
        }
    }
}

pub(crate) fn address(text: &str) -> Result<Address, Error> {
    Address::parse(text).map_err(|e| Error::refused(Code::InvalidArgument, e.to_string()))
}
