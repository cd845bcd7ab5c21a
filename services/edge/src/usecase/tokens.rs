//! Verifies access tokens: JWTs (RFC 7519) signed by an issuer's asymmetric key, found by its `kid`.

use std::{sync::Arc, time::Duration};

use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header, errors::ErrorKind};
use parking_lot::RwLock;
use serde::Deserialize;
use tandem_kernel::{Address, Clock, Code, UnixMillis};

use crate::{
    domain::effect::Refusal,
    ports::{Issuer, JwkSet},
};

/// What a token says of its bearer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// Who.
    pub user: Address,
    /// Until when it counts.
    pub expires: UnixMillis,
    /// Phone number, as the issuer has it; empty: none.
    pub phone: String,
    /// Mail address; empty: none.
    pub email: String,
    /// Plan; empty: none.
    pub plan: String,
    /// Country; empty: none.
    pub country: String,
    /// Name to show; empty: none.
    pub name: String,
}

#[derive(Deserialize)]
struct Raw {
    iss: String,
    sub: String,
    exp: f64,
    nbf: Option<f64>,
    #[serde(default)]
    phone_number: String,
    #[serde(default)]
    email: String,
    #[serde(default)]
    plan: String,
    #[serde(default)]
    country: String,
    #[serde(default)]
    name: String,
}

struct Keys {
    set: Arc<JwkSet>,
    /// When they were last asked for, and whether that failed.
    asked: Option<Duration>,
    failed: bool,
}

struct Known {
    issuer: Issuer,
    keys: RwLock<Keys>,
    fetching: tokio::sync::Mutex<()>,
}

/// Verifies tokens of the issuers that it knows.
pub struct Tokens {
    issuers: Vec<Known>,
    domain: String,
    leeway: Duration,
    refetch: Duration,
    call: Duration,
    clock: Arc<dyn Clock>,
}

/// Only asymmetric ones: an issuer's public key never serves as a shared secret.
const ALGORITHMS: [Algorithm; 4] = [
    Algorithm::RS256,
    Algorithm::PS256,
    Algorithm::ES256,
    Algorithm::EdDSA,
];

fn invalid(message: &str) -> Refusal {
    Refusal::new(Code::TokenInvalid, message)
}

impl Tokens {
    /// Knows `issuers`; those for development only if `development`.
    pub fn new(issuers: Vec<Issuer>, config: &crate::Config, clock: Arc<dyn Clock>) -> Self {
        let known = |issuer| Known {
            issuer,
            keys: RwLock::new(Keys {
                set: Arc::new(JwkSet { keys: Vec::new() }),
                asked: None,
                failed: false,
            }),
            fetching: tokio::sync::Mutex::new(()),
        };
        Self {
            issuers: issuers
                .into_iter()
                .filter(|i| config.dev_issuer || !i.development)
                .map(known)
                .collect(),
            domain: config.domain.clone(),
            leeway: Duration::from_millis(config.token_leeway_ms),
            refetch: Duration::from_millis(config.keys_refetch_ms),
            call: Duration::from_millis(config.call_ms),
            clock,
        }
    }

    /// Verifies a token. Refused with `token_invalid` or `token_expired`; `unavailable` if the issuer's
    /// keys cannot be had.
    pub async fn verify(&self, token: &str) -> Result<Claims, Refusal> {
        let header = decode_header(token).map_err(|_| invalid("the token cannot be read"))?;
        if !ALGORITHMS.contains(&header.alg) {
            return Err(invalid("the token's algorithm is not allowed"));
        }
        // which issuer's keys to try; believed only once the signature is verified
        let claimed: Raw = jsonwebtoken::dangerous::insecure_decode_claims(token)
            .map_err(|_| invalid("the token's claims cannot be read"))?;
        let known = self
            .issuers
            .iter()
            .find(|k| k.issuer.issuer == claimed.iss)
            .ok_or_else(|| invalid("the token is of another issuer"))?;
        let key = self.key(known, header.kid.as_deref(), header.alg).await?;
        let mut validation = Validation::new(header.alg);
        validation.set_issuer(&[&known.issuer.issuer]);
        validation.set_audience(&[&known.issuer.audience]);
        validation.set_required_spec_claims(&["iss", "aud", "sub"]);
        // the times are checked below, by the injected clock
        validation.validate_exp = false;
        validation.validate_nbf = false;
        let raw = decode::<Raw>(token, &key, &validation).map_err(|e| match e.kind() {
            ErrorKind::InvalidSignature => invalid("the token's signature is wrong"),
            ErrorKind::InvalidAudience => invalid("the token is for another audience"),
            ErrorKind::InvalidIssuer => invalid("the token is of another issuer"),
            _ => invalid("the token is not valid"),
        })?;
        self.claims(raw.claims)
    }

    fn claims(&self, raw: Raw) -> Result<Claims, Refusal> {
        let now = self.clock.unix().0 as f64;
        let leeway = self.leeway.as_millis() as f64;
        if !raw.exp.is_finite() || raw.exp * 1000.0 + leeway <= now {
            return Err(Refusal::new(Code::TokenExpired, "the token has expired"));
        }
        if raw.nbf.is_some_and(|nbf| nbf * 1000.0 - leeway > now) {
            return Err(invalid("the token does not count yet"));
        }
        let user = if raw.sub.contains('@') {
            Address::parse(&raw.sub)
        } else {
            Address::parse(&format!("{}@{}", raw.sub, self.domain))
        };
        Ok(Claims {
            user: user.map_err(|_| invalid("the token's subject is no address"))?,
            expires: UnixMillis((raw.exp * 1000.0) as i64),
            phone: raw.phone_number,
            email: raw.email,
            plan: raw.plan,
            country: raw.country,
            name: raw.name,
        })
    }

    async fn key(
        &self,
        known: &Known,
        kid: Option<&str>,
        alg: Algorithm,
    ) -> Result<DecodingKey, Refusal> {
        if let Some(key) = find(&known.keys.read().set, kid, alg) {
            return Ok(key);
        }
        let _one = known.fetching.lock().await;
        if let Some(key) = find(&known.keys.read().set, kid, alg) {
            return Ok(key);
        }
        let now = self.clock.monotonic();
        let asked = known.keys.read().asked;
        if asked.is_none_or(|at| now.saturating_sub(at) >= self.refetch) {
            let fetched = match tokio::time::timeout(self.call, known.issuer.keys.fetch()).await {
                Ok(fetched) => fetched,
                Err(_) => Err("no answer in time".to_owned()),
            };
            let mut keys = known.keys.write();
            keys.asked = Some(now);
            keys.failed = fetched.is_err();
            match fetched {
                Ok(set) => keys.set = Arc::new(set),
                Err(error) => {
                    tracing::warn!(
                        issuer = known.issuer.issuer,
                        error,
                        "keys cannot be fetched"
                    );
                }
            }
        }
        if known.keys.read().failed {
            return find(&known.keys.read().set, kid, alg).ok_or_else(unavailable);
        }
        find(&known.keys.read().set, kid, alg).ok_or_else(|| invalid("the token's key is unknown"))
    }
}

fn unavailable() -> Refusal {
    Refusal {
        code: Code::Unavailable,
        message: "the issuer's keys cannot be had".to_owned(),
        retry_after: Some(Duration::from_secs(2)),
    }
}

/// The issuer's key for this token. Without a `kid` the issuer must have just one key.
fn find(set: &JwkSet, kid: Option<&str>, alg: Algorithm) -> Option<DecodingKey> {
    let jwk = match kid {
        Some(kid) => set.find(kid)?,
        None if set.keys.len() == 1 => set.keys.first()?,
        None => return None,
    };
    if jwk
        .common
        .key_algorithm
        .is_some_and(|a| a.to_string().parse() != Ok(alg))
    {
        return None;
    }
    let key = DecodingKey::from_jwk(jwk).ok()?;
    (key.family() == alg.family()).then_some(key)
}
