//! Networks that are slow, cut and healed.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that cannot look fails, and looks over real sockets"
)]

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    process::{self, Command},
    time::Duration,
};

use tandem_engines::{
    netns::Net,
    redis,
    toxiproxy::{self, Toxic, Toxiproxy},
};

/// Asks a Redis, and waits for half a second.
fn ping(address: &str) -> Result<String, ErrorKind> {
    let ask = || {
        let half_a_second = Duration::from_millis(500);
        let mut stream = TcpStream::connect_timeout(&address.parse().unwrap(), half_a_second)?;
        stream.set_read_timeout(Some(half_a_second))?;
        stream.write_all(b"PING\r\n")?;
        let mut reply = [0; 7];
        stream.read_exact(&mut reply)?;
        Ok(String::from_utf8_lossy(&reply).trim().to_owned())
    };
    ask().map_err(|e: std::io::Error| e.kind())
}

#[test]
fn a_proxy_can_be_slow_silent_reset_and_cut_and_heals() {
    let redis = redis::Server::start(&redis::Options::default()).unwrap();
    let toxi = Toxiproxy::start(&toxiproxy::Options::default()).unwrap();
    let through = toxi.proxy("redis", &redis.address(0)).unwrap();
    let healthy = || assert_eq!(ping(&through).unwrap(), "+PONG");
    healthy();
    let slow = Toxic::Latency {
        ms: 2_000,
        jitter_ms: 0,
    };
    for toxic in [slow, Toxic::Silence, Toxic::Reset, Toxic::Cut] {
        toxi.harm("redis", toxic).unwrap();
        let kind = ping(&through).unwrap_err();
        match toxic {
            Toxic::Latency { .. } | Toxic::Silence => assert_eq!(kind, ErrorKind::WouldBlock),
            Toxic::Reset => assert_eq!(kind, ErrorKind::ConnectionReset),
            Toxic::Cut => assert_eq!(kind, ErrorKind::ConnectionRefused),
        }
        toxi.heal("redis").unwrap();
        healthy();
    }
}

#[test]
fn a_cut_parts_two_namespaces_and_no_others_until_it_is_healed() {
    let net = Net::new(&["a", "b", "redis"]).unwrap();
    let options = redis::Options {
        places: vec![net.place("redis").unwrap()],
    };
    let redis = redis::Server::start(&options).unwrap();
    let from = |name: &str| {
        let place = net.place(name).unwrap();
        let mut ask = Command::new(&place.prefix[0]);
        ask.args(&place.prefix[1..])
            .args(["timeout", "1", "redis-cli"]);
        ask.args(["-h", &net.address("redis").unwrap().to_string(), "PING"]);
        ask.output().unwrap().status.success()
    };
    assert!(from("a") && from("b"));
    net.cut("a", "redis").unwrap();
    assert!(!from("a"));
    assert!(from("b"));
    assert_eq!(redis.ask("PING").unwrap(), "PONG");
    net.heal("a", "redis").unwrap();
    assert!(from("a"));

    // dropped, it is gone
    let left = || {
        let own = process::id().to_string();
        let dirs = ["/run/netns", "/sys/class/net"].map(|dir| fs::read_dir(dir).unwrap());
        let names = dirs.into_iter().flatten().map(|e| e.unwrap().file_name());
        names.filter(|n| n.to_string_lossy().contains(&own)).count()
    };
    assert_eq!(left(), 4, "three namespaces and a bridge");
    drop(redis);
    drop(net);
    assert_eq!(left(), 0);
}
