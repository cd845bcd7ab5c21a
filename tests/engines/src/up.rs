//! Starting and stopping the shared engines.
//!
//! They outlive the command that started them. What runs is known by asking; what is stopped, by the
//! processes that were noted down.

use std::{
    fs,
    net::Ipv4Addr,
    thread,
    time::{Duration, Instant},
};

use crate::{
    cassandra::{self, Cassandra},
    error::{At, Error, Result},
    fleet::{Answer, Engine, Fleet, Place},
    install,
    kafka::{self, Classes, Kafka, Ports},
    process::Process,
    redis::{Clustered, Single},
    shared, slot,
};

/// Whom the servers' certificate is good for.
const NAMES: [&str; 5] = [
    "localhost",
    "127.0.0.1",
    "127.0.0.2",
    "127.0.0.3",
    "127.0.0.11",
];

/// What became of one engine.
#[derive(Clone, Debug)]
pub struct Started {
    /// Its name.
    pub name: &'static str,
    /// How many of its nodes were started; 0 if all ran.
    pub nodes: usize,
    /// Until it was ready.
    pub took: Duration,
}

/// One node, as it is now.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its engine's name and its number.
    pub name: String,
    /// Where clients connect.
    pub address: String,
    /// Its process, if it runs.
    pub pid: Option<i32>,
    /// Resident memory in bytes.
    pub memory: u64,
    /// Processor time since its start.
    pub cpu: Duration,
    /// The same, over the last second, as a share of one processor.
    pub busy: f64,
    /// Whether it answers, or why not.
    pub answers: Answer,
}

/// Starts those that do not run, all at once, and waits until all work.
pub fn up() -> Result<Vec<Started>> {
    let _lock = lock()?;
    install::all()?;
    shared::certs()?.make(&NAMES)?;
    let members = members()?;
    thread::scope(|scope| {
        let starting: Vec<_> = members.iter().map(|m| scope.spawn(|| m.start())).collect();
        let started = starting.into_iter().map(|starting| {
            let ended = starting.join();
            ended.unwrap_or_else(|_| Err(Error::Missing("a start panicked".into())))
        });
        // each is waited for, whatever became of the others
        started.collect::<Vec<_>>().into_iter().collect()
    })
}

/// Stops those that run, and what dead tests left behind. `wipe` removes all they hold. Says how many
/// processes were stopped.
pub fn down(wipe: bool) -> Result<usize> {
    let _lock = lock()?;
    slot::reap()?;
    let members = members()?;
    let stopped = thread::scope(|scope| {
        let stopping: Vec<_> = members.iter().map(|m| scope.spawn(|| m.stop())).collect();
        stopping.into_iter().map(|s| s.join().unwrap_or(0)).sum()
    });
    let folder = shared::folder()?;
    if wipe && folder.exists() {
        fs::remove_dir_all(&folder).at(&folder)?;
    }
    Ok(stopped)
}

/// Whether any of their processes is there.
pub fn any_running() -> Result<bool> {
    Ok(members()?
        .iter()
        .any(|m| m.nodes().iter().any(|n| n.pid.is_some())))
}

/// Whether they hold anything, from now or from before.
pub fn any_data() -> Result<bool> {
    Ok(shared::folder()?.exists())
}

/// Every node, whether it runs or not. Takes a second, to see how busy each is.
pub fn status() -> Result<Vec<Node>> {
    let members = members()?;
    let look = || members.iter().flat_map(|m| m.nodes()).collect::<Vec<_>>();
    let (before, since) = (look(), Instant::now());
    thread::sleep(Duration::from_secs(1));
    let (mut now, passed) = (look(), since.elapsed());
    for (node, before) in now.iter_mut().zip(before) {
        let used = node.cpu.saturating_sub(before.cpu);
        node.busy = used.as_secs_f64() / passed.as_secs_f64();
    }
    Ok(now)
}

/// Held while somebody starts or stops them.
fn lock() -> Result<fs::File> {
    install::lock(&install::cache()?.join("run/shared.lock"))
}

/// One shared engine, of whichever kind.
trait Member: Sync {
    fn start(&self) -> Result<Started>;
    fn stop(&self) -> usize;
    fn nodes(&self) -> Vec<Node>;
}

impl<E: Engine> Member for Fleet<E> {
    fn start(&self) -> Result<Started> {
        let start = Instant::now();
        let missing: Vec<usize> = (0..self.len()).filter(|n| !self.running(*n)).collect();
        missing.iter().try_for_each(|n| self.spawn(*n))?;
        self.ready()?;
        Ok(Started {
            name: self.engine.name(),
            nodes: missing.len(),
            took: start.elapsed(),
        })
    }

    fn stop(&self) -> usize {
        let running = (0..self.len()).filter(|n| self.running(*n)).count();
        Self::stop(self);
        running
    }

    fn nodes(&self) -> Vec<Node> {
        let node = |n| {
            let process = self.process(n).filter(|p| p.alive());
            let (memory, cpu) = process.and_then(Process::usage).unwrap_or_default();
            Node {
                name: format!("{} {n}", self.engine.name()),
                address: self.address(n),
                pid: process.map(Process::pid),
                memory,
                cpu,
                busy: 0.0,
                answers: self.answers(n),
            }
        };
        (0..self.len()).map(node).collect()
    }
}

/// All of them, at the addresses that [`shared`] names.
fn members() -> Result<Vec<Box<dyn Member>>> {
    let certs = shared::certs()?;
    let local = Ipv4Addr::LOCALHOST;
    let ports = |n: u16| Ports {
        plain: 29_091 + n,
        secure: 29_291 + n,
        controller: 29_191 + n,
    };
    let kafka = Kafka {
        home: kafka::home()?,
        classes: Classes::Load(kafka::classes()?),
        addresses: vec![local; 3],
        nodes: (0..3).map(ports).collect(),
        keystore: Some(certs.keystore()),
    };
    let ring = Cassandra {
        home: cassandra::home()?,
        addresses: (1..=3).map(|n| Ipv4Addr::new(127, 0, 0, n)).collect(),
        keystore: None,
    };
    let secure_node = Cassandra {
        home: cassandra::home()?,
        addresses: vec![Ipv4Addr::new(127, 0, 0, 11)],
        keystore: Some(certs.keystore()),
    };
    let single = Single {
        addresses: vec![local],
        port: 17_000,
        secure: Some((17_100, certs)),
    };
    let cluster = Clustered {
        addresses: vec![local; 6],
        ports: (17_001..=17_006).collect(),
    };
    Ok(vec![
        member(kafka)?,
        member(ring)?,
        member(secure_node)?,
        member(single)?,
        member(cluster)?,
    ])
}

fn member<E: Engine + 'static>(engine: E) -> Result<Box<dyn Member>> {
    // a session of its own, so that it outlives the terminal
    let detached = Place {
        prefix: vec!["setsid".into()],
        ..Place::default()
    };
    let places = vec![detached; engine.addresses().len()];
    Ok(Box::new(Fleet::at(&shared::folder()?, engine, &places)))
}
