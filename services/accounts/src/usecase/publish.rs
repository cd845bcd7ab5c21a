//! Telling the topic `accounts` that an account changed.

use bytes::Bytes;
use prost::Message;
use tandem_kernel::{
    ACCOUNTS_TOPIC, Address,
    event::{AccountChange, PairChange},
    seq::partition_of,
};
use tandem_log::Record;
use tandem_proto::client::{Contact, contact::State};

use super::{Service, TRIES, contended};
use crate::{
    domain::{profile::Profile, relation::Side},
    error::Error,
    tables::{self, Marker},
};

/// Header of a record that clears this marker once it has been handled.
pub(crate) const PENDING_HEADER: &str = "pending";

/// Header with the version of the records' schema.
const SCHEMA_HEADER: &str = "v";

/// A relation as shown to its side.
pub(crate) fn contact(other: &Address, side: &Side) -> Contact {
    Contact {
        user: other.to_string(),
        name: side.name.clone(),
        state: side.state().into(),
        presence: None,
    }
}

/// What the other side must be told of this one.
pub(crate) fn pair(other: &Address, side: &Side, action: i32) -> PairChange {
    PairChange {
        other: other.to_string(),
        action,
        version: side.own.version,
        consent: side.own.consent,
        cancels: side.own.cancels,
        connected: side.own.connected,
    }
}

impl Service {
    /// Gives the account its next version; `None`: there is no account. Holds the user's lock.
    pub(crate) async fn bump(&self, user: &Address) -> Result<Option<u64>, Error> {
        let key = tables::account_key(user);
        for _ in 0..TRIES {
            let Some(held) = tables::load_account(&*self.store, user).await? else {
                return Ok(None);
            };
            let next = Profile {
                version: held.value.version + 1,
                ..held.value
            };
            if tables::replace(&*self.store, &key, Some(held.raw), &next).await? {
                return Ok(Some(next.version));
            }
        }
        contended()
    }

    /// Gives the account its next version and tells the topic of `side`, which was shown as `was` before;
    /// durable once it returns.
    /// With `tell`, the other side's half of it follows from the record, which then clears `marker`.
    pub(crate) async fn announce(
        &self,
        user: &Address,
        other: &Address,
        side: &Side,
        was: State,
        tell: Option<i32>,
        marker: Option<&Marker>,
    ) -> Result<(), Error> {
        let Some(version) = self.bump(user).await? else {
            return Ok(());
        };
        let change = AccountChange {
            user: user.to_string(),
            version,
            pair: tell.map(|action| pair(other, side, action)),
            contact: Some(contact(other, side)),
            was: was.into(),
        };
        self.publish(change, marker).await
    }

    /// Appends the record; durable once it returns.
    pub(crate) async fn publish(
        &self,
        change: AccountChange,
        marker: Option<&Marker>,
    ) -> Result<(), Error> {
        let mut headers = vec![(SCHEMA_HEADER.to_owned(), Bytes::from_static(b"1"))];
        if let Some(marker) = marker {
            headers.push((PENDING_HEADER.to_owned(), Bytes::from(marker.to_text())));
        }
        let partition = partition_of(change.user.as_bytes(), self.config.partitions);
        let record = Record {
            key: Bytes::copy_from_slice(change.user.as_bytes()),
            value: Bytes::from(change.encode_to_vec()),
            headers,
        };
        for appended in self
            .log
            .append(ACCOUNTS_TOPIC, vec![(partition, record)])
            .await
        {
            appended?;
        }
        self.metrics.changes.add(1);
        Ok(())
    }

    /// A marker for a change that is about to be made; durable once it returns.
    pub(crate) async fn mark(
        &self,
        user: &Address,
        other: Option<&Address>,
    ) -> Result<Marker, Error> {
        let marker = Marker::new(user, other, self.doors.rng.u64());
        marker.set(&*self.store, self.doors.clock.unix()).await?;
        Ok(marker)
    }
}
