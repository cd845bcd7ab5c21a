//! An issuer's keys over HTTP: its key set, found through its discovery document unless its address is
//! given (RFC 7517; OpenID Connect Discovery 1.0, section 4).

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::Full;
use serde::{Deserialize, de::DeserializeOwned};
use tandem_chassis::{
    Doors, Lifecycle,
    http::{HttpClient, HttpError, Options},
};

use crate::ports::{JwkSet, KeySource};

/// The keys of one issuer.
#[derive(Debug)]
pub struct HttpKeys {
    client: HttpClient,
    issuer: String,
    jwks_url: String,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

impl HttpKeys {
    /// The keys of `issuer`, at `jwks_url`; if that is empty, where the issuer's discovery document says.
    pub fn new(
        doors: &Doors,
        lifecycle: &Lifecycle,
        issuer: &str,
        jwks_url: &str,
    ) -> Result<Self, HttpError> {
        Ok(Self {
            client: HttpClient::new(doors, lifecycle, Options::default())?,
            issuer: issuer.to_owned(),
            jwks_url: jwks_url.to_owned(),
        })
    }

    async fn get<T: DeserializeOwned>(&self, url: &str) -> Result<T, String> {
        let failed = |e: &dyn std::fmt::Display| format!("{url}: {e}");
        let request = Request::get(url)
            .header(header::ACCEPT, "application/json")
            .body(Full::default())
            .map_err(|e| failed(&e))?;
        let answer = self.client.send(request).await.map_err(|e| failed(&e))?;
        if answer.status() != StatusCode::OK {
            return Err(failed(&answer.status()));
        }
        let body: Bytes = answer.into_body();
        serde_json::from_slice(&body).map_err(|e| failed(&e))
    }
}

#[async_trait]
impl KeySource for HttpKeys {
    async fn fetch(&self) -> Result<JwkSet, String> {
        if !self.jwks_url.is_empty() {
            return self.get(&self.jwks_url).await;
        }
        let url = format!(
            "{}/.well-known/openid-configuration",
            self.issuer.trim_end_matches('/')
        );
        let found: Discovery = self.get(&url).await?;
        if found.issuer != self.issuer {
            return Err(format!("{url} names the issuer {}", found.issuer));
        }
        self.get(&found.jwks_uri).await
    }
}
