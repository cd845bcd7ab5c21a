//! `tandem dev-issuer`: the development issuer in a process of its own, for trying the production shape.

#![allow(clippy::print_stdout, reason = "tells a person what to set")]

use std::{path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use tandem_chassis::{Doors, Lifecycle, health, server};

use crate::{
    cli,
    issuer::{AUDIENCE, ISSUER, Issuer},
};

/// `tandem dev-issuer`
#[derive(clap::Args)]
pub struct Args {
    /// Where its key is kept.
    #[arg(long, value_name = "DIR", default_value = "tandem-data")]
    data_dir: PathBuf,
    /// Where it answers. Do not open it to others: anyone gets a token here.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:7480")]
    listen: String,
    /// Domain of people who are asked for by their local part.
    #[arg(long, value_name = "DOMAIN", default_value = "tandem.test")]
    domain: String,
}

/// Runs it until it is told to stop.
pub async fn run(args: Args) -> ExitCode {
    let lifecycle = Lifecycle::new();
    match start(&args, &lifecycle).await {
        Ok(addr) => println!(
            "tokens for anyone at http://{addr}/dev/token; edges take them with\n\
             [edge]\n\
             dev_issuer = true\n\
             issuers = [{{ issuer = \"{ISSUER}\", audience = \"{AUDIENCE}\", \
             jwks_url = \"http://{addr}/dev/jwks.json\" }}]"
        ),
        Err(error) => return cli::fail(&error.to_string()),
    }
    lifecycle.set_ready();
    let exit = lifecycle.run_to_end(Duration::from_secs(1)).await;
    ExitCode::from(exit.code())
}

async fn start(
    args: &Args,
    lifecycle: &Lifecycle,
) -> Result<std::net::SocketAddr, Box<dyn std::error::Error + Send + Sync>> {
    lifecycle.stop_on_signals()?;
    let doors = Doors::real();
    let dir = &args.data_dir;
    std::fs::create_dir_all(dir).map_err(|e| format!("--data-dir {}: {e}", dir.display()))?;
    let issuer = Arc::new(Issuer::open(dir, &args.domain, &doors)?);
    let router = issuer
        .routes()
        .merge(health::routes(lifecycle.clone(), None));
    let addr = server::serve(&doors, lifecycle, &args.listen, router).await;
    Ok(addr.map_err(|e| format!("--listen {}: {e}", args.listen))?)
}
