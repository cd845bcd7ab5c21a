//! The talk: everybody's devices, which write, read, react, come and go at a rate, as the seed has it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use parking_lot::Mutex;
use tandem_chassis::{Lifecycle, lifecycle::OnEnd, rng::Rng};
use tandem_checker::What;
use tandem_client::{Core, domain::Message};
use tandem_kernel::event::{Delete, Edit, Kind, Nudge, Reaction, Text};
use tandem_proto::client::Status;
use tokio::{sync::watch, time::MissedTickBehavior};

use crate::{
    cast::{Cast, Habit, Tie},
    device::Device,
    record::Recorder,
    tally,
};

const STATUSES: [Status; 4] = [
    Status::Online,
    Status::Busy,
    Status::Away,
    Status::AppearOffline,
];
const EMOJI: [&str; 3] = ["👍", "🎉", "😮"];
/// How messages begin that are deleted later. Nobody edits those or reacts to them: what names a message
/// that is gone by then has no place in history.
const PASSING: &str = "never mind: ";
const WORDS: &str = "shall we meet at the station, or is the café by the river closer for you? ";

/// How often it is looked at what is due.
const TICK: Duration = Duration::from_millis(10);
/// How much time is made up for at most.
const CATCH_UP: Duration = Duration::from_millis(500);

/// Everybody, talking.
pub struct Talk {
    /// Who there is.
    pub cast: Arc<Cast>,
    /// All devices.
    pub devices: Vec<Arc<Device>>,
    recorder: Arc<Recorder>,
    going: watch::Sender<bool>,
    /// What was waited for in vain, by device: it is not waited for again.
    lost: Mutex<HashMap<tally::Who, u64>>,
}

impl Talk {
    /// Silence, until [`Talk::go_on`].
    pub fn new(cast: Arc<Cast>, devices: Vec<Arc<Device>>, recorder: Arc<Recorder>) -> Arc<Self> {
        let going = watch::Sender::new(false);
        Arc::new(Self {
            cast,
            devices,
            recorder,
            going,
            lost: Mutex::default(),
        })
    }

    /// Starts what makes them talk: `rate` deeds a second together.
    pub fn start(self: &Arc<Self>, rate: f64, rng: &Rng, lifecycle: &Lifecycle) {
        let (this, own) = (self.clone(), Rng::from_seed(rng.u64()));
        lifecycle.spawn("talk", OnEnd::Fine, async move {
            let mut going = this.going.subscribe();
            let mut ticks = tokio::time::interval(TICK);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
            let mut last = tokio::time::Instant::now();
            let mut due = 0.0;
            while going.wait_for(|g| *g).await.is_ok() {
                let now = ticks.tick().await;
                // what a busy machine missed is made up for, what a silence left out is not
                due += rate * (now - last).min(CATCH_UP).as_secs_f64();
                last = now;
                while due >= 1.0 {
                    due -= 1.0;
                    this.deed(&own);
                }
            }
        });
        for device in &self.devices {
            let habit = device.gadget.habit;
            if habit != Habit::Steady {
                let life = self
                    .clone()
                    .come_and_go(device.clone(), Rng::from_seed(rng.u64()));
                lifecycle.spawn("comes and goes", OnEnd::Fine, life);
            }
        }
    }

    /// Talk goes on.
    pub fn go_on(&self) {
        self.going.send_replace(true);
    }

    /// Nobody does anything more, and every device is where it has a network.
    pub fn hush(&self) {
        self.going.send_replace(false);
        for device in &self.devices {
            device.air.come_back();
        }
    }

    /// Waits until every device knows everything, at most `patience`; says what is lacking then.
    pub async fn settle(&self, patience: Duration) -> Vec<String> {
        self.hush();
        let quiet = async {
            loop {
                if self.unsettled().is_empty() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let _ = tokio::time::timeout(patience, quiet).await;
        let unsettled = self.unsettled();
        let lacking = |d: &Arc<Device>| (d.index, self.recorder.lacking(d.index));
        *self.lost.lock() = self.devices.iter().map(lacking).collect();
        unsettled
    }

    fn unsettled(&self) -> Vec<String> {
        let lacks = |device: &Arc<Device>| {
            let lost = self.lost.lock().get(&device.index).copied();
            let lacking = self.recorder.lacking(device.index);
            let lacking = lacking.saturating_sub(lost.unwrap_or_default());
            let state = match (device.is_quiet(), device.is_answered()) {
                (true, _) if lacking == 0 => return None,
                (true, _) => "is synced",
                (false, false) => "has events without an answer",
                (false, true) => "is not synced",
            };
            let name = format!("{}/{}", device.who().user, device.who().device);
            Some(format!(
                "{name} {state} and lacks {lacking} accepted events"
            ))
        };
        self.devices.iter().filter_map(lacks).collect()
    }

    async fn come_and_go(self: Arc<Self>, device: Arc<Device>, rng: Rng) {
        let mut going = self.going.subscribe();
        let seconds =
            |from: u64, to: u64| Duration::from_millis(from * 1000 + rng.below((to - from) * 1000));
        while going.wait_for(|g| *g).await.is_ok() {
            let (there, gone) = match device.gadget.habit {
                Habit::Steady => return,
                Habit::Flapping => (seconds(8, 40), seconds(0, 3)),
                Habit::Away => (seconds(5, 25), seconds(10, 60)),
            };
            tokio::time::sleep(there).await;
            if *going.borrow() {
                device.air.leave();
                tokio::select! {
                    () = tokio::time::sleep(gone) => {}
                    _ = going.wait_for(|g| !g) => {}
                }
                device.air.come_back();
            }
        }
    }

    /// One person does one thing.
    fn deed(&self, rng: &Rng) {
        let device = &self.devices[rng.below(self.devices.len() as u64) as usize];
        // who is away writes, too, but less
        if !device.air.is_clear() && rng.below(4) > 0 {
            return;
        }
        // what is said in a group costs the more, the more there are to hear and confirm it
        let in_group = rng.below(4) == 0;
        let mut talks = self.cast.talks_of(device.index.0);
        talks.retain(|t| (self.cast.talks[*t].tie == Tie::Group) == in_group);
        let Some(talk) = talks.get(rng.below(talks.len() as u64) as usize) else {
            return;
        };
        let talk = &self.cast.talks[*talk];
        // a recent message
        let recent = |own: bool, passing: bool| {
            device.client.look(|core: &Core| {
                let messages = core.conversation(&talk.id)?.messages().rev().take(100);
                let fits = |m: &Message<'_>| {
                    m.text
                        .is_some_and(|t| t.text.starts_with(PASSING) == passing)
                        && (!own || m.event.sender == device.who().user)
                };
                let seqs: Vec<u64> = messages.filter(fits).take(8).map(|m| m.seq).collect();
                seqs.get(rng.below(seqs.len() as u64) as usize).copied()
            })
        };
        match rng.below(100) {
            0..80 => device.send(&talk.id, Kind::Text(text(rng, rng.below(20) == 0))),
            80..86 => {
                if let Some(target) = recent(false, false) {
                    let emoji = EMOJI[rng.below(3) as usize].to_owned();
                    device.send(&talk.id, Kind::Reaction(Reaction { target, emoji }));
                }
            }
            86..90 => {
                if let Some(target) = recent(true, false) {
                    let text = Some(text(rng, false));
                    device.send(&talk.id, Kind::Edit(Edit { target, text }));
                }
            }
            90 => {
                if let Some(target) = recent(true, true) {
                    device.send(&talk.id, Kind::Delete(Delete { target }));
                }
            }
            91 => device.send(&talk.id, Kind::Nudge(Nudge {})),
            92..97 => device.read(&talk.id),
            97..99 => device.client.typing(&talk.id, rng.below(2) == 0),
            _ => device.set_status(STATUSES[rng.below(4) as usize]),
        }
    }

    /// Makes the groups, then lets those who block do so; each person's first device acts. Waits for
    /// the answers.
    pub async fn prepare(&self, patience: Duration) -> crate::Result<()> {
        let unsettled = self.settle(patience).await;
        if !unsettled.is_empty() {
            return Err(format!("not everybody is there: {unsettled:?}").into());
        }
        for talk in self.cast.talks.iter().filter(|t| t.tie == Tie::Group) {
            let members = talk.members[1..].iter();
            let members = members.map(|m| self.cast.people[*m].address.clone());
            self.first(talk.members[0])
                .begin(&talk.id, members.collect());
        }
        let unsettled = self.settle(patience).await;
        if !unsettled.is_empty() {
            return Err(format!("the groups do not begin: {unsettled:?}").into());
        }
        let blocks = self.cast.talks.iter().filter(|t| t.tie == Tie::Blocked);
        let blocks = blocks.map(|t| {
            let whom = self.cast.people[t.members[1]].address.clone();
            let device = self.first(t.members[0]).clone();
            async move { device.block(&whom).await }
        });
        let mut blocks = stream::iter(blocks).buffer_unordered(8);
        while let Some(blocked) = blocks.next().await {
            blocked?;
        }
        Ok(())
    }

    /// Once everything has been said and waited for: notes what every device shows, and what history
    /// gives to every person.
    pub async fn close(&self) -> crate::Result<()> {
        self.recorder.fact(What::Settled {});
        for device in &self.devices {
            for talk in self.cast.talks_of(device.index.0) {
                device.note_screen(&self.cast.talks[talk].id);
            }
        }
        let readings = (0..self.cast.people.len()).map(|person| async move {
            let device = self.first(person);
            for talk in self.cast.talks_of(person) {
                device.read_back(&self.cast.talks[talk].id).await?;
            }
            Ok::<_, crate::Failure>(())
        });
        let mut readings = stream::iter(readings).buffer_unordered(4);
        while let Some(read) = readings.next().await {
            read?;
        }
        Ok(())
    }

    fn first(&self, person: usize) -> &Arc<Device> {
        let mine = self.devices.iter().find(|d| d.index == (person, 0));
        // everybody has one
        mine.unwrap_or(&self.devices[0])
    }
}

fn text(rng: &Rng, passing: bool) -> Text {
    let skip = rng.below(WORDS.len() as u64 / 2) as usize;
    let length = 10 + rng.below(200) as usize;
    let words = WORDS.chars().cycle().skip(skip).take(length);
    let start = if passing { PASSING } else { "" };
    let text = start.chars().chain(words).collect();
    Text {
        text,
        ..Text::default()
    }
}
