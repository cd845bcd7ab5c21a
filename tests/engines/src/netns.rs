//! Network namespaces of this machine, joined by a bridge, between any two of which the network can be
//! cut. Needs root.
//!
//! A cut is a cable that is pulled: what one side sends does not arrive, and neither is told.

use std::{
    collections::BTreeMap,
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
};

use nix::unistd::geteuid;

use crate::{
    error::{At, Error, Result},
    fleet::Place,
    install,
    process::Process,
    slot::Slot,
};

/// In the slot's folder: the names of what must be removed, one a line.
const NAMES: &str = "netns";
const RULES: &str = "table inet tandem { \
    set cut { type ipv4_addr; }; \
    chain in { type filter hook input priority 0; ip saddr @cut drop; }; }";

/// A network of its own: 10.88.N.0/24. This machine itself is 10.88.N.254 there and reaches all of it.
/// Dropping it removes it; end what runs in it first.
#[derive(Debug)]
pub struct Net {
    slot: Slot,
    ip: PathBuf,
    nft: PathBuf,
    hosts: BTreeMap<String, Host>,
}

#[derive(Debug)]
struct Host {
    namespace: String,
    address: Ipv4Addr,
}

impl Net {
    /// A bridge with a namespace for each name.
    pub fn new(names: &[&str]) -> Result<Self> {
        if !geteuid().is_root() {
            return Err(Error::Missing("network namespaces: run as root".into()));
        }
        let (ip, nft) = install::netns_tools()?;
        let mut net = Self {
            slot: Slot::claim()?,
            ip,
            nft,
            hosts: BTreeMap::new(),
        };
        let bridge = net.bridge();
        net.note(&format!("link {bridge}"))?;
        net.ip(&format!("link add {bridge} type bridge"))?;
        net.ip(&format!("addr add {}/24 dev {bridge}", net.gateway()))?;
        net.ip(&format!("link set {bridge} up"))?;
        for name in names {
            net.add(name)?;
        }
        Ok(net)
    }

    /// This machine's own address in it.
    pub fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 88, self.slot.number(), 254)
    }

    /// The address of a namespace.
    pub fn address(&self, name: &str) -> Result<Ipv4Addr> {
        Ok(self.host(name)?.address)
    }

    /// A namespace as an engine's [`Place`]; its `prefix` serves other programs, too.
    pub fn place(&self, name: &str) -> Result<Place> {
        let host = self.host(name)?;
        let ip = self.ip.display().to_string();
        let prefix = [&ip, "netns", "exec", &host.namespace];
        Ok(Place {
            address: Some(host.address),
            prefix: prefix.map(str::to_owned).to_vec(),
            data: None,
        })
    }

    /// From now on nothing passes between the two.
    pub fn cut(&self, a: &str, b: &str) -> Result<()> {
        self.both(a, b, "add")
    }

    /// What passed before the cut passes again.
    pub fn heal(&self, a: &str, b: &str) -> Result<()> {
        self.both(a, b, "delete")
    }

    fn both(&self, a: &str, b: &str, verb: &str) -> Result<()> {
        let (a, b) = (self.host(a)?, self.host(b)?);
        for (at, from) in [(a, b), (b, a)] {
            let element = format!("{{ {} }}", from.address);
            self.nft(at, &[verb, "element", "inet", "tandem", "cut", &element])?;
        }
        Ok(())
    }

    fn add(&mut self, name: &str) -> Result<()> {
        let (slot, number) = (self.slot.number(), self.hosts.len() + 1);
        let namespace = format!("tandem-{}-{slot}-{name}", std::process::id());
        let address = Ipv4Addr::new(10, 88, slot, number as u8);
        let (bridge, outside) = (self.bridge(), format!("tandem{slot}.{number}"));
        // a namespace lives on while a connection in it waits for its end: its cable goes by itself
        self.note(&format!("link {outside}"))?;
        self.note(&format!("netns {namespace}"))?;
        self.ip(&format!("netns add {namespace}"))?;
        self.ip(&format!(
            "link add {outside} type veth peer name eth0 netns {namespace}"
        ))?;
        self.ip(&format!("link set {outside} master {bridge} up"))?;
        self.ip(&format!("-n {namespace} addr add {address}/24 dev eth0"))?;
        self.ip(&format!("-n {namespace} link set eth0 up"))?;
        self.ip(&format!("-n {namespace} link set lo up"))?;
        self.ip(&format!(
            "-n {namespace} route add default via {}",
            self.gateway()
        ))?;
        let host = Host { namespace, address };
        self.nft(&host, &[RULES])?;
        self.hosts.insert(name.to_owned(), host);
        Ok(())
    }

    fn host(&self, name: &str) -> Result<&Host> {
        let missing = || Error::Missing(format!("the network has no namespace {name}"));
        self.hosts.get(name).ok_or_else(missing)
    }

    fn bridge(&self) -> String {
        // at most 15 characters (IFNAMSIZ)
        format!("td{}-{}", std::process::id(), self.slot.number())
    }

    fn ip(&self, args: &str) -> Result<()> {
        install::run(Command::new(&self.ip).args(args.split(' '))).map(drop)
    }

    fn nft(&self, host: &Host, args: &[&str]) -> Result<()> {
        let mut nft = Command::new(&self.ip);
        nft.args(["netns", "exec", &host.namespace]).arg(&self.nft);
        install::run(nft.args(args)).map(drop)
    }

    /// Noted before it is made, so that it is removed in any case.
    fn note(&self, line: &str) -> Result<()> {
        let file = self.slot.dir().join(NAMES);
        let noted = fs::read_to_string(&file).unwrap_or_default();
        fs::write(&file, format!("{noted}{line}\n")).at(&file)
    }
}

/// Removes what a slot's folder notes.
pub(crate) fn remove(slot: &Path) {
    let noted = fs::read_to_string(slot.join(NAMES)).unwrap_or_default();
    for line in noted.lines() {
        if let Some((kind, name)) = line.split_once(' ') {
            if kind == "netns" {
                kill_all_in(name);
            }
            // a namespace takes its end of the cable along; what was never made cannot be removed
            let _ = install::run(Command::new("ip").args([kind, "del", name]));
        }
    }
}

/// Ends what still runs in a namespace: programs of a process that was killed itself.
fn kill_all_in(namespace: &str) {
    let listed = install::run(Command::new("ip").args(["netns", "pids", namespace]));
    let pids = listed.unwrap_or_default();
    let pids = pids.lines().filter_map(|pid| pid.trim().parse().ok());
    pids.filter_map(Process::of).for_each(Process::kill);
}
