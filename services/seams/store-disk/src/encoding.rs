//! How rows lie on disk.
//!
//! Key: length of the partition key (2 octets, big endian), partition key, sort key. So the rows of a
//! partition are neighbours in the order of their sort keys, and no partition lies within another.
//! Value: `0`, value; or `1`, expiry (8 octets, big endian, milliseconds since 1970), value.

use std::ops::Bound;

use bytes::Bytes;
use tandem_kernel::UnixMillis;
use tandem_store::StoreError;

const FOR_EVER: u8 = 0;
const EXPIRES: u8 = 1;

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

/// Sets `out` to a stored value.
pub(crate) fn value_into(out: &mut Vec<u8>, value: &[u8], expiry: Option<UnixMillis>) {
    out.clear();
    match expiry {
        None => out.push(FOR_EVER),
        Some(at) => {
            out.push(EXPIRES);
            out.extend_from_slice(&at.0.to_be_bytes());
        }
    }
    out.extend_from_slice(value);
}

/// When a stored value expires (`None`: never), and the value.
pub(crate) fn split(stored: &[u8]) -> Result<(Option<UnixMillis>, &[u8]), StoreError> {
    match stored.split_first() {
        Some((&FOR_EVER, value)) => Ok((None, value)),
        Some((&EXPIRES, rest)) => {
            let (at, value) = rest
                .split_first_chunk::<8>()
                .ok_or_else(|| StoreError::Corrupt("a value's expiry is cut off".into()))?;
            Ok((Some(UnixMillis(i64::from_be_bytes(*at))), value))
        }
        _ => Err(StoreError::Corrupt(
            "a value begins with an unknown octet".into(),
        )),
    }
}

/// The value of a stored value that lives now.
pub(crate) fn live(stored: &[u8], now: UnixMillis) -> Result<Option<&[u8]>, StoreError> {
    let (expiry, value) = split(stored)?;
    Ok(expiry.is_none_or(|at| at > now).then_some(value))
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
    fn a_value_is_hidden_from_its_expiry_on() {
        let mut out = Vec::new();
        value_into(&mut out, b"v", Some(UnixMillis(10)));
        assert_eq!(live(&out, UnixMillis(9)).unwrap(), Some(&b"v"[..]));
        assert_eq!(live(&out, UnixMillis(10)).unwrap(), None);
        value_into(&mut out, b"", None);
        assert_eq!(live(&out, UnixMillis(i64::MAX)).unwrap(), Some(&b""[..]));
    }

    #[test]
    fn a_damaged_value_is_an_error() {
        assert!(split(b"").is_err());
        assert!(split(b"\x07abc").is_err());
        assert!(split(b"\x01abc").is_err());
    }
}
