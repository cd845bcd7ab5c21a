//! The short form of the faults: each service and each engine once.

#![allow(clippy::print_stderr, reason = "a test that fails says where to look")]

use tandem_chassis::Lifecycle;
use tandem_checker::Guarantee::{self, G1, G2, G3, G4, G5, G6, G9};
use tandem_faults::{
    Result, plan,
    run::{self, Form, Scene},
    suite::Options,
};

/// What CI's machines can do while they build and test other things.
const FORM: Form = Form {
    seed: 1,
    rate: 25.0,
    slack: 6,
};

const ALL: [Guarantee; 7] = [G1, G2, G3, G4, G5, G6, G9];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_guarantee_is_kept_while_each_service_and_each_engine_is_killed() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let lifecycle = Lifecycle::new();
    let options = Options {
        program: run::program()?,
        dir: dir.path().to_owned(),
        domain: run::DOMAIN.into(),
        replicas: std::collections::BTreeMap::new(),
        partitions: 6,
        open: false,
    };
    let mut scene = Scene::set(&options, FORM, &lifecycle).await?;
    for together in plan::short() {
        eprintln!("{}", scene.step(&together).await?);
    }
    let report = scene.end().await?.clone();
    lifecycle.abort();
    eprintln!("{report}");
    if !report.is_clean() {
        return Err(format!("see {}", dir.keep().display()).into());
    }
    for guarantee in ALL {
        assert!(
            report.checked[&guarantee] > 0,
            "{guarantee:?} was not checked"
        );
    }
    Ok(())
}
