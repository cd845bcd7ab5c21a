//! The services' config files.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::json;

use super::{HARNESS_PORT, ISSUER_PORT, Options, PEERS, Role, Suite};
use crate::{
    Result,
    issuer::{AUDIENCE, ISSUER, KEYS_PATH},
};

/// What they have in common.
pub(super) struct Config {
    dir: PathBuf,
    common: toml::Table,
    addresses: BTreeMap<String, String>,
}

impl Config {
    /// For these processes, on the suite's engines.
    pub(super) fn new(
        suite: &Suite,
        options: &Options,
        services: &[(Role, String)],
    ) -> Result<Self> {
        let mut addresses = BTreeMap::new();
        for (_, name) in services {
            let address = format!("{}:{PEERS}", suite.net.address(name)?);
            addresses.insert(name.clone(), address);
        }
        let peers = |role: Role| {
            let of = services.iter().filter(|(r, _)| *r == role);
            let of: Vec<&str> = of.map(|(_, name)| addresses[name].as_str()).collect();
            of.join(",")
        };
        let mut secret = [0; 32];
        suite.doors.rng.fill(&mut secret);
        // below the order of the curve
        secret[0] &= 0x7f;
        let gateway = suite.net.gateway();
        let keys = format!("http://{gateway}:{HARNESS_PORT}{KEYS_PATH}");
        let mut issuers = vec![json!({ "issuer": ISSUER, "audience": AUDIENCE, "jwks_url": keys })];
        if options.open {
            let at = suite.net.address(super::ISSUER)?;
            let keys = format!("http://{at}:{ISSUER_PORT}/dev/jwks.json");
            let development = "tandem-development";
            let open = json!({ "issuer": development, "audience": AUDIENCE, "jwks_url": keys });
            issuers.push(open);
        }
        let common = json!({
            "telemetry": { "log": "info", "log_format": "text" },
            "lifecycle": { "drain_ms": 10_000 },
            "server": { "listen": "0.0.0.0:7401", "ops": "0.0.0.0:7402", "devices": "0.0.0.0:7400" },
            "peers": {
                "accounts": peers(Role::Accounts),
                "history": peers(Role::History),
                "presence": peers(Role::Presence),
                "push": peers(Role::Push),
                "routing": peers(Role::Routing),
            },
            "kafka": { "brokers": suite.kafka.bootstrap() },
            "redis": { "addresses": suite.redis.addresses().join(","), "mode": "cluster" },
            "cassandra": { "contact_points": suite.cassandra.addresses().join(",") },
            "accounts": { "allow_http_endpoints": true },
            "edge": {
                "domain": options.domain,
                "issuers": issuers,
                "dev_issuer": options.open,
            },
            "push": {
                "vapid_private_key": BASE64_URL_SAFE_NO_PAD.encode(secret),
                "vapid_subject": "mailto:operator@faults.test",
                "allow_http_endpoints": true,
                "allow_private_endpoints": true,
            },
            "routing": { "partitions": options.partitions },
        });
        Ok(Self {
            dir: options.dir.join("config"),
            common: toml::Table::try_from(common)?,
            addresses,
        })
    }

    /// Writes the file of one process.
    pub(super) fn write(&self, role: Role, name: &str) -> Result<PathBuf> {
        let mut table = self.common.clone();
        if role == Role::Edge
            && let Some(edge) = table.get_mut("edge").and_then(toml::Value::as_table_mut)
        {
            let target = self.addresses.get(name).cloned().unwrap_or_default();
            edge.insert("target".into(), target.into());
        }
        let path: &Path = &self.dir.join(format!("{name}.toml"));
        fs::write(path, table.to_string())?;
        Ok(path.to_owned())
    }
}
