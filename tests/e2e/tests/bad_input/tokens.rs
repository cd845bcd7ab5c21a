//! Tokens that prove nothing.

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tandem_e2e_tests::Up;
use tandem_kernel::Code;
use tandem_proto::client::client_frame::Frame;

use crate::raw::{Bystanders, Raw, hello, refused, token};

fn sign(header: &Header, claims: &Value, key: &EncodingKey) -> String {
    jsonwebtoken::encode(header, claims, key).expect("a token")
}

/// A token of three parts that somebody wrote by hand.
fn by_hand(header: &Value, claims: &Value, signature: &[u8]) -> String {
    let part = |v: &[u8]| URL_SAFE_NO_PAD.encode(v);
    let (header, claims) = (header.to_string(), claims.to_string());
    format!(
        "{}.{}.{}",
        part(header.as_bytes()),
        part(claims.as_bytes()),
        part(signature)
    )
}

/// The server's own key and what it says of it, and a good token's claims.
struct Server {
    key: EncodingKey,
    jwk: Value,
    now: u64,
}

impl Server {
    fn of(up: &Up) -> Self {
        let path = up.data_dir().join("development-issuer.pkcs8");
        let key = EncodingKey::from_ec_der(&std::fs::read(path).expect("the key"));
        let answer = up.http("GET", "/dev/jwks.json", "").expect("an answer");
        let body = answer.split("\r\n\r\n").nth(1).expect("a body");
        let keys: Value = serde_json::from_str(body).expect("json");
        let now = std::time::UNIX_EPOCH.elapsed().expect("a clock").as_secs();
        Self {
            key,
            jwk: keys["keys"][0].clone(),
            now,
        }
    }

    fn claims(&self, change: Value) -> Value {
        let mut claims = json!({
            "iss": "tandem-development", "aud": "tandem", "sub": "dan@tandem.test",
            "iat": self.now, "exp": self.now + 3600,
        });
        let change = change.as_object().expect("an object").clone();
        claims.as_object_mut().expect("an object").extend(change);
        claims
    }

    fn header(&self, alg: Algorithm) -> Header {
        let mut header = Header::new(alg);
        header.kid = self.jwk["kid"].as_str().map(str::to_owned);
        header
    }

    /// By the right key, saying something else than it should.
    fn signed(&self, change: Value) -> String {
        sign(
            &self.header(Algorithm::ES256),
            &self.claims(change),
            &self.key,
        )
    }
}

/// The ways in which the public key could be taken for a shared secret.
fn secrets(jwk: &Value) -> Vec<Vec<u8>> {
    let octets = |name: &str| {
        let text = jwk[name].as_str().expect("a coordinate");
        URL_SAFE_NO_PAD.decode(text).expect("base64")
    };
    let (x, y) = (octets("x"), octets("y"));
    let point = [vec![4], x.clone(), y.clone()].concat();
    // SubjectPublicKeyInfo of a P-256 key (RFC 5480)
    let head = [
        0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08,
        0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
    ];
    let spki = [head.to_vec(), point.clone()].concat();
    let pem = format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        base64::engine::general_purpose::STANDARD.encode(&spki)
    );
    vec![
        point,
        spki,
        pem.into_bytes(),
        jwk.to_string().into_bytes(),
        x,
        Vec::new(),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_proves_nothing_opens_no_session() {
    let up = Up::start(&[]);
    let mut others = Bystanders::new(&up).await;
    let server = Server::of(&up);
    let pkcs8 =
        EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
    let stranger = EncodingKey::from_ec_der(pkcs8.expect("a key").as_ref());
    let (es256, own) = (server.header(Algorithm::ES256), server.claims(json!({})));
    let header = |kid: Option<&str>| {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = kid.map(str::to_owned);
        header
    };
    let good = server.signed(json!({}));
    let [head, body, signature]: [&str; 3] = good
        .split('.')
        .collect::<Vec<_>>()
        .try_into()
        .expect("three parts");
    let flipped = {
        let mut octets = URL_SAFE_NO_PAD.decode(signature).expect("base64");
        octets[20] ^= 1;
        URL_SAFE_NO_PAD.encode(octets)
    };
    let bobs = URL_SAFE_NO_PAD.encode(server.claims(json!({"sub": "bob@tandem.test"})).to_string());
    let kid = server.jwk["kid"].clone();
    let none = |alg: &str| by_hand(&json!({"alg": alg, "kid": kid}), &own, b"");
    let invalid = [
        ("signed by another key", sign(&es256, &own, &stranger)),
        (
            "of another issuer",
            server.signed(json!({"iss": "https://elsewhere.test"})),
        ),
        (
            "of another issuer, by its key",
            sign(
                &header(Some("theirs")),
                &server.claims(json!({"iss": "https://elsewhere.test"})),
                &stranger,
            ),
        ),
        (
            "of an unknown key",
            sign(&header(Some("unknown")), &own, &stranger),
        ),
        (
            "of an unknown key, signed well",
            sign(&header(Some("unknown")), &own, &server.key),
        ),
        ("of no named key", sign(&header(None), &own, &stranger)),
        (
            "that brings its key along",
            by_hand(&json!({"alg": "ES256", "jwk": server.jwk}), &own, &[1; 64]),
        ),
        (
            "for another audience",
            server.signed(json!({"aud": "elsewhere"})),
        ),
        ("for nobody", server.signed(json!({"aud": null}))),
        (
            "of no address",
            server.signed(json!({"sub": "dan@@tandem"})),
        ),
        (
            "that does not count yet",
            server.signed(json!({"nbf": server.now + 3600})),
        ),
        ("without an end", server.signed(json!({"exp": null}))),
        ("with alg none", none("none")),
        ("with alg None", none("None")),
        ("with an unknown alg", none("XS256")),
        (
            "with a zero signature",
            by_hand(&json!({"alg": "ES256", "kid": kid}), &own, &[0; 64]),
        ),
        ("with a flipped bit", format!("{head}.{body}.{flipped}")),
        (
            "with the claims of another",
            format!("{head}.{bobs}.{signature}"),
        ),
        ("without a signature", format!("{head}.{body}.")),
        ("of two parts", format!("{head}.{body}")),
        ("of four parts", format!("{good}.{signature}")),
        ("of nothing", String::new()),
        ("of dots", "..".to_owned()),
        ("of garbage", "\u{0}\u{7f}☠".repeat(500)),
    ];
    let confused = secrets(&server.jwk).into_iter().map(|secret| {
        let key = EncodingKey::from_secret(&secret);
        (
            "by the public key as a secret",
            sign(&server.header(Algorithm::HS256), &own, &key),
        )
    });
    for (what, token) in invalid.into_iter().chain(confused) {
        is_refused(&up, what, token, Code::TokenInvalid).await;
    }
    let long_ago = server.now - 3600;
    for (what, token) in [
        ("that has expired", server.signed(json!({"exp": long_ago}))),
        ("of before 1970", server.signed(json!({"exp": -1}))),
        ("of a lifetime of nothing", token(&up, "dan", 0)),
    ] {
        is_refused(&up, what, token, Code::TokenExpired).await;
    }
    others.still_talk().await;
    // and the one that it is all about is good
    let mut dan = Raw::connect(&up, false).await;
    assert_eq!(dan.sign_in(hello(good, "pc")).await.user, "dan@tandem.test");
}

async fn is_refused(up: &Up, what: &str, token: String, code: Code) {
    let before = refused(up, code);
    let mut raw = Raw::connect(up, false).await;
    raw.send(Frame::Hello(hello(token, "pc"))).await;
    let closing = raw.closing().await;
    assert_eq!(closing.code, code.as_str(), "a token {what}: {closing:?}");
    assert_eq!(refused(up, code), before + 1.0, "a token {what} is counted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_with_its_token_unless_it_is_renewed() {
    let up = Up::start(&["--set", "edge.token_grace_ms=0"]);
    let mut others = Bystanders::new(&up).await;
    let before = refused(&up, Code::TokenExpired);
    let (mut ends, mut goes_on) = (
        Raw::connect(&up, false).await,
        Raw::connect(&up, false).await,
    );
    ends.sign_in(hello(token(&up, "dan", 4), "one")).await;
    goes_on.sign_in(hello(token(&up, "dan", 4), "two")).await;
    let fresh = tandem_proto::client::RenewToken {
        token: token(&up, "dan", 3600),
    };
    goes_on.send(Frame::RenewToken(fresh)).await;
    assert_eq!(ends.closing().await.code, Code::TokenExpired.as_str());
    assert_eq!(refused(&up, Code::TokenExpired), before + 1.0);
    let still = crate::raw::submit("alice", crate::raw::text("still here"));
    goes_on.answer(still).await.expect("the session goes on");
    others.still_talk().await;
}
