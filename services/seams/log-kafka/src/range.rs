//! Ranges of records, read outside groups.

use std::ops::Range;

use rdkafka::{
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
};
use tandem_log::{LogError, Stored};

use crate::{
    context::Context,
    error, member,
    offsets::{Ask, NO_GROUP, Shared, create},
    record::stored,
};

/// Clients for ranges that are kept for the next one.
const IDLE: usize = 2;

impl Shared {
    /// Records of the range, at most `limit`. Blocks.
    pub fn read(
        &self,
        topic: &str,
        partition: u32,
        from: u64,
        limit: usize,
    ) -> Result<Vec<Stored>, LogError> {
        let one = |ask| {
            let found = self.ask(topic, &[partition], ask)?;
            Ok::<u64, LogError>(found.get(&partition).copied().unwrap_or(0))
        };
        let end = one(Ask::End)?;
        if limit == 0 || from >= end {
            return Ok(Vec::new());
        }
        let from = from.max(one(Ask::Oldest)?);
        if from >= end {
            return Ok(Vec::new());
        }
        let idle = self.idle.lock().pop();
        let client = match idle {
            Some(client) => client,
            None => create(&self.config, NO_GROUP)?,
        };
        let records = self.fetch(&client, topic, partition, from..end, limit)?;
        client.unassign().map_err(error::unavailable)?;
        let mut idle = self.idle.lock();
        if idle.len() < IDLE {
            idle.push(client);
        }
        Ok(records)
    }

    fn fetch(
        &self,
        client: &BaseConsumer<Context>,
        topic: &str,
        partition: u32,
        range: Range<u64>,
        limit: usize,
    ) -> Result<Vec<Stored>, LogError> {
        let list = member::list(topic, [(partition, member::offset(range.start))]);
        client.assign(&list).map_err(error::unavailable)?;
        let mut records = Vec::new();
        let mut until = self.doors.clock.monotonic() + self.timeout;
        loop {
            let error = match client.poll(self.timeout) {
                Some(Ok(message)) => {
                    let Some((_, stored, _)) = stored(&message) else {
                        continue;
                    };
                    let offset = stored.place.offset;
                    if offset < range.end {
                        records.push(stored);
                    }
                    if records.len() >= limit || offset + 1 >= range.end {
                        return Ok(records);
                    }
                    until = self.doors.clock.monotonic() + self.timeout;
                    continue;
                }
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok(records),
                Some(Err(error)) => Some(error),
                None => None,
            };
            if self.doors.clock.monotonic() >= until {
                return Err(match error {
                    Some(error) => error::of(error, topic),
                    None => error::unavailable("reading got no answer in time"),
                });
            }
        }
    }
}
