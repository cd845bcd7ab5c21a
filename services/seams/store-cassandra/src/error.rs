//! What the cluster and the driver say, in the store's terms.

use scylla::errors::{DbError, ExecutionError, RequestAttemptError};
use tandem_store::StoreError;

/// What kind of failure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// No answer in time: whether it was done is not known.
    Timeout,
    /// Too few nodes can be reached. If a connection broke, whether it was done is not known.
    Unreachable,
    /// Too much is asked of a node; it was not done.
    Overloaded,
    /// A node tried and could not: whether it was done is not known.
    Failed,
    /// It is wrong, or not permitted.
    Refused,
    /// The answer cannot be understood.
    Unreadable,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Timeout,
        Self::Unreachable,
        Self::Overloaded,
        Self::Failed,
        Self::Refused,
        Self::Unreadable,
    ];

    /// For metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Overloaded => "overloaded",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::Unreadable => "unreadable",
        }
    }

    /// The same again may do better.
    pub fn may_pass(self) -> bool {
        !matches!(self, Self::Refused | Self::Unreadable)
    }
}

/// A request's failure.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub kind: Kind,
    pub reason: String,
    /// It was not done, for certain, and will not be.
    pub undone: bool,
}

impl Failure {
    /// An answer that cannot be understood.
    #[allow(clippy::needless_pass_by_value, reason = "for map_err")]
    pub fn unreadable(reason: impl ToString) -> Self {
        Self {
            kind: Kind::Unreadable,
            reason: reason.to_string(),
            undone: false,
        }
    }
}

impl From<ExecutionError> for Failure {
    fn from(error: ExecutionError) -> Self {
        let (kind, undone) = match &error {
            ExecutionError::RequestTimeout(_) => (Kind::Timeout, false),
            ExecutionError::EmptyPlan | ExecutionError::ConnectionPoolError(_) => {
                (Kind::Unreachable, true)
            }
            ExecutionError::LastAttemptError(error) => of_attempt(error),
            ExecutionError::SchemaAgreementError(_) | ExecutionError::MetadataError(_) => {
                (Kind::Failed, false)
            }
            _ => (Kind::Refused, true),
        };
        Self {
            kind,
            reason: error.to_string(),
            undone,
        }
    }
}

fn of_attempt(error: &RequestAttemptError) -> (Kind, bool) {
    match error {
        RequestAttemptError::BrokenConnectionError(_) => (Kind::Unreachable, false),
        RequestAttemptError::UnableToAllocStreamId => (Kind::Overloaded, true),
        RequestAttemptError::DbError(error, _) => match error {
            DbError::WriteTimeout { .. } | DbError::ReadTimeout { .. } => (Kind::Timeout, false),
            DbError::Unavailable { .. } => (Kind::Unreachable, true),
            DbError::Overloaded | DbError::RateLimitReached { .. } => (Kind::Overloaded, false),
            DbError::IsBootstrapping => (Kind::Overloaded, true),
            DbError::ServerError
            | DbError::TruncateError
            | DbError::ReadFailure { .. }
            | DbError::WriteFailure { .. }
            | DbError::Other(_) => (Kind::Failed, false),
            _ => (Kind::Refused, true),
        },
        RequestAttemptError::SerializationError(_)
        | RequestAttemptError::CqlRequestSerialization(_) => (Kind::Refused, true),
        _ => (Kind::Unreadable, false),
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure.kind {
            Kind::Unreadable => Self::Corrupt(failure.reason),
            kind => Self::Unavailable(format!("cassandra: {}: {}", kind.as_str(), failure.reason)),
        }
    }
}
