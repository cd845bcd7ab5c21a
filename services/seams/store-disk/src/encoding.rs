//! How rows lie on disk.
//!
//! Key: length of the partition key (2 octets, big endian), partition key, sort key. So the rows of a
//! partition are neighbours in the order of their sort keys, and no partition lies within another.
//! Value: `0`, value; or `1`, expiry (8 octets, big endian, milliseconds since 1970), value. With a version
//! (8 octets, big endian): `2`, version, value; or `3`, version, expiry, value; or `4`, version, expiry: the
//! row was deleted with this version, which is forgotten then.
//! That a partition was deleted with a version: key `0x80` + length, partition key; value as for a deleted row.

use std::ops::Bound;

use bytes::Bytes;
use tandem_kernel::UnixMillis;
use tandem_store::StoreError;

const FOR_EVER: u8 = 0;
const EXPIRES: u8 = 1;
const VERSION: u8 = 2;
const VERSION_EXPIRES: u8 = 3;
const DELETED: u8 = 4;

/// Set in the length of the partition key where a key is no row's.
const MARK: u16 = 0x8000;

/// What every key of the partition begins with, and no other.
pub(crate) fn prefix(partition: &[u8]) -> Vec<u8> {
    key(partition, &[])
}

/// The key of a row.
pub(crate) fn key(partition: &[u8], sort: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(2 + partition.len() + sort.len());
    key_into(&mut out, partition, sort);
    out
}

/// Sets `out` to the key of a row.
pub(crate) fn key_into(out: &mut Vec<u8>, partition: &[u8], sort: &[u8]) {
    out.clear();
    out.extend_from_slice(&(partition.len() as u16).to_be_bytes());
    out.extend_from_slice(partition);
    out.extend_from_slice(sort);
}

/// The key under which it is kept with which version a partition was deleted.
pub(crate) fn mark(partition: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(2 + partition.len());
    out.extend_from_slice(&(MARK | partition.len() as u16).to_be_bytes());
    out.extend_from_slice(partition);
    out
}

/// The sort key within a key of the partition with this prefix.
pub(crate) fn sort_of(key: &[u8], prefix: &[u8]) -> Bytes {
    Bytes::copy_from_slice(key.get(prefix.len()..).unwrap_or_default())
}

/// A range of keys.
pub(crate) type Keys = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// The bounds of keys for bounds of sort keys; `None` if nothing can lie between them.
pub(crate) fn bounds(prefix: &[u8], from: &Bound<Bytes>, to: &Bound<Bytes>) -> Option<Keys> {
    let whole = |sort: &Bytes| [prefix, sort].concat();
    let from = match from {
        Bound::Unbounded => Bound::Included(prefix.to_vec()),
        Bound::Included(s) => Bound::Included(whole(s)),
        Bound::Excluded(s) => Bound::Excluded(whole(s)),
    };
    let to = match to {
        Bound::Unbounded => Bound::Excluded(after(prefix)),
        Bound::Included(s) => Bound::Included(whole(s)),
        Bound::Excluded(s) => Bound::Excluded(whole(s)),
    };
    let some = match (&from, &to) {
        (Bound::Included(a), Bound::Included(b)) => a <= b,
        (Bound::Included(a) | Bound::Excluded(a), Bound::Included(b) | Bound::Excluded(b)) => a < b,
        _ => true,
    };
    some.then_some((from, to))
}

/// The lowest key above all that begin with `prefix`. The first octet of a prefix is small, so there is one.
fn after(prefix: &[u8]) -> Vec<u8> {
    let mut out = prefix.to_vec();
    while let Some(last) = out.pop() {
        if let Some(next) = last.checked_add(1) {
            out.push(next);
            break;
        }
    }
    out
}

/// What is stored for a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stored<'a> {
    /// With which version it was written; `None`: without.
    pub version: Option<u64>,
    /// From when on it is nothing; `None`: never.
    pub expiry: Option<UnixMillis>,
    /// The value; `None`: deleted.
    pub value: Option<&'a [u8]>,
}

impl<'a> Stored<'a> {
    /// Sets `out` to this.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        out.clear();
        out.push(match (self.value, self.version, self.expiry) {
            (None, ..) => DELETED,
            (Some(_), None, None) => FOR_EVER,
            (Some(_), None, Some(_)) => EXPIRES,
            (Some(_), Some(_), None) => VERSION,
            (Some(_), Some(_), Some(_)) => VERSION_EXPIRES,
        });
        if let Some(version) = self.version {
            out.extend_from_slice(&version.to_be_bytes());
        }
        if let Some(expiry) = self.expiry {
            out.extend_from_slice(&expiry.0.to_be_bytes());
        }
        out.extend_from_slice(self.value.unwrap_or_default());
    }

    /// Reads it.
    pub fn decode(stored: &'a [u8]) -> Result<Self, StoreError> {
        let Some((tag, mut rest)) = stored.split_first().filter(|(tag, _)| **tag <= DELETED) else {
            return Err(StoreError::Corrupt(
                "a value begins with an unknown octet".into(),
            ));
        };
        let mut next = || {
            let (octets, after) = rest.split_first_chunk::<8>().ok_or_else(|| {
                StoreError::Corrupt("a value's version or expiry is cut off".into())
            })?;
            rest = after;
            Ok(*octets)
        };
        let version = if *tag >= VERSION {
            Some(u64::from_be_bytes(next()?))
        } else {
            None
        };
        let expiry = if matches!(*tag, EXPIRES | VERSION_EXPIRES | DELETED) {
            Some(UnixMillis(i64::from_be_bytes(next()?)))
        } else {
            None
        };
        Ok(Self {
            version,
            expiry,
            value: (*tag != DELETED).then_some(rest),
        })
    }

    /// It is nothing any more, and need not be kept.
    pub fn over(&self, now: UnixMillis) -> bool {
        self.expiry.is_some_and(|at| at <= now)
    }
}

/// The value of a stored row that lives now.
pub(crate) fn live(stored: &[u8], now: UnixMillis) -> Result<Option<&[u8]>, StoreError> {
    let stored = Stored::decode(stored)?;
    Ok(stored.value.filter(|_| !stored.over(now)))
}

/// Whether what is stored need not be kept. What cannot be read is kept: whoever reads it is told.
pub(crate) fn over(stored: &[u8], now: UnixMillis) -> bool {
    Stored::decode(stored).is_ok_and(|s| s.over(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_a_partition_lie_between_its_bounds_and_no_others_do() {
        let partitions: [&[u8]; 6] = [b"a", b"a\0", b"a\xff", b"\xff\xff", b"\0", b"ab"];
        for p in partitions {
            let (from, to) = bounds(&prefix(p), &Bound::Unbounded, &Bound::Unbounded).unwrap();
            for q in partitions {
                for sort in [&b""[..], b"\0", b"\xff\xff\xff"] {
                    let within = std::ops::RangeBounds::<Vec<u8>>::contains(
                        &(from.clone(), to.clone()),
                        &key(q, sort),
                    );
                    assert_eq!(within, p == q, "{p:?} {q:?} {sort:?}");
                }
            }
        }
    }

    #[test]
    fn bounds_that_cross_hold_nothing() {
        let p = prefix(b"p");
        let (a, b) = (Bytes::from_static(b"a"), Bytes::from_static(b"b"));
        assert!(bounds(&p, &Bound::Included(b.clone()), &Bound::Included(a.clone())).is_none());
        assert!(bounds(&p, &Bound::Excluded(a.clone()), &Bound::Excluded(a.clone())).is_none());
        assert!(bounds(&p, &Bound::Included(a.clone()), &Bound::Excluded(a.clone())).is_none());
        assert!(bounds(&p, &Bound::Included(a.clone()), &Bound::Included(a)).is_some());
        let _ = b;
    }

    #[test]
    fn what_is_stored_is_read_back() {
        let mut out = Vec::new();
        for version in [None, Some(0), Some(u64::MAX)] {
            for expiry in [None, Some(UnixMillis(-1))] {
                for value in [None, Some(&b""[..]), Some(b"\x01v")] {
                    let stored = Stored {
                        version: version.or(value.is_none().then_some(7)),
                        expiry: expiry.or(value.is_none().then_some(UnixMillis(9))),
                        value,
                    };
                    stored.encode_into(&mut out);
                    assert_eq!(Stored::decode(&out).unwrap(), stored);
                }
            }
        }
    }

    #[test]
    fn a_value_is_hidden_from_its_expiry_on() {
        let old = [&[EXPIRES][..], &10_i64.to_be_bytes(), b"v"].concat();
        assert_eq!(live(&old, UnixMillis(9)).unwrap(), Some(&b"v"[..]));
        assert_eq!(live(&old, UnixMillis(10)).unwrap(), None);
        assert_eq!(
            (over(&old, UnixMillis(9)), over(&old, UnixMillis(10))),
            (false, true)
        );
        assert_eq!(live(b"\0", UnixMillis(i64::MAX)).unwrap(), Some(&b""[..]));
    }

    #[test]
    fn a_deleted_row_is_kept_hidden_until_it_is_over() {
        let mut out = Vec::new();
        Stored {
            version: Some(5),
            expiry: Some(UnixMillis(10)),
            value: None,
        }
        .encode_into(&mut out);
        assert_eq!(live(&out, UnixMillis(9)).unwrap(), None);
        assert_eq!(
            (over(&out, UnixMillis(9)), over(&out, UnixMillis(10))),
            (false, true)
        );
    }

    #[test]
    fn a_damaged_value_is_an_error() {
        assert!(Stored::decode(b"").is_err());
        assert!(Stored::decode(b"\x07abc").is_err());
        assert!(Stored::decode(b"\x01abc").is_err());
        assert!(Stored::decode(b"\x0300000000abc").is_err());
        assert!(!over(b"\x01abc", UnixMillis(i64::MAX)));
    }
}
