//! Devices and where they get their notifications.

use bytes::{BufMut, Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt, stream};
use prost::Message;
use tandem_kernel::{Address, Code, DeviceId, UnixMillis};
use tandem_proto::{
    accounts::{PushTarget, SetPushTokenRequest},
    client::PushToken,
};
use tandem_store::{PutIf, Row};

use super::{Service, TRIES, address, contended, no_account};
use crate::{
    domain::{profile::Profile, token},
    error::Error,
    tables,
};

/// Subscribers that are looked up at once.
const AT_ONCE: usize = 16;

impl Service {
    /// Sets a device's token, or removes it (with `only_if`: if it is still that one).
    pub(crate) async fn set_push_token(&self, request: &SetPushTokenRequest) -> Result<(), Error> {
        let user = address(&request.user)?;
        let device = DeviceId::parse(&request.device)
            .map_err(|e| Error::refused(Code::InvalidArgument, e.to_string()))?;
        match &request.token {
            Some(token) => self.keep_token(&user, device.as_str(), token).await,
            None => {
                self.remove_token(&user, device.as_str(), request.only_if.as_ref())
                    .await
            }
        }
    }

    async fn keep_token(
        &self,
        user: &Address,
        device: &str,
        token: &PushToken,
    ) -> Result<(), Error> {
        if let Some(fault) = token::fault(token, self.config.allow_http_endpoints) {
            return Err(Error::refused(Code::InvalidArgument, fault));
        }
        let account = tables::load_account(&*self.store, user).await?;
        if !account.is_some_and(|a| a.value.active()) {
            return Err(no_account(user));
        }
        let key = tables::device_key(user, device);
        for _ in 0..TRIES {
            let raw = self.store.get(&key).await?;
            if raw
                .as_deref()
                .and_then(decode)
                .is_some_and(|(_, old)| old == *token)
            {
                return Ok(());
            }
            let value = encode(self.doors.clock.unix(), token);
            if self.store.put_if(&key, raw, value, None).await? == PutIf::Done {
                return self.prune(user, device).await;
            }
        }
        contended()
    }

    /// Removes the oldest devices beyond the limit, never `keep`.
    async fn prune(&self, user: &Address, keep: &str) -> Result<(), Error> {
        let mut rows = tables::devices(&*self.store, user).await?;
        let excess = rows.len().saturating_sub(self.config.max_devices);
        rows.retain(|r| r.sort != keep.as_bytes());
        rows.sort_by(|a, b| a.value.get(..8).cmp(&b.value.get(..8)));
        for row in rows.into_iter().take(excess) {
            let device = String::from_utf8_lossy(&row.sort).into_owned();
            self.forget_device(user, &device, row.value).await?;
        }
        Ok(())
    }

    async fn remove_token(
        &self,
        user: &Address,
        device: &str,
        only_if: Option<&PushToken>,
    ) -> Result<(), Error> {
        let key = tables::device_key(user, device);
        for _ in 0..TRIES {
            let Some(raw) = self.store.get(&key).await?.filter(|raw| !raw.is_empty()) else {
                return Ok(());
            };
            let stored = decode(&raw).map(|(_, token)| token);
            if only_if.is_some() && stored.as_ref() != only_if {
                return Ok(());
            }
            if self.forget_device(user, device, raw).await? {
                return Ok(());
            }
        }
        contended()
    }

    /// The devices of these users that can be notified, in the order of the users.
    pub(crate) async fn push_targets(&self, users: &[String]) -> Result<Vec<PushTarget>, Error> {
        let users = users
            .iter()
            .map(|u| address(u))
            .collect::<Result<Vec<_>, _>>()?;
        let targets: Vec<Vec<PushTarget>> = stream::iter(users)
            .map(|user| async move { self.targets_of(&user).await })
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        Ok(targets.into_iter().flatten().collect())
    }

    async fn targets_of(&self, user: &Address) -> Result<Vec<PushTarget>, Error> {
        let rows = tables::devices(&*self.store, user).await?;
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let account = tables::load_account(&*self.store, user).await?;
        let Some(profile) = account.map(|a| a.value).filter(Profile::active) else {
            return Ok(Vec::new());
        };
        let target = |row: &Row| {
            let (_, token) = decode(&row.value).ok_or(Error::Row("devices"))?;
            Ok(PushTarget {
                user: user.to_string(),
                device: String::from_utf8_lossy(&row.sort).into_owned(),
                token: Some(token),
                country: profile.country.clone(),
                brand: profile.brand.clone(),
            })
        };
        rows.iter().map(target).collect()
    }
}

/// A device's row: when it was set (milliseconds since 1970, 8 octets), then the token.
fn encode(at: UnixMillis, token: &PushToken) -> Bytes {
    let mut row = BytesMut::with_capacity(8 + token.encoded_len());
    row.put_i64(at.0);
    row.put_slice(&token.encode_to_vec());
    row.freeze()
}

fn decode(row: &[u8]) -> Option<(UnixMillis, PushToken)> {
    let (at, token) = row.split_first_chunk::<8>()?;
    Some((
        UnixMillis(i64::from_be_bytes(*at)),
        PushToken::decode(token).ok()?,
    ))
}
