//! Where a device's tokens come from.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tandem_chassis::Doors;
use tandem_kernel::UnixMillis;

/// A token and how long it lasts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// The JWT.
    pub token: String,
    /// When it expires; `None` if that is not known, and then it is not renewed.
    pub expires_at: Option<UnixMillis>,
}

/// Why there is no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The issuer cannot be reached: try again later.
    #[error("the issuer does not answer: {0}")]
    Unreachable(String),
    /// The issuer refuses: trying again does not help.
    #[error("the issuer refuses: {0}")]
    Refused(String),
}

/// Gives tokens. Called at each connection and before a token expires.
#[async_trait]
pub trait TokenSource: Send + Sync + 'static {
    /// A token that is good for some time.
    async fn token(&self) -> Result<Token, TokenError>;
}

/// Always the same token.
#[derive(Debug, Clone)]
pub struct Fixed(pub String);

#[async_trait]
impl TokenSource for Fixed {
    async fn token(&self) -> Result<Token, TokenError> {
        Ok(Token {
            token: self.0.clone(),
            expires_at: None,
        })
    }
}

/// What the development issuer of `tandem up` is asked (`POST /dev/token`, JSON). Claims that are unset
/// are left out of the token.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DevTokenRequest {
    /// Local part, or a whole address.
    pub user: String,
    /// Seconds until it expires; one hour unless given, at most 30 days. 0 makes an expired one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_s: Option<u64>,
    /// Claim `plan`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// Claim `country`, ISO 3166-1 alpha-2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    /// Claim `phone_number`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phone_number: Option<String>,
    /// Claim `email`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Claim `name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// What it answers (JSON).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DevTokenResponse {
    /// The JWT.
    pub token: String,
    /// When it expires, milliseconds since 1970.
    pub expires_at_ms: i64,
}

/// Tokens of the development issuer on the server's own port.
#[derive(Debug, Clone)]
pub struct DevIssuer {
    /// The way there.
    pub doors: Doors,
    /// `host:port`.
    pub authority: String,
    /// What to ask for.
    pub request: DevTokenRequest,
}

#[async_trait]
impl TokenSource for DevIssuer {
    async fn token(&self) -> Result<Token, TokenError> {
        let body =
            serde_json::to_vec(&self.request).map_err(|e| TokenError::Refused(e.to_string()))?;
        let answer = http(
            &self.doors,
            &self.authority,
            Method::POST,
            "/dev/token",
            body,
        )
        .await
        .map_err(|e| TokenError::Unreachable(e.to_string()))?;
        let (status, body) = (answer.status(), answer.into_body());
        if status == StatusCode::OK {
            let answer: DevTokenResponse = serde_json::from_slice(&body)
                .map_err(|e| TokenError::Refused(format!("its answer cannot be read: {e}")))?;
            let expires_at = Some(UnixMillis(answer.expires_at_ms));
            return Ok(Token {
                token: answer.token,
                expires_at,
            });
        }
        let said = format!("{status} {}", String::from_utf8_lossy(&body));
        if status.is_server_error() {
            Err(TokenError::Unreachable(said))
        } else {
            Err(TokenError::Refused(said))
        }
    }
}

/// Why an HTTP exchange failed.
pub type HttpError = Box<dyn std::error::Error + Send + Sync>;

/// One HTTP/1.1 exchange with `host:port`, at most 10 s and 1 MiB of answer. A body is JSON.
pub async fn http(
    doors: &Doors,
    authority: &str,
    method: Method,
    path: &str,
    body: Vec<u8>,
) -> Result<Response<Bytes>, HttpError> {
    let exchange = async {
        let io = TokioIo::new(doors.net.connect(authority).await?);
        let (mut send, connection) = hyper::client::conn::http1::handshake(io).await?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", authority)
            .header("content-type", "application/json")
            .header("connection", "close")
            .body(Full::new(Bytes::from(body)))?;
        let answer = async {
            let (parts, body) = send.send_request(request).await?.into_parts();
            let body = Limited::new(body, 1 << 20).collect().await?.to_bytes();
            Ok::<_, HttpError>(Response::from_parts(parts, body))
        };
        // the connection does its work only while it is polled
        tokio::pin!(answer, connection);
        tokio::select! {
            answer = &mut answer => answer,
            ended = &mut connection => match ended {
                Ok(()) => answer.await,
                Err(e) => Err(e.into()),
            },
        }
    };
    tokio::time::timeout(Duration::from_secs(10), exchange).await?
}
