//! What push needs beyond the seams: a way to a device.

use std::time::Duration;

use async_trait::async_trait;
use tandem_kernel::Code;
use tandem_proto::client::{PushToken, WebPush};

use crate::domain::notification::Notice;

/// A device that can be notified.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// Whose.
    pub user: String,
    /// The device.
    pub device: String,
    /// How to reach it, as it was registered.
    pub token: PushToken,
    /// The Web Push subscription in the token.
    pub web_push: WebPush,
    /// Brand of the subscriber.
    pub brand: String,
}

/// What became of an attempt to notify a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The channel has taken it.
    Delivered,
    /// The device is not reached there any more, and never will be.
    Dead,
    /// Not now; the channel may say how long to wait.
    Retry {
        /// How long the channel asked to wait.
        after: Option<Duration>,
        /// Why, for people; no message text.
        reason: String,
    },
    /// Never like this.
    Refused {
        /// Code of the reason.
        code: Code,
        /// Why, for people; no message text.
        reason: String,
    },
}

/// A way to devices.
#[async_trait]
pub trait Channel: Send + Sync + 'static {
    /// For metrics.
    fn name(&self) -> &'static str;

    /// The service behind the target, of which few requests are sent at once.
    fn service(&self, target: &Target) -> String;

    /// Makes one attempt. Ends within the configured time.
    async fn send(&self, target: &Target, notice: &Notice<'_>) -> Outcome;
}
