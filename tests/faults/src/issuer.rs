//! The operator's identity provider in small: signs the people's tokens, and serves the keys that the
//! edges check them with.

use std::sync::Arc;

use async_trait::async_trait;
use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use axum::{Json, Router, extract::State, routing::get};
use jsonwebtoken::{
    Algorithm, EncodingKey, Header,
    jwk::{Jwk, JwkSet, PublicKeyUse},
};
use serde_json::json;
use tandem_chassis::Doors;
use tandem_client::{Token, TokenSource, token::TokenError};
use tandem_kernel::UnixMillis;

use crate::Result;

/// `iss` of the tokens.
pub const ISSUER: &str = "https://login.faults.test";
/// `aud` of the tokens.
pub const AUDIENCE: &str = "tandem";
/// Where the keys are served.
pub const KEYS_PATH: &str = "/jwks.json";
/// Long enough to outlast a clock that jumps by hours, short enough to be renewed in a long run.
const TTL_S: i64 = 6 * 3600;
const KID: &str = "faults";

/// Signs tokens.
pub struct Issuer {
    key: EncodingKey,
    keys: JwkSet,
    doors: Doors,
}

impl Issuer {
    /// One with a key of its own.
    pub fn new(doors: &Doors) -> Result<Arc<Self>> {
        let pkcs8 =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
                .map_err(|_| "the issuer's key cannot be generated")?;
        let key = EncodingKey::from_ec_der(pkcs8.as_ref());
        let mut jwk = Jwk::from_encoding_key(&key, Algorithm::ES256)?;
        jwk.common.key_id = Some(KID.into());
        jwk.common.public_key_use = Some(PublicKeyUse::Signature);
        Ok(Arc::new(Self {
            key,
            keys: JwkSet { keys: vec![jwk] },
            doors: doors.clone(),
        }))
    }

    /// Serves the keys (RFC 7517).
    pub fn routes(self: &Arc<Self>) -> Router {
        let keys = |State(i): State<Arc<Self>>| async move { Json(i.keys.clone()) };
        Router::new()
            .route(KEYS_PATH, get(keys))
            .with_state(self.clone())
    }

    fn token(&self, user: &str) -> std::result::Result<Token, jsonwebtoken::errors::Error> {
        let now_s = self.doors.clock.unix().0 / 1000;
        let expires_s = now_s + TTL_S;
        let claims = json!({
            "iss": ISSUER, "aud": AUDIENCE, "sub": user, "iat": now_s, "exp": expires_s,
        });
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(KID.into());
        Ok(Token {
            token: jsonwebtoken::encode(&header, &claims, &self.key)?,
            expires_at: Some(UnixMillis(expires_s * 1000)),
        })
    }
}

/// One person's tokens.
pub struct Tokens {
    /// Who signs them.
    pub issuer: Arc<Issuer>,
    /// Whose they are.
    pub user: String,
}

#[async_trait]
impl TokenSource for Tokens {
    async fn token(&self) -> std::result::Result<Token, TokenError> {
        let token = self.issuer.token(&self.user);
        token.map_err(|e| TokenError::Refused(e.to_string()))
    }
}
