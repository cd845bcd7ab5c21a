//! toxiproxy: TCP connections that are slow, cut, silent or reset.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddrV4},
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};

use crate::{
    error::{Error, Result},
    fleet::{Answer, Engine, Fleet, Place, connect},
    install,
    slot::Slot,
};

const INSTALLATION: &str = "toxiproxy-2.5.0";
const MODULE: &str = "github.com/Shopify/toxiproxy/v2/cmd/server@v2.5.0";
const PORT: u16 = 8474;

/// One proxy process with any number of proxies.
pub type Toxiproxy = Fleet<Toxi>;

/// Where it runs.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Its place, if the default will not do.
    pub place: Place,
}

/// What happens to a proxy's connections until [`Toxiproxy::heal`].
#[derive(Clone, Copy, Debug)]
pub enum Toxic {
    /// What the server says comes that much later, give or take.
    Latency {
        /// Milliseconds.
        ms: u32,
        /// Milliseconds more or less.
        jitter_ms: u32,
    },
    /// Nothing the server says arrives; the connections stay open.
    Silence,
    /// Connections are reset (RST) as soon as the client says something.
    Reset,
    /// Connections are closed, and new ones refused.
    Cut,
}

impl Toxiproxy {
    /// Starts one on an address of its own.
    pub fn start(options: &Options) -> Result<Self> {
        let program = install()?.join("server");
        let slot = Slot::claim()?;
        let places = [options.place.clone()];
        let addresses = slot.addresses(1, &places);
        Self::private(slot, Toxi { program, addresses }, &places)
    }

    /// Proxies `upstream` (an address and port) under a name, and gives the address to connect to.
    pub fn proxy(&self, name: &str, upstream: &str) -> Result<String> {
        let listen = format!("{}:0", self.engine.addresses[0]);
        let wanted = json!({"name": name, "listen": listen, "upstream": upstream, "enabled": true});
        let made = self.call("POST", "/proxies", &wanted)?;
        let listen = made["listen"].as_str().map(str::to_owned);
        listen.ok_or_else(|| failed("a proxy without an address".into()))
    }

    /// Harms a proxy.
    pub fn harm(&self, name: &str, toxic: Toxic) -> Result<()> {
        let (kind, attributes) = match toxic {
            Toxic::Latency { ms, jitter_ms } => {
                ("latency", json!({"latency": ms, "jitter": jitter_ms}))
            }
            Toxic::Silence => ("timeout", json!({"timeout": 0})),
            Toxic::Reset => ("reset_peer", json!({"timeout": 0})),
            Toxic::Cut => return self.enable(name, false),
        };
        let toxic = json!({"type": kind, "stream": "downstream", "attributes": attributes});
        self.call("POST", &format!("/proxies/{name}/toxics"), &toxic)
            .map(drop)
    }

    /// Removes whatever harms a proxy.
    pub fn heal(&self, name: &str) -> Result<()> {
        let toxics = self.call("GET", &format!("/proxies/{name}/toxics"), &Value::Null)?;
        for toxic in toxics.as_array().into_iter().flatten() {
            let toxic = toxic["name"].as_str().unwrap_or_default();
            self.call(
                "DELETE",
                &format!("/proxies/{name}/toxics/{toxic}"),
                &Value::Null,
            )?;
        }
        self.enable(name, true)
    }

    fn enable(&self, name: &str, enabled: bool) -> Result<()> {
        let wanted = json!({"enabled": enabled});
        self.call("POST", &format!("/proxies/{name}"), &wanted)
            .map(drop)
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        self.engine.call(method, path, body).map_err(failed)
    }
}

fn failed(why: String) -> Error {
    let what = "toxiproxy".into();
    Error::Answer { what, why }
}

/// How the proxy process is configured.
#[derive(Debug)]
pub struct Toxi {
    program: PathBuf,
    addresses: Vec<Ipv4Addr>,
}

impl Toxi {
    fn call(&self, method: &str, path: &str, body: &Value) -> Answer<Value> {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: toxiproxy\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let exchange = || -> std::io::Result<String> {
            let mut stream = connect(SocketAddrV4::new(self.addresses[0], PORT))?;
            stream.write_all(request.as_bytes())?;
            let mut reply = String::new();
            stream.read_to_string(&mut reply)?;
            Ok(reply)
        };
        let reply = exchange().map_err(|e| e.to_string())?;
        let (head, body) = reply.split_once("\r\n\r\n").ok_or("a short reply")?;
        if !head.starts_with("HTTP/1.1 2") {
            return Err(format!("{method} {path}: {body}"));
        }
        // no reply is so long that it would come in chunks
        Ok(serde_json::from_str(body).unwrap_or(Value::Null))
    }
}

impl Engine for Toxi {
    fn name(&self) -> &'static str {
        "toxiproxy"
    }

    fn addresses(&self) -> &[Ipv4Addr] {
        &self.addresses
    }

    fn port(&self, _n: usize) -> u16 {
        PORT
    }

    fn prepare(&self, _n: usize, _dir: &Path, _data: &Path) -> Result<Vec<String>> {
        let program = self.program.display().to_string();
        let host = self.addresses[0].to_string();
        let port = PORT.to_string();
        Ok(vec![program, "-host".into(), host, "-port".into(), port])
    }

    fn answers(&self, _n: usize) -> Answer {
        self.call("GET", "/proxies", &Value::Null).map(drop)
    }

    fn works(&self) -> Answer {
        Ok(())
    }
}

/// Built from source by Go.
pub(crate) fn install() -> Result<PathBuf> {
    install::once(INSTALLATION, MODULE, |home| {
        let go = install::program("go", "golang-go")?;
        let mut build = Command::new(go);
        build.args(["install", MODULE]).env("GOBIN", home);
        install::run(&mut build).map(drop)
    })
}
