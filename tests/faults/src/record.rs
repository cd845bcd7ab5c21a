//! The record of what every client did and saw, in the checker's format: in a file, one fact a line,
//! and in memory.

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
    facts: Vec<Record>,
    file: BufWriter<File>,
    tally: Tally,
}

/// The record as it grows. Facts stand in the order in which they became known.
pub struct Recorder {
    doors: Doors,
    path: PathBuf,
    inner: Mutex<Inner>,
}

impl Recorder {
    /// An empty record, kept in a new file, too. `by` says what records, for people.
    pub fn create(doors: &Doors, cast: &Cast, file: &Path, by: &str) -> Result<Arc<Self>> {
        let inner = Inner {
            facts: Vec::new(),
            file: BufWriter::new(File::create(file)?),
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
        // the memory is what counts; a file that cannot be written is found at the flush
        if serde_json::to_writer(&mut inner.file, &fact).is_ok() {
            let _ = inner.file.write_all(b"\n");
        }
        inner.facts.push(fact);
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

    /// The facts so far.
    pub fn look<T>(&self, look: impl FnOnce(&[Record]) -> T) -> T {
        look(&self.inner.lock().facts)
    }

    /// Everything is in the file, which is here.
    pub fn flush(&self) -> Result<&Path> {
        self.inner.lock().file.flush()?;
        Ok(&self.path)
    }
}
