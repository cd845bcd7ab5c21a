//! `tandem load`: puts load on a server with people of its own, rides out its restarts, and checks that
//! nothing is lost, doubled or out of order on any device.

mod check;
mod device;
mod drive;
mod ledger;
mod people;
mod plan;
mod replay;
mod report;
mod server;

use std::{path::PathBuf, process::ExitCode};

use tandem_chassis::{Doors, Lifecycle};

use crate::cli::{self, ServerArgs};

/// `tandem load`
#[derive(clap::Args, Debug, Clone)]
pub struct Args {
    #[command(flatten)]
    server: ServerArgs,
    /// How many people. For a replay: those who speak, and listeners up to `--min-people`.
    #[arg(long, value_name = "M", default_value_t = 100)]
    people: u32,
    /// How many sessions they hold open together (at least one each); for a replay a quarter more than
    /// people.
    #[arg(long, value_name = "N")]
    sessions: Option<u32>,
    /// How many groups there are beside the one-to-one conversations.
    #[arg(long, value_name = "G", default_value_t = 0)]
    groups: u32,
    /// Members of a group; for a replay: at most.
    #[arg(long, value_name = "K", default_value_t = 10)]
    group_size: u32,
    /// Share of the messages that go to groups, 0 to 1.
    #[arg(long, value_name = "SHARE", default_value_t = 0.2)]
    group_share: f64,
    /// One-to-one conversations of each person, at most.
    #[arg(long, value_name = "P", default_value_t = 4)]
    peers: u32,
    /// Messages a second, sent on time whatever the server does.
    #[arg(long, value_name = "R", conflicts_with = "as_fast_as_acknowledged")]
    rate: Option<f64>,
    /// Each session sends its next message when an earlier one was acknowledged.
    #[arg(long)]
    as_fast_as_acknowledged: bool,
    /// Unacknowledged messages of a session, with `--as-fast-as-acknowledged`.
    #[arg(long, value_name = "W", default_value_t = 4)]
    in_flight: u32,
    /// How long messages are sent, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    duration: f64,
    /// How many messages are sent at most, whatever the duration.
    #[arg(long)]
    messages: Option<u64>,
    /// Length of a message's text in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 100)]
    text_bytes: usize,
    /// Only open this many sessions, and measure what each costs the server.
    #[arg(long, value_name = "N", conflicts_with_all = ["rate", "replay", "as_fast_as_acknowledged"])]
    idle: Option<u32>,
    /// Send what these chat logs say, all at once.
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with = "rate")]
    replay: Vec<PathBuf>,
    /// How many times as fast as they were said.
    #[arg(long, default_value_t = 100.0)]
    speed: f64,
    /// People in a replay, at least.
    #[arg(long, value_name = "M", default_value_t = 500)]
    min_people: u32,
    /// Devices that begin after the end with nothing and must find everything in history.
    #[arg(long, value_name = "D", default_value_t = 4)]
    late_devices: u32,
    /// How long to wait, without anything arriving, for what has not arrived yet, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0)]
    patience: f64,
    /// Process to measure; the server says it itself when it runs on this machine.
    #[arg(long, value_name = "PID")]
    server_pid: Option<u32>,
    /// The same plan for the same seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

impl Args {
    fn validate(&self) -> Result<(), String> {
        let positive = |name: &str, value: f64| {
            if value.is_finite() && value > 0.0 {
                Ok(())
            } else {
                Err(format!("{name}: more than 0"))
            }
        };
        positive("--duration", self.duration)?;
        positive("--speed", self.speed)?;
        positive("--patience", self.patience)?;
        if let Some(rate) = self.rate {
            positive("--rate", rate)?;
        }
        if !(0.0..=1.0).contains(&self.group_share) {
            return Err("--group-share: 0 to 1".into());
        }
        if self.group_size > 256 {
            return Err("--group-size: at most 256".into());
        }
        if self.in_flight == 0 {
            return Err("--in-flight: at least 1".into());
        }
        if self.idle.is_none() && self.people < 2 {
            return Err("--people: at least 2".into());
        }
        Ok(())
    }
}

/// Runs it. Exit code 1 if anything was lost, doubled, out of order or altered, or had no answer.
pub async fn run(args: Args) -> ExitCode {
    if let Err(error) = args.validate() {
        return cli::usage(&error);
    }
    let json = args.json;
    let lifecycle = Lifecycle::new();
    if let Err(error) = lifecycle.stop_on_signals() {
        return cli::fail(&error.to_string());
    }
    let doors = Doors::real();
    let report = tokio::select! {
        report = drive::run(args, &doors, &lifecycle) => report,
        () = lifecycle.stopped() => Err("interrupted".into()),
    };
    match report {
        Ok(report) => {
            let good = report.is_good();
            cli::answer(json, &report, report::Report::text);
            if good {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(1)
            }
        }
        Err(error) => cli::fail(&error),
    }
}
