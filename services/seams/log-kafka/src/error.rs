//! What Kafka says, as the log's errors.

use rdkafka::{error::KafkaError, error::RDKafkaErrorCode as Code};
use tandem_log::LogError;

/// As an error of `topic`. Whatever may pass is [`LogError::Unavailable`].
pub fn of_code(code: Code, topic: &str) -> LogError {
    match code {
        Code::UnknownTopic
        | Code::UnknownPartition
        | Code::UnknownTopicOrPartition
        | Code::InvalidTopic => LogError::NoTopic(topic.to_owned()),
        Code::BadMessage | Code::InvalidMessage => LogError::Corrupt(code.to_string()),
        _ => LogError::Unavailable(code.to_string()),
    }
}

/// As an error of `topic`.
#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
pub fn of(error: KafkaError, topic: &str) -> LogError {
    match error.rdkafka_error_code() {
        Some(code) => of_code(code, topic),
        None => unavailable(error),
    }
}

/// As an error that may pass.
#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
pub fn unavailable(error: impl ToString) -> LogError {
    LogError::Unavailable(error.to_string())
}

/// Says what a consumer goes on after by itself.
pub fn passes(error: &KafkaError, topic: &str) {
    match error.rdkafka_error_code() {
        Some(Code::TopicAuthorizationFailed | Code::GroupAuthorizationFailed) => {
            tracing::error!(%error, topic, "reading is not allowed: grant Read on the topic and the group");
        }
        Some(Code::PollExceeded) => {
            tracing::warn!(
                topic,
                "records were not asked for in time, and the partitions go to others"
            );
        }
        Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => {
            tracing::warn!(%error, topic, "reading failed; trying again");
        }
        _ => tracing::debug!(%error, topic, "reading failed; trying again"),
    }
}
