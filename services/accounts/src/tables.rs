//! The tables: keys and values of rows, and reading and changing one row.
//!
//! | table | partition | sort | value | changed by |
//! | --- | --- | --- | --- | --- |
//! | `accounts` | user | | [`Profile`] | put-if |
//! | `phones` | E.164 | | [`Holder`]; empty: free | put-if |
//! | `contacts` | user | other | [`Side`] | put-if |
//! | `devices` | user | device | time set, push token; empty: removed | put-if |
//! | `pending` | bucket | user, other, nonce | when it was last driven | put |

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tandem_kernel::{Address, UnixMillis};
use tandem_store::{Batch, Key, Op, PutIf, Range, Row, Store, StoreError, Table};

use crate::{
    domain::{profile::Profile, relation::Side},
    error::Error,
};

pub(crate) const ACCOUNTS: Table = Table("accounts");
pub(crate) const PHONES: Table = Table("phones");
pub(crate) const CONTACTS: Table = Table("contacts");
pub(crate) const DEVICES: Table = Table("devices");
pub(crate) const PENDING: Table = Table("pending");
pub(crate) const ALL: [Table; 5] = [ACCOUNTS, PHONES, CONTACTS, DEVICES, PENDING];

/// Buckets of `pending`. Never changes.
pub(crate) const BUCKETS: u32 = 16;

/// How long a removed row of `phones` or `devices` stays as an empty one.
pub(crate) const EMPTY_FOR: Duration = Duration::from_hours(24);

/// Rows a read of a partition takes at once.
const PAGE: usize = 1_000;

/// Who holds a number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Holder {
    /// Whose it is, if the account says so, too.
    pub user: String,
    /// Another one at each claim, so that a claim renewed is not mistaken for the one before.
    pub nonce: u64,
}

/// A row as read: what it says, and its octets to expect at a put-if.
#[derive(Debug, Clone)]
pub(crate) struct Held<T> {
    pub value: T,
    pub raw: Bytes,
}

fn octets(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub(crate) fn account_key(user: &Address) -> Key {
    Key {
        table: ACCOUNTS,
        partition: octets(user.as_str()),
        sort: Bytes::new(),
    }
}

pub(crate) fn phone_key(number: &str) -> Key {
    Key {
        table: PHONES,
        partition: octets(number),
        sort: Bytes::new(),
    }
}

pub(crate) fn contact_key(user: &Address, other: &Address) -> Key {
    Key {
        table: CONTACTS,
        partition: octets(user.as_str()),
        sort: octets(other.as_str()),
    }
}

pub(crate) fn device_key(user: &Address, device: &str) -> Key {
    Key {
        table: DEVICES,
        partition: octets(user.as_str()),
        sort: octets(device),
    }
}

pub(crate) fn encode<T: Serialize>(value: &T, what: &'static str) -> Result<Bytes, Error> {
    serde_json::to_vec(value)
        .map(Bytes::from)
        .map_err(|_| Error::Row(what))
}

pub(crate) fn decode<T: DeserializeOwned>(raw: &[u8], what: &'static str) -> Result<T, Error> {
    serde_json::from_slice(raw).map_err(|_| Error::Row(what))
}

/// A row that holds JSON; an empty one is none.
pub(crate) async fn load<T: DeserializeOwned>(
    store: &dyn Store,
    key: &Key,
) -> Result<Option<Held<T>>, Error> {
    match store.get(key).await? {
        Some(raw) if !raw.is_empty() => Ok(Some(Held {
            value: decode(&raw, key.table.0)?,
            raw,
        })),
        _ => Ok(None),
    }
}

/// Sets a row if it is as it was read. False: it is not any more.
pub(crate) async fn replace<T: Serialize>(
    store: &dyn Store,
    key: &Key,
    expected: Option<Bytes>,
    value: &T,
) -> Result<bool, Error> {
    let value = encode(value, key.table.0)?;
    Ok(store.put_if(key, expected, value, None).await? == PutIf::Done)
}

pub(crate) async fn load_account(
    store: &dyn Store,
    user: &Address,
) -> Result<Option<Held<Profile>>, Error> {
    load(store, &account_key(user)).await
}

/// All rows of a partition.
async fn all(store: &dyn Store, table: Table, partition: &[u8]) -> Result<Vec<Row>, StoreError> {
    let mut range = Range::all(PAGE);
    let mut rows = store.range(table, partition, range.clone()).await?;
    let mut full = rows.len() == PAGE;
    while let (true, Some(last)) = (full, rows.last()) {
        range.from = std::ops::Bound::Excluded(last.sort.clone());
        let more = store.range(table, partition, range.clone()).await?;
        full = more.len() == PAGE;
        rows.extend(more);
    }
    Ok(rows)
}

/// All the sides of a subscriber, ordered by the other's address.
pub(crate) async fn sides(
    store: &dyn Store,
    user: &Address,
) -> Result<Vec<(Address, Side)>, Error> {
    let rows = all(store, CONTACTS, user.as_str().as_bytes()).await?;
    rows.into_iter()
        .map(|row| {
            let other = std::str::from_utf8(&row.sort)
                .ok()
                .and_then(|t| Address::parse(t).ok());
            Ok((
                other.ok_or(Error::Row("contacts"))?,
                decode(&row.value, "contacts")?,
            ))
        })
        .collect()
}

/// The devices of a subscriber that were not removed: device, when set, token, and the row's octets.
pub(crate) async fn devices(store: &dyn Store, user: &Address) -> Result<Vec<Row>, StoreError> {
    let mut rows = all(store, DEVICES, user.as_str().as_bytes()).await?;
    rows.retain(|r| !r.value.is_empty());
    Ok(rows)
}

/// That a change was begun: it stays until the change has come to its end, so that one which lost its
/// record in the log is driven on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Marker {
    pub user: Address,
    /// The other side of a pair; `None`: the account itself.
    pub other: Option<Address>,
    nonce: u64,
}

impl Marker {
    pub(crate) fn new(user: &Address, other: Option<&Address>, nonce: u64) -> Self {
        Self {
            user: user.clone(),
            other: other.cloned(),
            nonce,
        }
    }

    /// Sort key; also the value of the record's header. No address has a space.
    pub(crate) fn to_text(&self) -> String {
        let other = self.other.as_ref().map_or("", Address::as_str);
        format!("{} {other} {:016x}", self.user, self.nonce)
    }

    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let mut parts = std::str::from_utf8(text).ok()?.split(' ');
        let user = Address::parse(parts.next()?).ok()?;
        let other = match parts.next()? {
            "" => None,
            other => Some(Address::parse(other).ok()?),
        };
        let nonce = u64::from_str_radix(parts.next()?, 16).ok()?;
        parts
            .next()
            .is_none()
            .then_some(Self { user, other, nonce })
    }

    fn partition(&self) -> Bytes {
        let bucket = tandem_kernel::seq::partition_of(self.user.as_str().as_bytes(), BUCKETS);
        Bytes::copy_from_slice(&bucket.to_be_bytes())
    }

    fn batch(&self, op: impl FnOnce(Bytes) -> Op) -> Vec<Batch> {
        let sort = Bytes::from(self.to_text());
        vec![Batch {
            version: None,
            table: PENDING,
            partition: self.partition(),
            ops: vec![op(sort)],
        }]
    }

    /// Durable once it returns.
    pub(crate) async fn set(&self, store: &dyn Store, at: UnixMillis) -> Result<(), StoreError> {
        let value = Bytes::copy_from_slice(&at.0.to_be_bytes());
        store
            .write(self.batch(|sort| Op::Put {
                sort,
                value,
                ttl: None,
            }))
            .await
    }

    pub(crate) async fn clear(&self, store: &dyn Store) -> Result<(), StoreError> {
        store.write(self.batch(|sort| Op::Delete { sort })).await
    }

    /// All that stand, with the time at which they were last driven.
    pub(crate) async fn list(
        store: &dyn Store,
        bucket: u32,
    ) -> Result<Vec<(Self, UnixMillis)>, StoreError> {
        let rows = all(store, PENDING, &bucket.to_be_bytes()).await?;
        let read = |row: Row| {
            let at = <[u8; 8]>::try_from(row.value.as_ref()).map_or(0, i64::from_be_bytes);
            Some((Self::parse(&row.sort)?, UnixMillis(at)))
        };
        Ok(rows.into_iter().filter_map(read).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_is_read_back_from_its_key() {
        let a = Address::parse("a@example.com").unwrap();
        let b = Address::parse("b@example.com").unwrap();
        for other in [None, Some(&b)] {
            let marker = Marker::new(&a, other, 7);
            assert_eq!(Marker::parse(marker.to_text().as_bytes()), Some(marker));
        }
        assert_eq!(Marker::parse(b"a@example.com"), None);
    }
}
