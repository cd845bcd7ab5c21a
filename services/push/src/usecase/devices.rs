//! Whom to notify, as accounts knows it.

use std::{collections::BTreeMap, time::Duration};

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tandem_chassis::{Doors, grpc};
use tandem_kernel::{Address, Code};
use tandem_proto::{
    accounts::{
        FindRequest, PushTargetsRequest, SetPushTokenRequest, accounts_client::AccountsClient,
    },
    client::push_token,
};
use tonic::{Response, Status};

use crate::{domain::backoff::Backoff, ports::Target};

/// Users asked for in one call.
const USERS: usize = 500;
/// Longest time between two attempts to reach accounts.
const LONGEST: Duration = Duration::from_secs(5);
/// How long a sender's name is remembered, and how many.
const NAMES: (Duration, usize) = (Duration::from_mins(5), 10_000);

/// Asks accounts.
pub struct Devices {
    accounts: AccountsClient<grpc::Channel>,
    doors: Doors,
    backoff: Backoff,
    call_timeout: Duration,
    names: Mutex<(Duration, BTreeMap<Address, Option<String>>)>,
}

impl Devices {
    /// Asks `accounts`, again and again as `backoff` says.
    pub fn new(
        accounts: AccountsClient<grpc::Channel>,
        doors: Doors,
        backoff: Backoff,
        call_timeout: Duration,
    ) -> Self {
        Self {
            accounts,
            doors,
            backoff,
            call_timeout,
            names: Mutex::default(),
        }
    }

    /// The devices of users. Waits for accounts as long as it is away: what is waited for here is not yet passed in
    /// the log. Another error is tried again for a while, and then told.
    pub async fn of(
        &self,
        mut users: Vec<String>,
    ) -> Result<BTreeMap<String, Vec<Target>>, (Code, String)> {
        users.sort();
        users.dedup();
        let begun = self.doors.clock.monotonic();
        let mut found: BTreeMap<String, Vec<Target>> = BTreeMap::new();
        for users in users.chunks(USERS) {
            for failed in 1.. {
                let error = match self.of_once(users.to_vec()).await {
                    Ok(targets) => {
                        for target in targets {
                            found.entry(target.user.clone()).or_default().push(target);
                        }
                        break;
                    }
                    Err(error) => error,
                };
                let jitter = self.doors.rng.u64();
                let delay = if matches!(error.0, Code::Unavailable | Code::DeadlineExceeded) {
                    self.backoff.delay(failed, jitter).min(LONGEST)
                } else {
                    let elapsed = self.doors.clock.monotonic().saturating_sub(begun);
                    let next = self.backoff.next(failed, elapsed, None, jitter);
                    next.ok_or_else(|| error.clone())?
                };
                tracing::warn!(code = %error.0, reason = error.1, "accounts does not answer");
                tokio::time::sleep(delay).await;
            }
        }
        Ok(found)
    }

    /// The devices of users, asked for once.
    pub async fn of_once(&self, users: Vec<String>) -> Result<Vec<Target>, (Code, String)> {
        let mut accounts = self.accounts.clone();
        let request = PushTargetsRequest { users };
        let answer = self
            .call(async move { accounts.push_targets(request).await })
            .await?;
        let targets = answer.targets.into_iter().filter_map(|t| {
            let token = t.token?;
            let push_token::Channel::WebPush(web_push) = token.channel.clone()?;
            Some(Target {
                user: t.user,
                device: t.device,
                token,
                web_push,
                brand: t.brand,
            })
        });
        Ok(targets.collect())
    }

    /// Calls accounts.
    fn call<T: Send + 'static>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, (Code, String)>> {
        let limit = self.call_timeout;
        Box::pin(async move {
            match tokio::time::timeout(limit, call).await {
                Ok(Ok(answer)) => Ok(answer.into_inner()),
                Ok(Err(s)) => Err((grpc::code_of(&s), format!("accounts: {}", s.message()))),
                Err(_) => Err((
                    Code::DeadlineExceeded,
                    "accounts: no answer in time".to_owned(),
                )),
            }
        })
    }

    /// A sender's name to show; a notification goes without it when accounts does not tell.
    pub async fn name_of(&self, sender: &Address) -> Option<String> {
        let now = self.doors.clock.monotonic();
        {
            let mut names = self.names.lock();
            if now.saturating_sub(names.0) > NAMES.0 || names.1.len() >= NAMES.1 {
                *names = (now, BTreeMap::new());
            }
            if let Some(name) = names.1.get(sender) {
                return name.clone();
            }
        }
        let mut accounts = self.accounts.clone();
        let who = sender.to_string();
        let request = FindRequest {
            viewer: who.clone(),
            who,
        };
        let found = self
            .call(async move { accounts.find(request).await })
            .await
            .ok()?;
        let name = (!found.name.is_empty()).then_some(found.name);
        self.names.lock().1.insert(sender.clone(), name.clone());
        name
    }

    /// Removes a dead token, unless it was replaced.
    pub async fn forget(&self, target: &Target) {
        let mut accounts = self.accounts.clone();
        let request = SetPushTokenRequest {
            user: target.user.clone(),
            device: target.device.clone(),
            token: None,
            only_if: Some(target.token.clone()),
        };
        let removed = self
            .call(async move { accounts.set_push_token(request).await })
            .await;
        if let Err((code, reason)) = removed {
            // it will be found dead again
            tracing::warn!(%code, reason, "cannot remove a dead push token");
        }
    }
}
