//! Cassandra stopped for minutes: chat goes on, and history catches up by itself.

use std::{fmt, time::Duration};

use serde::Serialize;
use tandem_checker::What;

use crate::{
    Result,
    fault::{Engine, Fault},
    run::Scene,
    suite::{Role, Suite},
};

/// How often progress is looked at.
const LOOK: Duration = Duration::from_millis(250);
/// History has caught up when it is this many records behind: what is said within a second or so.
const LIVE: f64 = 200.0;
/// How long it may take.
const PATIENCE: Duration = Duration::from_mins(10);

/// How history caught up.
#[derive(Debug, Clone, Serialize)]
pub struct CaughtUp {
    /// How long Cassandra was stopped, in seconds.
    pub stopped_s: f64,
    /// Events accepted meanwhile.
    pub accepted_meanwhile: u64,
    /// Records of the log, receipts among them, that history was behind at the end of it.
    pub behind: u64,
    /// From then until it was with the live talk again, in seconds.
    pub took_s: f64,
    /// Events stored a second on the way, the live ones among them.
    pub events_per_s: f64,
    /// Records taken from the log a second on the way, receipts among them.
    pub records_per_s: f64,
}

impl fmt::Display for CaughtUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} events were accepted in {:.0} s without Cassandra; history was {} records behind, and \
             caught up in {:.1} s: {:.0} records/s, {:.0} of them events",
            self.accepted_meanwhile,
            self.stopped_s,
            self.behind,
            self.took_s,
            self.records_per_s,
            self.events_per_s
        )
    }
}

async fn behind(suite: &Suite) -> f64 {
    suite
        .metric(Role::History, "tandem_log_lag", "group=\"history\"")
        .await
}

async fn stored(suite: &Suite) -> (f64, f64) {
    let events = suite
        .metric(Role::History, "tandem_history_stored_total", "")
        .await;
    let receipts = suite
        .metric(Role::History, "tandem_history_receipts_total", "")
        .await;
    (events, events + receipts)
}

/// Stops it while people talk, lets it go on, and waits until history has everything.
pub async fn cassandra(scene: &Scene, away: Duration) -> Result<CaughtUp> {
    let suite = &scene.suite;
    scene.talk.go_on();
    let accepted = scene.recorder.count_accepted();
    let fault = u64::MAX;
    scene.recorder.fact(What::FaultBegan {
        fault,
        kind: format!("all of Cassandra stopped for {} s", away.as_secs()),
        excuses: Fault::CassandraFreeze.excuses(),
    });
    suite.stand_still(Engine::Cassandra, true);
    tokio::time::sleep(away).await;
    let accepted_meanwhile = scene.recorder.count_accepted() - accepted;
    let (from, lag) = (stored(suite).await, behind(suite).await);
    suite.stand_still(Engine::Cassandra, false);
    let began = scene.elapsed();
    let caught_up = async {
        while behind(suite).await > LIVE {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(PATIENCE, caught_up)
        .await
        .map_err(|_| "history does not catch up")?;
    let took_s = scene.elapsed().as_secs_f64() - began.as_secs_f64();
    let to = stored(suite).await;
    scene.recorder.fact(What::FaultEnded { fault });
    Ok(CaughtUp {
        stopped_s: away.as_secs_f64(),
        accepted_meanwhile,
        behind: lag as u64,
        took_s,
        events_per_s: (to.0 - from.0) / took_s,
        records_per_s: (to.1 - from.1) / took_s,
    })
}
