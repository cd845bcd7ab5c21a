//! The log on disk against the suite that every adapter passes: on real threads and clocks, and again as a
//! simulation runs it.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use tandem_chassis::{Doors, Lifecycle};
use tandem_log::{Log, conformance::Harness};
use tandem_log_disk::{DiskLog, Options};

struct OnDisk {
    folder: tempfile::TempDir,
    doors: Doors,
    lifecycle: Lifecycle,
    open: Mutex<Option<Arc<DiskLog>>>,
}

impl OnDisk {
    fn new(doors: Doors) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            folder,
            doors,
            lifecycle: Lifecycle::new(),
            open: Mutex::default(),
        }
    }
}

#[async_trait]
impl Harness for OnDisk {
    async fn fresh(&self) -> Arc<dyn Log> {
        self.reopen().await
    }

    async fn reopen(&self) -> Arc<dyn Log> {
        let former = self.open.lock().take();
        if let Some(log) = former {
            log.close().await;
        }
        // little memory, so that readers meet the disk, too
        let options = Options {
            tail_bytes: 64 << 10,
            retention_every: None,
            ..Options::default()
        };
        let doors = self.doors.clone();
        let log = DiskLog::open(self.folder.path(), doors, options, &self.lifecycle)
            .await
            .unwrap();
        *self.open.lock() = Some(Arc::clone(&log));
        log
    }

    fn unique(&self) -> String {
        "case".into()
    }

    async fn forget(&self) -> bool {
        let log = self.open.lock().clone().unwrap();
        log.retain_now().await.unwrap();
        true
    }
}

mod real {
    use super::*;

    tandem_log::conformance_suite!(OnDisk::new(Doors::real()));
}

mod simulated {
    use super::*;

    tandem_log::conformance_suite!(
        #[tokio::test(start_paused = true)]
        OnDisk::new(Doors::for_test(1))
    );
}
