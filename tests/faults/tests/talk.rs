//! The talk on the suite in one process, without engines and without faults but its own end.

use std::{ffi::OsString, sync::Arc, time::Duration};

use tandem_chassis::{Doors, Lifecycle, grpc, rng::Rng, server};
use tandem_checker::{Excuse, Guarantee, What};
use tandem_client::{DevIssuer, DevTokenRequest, TokenSource};
use tandem_faults::{
    Result,
    cast::Cast,
    gateway::Gateway,
    judge,
    process::{Process, Spec},
    record::Recorder,
    run,
    stage::{self, Ground},
};

const DOMAIN: &str = "tandem.test";
/// What a killed process delays.
const DELAYED: [Guarantee; 4] = [Guarantee::G1, Guarantee::G4, Guarantee::G5, Guarantee::G6];

/// A port that no client's connection can hold (see the e2e tests).
fn port() -> u16 {
    10_000 + (std::process::id() % 20_000) as u16
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_talk_through_two_kills_of_the_suite_in_one_process_is_clean() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (doors, lifecycle) = (Doors::real(), Lifecycle::new());
    let addr = format!("127.0.0.1:{}", port());
    let mut command: Vec<OsString> = vec![run::program()?.into(), "up".into()];
    command.extend(["--listen".into(), addr.clone().into()]);
    command.extend(["--data-dir".into(), dir.path().join("data").into()]);
    for key in [
        "accounts.allow_http",
        "push.allow_http",
        "push.allow_private",
    ] {
        command.extend(["--set".into(), format!("{key}_endpoints=true").into()]);
    }
    let log = dir.path().join("up.log");
    let up = Process::new("up", Spec { command, log });
    up.start()?;

    let rng = Rng::from_seed(1);
    let cast = Arc::new(Cast::new(16, DOMAIN, "p", &rng));
    let file = dir.path().join("record.jsonl");
    let recorder = Recorder::create(&doors, &cast, &file, "a talk on up")?;
    let gateway = Gateway::new(recorder.clone());
    let at = server::serve(&doors, &lifecycle, "127.0.0.1:0", gateway.routes()).await?;
    let (issuer_doors, authority) = (doors.clone(), addr.clone());
    let ground = Ground {
        doors: doors.clone(),
        edges: vec![addr.clone()],
        accounts: grpc::remote(&doors, &addr)?,
        tokens: Box::new(move |user| -> Arc<dyn TokenSource> {
            Arc::new(DevIssuer {
                doors: issuer_doors.clone(),
                authority: authority.clone(),
                request: DevTokenRequest {
                    user: user.to_owned(),
                    ..DevTokenRequest::default()
                },
            })
        }),
        gateway: Some((gateway, format!("http://{at}"))),
    };
    let talk = stage::set(&ground, cast, &recorder, &rng, &lifecycle).await?;
    talk.start(100.0, &rng, &lifecycle);
    for fault in 1..=2 {
        talk.go_on();
        tokio::time::sleep(Duration::from_secs(6)).await;
        let excuse = |guarantee: &Guarantee| Excuse {
            guarantee: *guarantee,
            recovery_us: 20_000_000,
            most_us: None,
        };
        recorder.fact(What::FaultBegan {
            fault,
            kind: "kill".into(),
            excuses: DELAYED.iter().map(excuse).collect(),
        });
        up.kill();
        tokio::time::sleep(Duration::from_secs(1)).await;
        up.start()?;
        recorder.fact(What::FaultEnded { fault });
        tokio::time::sleep(Duration::from_secs(6)).await;
        let unsettled = talk.settle(Duration::from_mins(1)).await;
        assert!(unsettled.is_empty(), "{unsettled:#?}");
    }
    talk.close().await?;
    let verdict = judge::judge(&recorder, true, 6).await?;
    assert!(
        verdict.is_clean(),
        "{verdict}\nrecord: {}",
        dir.keep().display()
    );
    Ok(())
}
