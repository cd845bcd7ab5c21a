//! The directory of groups: rows in the store, written by the reader of a conversation's partition alone,
//! and a memory of them.
//!
//! Admission sees a group with the changes that this replica has admitted itself and the reader has not
//! folded yet, in their order, so that a client need not wait for one change before it sends the next.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tandem_chassis::Doors;
use tandem_kernel::{Address, ConversationId, EventId, Seq, event::Kind, group::Group};
use tandem_store::{Batch, Key, Op, Store, Table};

use crate::{
    config::Config,
    domain::{fold::Folder, generations::Generations, item::Conversation, relations::Relations},
    error::Error,
};

/// One row a group; partition: the conversation's id; sort: empty.
pub const TABLE: Table = Table("directory");

/// Groups in memory.
const GROUPS: usize = 20_000;
/// A change that was admitted and was not seen in the directory for so long did not count.
const PENDING: Duration = Duration::from_secs(10);

struct Pending {
    event_id: EventId,
    sender: Address,
    kind: Kind,
    /// Known once it is appended.
    seq: Option<Seq>,
    until: Duration,
}

/// Who has blocked whom, as (blocker, blocked).
type Blocks = Arc<Vec<(Address, Address)>>;

struct Entry {
    base: Arc<Group>,
    /// The base with what is pending.
    view: Arc<Group>,
    pending: Vec<Pending>,
    loaded_at: Duration,
    /// Tenure of the partition in which this replica's reader published it; 0: read from the store.
    tenure: u64,
    /// Blocks among the members, with the epoch of the relations that they were found in.
    blocks: Option<(u64, Blocks)>,
}

impl Entry {
    fn renew(&mut self, now: Duration) {
        let folded = self.base.as_of;
        self.pending
            .retain(|p| p.until > now && p.seq.is_none_or(|s| s > folded));
        self.view = if self.pending.is_empty() {
            Arc::clone(&self.base)
        } else {
            let mut view = Group::clone(&self.base);
            for change in &self.pending {
                let seq = Seq(view.as_of.0 + 1);
                // one that does not count any more changes nothing
                let _ = view.apply(
                    change.seq.unwrap_or(seq).max(seq),
                    &change.sender,
                    &change.kind,
                );
            }
            Arc::new(view)
        };
        self.blocks = None;
    }
}

/// The directory.
pub struct Directory {
    store: Arc<dyn Store>,
    doors: Doors,
    entries: Mutex<Generations<ConversationId, Entry>>,
    /// For each partition: odd while this replica reads it, and another number each time.
    tenures: RwLock<Vec<u64>>,
    fresh: Duration,
}

impl Directory {
    pub fn new(store: Arc<dyn Store>, doors: Doors, partitions: u32, config: &Config) -> Self {
        Self {
            store,
            doors,
            entries: Mutex::new(Generations::new(GROUPS)),
            tenures: RwLock::new(vec![0; partitions as usize]),
            fresh: Duration::from_millis(config.directory_fresh_ms),
        }
    }

    /// This replica reads the partition from now on (or no longer).
    pub fn reads(&self, partition: u32, reads: bool) {
        if let Some(tenure) = self.tenures.write().get_mut(partition as usize)
            && (*tenure % 2 == 1) != reads
        {
            *tenure += 1;
        }
    }

    fn tenure(&self, partition: u32) -> u64 {
        self.tenures
            .read()
            .get(partition as usize)
            .copied()
            .unwrap_or(0)
    }

    /// Whether this replica reads the conversation's partition, so that it knows of every change at once.
    pub fn is_read(&self, conversation: &Conversation) -> bool {
        self.tenure(conversation.partition) % 2 == 1
    }

    /// The group as admission is to see it; `None`: it must be loaded first.
    pub fn view(&self, conversation: &Conversation, now: Duration) -> Option<Arc<Group>> {
        let tenure = self.tenure(conversation.partition);
        let mut entries = self.entries.lock();
        let entry = entries.get_mut(&conversation.id)?;
        if entry.pending.iter().any(|p| p.until <= now) {
            entry.renew(now);
        }
        let owned = tenure % 2 == 1 && entry.tenure == tenure;
        (owned || now < entry.loaded_at + self.fresh).then(|| Arc::clone(&entry.view))
    }

    /// The group up to its `as_of`, and the group with what is pending.
    pub async fn both(
        &self,
        conversation: &Conversation,
    ) -> Result<(Arc<Group>, Arc<Group>), Error> {
        let now = self.doors.clock.monotonic();
        if self.view(conversation, now).is_none() {
            self.load(conversation).await?;
        }
        let mut entries = self.entries.lock();
        let entry = entries.get_mut(&conversation.id);
        Ok(entry.map_or_else(Default::default, |e| {
            (Arc::clone(&e.base), Arc::clone(&e.view))
        }))
    }

    /// Reads the group's row for admission.
    pub async fn load(&self, conversation: &Conversation) -> Result<Arc<Group>, Error> {
        let folder = self.read(&conversation.id).await?;
        let now = self.doors.clock.monotonic();
        Ok(self.put(&conversation.id, Arc::clone(folder.group()), now, 0))
    }

    /// Reads the group's row for the reader of its partition, which folds it from there on.
    pub async fn load_to_fold(&self, conversation: &Conversation) -> Result<Folder, Error> {
        let folder = self.read(&conversation.id).await?;
        self.publish(conversation, &folder, None);
        Ok(folder)
    }

    async fn read(&self, conversation: &ConversationId) -> Result<Folder, Error> {
        let row = self.store.get(&key(conversation)).await?;
        row.map_or_else(
            || Ok(Folder::default()),
            |row| Folder::from_row(&row).map_err(Error::Row),
        )
    }

    /// The reader of the partition has folded the group up to here, the event `by` last.
    pub fn publish(&self, conversation: &Conversation, folder: &Folder, by: Option<EventId>) {
        let now = self.doors.clock.monotonic();
        if let Some(by) = by
            && let Some(entry) = self.entries.lock().get_mut(&conversation.id)
        {
            entry.pending.retain(|p| p.event_id != by);
        }
        let tenure = self.tenure(conversation.partition);
        let owned = if tenure % 2 == 1 { tenure } else { 0 };
        self.put(&conversation.id, Arc::clone(folder.group()), now, owned);
    }

    /// The reader found the change at `seq` to be void.
    pub fn voided(&self, conversation: &Conversation, seq: Seq) {
        let now = self.doors.clock.monotonic();
        let mut entries = self.entries.lock();
        if let Some(entry) = entries.get_mut(&conversation.id)
            && entry
                .pending
                .iter()
                .any(|p| p.seq.is_some_and(|s| s <= seq))
        {
            entry.pending.retain(|p| p.seq.is_none_or(|s| s > seq));
            entry.renew(now);
        }
    }

    fn put(&self, id: &ConversationId, base: Arc<Group>, now: Duration, tenure: u64) -> Arc<Group> {
        let mut entries = self.entries.lock();
        let entry = entries.entry(id, || Entry {
            view: Arc::clone(&base),
            base: Arc::clone(&base),
            pending: Vec::new(),
            loaded_at: now,
            tenure,
            blocks: None,
        });
        // a row read before the reader's newest fold is older than it
        if base.as_of >= entry.base.as_of {
            let same = base.as_of == entry.base.as_of;
            entry.base = base;
            entry.loaded_at = now;
            if tenure != 0 || !same {
                entry.tenure = tenure;
            }
            if !same || !entry.pending.is_empty() {
                entry.renew(now);
            }
        } else {
            // what is here is newer than the row, so it is no staler than the row would be
            entry.loaded_at = now;
        }
        Arc::clone(&entry.view)
    }

    /// A change has been admitted and is on its way to the log.
    pub fn admitted(&self, id: &ConversationId, event_id: EventId, sender: &Address, kind: &Kind) {
        let now = self.doors.clock.monotonic();
        let mut entries = self.entries.lock();
        let Some(entry) = entries.get_mut(id) else {
            return;
        };
        entry.pending.push(Pending {
            event_id,
            sender: sender.clone(),
            kind: kind.clone(),
            seq: None,
            until: now + PENDING,
        });
        entry.renew(now);
    }

    /// The log has the change at `seq`.
    pub fn appended(&self, id: &ConversationId, event_id: EventId, seq: Seq) {
        let now = self.doors.clock.monotonic();
        let mut entries = self.entries.lock();
        let Some(entry) = entries.get_mut(id) else {
            return;
        };
        for change in entry.pending.iter_mut().filter(|p| p.event_id == event_id) {
            change.seq = Some(seq);
        }
        entry.renew(now);
    }

    /// Given the relations, which are of `epoch`: members of the group as in `view` who have blocked `sender`; or whose relations are not known.
    pub fn blockers(
        &self,
        id: &ConversationId,
        view: &Arc<Group>,
        sender: &Address,
        epoch: u64,
        relations: impl Fn(&Address) -> Option<Arc<Relations>>,
    ) -> Result<Vec<Address>, Vec<Address>> {
        let held = {
            let mut entries = self.entries.lock();
            let entry = entries.get_mut(id).filter(|e| Arc::ptr_eq(&e.view, view));
            entry
                .and_then(|e| e.blocks.clone())
                .filter(|(e, _)| *e == epoch)
        };
        let blocks = if let Some((_, blocks)) = held {
            blocks
        } else {
            let blocks = Arc::new(blocks_in(view, relations)?);
            let mut entries = self.entries.lock();
            let entry = entries.get_mut(id).filter(|e| Arc::ptr_eq(&e.view, view));
            if let Some(entry) = entry {
                entry.blocks = Some((epoch, Arc::clone(&blocks)));
            }
            blocks
        };
        let of = blocks.iter().filter(|(_, blocked)| blocked == sender);
        Ok(of.map(|(blocker, _)| blocker.clone()).collect())
    }

    /// Writes the groups' rows, each with the seq of the change that made it: a reader that was replaced
    /// without knowing undoes nothing. Once it returns, they are durable.
    pub async fn write(&self, rows: Vec<(ConversationId, Seq, Vec<u8>)>) -> Result<(), Error> {
        let batch = |(id, seq, row): (ConversationId, Seq, Vec<u8>)| Batch {
            table: TABLE,
            partition: partition(&id),
            ops: vec![Op::Put {
                sort: Bytes::new(),
                value: row.into(),
                ttl: None,
            }],
            version: Some(seq.0),
        };
        Ok(self
            .store
            .write(rows.into_iter().map(batch).collect())
            .await?)
    }
}

fn blocks_in(
    group: &Group,
    relations: impl Fn(&Address) -> Option<Arc<Relations>>,
) -> Result<Vec<(Address, Address)>, Vec<Address>> {
    let (mut pairs, mut unknown) = (Vec::new(), Vec::new());
    for member in group.members.keys() {
        match relations(member) {
            None => unknown.push(member.clone()),
            Some(of) => pairs.extend(of.blocked().iter().map(|b| (member.clone(), b.clone()))),
        }
    }
    if unknown.is_empty() {
        Ok(pairs)
    } else {
        Err(unknown)
    }
}

fn partition(id: &ConversationId) -> Bytes {
    Bytes::copy_from_slice(id.as_str().as_bytes())
}

fn key(id: &ConversationId) -> Key {
    Key {
        table: TABLE,
        partition: partition(id),
        sort: Bytes::new(),
    }
}
