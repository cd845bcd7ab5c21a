//! Web Push: RFC 8030 (delivery), 8188 and 8291 (encryption), 8292 (VAPID).

pub mod encrypt;
pub mod vapid;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri, header};
use http_body_util::Full;
use tandem_chassis::{
    Doors, Lifecycle,
    http::{HttpClient, HttpError, Options, Reach, Roots},
};
use tandem_kernel::Code;
use tandem_proto::client::WebPush as Subscription;

use self::vapid::{Vapid, VapidKey};
use crate::{
    config::Config,
    domain::notification::Notice,
    error::Error,
    ports::{Channel, Outcome, Target},
};

/// The Web Push channel.
pub struct WebPush {
    http: HttpClient,
    doors: Doors,
    vapid: Option<Arc<Vapid>>,
    allow_http: bool,
    ttl: Duration,
}

impl WebPush {
    /// The channel, as configured; `roots` vouch for the push services.
    pub fn new(
        doors: &Doors,
        config: &Config,
        lifecycle: &Lifecycle,
        roots: Roots,
    ) -> Result<Self, Error> {
        let options = Options {
            connect: Config::millis(config.connect_timeout_ms),
            total: Config::millis(config.send_timeout_ms),
            reach: if config.allow_private_endpoints {
                Reach::Any
            } else {
                Reach::Public
            },
            roots,
        };
        let vapid = if config.vapid_private_key.is_empty() {
            None
        } else {
            let key = VapidKey::from_text(&config.vapid_private_key)?;
            Some(Arc::new(Vapid::new(key, config.vapid_subject.clone())))
        };
        Ok(Self {
            http: HttpClient::new(doors, lifecycle, options)?,
            doors: doors.clone(),
            vapid,
            allow_http: config.allow_http_endpoints,
            ttl: Config::millis(config.ttl_ms),
        })
    }

    /// The public key that devices subscribe with; empty: no Web Push.
    pub fn public_key(&self) -> Vec<u8> {
        self.vapid
            .as_ref()
            .map(|v| v.public_key().to_vec())
            .unwrap_or_default()
    }

    fn request(
        &self,
        target: &Target,
        notice: &Notice<'_>,
    ) -> Result<Request<Full<Bytes>>, Outcome> {
        let refused = |code, reason: &str| Outcome::Refused {
            code,
            reason: reason.to_owned(),
        };
        let Subscription {
            endpoint,
            p256dh,
            auth,
        } = &target.web_push;
        let uri: Uri = endpoint
            .parse()
            .map_err(|_| refused(Code::InvalidArgument, "the endpoint is not a url"))?;
        match uri.scheme_str() {
            Some("https") => {}
            Some("http") if self.allow_http => {}
            _ => {
                return Err(refused(
                    Code::InvalidArgument,
                    "the endpoint is not an https url",
                ));
            }
        }
        let Some(vapid) = &self.vapid else {
            return Err(refused(
                Code::Unavailable,
                "push.vapid_private_key is not set",
            ));
        };
        let authorization = origin(&uri)
            .and_then(|origin| vapid.authorization(&origin, self.doors.clock.unix()))
            .ok_or_else(|| refused(Code::Internal, "cannot sign the vapid token"))?;
        let topic = topic(auth, notice.conversation().as_str());
        let payload = notice.payload(&topic, &target.brand, encrypt::MAX_PLAINTEXT);
        let body = encrypt::encrypt(&self.doors.rng, &payload, p256dh, auth)
            .map_err(|e| refused(Code::InvalidArgument, &e.to_string()))?;
        let age = match notice {
            Notice::Message { content, .. } => self.doors.clock.unix().since(content.at),
            Notice::Withdraw { .. } => Duration::ZERO,
        };
        let urgency = match notice {
            Notice::Message { .. } => "high",
            Notice::Withdraw { .. } => "normal",
        };
        Request::post(uri)
            .header(header::AUTHORIZATION, authorization)
            .header(header::CONTENT_ENCODING, "aes128gcm")
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .header("ttl", self.ttl.saturating_sub(age).as_secs())
            .header("urgency", urgency)
            .header("topic", topic)
            .body(Full::new(Bytes::from(body)))
            .map_err(|_| refused(Code::Internal, "cannot make the request"))
    }

    fn outcome(&self, answer: &Response<Bytes>) -> Outcome {
        let status = answer.status();
        let reason = || {
            let said = String::from_utf8_lossy(answer.body());
            let said: String = said.chars().filter(|c| !c.is_control()).take(200).collect();
            format!("push service answered {}: {said}", status.as_u16())
        };
        match status {
            s if s.is_success() => Outcome::Delivered,
            StatusCode::NOT_FOUND | StatusCode::GONE => Outcome::Dead,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => Outcome::Retry {
                after: self.retry_after(answer),
                reason: reason(),
            },
            s if s.is_server_error() => Outcome::Retry {
                after: self.retry_after(answer),
                reason: reason(),
            },
            StatusCode::PAYLOAD_TOO_LARGE => Outcome::Refused {
                code: Code::TooLarge,
                reason: reason(),
            },
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Outcome::Refused {
                code: Code::Forbidden,
                reason: reason(),
            },
            _ => Outcome::Refused {
                code: Code::InvalidArgument,
                reason: reason(),
            },
        }
    }

    /// RFC 9110, section 10.2.3: seconds, or a date.
    fn retry_after(&self, answer: &Response<Bytes>) -> Option<Duration> {
        let value = answer
            .headers()
            .get(header::RETRY_AFTER)?
            .to_str()
            .ok()?
            .trim();
        if let Ok(seconds) = value.parse() {
            return Some(Duration::from_secs(seconds));
        }
        let date = jiff::fmt::rfc2822::parse(value).ok()?;
        let ms = date.timestamp().as_millisecond() - self.doors.clock.unix().0;
        Some(Duration::from_millis(u64::try_from(ms).unwrap_or(0)))
    }
}

/// RFC 6454, section 6.1.
fn origin(uri: &Uri) -> Option<String> {
    let (scheme, authority) = (uri.scheme_str()?, uri.authority()?);
    let default = if scheme == "https" { 443 } else { 80 };
    Some(match authority.port_u16() {
        Some(port) if port != default => format!("{scheme}://{}:{port}", authority.host()),
        _ => format!("{scheme}://{}", authority.host()),
    })
}

/// Topic (RFC 8030, section 5.4) and tag of a conversation's notifications on a device: 32 characters.
/// Keyed by the subscription's secret, so that push services do not learn who talks with whom.
pub fn topic(auth: &[u8], conversation: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, auth);
    let tag = hmac::sign(&key, conversation.as_bytes());
    URL_SAFE_NO_PAD.encode(&tag.as_ref()[..24])
}

#[async_trait]
impl Channel for WebPush {
    fn name(&self) -> &'static str {
        "web_push"
    }

    fn service(&self, target: &Target) -> String {
        target
            .web_push
            .endpoint
            .parse()
            .ok()
            .and_then(|uri| origin(&uri))
            .unwrap_or_default()
    }

    async fn send(&self, target: &Target, notice: &Notice<'_>) -> Outcome {
        let request = match self.request(target, notice) {
            Ok(request) => request,
            Err(outcome) => return outcome,
        };
        match self.http.send(request).await {
            Ok(answer) => self.outcome(&answer),
            Err(e @ HttpError::NotPublic(_)) => Outcome::Refused {
                code: Code::Forbidden,
                reason: e.to_string(),
            },
            Err(e) => Outcome::Retry {
                after: None,
                reason: e.to_string(),
            },
        }
    }
}
