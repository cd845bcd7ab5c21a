//! Relations: reading them, changing one's own side, and driving the change to the other side.

use tandem_kernel::{Address, Code, event::PairChange};
use tandem_proto::{
    accounts::RelationsResponse,
    client::{Contact, ContactChange, contact::State, contact_change::Action},
};

use super::{Service, TRIES, address, contended, no_account, publish};
use crate::{
    domain::{
        profile,
        relation::{Changed, Register, Relation, Side},
    },
    error::Error,
    tables::{self, Held},
};

/// A side as read, with the octets to expect at the put-if; `None`: no row.
type Read = (Side, Option<bytes::Bytes>);

impl Service {
    /// All relations of a user that are shown. The version is read first, so what is read is at least as
    /// new as it says.
    pub(crate) async fn relations(&self, user: &str) -> Result<RelationsResponse, Error> {
        let user = address(user)?;
        let held = tables::load_account(&*self.store, &user).await?;
        let profile = held.map(|h| h.value).unwrap_or_default();
        if !profile.active() || profile.version == 0 {
            // the version is there all the same: whoever waits for it need not ask again
            let version = profile.version;
            return Ok(RelationsResponse {
                version,
                ..RelationsResponse::default()
            });
        }
        let sides = tables::sides(&*self.store, &user).await?;
        let shown = sides.iter().filter(|(_, side)| side.state() != State::None);
        Ok(RelationsResponse {
            exists: true,
            version: profile.version,
            contacts: shown
                .map(|(other, side)| publish::contact(other, side))
                .collect(),
            country: profile.country,
            brand: profile.brand,
            plan: profile.plan,
            name: profile.name,
        })
    }

    /// Changes a relation on behalf of `user` and returns it as it is then.
    pub(crate) async fn change_contact(
        &self,
        user: &str,
        change: &ContactChange,
    ) -> Result<Contact, Error> {
        let user = address(user)?;
        let me = tables::load_account(&*self.store, &user).await?;
        let me = me
            .filter(|m| m.value.active())
            .ok_or_else(|| no_account(&user))?;
        let other = self.resolve(&change.who, &me.value.country).await?;
        if other == user {
            return Err(Error::refused(
                Code::InvalidArgument,
                "that is your own address",
            ));
        }
        let action = change.action();
        let given = profile::check_name(&change.name)?;
        let theirs = self.name_of(&other).await?;
        if action == Action::Request && theirs.is_none() {
            return Err(Error::refused(
                Code::NotFound,
                format!("there is no account {other}"),
            ));
        }
        let theirs = theirs.unwrap_or_else(|| other.local().to_owned());
        // a rename to nothing takes the name that they chose
        let given = if given.is_empty() && action == Action::Rename {
            &theirs
        } else {
            given
        };
        let decide = |side: &Side| {
            let mut changed = side.change(action, given)?;
            if let Some(c) = changed.as_mut().filter(|c| c.side.name.is_empty()) {
                c.side.name.clone_from(&theirs);
            }
            Ok(changed)
        };
        let side = self
            .change_side(&user, &other, action.into(), decide)
            .await?;
        Ok(publish::contact(&other, &side))
    }

    /// Makes two subscribers contacts of each other; both sides are once it returns.
    pub(crate) async fn connect(&self, a: &str, b: &str) -> Result<(), Error> {
        let (a, b) = (address(a)?, address(b)?);
        if a == b {
            return Err(Error::refused(
                Code::InvalidArgument,
                "a and b are the same subscriber",
            ));
        }
        let mut names = Vec::new();
        for user in [&a, &b] {
            names.push(self.name_of(user).await?.ok_or_else(|| no_account(user))?);
        }
        let decide = |side: &Side| {
            Ok(side.connect().map(|mut side| {
                if side.name.is_empty() {
                    side.name.clone_from(&names[1]);
                }
                Changed { side, tell: true }
            }))
        };
        let action = Action::Unspecified.into();
        let side = self.change_side(&a, &b, action, decide).await?;
        // the record does the same; doing it here spares the caller to wait for that
        self.receive(&a, &publish::pair(&b, &side, action)).await?;
        let (other, _) = self.side(&b, &a).await?;
        self.receive(&b, &publish::pair(&a, &other, action)).await?;
        Ok(())
    }

    /// Ends a contact on behalf of an account that is closed.
    pub(crate) async fn end_contact(&self, user: &Address, other: &Address) -> Result<(), Error> {
        let decide = |side: &Side| match side.relation() {
            Relation::None => Ok(None),
            _ => Ok(side.change(Action::Remove, "")?),
        };
        self.change_side(user, other, Action::Remove.into(), decide)
            .await?;
        Ok(())
    }

    /// Changes `user`'s own side as `decide` says, so that the other side's half follows whatever
    /// happens: the marker is there before the change, and goes once the change has come to its end.
    async fn change_side(
        &self,
        user: &Address,
        other: &Address,
        action: i32,
        decide: impl Fn(&Side) -> Result<Option<Changed>, Error>,
    ) -> Result<Side, Error> {
        let _guard = self.lock(user).await;
        let key = tables::contact_key(user, other);
        let mut marker = None;
        for _ in 0..TRIES {
            let (side, raw) = self.side(user, other).await?;
            let changed = match (decide(&side), &marker) {
                (Ok(Some(changed)), _) => changed,
                (unchanged, None) => return unchanged.map(|_| side),
                (unchanged, Some(_)) => {
                    // another process was faster; its own marker stands for what it did
                    self.unmark(marker.take()).await?;
                    return unchanged.map(|_| side);
                }
            };
            if marker.is_none() {
                marker = Some(self.mark(user, Some(other)).await?);
            }
            if !tables::replace(&*self.store, &key, raw, &changed.side).await? {
                continue;
            }
            self.metrics.contact_changes.add(1);
            let tell = changed.tell.then_some(action);
            let header = marker.as_ref().filter(|_| changed.tell);
            self.announce(user, other, &changed.side, side.state(), tell, header)
                .await?;
            if !changed.tell {
                self.unmark(marker.take()).await?;
            }
            return Ok(changed.side);
        }
        self.unmark(marker).await?;
        contended()
    }

    async fn unmark(&self, marker: Option<tables::Marker>) -> Result<(), Error> {
        if let Some(marker) = marker {
            marker.clear(&*self.store).await?;
        }
        Ok(())
    }

    /// Takes over on `pair.other`'s side what `from` changed on its own. Applying it again changes
    /// nothing; the record of a change that was applied but perhaps not told is written again.
    pub(crate) async fn receive(&self, from: &Address, pair: &PairChange) -> Result<(), Error> {
        let user = address(&pair.other)?;
        let register = Register {
            version: pair.version,
            consent: pair.consent,
            cancels: pair.cancels,
            connected: pair.connected,
        };
        let name = self.name_of(from).await?;
        let _guard = self.lock(&user).await;
        let key = tables::contact_key(&user, from);
        let mut marker = None;
        for _ in 0..TRIES {
            let account = tables::load_account(&*self.store, &user).await?;
            let closed = !account.is_some_and(|a| a.value.active());
            let (side, raw) = self.side(&user, from).await?;
            let Some(Changed {
                side: mut new,
                tell,
            }) = side.receive(register, closed)
            else {
                let hidden = matches!(side.state(), State::Blocked)
                    || side.relation() == Relation::AskedBy && side.state() == State::None;
                if side.peer == register && !hidden {
                    self.announce(&user, from, &side, State::Unspecified, None, None)
                        .await?;
                }
                return Ok(());
            };
            if new.name.is_empty() {
                new.name = name.clone().unwrap_or_else(|| from.local().to_owned());
            }
            if tell && marker.is_none() {
                marker = Some(self.mark(&user, Some(from)).await?);
            }
            if !tables::replace(&*self.store, &key, raw, &new).await? {
                continue;
            }
            if tell || new.state() != side.state() {
                self.announce(
                    &user,
                    from,
                    &new,
                    side.state(),
                    tell.then_some(0),
                    marker.as_ref(),
                )
                .await?;
            }
            return Ok(());
        }
        contended()
    }

    /// Tells again what `user`'s side of the pair is, for a change whose record may be lost.
    pub(crate) async fn tell_again(
        &self,
        user: &Address,
        other: &Address,
        marker: &tables::Marker,
    ) -> Result<(), Error> {
        let _guard = self.lock(user).await;
        let (side, raw) = self.side(user, other).await?;
        if raw.is_none() {
            // it was never made
            return Ok(marker.clear(&*self.store).await?);
        }
        self.announce(
            user,
            other,
            &side,
            State::Unspecified,
            Some(0),
            Some(marker),
        )
        .await
    }

    async fn side(&self, user: &Address, other: &Address) -> Result<Read, Error> {
        let held: Option<Held<Side>> =
            tables::load(&*self.store, &tables::contact_key(user, other)).await?;
        Ok(held.map_or_else(|| (Side::default(), None), |h| (h.value, Some(h.raw))))
    }

    /// The name that an active account shows.
    async fn name_of(&self, user: &Address) -> Result<Option<String>, Error> {
        let held = tables::load_account(&*self.store, user).await?;
        Ok(held.filter(|h| h.value.active()).map(|h| h.value.name))
    }
}
