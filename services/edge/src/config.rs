//! The section `[edge]`.

use serde::{Deserialize, Serialize};

/// How an edge treats its connections.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where this edge's `Edge` service is reached, as the other services' connectors name it
    /// (`host:port`, or a name in one process).
    pub target: String,
    /// Domain of users whose token's `sub` has none.
    pub domain: String,
    /// Whose tokens are accepted.
    pub issuers: Vec<IssuerConfig>,
    /// Accept tokens of a development issuer. Never in production.
    pub dev_issuer: bool,
    /// How far the issuer's clock may be off, in milliseconds.
    pub token_leeway_ms: u64,
    /// How long a session outlives its token for the renewal, in milliseconds.
    pub token_grace_ms: u64,
    /// Shortest time between two fetches of an issuer's keys, in milliseconds.
    pub keys_refetch_ms: u64,
    /// Time for the first frame, in milliseconds.
    pub hello_ms: u64,
    /// Heartbeat asked of devices; a silence of 2.5 times this closes the connection, in milliseconds.
    pub heartbeat_ms: u64,
    /// How long a session waits for its device to come back, in milliseconds.
    pub resume_ms: u64,
    /// Largest frame from a device, in bytes.
    pub frame_bytes: u32,
    /// Largest text, in bytes of UTF-8.
    pub text_bytes: u32,
    /// Submitted events a second and session, sustained.
    pub events_per_s: u32,
    /// Burst of submitted events.
    pub events_burst: u32,
    /// Other frames a second and session, sustained.
    pub frames_per_s: u32,
    /// Burst of other frames.
    pub frames_burst: u32,
    /// Conversations in which a session may have unanswered events at once.
    pub conversations: u32,
    /// Open requests a session.
    pub requests: u32,
    /// Events a page, at most.
    pub page: u32,
    /// Unacknowledged frames kept for resume, a session.
    pub retained_frames: u32,
    /// Bytes of unacknowledged frames kept for resume, a session.
    pub retained_bytes: u32,
    /// Frames that may wait for a session before it counts as a slow reader.
    pub mailbox_items: u32,
    /// Bytes of frames that may wait for a session before it counts as a slow reader.
    pub mailbox_bytes: u32,
    /// A connection that takes nothing for this long is a slow reader's, in milliseconds.
    pub stall_ms: u64,
    /// Size of a WebSocket's read buffer, in bytes.
    pub read_buffer_bytes: u32,
    /// Bytes gathered before they are written to a WebSocket without a flush.
    pub write_buffer_bytes: u32,
    /// How long receipts of one user in one conversation are merged, in milliseconds.
    pub receipts_ms: u64,
    /// Deadline of calls to other services, in milliseconds.
    pub call_ms: u64,
    /// An event that reached no routing replica for this long is refused, in milliseconds.
    pub submit_wait_ms: u64,
    /// Unanswered events of all sessions, at most.
    pub submit_open: u32,
    /// A routing replica that answers nothing for this long is given up, in milliseconds; one that leaves an event
    /// unanswered for four times as long, too.
    pub submit_answer_ms: u64,
    /// Syncs that are being answered at once.
    pub syncs: u32,
    /// Sessions asked to leave a second while draining.
    pub drain_per_s: u32,
    /// Devices asked to leave come back after this, and up to twice it, in milliseconds.
    pub drain_reconnect_ms: u64,
}

/// One of `edge.issuers`: an OpenID provider.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerConfig {
    /// Its `iss`, an http(s) URL.
    pub issuer: String,
    /// The `aud` that its tokens for Tandem have.
    pub audience: String,
    /// Where its key set is; if empty, its discovery document says.
    #[serde(default)]
    pub jwks_url: String,
}

impl IssuerConfig {
    fn validate(&self) -> Result<(), String> {
        let http = |url: &str| url.starts_with("https://") || url.starts_with("http://");
        if self.audience.is_empty() {
            return Err(format!(
                "edge.issuers: {} has no audience: set it to the aud of its tokens",
                self.issuer
            ));
        }
        let url = if self.jwks_url.is_empty() {
            &self.issuer
        } else {
            &self.jwks_url
        };
        if http(url) {
            return Ok(());
        }
        Err(format!(
            "edge.issuers: {url} is no http(s) address: set jwks_url to where the keys of {} are",
            self.issuer
        ))
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            target: "edge".into(),
            domain: "tandem.test".into(),
            issuers: Vec::new(),
            dev_issuer: false,
            token_leeway_ms: 30_000,
            token_grace_ms: 60_000,
            keys_refetch_ms: 10_000,
            hello_ms: 10_000,
            heartbeat_ms: 30_000,
            resume_ms: 60_000,
            frame_bytes: 64 * 1024,
            text_bytes: 16 * 1024,
            events_per_s: 50,
            events_burst: 200,
            frames_per_s: 100,
            frames_burst: 1000,
            conversations: 64,
            requests: 8,
            page: 200,
            retained_frames: 512,
            retained_bytes: 256 * 1024,
            mailbox_items: 4096,
            mailbox_bytes: 2 * 1024 * 1024,
            stall_ms: 10_000,
            read_buffer_bytes: 2048,
            write_buffer_bytes: 8192,
            receipts_ms: 200,
            call_ms: 5_000,
            submit_wait_ms: 10_000,
            submit_open: 100_000,
            submit_answer_ms: 15_000,
            syncs: 64,
            drain_per_s: 500,
            drain_reconnect_ms: 1_000,
        }
    }
}

impl Config {
    /// Says which key is wrong and what would be right.
    pub fn validate(&self) -> Result<(), String> {
        let positive = [
            ("edge.hello_ms", self.hello_ms),
            ("edge.heartbeat_ms", self.heartbeat_ms),
            ("edge.stall_ms", self.stall_ms),
            ("edge.call_ms", self.call_ms),
            ("edge.submit_wait_ms", self.submit_wait_ms),
            ("edge.submit_answer_ms", self.submit_answer_ms),
            ("edge.events_per_s", u64::from(self.events_per_s)),
            ("edge.events_burst", u64::from(self.events_burst)),
            ("edge.frames_per_s", u64::from(self.frames_per_s)),
            ("edge.frames_burst", u64::from(self.frames_burst)),
            ("edge.conversations", u64::from(self.conversations)),
            ("edge.requests", u64::from(self.requests)),
            ("edge.page", u64::from(self.page)),
            ("edge.mailbox_items", u64::from(self.mailbox_items)),
            ("edge.submit_open", u64::from(self.submit_open)),
            ("edge.syncs", u64::from(self.syncs)),
            ("edge.drain_per_s", u64::from(self.drain_per_s)),
        ];
        if let Some((key, _)) = positive.iter().find(|(_, v)| *v == 0) {
            return Err(format!("{key} is 0: set it to 1 or more"));
        }
        if self.target.is_empty() {
            return Err(
                "edge.target is empty: set it to where the other services reach this edge".into(),
            );
        }
        self.issuers.iter().try_for_each(IssuerConfig::validate)?;
        if self.frame_bytes < 1024 {
            return Err("edge.frame_bytes is too small for a hello: set it to 1024 or more".into());
        }
        if self.text_bytes > self.frame_bytes {
            return Err("edge.text_bytes is larger than edge.frame_bytes: lower it".into());
        }
        if self.mailbox_bytes < self.frame_bytes {
            return Err("edge.mailbox_bytes is smaller than edge.frame_bytes: raise it".into());
        }
        if self.read_buffer_bytes < 256 {
            return Err("edge.read_buffer_bytes is too small: set it to 256 or more".into());
        }
        Ok(())
    }
}
