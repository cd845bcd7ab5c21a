//! Our Web Push against an implementation that is not ours: `http_ece` and `cryptography` of Python.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod support;

use std::{
    io::Write,
    process::{Command, Stdio},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use support::{Suite, alice_bob, eventually, gateway::Device, quick, text};

const CHECK: &str = r#"
import base64, json, sys, http_ece
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
d = lambda s: base64.urlsafe_b64decode(s + "=" * (-len(s) % 4))
given = json.load(sys.stdin)
device = ec.derive_private_key(int.from_bytes(d(given["private_key"]), "big"), ec.SECP256R1())
plain = http_ece.decrypt(d(given["body"]), private_key=device, auth_secret=d(given["auth"]), version="aes128gcm")
scheme, rest = given["authorization"].split(" ", 1)
assert scheme == "vapid", scheme
part = dict(p.strip().split("=", 1) for p in rest.split(","))
key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), d(part["k"]))
head, claims, signature = part["t"].split(".")
raw = d(signature)
assert len(raw) == 64, len(raw)
der = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
key.verify(der, (head + "." + claims).encode(), ec.ECDSA(hashes.SHA256()))
json.dump({"plain": json.loads(plain), "head": json.loads(d(head)), "claims": json.loads(d(claims)), "key": part["k"]}, sys.stdout)
"#;

#[allow(
    clippy::disallowed_methods,
    reason = "the test driver says where the engine is"
)]
fn python() -> String {
    std::env::var("TANDEM_PYTHON")
        .expect("TANDEM_PYTHON is not set: run `cargo xtask test`, which installs http-ece")
}

#[tokio::test]
async fn another_implementation_decrypts_what_we_send_and_verifies_who_we_are() {
    let suite = Suite::new(quick()).await;
    let phone = Device::subscribe(&suite.gateway, "phone");
    suite.fakes.subscribe("bob", "phone", phone.token.clone());
    suite.settle();
    suite.append(&alice_bob(), "alice", text("héllo 👋")).await;
    eventually(async || suite.gateway.count() == 1).await;
    let got = suite.gateway.got().remove(0);
    let given = serde_json::json!({
        "private_key": URL_SAFE_NO_PAD.encode(phone.private_key()),
        "auth": URL_SAFE_NO_PAD.encode(&phone.auth),
        "body": URL_SAFE_NO_PAD.encode(&got.body),
        "authorization": got.headers["authorization"].to_str().unwrap(),
    });
    let mut child = Command::new(python())
        .args(["-c", CHECK])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(given.to_string().as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["plain"]["body"], "héllo 👋");
    assert_eq!(said["head"]["alg"], "ES256");
    let origin = format!("http://127.0.0.1:{}", suite.gateway.port);
    assert_eq!(said["claims"]["aud"], origin);
    assert_eq!(said["claims"]["sub"], "mailto:ops@x.test");
    let expires = said["claims"]["exp"].as_i64().unwrap() - suite.doors.clock.unix().0 / 1000;
    assert!((1..=24 * 3600).contains(&expires), "{expires}");
    let request = tandem_proto::push::VapidKeyRequest {};
    let key = suite
        .client()
        .vapid_key(request)
        .await
        .unwrap()
        .into_inner()
        .public_key;
    assert_eq!(said["key"], URL_SAFE_NO_PAD.encode(key));
}
