//! `tandem config`: what the config comes to.

#![allow(clippy::print_stdout, reason = "the answers of a command line program")]

use std::process::ExitCode;

use crate::{cli, settings::ConfigArgs};

/// `tandem config …`
#[derive(clap::Subcommand)]
pub enum Command {
    /// Print every key with its effective value and where it came from; secrets are masked.
    Show(ConfigArgs),
    /// Check the config; exit code 64 and the key if it is refused.
    Check(ConfigArgs),
}

/// Runs it.
pub fn run(command: &Command) -> ExitCode {
    let (Command::Show(args) | Command::Check(args)) = command;
    match args.load() {
        Ok(loaded) => {
            match command {
                Command::Show(_) => print!("{}", loaded.show()),
                Command::Check(_) => println!("config is good"),
            }
            ExitCode::SUCCESS
        }
        Err(error) => cli::usage(&error.to_string()),
    }
}
