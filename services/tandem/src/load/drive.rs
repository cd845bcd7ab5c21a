//! Drives a run: people, sessions, groups, messages, the wait for the last of them, the verdict.

use std::{
    fs,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use futures::{StreamExt, stream};
use tandem_chassis::{Doors, Lifecycle, lifecycle::OnEnd, rng::Rng};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{
    Args,
    check::Record,
    device::{Dev, Memory, Run},
    ledger::Ledger,
    people::People,
    plan::{Plan, Shape},
    replay::Script,
    report::{Percentiles, Report},
    server::{self, Meter},
};

/// Connections being opened at once.
const DOORWAY: usize = 128;

/// Says how it goes; the answer alone goes to standard output.
fn tell(args: &Args, what: &str) {
    if !args.json {
        eprintln!("{what}");
    }
}

fn plan(args: &Args, rng: &Rng) -> Result<Plan, String> {
    if !args.replay.is_empty() {
        let read = |path: &std::path::PathBuf| {
            let octets = fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
            Ok(String::from_utf8_lossy(&octets).into_owned())
        };
        let logs = args
            .replay
            .iter()
            .map(read)
            .collect::<Result<Vec<String>, String>>()?;
        let size = if args.group_size == 10 {
            128
        } else {
            args.group_size as usize
        };
        let script = Script::read(&logs, size);
        if script.lines.is_empty() {
            return Err("--replay: nobody says anything in these files".into());
        }
        let people = (script.nicks.len() as u32).max(args.min_people);
        let sessions = args.sessions.unwrap_or(people + people / 4);
        return Ok(Plan::replay(
            script,
            args.speed,
            sessions,
            args.min_people,
            rng,
        ));
    }
    let people = args.idle.map_or(args.people, |n| args.people.min(n)).max(1);
    let mut plan = Plan::made_up(Shape {
        people,
        sessions: args.idle.or(args.sessions).unwrap_or(people),
        groups: args.groups,
        group_size: args.group_size,
        peers: args.peers,
        text_bytes: args.text_bytes,
    });
    if args.idle.is_none() && !args.as_fast_as_acknowledged {
        let rate = args.rate.unwrap_or(100.0);
        let count = ((rate * args.duration) as u64)
            .min(args.messages.unwrap_or(u64::MAX))
            .max(1);
        plan.at_rate(rate, count, group_share(args), rng);
    }
    Ok(plan)
}

fn group_share(args: &Args) -> f64 {
    if args.groups == 0 {
        0.0
    } else {
        args.group_share
    }
}

/// Runs it all.
pub async fn run(args: Args, doors: &Doors, lifecycle: &Lifecycle) -> Result<Report, String> {
    let servers = args.server.addresses()?;
    let (authority, issuer) = (servers[0].authority.clone(), args.server.issuer()?);
    let rng = Rng::from_seed(args.seed);
    let plan = plan(&args, &rng)?;
    tell(
        &args,
        &format!(
            "{} people, {} sessions, {} conversations",
            plan.people,
            plan.devices.len(),
            plan.talks.len()
        ),
    );

    // a name of its own for each run, so that runs do not find each other's messages
    let tag = doors.rng.u64();
    let prefix = format!("load-{:08x}-", tag as u32);
    let patience = Duration::from_secs_f64(args.patience);
    let people = People::with_tokens(doors, &issuer, &prefix, plan.people, patience).await?;
    let channel = args.server.accounts(doors)?;
    people.create(&channel, patience).await?;
    if args.idle.is_none() {
        people.connect(&channel, &plan.talks, patience).await?;
    }
    let meter = Meter::new(doors, &authority, args.server_pid).await;
    let rss = meter.rss_bytes();

    let setup: Vec<(u32, u32)> = if args.idle.is_some() {
        Vec::new()
    } else {
        plan.beginnings().collect()
    };
    let audience = plan.audience();
    let run = Arc::new(Run {
        doors: doors.clone(),
        servers,
        talks: people.talks(&plan, doors)?,
        addresses: people.addresses,
        tokens: people.tokens,
        audience: audience.iter().map(|a| a.len() as u64).collect(),
        ledger: Ledger::new([(tag >> 32) as u8, (tag >> 40) as u8]),
        setup: setup.len() as u32,
        doorway: Semaphore::new(DOORWAY),
        synced: watch::Sender::new(0),
        window: watch::Sender::new(0),
        group_share: group_share(&args),
        budget: args.messages.map_or(u64::MAX, |m| m + setup.len() as u64),
        stop: CancellationToken::new(),
        plan,
    });
    let fleet = Fleet::launch(&run, args.seed, lifecycle);
    let outcome = Driver {
        args: &args,
        run: &run,
        meter: &meter,
        rss,
        fleet: &fleet,
    }
    .drive(&setup)
    .await;
    run.stop.cancel();
    let mut memories = fleet.land().await;
    let mut report = outcome?;
    report.sessions_opened = run.ledger.opened.load(Relaxed);
    if args.idle.is_none() {
        judge(&args, &run, audience, &mut memories, &mut report).await?;
    }
    Ok(report)
}

/// The devices of a run.
struct Fleet {
    queues: Vec<mpsc::UnboundedSender<u32>>,
    memories: mpsc::UnboundedReceiver<Memory>,
}

impl Fleet {
    fn launch(run: &Arc<Run>, seed: u64, lifecycle: &Lifecycle) -> Self {
        let (landed, memories) = mpsc::unbounded_channel();
        let mut queues = Vec::new();
        for (index, person) in run.plan.devices.iter().enumerate() {
            let (queue, numbers) = mpsc::unbounded_channel();
            queues.push(queue);
            let device = Dev::new(run.clone(), index as u32, *person, seed);
            let landed = landed.clone();
            lifecycle.spawn("device", OnEnd::Fine, async move {
                let _ = landed.send(device.talk(numbers).await);
            });
        }
        Self { queues, memories }
    }

    /// What the devices remember, in their order. Call when the run was stopped.
    async fn land(mut self) -> Vec<Memory> {
        self.queues.clear();
        let mut memories = Vec::new();
        while let Some(memory) = self.memories.recv().await {
            memories.push(memory);
        }
        memories.sort_by_key(|m| m.device);
        memories
    }
}

struct Driver<'a> {
    args: &'a Args,
    run: &'a Arc<Run>,
    meter: &'a Meter,
    /// Of the server, before any session was opened.
    rss: Option<u64>,
    fleet: &'a Fleet,
}

impl Driver<'_> {
    async fn drive(&self, setup: &[(u32, u32)]) -> Result<Report, String> {
        let mut report = Report {
            people: self.run.plan.people.into(),
            sessions: self.run.plan.devices.len() as u64,
            conversations: self.run.plan.talks.len() as u64,
            ..Report::default()
        };
        if self.args.idle.is_some() {
            self.idle(&mut report).await?;
            return Ok(report);
        }
        self.all_synced().await?;
        self.begin_groups(setup).await?;
        tokio::select! {
            sent = self.send(&mut report) => sent?,
            () = self.meter.watch() => {}
        }
        Ok(report)
    }

    fn now(&self) -> Duration {
        self.run.doors.clock.monotonic()
    }

    /// Waits until every device is synced.
    async fn all_synced(&self) -> Result<(), String> {
        let all = self.fleet.queues.len() as i64;
        let mut synced = self.run.synced.subscribe();
        loop {
            let now = *synced.borrow_and_update();
            if now >= all {
                return Ok(());
            }
            let patience = Duration::from_secs_f64(self.args.patience);
            let changed = tokio::time::timeout(patience, synced.changed()).await;
            if !matches!(changed, Ok(Ok(()))) {
                let why = self.run.ledger.closings.lock().clone();
                return Err(format!(
                    "{now} of {all} sessions are synced; ended: {why:?}"
                ));
            }
        }
    }

    async fn begin_groups(&self, setup: &[(u32, u32)]) -> Result<(), String> {
        if setup.is_empty() {
            return Ok(());
        }
        tell(self.args, &format!("beginning {} groups", setup.len()));
        for (device, talk) in setup {
            let due = self.now().as_micros() as u64;
            if let Some(number) = self.run.ledger.write(*device, *talk, 0, due) {
                let _ = self.fleet.queues[*device as usize].send(number);
            }
        }
        self.arrived().await;
        let accepted = self.run.ledger.accepted.load(Relaxed);
        if accepted < setup.len() as u64 {
            let why = self.run.ledger.rejected.lock().clone();
            return Err(format!(
                "{accepted} of {} groups began; refused: {why:?}",
                setup.len()
            ));
        }
        Ok(())
    }

    async fn send(&self, report: &mut Report) -> Result<(), String> {
        let (run, ledger) = (self.run, &self.run.ledger);
        ledger.reset_histograms();
        let setup_accepted = ledger.accepted.load(Relaxed);
        tell(self.args, "sending");
        let own = std::process::id();
        let (server_before, own_before) = (self.meter.cpu_s(), server::cpu_s(own));
        let begin = self.now();
        if self.args.as_fast_as_acknowledged && self.args.replay.is_empty() {
            self.as_fast(begin).await;
        } else {
            self.on_time(begin).await;
        }
        self.arrived().await;
        let last = Duration::from_micros(ledger.last_accepted_us.load(Relaxed));
        report.seconds = last.saturating_sub(begin).as_secs_f64();
        let accepted = ledger.accepted.load(Relaxed) - setup_accepted;
        report.messages_per_s = accepted as f64 / report.seconds.max(1e-3);
        let per_10k = |before: Option<f64>, after: Option<f64>| {
            (accepted > 0).then_some((after? - before?) / accepted as f64 * 10_000.0)
        };
        report.server_cpu_s_per_10k = per_10k(server_before, self.meter.cpu_s());
        report.client_cpu_s_per_10k = per_10k(own_before, server::cpu_s(own));
        let (delivery, acceptance) = ledger.histograms();
        report.latency_ms = Percentiles::of(&delivery);
        report.accept_ms = Percentiles::of(&acceptance);
        let limit = f64::from(ledger.limit.load(Relaxed)) * run.plan.devices.len() as f64;
        if report.messages_per_s > 0.8 * limit {
            report.notes.push(format!(
                "the server allows these sessions {limit:.0} messages/s: more sessions may send more"
            ));
        }
        Ok(())
    }

    /// Keeps the window of every device open for the duration, or until all messages are written.
    async fn as_fast(&self, begin: Duration) {
        self.run.window.send_replace(self.args.in_flight);
        let end = begin + Duration::from_secs_f64(self.args.duration);
        while self.now() < end && u64::from(self.run.ledger.len()) < self.run.budget {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.run.window.send_replace(0);
    }

    /// Hands each message to its device when it is due, whatever became of the earlier ones.
    async fn on_time(&self, begin: Duration) {
        let (run, queues) = (Arc::clone(self.run), self.fleet.queues.clone());
        // on a thread of its own: the runtime's timers are a millisecond coarse, which is the latency that
        // is to be measured
        let paced = self
            .run
            .doors
            .threads
            .run(move || pace(&run, &queues, begin));
        if paced.await.is_err() {
            tell(self.args, "the sending ended early");
        }
    }

    /// Waits until everything has its answer and is everywhere, or nothing has come for the patience.
    async fn arrived(&self) {
        let ledger = &self.run.ledger;
        let patience = Duration::from_secs_f64(self.args.patience);
        let (mut last, mut since) = ((0, 0), self.now());
        let mut told = self.now();
        loop {
            let (unanswered, delivered) = (ledger.unanswered(), ledger.delivered.load(Relaxed));
            let expected = ledger.expected.load(Relaxed);
            if unanswered == 0 && delivered >= expected {
                return;
            }
            let now = self.now();
            if last != (unanswered, delivered) {
                (last, since) = ((unanswered, delivered), now);
            } else if now.saturating_sub(since) > patience {
                return;
            }
            if now.saturating_sub(told) > Duration::from_secs(5) {
                told = now;
                tell(
                    self.args,
                    &format!(
                        "waiting: {unanswered} unanswered, {delivered} of {expected} delivered"
                    ),
                );
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn idle(&self, report: &mut Report) -> Result<(), String> {
        let sessions = self.fleet.queues.len() as f64;
        self.all_synced().await?;
        let cpu = self.meter.cpu_s();
        tokio::time::sleep(Duration::from_secs(3)).await;
        let after = self.meter.rss_bytes();
        report.server_cpu_ms_per_login = cpu.map(|s| s * 1000.0 / sessions);
        report.server_bytes_per_idle_session = self
            .rss
            .zip(after)
            .map(|(before, after)| (after as f64 - before as f64) / sessions);
        if self.meter.pid().is_none() {
            report
                .notes
                .push("the server's process is not on this machine".into());
        }
        Ok(())
    }
}

/// Sleeps and sends until all is sent or the run stops. Blocks.
fn pace(run: &Run, queues: &[mpsc::UnboundedSender<u32>], begin: Duration) {
    let begin_us = begin.as_micros() as u64;
    let mut timed = run.plan.timed.iter().peekable();
    while let Some(next) = timed.peek() {
        let now = run.doors.clock.monotonic();
        let early = Duration::from_micros(begin_us + next.due_us).saturating_sub(now);
        if !early.is_zero() {
            if run.stop.is_cancelled() {
                return;
            }
            // what is due within a tenth of a millisecond goes together
            let most = Duration::from_millis(50);
            std::thread::sleep(early.clamp(Duration::from_micros(100), most));
            continue;
        }
        let now_us = now.as_micros() as u64;
        while let Some(m) = timed.next_if(|m| begin_us + m.due_us <= now_us) {
            let due_us = begin_us + m.due_us;
            if let Some(number) = run.ledger.write(m.device, m.talk, m.text, due_us) {
                let _ = queues[m.device as usize].send(number);
            }
        }
    }
}

/// The checker's verdict on what the devices remember, and on some that begin now.
async fn judge(
    args: &Args,
    run: &Arc<Run>,
    audience: Vec<Vec<u32>>,
    memories: &mut Vec<Memory>,
    report: &mut Report,
) -> Result<(), String> {
    let ledger = &run.ledger;
    let mut record = Record {
        sent: ledger.sent(),
        audience,
        ..Record::default()
    };
    for memory in memories.drain(..) {
        record.seen.push(memory.seen);
        record.told.push(memory.told);
    }
    if record.seen.len() != run.plan.devices.len() {
        return Err("a device failed".into());
    }
    let late = looked(args, run, &mut record).await?;
    let verdict = record.check();
    report.submitted = u64::from(ledger.len() - run.setup);
    report.accepted = ledger.accepted.load(Relaxed) - u64::from(run.setup);
    report.delivered = ledger.delivered.load(Relaxed);
    report.lost = verdict.lost;
    report.doubled = verdict.doubled;
    report.copies_elsewhere = verdict.moved;
    report.out_of_order = verdict.out_of_order + ledger.unordered.load(Relaxed);
    report.altered = ledger.altered.load(Relaxed) + verdict.astray + ledger.foreign.load(Relaxed);
    report.unanswered = ledger.unanswered();
    report.rejected = ledger.rejected.lock().clone();
    report.copies_dropped = ledger.copies.load(Relaxed);
    report.receipts = ledger.receipts.load(Relaxed);
    report.connections_ended = ledger.closings.lock().clone();
    report.late_devices = late;
    Ok(())
}

/// Adds devices to the record that begin with nothing after the end.
async fn looked(args: &Args, run: &Arc<Run>, record: &mut Record) -> Result<u64, String> {
    let first = run.plan.devices.len() as u32;
    let count = args.late_devices.min(run.plan.people);
    let patience = Duration::from_secs_f64(args.patience);
    let look = |i: u32| {
        // spread over the people
        let person = (u64::from(i) * u64::from(run.plan.people) / u64::from(count)) as u32;
        let device = Dev::new(run.clone(), first + i, person, args.seed);
        async move { (person, device.look(patience).await) }
    };
    let mut looks = stream::iter(0..count).map(look).buffered(8);
    let mut index = first;
    while let Some((person, memory)) = looks.next().await {
        let memory = memory.ok_or("a late device did not get its history in time")?;
        for (talk, members) in run.plan.talks.iter().enumerate() {
            if members.members.contains(&person) {
                record.audience[talk].push(index);
            }
        }
        record.seen.push(memory.seen);
        record.told.push(Vec::new());
        index += 1;
    }
    Ok(u64::from(count))
}
