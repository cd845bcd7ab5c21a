//! What the subcommands share: where the server is, output for people or as JSON, and exit codes.

#![allow(clippy::print_stdout, reason = "the answers of a command line program")]

use std::process::ExitCode;

use serde::Serialize;
use tandem_chassis::{
    Doors,
    grpc::{self, Channel},
};
use tandem_client::Server;

/// EX_USAGE of sysexits.h.
pub const USAGE: u8 = 64;

/// Where the server is.
#[derive(Debug, Clone, clap::Args)]
pub struct ServerArgs {
    /// The server.
    #[arg(
        long,
        value_name = "URL",
        default_value = "ws://127.0.0.1:7400",
        env = "TANDEM_SERVER"
    )]
    pub server: String,
}

impl ServerArgs {
    /// The server's address.
    pub fn address(&self) -> Result<Server, String> {
        Server::parse(&self.server).map_err(|e| format!("--server: {e}"))
    }

    /// A channel to the server.
    pub fn channel(&self, doors: &Doors) -> Result<Channel, String> {
        grpc::remote(doors, &self.address()?.authority).map_err(|e| e.to_string())
    }
}

/// Prints an answer: as one JSON object a line, or as text.
pub fn answer<T: Serialize>(json: bool, value: &T, text: impl FnOnce(&T) -> String) {
    if json {
        match serde_json::to_string(value) {
            Ok(line) => println!("{line}"),
            Err(error) => eprintln!("tandem: {error}"),
        }
    } else {
        println!("{}", text(value));
    }
}

/// Says what went wrong; exit code 1.
pub fn fail(message: &str) -> ExitCode {
    eprintln!("tandem: {message}");
    ExitCode::from(1)
}

/// Says what is wrong with the call or the config; exit code 64.
pub fn usage(message: &str) -> ExitCode {
    eprintln!("tandem: {message}");
    ExitCode::from(USAGE)
}
