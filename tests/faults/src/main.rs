//! `tandem-faults`: the suite on real engines, and everything that can happen to it. `cargo xtask faults`
//! runs it.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a tool tells people"
)]

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};
use tandem_chassis::Lifecycle;
use tandem_faults::{
    Result,
    fault::Fault,
    plan,
    report::Report,
    run::{self, Form, Scene},
    stopped,
    suite::{self, Options, Role, Suite},
};

/// The suite as real processes on real Kafka, Redis and Cassandra, while people talk and everything
/// breaks. Exit code 1: a guarantee was violated, or something did not come back.
#[derive(Parser)]
#[command(name = "tandem-faults", max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    run: Run,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(clap::Args)]
struct Run {
    /// For how long.
    #[arg(long, default_value_t = 30.0)]
    minutes: f64,
    /// Decides who says what, and what breaks when.
    #[arg(long, default_value_t = 1, global = true)]
    seed: u64,
    /// Print the report as JSON.
    #[arg(long, global = true)]
    json: bool,
    /// Only faults of this kind. May be given several times.
    #[arg(long, value_name = "FAULT")]
    only: Vec<Fault>,
    /// The form for CI: each service and each engine, in about three minutes.
    #[arg(long)]
    short: bool,
    /// Deeds a second of all people together; some two thirds become events.
    #[arg(long, default_value_t = 150.0, global = true)]
    rate: f64,
    /// Let the guarantees' times count this many times as long, on a machine that is too busy.
    #[arg(long, default_value_t = 1, value_name = "TIMES", global = true)]
    slack: u64,
    /// Name the faults.
    #[arg(long)]
    list: bool,
    #[command(flatten)]
    shape: Shape,
}

impl Run {
    fn form(&self) -> Form {
        Form {
            seed: self.seed,
            rate: self.rate,
            slack: self.slack,
        }
    }
}

#[derive(clap::Args)]
struct Shape {
    /// Keep configs, logs and the record here; else they go unless something is wrong.
    #[arg(long, value_name = "DIR", global = true)]
    keep: Option<PathBuf>,
    /// The program `tandem`; else the one beside this.
    #[arg(long, value_name = "FILE", global = true)]
    program: Option<PathBuf>,
    /// Processes of a service, e.g. `routing=4`; two unless given. May be given several times.
    #[arg(long, value_name = "SERVICE=N", value_parser = replicas, global = true)]
    replicas: Vec<(Role, usize)>,
    /// Partitions of the conversations' topic.
    #[arg(long, default_value_t = 6, global = true)]
    partitions: u32,
}

#[derive(Subcommand)]
enum Command {
    /// Bring the production shape up at home, and say where everything is; ends with ctrl-c.
    Up,
    /// Stop all of Cassandra for two minutes while people talk, and measure how history catches up.
    CassandraStopped,
}

fn replicas(text: &str) -> std::result::Result<(Role, usize), String> {
    let wrong = "write SERVICE=N, e.g. routing=4";
    let (name, count) = text.split_once('=').ok_or(wrong)?;
    let role = Role::ALL.into_iter().find(|r| r.name() == name);
    let count = count.parse().ok().filter(|n| (1..=8).contains(n));
    role.zip(count).ok_or_else(|| wrong.to_owned())
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if cli.run.list {
        for fault in Fault::all() {
            println!("{fault}");
        }
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let done = runtime
        .map_err(Into::into)
        .and_then(|r| r.block_on(command(&cli)));
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("tandem-faults: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn command(cli: &Cli) -> Result<ExitCode> {
    let lifecycle = Lifecycle::new();
    lifecycle.stop_on_signals()?;
    let temporary = tempfile::Builder::new()
        .prefix("tandem-faults-")
        .tempdir()?;
    let shape = &cli.run.shape;
    let dir = shape
        .keep
        .clone()
        .unwrap_or_else(|| temporary.path().to_owned());
    std::fs::create_dir_all(&dir)?;
    let options = Options {
        program: match &shape.program {
            Some(program) => program.clone(),
            None => run::program()?,
        },
        dir: dir.canonicalize()?,
        domain: run::DOMAIN.into(),
        replicas: shape.replicas.iter().copied().collect(),
        partitions: shape.partitions,
        open: false,
    };
    let work = async {
        match cli.command {
            None => faults(&cli.run, &options, &lifecycle).await,
            Some(Command::Up) => up(&options, &lifecycle).await,
            Some(Command::CassandraStopped) => {
                cassandra_stopped(&cli.run, &options, &lifecycle).await
            }
        }
    };
    let done = if matches!(cli.command, Some(Command::Up)) {
        work.await
    } else {
        tokio::select! {
            done = work => done,
            () = lifecycle.stopped() => Err("stopped".into()),
        }
    };
    lifecycle.abort();
    if !matches!(done, Ok(ExitCode::SUCCESS)) && shape.keep.is_none() {
        eprintln!("record, configs and logs: {}", temporary.keep().display());
    }
    done
}

async fn faults(run: &Run, options: &Options, lifecycle: &Lifecycle) -> Result<ExitCode> {
    eprintln!("bringing up engines and services");
    let mut scene = Scene::set(options, run.form(), lifecycle).await?;
    eprintln!("{}", scene.step(&Vec::new()).await?);
    let kinds = if run.only.is_empty() {
        Fault::all()
    } else {
        run.only.clone()
    };
    let plan: Box<dyn Iterator<Item = plan::Together> + Send> = if run.short {
        Box::new(plan::short().into_iter())
    } else {
        Box::new(plan::long(kinds, scene.plan_rng()))
    };
    for together in plan {
        if scene.elapsed().as_secs_f64() >= run.minutes * 60.0 {
            break;
        }
        eprintln!("{}", scene.step(&together).await?);
    }
    finish(&mut scene, run.json).await
}

async fn finish(scene: &mut Scene, json: bool) -> Result<ExitCode> {
    let report: &Report = scene.end().await?;
    if let Some(last) = report.steps.last() {
        eprintln!("{last}");
    }
    if json {
        println!("{}", serde_json::to_string_pretty(report)?);
    } else {
        println!("{report}");
    }
    Ok(if report.is_clean() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn up(options: &Options, lifecycle: &Lifecycle) -> Result<ExitCode> {
    let doors = tandem_chassis::Doors::real();
    let open = Options {
        open: true,
        ..options.clone()
    };
    let suite = Suite::start(&open, &doors, lifecycle).await?;
    for role in Role::ALL {
        println!("{:<10} {}", role.name(), suite.peers(role));
    }
    println!("kafka      {}", suite.kafka.bootstrap());
    println!("redis      {}", suite.redis.addresses().join(","));
    println!("cassandra  {}", suite.cassandra.addresses().join(","));
    println!("logs       {}", suite.dir.join("log").display());
    let servers: Vec<_> = suite.edges().iter().map(|e| format!("ws://{e}")).collect();
    let issuer = format!(
        "{}:{}",
        suite.net.address(suite::ISSUER)?,
        suite::ISSUER_PORT
    );
    let accounts = suite.peers(Role::Accounts);
    let accounts = accounts.split(',').next().unwrap_or_default();
    println!(
        "\nfor chat, send, load:\n\
         export TANDEM_SERVER={} TANDEM_ISSUER={issuer} TANDEM_ACCOUNTS={accounts}\n\
         ctrl-c ends it, and says what each process has used",
        servers.join(",")
    );
    lifecycle.stopped().await;
    println!("\n{:<12}{:>8}{:>8}", "process", "CPU s", "MB");
    for (name, cpu, bytes) in suite.usage() {
        println!("{name:<12}{:>8.1}{:>8}", cpu.as_secs_f64(), bytes >> 20);
    }
    Ok(ExitCode::SUCCESS)
}

/// Two minutes without Cassandra: chat goes on, and history catches up by itself.
async fn cassandra_stopped(
    run: &Run,
    options: &Options,
    lifecycle: &Lifecycle,
) -> Result<ExitCode> {
    const AWAY: Duration = Duration::from_mins(2);
    let mut scene = Scene::set(options, run.form(), lifecycle).await?;
    eprintln!("{}", scene.step(&Vec::new()).await?);
    let caught_up = stopped::cassandra(&scene, AWAY).await?;
    eprintln!("{caught_up}");
    scene.report.caught_up = Some(caught_up);
    eprintln!("{}", scene.step(&Vec::new()).await?);
    finish(&mut scene, run.json).await
}
