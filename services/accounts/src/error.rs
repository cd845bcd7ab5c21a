//! What can go wrong, each with its code.

use tandem_kernel::Code;
use tandem_log::LogError;
use tandem_store::StoreError;

use crate::domain::relation::Refusal;

/// Why a call did not succeed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Refused, for a reason that the caller can act upon.
    #[error("{1}")]
    Refused(Code, String),
    /// The store did not do as asked.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log did not do as asked.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A stored row cannot be read.
    #[error("a row of {0} cannot be read")]
    Row(&'static str),
}

impl Error {
    /// A refusal.
    pub fn refused(code: Code, text: impl Into<String>) -> Self {
        Self::Refused(code, text.into())
    }

    /// For callers and metrics.
    pub fn code(&self) -> Code {
        match self {
            Self::Refused(code, _) => *code,
            Self::Store(e) => e.code(),
            Self::Log(e) => e.code(),
            Self::Row(_) => Code::Internal,
        }
    }

    /// Whether the same again may succeed later.
    pub fn is_transient(&self) -> bool {
        self.code() == Code::Unavailable
    }
}

impl From<Refusal> for Error {
    fn from(r: Refusal) -> Self {
        Self::Refused(r.code, r.text.to_owned())
    }
}
