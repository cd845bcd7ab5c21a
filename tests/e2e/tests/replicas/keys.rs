//! An issuer's key and its tokens.

use aws_lc_rs::{rand::SystemRandom, signature::Ed25519KeyPair};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, jwk::Jwk};
use serde_json::json;
use tandem_chassis::Doors;

/// A key.
pub struct Key {
    signing: EncodingKey,
    pub jwk: Jwk,
}

impl Key {
    pub const ISSUER: &str = "https://op.test";

    pub fn new(kid: &str) -> Self {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new()).unwrap();
        let signing = EncodingKey::from_ed_der(pkcs8.as_ref());
        let mut jwk = Jwk::from_encoding_key(&signing, Algorithm::EdDSA).unwrap();
        jwk.common.key_id = Some(kid.to_owned());
        Self { signing, jwk }
    }

    /// A token that is good for an hour.
    pub fn token(&self, who: &str) -> String {
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid.clone_from(&self.jwk.common.key_id);
        let expires = Doors::real().clock.unix().0 / 1000 + 3600;
        let claims = json!({ "iss": Self::ISSUER, "aud": "tandem", "sub": who, "exp": expires });
        encode(&header, &claims, &self.signing).unwrap()
    }
}
