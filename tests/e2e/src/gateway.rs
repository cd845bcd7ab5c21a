//! A push service on loopback, and a subscription there that a browser would make.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Instant,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tandem_proto::client::{PushToken, WebPush, push_token};

use crate::python;

/// A notification as it arrived.
#[derive(Debug, Clone)]
pub struct Got {
    /// When.
    pub at: Instant,
    /// Where: the subscription's resource.
    pub path: String,
    /// Names (in lower case) and values.
    pub headers: Vec<(String, String)>,
    /// Encrypted.
    pub body: Vec<u8>,
}

impl Got {
    /// A header's value.
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(n, _)| n == name);
        found.map_or("", |(_, value)| value)
    }
}

/// The push service. It takes whatever comes.
pub struct Gateway {
    port: u16,
    got: Arc<Mutex<Vec<Got>>>,
}

impl Gateway {
    /// Starts it; it lives as long as the test's process.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let got = Arc::<Mutex<Vec<Got>>>::default();
        let all = got.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let got = all.clone();
                thread::spawn(move || while serve(&stream, &got).is_some() {});
            }
        });
        Self { port, got }
    }

    /// What has arrived for a subscription, oldest first.
    pub fn got(&self, subscription: &Subscription) -> Vec<Got> {
        let got = self.got.lock().expect("no panic");
        let path = subscription.path();
        got.iter().filter(|g| g.path == path).cloned().collect()
    }
}

/// One request and its answer.
fn serve(mut stream: &TcpStream, got: &Mutex<Vec<Got>>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let length = headers.iter().find(|(n, _)| n == "content-length");
    let mut body = vec![0; length?.1.parse().ok()?];
    reader.read_exact(&mut body).ok()?;
    let at = Instant::now();
    got.lock().expect("no panic").push(Got {
        at,
        path,
        headers,
        body,
    });
    stream
        .write_all(b"HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n")
        .ok()
}

/// A subscription, as another implementation makes it (`cryptography` of Python).
pub struct Subscription {
    /// What the device registers.
    pub token: PushToken,
    name: String,
    keys: Value,
}

/// Makes the keys of a subscription.
const KEYS: &str = r#"
import base64, json, os, sys
from cryptography.hazmat.primitives import serialization as S
from cryptography.hazmat.primitives.asymmetric import ec
json.load(sys.stdin)
e = lambda b: base64.urlsafe_b64encode(b).rstrip(b"=").decode()
key = ec.generate_private_key(ec.SECP256R1())
json.dump({
    "private": e(key.private_numbers().private_value.to_bytes(32, "big")),
    "public": e(key.public_key().public_bytes(S.Encoding.X962, S.PublicFormat.UncompressedPoint)),
    "auth": e(os.urandom(16)),
}, sys.stdout)
"#;

/// Decrypts notifications, and checks who sent them (RFC 8292).
const DECRYPT: &str = r#"
import base64, json, sys, http_ece
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
d = lambda s: base64.urlsafe_b64decode(s + "=" * (-len(s) % 4))
given = json.load(sys.stdin)
key = ec.derive_private_key(int.from_bytes(d(given["keys"]["private"]), "big"), ec.SECP256R1())
auth = d(given["keys"]["auth"])
for authorization in given["authorizations"]:
    scheme, rest = authorization.split(" ", 1)
    assert scheme == "vapid", scheme
    part = dict(p.strip().split("=", 1) for p in rest.split(","))
    signer = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), d(part["k"]))
    assert part["k"] == given["vapid"], (part["k"], given["vapid"])
    head, claims, signature = part["t"].split(".")
    raw = d(signature)
    der = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    signer.verify(der, (head + "." + claims).encode(), ec.ECDSA(hashes.SHA256()))
    assert json.loads(d(claims))["aud"] == given["origin"], claims
json.dump([
    json.loads(http_ece.decrypt(d(body), private_key=key, auth_secret=auth, version="aes128gcm"))
    for body in given["bodies"]
], sys.stdout)
"#;

fn script(script: &str, input: &Value) -> Value {
    let mut child = Command::new(python())
        .args(["-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python starts");
    let mut stdin = child.stdin.take().expect("its input");
    stdin
        .write_all(input.to_string().as_bytes())
        .expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "python: {}", output.status);
    serde_json::from_slice(&output.stdout).expect("json")
}

impl Subscription {
    /// A new one.
    pub fn new(gateway: &Gateway, name: &str) -> Self {
        let keys = script(KEYS, &json!({}));
        let octets = |key: &str| {
            let text = keys[key].as_str().expect("a key");
            URL_SAFE_NO_PAD.decode(text).expect("base64url")
        };
        let web_push = WebPush {
            endpoint: format!("http://127.0.0.1:{}/push/{name}", gateway.port),
            p256dh: octets("public"),
            auth: octets("auth"),
        };
        Self {
            token: PushToken {
                channel: Some(push_token::Channel::WebPush(web_push)),
                hide_text: false,
            },
            name: name.to_owned(),
            keys,
        }
    }

    fn path(&self) -> String {
        format!("/push/{}", self.name)
    }

    /// What these notifications say, as another implementation decrypts them; it also checks that whoever
    /// holds the private part of `vapid`, the key that the device was told, signed them for this service.
    pub fn read(&self, gateway: &Gateway, vapid: &[u8], got: &[Got]) -> Vec<Value> {
        let bodies: Vec<_> = got
            .iter()
            .map(|g| URL_SAFE_NO_PAD.encode(&g.body))
            .collect();
        let authorizations: Vec<_> = got.iter().map(|g| g.header("authorization")).collect();
        let said = script(
            DECRYPT,
            &json!({
                "keys": self.keys,
                "bodies": bodies,
                "authorizations": authorizations,
                "vapid": URL_SAFE_NO_PAD.encode(vapid),
                "origin": format!("http://127.0.0.1:{}", gateway.port),
            }),
        );
        said.as_array().expect("a list").clone()
    }
}
