//! Why push cannot do its work.

use tandem_chassis::http::HttpError;
use tandem_ephemeral::EphemeralError;
use tandem_kernel::Code;
use tandem_log::LogError;

use crate::web_push::vapid::KeyError;

/// Why push cannot do its work.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The ephemeral store.
    #[error(transparent)]
    Ephemeral(#[from] EphemeralError),
    /// The HTTP client cannot be made.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The VAPID key.
    #[error("push.vapid_private_key: {0}")]
    Key(#[from] KeyError),
    /// Another service did not do as asked.
    #[error("{service} failed: {message}")]
    Service {
        /// Which.
        service: &'static str,
        /// Its code.
        code: Code,
        /// Its text.
        message: String,
    },
}

impl Error {
    /// For callers and metrics.
    pub fn code(&self) -> Code {
        match self {
            Self::Log(e) => e.code(),
            Self::Ephemeral(e) => e.code(),
            Self::Http(_) => Code::Unavailable,
            Self::Key(_) => Code::InvalidArgument,
            Self::Service { code, .. } => *code,
        }
    }
}
