//! Driving on what was left half done: changes whose record never reached the log, or was lost to
//! compaction before it was handled.

use tandem_kernel::{Address, UnixMillis, event::AccountChange};

use super::Service;
use crate::{
    error::Error,
    tables::{self, BUCKETS, Marker},
};

impl Service {
    /// Drives on each change that was last driven before `before`, or, as a clock had it that is ahead of
    /// this one, later than now.
    pub(crate) async fn resume(&self, before: UnixMillis) -> Result<(), Error> {
        for bucket in 0..BUCKETS {
            for (marker, at) in Marker::list(&*self.store, bucket).await? {
                if at < before || at > self.doors.clock.unix() {
                    self.drive(&marker).await?;
                    self.metrics.resumed.add(1);
                }
            }
        }
        Ok(())
    }

    async fn drive(&self, marker: &Marker) -> Result<(), Error> {
        if let Some(other) = &marker.other {
            // the record clears it; until then it need not be driven again for a while
            marker.set(&*self.store, self.doors.clock.unix()).await?;
            return self.tell_again(&marker.user, other, marker).await;
        }
        self.finish_account(&marker.user).await?;
        self.tell_account(&marker.user).await?;
        Ok(marker.clear(&*self.store).await?)
    }

    async fn tell_account(&self, user: &Address) -> Result<(), Error> {
        let Some(held) = tables::load_account(&*self.store, user).await? else {
            return Ok(());
        };
        let version = held.value.version;
        let change = AccountChange {
            user: user.to_string(),
            version,
            ..AccountChange::default()
        };
        self.publish(change, None).await
    }
}
