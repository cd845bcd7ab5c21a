//! Voluntary application server identification (RFC 8292).

use std::{collections::BTreeMap, time::Duration};

use aws_lc_rs::{
    agreement::{ECDH_P256, PrivateKey},
    encoding::{AsBigEndian, EcPrivateKeyBin},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use parking_lot::Mutex;
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject};
use tandem_chassis::rng::Rng;
use tandem_kernel::UnixMillis;

/// How long a token is good for; push services refuse more than 24 hours.
const LIFE: Duration = Duration::from_hours(12);
/// A token is used no longer when it has less than this to live.
const SPARE: Duration = Duration::from_hours(1);
/// Most tokens kept.
const TOKENS: usize = 1_024;

/// Why a text is not a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("give a p-256 private key, as pkcs#8 pem or base64url of its 32 octets")]
pub struct KeyError;

/// The key that identifies this installation to push services. Devices subscribe with its public part,
/// so a new key makes every subscription worthless.
pub struct VapidKey {
    pair: EcdsaKeyPair,
    public: [u8; 65],
}

impl std::fmt::Debug for VapidKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "VapidKey({})", URL_SAFE_NO_PAD.encode(self.public))
    }
}

impl VapidKey {
    /// A new private key, as `vapid_private_key` takes it. Keep it.
    pub fn generate(rng: &Rng) -> Result<String, KeyError> {
        let key = super::encrypt::private_key(rng).map_err(|_| KeyError)?;
        let secret: EcPrivateKeyBin<'_> = key.as_be_bytes().map_err(|_| KeyError)?;
        Ok(URL_SAFE_NO_PAD.encode(secret.as_ref()))
    }

    /// Reads PKCS#8 PEM, or base64url of the 32 octets.
    pub fn from_text(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pair = if text.starts_with("-----BEGIN") {
            let der = PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes()).map_err(|_| KeyError)?;
            EcdsaKeyPair::from_pkcs8(algorithm, der.secret_pkcs8_der()).map_err(|_| KeyError)?
        } else {
            let secret = URL_SAFE_NO_PAD
                .decode(text.trim_end_matches('='))
                .map_err(|_| KeyError)?;
            let public = PrivateKey::from_private_key(&ECDH_P256, &secret)
                .and_then(|key| {
                    key.compute_public_key().map_err(|_| {
                        aws_lc_rs::error::KeyRejected::from(aws_lc_rs::error::Unspecified)
                    })
                })
                .map_err(|_| KeyError)?;
            EcdsaKeyPair::from_private_key_and_public_key(algorithm, &secret, public.as_ref())
                .map_err(|_| KeyError)?
        };
        let public = pair
            .public_key()
            .as_ref()
            .try_into()
            .map_err(|_| KeyError)?;
        Ok(Self { pair, public })
    }

    /// The public key: an uncompressed point.
    pub fn public_key(&self) -> &[u8; 65] {
        &self.public
    }

    /// A token (RFC 7515, compact form) for the push service at `origin`, good until `expires` (seconds).
    fn token(&self, origin: &str, subject: &str, expires: i64) -> Option<String> {
        let claims = serde_json::json!({ "aud": origin, "exp": expires, "sub": subject });
        let mut token = URL_SAFE_NO_PAD.encode(br#"{"typ":"JWT","alg":"ES256"}"#);
        token.push('.');
        token.push_str(&URL_SAFE_NO_PAD.encode(claims.to_string()));
        let signature = self
            .pair
            .sign(&SystemRandom::new(), token.as_bytes())
            .ok()?;
        token.push('.');
        token.push_str(&URL_SAFE_NO_PAD.encode(signature.as_ref()));
        Some(token)
    }
}

/// Makes `authorization` headers, one token for each push service at a time.
pub struct Vapid {
    key: VapidKey,
    subject: String,
    tokens: Mutex<BTreeMap<String, (UnixMillis, String)>>,
}

impl Vapid {
    /// With this key; `subject` is whom push services write to.
    pub fn new(key: VapidKey, subject: String) -> Self {
        Self {
            key,
            subject,
            tokens: Mutex::default(),
        }
    }

    /// The public key: an uncompressed point.
    pub fn public_key(&self) -> &[u8; 65] {
        self.key.public_key()
    }

    /// The header's value for the push service at `origin` (RFC 8292, section 3).
    pub fn authorization(&self, origin: &str, now: UnixMillis) -> Option<String> {
        if let Some((until, header)) = self.tokens.lock().get(origin)
            && now < *until
        {
            return Some(header.clone());
        }
        let token = self
            .key
            .token(origin, &self.subject, now.plus(LIFE).0 / 1_000)?;
        let header = format!(
            "vapid t={token}, k={}",
            URL_SAFE_NO_PAD.encode(self.key.public)
        );
        let mut tokens = self.tokens.lock();
        if tokens.len() >= TOKENS {
            tokens.clear();
        }
        tokens.insert(
            origin.to_owned(),
            (now.plus(LIFE.saturating_sub(SPARE)), header.clone()),
        );
        Some(header)
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

    use super::*;

    fn vapid() -> Vapid {
        let key = VapidKey::generate(&Rng::from_seed(1)).unwrap();
        Vapid::new(
            VapidKey::from_text(&key).unwrap(),
            "mailto:ops@x.test".into(),
        )
    }

    #[test]
    fn a_token_is_signed_by_the_key_beside_it_and_names_the_service() {
        let header = vapid()
            .authorization("https://push.x.test", UnixMillis(5_000))
            .unwrap();
        let (token, key) = header
            .strip_prefix("vapid t=")
            .unwrap()
            .split_once(", k=")
            .unwrap();
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let key = URL_SAFE_NO_PAD.decode(key).unwrap();
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key)
            .verify(
                signed.as_bytes(),
                &URL_SAFE_NO_PAD.decode(signature).unwrap(),
            )
            .unwrap();
        let claims = URL_SAFE_NO_PAD
            .decode(signed.split_once('.').unwrap().1)
            .unwrap();
        let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
        let want = serde_json::json!({
            "aud": "https://push.x.test", "exp": 5 + 12 * 3600, "sub": "mailto:ops@x.test"
        });
        assert_eq!(claims, want);
    }

    #[test]
    fn a_token_is_used_again_until_it_is_about_to_expire() {
        let vapid = vapid();
        let at = |ms| {
            vapid
                .authorization("https://push.x.test", UnixMillis(ms))
                .unwrap()
        };
        let first = at(0);
        assert_eq!(at(10 * 3_600_000), first);
        assert_ne!(at(11 * 3_600_000), first);
        assert_ne!(
            vapid
                .authorization("https://other.test", UnixMillis(0))
                .unwrap(),
            first
        );
    }

    #[test]
    fn a_pem_key_and_its_octets_are_the_same_key() {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let der = base64::engine::general_purpose::STANDARD.encode(pair.to_pkcs8v1().unwrap());
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{der}\n-----END PRIVATE KEY-----\n");
        let raw: EcPrivateKeyBin<'_> = pair.private_key().as_be_bytes().unwrap();
        let raw = URL_SAFE_NO_PAD.encode(raw.as_ref());
        let (a, b) = (
            VapidKey::from_text(&pem).unwrap(),
            VapidKey::from_text(&raw).unwrap(),
        );
        assert_eq!(a.public_key(), b.public_key());
        assert_eq!(VapidKey::from_text("AAAA").unwrap_err(), KeyError);
        assert_eq!(VapidKey::from_text("not base64!").unwrap_err(), KeyError);
    }
}
