//! What all submit streams share: reading an item, deciding on it with the facts at hand, finding the facts
//! that are not, and making its record.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use prost::Message;
use tandem_chassis::{Doors, telemetry::TRACEPARENT};
use tandem_kernel::{
    Address, Code, ConversationId, Pulse, Seq, UnixMillis,
    event::{Body, Envelope, Event, Kind},
    group::Group,
};
use tandem_log::{Log, Record};
use tandem_proto::client::Submit;

use crate::{
    config::Config,
    domain::{
        admission::{Facts, Need, Target, Verdict, admit},
        item::{self, Conversation, Item, Limits, Refused},
        rate::Rates,
        recent::Dedupe,
        relations::Relations,
    },
    metrics::Metrics,
    usecase::{directory::Directory, facts::EventFacts, relations::RelationsCache},
};

/// Name and value of the header that says how the value is to be read.
const SCHEMA: (&str, &[u8]) = ("v", b"1");

/// How often one item may ask for facts before it is refused.
const QUESTIONS: u32 = 8;

/// Copies that the readers of this replica remember, by partition.
pub type Dedupes = RwLock<BTreeMap<u32, Arc<Mutex<Dedupe>>>>;

/// What all streams share.
pub struct Admission {
    pub log: Arc<dyn Log>,
    pub topic: String,
    pub partitions: u32,
    pub doors: Doors,
    pub config: Config,
    pub metrics: Arc<Metrics>,
    pub relations: Arc<RelationsCache>,
    pub directory: Arc<Directory>,
    pub facts: Arc<EventFacts>,
    pub dedupes: Arc<Dedupes>,
    pub rates: Mutex<Rates>,
    /// What edges sent while this replica stood still, they may have given to another.
    pub pulse: Pulse,
}

/// Facts that were asked for, for one item.
#[derive(Default)]
pub struct Known {
    questions: u32,
    relations: BTreeMap<Address, Arc<Relations>>,
    group: Option<Arc<Group>>,
    target: Option<(Seq, Option<Target>)>,
    earlier: Earlier,
    /// They could not be had.
    refused: Option<Refused>,
}

/// Whether history has an earlier copy of an item.
#[derive(Default, Clone, Copy, PartialEq, Eq)]
pub enum Earlier {
    #[default]
    NotAsked,
    Unseen,
    At(Seq),
}

/// What to find out.
#[derive(Debug, Clone)]
pub enum Question {
    Need(Need),
    /// Whether history has an earlier copy.
    Earlier,
}

/// What was found out.
pub enum Learned {
    Relations(Vec<(Address, Arc<Relations>)>),
    Group(Arc<Group>),
    Target(Seq, Option<Target>),
    Earlier(Earlier),
}

/// What an item comes to.
pub enum Decision {
    Admit {
        withheld_from: Vec<Address>,
        request: bool,
    },
    Refuse(Refused),
    /// The log has it already.
    Earlier(Seq, UnixMillis),
    Ask(Question),
}

impl Known {
    /// Takes in what was found out.
    pub fn learn(&mut self, learned: Result<Learned, Refused>) {
        self.questions += 1;
        match learned {
            Ok(Learned::Relations(relations)) => self.relations.extend(relations),
            Ok(Learned::Group(group)) => self.group = Some(group),
            Ok(Learned::Target(seq, target)) => self.target = Some((seq, target)),
            Ok(Learned::Earlier(earlier)) => self.earlier = earlier,
            Err(refused) => self.refused = Some(refused),
        }
    }
}

/// An item's facts: in memory, or asked for.
struct AtHand<'a> {
    shared: &'a Admission,
    item: &'a Item,
    known: &'a Known,
    now: Duration,
}

impl Facts for AtHand<'_> {
    fn relations(&self, user: &Address) -> Option<Arc<Relations>> {
        let held = self.shared.relations.get(user, self.now);
        held.or_else(|| self.known.relations.get(user).cloned())
    }

    fn group(&self) -> Option<Arc<Group>> {
        let held = self
            .shared
            .directory
            .view(&self.item.conversation, self.now);
        held.or_else(|| self.known.group.clone())
    }

    fn blockers(&self, group: &Arc<Group>, sender: &Address) -> Result<Vec<Address>, Vec<Address>> {
        let (id, epoch) = (&self.item.conversation.id, self.shared.relations.epoch());
        self.shared
            .directory
            .blockers(id, group, sender, epoch, |user| self.relations(user))
    }

    fn target(&self, seq: Seq) -> Option<Option<Target>> {
        self.known
            .target
            .as_ref()
            .filter(|(of, _)| *of == seq)
            .map(|(_, target)| target.clone())
    }
}

impl Admission {
    /// A service behind routing does not answer: nothing was appended, and later it may be.
    pub fn unavailable(&self, message: &'static str) -> Refused {
        let retry_after_ms = self.config.retry_after_ms;
        Refused {
            code: Code::Unavailable,
            message,
            retry_after_ms,
        }
    }

    /// Which conversation `user` means.
    pub fn conversation_of(user: &Address, submit: &Submit) -> Result<ConversationId, Refused> {
        const FORM: Refused =
            Refused::new(Code::InvalidArgument, "no such form of a conversation id");
        if submit.conversation.is_empty() {
            const TO: Refused =
                Refused::new(Code::InvalidArgument, "name a conversation or an address");
            const SELF: Refused =
                Refused::new(Code::InvalidArgument, "nobody writes to themselves");
            let to = Address::parse(&submit.to).map_err(|_| TO)?;
            return ConversationId::one_to_one(user, &to).ok_or(SELF);
        }
        ConversationId::parse(&submit.conversation).map_err(|_| FORM)
    }

    /// Reads an item and counts it against its sender's rate.
    pub fn read(
        &self,
        user: Address,
        device: String,
        conversation: Arc<Conversation>,
        submit: Submit,
    ) -> Result<Item, Refused> {
        let limits = Limits {
            text_bytes: self.config.text_bytes,
        };
        let item = item::read(user, device, conversation, submit, limits)?;
        if !item.retry && !matches!(item.kind, Kind::Receipt(_)) {
            let now = self.doors.clock.monotonic();
            if let Err(wait) = self.rates.lock().take(&item.sender, now) {
                let retry_after_ms = u32::try_from(wait.as_millis() + 1).unwrap_or(u32::MAX);
                let message = "too many events in too little time";
                return Err(Refused {
                    code: Code::RateLimited,
                    message,
                    retry_after_ms,
                });
            }
        }
        Ok(item)
    }

    /// Decides on an item with the facts in memory and in `known`.
    pub fn decide(&self, item: &Item, known: &Known) -> Decision {
        if item.retry
            && let Some((seq, at)) = self.remembered(item)
        {
            return Decision::Earlier(seq, at);
        }
        if let Earlier::At(seq) = known.earlier {
            // when the log took it is forgotten; the sender's own time of it is not far
            let at = i64::try_from(item.event_id.0.as_u64_pair().0 >> 16).unwrap_or_default();
            return Decision::Earlier(seq, UnixMillis(at));
        }
        if let Some(refused) = &known.refused {
            return Decision::Refuse(refused.clone());
        }
        let facts = AtHand {
            shared: self,
            item,
            known,
            now: self.doors.clock.monotonic(),
        };
        match admit(item, &facts) {
            Verdict::Admit {
                withheld_from,
                request,
            } => Decision::Admit {
                withheld_from,
                request,
            },
            // it may have become a member through another replica a moment ago
            Verdict::Refuse(_)
                if item.conversation.pair.is_none()
                    && known.group.is_none()
                    && !self.directory.is_read(&item.conversation) =>
            {
                Decision::Ask(Question::Need(Need::Group))
            }
            // a refusal of what the log has would be untrue
            Verdict::Refuse(_) if item.retry && known.earlier == Earlier::NotAsked => {
                Decision::Ask(Question::Earlier)
            }
            Verdict::Refuse(refused) => Decision::Refuse(refused),
            Verdict::Need(_) if known.questions >= QUESTIONS => {
                Decision::Refuse(self.unavailable("what was to be known changed again and again"))
            }
            Verdict::Need(need) => Decision::Ask(Question::Need(need)),
        }
    }

    fn remembered(&self, item: &Item) -> Option<(Seq, UnixMillis)> {
        let dedupe = self
            .dedupes
            .read()
            .get(&item.conversation.partition)
            .cloned()?;
        let dedupe = dedupe.lock();
        dedupe.seen(item.sender.as_str(), item.event_id)
    }

    /// Finds out what an item's decision needs.
    pub async fn ask(
        self: Arc<Self>,
        item: Arc<Conversation>,
        sender: Address,
        event_id: tandem_kernel::EventId,
        question: Question,
    ) -> Result<Learned, Refused> {
        let deadline = Duration::from_millis(self.config.history_timeout_ms);
        let down = |message| self.unavailable(message);
        match question {
            Question::Need(Need::Relations(users)) => {
                let loaded = self.relations.load(&users).await;
                let loaded = loaded.map_err(|_| down("the recipients cannot be looked up now"))?;
                Ok(Learned::Relations(users.into_iter().zip(loaded).collect()))
            }
            Question::Need(Need::Group) => {
                let group = self.directory.load(&item).await;
                group.map(Learned::Group).map_err(|error| {
                    tracing::warn!(%error, "a group's row cannot be loaded");
                    down("the group cannot be looked up now")
                })
            }
            Question::Need(Need::Target(seq)) => {
                let target = self.facts.target(&item, seq, deadline).await;
                let target = target.map_err(|_| down("the message cannot be looked up now"))?;
                Ok(Learned::Target(seq, target))
            }
            Question::Earlier => {
                let place = self
                    .facts
                    .place_of(&item, sender.as_str(), event_id, deadline)
                    .await;
                let place = place.map_err(|_| down("an earlier copy cannot be looked up now"))?;
                Ok(Learned::Earlier(place.map_or(Earlier::Unseen, Earlier::At)))
            }
        }
    }
}

/// The record of an admitted event, and the texts of its id and conversation.
pub fn record(
    item: Item,
    event_id: String,
    withheld_from: &[Address],
    request: bool,
    traceparent: String,
) -> (Record, String, String) {
    let conversation = item.conversation.id.as_str().to_owned();
    let mut envelope = Envelope {
        event: Some(Event {
            event_id,
            conversation,
            sender: item.sender.as_str().to_owned(),
            body: Some(Body {
                kind: Some(item.kind),
            }),
            request,
            ..Event::default()
        }),
        device: item.device,
        retry: item.retry,
        withheld_from: withheld_from
            .iter()
            .map(|a| a.as_str().to_owned())
            .collect(),
    };
    let value = Bytes::from(envelope.encode_to_vec());
    let event = envelope.event.take().unwrap_or_default();
    let mut headers = Vec::with_capacity(1 + usize::from(!traceparent.is_empty()));
    headers.push((SCHEMA.0.to_owned(), Bytes::from_static(SCHEMA.1)));
    if !traceparent.is_empty() {
        headers.push((TRACEPARENT.to_owned(), Bytes::from(traceparent)));
    }
    let record = Record {
        key: item.conversation.key.clone(),
        value,
        headers,
    };
    (record, event.event_id, event.conversation)
}

/// The same record, marked as one that may be in the log already.
pub fn retried(record: &Record) -> Record {
    match Envelope::decode(record.value.as_ref()) {
        Ok(mut envelope) => {
            envelope.retry = true;
            Record {
                value: Bytes::from(envelope.encode_to_vec()),
                ..record.clone()
            }
        }
        Err(_) => record.clone(),
    }
}
