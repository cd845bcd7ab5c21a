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
    sync::Arc,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rustls::pki_types::PrivatePkcs8KeyDer;
use support::{Suite, alice_bob, eventually, gateway::Device, quick, text};
use tandem_chassis::{http::Roots, lifecycle::OnEnd};
use tandem_proto::{client::push_token, push::ListDeadRequest};
use tandem_push::Config;
use tokio_rustls::TlsAcceptor;

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

/// An authority, and a certificate of it for `localhost`.
const CERTIFICATE: &str = r#"
import base64, datetime, json, sys
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization as S
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
now = datetime.datetime.now(datetime.timezone.utc)
def make(name, key, issuer, signer, ca, names):
    cert = (x509.CertificateBuilder().subject_name(name).issuer_name(issuer).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True))
    if names:
        cert = cert.add_extension(x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), critical=False)
    return cert.sign(signer, hashes.SHA256()).public_bytes(S.Encoding.DER)
name = lambda n: x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, n)])
ca, leaf = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
e = lambda b: base64.urlsafe_b64encode(b).rstrip(b"=").decode()
json.dump({
    "ca": e(make(name("ca"), ca, name("ca"), ca, True, [])),
    "leaf": e(make(name("leaf"), leaf, name("ca"), ca, False, ["localhost"])),
    "key": e(leaf.private_bytes(S.Encoding.DER, S.PrivateFormat.PKCS8, S.NoEncryption())),
}, sys.stdout)
"#;

fn run(script: &str, input: &str) -> serde_json::Value {
    let mut child = Command::new(python())
        .args(["-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

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
    let said = run(CHECK, &given.to_string());
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

/// An https push service at `localhost`, HTTP/2 by ALPN; its port.
async fn https_gateway(suite: &Suite, made: &serde_json::Value) -> u16 {
    let der = |what: &str| {
        URL_SAFE_NO_PAD
            .decode(made[what].as_str().unwrap())
            .unwrap()
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![der("leaf").into()],
            PrivatePkcs8KeyDer::from(der("key")).into(),
        )
        .unwrap();
    server.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(server));
    let mut listener = suite.doors.net.listen("localhost:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (gateway, tasks) = (suite.gateway.clone(), suite.all.clone());
    suite.all.spawn("https", OnEnd::Fine, async move {
        while let Ok((io, _)) = listener.accept().await {
            let (gateway, acceptor) = (gateway.clone(), acceptor.clone());
            tasks.spawn("https.connection", OnEnd::Fine, async move {
                if let Ok(io) = acceptor.accept(io).await {
                    gateway.serve_h2(io).await;
                }
            });
        }
    });
    port
}

async fn notified_over_https(roots: impl FnOnce(&serde_json::Value) -> Roots) -> (usize, usize) {
    let made = run(CERTIFICATE, "");
    let config = Config {
        allow_http_endpoints: false,
        ..quick()
    };
    let suite = Suite::trusting(config, roots(&made)).await;
    let port = https_gateway(&suite, &made).await;
    let mut phone = Device::subscribe(&suite.gateway, "phone");
    let Some(push_token::Channel::WebPush(web_push)) = &mut phone.token.channel else {
        panic!("a web push subscription");
    };
    web_push.endpoint = format!("https://localhost:{port}/push/phone");
    suite.fakes.subscribe("bob", "phone", phone.token.clone());
    suite.settle();
    let seq = suite.append(&alice_bob(), "alice", text("hello")).await;
    suite.wait_committed(seq).await;
    let dead = suite
        .client()
        .list_dead(ListDeadRequest { limit: 0 })
        .await
        .unwrap()
        .into_inner();
    (phone.inbox(&suite.gateway).len(), dead.letters.len())
}

#[tokio::test]
async fn a_push_service_is_reached_over_tls_and_http_2() {
    let trusted = |made: &serde_json::Value| {
        let ca = URL_SAFE_NO_PAD
            .decode(made["ca"].as_str().unwrap())
            .unwrap();
        Roots::Only(vec![ca.into()])
    };
    assert_eq!(notified_over_https(trusted).await, (1, 0));
}

#[tokio::test]
async fn a_push_service_that_nobody_vouches_for_gets_nothing() {
    assert_eq!(
        notified_over_https(|_| Roots::Only(Vec::new())).await,
        (0, 1)
    );
}
