//! A run: the suite, the talk, and one fault after the other with the verdict after each.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures::future::join_all;
use tandem_chassis::{Doors, Lifecycle, grpc, rng::Rng, server};
use tandem_checker::{Verdict, What};
use tandem_client::TokenSource;

use crate::{
    Result,
    blow::Blow,
    cast::Cast,
    fault::Fault,
    gateway::Gateway,
    issuer::{Issuer, Tokens},
    judge::{self, Violations},
    plan::Together,
    record::Recorder,
    report::{Report, Step},
    stage::{self, Ground},
    suite::{HARNESS_PORT, Options, Role, Suite},
    talk::Talk,
};

/// Domain of the people.
pub const DOMAIN: &str = "faults.test";
/// How many people talk.
const PEOPLE: usize = 16;
/// How long they talk before anything breaks, and between faults.
const TALK: Duration = Duration::from_secs(4);
/// How long everything may take to arrive after a fault's end.
const SETTLE: Duration = Duration::from_secs(45);

/// How people talk, and how they are judged.
#[derive(Debug, Clone, Copy)]
pub struct Form {
    /// Decides who says what, and what breaks when.
    pub seed: u64,
    /// Deeds a second of all together.
    pub rate: f64,
    /// How many times longer than stated the guarantees' times count: 1, but for a machine that is too busy.
    pub slack: u64,
}

/// The suite with those who talk in it.
pub struct Scene {
    /// The suite.
    pub suite: Arc<Suite>,
    /// Those who talk.
    pub talk: Arc<Talk>,
    /// What they do and see.
    pub recorder: Arc<Recorder>,
    rng: Rng,
    faults: u64,
    known: Violations,
    slack: u64,
    begun: Duration,
    doors: Doors,
    /// What came of it so far.
    pub report: Report,
}

impl Scene {
    /// Longer on a machine that is judged mildly.
    fn patience(&self) -> Duration {
        SETTLE * u32::try_from(self.slack).unwrap_or(1).max(1)
    }

    /// Brings the suite up, and everybody on.
    pub async fn set(options: &Options, form: Form, lifecycle: &Lifecycle) -> Result<Self> {
        let Form { seed, rate, slack } = form;
        let (doors, rng) = (Doors::real(), Rng::from_seed(seed));
        let suite = Suite::start(options, &doors, lifecycle).await?;
        let cast = Arc::new(Cast::new(PEOPLE, DOMAIN, "p", &rng));
        let by = format!("tandem-faults, seed {seed}");
        let recorder = Recorder::create(&doors, &cast, &options.dir.join("record.jsonl"), &by)?;
        let ground = ground(&suite, &doors, &recorder, lifecycle).await?;
        let talk = stage::set(&ground, cast, &recorder, &rng, lifecycle).await?;
        talk.start(rate, &rng, lifecycle);
        let report = Report {
            seed,
            dir: options.dir.clone(),
            ..Report::default()
        };
        Ok(Self {
            suite,
            talk,
            recorder,
            rng,
            faults: 0,
            known: Violations::new(),
            slack,
            begun: doors.clock.monotonic(),
            doors,
            report,
        })
    }

    /// How long the talk has been going.
    pub fn elapsed(&self) -> Duration {
        self.doors.clock.monotonic().saturating_sub(self.begun)
    }

    /// For the plan.
    pub fn plan_rng(&self) -> Rng {
        Rng::from_seed(self.report.seed)
    }

    /// Talk, these faults at once, talk, until everything has arrived; and the verdict.
    pub async fn step(&mut self, together: &Together) -> Result<&Step> {
        let aim = |fault: &Fault| Blow::aim(*fault, &self.suite, &self.rng);
        let blows: Vec<Blow> = together.iter().map(aim).collect();
        let at_s = self.elapsed().as_secs_f64();
        self.talk.go_on();
        tokio::time::sleep(TALK).await;
        let done = join_all(blows.iter().map(|blow| {
            self.faults += 1;
            let (fault, recorder, suite) = (self.faults, &self.recorder, &self.suite);
            async move {
                recorder.fact(What::FaultBegan {
                    fault,
                    kind: blow.what.clone(),
                    excuses: blow.fault.excuses(),
                });
                let done = blow.strike(suite).await;
                recorder.fact(What::FaultEnded { fault });
                done.err().map(|e| format!("{}: {e}", blow.what))
            }
        }));
        let done = done.await;
        for blow in &blows {
            *self
                .report
                .faults
                .entry(blow.fault.to_string())
                .or_default() += 1;
        }
        tokio::time::sleep(TALK).await;
        let settling = self.elapsed();
        let unsettled = self.talk.settle(self.patience()).await;
        let settled_s = self.elapsed().as_secs_f64() - settling.as_secs_f64();
        let violations = self.judge(false).await?;
        let what: Vec<String> = blows.into_iter().map(|b| b.what).collect();
        self.report.steps.push(Step {
            what: if what.is_empty() {
                vec!["no fault".into()]
            } else {
                what
            },
            at_s,
            settled_s,
            unsettled,
            violations,
            failed: done.into_iter().flatten().collect(),
        });
        self.report.steps.last().ok_or_else(|| "no step".into())
    }

    async fn judge(&mut self, ended: bool) -> Result<Violations> {
        let verdict = judge::judge(&self.recorder, ended, self.slack).await?;
        fs::write(self.report.dir.join("verdict.txt"), verdict.to_string())?;
        let now = judge::violations(&verdict);
        let news = judge::news(&now, &self.known);
        self.known = now;
        self.tell(&verdict);
        Ok(news)
    }

    fn tell(&mut self, verdict: &Verdict) {
        let report = &mut self.report;
        report.accepted = verdict.accepted;
        report.violations.clone_from(&self.known);
        let checked = verdict.guarantees.iter();
        report.checked = checked.map(|(g, f)| (*g, f.checked)).collect();
        report.flaws.clone_from(&verdict.flaws);
        let crashes = self.suite.crashes.all();
        report.crashes = crashes
            .iter()
            .map(|c| format!("{}: {}", c.name, c.status))
            .collect();
    }

    /// Reads everything back, and gives the last verdict.
    pub async fn end(&mut self) -> Result<&Report> {
        let unsettled = self.talk.settle(self.patience()).await;
        self.talk.close().await?;
        let violations = self.judge(true).await?;
        let at_s = self.elapsed().as_secs_f64();
        self.report.minutes = at_s / 60.0;
        self.report.steps.push(Step {
            what: vec!["everything read back".into()],
            at_s,
            settled_s: 0.0,
            unsettled,
            violations,
            failed: Vec::new(),
        });
        self.suite.keep_logs();
        Ok(&self.report)
    }
}

/// Serves the identity provider and the push service, and says where everything is.
async fn ground(
    suite: &Suite,
    doors: &Doors,
    recorder: &Arc<Recorder>,
    lifecycle: &Lifecycle,
) -> Result<Ground> {
    let issuer = Issuer::new(doors)?;
    let gateway = Gateway::new(recorder.clone());
    let at = format!("{}:{HARNESS_PORT}", suite.net.gateway());
    let routes = issuer.routes().merge(gateway.routes());
    server::serve(doors, lifecycle, &at, routes).await?;
    let accounts = suite.peers(Role::Accounts);
    let first = accounts.split(',').next().unwrap_or_default();
    let tokens = move |user: &str| -> Arc<dyn TokenSource> {
        let (issuer, user) = (issuer.clone(), user.to_owned());
        Arc::new(Tokens { issuer, user })
    };
    Ok(Ground {
        doors: doors.clone(),
        edges: suite.edges(),
        accounts: grpc::remote(doors, first)?,
        tokens: Box::new(tokens),
        gateway: Some((gateway, format!("http://{at}"))),
    })
}

/// The program `tandem`, as it was built beside this one.
pub fn program() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    // tests are one folder deeper
    let beside = own
        .ancestors()
        .skip(1)
        .take(2)
        .map(|dir: &Path| dir.join("tandem"));
    let found = beside.into_iter().find(|p| p.is_file());
    let missing = || {
        format!(
            "no program tandem beside {}: cargo build -p tandem --features engines",
            own.display()
        )
    };
    found.ok_or_else(|| missing().into())
}
