//! Why the edge could not be started.

use tandem_ephemeral::EphemeralError;
use tandem_kernel::Code;

/// An error of [`crate::serve`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The config is wrong; says which key, and what would be right.
    #[error("{0}")]
    Config(String),
    /// The ephemeral store does not answer.
    #[error("taking the lease: {0}")]
    Ephemeral(#[from] EphemeralError),
}

impl Error {
    /// For callers.
    pub fn code(&self) -> Code {
        match self {
            Self::Config(_) => Code::InvalidArgument,
            Self::Ephemeral(e) => e.code(),
        }
    }
}
