//! A push service on loopback, and the devices that are subscribed there.

use std::{collections::VecDeque, convert::Infallible, sync::Arc};

use aws_lc_rs::{
    aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    agreement::{self, ECDH_P256, PrivateKey, UnparsedPublicKey},
    encoding::{AsBigEndian, EcPrivateKeyBin},
    hkdf::{HKDF_SHA256, KeyType, Salt},
};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use tandem_chassis::{Doors, Lifecycle, lifecycle::OnEnd, net::Io};
use tandem_proto::client::{PushToken, WebPush, push_token};

#[derive(Debug, Clone)]
pub struct Got {
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

#[derive(Default)]
struct State {
    got: Vec<Got>,
    /// Answers to come; then `status`.
    answers: VecDeque<u16>,
    status: u16,
}

#[derive(Clone)]
pub struct Gateway {
    state: Arc<Mutex<State>>,
    pub port: u16,
}

impl Gateway {
    pub async fn start(doors: &Doors, lifecycle: &Lifecycle) -> Self {
        let mut listener = doors.net.listen("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State {
            status: 201,
            ..State::default()
        }));
        let (shared, tasks) = (state.clone(), lifecycle.clone());
        lifecycle.spawn("gateway", OnEnd::Fine, async move {
            while let Ok((io, _)) = listener.accept().await {
                let state = shared.clone();
                tasks.spawn("gateway.connection", OnEnd::Fine, async move {
                    let service = service_fn(move |request| answer(state.clone(), request));
                    let _ = http1::Builder::new()
                        .serve_connection(TokioIo::new(io), service)
                        .await;
                });
            }
        });
        Self { state, port }
    }

    /// Serves one more connection, HTTP/2.
    pub async fn serve_h2(&self, io: impl Io) {
        let state = self.state.clone();
        let service = service_fn(move |request| answer(state.clone(), request));
        let _ = http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(io), service)
            .await;
    }

    /// Answers with this status from now on.
    pub fn status(&self, status: u16) {
        self.state.lock().status = status;
    }

    /// Answers the next requests with these.
    pub fn answers(&self, statuses: &[u16]) {
        self.state.lock().answers.extend(statuses);
    }

    pub fn got(&self) -> Vec<Got> {
        self.state.lock().got.clone()
    }

    pub fn count(&self) -> usize {
        self.state.lock().got.len()
    }

    pub fn endpoint(&self, device: &str) -> String {
        format!("http://127.0.0.1:{}/push/{device}", self.port)
    }
}

async fn answer(
    state: Arc<Mutex<State>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let mut state = state.lock();
    state.got.push(Got {
        path: parts.uri.path().to_owned(),
        headers: parts.headers,
        body,
    });
    let status = state.answers.pop_front().unwrap_or(state.status);
    Ok(Response::builder()
        .status(status)
        .body(Full::default())
        .unwrap())
}

/// A device that is subscribed.
pub struct Device {
    pub name: String,
    key: PrivateKey,
    pub public: Vec<u8>,
    pub auth: Vec<u8>,
    pub token: PushToken,
}

impl Device {
    pub fn subscribe(gateway: &Gateway, name: &str) -> Self {
        let key = PrivateKey::generate(&ECDH_P256).unwrap();
        let public = key.compute_public_key().unwrap().as_ref().to_vec();
        let auth = b"0123456789abcdef".to_vec();
        let web_push = WebPush {
            endpoint: gateway.endpoint(name),
            p256dh: public.clone(),
            auth: auth.clone(),
        };
        let token = PushToken {
            channel: Some(push_token::Channel::WebPush(web_push)),
            hide_text: false,
        };
        Self {
            name: name.to_owned(),
            key,
            public,
            auth,
            token,
        }
    }

    pub fn private_key(&self) -> Vec<u8> {
        let secret: EcPrivateKeyBin<'_> = self.key.as_be_bytes().unwrap();
        secret.as_ref().to_vec()
    }

    /// What this device was sent, decrypted (RFC 8291 from the receiver's side), oldest first.
    pub fn inbox(&self, gateway: &Gateway) -> Vec<serde_json::Value> {
        let path = format!("/push/{}", self.name);
        let mine = gateway.got().into_iter().filter(|got| got.path == path);
        mine.map(|got| serde_json::from_slice(&self.decrypt(&got.body)).unwrap())
            .collect()
    }

    fn decrypt(&self, body: &[u8]) -> Vec<u8> {
        let (salt, rest) = body.split_at(16);
        assert_eq!(rest[..5], [0, 0, 16, 0, 65]);
        let (sender, record) = rest[5..].split_at(65);
        let derive = |salt: &[u8], secret: &[u8], info: &[&[u8]], n: usize| {
            let mut out = vec![0; n];
            let prk = Salt::new(HKDF_SHA256, salt).extract(secret);
            prk.expand(info, Octets(n)).unwrap().fill(&mut out).unwrap();
            out
        };
        let peer = UnparsedPublicKey::new(&ECDH_P256, sender);
        let ikm = agreement::agree(&self.key, peer, (), |secret| {
            Ok(derive(
                &self.auth,
                secret,
                &[b"WebPush: info\0", &self.public, sender],
                32,
            ))
        })
        .unwrap();
        let cek = derive(salt, &ikm, &[b"Content-Encoding: aes128gcm\0"], 16);
        let nonce = derive(salt, &ikm, &[b"Content-Encoding: nonce\0"], 12);
        let mut record = record.to_vec();
        let plain = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &cek).unwrap())
            .open_in_place(
                Nonce::try_assume_unique_for_key(&nonce).unwrap(),
                Aad::empty(),
                &mut record,
            )
            .unwrap();
        let (last, plain) = plain.split_last().unwrap();
        assert_eq!(*last, 2);
        plain.to_vec()
    }
}

struct Octets(usize);

impl KeyType for Octets {
    fn len(&self) -> usize {
        self.0
    }
}
