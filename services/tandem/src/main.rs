//! The program `tandem`: the data plane's services, the whole suite in one process, and the tools
//! of those who run it. One file a subcommand.

mod accounts;
mod chat;
mod cli;
mod compose;
mod config;
mod dev_issuer;
#[cfg(feature = "engines")]
mod engines;
mod issuer;
mod load;
#[cfg(feature = "engines")]
mod migrate;
mod send;
#[cfg(feature = "engines")]
mod service;
mod settings;
mod token;
mod up;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[cfg(feature = "engines")]
use crate::service::Service;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A carrier-grade converged instant messenger: one account, one contact list and one conversation, on
/// the PC, on the mobile and on the operator's portal.
#[derive(Parser)]
#[command(version, propagate_version = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the whole suite in this process, on durable embedded stores: for trying and for development.
    Up(up::Args),
    /// Run the edge: client connections, sessions.
    #[cfg(feature = "engines")]
    Edge(settings::ConfigArgs),
    /// Run routing: admits events to the log and delivers them.
    #[cfg(feature = "engines")]
    Routing(settings::ConfigArgs),
    /// Run history: stores conversations.
    #[cfg(feature = "engines")]
    History(settings::ConfigArgs),
    /// Run presence: who is online, as what, and who may see it.
    #[cfg(feature = "engines")]
    Presence(settings::ConfigArgs),
    /// Run push: wakes the devices that nobody reached.
    #[cfg(feature = "engines")]
    Push(settings::ConfigArgs),
    /// Make the topics and tables that the services need, or bring them up to date. Run it before a new version.
    #[cfg(feature = "engines")]
    Migrate(settings::ConfigArgs),
    /// Run the development issuer by itself, for trying the production shape.
    DevIssuer(dev_issuer::Args),
    /// Talk: a terminal client.
    Chat(chat::Args),
    /// Send one message and wait until it is accepted.
    Send(send::Args),
    /// Get a development token of a running `tandem up`.
    Token(token::Args),
    /// Create, show, import and connect subscribers; without any of these, run accounts: subscribers,
    /// contacts, devices.
    Accounts(accounts::Args),
    /// Put load on a server and check that nothing is lost, doubled or out of order.
    Load(load::Args),
    /// Show the effective config.
    #[command(subcommand)]
    Config(config::Command),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    // every hop between workers costs a wake-up of the kernel's, and disk work has threads of its own: half
    // the cores as workers carry more than all of them, and at a lower latency
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.div_ceil(2))
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return cli::fail(&format!("cannot start the runtime: {error}")),
    };
    let code = runtime.block_on(async {
        match cli.command {
            Command::Up(args) => up::run(args).await,
            Command::Chat(args) => chat::run(args).await,
            Command::Send(args) => send::run(args).await,
            Command::Token(args) => token::run(args).await,
            #[cfg(feature = "engines")]
            Command::Edge(args) => service::run(Service::Edge, args).await,
            #[cfg(feature = "engines")]
            Command::Routing(args) => service::run(Service::Routing, args).await,
            #[cfg(feature = "engines")]
            Command::History(args) => service::run(Service::History, args).await,
            #[cfg(feature = "engines")]
            Command::Presence(args) => service::run(Service::Presence, args).await,
            #[cfg(feature = "engines")]
            Command::Push(args) => service::run(Service::Push, args).await,
            #[cfg(feature = "engines")]
            Command::Migrate(args) => migrate::run(args).await,
            Command::DevIssuer(args) => dev_issuer::run(args).await,
            Command::Accounts(args) => accounts::run(args).await,
            Command::Load(args) => load::run(args).await,
            Command::Config(command) => config::run(&command),
        }
    });
    // what blocks (a read of the terminal) must not hold up the end
    runtime.shutdown_background();
    code
}
