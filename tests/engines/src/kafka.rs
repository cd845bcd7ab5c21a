//! Kafka in KRaft mode: brokers that are controllers too, with failure detection quick enough for tests.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddrV4, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::{
    error::{At, Error, Result},
    fleet::{Answer, Engine, Fleet, Place, connect},
    install, shared,
    slot::Slot,
};

mod wire;

const INSTALLATION: &str = "kafka-4.3.1";
/// The classes of a broker that has just started, in the form in which Java maps them: half the
/// processor time of a start.
const CLASSES: &str = "kafka-4.3.1-classes";
const POM: &str = include_str!("kafka/pom.xml");
const LOG4J: &str = include_str!("kafka/log4j2.yaml");
const PROPERTIES: &str = include_str!("kafka/server.properties");
const SECURE: &str = include_str!("kafka/secure.properties");
const CLUSTER_ID: &str = "dGFuZGVtLXRlc3RzLWthZg";
/// Written by `format`: what the metadata log begins with (features, SCRAM users). The same for all.
const BOOTSTRAP: &str = "bootstrap.checkpoint";
/// How long a broker may take to stop when it writes its classes.
const WRITE_CLASSES: Duration = Duration::from_mins(2);
const JVM: [&str; 6] = [
    "-Xmx256m",
    "-Xms64m",
    "-Xss512k",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",
];

/// A cluster; its broker ids are the numbers of its nodes.
pub type Cluster = Fleet<Kafka>;

/// What a private cluster is like.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many brokers: 1, or 3 with replication factor 3 and `min.insync.replicas=2`.
    pub brokers: usize,
    /// Where they run; for those left out, [`Place::default`].
    pub places: Vec<Place>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            brokers: 3,
            places: Vec::new(),
        }
    }
}

impl Cluster {
    /// Starts a cluster of one's own, on port 9092 of addresses of its own.
    pub fn start(options: &Options) -> Result<Self> {
        let home = install()?;
        Self::start_with(home, Classes::Load(classes()?), options)
    }

    fn start_with(home: PathBuf, classes: Classes, options: &Options) -> Result<Self> {
        let slot = Slot::claim()?;
        let addresses = slot.addresses(options.brokers, &options.places);
        let engine = Kafka {
            home,
            nodes: addresses.iter().map(|_| Ports::default()).collect(),
            addresses,
            classes,
            keystore: None,
        };
        Self::private(slot, engine, &options.places)
    }

    /// The brokers' addresses, as clients want them.
    pub fn bootstrap(&self) -> String {
        self.addresses().join(",")
    }

    /// The node that is the active controller, as the first node that answers has it.
    pub fn controller(&self) -> Result<usize> {
        self.ask_any(wire::controller)
    }

    /// The node that leads a partition. A partition may be without a leader for a while.
    pub fn leader(&self, topic: &str, partition: i32) -> Result<usize> {
        self.ask_any(|stream| wire::leader(stream, topic, partition))
    }

    fn ask_any<T>(&self, ask: impl Fn(&mut TcpStream) -> Answer<T>) -> Result<T> {
        let mut why = "no broker runs".to_owned();
        for n in (0..self.len()).filter(|n| self.running(*n)) {
            match self.engine.ask(n, &ask) {
                Ok(answer) => return Ok(answer),
                Err(e) => why = e,
            }
        }
        let what = format!("kafka at {}", self.bootstrap());
        Err(Error::Answer { what, why })
    }
}

/// How the brokers are configured.
#[derive(Debug)]
pub struct Kafka {
    pub(crate) home: PathBuf,
    pub(crate) addresses: Vec<Ipv4Addr>,
    pub(crate) nodes: Vec<Ports>,
    /// Classes that are mapped at the start, or those to be written at the end.
    pub(crate) classes: Classes,
    /// With a key and its certificates (PEM), there is a listener for SASL_SSL with SCRAM-SHA-512, too.
    pub(crate) keystore: Option<PathBuf>,
}

/// What a broker does about its classes, and the file.
#[derive(Debug)]
pub(crate) enum Classes {
    Load(PathBuf),
    Store(PathBuf),
}

impl Classes {
    fn flag(&self) -> String {
        match self {
            Self::Load(file) => format!("-XX:SharedArchiveFile={}", file.display()),
            Self::Store(file) => format!("-XX:ArchiveClassesAtExit={}", file.display()),
        }
    }
}

/// Where one broker listens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    pub(crate) plain: u16,
    pub(crate) secure: u16,
    pub(crate) controller: u16,
}

impl Default for Ports {
    fn default() -> Self {
        Self {
            plain: 9092,
            secure: 9094,
            controller: 9093,
        }
    }
}

impl Kafka {
    fn ask<T>(&self, n: usize, ask: impl Fn(&mut TcpStream) -> Answer<T>) -> Answer<T> {
        let to = SocketAddrV4::new(self.addresses[n], self.nodes[n].plain);
        let mut stream = connect(to).map_err(|e| format!("{to}: {e}"))?;
        ask(&mut stream).map_err(|e| format!("{to}: {e}"))
    }

    fn properties(&self, n: usize, data: &Path) -> String {
        let ports = self.nodes[n];
        let host = self.addresses[n];
        let voter = |(id, (host, ports)): (usize, (&Ipv4Addr, &Ports))| {
            format!("{id}@{host}:{}", ports.controller)
        };
        let voters = self.addresses.iter().zip(&self.nodes).enumerate();
        let voters: Vec<String> = voters.map(voter).collect();
        let mut listeners = vec![format!("PLAINTEXT://{host}:{}", ports.plain)];
        let mut template = PROPERTIES.to_owned();
        if let Some(keystore) = &self.keystore {
            listeners.push(format!("SECURE://{host}:{}", ports.secure));
            template += &SECURE.replace("{keystore}", &keystore.display().to_string());
        }
        let replicas = self.addresses.len();
        template
            .replace("{id}", &n.to_string())
            .replace("{voters}", &voters.join(","))
            .replace("{listeners}", &listeners.join(","))
            .replace("{host}", &host.to_string())
            .replace("{controller}", &ports.controller.to_string())
            .replace("{data}", &data.display().to_string())
            .replace("{replicas}", &replicas.to_string())
            .replace("{in_sync}", &replicas.div_ceil(2).to_string())
    }

    /// Does what `kafka-storage format` does, from the result of one such run.
    fn format(&self, n: usize, data: &Path) -> Result<()> {
        let meta = data.join("meta.properties");
        if meta.exists() {
            return Ok(());
        }
        fs::create_dir_all(data).at(data)?;
        let bootstrap = self.home.join(BOOTSTRAP);
        fs::copy(&bootstrap, data.join(BOOTSTRAP)).at(&bootstrap)?;
        // any 16 bytes in base64 that no other node has
        let directory = format!("dGFuZGVt{n:02}Rlc3RzLW5vZA");
        let text =
            format!("version=1\ncluster.id={CLUSTER_ID}\nnode.id={n}\ndirectory.id={directory}\n");
        fs::write(&meta, text).at(&meta)
    }
}

impl Engine for Kafka {
    fn name(&self) -> &'static str {
        "kafka"
    }

    fn addresses(&self) -> &[Ipv4Addr] {
        &self.addresses
    }

    fn port(&self, n: usize) -> u16 {
        self.nodes[n].plain
    }

    fn prepare(&self, n: usize, dir: &Path, data: &Path) -> Result<Vec<String>> {
        self.format(n, data)?;
        let properties = dir.join("server.properties");
        fs::write(&properties, self.properties(n, data)).at(&properties)?;
        let mut line = java(&self.home, dir)?;
        line.insert(1, self.classes.flag());
        line.push("kafka.Kafka".into());
        line.push(properties.display().to_string());
        Ok(line)
    }

    /// A broker shows itself in its metadata once it is registered and no longer fenced.
    fn answers(&self, n: usize) -> Answer {
        let brokers = self.ask(n, wire::brokers)?;
        if !brokers.contains(&n) {
            return Err(format!("broker {n} is fenced: it sees only {brokers:?}"));
        }
        if self.keystore.is_some() {
            let secure = SocketAddrV4::new(self.addresses[n], self.nodes[n].secure);
            connect(secure).map_err(|e| format!("{secure}: {e}"))?;
        }
        Ok(())
    }

    fn works(&self) -> Answer {
        for n in 0..self.addresses.len() {
            let brokers = self.ask(n, wire::brokers)?;
            if brokers.len() < self.addresses.len() {
                return Err(format!("broker {n} sees only {brokers:?}"));
            }
        }
        Ok(())
    }
}

/// Where the installation is, or will be.
pub(crate) fn home() -> Result<PathBuf> {
    install::home(INSTALLATION)
}

/// Where the classes are, or will be.
pub(crate) fn classes() -> Result<PathBuf> {
    Ok(install::home(CLASSES)?.join("kafka.jsa"))
}

/// The jars, the outcome of one `format`, and the classes of one start.
pub(crate) fn install() -> Result<PathBuf> {
    let user = format!(
        "SCRAM-SHA-512=[name={},password={}]",
        shared::USER,
        shared::PASSWORD
    );
    let home = install::once(INSTALLATION, &format!("{POM}{LOG4J}{user}"), |home| {
        install::jars(POM, home)?;
        let log4j = home.join("log4j2.yaml");
        fs::write(&log4j, LOG4J).at(&log4j)?;
        format_once(home, &user)
    })?;
    let java = install::java()?;
    install::once(CLASSES, &format!("{POM}{}", java.display()), |dir| {
        let file = dir.join("kafka.jsa");
        let one = Options {
            brokers: 1,
            ..Options::default()
        };
        let cluster = Cluster::start_with(home.clone(), Classes::Store(file.clone()), &one)?;
        if let Some(broker) = cluster.process(0) {
            broker.terminate(WRITE_CLASSES);
        }
        fs::metadata(&file).at(&file).map(drop)
    })?;
    Ok(home)
}

/// Runs `kafka-storage format` for the sake of the one file that is not plain text.
fn format_once(home: &Path, user: &str) -> Result<()> {
    let template = Kafka {
        home: home.to_owned(),
        addresses: vec![Ipv4Addr::LOCALHOST],
        nodes: vec![Ports::default()],
        classes: Classes::Load(PathBuf::new()),
        keystore: None,
    };
    let data = home.join("format");
    let properties = home.join("format.properties");
    fs::write(&properties, template.properties(0, &data)).at(&properties)?;
    let line = java(home, home)?;
    let mut format = Command::new(&line[0]);
    format.args(&line[1..]).arg("kafka.tools.StorageTool");
    format
        .args(["format", "-t", CLUSTER_ID, "-c"])
        .arg(&properties);
    install::run(format.args(["--add-scram", user]))?;
    let bootstrap = home.join(BOOTSTRAP);
    fs::rename(data.join(BOOTSTRAP), &bootstrap).at(&bootstrap)
}

/// The beginning of a command line. What its libraries unpack goes to `tmp`, so that nothing stays behind.
fn java(home: &Path, tmp: &Path) -> Result<Vec<String>> {
    let home = home.display();
    let mut line = vec![install::java()?.display().to_string()];
    line.extend(JVM.map(str::to_owned));
    line.push(format!("-Djava.io.tmpdir={}", tmp.display()));
    line.push(format!("-Dlog4j2.configurationFile={home}/log4j2.yaml"));
    line.extend(["-cp".to_owned(), format!("{home}/*")]);
    Ok(line)
}
