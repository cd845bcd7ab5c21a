//! A person's device: the real client library, whatever it does and sees noted in the record.

use std::{sync::Arc, time::Duration};

use tandem_chassis::{Doors, Lifecycle, lifecycle::OnEnd, rng::Rng};
use tandem_checker::{Line, What, Who};
use tandem_client::{Client, Core, Options, Server, TokenSource};
use tandem_kernel::event::{Event, GroupCreate, Kind};
use tandem_proto::client::{self, PageRequest, Problem, PushToken, Status, contact_change};

use crate::{
    Failure, Result,
    air::{self, Air},
    cast::{Gadget, Person},
    record::Recorder,
    tally,
    watcher::Watcher,
};

/// Longest pause before a connection is tried again. Short, so that a fault's end is noticed soon.
const RETRY: Duration = Duration::from_secs(2);

/// How a device gets to the suite.
pub struct Way {
    /// Clock, randomness and network of the machine.
    pub doors: Doors,
    /// The edges, `host:port`.
    pub edges: Vec<String>,
    /// The device's tokens.
    pub tokens: Arc<dyn TokenSource>,
}

/// A device.
pub struct Device {
    /// Its place in the cast.
    pub index: tally::Who,
    /// What it is.
    pub gadget: Gadget,
    /// Its network.
    pub air: Arc<Air>,
    /// The session.
    pub client: Client,
    watcher: Arc<Watcher>,
    recorder: Arc<Recorder>,
}

impl Device {
    /// Connects.
    pub fn connect(
        index: tally::Who,
        (person, gadget): (&Person, &Gadget),
        way: Way,
        recorder: &Arc<Recorder>,
        rng: &Rng,
        lifecycle: &Lifecycle,
    ) -> Result<Arc<Self>> {
        let air = Air::new(&way.doors, way.edges, rng);
        let doors = Doors {
            net: air.clone(),
            ..way.doors
        };
        let identity = client::Device {
            id: gadget.id.to_owned(),
            class: gadget.class.into(),
            agent: "faults".into(),
        };
        let who = Who {
            user: person.address.clone(),
            device: gadget.id.to_owned(),
        };
        let watcher = Watcher::new(who, index, recorder);
        watcher.note(What::Device { listens: true });
        let mut options = Options::new(doors, Server::parse(air::EDGE)?, way.tokens, identity);
        options.retry_max = RETRY;
        let frames = watcher.clone();
        options.watch = Some(Arc::new(move |frame| frames.frame(frame)));
        let (client, mut updates) = Client::connect(options, lifecycle);
        let told = watcher.clone();
        lifecycle.spawn("updates", OnEnd::Fine, async move {
            while let Some(update) = updates.recv().await {
                told.update(&update);
            }
        });
        Ok(Arc::new(Self {
            index,
            gadget: gadget.clone(),
            air,
            client,
            watcher,
            recorder: recorder.clone(),
        }))
    }

    /// Which device, as the record names it.
    pub fn who(&self) -> &Who {
        &self.watcher.who
    }

    /// Sends an event.
    pub fn send(&self, conversation: &str, kind: Kind) {
        // what becomes of it comes as a frame
        drop(self.client.send(conversation, kind));
    }

    /// Begins a group.
    pub fn begin(&self, conversation: &str, members: Vec<String>) {
        let title = "faults".to_owned();
        let create = GroupCreate { title, members };
        self.send(conversation, Kind::GroupCreate(create));
    }

    /// Blocks somebody.
    pub async fn block(&self, whom: &str) -> Result<()> {
        let since = self.recorder.now();
        let block = contact_change::Action::Block;
        let change = self.client.contact_change(whom, block, "");
        change.await.map_err(|p| said(&p))?;
        self.recorder.fact(What::Block {
            by: self.who().user.clone(),
            blocked: whom.to_owned(),
            is: true,
            since,
        });
        Ok(())
    }

    /// Has notifications sent to this subscription.
    pub async fn subscribe(&self, token: PushToken) -> Result<()> {
        self.client
            .push_token(Some(token))
            .await
            .map_err(|p| said(&p))?;
        self.watcher.note(What::PushToken { is: true });
        Ok(())
    }

    /// Sets the person's status on this device.
    pub fn set_status(&self, status: Status) {
        self.client.set_presence(status, "");
    }

    /// The person reads what is there of a conversation.
    pub fn read(&self, conversation: &str) {
        let newest = |core: &Core| core.conversation(conversation).map(|c| c.newest().0);
        if let Some(seq) = self.client.look(newest).filter(|seq| *seq > 0) {
            self.client.read(conversation, seq);
        }
    }

    /// Notes what the device shows of a conversation.
    pub fn note_screen(&self, conversation: &str) {
        let lines = self.client.look(|core| {
            let messages = core.conversation(conversation)?.messages();
            let line = |m: tandem_client::domain::Message<'_>| Line {
                seq: m.seq,
                id: m.event.event_id.clone(),
                author: m.event.sender.clone(),
            };
            Some(messages.map(line).collect())
        });
        self.watcher.note(What::Screen {
            conversation: conversation.to_owned(),
            lines: lines.unwrap_or_default(),
        });
    }

    /// Reads a conversation back from history, from its first event to its last, and notes it.
    pub async fn read_back(&self, conversation: &str) -> Result<()> {
        let since = self.recorder.now();
        // seqs begin far above
        let mut after = 1;
        self.watcher.reading(true);
        loop {
            let ask = PageRequest {
                conversation: conversation.to_owned(),
                before: 0,
                after,
                limit: self.client.look(|core| core.limits().page),
            };
            let page = self.client.page(ask).await.map_err(|p| said(&p))?;
            after = page.events.last().map_or(after, |e| e.seq);
            let content = page.events.into_iter().filter(|e| !is_receipt(e));
            let line = |e: Event| Line {
                seq: e.seq,
                id: e.event_id,
                author: e.sender,
            };
            self.watcher.note(What::History {
                conversation: conversation.to_owned(),
                since,
                lines: content.map(line).collect(),
                complete: !page.more,
            });
            if !page.more {
                break;
            }
        }
        self.watcher.reading(false);
        Ok(())
    }

    /// Whether the device knows all there is, and everything that it sent was answered.
    pub fn is_quiet(&self) -> bool {
        let quiet = |core: &Core| core.is_synced() && core.all_answered();
        self.client.look(quiet)
    }

    /// Whether everything that it sent was answered.
    pub fn is_answered(&self) -> bool {
        self.client.look(Core::all_answered)
    }
}

fn is_receipt(event: &Event) -> bool {
    let kind = event.body.as_ref().and_then(|b| b.kind.as_ref());
    matches!(kind, Some(Kind::Receipt(_)))
}

fn said(problem: &Problem) -> Failure {
    format!("{}: {}", problem.code, problem.message).into()
}
