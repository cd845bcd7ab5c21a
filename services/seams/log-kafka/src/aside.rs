//! Work that blocks and that nobody waits for: ends of clients.

use tandem_chassis::{Doors, Lifecycle, lifecycle::OnEnd};

/// Where it is done.
#[derive(Clone)]
pub struct Aside {
    doors: Doors,
    lifecycle: Lifecycle,
}

impl Aside {
    pub fn new(doors: Doors, lifecycle: Lifecycle) -> Self {
        Self { doors, lifecycle }
    }

    /// Does it on a blocking thread; in place if the runtime is gone.
    pub fn run(&self, work: impl FnOnce() + Send + 'static) {
        if tokio::runtime::Handle::try_current().is_err() {
            work();
            return;
        }
        let threads = self.doors.threads;
        self.lifecycle
            .spawn("kafka client ends", OnEnd::Fine, async move {
                // it can only fail with the runtime, and then the client ends where it is dropped
                let _ = threads.run(work).await;
            });
    }
}
