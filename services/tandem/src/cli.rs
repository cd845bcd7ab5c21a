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

/// Why a service cannot run in this build.
#[cfg(not(feature = "engines"))]
pub const NO_ENGINES: &str =
    "this build has no Kafka, Redis and Cassandra: build it with `--features engines`";

/// Where the server is.
#[derive(Debug, Clone, clap::Args)]
pub struct ServerArgs {
    /// The server; for `load` also several edges, with commas between.
    #[arg(
        long,
        value_name = "URL",
        default_value = "ws://127.0.0.1:7400",
        env = "TANDEM_SERVER"
    )]
    pub server: String,
    /// The development issuer, where it is not the server itself (`tandem dev-issuer`).
    #[arg(long, value_name = "ADDR:PORT", env = "TANDEM_ISSUER")]
    issuer: Option<String>,
    /// The service accounts, where it is not behind the server's port.
    #[arg(long, value_name = "ADDR:PORT", env = "TANDEM_ACCOUNTS")]
    accounts: Option<String>,
}

impl ServerArgs {
    /// The server's address; the first one, if there are several.
    pub fn address(&self) -> Result<Server, String> {
        let first = self.server.split(',').next().unwrap_or_default();
        Server::parse(first).map_err(|e| format!("--server: {e}"))
    }

    /// The servers' addresses, at least one.
    pub fn addresses(&self) -> Result<Vec<Server>, String> {
        let servers = self.server.split(',').map(Server::parse);
        servers
            .collect::<Result<_, _>>()
            .map_err(|e| format!("--server: {e}"))
    }

    /// Where development tokens come from.
    pub fn issuer(&self) -> Result<String, String> {
        match &self.issuer {
            Some(issuer) => Ok(issuer.clone()),
            None => Ok(self.address()?.authority),
        }
    }

    /// A channel to accounts.
    pub fn accounts(&self, doors: &Doors) -> Result<Channel, String> {
        let authority = match &self.accounts {
            Some(accounts) => accounts.clone(),
            None => self.address()?.authority,
        };
        grpc::remote(doors, &authority).map_err(|e| e.to_string())
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
