//! A topic as the process has it.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use tandem_log::{LogError, Retention, TopicSpec};
use tokio::sync::Notify;

use crate::{disk::FoundTopic, group::Group, tail::Tail};

/// A topic's partitions, groups and readers.
#[derive(Debug)]
pub struct Topic {
    pub id: u32,
    pub name: String,
    pub retention: Mutex<Retention>,
    pub tails: Vec<Mutex<Tail>>,
    pub groups: Mutex<BTreeMap<Arc<str>, Arc<Mutex<Group>>>>,
    readers: Mutex<Vec<Arc<Notify>>>,
}

impl Topic {
    /// A new one.
    pub fn new(id: u32, spec: &TopicSpec) -> Self {
        Self {
            id,
            name: spec.name.clone(),
            retention: Mutex::new(spec.retention.clone()),
            tails: (0..spec.partitions).map(|_| Mutex::default()).collect(),
            groups: Mutex::default(),
            readers: Mutex::default(),
        }
    }

    /// One that was there.
    pub fn found(found: FoundTopic) -> Self {
        let groups = found
            .committed
            .into_iter()
            .map(|(g, c)| (g, Arc::new(Mutex::new(Group::new(c)))));
        Self {
            id: found.id,
            name: found.name,
            retention: Mutex::new(found.retention),
            tails: found.tails.into_iter().map(Mutex::new).collect(),
            groups: Mutex::new(groups.collect()),
            readers: Mutex::default(),
        }
    }

    /// Number of partitions.
    pub fn partitions(&self) -> u32 {
        self.tails.len() as u32
    }

    /// A partition's tail.
    pub fn tail(&self, partition: u32) -> Result<&Mutex<Tail>, LogError> {
        self.tails
            .get(partition as usize)
            .ok_or_else(|| LogError::NoTopic(format!("{}/{partition}", self.name)))
    }

    /// The group, made if need be.
    pub fn group(&self, name: &str) -> (Arc<str>, Arc<Mutex<Group>>) {
        let mut groups = self.groups.lock();
        if let Some((name, group)) = groups.get_key_value(name) {
            return (Arc::clone(name), Arc::clone(group));
        }
        let name: Arc<str> = name.into();
        let group = Arc::new(Mutex::new(Group::new(vec![None; self.tails.len()])));
        groups.insert(Arc::clone(&name), Arc::clone(&group));
        (name, group)
    }

    /// `reader` hears of what is appended or divided anew.
    pub fn add_reader(&self, reader: &Arc<Notify>) {
        self.readers.lock().push(Arc::clone(reader));
    }

    /// `reader` is gone.
    pub fn remove_reader(&self, reader: &Arc<Notify>) {
        self.readers.lock().retain(|r| !Arc::ptr_eq(r, reader));
    }

    /// Something has happened that readers may wait for.
    pub fn wake_readers(&self) {
        for reader in self.readers.lock().iter() {
            reader.notify_one();
        }
    }
}
