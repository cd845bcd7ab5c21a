//! `tandem migrate`: the topics and tables of every service, made or brought up to date. Forward only;
//! the same again changes nothing.

use std::process::ExitCode;

use tandem_chassis::{Doors, Lifecycle, telemetry::Telemetry};

use crate::{
    cli,
    engines::Engines,
    settings::{ConfigArgs, Settings},
};

/// Runs it.
pub async fn run(args: ConfigArgs) -> ExitCode {
    let mut settings = match args.load() {
        Ok(loaded) => loaded.value,
        Err(error) => return cli::usage(&error.to_string()),
    };
    let telemetry = match Telemetry::init(&settings.telemetry, "tandem-migrate") {
        Ok(telemetry) => telemetry,
        Err(error) => return cli::usage(&error.to_string()),
    };
    // this command alone makes what the services only look for
    settings.kafka.create_topics = true;
    settings.cassandra.create_tables = true;
    let lifecycle = Lifecycle::new();
    let done = tokio::select! {
        done = Box::pin(migrate(&settings, &lifecycle)) => done,
        () = lifecycle.stopped() => Err("stopped before it was done; run it again".into()),
    };
    lifecycle.stop();
    telemetry.shutdown();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => cli::fail(&format!("migrate: {error}")),
    }
}

async fn migrate(
    settings: &Settings,
    lifecycle: &Lifecycle,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    lifecycle.stop_on_signals()?;
    let engines = Engines::connect(settings, &Doors::real(), lifecycle).await?;
    let (log, store) = (engines.log(), engines.store().await?);
    tandem_accounts::ensure(&*log, &*store, &settings.accounts).await?;
    tracing::info!("accounts: topics and tables are there");
    let partitions = tandem_routing::ensure(&*log, &*store, &settings.routing).await?;
    tracing::info!(partitions, "routing: topics and table are there");
    tandem_history::ensure(&*log, &*store).await?;
    tracing::info!("history: topics and tables are there");
    tandem_presence::ensure(&*log).await?;
    tandem_push::ensure(&*log).await?;
    tracing::info!("presence and push: topics are there");
    engines.close().await;
    Ok(())
}
