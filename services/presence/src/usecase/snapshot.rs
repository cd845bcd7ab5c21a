//! The statuses of users as a viewer may see them.

use std::sync::Arc;

use tandem_kernel::Address;
use tandem_proto::client::Presence;

use super::{Service, address};
use crate::{
    domain::view::{self, sees},
    error::Error,
};

/// Users that one call may ask for.
const MOST: usize = 10_000;

impl Service {
    /// Of `users`, or of all contacts if that is empty. Whoever may not be seen, or is not known to be
    /// seen, is offline.
    pub(crate) async fn snapshot(
        &self,
        viewer: &str,
        users: &[String],
    ) -> Result<Vec<Presence>, Error> {
        let viewer = address(viewer)?;
        let own = self.relations.get(&viewer).await?;
        let users: Vec<Address> = if users.is_empty() {
            own.mutual().to_vec()
        } else {
            users
                .iter()
                .take(MOST)
                .map(|u| address(u))
                .collect::<Result<_, _>>()?
        };
        let wanted: Vec<Address> = users
            .iter()
            .filter(|u| **u == viewer || own.admits(u))
            .cloned()
            .collect();
        let relations = self.relations.get_many(&wanted).await;
        let seen: Vec<Address> = wanted
            .into_iter()
            .zip(relations)
            .filter_map(|(user, r)| match r {
                Ok(theirs) => sees(&viewer, &own, &user, &theirs).then_some(user),
                Err(e) => {
                    tracing::warn!(error = %e, "a contact is shown offline, because it is not known whether they may be seen");
                    None
                }
            })
            .collect();
        let statuses = self.ephemeral.statuses(&seen).await?;
        let mut known: std::collections::BTreeMap<_, _> = seen.iter().zip(statuses).collect();
        Ok(users
            .iter()
            .map(|u| view::snapshot(u, known.remove(u).flatten().as_ref()))
            .collect())
    }

    /// Whether the viewer may see the subject.
    pub(crate) async fn sees(&self, viewer: &Address, subject: &Address) -> Result<bool, Error> {
        let of_viewer = self.relations.get(viewer).await?;
        let of_subject: Arc<_> = self.relations.get(subject).await?;
        Ok(sees(viewer, &of_viewer, subject, &of_subject))
    }
}
