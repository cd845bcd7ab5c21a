//! The talk on one process without engines: nothing is lost there, killed or not.

#![allow(clippy::unwrap_used, reason = "a test that cannot look fails")]

use std::{path::Path, sync::Arc, time::Duration};

use tandem_chassis::{Doors, Lifecycle, grpc, rng::Rng, server};
use tandem_client::{DevIssuer, DevTokenRequest, TokenSource};
use tandem_faults::{
    cast::Cast,
    gateway::Gateway,
    process::{Process, Spec},
    record::Recorder,
    stage::{self, Ground},
};

fn program() -> std::path::PathBuf {
    if let Some(p) = std::env::var_os("TANDEM_PROGRAM") {
        return p.into();
    }
    let tests = std::env::current_exe().unwrap();
    tests
        .parent()
        .and_then(Path::parent)
        .unwrap()
        .join("tandem")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_talk_through_two_kills_of_the_suite_in_one_process_is_clean() {
    let dir = tempfile::tempdir().unwrap();
    let doors = Doors::real();
    let lifecycle = Lifecycle::new();
    let port = 23_417;
    let addr = format!("127.0.0.1:{port}");
    let mut command: Vec<std::ffi::OsString> = vec![program().into(), "up".into()];
    for arg in [
        "--listen",
        &addr,
        "--data-dir",
        dir.path().join("data").to_str().unwrap(),
        "--set",
        "accounts.allow_http_endpoints=true",
        "--set",
        "push.allow_http_endpoints=true",
        "--set",
        "push.allow_private_endpoints=true",
    ] {
        command.push(arg.into());
    }
    let log = dir.path().join("up.log");
    let up = Process::new("up", Spec { command, log });
    up.start().unwrap();
    let rng = Rng::from_seed(1);
    let cast = Arc::new(Cast::new(16, "tandem.test", "p", &rng));
    let file = std::env::var("RECORD")
        .unwrap_or_else(|_| dir.path().join("record").to_str().unwrap().to_owned());
    let recorder = Recorder::create(&doors, &cast, Path::new(&file), "talk on up").unwrap();
    let gateway = Gateway::new(recorder.clone());
    let at = server::serve(&doors, &lifecycle, "127.0.0.1:0", gateway.routes())
        .await
        .unwrap();
    let (d, a) = (doors.clone(), addr.clone());
    let ground = Ground {
        doors: doors.clone(),
        edges: vec![addr.clone()],
        accounts: grpc::remote(&doors, &addr).unwrap(),
        tokens: Box::new(move |user| -> Arc<dyn TokenSource> {
            Arc::new(DevIssuer {
                doors: d.clone(),
                authority: a.clone(),
                request: DevTokenRequest {
                    user: user.to_owned(),
                    ..DevTokenRequest::default()
                },
            })
        }),
        gateway: Some((gateway, format!("http://{at}"))),
    };
    let talk = stage::set(&ground, cast, &recorder, &rng, &lifecycle)
        .await
        .unwrap();
    let accepted = || recorder.count_accepted();
    let begin = accepted();
    talk.start(100.0, &rng, &lifecycle);
    for _ in 0..3 {
        talk.go_on();
        tokio::time::sleep(Duration::from_secs(10)).await;
        up.kill();
        tokio::time::sleep(Duration::from_secs(1)).await;
        up.start().unwrap();
        tokio::time::sleep(Duration::from_secs(10)).await;
        let t = std::time::Instant::now();
        let unsettled = talk.settle(Duration::from_secs(30)).await;
        eprintln!(
            "settled in {:?}, accepted {}",
            t.elapsed(),
            accepted() - begin
        );
        assert!(unsettled.is_empty(), "{unsettled:#?}\n");
    }
    recorder.flush().unwrap();
}
