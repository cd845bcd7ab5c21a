//! A push service (RFC 8030) that takes whatever comes, and the subscriptions there: decrypts each
//! notification (RFC 8291) and notes whom it tells of what.

use std::{collections::HashMap, sync::Arc};

use aws_lc_rs::{
    aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    agreement::{self, ECDH_P256, PrivateKey, UnparsedPublicKey},
    error::Unspecified,
    hkdf::{HKDF_SHA256, KeyType, Salt},
};
use axum::{
    Router,
    body::Bytes,
    extract::{Path, State},
    http::StatusCode,
    routing::post,
};
use parking_lot::RwLock;
use serde::Deserialize;
use tandem_chassis::rng::Rng;
use tandem_checker::{What, Who};
use tandem_proto::client::{PushToken, WebPush, push_token};

use crate::{Result, record::Recorder};

/// Where subscriptions' resources are.
const PATH: &str = "/push/{name}";

struct Subscription {
    who: Who,
    key: PrivateKey,
    public: Vec<u8>,
    auth: [u8; 16],
}

/// The part of a notification that a record needs.
#[derive(Deserialize)]
struct Payload {
    r#type: String,
    conversation: String,
    #[serde(default)]
    seq: String,
}

/// The push service.
pub struct Gateway {
    recorder: Arc<Recorder>,
    subscriptions: RwLock<HashMap<String, Subscription>>,
}

impl Gateway {
    /// One that notes what arrives.
    pub fn new(recorder: Arc<Recorder>) -> Arc<Self> {
        Arc::new(Self {
            recorder,
            subscriptions: RwLock::default(),
        })
    }

    /// Serves the subscriptions.
    pub fn routes(self: &Arc<Self>) -> Router {
        Router::new()
            .route(PATH, post(take))
            .with_state(self.clone())
    }

    /// A new subscription for a device; `origin` is where the gateway is reached.
    pub fn subscribe(&self, origin: &str, who: Who, rng: &Rng) -> Result<PushToken> {
        let key = PrivateKey::generate(&ECDH_P256)?;
        let public = key.compute_public_key()?.as_ref().to_vec();
        let mut auth = [0; 16];
        rng.fill(&mut auth);
        let name = rng.uuid().to_string();
        let web_push = WebPush {
            endpoint: format!("{origin}/push/{name}"),
            p256dh: public.clone(),
            auth: auth.to_vec(),
        };
        let subscription = Subscription {
            who,
            key,
            public,
            auth,
        };
        self.subscriptions.write().insert(name, subscription);
        Ok(PushToken {
            channel: Some(push_token::Channel::WebPush(web_push)),
            hide_text: false,
        })
    }
}

async fn take(
    State(gateway): State<Arc<Gateway>>,
    Path(name): Path<String>,
    body: Bytes,
) -> StatusCode {
    let subscriptions = gateway.subscriptions.read();
    let Some(subscription) = subscriptions.get(&name) else {
        return StatusCode::NOT_FOUND;
    };
    let read = subscription.decrypt(&body).ok();
    let payload = read.and_then(|text| serde_json::from_slice::<Payload>(&text).ok());
    let Some(payload) = payload else {
        return StatusCode::BAD_REQUEST;
    };
    if payload.r#type == "message" {
        let seq = payload.seq.parse().unwrap_or_default();
        let conversation = payload.conversation;
        let notified = What::Notified { conversation, seq };
        gateway.recorder.note(&subscription.who, notified);
    }
    StatusCode::CREATED
}

impl Subscription {
    /// What an aes128gcm message of one record says (RFC 8188).
    fn decrypt(&self, body: &[u8]) -> std::result::Result<Vec<u8>, Unspecified> {
        let (salt, rest) = body.split_at_checked(16).ok_or(Unspecified)?;
        let (_, rest) = rest.split_at_checked(5).ok_or(Unspecified)?;
        let (sender, record) = rest.split_at_checked(65).ok_or(Unspecified)?;
        let peer = UnparsedPublicKey::new(&ECDH_P256, sender);
        let (key, nonce) = agreement::agree(&self.key, peer, Unspecified, |secret| {
            let info: [&[u8]; 3] = [b"WebPush: info\0", &self.public, sender];
            let ikm: [u8; 32] = derive(&self.auth, secret, &info)?;
            let key: [u8; 16] = derive(salt, &ikm, &[b"Content-Encoding: aes128gcm\0"])?;
            let nonce: [u8; 12] = derive(salt, &ikm, &[b"Content-Encoding: nonce\0"])?;
            Ok((key, nonce))
        })?;
        let mut record = record.to_vec();
        let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &key)?);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let text = key.open_in_place(nonce, Aad::empty(), &mut record)?;
        let end = text.iter().rposition(|b| *b == 2).ok_or(Unspecified)?;
        Ok(text[..end].to_vec())
    }
}

struct Octets(usize);

impl KeyType for Octets {
    fn len(&self) -> usize {
        self.0
    }
}

/// HKDF (RFC 5869) with SHA-256.
fn derive<const N: usize>(
    salt: &[u8],
    secret: &[u8],
    info: &[&[u8]],
) -> std::result::Result<[u8; N], Unspecified> {
    let mut out = [0; N];
    let key = Salt::new(HKDF_SHA256, salt).extract(secret);
    key.expand(info, Octets(N))?.fill(&mut out)?;
    Ok(out)
}
