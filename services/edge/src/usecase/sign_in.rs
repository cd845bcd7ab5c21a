//! Hello: who it is, what they may, and the session that results.

use std::{sync::Arc, time::Duration};

use parking_lot::RwLock;
use tandem_chassis::{Doors, grpc::Channel};
use tandem_kernel::{Address, Code, DeviceId, SessionId};
use tandem_proto::{
    accounts::{SignInRequest, account, accounts_client::AccountsClient},
    client::{DeviceClass, Hello, Limits, Status, Welcome},
    push::{VapidKeyRequest, push_client::PushClient},
};
use tokio::time::{sleep, timeout};

use crate::{
    Config,
    domain::{
        effect::{Grant, Refusal},
        session::check_status,
    },
    usecase::{asks::Asks, tokens::Tokens},
};

/// A verified hello.
pub struct SignedIn {
    /// For the session.
    pub grant: Grant,
    /// The device.
    pub device: DeviceId,
    /// Its class.
    pub class: DeviceClass,
    /// The status to begin with, or to go on with; `None`: online, or as it was.
    pub status: Option<Status>,
    /// The broken session to go on with, and the last frame processed in it.
    pub resume: Option<(SessionId, u64)>,
}

/// Verifies hellos.
pub struct SignIn {
    tokens: Tokens,
    asks: Arc<Asks>,
    doors: Doors,
    config: Arc<Config>,
    vapid: RwLock<Vec<u8>>,
}

impl SignIn {
    /// With these issuers' tokens.
    pub fn new(tokens: Tokens, asks: Arc<Asks>, doors: Doors, config: Arc<Config>) -> Arc<Self> {
        Arc::new(Self {
            tokens,
            asks,
            doors,
            config,
            vapid: RwLock::default(),
        })
    }

    /// Learns push's key, however long that takes.
    pub async fn learn_vapid(&self, push: Channel) {
        let mut client = PushClient::new(push);
        let mut pause = Duration::from_millis(100);
        loop {
            let call = client.vapid_key(VapidKeyRequest {});
            if let Ok(Ok(key)) = timeout(Duration::from_millis(self.config.call_ms), call).await {
                *self.vapid.write() = key.into_inner().public_key;
                // it may be another after push's restart
                sleep(Duration::from_mins(1)).await;
            } else {
                sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(5));
            }
        }
    }

    /// Verifies a token and says until when it counts, on the monotonic clock.
    pub async fn renew(&self, token: &str) -> Result<(Address, Duration), Refusal> {
        let claims = self.tokens.verify(token).await?;
        Ok((claims.user, self.until(claims.expires)))
    }

    fn until(&self, expires: tandem_kernel::UnixMillis) -> Duration {
        let left = expires.since(self.doors.clock.unix());
        self.doors.clock.monotonic() + left + Duration::from_millis(self.config.token_grace_ms)
    }

    /// Finds out who it is and what they may.
    pub async fn verify(&self, hello: Hello) -> Result<SignedIn, Refusal> {
        let device = hello.device.unwrap_or_default();
        let class = device.class();
        let invalid = |m: &str| Refusal::new(Code::InvalidArgument, m);
        let device = DeviceId::parse(&device.id).map_err(|e| invalid(&e.to_string()))?;
        let status = match hello.status {
            0 => None,
            status => Some(check_status(status, "").map_err(invalid)?),
        };
        let claims = self.tokens.verify(&hello.token).await?;
        let mut accounts = AccountsClient::new(self.asks.accounts.clone());
        let request = SignInRequest {
            user: claims.user.as_str().to_owned(),
            phone: claims.phone,
            email: claims.email,
            plan: claims.plan,
            country: claims.country,
            name: claims.name,
        };
        let answer = self
            .asks
            .call(accounts.sign_in(request))
            .await
            .map_err(|mut refusal| {
                if matches!(refusal.code, Code::DeadlineExceeded | Code::Internal) {
                    refusal.code = Code::Unavailable;
                }
                if refusal.code == Code::NotFound {
                    refusal.code = Code::NoAccount;
                }
                if refusal.code == Code::Unavailable {
                    let jitter = self.doors.rng.below(2_000);
                    refusal.retry_after = Some(Duration::from_millis(1_000 + jitter));
                }
                refusal
            })?;
        if answer
            .account
            .as_ref()
            .is_some_and(|a| a.state() == account::State::Closed)
        {
            return Err(Refusal::new(Code::NoAccount, "the account is closed"));
        }
        let needed = match class {
            DeviceClass::Mobile => "mobile",
            DeviceClass::Portal => "portal",
            DeviceClass::Pc | DeviceClass::Unspecified => "pc",
        };
        if !answer.entitlements.iter().any(|e| e == needed) {
            let link = answer
                .brand
                .as_ref()
                .map(|b| b.support_url.as_str())
                .unwrap_or_default();
            let mut message = format!("the plan does not include {needed}");
            if !link.is_empty() {
                message = format!("{message}; see {link}");
            }
            return Err(Refusal::new(Code::NotEntitled, message));
        }
        let resume = hello
            .resume
            .and_then(|r| SessionId::parse(&r.session).ok().map(|id| (id, r.n)));
        let welcome = Welcome {
            user: claims.user.as_str().to_owned(),
            heartbeat_ms: u32::try_from(self.config.heartbeat_ms).unwrap_or(u32::MAX),
            limits: Some(Limits {
                frame_bytes: self.config.frame_bytes,
                events_per_s: self.config.events_per_s,
                events_burst: self.config.events_burst,
                conversations: self.config.conversations,
                page: self.config.page,
                text_bytes: self.config.text_bytes,
            }),
            entitlements: answer.entitlements,
            brand: answer.brand,
            vapid_public_key: self.vapid.read().clone(),
            ..Welcome::default()
        };
        let grant = Grant {
            session: self.doors.rng.session_id(),
            user: claims.user,
            welcome,
            have: hello.have,
            token_until: self.until(claims.expires),
        };
        Ok(SignedIn {
            grant,
            device,
            class,
            status,
            resume,
        })
    }
}
