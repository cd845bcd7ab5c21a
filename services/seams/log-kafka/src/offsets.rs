//! What is asked outside groups: partitions, offsets, committed places, ranges of records.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::{Mutex, RwLock};
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
};
use tandem_chassis::Doors;
use tandem_kernel::UnixMillis;
use tandem_log::{LogError, Stored};

use crate::{Config, context::Context, error, member};

type Client = BaseConsumer<Context>;

/// The group of clients that are in none. They neither join it nor commit.
pub const NO_GROUP: &str = "tandem.none";
/// How long what may pass waits to be asked again.
const AGAIN: Duration = Duration::from_millis(25);

/// What offset of a partition is asked for.
#[derive(Debug, Clone, Copy)]
pub enum Ask {
    /// The first record's.
    Oldest,
    /// The one after the last record that is durable.
    End,
    /// The first record's that was taken then or later.
    At(UnixMillis),
}

/// Asks. Cheap to clone.
#[derive(Clone)]
pub struct Offsets {
    shared: Arc<Shared>,
    doors: Doors,
}

pub struct Shared {
    pub config: Config,
    pub doors: Doors,
    pub timeout: Duration,
    client: Client,
    /// Of topics that are known to be there.
    partitions: RwLock<BTreeMap<String, u32>>,
    /// By group.
    groups: Mutex<BTreeMap<String, Arc<Client>>>,
    /// Kept for the next range.
    pub idle: Mutex<Vec<Client>>,
}

impl Offsets {
    pub fn new(config: &Config, doors: Doors) -> Result<Self, LogError> {
        let shared = Shared {
            client: create(config, NO_GROUP)?,
            config: config.clone(),
            doors: doors.clone(),
            timeout: Duration::from_millis(config.request_timeout_ms),
            partitions: RwLock::default(),
            groups: Mutex::default(),
            idle: Mutex::default(),
        };
        Ok(Self {
            shared: Arc::new(shared),
            doors,
        })
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T, LogError> + Send + 'static,
    ) -> Result<T, LogError> {
        let shared = Arc::clone(&self.shared);
        let done = self.doors.threads.run(move || work(&shared)).await;
        done.map_err(error::unavailable).flatten()
    }

    /// Whether a broker is reached; if not, why.
    pub async fn reach(&self) -> Result<(), String> {
        let reached = self.blocking(|shared| {
            let id = shared.client.client().fetch_cluster_id(shared.timeout);
            shared.serve();
            let why = || shared.client.context().last_error();
            Ok(id
                .map(drop)
                .ok_or_else(|| why().unwrap_or_else(|| "no answer".into())))
        });
        reached.await.map_err(|e| e.to_string())?
    }

    /// Number of partitions.
    pub async fn partitions(&self, topic: &str) -> Result<u32, LogError> {
        if let Some(partitions) = self.shared.known(topic) {
            return Ok(partitions);
        }
        let topic = topic.to_owned();
        self.blocking(move |shared| shared.partitions(&topic)).await
    }

    /// Number of partitions that have a leader, looked up anew; `None`: there is no such topic.
    pub async fn led(&self, topic: &str) -> Result<Option<(u32, u32)>, LogError> {
        let topic = topic.to_owned();
        self.blocking(move |shared| match shared.look_up(&topic) {
            Ok(found) => Ok(Some(found)),
            Err(LogError::NoTopic(_)) => Ok(None),
            Err(error) => Err(error),
        })
        .await
    }

    /// For each partition the offset after the last record that is durable.
    pub async fn ends(&self, topic: &str) -> Result<Vec<u64>, LogError> {
        self.of_all(topic, Ask::End).await
    }

    /// The offset asked for, of each partition.
    pub async fn of_all(&self, topic: &str, ask: Ask) -> Result<Vec<u64>, LogError> {
        let topic = topic.to_owned();
        self.blocking(move |shared| {
            let all: Vec<u32> = (0..shared.partitions(&topic)?).collect();
            let found = shared.ask(&topic, &all, ask)?;
            Ok(found.into_values().collect())
        })
        .await
    }

    /// The offset asked for, of these partitions.
    pub async fn of(
        &self,
        topic: &str,
        partitions: &[u32],
        ask: Ask,
    ) -> Result<BTreeMap<u32, u64>, LogError> {
        let (topic, partitions) = (topic.to_owned(), partitions.to_vec());
        self.blocking(move |shared| shared.ask(&topic, &partitions, ask))
            .await
    }

    /// The first offset whose record was taken then or later; the end if there is none.
    pub async fn at(&self, topic: &str, partition: u32, at: UnixMillis) -> Result<u64, LogError> {
        let found = self.of(topic, &[partition], Ask::At(at)).await?;
        found
            .get(&partition)
            .copied()
            .ok_or_else(|| error::unavailable("no offset was given"))
    }

    /// What the group has committed, of each partition.
    pub async fn committed(&self, topic: &str, group: &str) -> Result<Vec<Option<u64>>, LogError> {
        let (topic, group) = (topic.to_owned(), group.to_owned());
        self.blocking(move |shared| {
            let partitions = shared.partitions(&topic)?;
            let client = shared.of_group(&group)?;
            shared.insist(&topic, || {
                let all = member::list(&topic, (0..partitions).map(|p| (p, Offset::Invalid)));
                client.committed_offsets(all, shared.timeout)
            })
        })
        .await
        .map(|found| found.into_values().collect())
    }

    /// Records of a range.
    pub async fn read(
        &self,
        topic: &str,
        partition: u32,
        from: u64,
        limit: usize,
    ) -> Result<Vec<Stored>, LogError> {
        let topic = topic.to_owned();
        self.blocking(move |shared| {
            if partition >= shared.partitions(&topic)? {
                return Err(LogError::NoTopic(format!("{topic} {partition}")));
            }
            shared.read(&topic, partition, from, limit)
        })
        .await
    }

    /// Takes what clients that nobody polls have to say.
    pub async fn serve(&self) {
        let served = self.blocking(|shared| {
            shared.serve();
            Ok(())
        });
        let _ = served.await;
    }
}

/// A client that reads up to the end.
pub fn create(config: &Config, group: &str) -> Result<Client, LogError> {
    let mut c = config.consumer(group);
    c.set("enable.partition.eof", "true")
        .set("queued.min.messages", "1000")
        .set("queued.max.messages.kbytes", "2048");
    c.create_with_context(Context::default())
        .map_err(error::unavailable)
}

/// The offsets of a list.
pub fn found(
    list: &TopicPartitionList,
    topic: &str,
) -> Result<BTreeMap<u32, Option<u64>>, LogError> {
    let mut found = BTreeMap::new();
    for element in list.elements() {
        element.error().map_err(|e| error::of(e, topic))?;
        let partition = u32::try_from(element.partition()).map_err(error::unavailable)?;
        let offset = match element.offset() {
            Offset::Offset(offset) => u64::try_from(offset).ok(),
            _ => None,
        };
        found.insert(partition, offset);
    }
    Ok(found)
}

impl Shared {
    fn known(&self, topic: &str) -> Option<u32> {
        self.partitions.read().get(topic).copied()
    }

    fn partitions(&self, topic: &str) -> Result<u32, LogError> {
        if let Some(partitions) = self.known(topic) {
            return Ok(partitions);
        }
        let (partitions, _) = self.look_up(topic)?;
        self.partitions.write().insert(topic.to_owned(), partitions);
        Ok(partitions)
    }

    /// Its partitions, and how many of them have a leader.
    fn look_up(&self, topic: &str) -> Result<(u32, u32), LogError> {
        let metadata = self.client.fetch_metadata(Some(topic), self.timeout);
        let metadata = metadata.map_err(|e| error::of(e, topic))?;
        let found = metadata.topics().iter().find(|t| t.name() == topic);
        let found = found.ok_or_else(|| LogError::NoTopic(topic.to_owned()))?;
        if let Some(code) = found.error() {
            return Err(error::of_code(code.into(), topic));
        }
        let led = found.partitions().iter().filter(|p| p.leader() >= 0);
        match (found.partitions().len() as u32, led.count() as u32) {
            (0, _) => Err(LogError::NoTopic(topic.to_owned())),
            found => Ok(found),
        }
    }

    /// Asks again, for a while, what may pass. The topic is known to be there.
    fn insist(
        &self,
        topic: &str,
        ask: impl Fn() -> Result<TopicPartitionList, KafkaError>,
    ) -> Result<BTreeMap<u32, Option<u64>>, LogError> {
        let until = self.doors.clock.monotonic() + self.timeout;
        loop {
            let answer = match ask() {
                Ok(list) => found(&list, topic),
                Err(error) => Err(error::of(error, topic)),
            };
            match answer {
                Ok(found) => return Ok(found),
                Err(error) if self.doors.clock.monotonic() >= until => {
                    return Err(error::unavailable(error));
                }
                // not every broker may know a new topic
                Err(_) => std::thread::sleep(AGAIN),
            }
        }
    }

    /// The offset asked for, of these partitions. Blocks.
    pub fn ask(
        &self,
        topic: &str,
        partitions: &[u32],
        ask: Ask,
    ) -> Result<BTreeMap<u32, u64>, LogError> {
        let what = match ask {
            Ask::Oldest => Offset::Beginning,
            Ask::End => Offset::End,
            Ask::At(at) => Offset::Offset(at.0.max(0)),
        };
        let answered = self.insist(topic, || {
            let list = member::list(topic, partitions.iter().map(|p| (*p, what)));
            self.client.offsets_for_times(list, self.timeout)
        })?;
        let mut all = BTreeMap::new();
        let mut none = Vec::new();
        for (partition, offset) in answered {
            match offset {
                Some(offset) => drop(all.insert(partition, offset)),
                None => none.push(partition),
            }
        }
        if !none.is_empty() {
            if !matches!(ask, Ask::At(_)) {
                return Err(error::unavailable("no offset was given"));
            }
            all.extend(self.ask(topic, &none, Ask::End)?);
        }
        Ok(all)
    }

    fn of_group(&self, group: &str) -> Result<Arc<Client>, LogError> {
        let mut groups = self.groups.lock();
        if let Some(client) = groups.get(group) {
            return Ok(Arc::clone(client));
        }
        let client = Arc::new(create(&self.config, group)?);
        groups.insert(group.to_owned(), Arc::clone(&client));
        Ok(client)
    }

    /// Polls clients that nobody else polls: their log lines and errors would pile up.
    fn serve(&self) {
        serve(&self.client);
        let groups: Vec<_> = self.groups.lock().values().cloned().collect();
        for client in &groups {
            serve(client);
        }
        self.idle.lock().iter().for_each(serve);
    }
}

fn serve(client: &Client) {
    let mut before = u64::MAX;
    while client.context().events() != before {
        before = client.context().events();
        let _ = client.poll(Duration::ZERO);
    }
}
