//! The suite in its production shape at home: each service several processes, each with a network of its
//! own, on private engines. Dropping it ends all of it.

use std::{collections::BTreeMap, net::Ipv4Addr, path::PathBuf, sync::Arc, time::Duration};

use tandem_chassis::{Doors, Lifecycle, lifecycle::OnEnd};
use tandem_client::token;
use tandem_engines::{Place, cassandra, kafka, netns::Net, redis};

use crate::{
    Result,
    fault::Engine,
    process::{Process, Spec},
};

mod config;
mod disk;
mod look;
mod supervisor;

pub use disk::{Disk, Folder};
pub use supervisor::Crash;

/// A service of the suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Client connections.
    Edge,
    /// Admission and delivery.
    Routing,
    /// Statuses.
    Presence,
    /// Conversations' events.
    History,
    /// Notifications.
    Push,
    /// Subscribers, contacts, devices.
    Accounts,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Edge,
        Self::Routing,
        Self::Presence,
        Self::History,
        Self::Push,
        Self::Accounts,
    ];

    /// Its subcommand.
    pub fn name(self) -> &'static str {
        match self {
            Self::Edge => "edge",
            Self::Routing => "routing",
            Self::Presence => "presence",
            Self::History => "history",
            Self::Push => "push",
            Self::Accounts => "accounts",
        }
    }
}

/// What the suite is like.
#[derive(Debug, Clone)]
pub struct Options {
    /// The program `tandem`.
    pub program: PathBuf,
    /// Where configs, logs and data go.
    pub dir: PathBuf,
    /// Domain of the people.
    pub domain: String,
    /// Processes of each service; two unless named.
    pub replicas: BTreeMap<Role, usize>,
    /// Partitions of the conversations' topic.
    pub partitions: u32,
    /// Anyone gets a token, from a development issuer that runs beside it.
    pub open: bool,
}

/// A process of a service.
pub struct Replica {
    /// What it is.
    pub role: Role,
    /// Its process, named as its network is.
    pub process: Process,
    /// Its address.
    pub address: Ipv4Addr,
}

/// Where the harness itself is reached: the identity provider and the push service.
pub const HARNESS_PORT: u16 = 7_500;
/// What the development issuer is called in the network.
pub const ISSUER: &str = "issuer";
/// Where the development issuer is reached.
pub const ISSUER_PORT: u16 = 7_480;
/// Port of each service for the others.
const PEERS: u16 = 7_401;
/// Port of each service for probes.
const OPS: u16 = 7_402;
/// Port of an edge for devices.
const DEVICES: u16 = 7_400;
/// How long a service may take until it is ready. Generous: two cores start twelve of them at once.
const READY: Duration = Duration::from_mins(2);
const KAFKA: usize = 3;
const CASSANDRA: usize = 3;
const REDIS: usize = 6;
/// Size of the disks that are filled up.
const DISK_MB: u32 = 2_048;

/// The running suite. Services end before their engines, and those before their network.
pub struct Suite {
    /// The services' processes.
    pub replicas: Vec<Replica>,
    /// Gives tokens to anyone, if that was asked for.
    pub issuer: Option<Process>,
    /// Those that ended by themselves.
    pub crashes: Arc<supervisor::Crashes>,
    /// Three brokers.
    pub kafka: kafka::Cluster,
    /// Three primaries with a replica each.
    pub redis: redis::Cluster,
    /// Three nodes.
    pub cassandra: cassandra::Ring,
    /// Disks that can be filled up: of the first broker and of the first node of Cassandra.
    pub disks: [Disk; 2],
    /// The engines' data.
    pub data: Folder,
    /// Joins them.
    pub net: Net,
    /// Where everything is kept.
    pub dir: PathBuf,
    doors: Doors,
}

impl Suite {
    /// Brings engines, topics and tables, and services up; the harness must already answer at
    /// [`HARNESS_PORT`] by the time the first token is checked.
    pub async fn start(
        options: &Options,
        doors: &Doors,
        lifecycle: &Lifecycle,
    ) -> Result<Arc<Self>> {
        let count = |role| options.replicas.get(&role).copied().unwrap_or(2);
        let services: Vec<(Role, String)> = Role::ALL
            .iter()
            .flat_map(|role| (1..=count(*role)).map(|n| (*role, format!("{}{n}", role.name()))))
            .collect();
        let engines: Vec<String> = [("kafka", KAFKA), ("redis", REDIS), ("cassandra", CASSANDRA)]
            .iter()
            .flat_map(|(name, count)| (1..=*count).map(move |n| format!("{name}{n}")))
            .collect();
        let names: Vec<&str> = services.iter().map(|(_, name)| name.as_str()).collect();
        let names: Vec<&str> = names
            .into_iter()
            .chain(engines.iter().map(String::as_str))
            .chain([ISSUER])
            .collect();
        for part in ["config", "log"] {
            std::fs::create_dir_all(options.dir.join(part))?;
        }
        let mut suite = tokio::task::block_in_place(|| Self::engines(&names, options, doors))?;
        let config = config::Config::new(&suite, options, &services)?;
        suite.migrate(&config, options).await?;
        for (role, name) in &services {
            let file = config.write(*role, name)?;
            let place = suite.net.place(name)?;
            let own = [
                options.program.as_os_str(),
                role.name().as_ref(),
                "--config".as_ref(),
                file.as_os_str(),
            ];
            let prefix = place.prefix.iter().map(Into::into);
            let process = Process::new(
                name,
                Spec {
                    command: prefix.chain(own.map(Into::into)).collect(),
                    log: options.dir.join("log").join(format!("{name}.log")),
                },
            );
            process.start()?;
            suite.replicas.push(Replica {
                role: *role,
                process,
                address: suite.net.address(name)?,
            });
        }
        if options.open {
            suite.issuer = Some(suite.start_issuer(options)?);
        }
        for replica in &suite.replicas {
            suite.ready(replica).await?;
        }
        let suite = Arc::new(suite);
        let watched = supervisor::watch(suite.clone());
        lifecycle.spawn("supervisor", OnEnd::Fine, watched);
        Ok(suite)
    }

    fn engines(names: &[&str], options: &Options, doors: &Doors) -> Result<Self> {
        let net = Net::new(names)?;
        let folder = Folder::new(&options.dir.join("data"))?;
        let data = folder.path();
        let places = |name: &str, count: usize| -> Result<Vec<Place>> {
            let place = |n: usize| {
                let name = format!("{name}{n}");
                let mut place = net.place(&name)?;
                place.data = Some(data.join(&name));
                Ok(place)
            };
            (1..=count).map(place).collect()
        };
        let disks = [
            Disk::mount(&data.join("kafka1"), DISK_MB)?,
            Disk::mount(&data.join("cassandra1"), DISK_MB)?,
        ];
        let kafka = kafka::Options {
            brokers: KAFKA,
            places: places("kafka", KAFKA)?,
        };
        let redis = redis::Options {
            places: places("redis", REDIS)?,
        };
        let cassandra = cassandra::Options {
            nodes: CASSANDRA,
            places: places("cassandra", CASSANDRA)?,
        };
        let (kafka, redis, cassandra) = std::thread::scope(|scope| {
            let kafka = scope.spawn(|| kafka::Cluster::start(&kafka));
            let cassandra = scope.spawn(|| cassandra::Ring::start(&cassandra));
            let redis = redis::Cluster::start(&redis);
            (kafka.join(), redis, cassandra.join())
        });
        let broke = |_| "the thread that started an engine panicked";
        Ok(Self {
            replicas: Vec::new(),
            issuer: None,
            crashes: Arc::default(),
            kafka: kafka.map_err(broke)??,
            redis: redis?,
            cassandra: cassandra.map_err(broke)??,
            disks,
            data: folder,
            net,
            dir: options.dir.clone(),
            doors: doors.clone(),
        })
    }

    fn start_issuer(&self, options: &Options) -> Result<Process> {
        let place = self.net.place(ISSUER)?;
        let at = format!("0.0.0.0:{ISSUER_PORT}");
        let own = [
            options.program.as_os_str(),
            "dev-issuer".as_ref(),
            "--listen".as_ref(),
            at.as_ref(),
            "--domain".as_ref(),
            options.domain.as_ref(),
            "--data-dir".as_ref(),
            self.data.path().as_os_str(),
        ];
        let prefix = place.prefix.iter().map(Into::into);
        let process = Process::new(
            "dev-issuer",
            Spec {
                command: prefix.chain(own.map(Into::into)).collect(),
                log: options.dir.join("log/dev-issuer.log"),
            },
        );
        process.start()?;
        Ok(process)
    }

    async fn migrate(&self, config: &config::Config, options: &Options) -> Result<()> {
        let file = config.write(Role::Accounts, "migrate")?;
        let done = tokio::process::Command::new(&options.program)
            .arg("migrate")
            .arg("--config")
            .arg(file)
            .kill_on_drop(true)
            .output();
        let done = tokio::time::timeout(READY, done)
            .await
            .map_err(|_| "tandem migrate takes too long")??;
        std::fs::write(
            options.dir.join("log/migrate.log"),
            [&done.stdout[..], &done.stderr].concat(),
        )?;
        if done.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&done.stderr);
        Err(format!("tandem migrate: {}: {said}", done.status).into())
    }

    /// Where devices connect.
    pub fn edges(&self) -> Vec<String> {
        self.of(Role::Edge)
            .map(|r| format!("{}:{DEVICES}", r.address))
            .collect()
    }

    /// Where a service is reached by the others, `host:port` each, separated by commas.
    pub fn peers(&self, role: Role) -> String {
        let all: Vec<_> = self
            .of(role)
            .map(|r| format!("{}:{PEERS}", r.address))
            .collect();
        all.join(",")
    }

    /// The processes of a service.
    pub fn of(&self, role: Role) -> impl Iterator<Item = &Replica> {
        self.replicas.iter().filter(move |r| r.role == role)
    }

    /// Their places in [`Self::replicas`].
    pub fn indices(&self, role: Role) -> Vec<usize> {
        let all = self.replicas.iter().enumerate();
        all.filter(|(_, r)| r.role == role)
            .map(|(i, _)| i)
            .collect()
    }

    /// What the nodes of an engine are called in the network.
    pub fn names(&self, engine: &str, count: usize) -> Vec<String> {
        (1..=count).map(|n| format!("{engine}{n}")).collect()
    }

    /// Stops every node of an engine where it stands, or lets it go on.
    pub fn stand_still(&self, engine: Engine, still: bool) {
        fn each<E: tandem_engines::Engine>(fleet: &tandem_engines::Fleet<E>, still: bool) {
            for n in 0..fleet.len() {
                if still {
                    fleet.pause(n);
                } else {
                    fleet.resume(n);
                }
            }
        }
        match engine {
            Engine::Kafka => each(&self.kafka, still),
            Engine::Redis => each(&self.redis, still),
            Engine::Cassandra => each(&self.cassandra, still),
        }
    }

    /// Waits until a replica is ready.
    pub async fn ready(&self, replica: &Replica) -> Result<()> {
        let ops = format!("{}:{OPS}", replica.address);
        let ready = async {
            loop {
                let answer =
                    token::http(&self.doors, &ops, http::Method::GET, "/readyz", Vec::new());
                match answer.await {
                    Ok(answer) if answer.status().is_success() => return,
                    _ => tokio::time::sleep(Duration::from_millis(100)).await,
                }
            }
        };
        let waited = tokio::time::timeout(READY, ready).await;
        let (name, log) = (&replica.process.name, replica.process.log().display());
        waited.map_err(|_| format!("{name} is not ready in time: see {log}").into())
    }
}
