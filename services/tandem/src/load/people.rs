//! The people of a run: their tokens, their accounts, and whom they have as contacts.

use std::{collections::BTreeSet, time::Duration};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use futures::{StreamExt, stream};
use tandem_chassis::{Doors, grpc::Channel};
use tandem_client::{DevIssuer, DevTokenRequest, TokenSource};
use tandem_kernel::{Address, ConversationId};
use tandem_proto::accounts::{
    ConnectRequest, UpsertRequest, import_result, provisioning_client::ProvisioningClient,
};

use super::plan::{Plan, Talk};

/// Calls that are under way at once.
const AT_ONCE: usize = 64;

/// Tries again what failed, as the server may be away for a moment, until `patience` has passed.
async fn patiently<T, F>(patience: Duration, mut attempt: impl FnMut() -> F) -> Result<T, String>
where
    F: Future<Output = Result<T, String>>,
{
    let mut last = String::new();
    let tried = async {
        loop {
            match attempt().await {
                Ok(value) => return value,
                Err(error) => last = error,
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    };
    let tried = tokio::time::timeout(patience, tried).await;
    tried.map_err(|_| last)
}

/// People with tokens.
#[derive(Debug, Default)]
pub struct People {
    /// Addresses.
    pub addresses: Vec<String>,
    /// A day's token for each.
    pub tokens: Vec<String>,
}

/// Claim `sub` of a token; the signature is the server's business.
fn subject(token: &str) -> Option<String> {
    let payload = BASE64_URL_SAFE_NO_PAD
        .decode(token.split('.').nth(1)?)
        .ok()?;
    let claims: serde_json::Value = serde_json::from_slice(&payload).ok()?;
    Some(claims.get("sub")?.as_str()?.to_owned())
}

impl People {
    /// Gets tokens for `count` people whose names begin with `prefix`.
    pub async fn with_tokens(
        doors: &Doors,
        authority: &str,
        prefix: &str,
        count: u32,
        patience: Duration,
    ) -> Result<Self, String> {
        let token = |i: u32| {
            let issuer = DevIssuer {
                doors: doors.clone(),
                authority: authority.to_owned(),
                request: DevTokenRequest {
                    user: format!("{prefix}{i}"),
                    ttl_s: Some(86_400),
                    ..DevTokenRequest::default()
                },
            };
            async move {
                patiently(patience, || async {
                    issuer.token().await.map_err(|e| format!("token: {e}"))
                })
                .await
            }
        };
        let mut people = Self::default();
        let mut tokens = stream::iter(0..count).map(token).buffered(AT_ONCE);
        while let Some(token) = tokens.next().await {
            let token = token?.token;
            let address = subject(&token).ok_or("token: it names no subscriber")?;
            people.addresses.push(address);
            people.tokens.push(token);
        }
        Ok(people)
    }

    /// Creates their accounts.
    pub async fn create(&self, channel: &Channel, patience: Duration) -> Result<(), String> {
        patiently(patience, || self.import(channel.clone())).await
    }

    async fn import(&self, channel: Channel) -> Result<(), String> {
        let upserts: Vec<UpsertRequest> = self
            .addresses
            .iter()
            .map(|user| UpsertRequest {
                user: user.clone(),
                ..UpsertRequest::default()
            })
            .collect();
        let failed = |s: tonic::Status| format!("accounts: {}", s.message());
        let mut results = ProvisioningClient::new(channel)
            .import(stream::iter(upserts))
            .await
            .map_err(failed)?
            .into_inner();
        let mut created = 0;
        while let Some(result) = results.message().await.map_err(failed)? {
            match result.result {
                Some(import_result::Result::Account(_)) => created += 1,
                Some(import_result::Result::Problem(p)) => {
                    return Err(format!("accounts: {}: {}", p.code, p.message));
                }
                None => return Err("accounts: an empty result".into()),
            }
        }
        if created == self.addresses.len() {
            Ok(())
        } else {
            Err(format!(
                "accounts: {created} of {} were created",
                self.addresses.len()
            ))
        }
    }

    /// Makes those contacts who talk one-to-one.
    pub async fn connect(
        &self,
        channel: &Channel,
        talks: &[Talk],
        patience: Duration,
    ) -> Result<(), String> {
        let pairs: BTreeSet<(u32, u32)> = talks
            .iter()
            .filter(|t| !t.group)
            .map(|t| (t.members[0], t.members[1]))
            .collect();
        let connect = |(a, b): (u32, u32)| {
            let client = ProvisioningClient::new(channel.clone());
            let request = ConnectRequest {
                a: self.addresses[a as usize].clone(),
                b: self.addresses[b as usize].clone(),
            };
            patiently(patience, move || {
                let (mut client, request) = (client.clone(), request.clone());
                async move {
                    let answer = client.connect(request).await;
                    answer.map_err(|s| format!("contacts: {}", s.message()))
                }
            })
        };
        let mut answers = stream::iter(pairs).map(connect).buffer_unordered(AT_ONCE);
        while let Some(answer) = answers.next().await {
            answer?;
        }
        Ok(())
    }

    /// Ids of a plan's conversations.
    pub fn talks(&self, plan: &Plan, doors: &Doors) -> Result<Vec<String>, String> {
        let address =
            |i: u32| Address::parse(&self.addresses[i as usize]).map_err(|e| format!("token: {e}"));
        let id = |talk: &Talk| {
            let first = address(talk.members[0])?;
            let id = if talk.group {
                Some(ConversationId::group(doors.rng.uuid(), first.domain()))
            } else {
                ConversationId::one_to_one(&first, &address(talk.members[1])?)
            };
            id.map(|id| id.as_str().to_owned())
                .ok_or_else(|| "one person twice".to_owned())
        };
        plan.talks.iter().map(id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_fails_for_a_moment_is_tried_again_and_the_last_error_is_told() {
        let mut left = 3;
        let attempt = || {
            left -= 1;
            std::future::ready(if left == 0 {
                Ok(())
            } else {
                Err("away".to_owned())
            })
        };
        assert_eq!(patiently(Duration::from_secs(5), attempt).await, Ok(()));
        let never = || std::future::ready(Err::<(), _>("away".to_owned()));
        assert_eq!(
            patiently(Duration::from_secs(5), never).await,
            Err("away".to_owned())
        );
    }

    #[test]
    fn a_token_says_whose_it_is() {
        let payload = BASE64_URL_SAFE_NO_PAD.encode(br#"{"sub":"a@x.test","exp":1}"#);
        assert_eq!(
            subject(&format!("e30.{payload}.sig")).as_deref(),
            Some("a@x.test")
        );
        assert_eq!(subject("nonsense"), None);
    }
}
