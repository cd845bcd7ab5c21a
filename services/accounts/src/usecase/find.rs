//! Finding a subscriber.

use tandem_kernel::Code;
use tandem_proto::client::Found;

use super::{Service, address};
use crate::{error::Error, tables};

impl Service {
    /// Whom an address or number names, if that is an active account; numbers are read by the country of
    /// `viewer`. A block changes nothing in the answer.
    pub(crate) async fn find(&self, viewer: &str, who: &str) -> Result<Found, Error> {
        let viewer = tables::load_account(&*self.store, &address(viewer)?).await?;
        let country = viewer.map(|v| v.value.country).unwrap_or_default();
        let user = self.resolve(who, &country).await?;
        match tables::load_account(&*self.store, &user)
            .await?
            .filter(|a| a.value.active())
        {
            Some(found) => Ok(Found {
                user: user.to_string(),
                name: found.value.name,
            }),
            None => Err(Error::refused(
                Code::NotFound,
                format!("there is no account {user}"),
            )),
        }
    }
}
