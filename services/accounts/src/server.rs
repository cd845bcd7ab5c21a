//! What the service needs, and how it starts.

use std::{sync::Arc, time::Duration};

use tandem_chassis::{Doors, Lifecycle, lifecycle::OnEnd};
use tandem_kernel::{ACCOUNTS_TOPIC, Code, UnixMillis};
use tandem_log::{Log, Retention, TopicSpec, parking};
use tandem_proto::accounts::{
    accounts_server::AccountsServer, provisioning_server::ProvisioningServer,
};
use tandem_store::Store;

use crate::{config::Config, consumer, error::Error, grpc::Grpc, tables, usecase::Service};

/// Its name among peers and in `<name>.parked`.
pub(crate) const SERVICE: &str = "accounts";

/// Its reader group on the topic `accounts`.
pub const GROUP: &str = "accounts";

/// What it stands on.
#[derive(Clone)]
pub struct Deps {
    /// Clock and randomness.
    pub doors: Doors,
    /// The topic `accounts`.
    pub log: Arc<dyn Log>,
    /// Accounts, numbers, contacts, devices.
    pub store: Arc<dyn Store>,
}

impl std::fmt::Debug for Deps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("accounts.Deps")
    }
}

/// The service as it runs.
#[derive(Clone, Debug)]
pub struct Served {
    /// For the other services.
    pub accounts: AccountsServer<Grpc>,
    /// For the operator's systems.
    pub provisioning: ProvisioningServer<Grpc>,
}

/// Once it returns, the service's tables and topics are there.
pub async fn ensure(log: &dyn Log, store: &dyn Store, config: &Config) -> Result<(), Error> {
    for table in tables::ALL {
        store.ensure_table(table).await?;
    }
    let accounts = TopicSpec {
        name: ACCOUNTS_TOPIC.to_owned(),
        partitions: config.partitions,
        retention: Retention::Compact,
    };
    for topic in [accounts, parking::topic(SERVICE)] {
        log.ensure_topic(&topic).await?;
    }
    Ok(())
}

/// Starts the service: its tables and topics are there once it returns.
pub async fn serve(deps: Deps, config: Config, lifecycle: &Lifecycle) -> Result<Served, Error> {
    config
        .validate()
        .map_err(|e| Error::refused(Code::InvalidArgument, e))?;
    let Deps { doors, log, store } = deps;
    ensure(&*log, &*store, &config).await?;
    let service = Arc::new(Service::new(doors, log, store, config));
    let consumer = consumer::run(Arc::clone(&service), lifecycle.clone());
    lifecycle.spawn("accounts.consumer", OnEnd::Stop, consumer);
    let resumer = resume(Arc::clone(&service), lifecycle.clone());
    lifecycle.spawn("accounts.resumer", OnEnd::Stop, resumer);
    let grpc = Grpc::new(service, lifecycle.clone());
    Ok(Served {
        accounts: AccountsServer::new(grpc.clone()),
        provisioning: ProvisioningServer::new(grpc),
    })
}

/// At the start everything that an earlier process left is driven on, later what has stood for a while.
async fn resume(service: Arc<Service>, lifecycle: Lifecycle) {
    let every = service.config.resume_ms;
    let mut before = service.doors.clock.unix();
    while !lifecycle.stopping() {
        if let Err(e) = service.resume(before).await {
            tracing::warn!(error = %e, "pending changes cannot be driven on yet");
        }
        tokio::select! {
            biased;
            () = tokio::time::sleep(Duration::from_millis(every)) => {}
            () = lifecycle.stopped() => {}
        }
        let now = service.doors.clock.unix().0;
        before = UnixMillis(now.saturating_sub(i64::try_from(every).unwrap_or(i64::MAX) - 1));
    }
}
