//! The development issuer: signs tokens for anyone who asks. For `tandem up` alone; an edge refuses its
//! tokens unless `edge.dev_issuer` is set, which no other command does.

use std::{fs, io, os::unix::fs::OpenOptionsExt, path::Path, sync::Arc};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use jsonwebtoken::{
    Algorithm, EncodingKey, Header,
    jwk::{Jwk, JwkSet, PublicKeyUse, ThumbprintHash},
};
use serde::Serialize;
use tandem_chassis::Doors;
use tandem_client::{DevTokenRequest, DevTokenResponse};
use tandem_kernel::Address;

/// `iss` of its tokens.
pub const ISSUER: &str = "tandem-development";
/// `aud` of its tokens.
pub const AUDIENCE: &str = "tandem";
const FILE: &str = "development-issuer.pkcs8";
const LONGEST_TTL_S: u64 = 30 * 24 * 3600;

/// Signs development tokens.
pub struct Issuer {
    key: EncodingKey,
    keys: JwkSet,
    kid: String,
    domain: String,
    doors: Doors,
}

/// The issuer cannot be set up, or a token not be made.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// The key file.
    #[error("{FILE}: {0}")]
    File(#[from] io::Error),
    /// The key.
    #[error("development issuer's key: {0}")]
    Key(String),
    /// What was asked for.
    #[error("{0}")]
    Request(String),
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'static str,
    aud: &'static str,
    sub: &'a str,
    iat: i64,
    exp: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    country: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    phone_number: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
}

impl Issuer {
    /// Takes its key from `dir`, or makes one there that only this user can read.
    pub fn open(dir: &Path, domain: &str, doors: &Doors) -> Result<Self, IssuerError> {
        let path = dir.join(FILE);
        let pkcs8 = match fs::read(&path) {
            Ok(octets) => octets,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let pkcs8 = generate_p256()?;
                write_private(&path, &pkcs8)?;
                pkcs8
            }
            Err(e) => return Err(e.into()),
        };
        let key = |e: jsonwebtoken::errors::Error| IssuerError::Key(e.to_string());
        let signing = EncodingKey::from_ec_der(&pkcs8);
        let mut jwk = Jwk::from_encoding_key(&signing, Algorithm::ES256).map_err(key)?;
        let kid = jwk.thumbprint(ThumbprintHash::SHA256).map_err(key)?;
        jwk.common.key_id = Some(kid.clone());
        jwk.common.public_key_use = Some(PublicKeyUse::Signature);
        Ok(Self {
            key: signing,
            keys: JwkSet { keys: vec![jwk] },
            kid,
            domain: domain.to_owned(),
            doors: doors.clone(),
        })
    }

    /// Its public keys (RFC 7517).
    pub fn keys(&self) -> JwkSet {
        self.keys.clone()
    }

    /// Signs a token.
    pub fn issue(&self, request: &DevTokenRequest) -> Result<DevTokenResponse, IssuerError> {
        let user = if request.user.contains('@') {
            Address::parse(&request.user)
        } else {
            Address::parse(&format!("{}@{}", request.user, self.domain))
        };
        let user = user.map_err(|e| IssuerError::Request(format!("user: {e}")))?;
        let ttl_s = request.ttl_s.unwrap_or(3600);
        if ttl_s > LONGEST_TTL_S {
            return Err(IssuerError::Request(format!(
                "ttl_s: at most {LONGEST_TTL_S}"
            )));
        }
        let now_s = self.doors.clock.unix().0 / 1000;
        // a lifetime of 0 is well past the leeway that edges allow
        let exp = if ttl_s == 0 {
            now_s - 3600
        } else {
            now_s + ttl_s as i64
        };
        let claims = Claims {
            iss: ISSUER,
            aud: AUDIENCE,
            sub: user.as_str(),
            iat: now_s.min(exp),
            exp,
            plan: request.plan.as_deref(),
            country: request.country.as_deref(),
            phone_number: request.phone_number.as_deref(),
            email: request.email.as_deref(),
            name: request.name.as_deref(),
        };
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(self.kid.clone());
        let token = jsonwebtoken::encode(&header, &claims, &self.key)
            .map_err(|e| IssuerError::Key(e.to_string()))?;
        Ok(DevTokenResponse {
            token,
            expires_at_ms: exp * 1000,
        })
    }

    /// `POST /dev/token` and `GET /dev/jwks.json`.
    pub fn routes(self: Arc<Self>) -> Router {
        Router::new()
            .route("/dev/token", post(token))
            .route(
                "/dev/jwks.json",
                get(|State(i): State<Arc<Self>>| async move { Json(i.keys()) }),
            )
            .with_state(self)
    }
}

async fn token(
    State(issuer): State<Arc<Issuer>>,
    Json(request): Json<DevTokenRequest>,
) -> Response {
    match issuer.issue(&request) {
        Ok(token) => Json(token).into_response(),
        Err(e @ IssuerError::Request(_)) => {
            (StatusCode::BAD_REQUEST, format!("{e}\n")).into_response()
        }
        Err(e) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{e}\n")).into_response(),
    }
}

/// A new P-256 private key in PKCS #8 (RFC 5958).
pub fn generate_p256() -> Result<Vec<u8>, IssuerError> {
    EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
        .map(|d| d.as_ref().to_vec())
        .map_err(|_| IssuerError::Key("cannot be generated".into()))
}

/// Writes a file whole or not at all, readable by this user alone.
pub fn write_private(path: &Path, octets: &[u8]) -> io::Result<()> {
    use std::io::Write;
    let partial = path.with_extension("partial");
    let mut options = fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&partial)?;
    file.write_all(octets)?;
    file.sync_all()?;
    fs::rename(&partial, path)
}
