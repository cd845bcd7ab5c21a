//! Statuses that change: settled, and told to those who may see them.

use std::collections::{BTreeMap, BTreeSet};

use tandem_ephemeral::UserStatus;
use tandem_kernel::Address;

use super::Service;
use crate::{
    domain::{parcel::Sorter, view},
    error::Error,
};

impl Service {
    /// Notes that sessions of these users changed.
    pub(crate) fn note(&self, users: impl IntoIterator<Item = Address>) {
        self.changed.lock().extend(users);
        self.wake.notify_one();
    }

    /// Settles and tells all who were noted. Those for whom it fails are found by the sweep.
    pub(crate) async fn tell_noted(&self) {
        loop {
            let users = take(&mut self.changed.lock(), self.config.settle_batch);
            if users.is_empty() {
                return;
            }
            if let Err(e) = self.settle(&users).await {
                tracing::warn!(error = %e, users = users.len(), "statuses cannot be settled now");
            }
        }
    }

    /// Settles and tells all who are due, and tells those whom it could not tell before.
    pub(crate) async fn sweep(&self) -> Result<(), Error> {
        self.tell_untold().await?;
        loop {
            let due = self.ephemeral.due(self.config.settle_batch).await?;
            self.metrics.swept.add(due.len() as u64);
            if !due.is_empty() {
                self.settle(&due).await?;
            }
            if due.len() < self.config.settle_batch {
                return Ok(());
            }
        }
    }

    async fn settle(&self, users: &[Address]) -> Result<(), Error> {
        let changes = match self.ephemeral.settle(users).await {
            Ok(changes) => changes,
            Err(e) => {
                // it may have been done: then nobody is due any more, and the change is still to be told
                self.untold.lock().extend(users.iter().cloned());
                return Err(e.into());
            }
        };
        self.metrics.changes.add(changes.len() as u64);
        self.tell(changes).await
    }

    async fn tell_untold(&self) -> Result<(), Error> {
        let users = take(&mut self.untold.lock(), self.config.settle_batch);
        if users.is_empty() {
            return Ok(());
        }
        let statuses = match self.ephemeral.statuses(&users).await {
            Ok(statuses) => statuses,
            Err(e) => {
                self.untold.lock().extend(users);
                return Err(e.into());
            }
        };
        let changes = users
            .into_iter()
            .zip(statuses)
            .filter_map(|(u, s)| Some((u, s?)));
        self.tell(changes.collect()).await
    }

    /// Tells these statuses to the users' contacts and to their own sessions.
    async fn tell(&self, changes: Vec<(Address, UserStatus)>) -> Result<(), Error> {
        if changes.is_empty() {
            return Ok(());
        }
        let users: Vec<Address> = changes.iter().map(|(user, _)| user.clone()).collect();
        let done = self.tell_all(&changes).await;
        if done.is_err() {
            self.metrics.retried.add(users.len() as u64);
            self.untold.lock().extend(users);
        }
        done
    }

    async fn tell_all(&self, changes: &[(Address, UserStatus)]) -> Result<(), Error> {
        let users: Vec<Address> = changes.iter().map(|(user, _)| user.clone()).collect();
        let mut sorter = Sorter::default();
        // who is to see which of the changes
        let mut viewers: BTreeMap<Address, Vec<usize>> = BTreeMap::new();
        for (i, relations) in self
            .relations
            .get_many(&users)
            .await
            .into_iter()
            .enumerate()
        {
            let (user, status) = &changes[i];
            sorter.presence(view::presence(user, status));
            viewers.entry(user.clone()).or_default().push(i);
            match relations {
                Ok(relations) => {
                    for viewer in relations.mutual() {
                        match viewers.get_mut(viewer) {
                            Some(seen) => seen.push(i),
                            None => drop(viewers.insert(viewer.clone(), vec![i])),
                        }
                    }
                }
                Err(e) => {
                    tracing::warn!(error = %e, "a status cannot be told yet");
                    self.metrics.retried.add(1);
                    self.untold.lock().insert(user.clone());
                }
            }
        }
        let addresses: Vec<Address> = viewers.keys().cloned().collect();
        let reaches = self.reach(&addresses).await?;
        for ((viewer, seen), reach) in viewers.iter().zip(&reaches) {
            if reach.live.is_empty() {
                continue;
            }
            // whoever blocks a contact does not want to see them; what is not known is not looked up
            let own = self.relations.peek(viewer);
            for i in seen {
                let user = &changes[*i].0;
                if user == viewer || own.as_ref().is_none_or(|r| r.admits(user)) {
                    sorter.to(*i, viewer, reach);
                }
            }
        }
        self.send(sorter).await;
        Ok(())
    }
}

fn take(set: &mut BTreeSet<Address>, most: usize) -> Vec<Address> {
    if set.len() <= most {
        return std::mem::take(set).into_iter().collect();
    }
    std::iter::from_fn(|| set.pop_first()).take(most).collect()
}
