//! What comes from the log, taken in while something else is done.

use tandem_log::{LogError, Next, Reader, Stored};

/// What comes from the log and is not handled yet.
pub(crate) struct Intake {
    pub reader: Box<dyn Reader>,
    pub pending: Vec<(u32, Vec<Stored>)>,
    pub count: usize,
    pub most: usize,
    /// Octets of keys and values that are not handled yet.
    pub bytes: usize,
    pub most_bytes: usize,
    /// Partitions that came or went, after what is pending. Nothing more is read before it is handled.
    pub held: Option<Next>,
    pub failed: Option<LogError>,
}

impl Intake {
    /// Takes what was read.
    pub fn take(&mut self, next: Result<Next, LogError>) {
        match next {
            Ok(Next::Records(partition, records)) => {
                self.count += records.len();
                self.bytes += octets(&records);
                self.pending.push((partition, records));
            }
            Ok(Next::Revoked(lost)) => {
                // another reads them again
                self.pending.retain(|(p, _)| !lost.contains(p));
                self.count = self.pending.iter().map(|(_, r)| r.len()).sum();
                self.bytes = self.pending.iter().map(|(_, r)| octets(r)).sum();
                self.held = Some(Next::Revoked(lost));
            }
            Ok(assigned) => self.held = Some(assigned),
            Err(error) => self.failed = Some(error),
        }
    }

    /// Whether more may be read.
    pub fn open(&self) -> bool {
        let room = self.count < self.most && self.bytes < self.most_bytes;
        self.held.is_none() && self.failed.is_none() && room
    }

    /// Takes out what is pending.
    pub fn group(&mut self) -> (usize, Vec<(u32, Vec<Stored>)>) {
        self.bytes = 0;
        let count = std::mem::take(&mut self.count);
        (count, std::mem::take(&mut self.pending))
    }

    /// Partitions that are another's, which the reader has not heard of yet.
    pub fn lost(&self) -> &[u32] {
        match &self.held {
            Some(Next::Revoked(lost)) => lost,
            _ => &[],
        }
    }

    /// Does `work`, and goes on reading meanwhile.
    pub async fn beside<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            let open = self.open();
            tokio::select! {
                biased;
                done = &mut work => return done,
                next = self.reader.next(), if open => self.take(next),
            }
        }
    }
}

fn octets(records: &[Stored]) -> usize {
    let of = |r: &Stored| r.record.key.len() + r.record.value.len();
    records.iter().map(of).sum()
}
