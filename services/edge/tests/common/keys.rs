//! Issuers and their tokens.

use std::sync::Arc;

use async_trait::async_trait;
use aws_lc_rs::{rand::SystemRandom, signature::Ed25519KeyPair};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, jwk::Jwk};
use serde_json::{Value, json};
use tandem_chassis::Doors;
use tandem_edge::{Issuer, JwkSet, KeySource};

struct Fixed(JwkSet);

#[async_trait]
impl KeySource for Fixed {
    async fn fetch(&self) -> Result<JwkSet, String> {
        Ok(self.0.clone())
    }
}

/// A key and what is known of it.
pub struct Key {
    pub kid: &'static str,
    pub signing: EncodingKey,
    pub jwk: Jwk,
}

impl Key {
    pub fn new(kid: &'static str) -> Self {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new()).unwrap();
        let signing = EncodingKey::from_ed_der(pkcs8.as_ref());
        let mut jwk = Jwk::from_encoding_key(&signing, Algorithm::EdDSA).unwrap();
        jwk.common.key_id = Some(kid.to_owned());
        Self { kid, signing, jwk }
    }

    pub fn sign(&self, claims: &Value) -> String {
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(self.kid.to_owned());
        encode(&header, claims, &self.signing).unwrap()
    }
}

pub struct Keys {
    pub doors: Doors,
    pub operator: Key,
    pub development: Key,
}

impl Keys {
    pub fn new(doors: Doors) -> Self {
        Self {
            doors,
            operator: Key::new("op-1"),
            development: Key::new("dev-1"),
        }
    }

    pub fn issuer(&self) -> Issuer {
        issuer_of("https://op.test", &self.operator, false)
    }

    pub fn development_issuer(&self) -> Issuer {
        issuer_of("https://dev.test", &self.development, true)
    }

    pub fn claims(&self, who: &str, expires_in_s: i64) -> Value {
        let now = self.doors.clock.unix().0 / 1000;
        json!({ "iss": "https://op.test", "aud": "tandem", "sub": who, "exp": now + expires_in_s, "plan": "all" })
    }

    pub fn token(&self, who: &str) -> String {
        self.operator.sign(&self.claims(who, 3600))
    }
}

fn issuer_of(issuer: &str, key: &Key, development: bool) -> Issuer {
    let keys = Arc::new(Fixed(JwkSet {
        keys: vec![key.jwk.clone()],
    }));
    Issuer {
        issuer: issuer.to_owned(),
        audience: "tandem".to_owned(),
        keys,
        development,
    }
}
