//! Puts history together.

use std::{sync::Arc, time::Duration};

use tandem_chassis::{Doors, Lifecycle, lifecycle::OnEnd};
use tandem_log::{Log, parking};
use tandem_proto::history::history_server::HistoryServer;
use tandem_store::Store;

use crate::{
    Config, Error, HistoryControl,
    consumer::{Consumer, GROUP},
    grpc::HistoryService,
    metrics::Metrics,
    places::Places,
    tables::{self, Tables},
    usecase::ingest::Copies,
};

/// Generation of the topic that is read.
const GENERATION: u16 = 1;

/// What history stands on.
pub struct Deps {
    /// Clock and randomness.
    pub doors: Doors,
    /// The log.
    pub log: Arc<dyn Log>,
    /// The store.
    pub store: Arc<dyn Store>,
}

/// History, running.
pub struct Served {
    /// The service, to be mounted on a server or wrapped as a local channel.
    pub grpc: HistoryServer<HistoryService>,
    /// A hold on the reader, for tests.
    pub control: HistoryControl,
}

/// Once it returns, the service's tables and its topic for what cannot be read are there.
pub async fn ensure(log: &dyn Log, store: &dyn Store) -> Result<(), Error> {
    for table in tables::ALL {
        store.ensure_table(table).await?;
    }
    Ok(log.ensure_topic(&parking::topic(GROUP)).await?)
}

/// Makes the tables and starts the reader and what follows the places of other readers. Does not wait
/// for the log's topic: while that is missing, syncs are `unavailable`, and all else works.
pub async fn serve(deps: Deps, config: Config, lifecycle: &Lifecycle) -> Result<Served, Error> {
    config.validate().map_err(Error::Invalid)?;
    let Deps { doors, log, store } = deps;
    ensure(&*log, &*store).await?;

    let tables = Tables(store);
    let metrics = Arc::new(Metrics::new());
    let places = Arc::new(Places::new(Arc::clone(&metrics)));
    let topic = tandem_kernel::conversations_topic(GENERATION);
    if let Ok(partitions) = log.partitions(&topic).await {
        places.set_partitions(partitions);
    }
    let copies = Copies::default();
    let follow = Arc::clone(&places).follow(
        Arc::clone(&log),
        topic,
        Duration::from_millis(config.places_poll_ms),
        lifecycle.clone(),
    );
    lifecycle.spawn("history.places", OnEnd::Stop, follow);
    let (consumer, control) = Consumer::new(
        doors.clone(),
        log,
        tables.clone(),
        metrics,
        Arc::clone(&places),
        Arc::clone(&copies),
        config.clone(),
        GENERATION,
    );
    lifecycle.spawn(
        "history.reader",
        OnEnd::Stop,
        consumer.run(lifecycle.clone()),
    );
    let service = HistoryService {
        doors,
        tables,
        places,
        copies,
        config,
        generation: GENERATION,
        lifecycle: lifecycle.clone(),
    };
    Ok(Served {
        grpc: HistoryServer::new(service),
        control,
    })
}
