//! The topic `accounts`: followed from now on to keep the cache right, and read as the group `presence` to
//! tell sessions of relations that changed.

use std::{sync::Arc, time::Duration};

use prost::Message;
use tandem_chassis::Lifecycle;
use tandem_kernel::{ACCOUNTS_TOPIC, Address, Code, event::AccountChange};
use tandem_log::{LogError, Next, Reader, Start, Stored, parking};

use crate::{
    error::Error,
    server::{GROUP, SERVICE},
    usecase::{Service, relation::Change},
};

const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MOST: Duration = Duration::from_secs(5);

async fn pause(lifecycle: &Lifecycle, wait: &mut Duration) {
    tokio::select! {
        biased;
        () = tokio::time::sleep(*wait) => {}
        () = lifecycle.stopped() => {}
    }
    *wait = (*wait * 2).min(RETRY_MOST);
}

/// Keeps the cache right until the lifecycle stops.
pub(crate) async fn follow(service: Arc<Service>, lifecycle: Lifecycle) {
    let mut wait = RETRY_FIRST;
    while !lifecycle.stopping() {
        if let Err(e) = invalidate(&service, &lifecycle, &mut wait).await {
            log_failure(&e);
            pause(&lifecycle, &mut wait).await;
        }
    }
}

fn log_failure(e: &LogError) {
    if matches!(e, LogError::NoTopic(_)) {
        tracing::info!("waiting for accounts to make its topic");
    } else {
        tracing::warn!(error = %e, "the topic accounts cannot be read, trying again");
    }
}

async fn invalidate(
    service: &Service,
    lifecycle: &Lifecycle,
    wait: &mut Duration,
) -> Result<(), LogError> {
    let mut reader = service.log.follow(ACCOUNTS_TOPIC, Start::Newest).await?;
    // what changed while nobody followed is not known
    service.relations.forget_all();
    loop {
        let next = tokio::select! {
            biased;
            () = lifecycle.stopped() => return Ok(()),
            next = reader.next() => next?,
        };
        *wait = RETRY_FIRST;
        let Next::Records(_, records) = next else {
            continue;
        };
        for stored in records {
            // what cannot be read is parked by the group's reader
            if let Ok(change) = AccountChange::decode(&*stored.record.value)
                && let Ok(user) = Address::parse(&change.user)
            {
                service.relations.changed(&user, change.version);
            }
        }
    }
}

/// Tells sessions of relations that changed, until the lifecycle stops. What cannot be done now is tried
/// again, and holds up its partition.
pub(crate) async fn read(service: Arc<Service>, lifecycle: Lifecycle) {
    let mut wait = RETRY_FIRST;
    while !lifecycle.stopping() {
        let ended = match service
            .log
            .subscribe(ACCOUNTS_TOPIC, GROUP, Start::Oldest)
            .await
        {
            Ok(mut reader) => tell(&service, &lifecycle, &mut *reader, &mut wait).await,
            Err(e) => Err(e),
        };
        if let Err(e) = ended {
            log_failure(&e);
            pause(&lifecycle, &mut wait).await;
        }
    }
}

async fn tell(
    service: &Service,
    lifecycle: &Lifecycle,
    reader: &mut dyn Reader,
    wait: &mut Duration,
) -> Result<(), LogError> {
    loop {
        let next = tokio::select! {
            biased;
            () = lifecycle.stopped() => return Ok(()),
            next = reader.next() => next?,
        };
        let Next::Records(partition, records) = next else {
            continue;
        };
        let Some(last) = records.last().map(|r| r.place.offset) else {
            continue;
        };
        let mut done = 0;
        while let Err(e) = handle(service, &records, &mut done).await {
            tracing::warn!(error = %e, "changes of contacts cannot be told yet, trying again");
            pause(lifecycle, wait).await;
            if lifecycle.stopping() {
                return Ok(());
            }
        }
        *wait = RETRY_FIRST;
        match reader.commit(partition, last + 1).await {
            Err(LogError::NotAssigned(_)) => {}
            done => done?,
        }
    }
}

/// Handles the records from `done` on, and counts there those that need not be handled again; one that
/// cannot be read is parked. Again changes nothing that people see: the same relation, and the status as
/// it is.
async fn handle(service: &Service, records: &[Stored], done: &mut usize) -> Result<(), Error> {
    let rest = &records[(*done).min(records.len())..];
    let mut changes = Vec::with_capacity(rest.len());
    for stored in rest {
        let read = AccountChange::decode(&*stored.record.value)
            .map_err(|_| Error::refused(Code::Malformed, "the record cannot be read"))
            .and_then(Change::read);
        changes.push((stored, read));
    }
    let reaches = service
        .reaches(changes.iter().filter_map(|(_, c)| c.as_ref().ok()))
        .await?;
    for (stored, read) in &changes {
        match read {
            Ok(change) => service.relation_changed(change, &reaches).await?,
            Err(e) => park(service, stored, e).await?,
        }
        *done += 1;
    }
    Ok(())
}

async fn park(service: &Service, stored: &Stored, why: &Error) -> Result<(), Error> {
    tracing::error!(
        error = %why, partition = stored.place.partition, offset = stored.place.offset,
        "a change of an account cannot be read and is parked"
    );
    let at = service.doors.clock.unix();
    let parked = parking::parked(
        SERVICE,
        ACCOUNTS_TOPIC,
        stored,
        why.code(),
        why.to_string(),
        at,
    );
    parking::park(&*service.log, &parked).await?;
    service.metrics.parked.add(1);
    Ok(())
}
