//! The log on Kafka against the suite that every adapter passes: three brokers, three copies.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests are tests"
)]

mod common;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use common::Cluster;
use tandem_log::{Log, conformance::Harness};

#[async_trait]
impl Harness for Cluster {
    async fn fresh(&self) -> Arc<dyn Log> {
        self.reopen().await
    }

    async fn reopen(&self) -> Arc<dyn Log> {
        self.connect().await
    }

    fn unique(&self) -> String {
        self.run.clone()
    }

    /// Brokers look for what may go every five minutes.
    async fn forget(&self) -> bool {
        false
    }

    /// A group's change may take some of its heartbeats.
    fn patience(&self) -> Duration {
        common::PATIENCE
    }
}

tandem_log::conformance_suite!(Cluster::shared());
