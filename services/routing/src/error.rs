//! What can go wrong in routing, and the code that each case has.

use tandem_ephemeral::EphemeralError;
use tandem_kernel::Code;
use tandem_log::LogError;
use tandem_store::StoreError;

/// Why routing could not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The config is wrong.
    #[error("routing.{0}")]
    Config(String),
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The ephemeral store.
    #[error(transparent)]
    Ephemeral(#[from] EphemeralError),
    /// A row of the directory that cannot be read.
    #[error("the directory's row of a conversation cannot be read: {0}")]
    Row(String),
    /// A service behind routing does not answer.
    #[error("{0} does not answer")]
    Peer(&'static str),
    /// What the caller asked for was refused.
    #[error("{1}")]
    Refused(Code, &'static str),
}

impl Error {
    /// For callers and metrics.
    pub fn code(&self) -> Code {
        match self {
            Self::Config(_) => Code::InvalidArgument,
            Self::Log(e) => e.code(),
            Self::Store(e) => e.code(),
            Self::Ephemeral(e) => e.code(),
            Self::Row(_) => Code::Internal,
            Self::Peer(_) => Code::Unavailable,
            Self::Refused(code, _) => *code,
        }
    }
}
