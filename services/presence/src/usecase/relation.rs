//! Relations that change: told to the user's sessions, and what follows for who sees whom.

use std::collections::{BTreeMap, BTreeSet};

use tandem_ephemeral::Reach;
use tandem_kernel::{Address, event::AccountChange};
use tandem_proto::client::{Contact, ContactEvent, Status, contact::State};

use super::{Service, address};
use crate::{
    domain::{
        parcel::Sorter,
        view::{self, Exchange, exchange},
    },
    error::Error,
};

/// A change of a relation, read.
pub(crate) struct Change {
    pub user: Address,
    pub version: u64,
    pub was: State,
    /// Unset: something else changed.
    pub contact: Option<(Address, Contact)>,
}

impl Change {
    pub(crate) fn read(change: AccountChange) -> Result<Self, Error> {
        let was = change.was();
        let contact = match change.contact {
            Some(contact) => Some((address(&contact.user)?, contact)),
            None => None,
        };
        Ok(Self {
            user: address(&change.user)?,
            version: change.version,
            was,
            contact,
        })
    }
}

/// Where the people of some changes are to be reached.
pub(crate) type Reaches = BTreeMap<Address, Reach>;

impl Service {
    /// Looks up in one go whom these changes concern.
    pub(crate) async fn reaches(
        &self,
        changes: impl Iterator<Item = &Change>,
    ) -> Result<Reaches, Error> {
        let mut people = BTreeSet::new();
        for change in changes {
            self.relations.changed(&change.user, change.version);
            if let Some((other, _)) = &change.contact {
                people.extend([change.user.clone(), other.clone()]);
            }
        }
        let people: Vec<Address> = people.into_iter().collect();
        let reaches = self.reach(&people).await?;
        Ok(people.into_iter().zip(reaches).collect())
    }

    /// Tells the sessions concerned of a change.
    pub(crate) async fn relation_changed(
        &self,
        change: &Change,
        reaches: &Reaches,
    ) -> Result<(), Error> {
        let user = &change.user;
        let Some((other, contact)) = &change.contact else {
            return Ok(());
        };
        let (Some(mine), Some(theirs)) = (reaches.get(user), reaches.get(other)) else {
            return Ok(());
        };
        if mine.live.is_empty() && theirs.live.is_empty() {
            // most of an import's people are not here
            return Ok(());
        }
        let mut sorter = Sorter::default();
        if !mine.live.is_empty() {
            let frame = sorter.contact(ContactEvent {
                contact: Some(contact.clone()),
            });
            sorter.to(frame, user, mine);
        }
        match exchange(change.was, contact) {
            Exchange::Show => {
                // the record of the other side comes before or after this one: whichever is the later
                // finds both consenting, so each shows both
                self.show(&mut sorter, user, other, mine).await?;
                self.show(&mut sorter, other, user, theirs).await?;
            }
            Exchange::Hide => {
                self.hide(&mut sorter, other, user, contact.state(), theirs)
                    .await?;
            }
            Exchange::Nothing => {}
        }
        self.send(sorter).await;
        Ok(())
    }

    /// `viewer` gets the status of `subject`, if they may see it, in a version above all before.
    async fn show(
        &self,
        sorter: &mut Sorter,
        viewer: &Address,
        subject: &Address,
        reach: &Reach,
    ) -> Result<(), Error> {
        if reach.live.is_empty() || !self.sees(viewer, subject).await? {
            return Ok(());
        }
        if let Some(status) = self.renumber_online(subject).await? {
            let frame = sorter.presence(view::presence(subject, &status));
            sorter.to(frame, viewer, reach);
        }
        Ok(())
    }

    /// `viewer`, who saw `subject` until now, gets them offline. The version is a new one of the
    /// subject's, so that nothing on its way overtakes it, and what is shown later is above it.
    async fn hide(
        &self,
        sorter: &mut Sorter,
        viewer: &Address,
        subject: &Address,
        state: State,
        reach: &Reach,
    ) -> Result<(), Error> {
        if reach.live.is_empty() {
            return Ok(());
        }
        // a contact that has ended is told as such; whoever is blocked must have been a contact
        if state == State::Blocked && !self.relations.get(viewer).await?.admits(subject) {
            return Ok(());
        }
        if let Some(status) = self.renumber_online(subject).await? {
            let frame = sorter.presence(view::offline(subject, status.version));
            sorter.to(frame, viewer, reach);
        }
        Ok(())
    }

    /// `None` if the user is offline: nobody sees them otherwise, and another frame that says so would tell
    /// that something happened.
    async fn renumber_online(
        &self,
        user: &Address,
    ) -> Result<Option<tandem_ephemeral::UserStatus>, Error> {
        let users = std::slice::from_ref(user);
        let status = self
            .ephemeral
            .statuses(users)
            .await?
            .into_iter()
            .next()
            .flatten();
        if status.is_none_or(|s| s.status == Status::Offline) {
            return Ok(None);
        }
        let status = self
            .ephemeral
            .renumber(users)
            .await?
            .into_iter()
            .next()
            .flatten();
        Ok(status.filter(|s| s.status != Status::Offline))
    }
}
