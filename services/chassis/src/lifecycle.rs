//! One lifecycle a process: ready, soft stop (drain), hard stop, and the tasks that must end.
//!
//! Once `stopping()` is true it never becomes false. Readiness turns false before anything drains.

use std::{future::Future, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// What it means when a task ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnEnd {
    /// It had something to do, and did it.
    Fine,
    /// Without it the process is of no use: stop everything, exit code 70.
    Stop,
}

/// How the process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// Asked to stop, and everything drained in time. Exit code 0.
    Clean,
    /// Asked to stop, but something was still running at the deadline, or a second signal came. Exit code 1.
    Aborted,
    /// A task that must not end did. Exit code 70.
    Failed(String),
}

impl Exit {
    /// The process' exit code (see sysexits.h).
    pub fn code(&self) -> u8 {
        match self {
            Self::Clean => 0,
            Self::Aborted => 1,
            Self::Failed(_) => 70,
        }
    }
}

#[derive(Debug, Default)]
struct Inner {
    soft: CancellationToken,
    hard: CancellationToken,
    tasks: TaskTracker,
    ready: watch::Sender<bool>,
    failed: Mutex<Option<String>>,
}

/// The process' (or, in tests, one suite's) lifecycle. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Lifecycle(Arc<Inner>);

impl Lifecycle {
    /// A new one, not ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// Everything is up: readiness turns true, unless stopping has begun.
    pub fn set_ready(&self) {
        if !self.stopping() {
            self.0.ready.send_replace(true);
        }
    }

    /// Whether traffic is welcome.
    pub fn is_ready(&self) -> bool {
        *self.0.ready.borrow() && !self.stopping()
    }

    /// Readiness as it changes.
    pub fn readiness(&self) -> watch::Receiver<bool> {
        self.0.ready.subscribe()
    }

    /// Begins the soft stop: readiness turns false, then tasks drain.
    pub fn stop(&self) {
        self.0.soft.cancel();
        self.0.ready.send_replace(false);
    }

    /// Begins the hard stop: what still runs ends where it stands.
    pub fn abort(&self) {
        self.stop();
        self.0.hard.cancel();
    }

    /// Whether the soft stop has begun.
    pub fn stopping(&self) -> bool {
        self.0.soft.is_cancelled()
    }

    /// Waits for the soft stop.
    pub async fn stopped(&self) {
        self.0.soft.cancelled().await;
    }

    /// Spawns a task that is waited for at the end and dropped at the hard stop. `name` is for logs.
    /// A task that should drain watches [`Lifecycle::stopped`].
    pub fn spawn(
        &self,
        name: &'static str,
        on_end: OnEnd,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        self.0.tasks.spawn(self.guarded(name, on_end, task));
    }

    /// Spawns a task that others lean on while they drain, such as a connection to another service.
    /// Nothing waits for it; it is dropped at the hard stop, which ends every drain.
    pub fn spawn_support(
        &self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        tokio::spawn(self.guarded(name, OnEnd::Fine, task));
    }

    fn guarded(
        &self,
        name: &'static str,
        on_end: OnEnd,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> impl Future<Output = ()> + Send + 'static {
        let this = self.clone();
        async move {
            let hard = this.0.hard.clone();
            let mut guard = EndGuard {
                lifecycle: &this,
                name,
                on_end,
                ended: false,
            };
            tokio::select! {
                () = hard.cancelled() => {}
                () = task => {}
            }
            guard.ended = true;
        }
    }

    /// Records that the process must stop because of `reason`.
    pub fn fail(&self, reason: String) {
        tracing::error!(%reason, "a task that must not end did");
        self.0.failed.lock().get_or_insert(reason);
        self.stop();
    }

    /// Waits for the soft stop, then for all tasks, at most `drain` long; then aborts the rest.
    pub async fn run_to_end(&self, drain: Duration) -> Exit {
        self.stopped().await;
        self.0.tasks.close();
        let clean = tokio::select! {
            done = tokio::time::timeout(drain, self.0.tasks.wait()) => done.is_ok(),
            () = self.0.hard.cancelled() => false,
        };
        self.abort();
        if !clean {
            // tasks that are dropped where they stand still need a moment to be dropped
            let _ = tokio::time::timeout(Duration::from_secs(1), self.0.tasks.wait()).await;
        }
        match self.0.failed.lock().take() {
            Some(reason) => Exit::Failed(reason),
            None if clean => Exit::Clean,
            None => Exit::Aborted,
        }
    }

    /// SIGTERM or SIGINT begins the soft stop; a second one the hard stop.
    pub fn stop_on_signals(&self) -> std::io::Result<()> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut term = signal(SignalKind::terminate())?;
        let mut int = signal(SignalKind::interrupt())?;
        let this = self.clone();
        tokio::spawn(async move {
            for count in 0.. {
                tokio::select! {
                    _ = term.recv() => {}
                    _ = int.recv() => {}
                }
                if count == 0 {
                    tracing::info!("stopping: draining; signal again to abort");
                    this.stop();
                } else {
                    tracing::warn!("aborting");
                    this.abort();
                    return;
                }
            }
        });
        Ok(())
    }
}

/// Notices a task's end however it comes, panics included.
struct EndGuard<'a> {
    lifecycle: &'a Lifecycle,
    name: &'static str,
    on_end: OnEnd,
    ended: bool,
}

impl Drop for EndGuard<'_> {
    fn drop(&mut self) {
        if self.lifecycle.stopping() {
            return;
        }
        if !self.ended && std::thread::panicking() {
            tracing::error!(task = self.name, "task panicked");
        }
        if self.on_end == OnEnd::Stop {
            self.lifecycle.fail(format!("task {} ended", self.name));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot::error::TryRecvError;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stop_waits_for_tasks_that_drain() {
        let l = Lifecycle::new();
        l.set_ready();
        let inner = l.clone();
        l.spawn("drainer", OnEnd::Fine, async move {
            inner.stopped().await;
            tokio::time::sleep(Duration::from_secs(3)).await;
        });
        l.stop();
        assert!(!l.is_ready());
        assert_eq!(l.run_to_end(Duration::from_secs(5)).await, Exit::Clean);
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_drain_in_time_is_aborted() {
        let l = Lifecycle::new();
        l.spawn("stuck", OnEnd::Fine, std::future::pending());
        l.stop();
        assert_eq!(l.run_to_end(Duration::from_secs(5)).await, Exit::Aborted);
    }

    #[tokio::test(start_paused = true)]
    async fn what_others_lean_on_runs_until_the_drain_is_over_and_is_not_waited_for() {
        let l = Lifecycle::new();
        let (held, mut ended) = tokio::sync::oneshot::channel::<()>();
        l.spawn_support("support", async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        let (inner, (tell, told)) = (l.clone(), tokio::sync::oneshot::channel());
        l.spawn("drainer", OnEnd::Fine, async move {
            inner.stopped().await;
            tokio::time::sleep(Duration::from_secs(3)).await;
            let _ = tell.send((ended.try_recv(), ended));
        });
        l.stop();
        assert_eq!(l.run_to_end(Duration::from_secs(5)).await, Exit::Clean);
        let (while_draining, ended) = told.await.unwrap();
        assert_eq!(while_draining, Err(TryRecvError::Empty));
        assert!(ended.await.is_err(), "it was dropped at the end");
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_a_vital_task_stops_the_process() {
        let l = Lifecycle::new();
        l.spawn("vital", OnEnd::Stop, async {});
        let exit = l.run_to_end(Duration::from_secs(5)).await;
        assert_eq!(exit, Exit::Failed("task vital ended".into()));
        assert_eq!(exit.code(), 70);
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_in_a_vital_task_stops_the_process() {
        let l = Lifecycle::new();
        l.spawn("vital", OnEnd::Stop, async { assert!(l_true(), "boom") });
        assert_eq!(l.run_to_end(Duration::from_secs(5)).await.code(), 70);
    }

    fn l_true() -> bool {
        false
    }
}
