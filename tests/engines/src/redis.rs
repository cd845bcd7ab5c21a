//! Redis: one server, or a Cluster of three primaries with a replica each.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddrV4},
    path::Path,
};

use crate::{
    certs::Certs,
    error::{At, Error, Result},
    fleet::{Answer, Engine, Fleet, Place, connect},
    install, shared,
    slot::Slot,
};

const PORT: u16 = 6379;
const PRIMARIES: usize = 3;
/// Three primaries with a replica each.
const NODES: usize = 6;
const SLOTS: usize = 16_384;

/// One server.
pub type Server = Fleet<Single>;
/// A Cluster of three primaries with a replica each.
pub type Cluster = Fleet<Clustered>;

/// What a private Redis is like.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Where the servers run; for those left out, [`Place::default`].
    pub places: Vec<Place>,
}

impl Server {
    /// Starts a server of one's own, on port 6379 of an address of its own. What it holds survives a
    /// restart, but for the last second.
    pub fn start(options: &Options) -> Result<Self> {
        install::redis()?;
        let slot = Slot::claim()?;
        let engine = Single {
            addresses: slot.addresses(1, &options.places),
            port: PORT,
            secure: None,
        };
        Self::private(slot, engine, &options.places)
    }

    /// Sends a command (words without spaces) and gives the text of the reply.
    pub fn ask(&self, command: &str) -> Result<String> {
        answered(0, ask(self.engine.socket(), command))
    }
}

impl Cluster {
    /// Starts a Cluster of one's own, on port 6379 of addresses of its own. What it holds survives a
    /// restart, but for the last second; a dead primary is replaced after about 3 s.
    pub fn start(options: &Options) -> Result<Self> {
        install::redis()?;
        let slot = Slot::claim()?;
        let addresses = slot.addresses(NODES, &options.places);
        let engine = Clustered {
            ports: vec![PORT; NODES],
            addresses,
        };
        Self::private(slot, engine, &options.places)
    }

    /// Sends a command (words without spaces) to node `n` and gives the text of the reply.
    pub fn ask(&self, n: usize, command: &str) -> Result<String> {
        answered(n, ask(self.engine.socket(n), command))
    }

    /// The nodes that are primaries now, as they say themselves. A dead one is none.
    pub fn primaries(&self) -> Vec<usize> {
        let primary = |n: &usize| {
            let role = ask(self.engine.socket(*n), "INFO replication");
            role.is_ok_and(|r| r.contains("role:master"))
        };
        (0..self.len()).filter(primary).collect()
    }
}

fn answered(n: usize, answer: Answer<String>) -> Result<String> {
    answer.map_err(|why| Error::Answer {
        what: format!("redis (node {n})"),
        why,
    })
}

/// How a single server is configured.
#[derive(Debug)]
pub struct Single {
    pub(crate) addresses: Vec<Ipv4Addr>,
    pub(crate) port: u16,
    /// With certificates, it has a TLS port and a user with a password, too.
    pub(crate) secure: Option<(u16, Certs)>,
}

impl Single {
    fn socket(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.addresses[0], self.port)
    }
}

impl Engine for Single {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn addresses(&self) -> &[Ipv4Addr] {
        &self.addresses
    }

    fn port(&self, _n: usize) -> u16 {
        self.port
    }

    fn prepare(&self, _n: usize, _dir: &Path, data: &Path) -> Result<Vec<String>> {
        let mut line = command_line(self.socket(), data)?;
        if let Some((port, certs)) = &self.secure {
            let files = [
                ("--tls-cert-file", certs.certificate()),
                ("--tls-key-file", certs.key()),
                ("--tls-ca-cert-file", certs.ca()),
            ];
            line.extend(["--tls-port".to_owned(), port.to_string()]);
            line.extend(["--tls-auth-clients", "no"].map(str::to_owned));
            line.extend(
                files
                    .into_iter()
                    .flat_map(|(k, v)| [k.to_owned(), v.display().to_string()]),
            );
            let user = format!("{} on >{} ~* &* +@all", shared::USER, shared::PASSWORD);
            line.push("--user".into());
            line.extend(user.split(' ').map(str::to_owned));
        }
        Ok(line)
    }

    fn answers(&self, _n: usize) -> Answer {
        ping(self.socket())?;
        if let Some((port, _)) = &self.secure {
            let secure = SocketAddrV4::new(self.addresses[0], *port);
            connect(secure).map_err(|e| format!("{secure}: {e}"))?;
        }
        Ok(())
    }

    fn works(&self) -> Answer {
        Ok(())
    }
}

/// How a Cluster's servers are configured. The first three begin as primaries.
#[derive(Debug)]
pub struct Clustered {
    pub(crate) addresses: Vec<Ipv4Addr>,
    pub(crate) ports: Vec<u16>,
}

impl Clustered {
    fn socket(&self, n: usize) -> SocketAddrV4 {
        SocketAddrV4::new(self.addresses[n], self.ports[n])
    }

    /// Makes node `n` a replica, if it is a primary without slots.
    fn replicate(&self, n: usize, primary: usize) -> Answer {
        let nodes = ask(self.socket(n), "CLUSTER NODES")?;
        let own = nodes.lines().find(|l| l.contains("myself,master"));
        // id, address, flags, primary, ping, pong, epoch, link, then slots
        if own.is_some_and(|own| own.split_whitespace().count() == 8) {
            let id = ask(self.socket(primary), "CLUSTER MYID")?;
            ask(self.socket(n), &format!("CLUSTER REPLICATE {id}"))?;
        }
        Ok(())
    }
}

impl Engine for Clustered {
    fn name(&self) -> &'static str {
        "redis-cluster"
    }

    fn addresses(&self) -> &[Ipv4Addr] {
        &self.addresses
    }

    fn port(&self, n: usize) -> u16 {
        self.ports[n]
    }

    fn prepare(&self, n: usize, _dir: &Path, data: &Path) -> Result<Vec<String>> {
        let mut line = command_line(self.socket(n), data)?;
        let address = self.addresses[n].to_string();
        let clustered = [
            ["--cluster-enabled", "yes"],
            ["--cluster-config-file", "nodes.conf"],
            ["--cluster-node-timeout", "2000"],
            // the others would take the address that it connects from for its own
            ["--cluster-announce-ip", &address],
            // a replica that has not synced once is never promoted
            ["--repl-diskless-sync-delay", "0"],
        ];
        line.extend(clustered.concat().into_iter().map(str::to_owned));
        Ok(line)
    }

    fn answers(&self, n: usize) -> Answer {
        ping(self.socket(n))
    }

    fn settle(&self) -> Answer {
        let all = 0..self.ports.len();
        let info = ask(self.socket(0), "CLUSTER INFO")?;
        if info.contains("cluster_slots_assigned:0") {
            for n in all.clone() {
                ask(
                    self.socket(n),
                    &format!("CLUSTER SET-CONFIG-EPOCH {}", n + 1),
                )?;
                let to = self.socket(n);
                ask(
                    self.socket(0),
                    &format!("CLUSTER MEET {} {}", to.ip(), to.port()),
                )?;
            }
            for n in 0..PRIMARIES {
                let (from, to) = (n * SLOTS / PRIMARIES, (n + 1) * SLOTS / PRIMARIES - 1);
                ask(
                    self.socket(n),
                    &format!("CLUSTER ADDSLOTSRANGE {from} {to}"),
                )?;
            }
        }
        let known = format!("cluster_known_nodes:{}", self.ports.len());
        for n in all.clone() {
            if !ask(self.socket(n), "CLUSTER INFO")?.contains(&known) {
                return Err(format!("{}: not all nodes have met", self.socket(n)));
            }
        }
        all.skip(PRIMARIES)
            .try_for_each(|n| self.replicate(n, n % PRIMARIES))
    }

    fn works(&self) -> Answer {
        (0..self.ports.len()).try_for_each(|n| {
            let socket = self.socket(n);
            let cluster = ask(socket, "CLUSTER INFO")?;
            if !cluster.contains("cluster_state:ok") {
                return Err(format!("{socket}: the cluster's state is not ok"));
            }
            let replication = ask(socket, "INFO replication")?;
            if replication.contains("role:slave") && !replication.contains("master_link_status:up")
            {
                return Err(format!("{socket}: the replica has not synced yet"));
            }
            Ok(())
        })
    }
}

fn command_line(socket: SocketAddrV4, data: &Path) -> Result<Vec<String>> {
    fs::create_dir_all(data).at(data)?;
    let mut line = vec!["redis-server".to_owned()];
    let own = [
        ("--bind", socket.ip().to_string()),
        ("--port", socket.port().to_string()),
        ("--dir", data.display().to_string()),
        ("--save", String::new()),
        ("--appendonly", "yes".into()),
        ("--appendfsync", "everysec".into()),
        // it listens where only this machine reaches it
        ("--protected-mode", "no".into()),
    ];
    line.extend(
        own.into_iter()
            .flat_map(|(key, value)| [key.to_owned(), value]),
    );
    Ok(line)
}

/// A server that still reads its data refuses.
fn ping(socket: SocketAddrV4) -> Answer {
    ask(socket, "PING").map(drop)
}

/// Sends an inline command and reads a reply of one line or one bulk string (RESP2).
fn ask(socket: SocketAddrV4, command: &str) -> Answer<String> {
    let exchange = || -> std::io::Result<(String, String)> {
        let mut stream = connect(socket)?;
        stream.write_all(format!("{command}\r\n").as_bytes())?;
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let mut bulk = String::new();
        if let Some(length) = line.strip_prefix('$') {
            reader
                .take(length.trim().parse().unwrap_or(0))
                .read_to_string(&mut bulk)?;
        }
        Ok((line.trim().to_owned(), bulk))
    };
    let (line, bulk) = exchange().map_err(|e| format!("{socket}: {e}"))?;
    match line.split_at_checked(1) {
        Some(("$", _)) => Ok(bulk),
        Some(("+" | ":", rest)) => Ok(rest.to_owned()),
        _ => Err(format!("{socket}: {line}")),
    }
}
