//! The topic `accounts` as its own reader: drives to its end what touches two people.

use std::{sync::Arc, time::Duration};

use prost::Message;
use tandem_chassis::Lifecycle;
use tandem_kernel::{ACCOUNTS_TOPIC, Address, Code, event::AccountChange};
use tandem_log::{LogError, Next, Reader, Record, Start, Stored, parking};

use crate::{
    error::Error,
    server::{GROUP, SERVICE},
    tables::Marker,
    usecase::{Service, publish::PENDING_HEADER},
};

const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MOST: Duration = Duration::from_secs(5);

/// Reads until the lifecycle stops. What cannot be done now is tried again, and holds up its partition.
pub(crate) async fn run(service: Arc<Service>, lifecycle: Lifecycle) {
    let mut wait = RETRY_FIRST;
    while !lifecycle.stopping() {
        let ended = match service
            .log
            .subscribe(ACCOUNTS_TOPIC, GROUP, Start::Oldest)
            .await
        {
            Ok(mut reader) => read(&service, &lifecycle, &mut *reader, &mut wait).await,
            Err(e) => Err(e),
        };
        if let Err(e) = ended {
            tracing::warn!(error = %e, "the topic accounts cannot be read, trying again");
            pause(&lifecycle, &mut wait).await;
        }
    }
}

async fn pause(lifecycle: &Lifecycle, wait: &mut Duration) {
    tokio::select! {
        biased;
        () = tokio::time::sleep(*wait) => {}
        () = lifecycle.stopped() => {}
    }
    *wait = (*wait * 2).min(RETRY_MOST);
}

async fn read(
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
        for stored in &records {
            while let Err(e) = handle(service, stored).await {
                tracing::warn!(error = %e, "an account change cannot be driven on yet, trying again");
                pause(lifecycle, wait).await;
                if lifecycle.stopping() {
                    return Ok(());
                }
            }
            *wait = RETRY_FIRST;
        }
        match reader.commit(partition, last + 1).await {
            Err(LogError::NotAssigned(_)) => {}
            done => done?,
        }
    }
}

/// Handles a record; one that never can be is parked.
async fn handle(service: &Service, stored: &Stored) -> Result<(), Error> {
    match apply(service, &stored.record).await {
        Err(e) if !e.is_transient() => park(service, stored, &e).await,
        done => done,
    }
}

async fn apply(service: &Service, record: &Record) -> Result<(), Error> {
    let unread = |what: &str| Error::refused(Code::Malformed, format!("{what} cannot be read"));
    let change = AccountChange::decode(&*record.value).map_err(|_| unread("the record"))?;
    let user = Address::parse(&change.user).map_err(|_| unread("the user's address"))?;
    let header = record
        .headers
        .iter()
        .find(|(name, _)| name == PENDING_HEADER);
    let marker = match header {
        Some((_, text)) => Some(Marker::parse(text).ok_or_else(|| unread("the marker"))?),
        None => None,
    };
    if let Some(pair) = &change.pair {
        service.receive(&user, pair).await?;
    }
    if let Some(marker) = marker {
        if marker.other.is_none() {
            service.finish_account(&marker.user).await?;
        }
        marker.clear(&*service.store).await?;
    }
    Ok(())
}

async fn park(service: &Service, stored: &Stored, why: &Error) -> Result<(), Error> {
    tracing::error!(
        error = %why, partition = stored.place.partition, offset = stored.place.offset,
        "an account change cannot be handled and is parked"
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
