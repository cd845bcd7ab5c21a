//! How topics, partitions' beginnings and groups' commits lie in the keyspace `meta`.

use std::{sync::Arc, time::Duration};

use bytes::Buf;
use tandem_log::{LogError, Retention};

const TOPIC: u8 = b't';
const LOW: u8 = b'l';
const COMMIT: u8 = b'c';

/// Keys of topics begin with it, and go on with the name.
pub const TOPICS: [u8; 1] = [TOPIC];

/// Key of a topic.
pub fn topic_key(name: &str) -> Vec<u8> {
    let mut key = vec![TOPIC];
    key.extend_from_slice(name.as_bytes());
    key
}

/// Key of where a partition begins.
pub fn low_key(topic: u32, partition: u32) -> Vec<u8> {
    let mut key = vec![LOW];
    key.extend_from_slice(&topic.to_be_bytes());
    key.extend_from_slice(&partition.to_be_bytes());
    key
}

/// Keys of a topic's commits begin with it.
pub fn commit_prefix(topic: u32) -> Vec<u8> {
    let mut key = vec![COMMIT];
    key.extend_from_slice(&topic.to_be_bytes());
    key
}

/// Key of a group's place in a partition.
pub fn commit_key(topic: u32, group: &str, partition: u32) -> Vec<u8> {
    let mut key = commit_prefix(topic);
    key.extend_from_slice(&partition.to_be_bytes());
    key.extend_from_slice(group.as_bytes());
    key
}

/// Group and partition of a commit's key.
pub fn decode_commit_key(key: &[u8]) -> Option<(Arc<str>, u32)> {
    let mut rest = key.get(5..)?;
    let partition = rest.try_get_u32().ok()?;
    Some((std::str::from_utf8(rest).ok()?.into(), partition))
}

/// Reads an offset.
pub fn decode_u64(mut value: &[u8]) -> Result<u64, LogError> {
    value
        .try_get_u64()
        .map_err(|_| LogError::Corrupt("an offset".into()))
}

/// Id (u32), partitions (u32), then 0 and age in ms (u64, `MAX`: none) and bytes (u64, `MAX`: no bound), or 1.
pub fn encode_topic(id: u32, partitions: u32, retention: &Retention) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(&partitions.to_be_bytes());
    match retention {
        Retention::Compact => out.push(1),
        Retention::Delete { age, bytes } => {
            let age = age.map_or(u64::MAX, |a| {
                u64::try_from(a.as_millis()).unwrap_or(u64::MAX)
            });
            out.push(0);
            out.extend_from_slice(&age.to_be_bytes());
            out.extend_from_slice(&bytes.unwrap_or(u64::MAX).to_be_bytes());
        }
    }
    out
}

/// Id, partitions and retention.
pub fn decode_topic(mut value: &[u8]) -> Option<(u32, u32, Retention)> {
    let id = value.try_get_u32().ok()?;
    let partitions = value.try_get_u32().ok()?;
    let retention = if value.try_get_u8().ok()? == 1 {
        Retention::Compact
    } else {
        let (age, bytes) = (value.try_get_u64().ok()?, value.try_get_u64().ok()?);
        Retention::Delete {
            age: (age < u64::MAX).then(|| Duration::from_millis(age)),
            bytes: (bytes < u64::MAX).then_some(bytes),
        }
    };
    Some((id, partitions, retention))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_read_back_as_it_was_written() {
        let age = Some(Duration::from_millis(1234));
        for retention in [
            Retention::Compact,
            Retention::Delete {
                age: None,
                bytes: None,
            },
            Retention::Delete { age, bytes: None },
            Retention::Delete {
                age,
                bytes: Some(7),
            },
        ] {
            let written = encode_topic(3, 16, &retention);
            assert_eq!(decode_topic(&written), Some((3, 16, retention)));
            for cut in 0..written.len() {
                assert_eq!(decode_topic(&written[..cut]), None);
            }
        }
    }

    #[test]
    fn a_commits_key_names_group_and_partition() {
        let key = commit_key(7, "routing", 300);
        assert!(key.starts_with(&commit_prefix(7)));
        assert_eq!(decode_commit_key(&key), Some(("routing".into(), 300)));
    }
}
