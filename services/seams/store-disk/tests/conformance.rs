//! The store on disk passes the whole suite, simulated (work in place, a paused clock) and for real.

#![allow(clippy::unwrap_used, reason = "a test may fail so")]

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use parking_lot::Mutex;
use tandem_chassis::{Doors, Lifecycle};
use tandem_store::{
    Store,
    conformance::{Harness, ONE, TWO},
};
use tandem_store_disk::{DiskStore, Options};

struct Disk {
    folder: tempfile::TempDir,
    doors: Doors,
    lifecycle: Lifecycle,
    store: Mutex<Option<Arc<DiskStore>>>,
}

impl Disk {
    async fn open(&self) {
        let options = Options {
            memtable_bytes: 64 << 10,
            ..Options::default()
        };
        let store = DiskStore::open(
            self.folder.path(),
            self.doors.clone(),
            &self.lifecycle,
            &options,
        )
        .unwrap();
        store.ensure_table(ONE).await.unwrap();
        store.ensure_table(TWO).await.unwrap();
        *self.store.lock() = Some(store);
    }
}

#[async_trait]
impl Harness for Disk {
    async fn fresh() -> Self {
        tokio::time::pause();
        let disk = Self {
            folder: tempfile::tempdir().unwrap(),
            doors: Doors::for_test(1),
            lifecycle: Lifecycle::new(),
            store: Mutex::default(),
        };
        disk.open().await;
        disk
    }

    fn store(&self) -> Arc<dyn Store> {
        Arc::clone(self.store.lock().as_ref().unwrap()) as Arc<dyn Store>
    }

    async fn advance(&self, by: Duration) {
        tokio::time::advance(by).await;
    }

    async fn reopen(&self) {
        *self.store.lock() = None;
        self.open().await;
    }
}

tandem_store::conformance_suite!(Disk);

mod on_threads {
    use super::*;

    struct Threaded(Disk);

    #[async_trait]
    impl Harness for Threaded {
        async fn fresh() -> Self {
            let disk = Disk {
                folder: tempfile::tempdir().unwrap(),
                doors: Doors::real(),
                lifecycle: Lifecycle::new(),
                store: Mutex::default(),
            };
            disk.open().await;
            Self(disk)
        }

        fn store(&self) -> Arc<dyn Store> {
            self.0.store()
        }

        async fn advance(&self, by: Duration) {
            tokio::time::sleep(by).await;
        }

        async fn reopen(&self) {
            self.0.reopen().await;
        }
    }

    tandem_store::conformance_suite!(Threaded);
}
