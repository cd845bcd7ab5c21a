//! Kafka's messages, as the log's records.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use rdkafka::{
    Message, Timestamp,
    message::{BorrowedMessage, Headers},
};
use tandem_kernel::{Place, UnixMillis};
use tandem_log::{Record, Stored};

/// Its partition, the record and its size in bytes. One allocation holds all its bytes.
pub fn stored(message: &BorrowedMessage<'_>) -> Option<(u32, Stored, usize)> {
    let partition = u32::try_from(message.partition()).ok()?;
    let offset = u64::try_from(message.offset()).ok()?;
    let (key, value) = (
        message.key().unwrap_or_default(),
        message.payload().unwrap_or_default(),
    );
    let mut headers: Vec<(&str, &[u8])> = Vec::new();
    if let Some(all) = message.headers() {
        headers.extend(all.iter().map(|h| (h.key, h.value.unwrap_or_default())));
    }
    let size = key.len() + value.len() + headers.iter().map(|(_, v)| v.len()).sum::<usize>();
    let mut all = BytesMut::with_capacity(size);
    all.extend_from_slice(key);
    all.extend_from_slice(value);
    for (_, value) in &headers {
        all.extend_from_slice(value);
    }
    let mut all = all.freeze();
    let record = Record {
        key: cut(&mut all, key.len()),
        value: cut(&mut all, value.len()),
        headers: headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), cut(&mut all, value.len())))
            .collect(),
    };
    let at = match message.timestamp() {
        Timestamp::LogAppendTime(at) | Timestamp::CreateTime(at) => at,
        Timestamp::NotAvailable => 0,
    };
    let stored = Stored {
        place: Place { partition, offset },
        at: UnixMillis(at),
        record,
    };
    Some((partition, stored, size))
}

fn cut(all: &mut Bytes, len: usize) -> Bytes {
    all.split_to(len)
}

/// Most bytes of one batch, about.
const BATCH: usize = 1 << 20;

/// Records that were taken and not yet given out, in batches of one partition each.
#[derive(Default)]
pub struct Ready(VecDeque<Batch>);

struct Batch {
    partition: u32,
    records: Vec<Stored>,
    bytes: usize,
}

impl Ready {
    /// Adds one at the end.
    pub fn push(&mut self, message: &BorrowedMessage<'_>) {
        let Some((partition, stored, bytes)) = stored(message) else {
            return;
        };
        match self.0.back_mut() {
            Some(last) if last.partition == partition && last.bytes < BATCH => {
                last.records.push(stored);
                last.bytes += bytes;
            }
            _ => self.0.push_back(Batch {
                partition,
                records: vec![stored],
                bytes,
            }),
        }
    }

    /// The first batch of a partition that may be read.
    pub fn take(&mut self, may: impl Fn(u32) -> bool) -> Option<(u32, Vec<Stored>)> {
        let first = self.0.iter().position(|batch| may(batch.partition))?;
        let batch = self.0.remove(first)?;
        Some((batch.partition, batch.records))
    }

    /// Drops what there is of these partitions.
    pub fn forget(&mut self, these: impl Fn(u32) -> bool) {
        self.0.retain(|batch| !these(batch.partition));
    }
}
