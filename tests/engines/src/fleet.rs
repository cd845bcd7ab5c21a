//! The processes of one engine, private or shared: how they are started, killed, paused and waited for.

use std::{
    fs::{self, File},
    io,
    net::{Ipv4Addr, SocketAddrV4, TcpStream},
    ops::RangeInclusive,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{
    error::{At, Error, Result},
    install,
    process::Process,
    slot::{PID, Slot},
};

/// How long a start may take. Generous: CI's machines are busy.
const START: Duration = Duration::from_mins(2);
/// How long a node may take to stop in order.
const PATIENCE: Duration = Duration::from_secs(10);
/// In each node's folder: what it says.
const LOG: &str = "log";

/// Where and how one node of a private engine runs. The default: on a loopback address of its own.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// Where it listens, instead of its own loopback address.
    pub address: Option<Ipv4Addr>,
    /// What its command line begins with: `["ip", "netns", "exec", NAME]` puts it into a namespace. It
    /// must end in an `exec`, so that the pid stays.
    pub prefix: Vec<String>,
    /// Where its data goes, instead of the engine's own folder: a small disk, for one.
    pub data: Option<PathBuf>,
}

/// What a question to an engine came to: done, or why not (yet).
pub type Answer<T = ()> = std::result::Result<T, String>;

/// One kind of engine: how its nodes are started, and how one knows that they do their work.
pub trait Engine: Send + Sync {
    /// In errors.
    fn name(&self) -> &'static str;
    /// One for each node.
    fn addresses(&self) -> &[Ipv4Addr];
    /// The port that node `n`'s clients use.
    fn port(&self, n: usize) -> u16;
    /// Writes node `n`'s configuration into `dir` and gives its command line. Its data lies in `data`.
    fn prepare(&self, n: usize, dir: &Path, data: &Path) -> Result<Vec<String>>;
    /// Whether node `n` answers and does its own part.
    fn answers(&self, n: usize) -> Answer;
    /// Does, when all nodes answer, what is done once in their life. It is repeated until it succeeds,
    /// and changes nothing where it had.
    fn settle(&self) -> Answer {
        Ok(())
    }
    /// Whether all nodes work together.
    fn works(&self) -> Answer;
}

/// The nodes of one engine, counted from 0. Dropping a private one kills them and removes their data.
#[derive(Debug)]
pub struct Fleet<E> {
    pub(crate) engine: E,
    nodes: Vec<Node>,
    /// A private one's; dropped after the nodes.
    slot: Option<Slot>,
}

#[derive(Debug)]
struct Node {
    dir: PathBuf,
    data: PathBuf,
    prefix: Vec<String>,
}

impl<E: Engine> Fleet<E> {
    /// Starts a private engine and waits until it works.
    pub(crate) fn private(slot: Slot, engine: E, places: &[Place]) -> Result<Self> {
        let mut fleet = Self::at(slot.dir(), engine, places);
        fleet.slot = Some(slot);
        (0..fleet.len()).try_for_each(|n| fleet.spawn(n))?;
        fleet.ready()?;
        Ok(fleet)
    }

    /// The nodes whose files are in `dir`, running or not.
    pub(crate) fn at(dir: &Path, engine: E, places: &[Place]) -> Self {
        let node = |n: usize| {
            let place = places.get(n).cloned().unwrap_or_default();
            let dir = dir.join(format!("{}-{n}", engine.name()));
            let data = place.data.unwrap_or_else(|| dir.join("data"));
            Node {
                data,
                dir,
                prefix: place.prefix,
            }
        };
        Self {
            nodes: (0..engine.addresses().len()).map(node).collect(),
            engine,
            slot: None,
        }
    }

    /// How many nodes there are.
    #[allow(clippy::len_without_is_empty, reason = "no engine is without nodes")]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Where clients connect, one for each node.
    pub fn addresses(&self) -> Vec<String> {
        (0..self.len()).map(|n| self.address(n)).collect()
    }

    /// Where the clients of node `n` connect.
    pub fn address(&self, n: usize) -> String {
        self.socket(n).to_string()
    }

    /// `kill -9` of node `n`.
    pub fn kill(&self, n: usize) {
        if let Some(process) = self.process(n) {
            process.kill();
        }
    }

    /// Stops node `n` in order; one that does not within 10 s is killed.
    pub fn terminate(&self, n: usize) {
        if let Some(process) = self.process(n) {
            process.terminate(PATIENCE);
        }
    }

    /// Node `n` stands still (SIGSTOP): its connections stay, and nothing answers.
    pub fn pause(&self, n: usize) {
        if let Some(process) = self.process(n) {
            process.pause();
        }
    }

    /// A paused node `n` goes on.
    pub fn resume(&self, n: usize) {
        if let Some(process) = self.process(n) {
            process.resume();
        }
    }

    /// Starts node `n` on its data, without waiting. Does nothing if it runs.
    pub fn spawn(&self, n: usize) -> Result<()> {
        if self.running(n) {
            return Ok(());
        }
        if self.open(n) {
            return Err(Error::Taken {
                engine: self.engine.name().to_owned(),
                address: self.address(n),
            });
        }
        let node = &self.nodes[n];
        fs::create_dir_all(&node.dir).at(&node.dir)?;
        let args = self.engine.prepare(n, &node.dir, &node.data)?;
        let mut line = node.prefix.iter().chain(&args);
        let program = line.next().map(String::as_str).unwrap_or_default();
        let log = node.dir.join(LOG);
        let log = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .at(&log)?;
        let mut command = Command::new(program);
        command.args(line).current_dir(&node.dir);
        command.stdin(Stdio::null());
        command.stdout(log.try_clone().at(&node.dir)?).stderr(log);
        Process::spawn(&mut command)?.save(&node.dir.join(PID))
    }

    /// Starts node `n` on its data if it does not run, and waits until it answers.
    pub fn restart(&self, n: usize) -> Result<()> {
        self.spawn(n)?;
        self.until(n..=n, || self.engine.answers(n))
    }

    /// Waits until every node answers and all work together.
    pub fn ready(&self) -> Result<()> {
        let last = self.len() - 1;
        for n in 0..=last {
            self.until(0..=last, || self.engine.answers(n))?;
        }
        self.until(0..=last, || self.engine.settle())?;
        self.until(0..=last, || self.engine.works())
    }

    /// Whether all work together now.
    pub fn works(&self) -> Answer {
        self.engine.works()
    }

    /// Whether node `n` answers now.
    pub fn answers(&self, n: usize) -> Answer {
        self.engine.answers(n)
    }

    /// Stops all nodes in order.
    pub fn stop(&self) {
        let processes: Vec<Process> = (0..self.len()).filter_map(|n| self.process(n)).collect();
        thread::scope(|scope| {
            for process in processes {
                scope.spawn(move || process.terminate(PATIENCE));
            }
        });
    }

    /// Node `n`'s process, if it was ever started.
    pub fn process(&self, n: usize) -> Option<Process> {
        Process::load(&self.nodes[n].dir.join(PID))
    }

    /// Whether node `n`'s process is there (it may be paused).
    pub fn running(&self, n: usize) -> bool {
        self.process(n).is_some_and(Process::alive)
    }

    /// The folder of node `n`: its configuration, its log, its pid.
    pub fn dir(&self, n: usize) -> &Path {
        &self.nodes[n].dir
    }

    fn socket(&self, n: usize) -> SocketAddrV4 {
        SocketAddrV4::new(self.engine.addresses()[n], self.engine.port(n))
    }

    fn open(&self, n: usize) -> bool {
        connect(self.socket(n)).is_ok()
    }

    /// Asks until the answer is good. A node of these that ends meanwhile never will be.
    fn until(&self, nodes: RangeInclusive<usize>, ask: impl Fn() -> Answer) -> Result<()> {
        let start = Instant::now();
        loop {
            let Err(why) = ask() else { return Ok(()) };
            if let Some(ended) = nodes.clone().find(|n| !self.running(*n)) {
                return Err(self.ended(ended));
            }
            if start.elapsed() > START {
                return Err(Error::NotReady {
                    what: self.engine.name().to_owned(),
                    seconds: START.as_secs(),
                    why,
                });
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn ended(&self, n: usize) -> Error {
        let log = self.nodes[n].dir.join(LOG);
        let text = fs::read(&log).unwrap_or_default();
        Error::Ended {
            node: format!("{} (node {n})", self.engine.name()),
            tail: install::tail(&String::from_utf8_lossy(&text)),
            log,
        }
    }
}

impl<E> Drop for Fleet<E> {
    fn drop(&mut self) {
        if self.slot.is_some() {
            for node in &self.nodes {
                if let Some(process) = Process::load(&node.dir.join(PID)) {
                    process.kill();
                }
            }
        }
    }
}

/// A connection for a short question.
pub(crate) fn connect(to: SocketAddrV4) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to.into(), Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(3)))?;
    stream.set_write_timeout(Some(Duration::from_secs(3)))?;
    Ok(stream)
}
