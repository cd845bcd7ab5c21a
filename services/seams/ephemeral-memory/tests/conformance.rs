//! The ephemeral store in memory passes the whole suite.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tandem_chassis::Doors;
use tandem_ephemeral::{Ephemeral, conformance::Harness};
use tandem_ephemeral_memory::MemoryEphemeral;

struct Memory {
    memory: Arc<MemoryEphemeral>,
    store: Arc<dyn Ephemeral>,
}

#[async_trait]
impl Harness for Memory {
    async fn fresh() -> Self {
        tokio::time::pause();
        let memory = MemoryEphemeral::new(Doors::for_test(1));
        Self {
            store: Arc::clone(&memory) as Arc<dyn Ephemeral>,
            memory,
        }
    }

    fn store(&self) -> &Arc<dyn Ephemeral> {
        &self.store
    }

    async fn advance(&self, by: Duration) {
        tokio::time::advance(by).await;
    }

    async fn empty(&self) {
        self.memory.empty();
    }
}

tandem_ephemeral::conformance_suite!(Memory);
