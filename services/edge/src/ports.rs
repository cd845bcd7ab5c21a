//! What the edge needs beyond the seams: issuers' keys.

use std::sync::Arc;

use async_trait::async_trait;
pub use jsonwebtoken::jwk::JwkSet;

/// Where an issuer's public keys come from (RFC 7517).
#[async_trait]
pub trait KeySource: Send + Sync + 'static {
    /// The keys as they are now; an error in words if they cannot be had.
    async fn fetch(&self) -> Result<JwkSet, String>;
}

/// An issuer of tokens.
#[derive(Clone)]
pub struct Issuer {
    /// Its `iss`.
    pub issuer: String,
    /// The `aud` that its tokens for Tandem have.
    pub audience: String,
    /// Its keys.
    pub keys: Arc<dyn KeySource>,
    /// A development issuer: accepted only when the config says so.
    pub development: bool,
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issuer")
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}
