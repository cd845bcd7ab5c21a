//! Creating, updating, ending and reading accounts, and who holds a phone number.

use bytes::Bytes;
use tandem_kernel::{Address, Code, event::AccountChange};
use tandem_proto::accounts::{Account, UpsertRequest};
use tandem_store::PutIf;

use super::{Service, TRIES, address, contended, no_account};
use crate::{
    domain::{
        phone,
        profile::{self, Profile},
    },
    error::Error,
    tables::{self, Held, Holder, Marker},
};

impl Service {
    /// Creates the subscriber, or updates what is set. The same again changes nothing.
    pub(crate) async fn upsert(&self, patch: &UpsertRequest) -> Result<Account, Error> {
        let user = address(&patch.user)?;
        let profile = self.upsert_profile(&user, patch).await?;
        Ok(profile.account(&user))
    }

    pub(crate) async fn upsert_profile(
        &self,
        user: &Address,
        patch: &UpsertRequest,
    ) -> Result<Profile, Error> {
        let _guard = self.lock(user).await;
        let mut marker = None;
        let done = self.upsert_locked(user, patch, &mut marker).await;
        if let Some(marker) = marker {
            match &done {
                // what it stands for has not come to its end, or may not have: the resumer sees to it
                Err(e) if e.is_transient() => {}
                _ => marker.clear(&*self.store).await?,
            }
        }
        done
    }

    async fn upsert_locked(
        &self,
        user: &Address,
        patch: &UpsertRequest,
        marker: &mut Option<Marker>,
    ) -> Result<Profile, Error> {
        let key = tables::account_key(user);
        for _ in 0..TRIES {
            let held = tables::load_account(&*self.store, user).await?;
            let old = held.as_ref().map(|h| h.value.clone());
            if old.as_ref().is_some_and(|p| p.closed) {
                return Err(Error::refused(
                    Code::Conflict,
                    "the account is closed, and stays so",
                ));
            }
            let mut new = profile::apply(old.as_ref(), user, patch, &self.config)?;
            if old.as_ref() == Some(&new) && new.claiming.is_empty() {
                return Ok(new);
            }
            if marker.is_none() {
                *marker = Some(self.mark(user, None).await?);
            }
            let mut expected = held.map(|h| h.raw);
            let old_phone = old.as_ref().map_or("", |p| p.phone.as_str());
            if !new.phone.is_empty() && new.phone != old_phone {
                match self.claim(user, old.as_ref(), expected, &new.phone).await? {
                    Some(raw) => expected = Some(raw),
                    None => continue,
                }
            }
            new.claiming = String::new();
            new.version = old.as_ref().map_or(0, |p| p.version) + 1;
            if !tables::replace(&*self.store, &key, expected, &new).await? {
                continue;
            }
            if !old_phone.is_empty() && old_phone != new.phone {
                self.release(user, old_phone).await?;
            }
            if old.as_ref().is_none_or(|p| p.draft) {
                self.metrics.created.add(1);
            }
            let change = AccountChange {
                user: user.to_string(),
                version: new.version,
                ..AccountChange::default()
            };
            self.publish(change, None).await?;
            return Ok(new);
        }
        contended()
    }

    /// Makes `number` this user's, unless it is another's. First the account says that it is taking the
    /// number, so that nobody who finds the claim mistakes it for a stale one. Returns the account row's
    /// octets after that; `None`: the account changed meanwhile.
    async fn claim(
        &self,
        user: &Address,
        old: Option<&Profile>,
        expected: Option<Bytes>,
        number: &str,
    ) -> Result<Option<Bytes>, Error> {
        let mut taking = old.cloned().unwrap_or(Profile {
            draft: true,
            ..Profile::default()
        });
        number.clone_into(&mut taking.claiming);
        let key = tables::account_key(user);
        if !tables::replace(&*self.store, &key, expected, &taking).await? {
            return Ok(None);
        }
        let raw = tables::encode(&taking, key.table.0)?;
        let claimed = self.take_number(user, number).await;
        if let Err(Error::Refused(..)) = claimed {
            taking.claiming = String::new();
            // if it is another's by now, that one saw to it
            tables::replace(&*self.store, &key, Some(raw.clone()), &taking).await?;
        }
        claimed.map(|()| Some(raw))
    }

    async fn take_number(&self, user: &Address, number: &str) -> Result<(), Error> {
        let key = tables::phone_key(number);
        for _ in 0..TRIES {
            let raw = self.store.get(&key).await?;
            let holder = match raw.as_deref() {
                None | Some([]) => None,
                Some(raw) => Some(tables::decode::<Holder>(raw, key.table.0)?),
            };
            if let Some(holder) = holder.filter(|h| h.user != user.as_str()) {
                let other = address(&holder.user)?;
                let other = tables::load_account(&*self.store, &other).await?;
                let holds = |p: &Profile| !p.closed && (p.phone == number || p.claiming == number);
                if other.is_some_and(|o| holds(&o.value)) {
                    let text = "the phone number is another subscriber's: take it from them first";
                    return Err(Error::refused(Code::Conflict, text));
                }
            }
            let mine = Holder {
                user: user.to_string(),
                nonce: self.doors.rng.u64(),
            };
            if tables::replace(&*self.store, &key, raw, &mine).await? {
                return Ok(());
            }
        }
        contended()
    }

    /// Frees a number that the account no longer has.
    async fn release(&self, user: &Address, number: &str) -> Result<(), Error> {
        let key = tables::phone_key(number);
        let held: Option<Held<Holder>> = tables::load(&*self.store, &key).await?;
        if let Some(held) = held.filter(|h| h.value.user == user.as_str()) {
            // one that is another's by now is no longer ours to free
            let ttl = Some(tables::EMPTY_FOR);
            self.store
                .put_if(&key, Some(held.raw), Bytes::new(), ttl)
                .await?;
        }
        Ok(())
    }

    /// The account named by address or phone number; closed ones by address only.
    pub(crate) async fn get(&self, who: &str) -> Result<Account, Error> {
        let user = self.resolve(who, "").await?;
        let held = tables::load_account(&*self.store, &user).await?;
        let held = held.filter(|h| !h.value.draft);
        held.map(|h| h.value.account(&user))
            .ok_or_else(|| no_account(&user))
    }

    /// Ends an account. Its contacts' lists follow from the record.
    pub(crate) async fn close(&self, user: &str) -> Result<Account, Error> {
        let user = address(user)?;
        let _guard = self.lock(&user).await;
        let key = tables::account_key(&user);
        let mut marker = None;
        for _ in 0..TRIES {
            let held = tables::load_account(&*self.store, &user).await?;
            let Some(held) = held.filter(|h| !h.value.draft) else {
                return Err(no_account(&user));
            };
            if held.value.closed {
                return Ok(held.value.account(&user));
            }
            if marker.is_none() {
                marker = Some(self.mark(&user, None).await?);
            }
            let mut new = held.value;
            new.closed = true;
            new.claiming = String::new();
            new.version += 1;
            if tables::replace(&*self.store, &key, Some(held.raw), &new).await? {
                let change = AccountChange {
                    user: user.to_string(),
                    version: new.version,
                    ..AccountChange::default()
                };
                self.publish(change, marker.as_ref()).await?;
                return Ok(new.account(&user));
            }
        }
        contended()
    }

    /// Brings to its end what may have been left half done of a change of the account itself.
    pub(crate) async fn finish_account(&self, user: &Address) -> Result<(), Error> {
        let Some(held) = tables::load_account(&*self.store, user).await? else {
            return Ok(());
        };
        let profile = held.value;
        if profile.closed {
            for (other, _) in tables::sides(&*self.store, user).await? {
                self.end_contact(user, &other).await?;
            }
            for row in tables::devices(&*self.store, user).await? {
                let device = String::from_utf8_lossy(&row.sort).into_owned();
                self.forget_device(user, &device, row.value).await?;
            }
            if !profile.phone.is_empty() {
                self.release(user, &profile.phone).await?;
            }
        } else if !profile.claiming.is_empty() {
            let given_up = Profile {
                claiming: String::new(),
                ..profile
            };
            let key = tables::account_key(user);
            // one that has changed meanwhile is in other hands
            tables::replace(&*self.store, &key, Some(held.raw), &given_up).await?;
        }
        Ok(())
    }

    /// Whose address or phone number this is; national numbers are read by `country`. An address need not
    /// have an account.
    pub(crate) async fn resolve(&self, who: &str, country: &str) -> Result<Address, Error> {
        let who = who.trim();
        if who.contains('@') {
            return address(who);
        }
        let number = phone::normalise(who, country)
            .map_err(|e| Error::refused(Code::InvalidArgument, e.to_string()))?;
        let missing = || {
            Error::refused(
                Code::NotFound,
                format!("nobody here has the number {number}"),
            )
        };
        let held: Option<Held<Holder>> =
            tables::load(&*self.store, &tables::phone_key(&number)).await?;
        let user = address(&held.ok_or_else(missing)?.value.user)?;
        let account = tables::load_account(&*self.store, &user).await?;
        let holds = account.is_some_and(|a| a.value.active() && a.value.phone == number);
        if holds { Ok(user) } else { Err(missing()) }
    }

    /// Takes a push token away if it is still this one.
    pub(crate) async fn forget_device(
        &self,
        user: &Address,
        device: &str,
        expected: Bytes,
    ) -> Result<bool, Error> {
        let key = tables::device_key(user, device);
        let ttl = Some(tables::EMPTY_FOR);
        Ok(self
            .store
            .put_if(&key, Some(expected), Bytes::new(), ttl)
            .await?
            == PutIf::Done)
    }
}
