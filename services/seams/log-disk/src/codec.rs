//! How records lie on disk. One entry holds the records that one group of appends added to one
//! partition; its key orders entries by topic, partition and first offset.
//!
//! Entry, little endian: format (u8, 1), time of the records (i64, ms), bytes of keys and values of the
//! partition up to the entry's end since the topic began (u64), offset after the entry (u64), number of
//! records (u32); then each record: offset above the entry's first (u32), lengths of key (u32) and value
//! (u32), number of headers (u16), each header's lengths of name (u16) and value (u32), and then key,
//! value, names and values of headers as they come.

use bytes::{Buf, Bytes};
use tandem_kernel::{Place, UnixMillis};
use tandem_log::{LogError, Record, Stored};

const FORMAT: u8 = 1;
const HEAD: usize = 1 + 8 + 8 + 8 + 4;
/// A record's fixed part.
const FIXED: usize = 4 + 4 + 4 + 2;
/// A header's fixed part.
const HEADER: usize = 2 + 4;

/// Length of an entry's key.
pub const KEY: usize = 16;

/// The key of the entry that begins with `offset`.
pub fn entry_key(topic: u32, partition: u32, offset: u64) -> [u8; KEY] {
    let mut key = [0; KEY];
    key[..4].copy_from_slice(&topic.to_be_bytes());
    key[4..8].copy_from_slice(&partition.to_be_bytes());
    key[8..].copy_from_slice(&offset.to_be_bytes());
    key
}

/// Topic, partition and first offset of the entry with this key.
pub fn parse_entry_key(key: &[u8]) -> Option<(u32, u32, u64)> {
    if key.len() != KEY {
        return None;
    }
    let mut key = key;
    Some((key.get_u32(), key.get_u32(), key.get_u64()))
}

/// What a record counts for in retention by size.
pub fn weight(record: &Record) -> u64 {
    (record.key.len() + record.value.len()) as u64
}

/// What a record takes on disk, about.
pub fn size(record: &Record) -> usize {
    let headers: usize = record
        .headers
        .iter()
        .map(|(n, v)| HEADER + n.len() + v.len())
        .sum();
    FIXED + record.key.len() + record.value.len() + headers
}

/// An entry in the making.
#[derive(Debug)]
pub struct EntryBuilder {
    base: u64,
    count: u32,
    out: Vec<u8>,
}

impl EntryBuilder {
    /// An entry whose first offset is `base`.
    pub fn new(base: u64) -> Self {
        let mut out = Vec::with_capacity(512);
        out.resize(HEAD, 0);
        Self {
            base,
            count: 0,
            out,
        }
    }

    /// Its first offset.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// Number of records so far.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Bytes so far.
    pub fn size(&self) -> usize {
        self.out.len()
    }

    /// Adds a record at `offset`, which is above all before.
    pub fn push(&mut self, offset: u64, record: &Record) {
        let out = &mut self.out;
        out.extend_from_slice(&((offset - self.base) as u32).to_le_bytes());
        out.extend_from_slice(&(record.key.len() as u32).to_le_bytes());
        out.extend_from_slice(&(record.value.len() as u32).to_le_bytes());
        out.extend_from_slice(&(record.headers.len() as u16).to_le_bytes());
        for (name, value) in &record.headers {
            out.extend_from_slice(&(name.len() as u16).to_le_bytes());
            out.extend_from_slice(&(value.len() as u32).to_le_bytes());
        }
        out.extend_from_slice(&record.key);
        out.extend_from_slice(&record.value);
        for (name, value) in &record.headers {
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(value);
        }
        self.count += 1;
    }

    /// The entry's bytes. `next` is the offset after it.
    pub fn finish(mut self, at: UnixMillis, total: u64, next: u64) -> Vec<u8> {
        self.out[0] = FORMAT;
        self.out[1..9].copy_from_slice(&at.0.to_le_bytes());
        self.out[9..17].copy_from_slice(&total.to_le_bytes());
        self.out[17..25].copy_from_slice(&next.to_le_bytes());
        self.out[25..HEAD].copy_from_slice(&self.count.to_le_bytes());
        self.out
    }
}

/// What stands at an entry's beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryHead {
    /// First offset.
    pub base: u64,
    /// When its records were taken.
    pub at: UnixMillis,
    /// Bytes of keys and values up to its end since the topic began.
    pub total: u64,
    /// Offset after it.
    pub next: u64,
    /// Number of records.
    pub count: u32,
}

fn corrupt(what: &str) -> LogError {
    LogError::Corrupt(format!("entry {what}"))
}

/// Reads an entry's beginning.
pub fn head(base: u64, mut entry: &[u8]) -> Result<EntryHead, LogError> {
    if entry.len() < HEAD {
        return Err(corrupt("is cut off"));
    }
    if entry.get_u8() != FORMAT {
        return Err(corrupt("has an unknown format"));
    }
    Ok(EntryHead {
        base,
        at: UnixMillis(entry.get_i64_le()),
        total: entry.get_u64_le(),
        next: entry.get_u64_le(),
        count: entry.get_u32_le(),
    })
}

/// The entry's records at or above `from`, sharing its bytes.
pub fn records(
    partition: u32,
    head: &EntryHead,
    mut entry: Bytes,
    from: u64,
    mut each: impl FnMut(Stored) -> bool,
) -> Result<(), LogError> {
    let split = |entry: &mut Bytes, n: usize| {
        (entry.len() >= n)
            .then(|| entry.split_to(n))
            .ok_or_else(|| corrupt("is cut off"))
    };
    split(&mut entry, HEAD)?;
    let mut lengths = Vec::new();
    for _ in 0..head.count {
        let mut fixed = split(&mut entry, FIXED)?;
        let offset = head.base + u64::from(fixed.get_u32_le());
        let (key, value) = (fixed.get_u32_le() as usize, fixed.get_u32_le() as usize);
        let count = usize::from(fixed.get_u16_le());
        let mut table = split(&mut entry, count * HEADER)?;
        if offset < from {
            let mut skip = key + value;
            for _ in 0..count {
                skip += usize::from(table.get_u16_le()) + table.get_u32_le() as usize;
            }
            split(&mut entry, skip)?;
            continue;
        }
        lengths.clear();
        for _ in 0..count {
            lengths.push((usize::from(table.get_u16_le()), table.get_u32_le() as usize));
        }
        let (key, value) = (split(&mut entry, key)?, split(&mut entry, value)?);
        let mut headers = Vec::with_capacity(count);
        for (name, value) in &lengths {
            let name = split(&mut entry, *name)?;
            let name = std::str::from_utf8(&name).map_err(|_| corrupt("has a bad header name"))?;
            headers.push((name.to_owned(), split(&mut entry, *value)?));
        }
        let record = Record {
            key,
            value,
            headers,
        };
        if !each(Stored {
            place: Place { partition, offset },
            at: head.at,
            record,
        }) {
            return Ok(());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(n: u8) -> Record {
        Record {
            key: Bytes::from(vec![n; usize::from(n)]),
            value: Bytes::from(vec![n; 3]),
            headers: (0..n % 3)
                .map(|i| (format!("h{i}"), Bytes::from(vec![i])))
                .collect(),
        }
    }

    fn entry() -> Bytes {
        let mut builder = EntryBuilder::new(7);
        for n in 0..5u8 {
            builder.push(7 + u64::from(n) * 2, &sample(n));
        }
        builder.finish(UnixMillis(5), 99, 17).into()
    }

    #[test]
    fn an_entry_gives_back_what_was_put_into_it() {
        let head = head(7, &entry()).unwrap();
        assert_eq!((head.at, head.total, head.next), (UnixMillis(5), 99, 17));
        let mut seen = Vec::new();
        records(3, &head, entry(), 9, |s| {
            seen.push(s);
            true
        })
        .unwrap();
        let offsets: Vec<_> = seen.iter().map(|s| s.place.offset).collect();
        assert_eq!(offsets, [9, 11, 13, 15]);
        for (n, stored) in seen.iter().enumerate() {
            assert_eq!(stored.record, sample(n as u8 + 1));
            assert_eq!((stored.place.partition, stored.at), (3, UnixMillis(5)));
        }
    }

    #[test]
    fn an_entry_cut_anywhere_is_an_error_and_not_a_panic() {
        let whole = entry();
        for len in 0..whole.len() {
            let cut = whole.slice(..len);
            let read = head(7, &cut).and_then(|h| records(0, &h, cut, 0, |_| true));
            assert!(read.is_err(), "cut at {len}");
        }
    }
}
