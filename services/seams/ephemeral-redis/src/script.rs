//! The scripts that each change and each look-up is one run of.

use tandem_ephemeral::{DAMPING, LEASE, status::availability};
use tandem_proto::client::Status;

/// A script and the hash that Redis knows it by.
#[derive(Debug)]
pub(crate) struct Script {
    pub text: String,
    pub hash: String,
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Scripts {
    pub renew: Script,
    pub release: Script,
    pub put: Script,
    pub remove: Script,
    pub reach: Script,
    pub flag: Script,
    pub statuses: Script,
    pub settle: Script,
    pub renumber: Script,
    pub due: Script,
    pub settled: Script,
}

impl Scripts {
    pub(crate) fn new() -> Self {
        Self {
            renew: script(include_str!("lua/renew.lua")),
            release: script(include_str!("lua/release.lua")),
            put: script(include_str!("lua/put.lua")),
            remove: script(include_str!("lua/remove.lua")),
            reach: script(include_str!("lua/reach.lua")),
            flag: script(include_str!("lua/flag.lua")),
            statuses: script(include_str!("lua/statuses.lua")),
            settle: script(include_str!("lua/settle.lua")),
            renumber: script(include_str!("lua/renumber.lua")),
            due: script(include_str!("lua/due.lua")),
            settled: script(include_str!("lua/settled.lua")),
        }
    }
}

fn script(body: &str) -> Script {
    let text = format!("{}{}{body}", constants(), include_str!("lua/prelude.lua"));
    let hash = redis::Script::new(&text).get_hash().to_owned();
    Script { text, hash }
}

/// What the contract fixes, so that it stands there alone. Times in milliseconds.
fn constants() -> String {
    let places: Vec<String> = (0..32)
        .filter_map(|n| Status::try_from(n).ok())
        .filter_map(|s| Some(format!("[{}]={}", s as i32, availability(s)?)))
        .collect();
    format!(
        "local LEASE, DAMPING, SLACK, HOUR = {}, {}, 5000, 3600000\n\
         local OFFLINE, APPEAR_OFFLINE = {}, {}\n\
         local PLACE = {{{}}}\n",
        LEASE.as_millis(),
        DAMPING.as_millis(),
        Status::Offline as i32,
        Status::AppearOffline as i32,
        places.join(",")
    )
}
