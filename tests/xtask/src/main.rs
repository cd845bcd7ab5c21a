//! `cargo xtask`: the project's own commands. `cargo xtask test` is what CI runs.

#![allow(clippy::disallowed_methods, reason = "a build tool is not simulated")]

mod check;
mod engines;
mod fuzz;
mod python;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The project's own commands.
#[derive(Parser)]
#[command(name = "cargo xtask", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Everything that must hold before a change lands: format, lints, docs, and every test. Installs
    /// what the tests need first (cached outside the repo), and starts the engines unless they run.
    Test {
        /// Only the tests whose names contain this; skips format, lints and docs.
        filter: Option<String>,
    },
    /// Kafka, Redis and Cassandra, as the tests and a person who tries the production shape use them.
    Engines {
        #[command(subcommand)]
        command: Option<Engines>,
    },
    /// Break the suite's processes and engines while devices talk, and check the guarantees.
    Faults {
        /// Build with optimizations. Stands before the arguments that are passed on.
        #[arg(long)]
        release: bool,
        /// Passed on: `--help` after `--` lists them.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Fuzz the frame decoders and the session machine with libFuzzer, for as long as is said. The
    /// short form is part of `test`.
    Fuzz {
        /// Which target: `frame` or `session`.
        target: String,
        /// For how long.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
}

/// Without one of these: install all that the tests need, and print where it is.
#[derive(Subcommand)]
enum Engines {
    /// Start those that do not run, and print where they listen. They keep running.
    Up,
    /// Stop them, and whatever killed tests left behind.
    Down {
        /// Also remove all that they hold.
        #[arg(long)]
        wipe: bool,
    },
    /// What runs, what it costs, and whether it answers.
    Status,
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Test { filter: None } => check::all(),
        Command::Test {
            filter: Some(filter),
        } => check::some(&filter),
        Command::Engines { command } => match command {
            None => check::install(),
            Some(Engines::Up) => engines::start(),
            Some(Engines::Down { wipe }) => engines::stop(wipe),
            Some(Engines::Status) => engines::status(),
        },
        Command::Faults { release, args } => check::faults(release, &args),
        Command::Fuzz { target, seconds } => fuzz::run(&target, seconds),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}
