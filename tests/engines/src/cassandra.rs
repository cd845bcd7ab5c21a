//! Cassandra: one node, or a ring that starts at once, every node a seed with a token of its own.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddrV4},
    path::{Path, PathBuf},
};

use crate::{
    error::{At, Error, Result},
    fleet::{Answer, Engine, Fleet, Place, connect},
    install, shared,
    slot::Slot,
};

mod cql;

use cql::{Consistency, Session};

const INSTALLATION: &str = "cassandra-5.0.6";
const POM: &str = include_str!("cassandra/pom.xml");
const YAML: &str = include_str!("cassandra/cassandra.yaml");
const SECURE: &str = include_str!("cassandra/secure.yaml");
const LOGBACK: &str = include_str!("cassandra/logback.xml");
const JVM: &str = include_str!("cassandra/jvm.options");
const CQL_PORT: u16 = 9042;
/// Who is there at a node's first start.
const SUPERUSER: (&str, &str) = ("cassandra", "cassandra");

/// One node or more.
pub type Ring = Fleet<Cassandra>;

/// What a private ring is like.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many nodes: 1 or 3.
    pub nodes: usize,
    /// Where they run; for those left out, [`Place::default`].
    pub places: Vec<Place>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            nodes: 3,
            places: Vec::new(),
        }
    }
}

impl Ring {
    /// Starts a ring of one's own, on port 9042 of addresses of its own, without authentication.
    pub fn start(options: &Options) -> Result<Self> {
        let home = install()?;
        let slot = Slot::claim()?;
        let engine = Cassandra {
            home,
            addresses: slot.addresses(options.nodes, &options.places),
            keystore: None,
        };
        Self::private(slot, engine, &options.places)
    }
}

/// How the nodes are configured.
#[derive(Debug)]
pub struct Cassandra {
    pub(crate) home: PathBuf,
    pub(crate) addresses: Vec<Ipv4Addr>,
    /// With a key and its certificates (PEM), clients may use TLS, and must have a password.
    pub(crate) keystore: Option<PathBuf>,
}

impl Cassandra {
    fn session(&self, n: usize) -> Answer<Session> {
        if self.keystore.is_none() {
            return self.session_as(n, None);
        }
        let user = self.session_as(n, Some((shared::USER, shared::PASSWORD)));
        user.or_else(|_| self.session_as(n, Some(SUPERUSER)))
    }

    fn session_as(&self, n: usize, login: Option<(&str, &str)>) -> Answer<Session> {
        let to = SocketAddrV4::new(self.addresses[n], CQL_PORT);
        let stream = connect(to).map_err(|e| format!("{to}: {e}"))?;
        Session::open(stream, login).map_err(|e| format!("{to}: {e}"))
    }

    fn yaml(&self, n: usize, data: &Path) -> String {
        let count = self.addresses.len();
        let token = (1_i128 << 64) / count as i128 * n as i128 - (1_i128 << 63);
        let seeds: Vec<String> = self.addresses.iter().map(Ipv4Addr::to_string).collect();
        let mut template = YAML.to_owned();
        if let Some(keystore) = &self.keystore {
            template += &SECURE.replace("{keystore}", &keystore.display().to_string());
        }
        template
            .replace("{token}", &token.to_string())
            .replace("{seeds}", &seeds.join(","))
            .replace("{host}", &self.addresses[n].to_string())
            .replace("{data}", &data.display().to_string())
    }
}

impl Engine for Cassandra {
    fn name(&self) -> &'static str {
        if self.keystore.is_some() {
            "cassandra-secure"
        } else {
            "cassandra"
        }
    }

    fn addresses(&self) -> &[Ipv4Addr] {
        &self.addresses
    }

    fn port(&self, _n: usize) -> u16 {
        CQL_PORT
    }

    fn prepare(&self, n: usize, dir: &Path, data: &Path) -> Result<Vec<String>> {
        fs::create_dir_all(data).at(data)?;
        let yaml = dir.join("cassandra.yaml");
        fs::write(&yaml, self.yaml(n, data)).at(&yaml)?;
        let (home, dir) = (self.home.display(), dir.display());
        // a ring's nodes must hear of each other before they take their tokens
        let ring_delay_ms = if self.addresses.len() > 1 { 2000 } else { 100 };
        let mut line = vec![install::java()?.display().to_string()];
        line.extend(JVM.lines().map(str::to_owned));
        line.extend([
            format!("-javaagent:{}", jamm(&self.home)?.display()),
            format!("-Djava.io.tmpdir={dir}"),
            format!("-Djna.tmpdir={dir}"),
            format!("-Dcassandra.config=file://{}", yaml.display()),
            format!("-Dlogback.configurationFile={home}/logback.xml"),
            format!("-Dcassandra.storagedir={}", data.display()),
            format!("-Dcassandra.ring_delay_ms={ring_delay_ms}"),
            "-cp".into(),
            format!("{home}/*"),
            "org.apache.cassandra.service.CassandraDaemon".into(),
        ]);
        Ok(line)
    }

    fn answers(&self, n: usize) -> Answer {
        let asked = "SELECT key FROM system.local";
        self.session(n)?.run(asked, Consistency::One)
    }

    /// Our user is made by the one who is there at the first start.
    fn settle(&self) -> Answer {
        if self.keystore.is_none() {
            return Ok(());
        }
        let create = format!(
            "CREATE ROLE IF NOT EXISTS {} WITH PASSWORD = '{}' AND LOGIN = true AND SUPERUSER = true",
            shared::USER,
            shared::PASSWORD
        );
        self.session(0)?.run(&create, Consistency::One)
    }

    /// A read at ALL of a keyspace with three replicas is refused unless the node that is asked holds all
    /// three for up.
    fn works(&self) -> Answer {
        if self.addresses.len() < 3 {
            return Ok(());
        }
        let asked = "SELECT status FROM system_distributed.view_build_status \
            WHERE keyspace_name = 'a' AND view_name = 'a'";
        (0..self.addresses.len()).try_for_each(|n| {
            let answer = self.session(n)?.run(asked, Consistency::All);
            answer.map_err(|e| format!("{}: {e}", self.addresses[n]))
        })
    }
}

/// Where the installation is, or will be.
pub(crate) fn home() -> Result<PathBuf> {
    install::home(INSTALLATION)
}

/// The jars.
pub(crate) fn install() -> Result<PathBuf> {
    install::once(INSTALLATION, &format!("{POM}{LOGBACK}"), |home| {
        install::jars(POM, home)?;
        let logback = home.join("logback.xml");
        fs::write(&logback, LOGBACK).at(&logback)?;
        jamm(home).map(drop)
    })
}

/// The agent by which Cassandra measures its memory.
fn jamm(home: &Path) -> Result<PathBuf> {
    let files = fs::read_dir(home).at(home)?.flatten();
    let found = files.map(|f| f.path()).find(|f| {
        f.file_name()
            .is_some_and(|n| n.to_string_lossy().starts_with("jamm-"))
    });
    found.ok_or_else(|| Error::Missing(format!("no jamm-*.jar in {}", home.display())))
}
