//! People with devices, what they sent, and what their devices show.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tandem_chassis::Lifecycle;
use tandem_client::{Client, Fixed, Options, Server, Update, Watched};
use tandem_proto::client::{self, DeviceClass, server_frame};
use tokio::sync::mpsc;

use super::suite::{Road, Suite};

/// How long anything may take before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A connected device.
pub struct Device {
    pub name: String,
    pub client: Client,
    pub road: Arc<Road>,
    /// Every place at which an event came, live or in a page, by its id.
    places: Arc<Mutex<HashMap<String, Vec<u64>>>>,
    _updates: mpsc::UnboundedReceiver<Update>,
    lifecycle: Lifecycle,
}

impl Device {
    /// `edge`: the only one that it reaches.
    pub fn connect(suite: &Suite, who: &str, id: &str, edge: Option<usize>) -> Self {
        let (doors, road) = suite.doors(edge);
        let device = client::Device {
            id: id.to_owned(),
            class: DeviceClass::Pc.into(),
            agent: "replicas".into(),
        };
        let server = Server::parse("ws://edges.test:1").unwrap();
        let tokens = Arc::new(Fixed(suite.key.token(who)));
        let mut options = Options::new(doors, server, tokens, device);
        options.retry_min = Duration::from_millis(20);
        options.retry_max = Duration::from_millis(500);
        let places = Arc::<Mutex<HashMap<String, Vec<u64>>>>::default();
        let seen = Arc::clone(&places);
        options.watch = Some(Arc::new(move |frame| {
            let Watched::Came(frame) = frame else { return };
            if let Some(server_frame::Frame::Event(event)) = &frame.frame {
                let mut seen = seen.lock();
                seen.entry(event.event_id.clone())
                    .or_default()
                    .push(event.seq);
            }
        }));
        let lifecycle = Lifecycle::new();
        let (client, updates) = Client::connect(options, &lifecycle);
        Self {
            name: format!("{who}/{id}"),
            client,
            road,
            places,
            _updates: updates,
            lifecycle,
        }
    }

    pub async fn until(&self, what: &str, seen: impl Fn(&tandem_client::Core) -> bool) {
        let wait = async {
            while !self.client.look(&seen) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, wait).await;
        assert!(
            waited.is_ok(),
            "{} waited in vain until {what}: {}",
            self.name,
            self.client.look(|c| format!(
                "connected {}, synced {}, unanswered {}",
                c.is_connected(),
                c.is_synced(),
                c.outbox().len()
            ))
        );
    }

    pub async fn synced(&self) {
        self.until("it is synced", tandem_client::Core::is_synced)
            .await;
    }

    /// The texts that it shows of a conversation, in its order.
    pub fn shows(&self, conversation: &str) -> Vec<String> {
        self.client.look(|core| {
            let messages = core.conversation(conversation).map(|c| {
                let texts = c.messages().filter_map(|m| Some(m.text?.text.clone()));
                texts.collect()
            });
            messages.unwrap_or_default()
        })
    }

    /// Events that came live at more than one place.
    pub fn moved(&self) -> usize {
        let places = self.places.lock();
        let moved = places.values().filter(|p| p.iter().any(|seq| *seq != p[0]));
        moved.count()
    }

    /// Ends without a goodbye.
    pub fn vanish(&self) {
        self.lifecycle.abort();
        self.road.cut();
    }
}

/// Once everything is shown everywhere: nothing is lost, doubled or out of order. `accepted`: by sender, in
/// the order of sending.
pub async fn check(
    devices: &[&Device],
    conversation: &str,
    accepted: &BTreeMap<String, Vec<String>>,
) {
    let count: usize = accepted.values().map(Vec::len).sum();
    for device in devices {
        let all = |c: &tandem_client::Core| {
            c.is_synced()
                && c.all_answered()
                && c.conversation(conversation)
                    .is_some_and(|c| c.messages().filter(|m| m.text.is_some()).count() >= count)
        };
        device
            .until(&format!("it shows {count} messages"), all)
            .await;
    }
    let first = devices[0].shows(conversation);
    assert_eq!(first.len(), count, "each once");
    for device in devices {
        assert_eq!(device.shows(conversation), first, "{}'s order", device.name);
    }
    for (sender, sent) in accepted {
        let shown = first.iter().filter(|t| t.starts_with(sender.as_str()));
        assert_eq!(shown.collect::<Vec<_>>(), sent.iter().collect::<Vec<_>>());
    }
}
