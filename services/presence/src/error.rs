//! What can go wrong, each with its code.

use tandem_ephemeral::EphemeralError;
use tandem_kernel::Code;
use tandem_log::LogError;

/// Why something did not succeed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Refused, for a reason that the caller can act upon.
    #[error("{1}")]
    Refused(Code, String),
    /// accounts does not answer.
    #[error("accounts does not answer: {0}")]
    Accounts(String),
    /// The ephemeral store did not do as asked.
    #[error(transparent)]
    Ephemeral(#[from] EphemeralError),
    /// The log did not do as asked.
    #[error(transparent)]
    Log(#[from] LogError),
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
            Self::Accounts(_) => Code::Unavailable,
            Self::Ephemeral(e) => e.code(),
            Self::Log(e) => e.code(),
        }
    }
}
