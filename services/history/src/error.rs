//! What can go wrong in history, as callers are told.

use tandem_kernel::Code;
use tandem_log::LogError;
use tandem_store::StoreError;

/// Why history did not do as asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The store failed.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The log failed.
    #[error("{0}")]
    Log(#[from] LogError),
    /// A request's field has a value that it must not have.
    #[error("{0}")]
    Invalid(String),
    /// The person never was a member of the conversation.
    #[error("not a member of the conversation")]
    NotAMember,
    /// What was read cannot be understood.
    #[error("row cannot be read: {0}")]
    Corrupt(String),
    /// The topic's partitions are not known yet.
    #[error("history has not reached the log yet")]
    NotReady,
    /// The process is going down.
    #[error("history is going down")]
    Draining,
}

impl Error {
    /// For callers and metrics.
    pub fn code(&self) -> Code {
        match self {
            Self::Store(e) => e.code(),
            Self::Log(e) => e.code(),
            Self::Invalid(_) => Code::InvalidArgument,
            Self::NotAMember => Code::NotAMember,
            Self::Corrupt(_) => Code::Internal,
            Self::NotReady => Code::Unavailable,
            Self::Draining => Code::Draining,
        }
    }
}
