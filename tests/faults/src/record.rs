//! The record of what every client did and saw, in the checker's format: a file, one fact a line.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;
use tandem_chassis::Doors;
use tandem_checker::{Record, VERSION, What, Who};

use crate::{
    Result,
    cast::Cast,
    tally::{self, Tally},
};

struct Inner {
    file: BufWriter<File>,
    written: u64,
    tally: Tally,
}

/// The record as it grows. Facts stand in the order in which they became known.
pub struct Recorder {
    doors: Doors,
    path: PathBuf,
    inner: Mutex<Inner>,
}

impl Recorder {
    /// An empty record in a new file. `by` says what records, for people.
    pub fn create(doors: &Doors, cast: &Cast, file: &Path, by: &str) -> Result<Arc<Self>> {
        let inner = Inner {
            file: BufWriter::with_capacity(1 << 16, File::create(file)?),
            written: 0,
            tally: Tally::new(cast),
        };
        let this = Arc::new(Self {
            doors: doors.clone(),
            path: file.to_owned(),
            inner: Mutex::new(inner),
        });
        this.fact(What::Begun {
            version: VERSION,
            by: by.to_owned(),
        });
        Ok(this)
    }

    /// The time of the record, in microseconds.
    pub fn now(&self) -> u64 {
        self.doors.clock.monotonic().as_micros() as u64
    }

    fn add(&self, inner: &mut Inner, who: Option<&Who>, what: What) {
        let fact = Record {
            // taken in the lock, so that it never falls
            at: self.now(),
            who: who.cloned(),
            what,
        };
        if let Ok(mut line) = serde_json::to_vec(&fact) {
            line.push(b'\n');
            // a file that cannot be written is found at the flush
            if inner.file.write_all(&line).is_ok() {
                inner.written += line.len() as u64;
            }
        }
    }

    /// Something that the driver knows.
    pub fn fact(&self, what: What) {
        self.add(&mut self.inner.lock(), None, what);
    }

    /// Something that happened on a device.
    pub fn note(&self, who: &Who, what: What) {
        self.add(&mut self.inner.lock(), Some(who), what);
    }

    /// A device was told that its event is in the log.
    pub fn accepted(&self, device: tally::Who, event_id: &str, conversation: &str) {
        let tally = &mut self.inner.lock().tally;
        tally.accept(device.0, event_id, conversation);
    }

    /// A device shows an event as something new.
    pub fn shown(&self, device: tally::Who, conversation: &str, author: &str) {
        let tally = &mut self.inner.lock().tally;
        tally.show(device, conversation, author);
    }

    /// How many events were accepted.
    pub fn count_accepted(&self) -> u64 {
        self.inner.lock().tally.accepted()
    }

    /// How many accepted events a device does not show yet.
    pub fn lacking(&self, device: tally::Who) -> u64 {
        self.inner.lock().tally.lacking(device)
    }

    /// Everything so far is in the file: which that is, and how many octets of it that are.
    pub fn flush(&self) -> Result<(&Path, u64)> {
        let mut inner = self.inner.lock();
        inner.file.flush()?;
        Ok((&self.path, inner.written))
    }
}
