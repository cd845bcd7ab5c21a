//! Ids: of events, sessions, devices and edges.

use std::fmt;

use smol_str::SmolStr;
use uuid::Uuid;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Of an event.
    #[error("an event id is a UUIDv7 in its usual form of 36 characters")]
    Event,
    /// Of a session.
    #[error("a session id is a UUID")]
    Session,
    /// Of a device.
    #[error("a device id is 1 to 64 characters of A-Z a-z 0-9 . _ -")]
    Device,
}

/// A sender-made id of an event: UUIDv7 (RFC 9562, section 5.7). Counts for its sender alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(pub Uuid);

impl EventId {
    /// Reads the usual text form (RFC 9562, section 4); refuses other versions than 7.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        match Uuid::try_parse(text) {
            Ok(u) if u.get_version_num() == 7 && text.len() == 36 => Ok(Self(u)),
            _ => Err(IdError::Event),
        }
    }

    /// Makes an id from a time (milliseconds since 1970) and 10 random octets.
    pub fn new(unix_ms: u64, random: &[u8; 10]) -> Self {
        Self(uuid::Builder::from_unix_timestamp_millis(unix_ms, random).into_uuid())
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A session's id: 16 random octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u128);

impl SessionId {
    /// Reads the UUID form that `Welcome.session` has.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        Uuid::try_parse(text)
            .map(|u| Self(u.as_u128()))
            .map_err(|_| IdError::Session)
    }

    /// Reads 16 octets.
    pub fn from_slice(octets: &[u8]) -> Result<Self, IdError> {
        octets
            .try_into()
            .map(|o| Self(u128::from_be_bytes(o)))
            .map_err(|_| IdError::Session)
    }

    /// The 16 octets.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Uuid::from_u128(self.0).fmt(f)
    }
}

/// A subscriber's own name for a device.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId(SmolStr);

impl DeviceId {
    /// Reads a device id.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let ok = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if text.is_empty() || text.len() > 64 || !text.chars().all(ok) {
            return Err(IdError::Device);
        }
        Ok(Self(SmolStr::new(text)))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An edge process, by the address at which its `Edge` service is reached. A restarted edge has a
/// new one (an incarnation is appended), so that what was meant for the old never reaches the new.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EdgeId(SmolStr);

impl EdgeId {
    /// The edge at `target` (as the chassis' connector names it), in its `incarnation`.
    pub fn new(target: &str, incarnation: u64) -> Self {
        Self(SmolStr::from(format!("{target}#{incarnation:x}")))
    }

    /// Takes an id as it stands in the ephemeral store.
    pub fn from_stored(text: &str) -> Self {
        Self(SmolStr::new(text))
    }

    /// Where to connect to.
    pub fn target(&self) -> &str {
        self.0.split_once('#').map_or(&self.0, |(t, _)| t)
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EdgeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
