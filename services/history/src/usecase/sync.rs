//! A device's sync: at once from what is there, complete when history has passed the log's ends as they
//! were when the session was registered.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use prost::Message;
use tandem_chassis::Lifecycle;
use tandem_proto::{client, history::SyncPart};
use tokio::sync::mpsc;

use super::heads::{self, Candidate};
use crate::{Error, places::Places, tables::Tables};

/// Most heads in a part.
const PART: usize = 100;

/// A sync that was asked for.
pub(crate) struct Sync {
    pub user: String,
    pub have: HashMap<String, u64>,
    pub ends: Vec<u64>,
}

/// Sends the parts; ends when complete, or when nobody listens any more.
pub(crate) async fn run(
    tables: Tables,
    places: Arc<Places>,
    lifecycle: Lifecycle,
    sync: Sync,
    out: mpsc::Sender<Result<SyncPart, Error>>,
) {
    if let Err(error) = steps(&tables, &places, &lifecycle, &sync, &out).await {
        let _ = out.send(Err(error)).await;
    }
}

async fn steps(
    tables: &Tables,
    places: &Arc<Places>,
    lifecycle: &Lifecycle,
    sync: &Sync,
    out: &mpsc::Sender<Result<SyncPart, Error>>,
) -> Result<(), Error> {
    let user = sync.user.as_str();
    let ahead = |c: &Candidate| {
        let have = std::str::from_utf8(&c.key)
            .ok()
            .and_then(|id| sync.have.get(id));
        c.glance.last_seq > have.copied().unwrap_or(0)
    };
    let Some(mut wait) = places.reach(&sync.ends)? else {
        let mut all = heads::candidates(tables, user).await?;
        all.retain(ahead);
        return send(tables, user, all, true, out).await;
    };
    let mut first = heads::candidates(tables, user).await?;
    first.retain(ahead);
    let sent: HashMap<Bytes, u64> = first
        .iter()
        .map(|c| (c.key.clone(), c.head.applied_seq))
        .collect();
    send(tables, user, first, false, out).await?;
    let reached = tokio::select! {
        reached = wait.reached() => reached,
        () = out.closed() => return Ok(()),
        () = lifecycle.stopped() => return Err(Error::Draining),
    };
    if !reached {
        return Err(Error::NotReady);
    }
    let mut added = heads::candidates(tables, user).await?;
    added.retain(|c| ahead(c) && sent.get(&c.key) != Some(&c.head.applied_seq));
    send(tables, user, added, true, out).await
}

/// Sends heads in parts, the last one `complete` if this ends the sync.
async fn send(
    tables: &Tables,
    user: &str,
    candidates: Vec<Candidate>,
    complete: bool,
    out: &mpsc::Sender<Result<SyncPart, Error>>,
) -> Result<(), Error> {
    let mut part = SyncPart::default();
    let mut candidates = candidates.into_iter();
    loop {
        let step: Vec<Candidate> = candidates.by_ref().take(PART).collect();
        if step.is_empty() {
            break;
        }
        let mut bytes = 0;
        for head in heads::heads(tables, user, step).await? {
            bytes += head.encoded_len();
            part.heads.push(head);
            if bytes >= heads::MAX_BYTES {
                bytes = 0;
                push(&mut part, false, out).await;
            }
        }
        if candidates.len() > 0 {
            push(&mut part, false, out).await;
        }
    }
    // an empty first part says that there is nothing yet
    push(&mut part, complete, out).await;
    Ok(())
}

async fn push(part: &mut SyncPart, complete: bool, out: &mpsc::Sender<Result<SyncPart, Error>>) {
    let heads: Vec<client::Head> = std::mem::take(&mut part.heads);
    // an error: nobody listens, which the next wait notices
    let _ = out.send(Ok(SyncPart { heads, complete })).await;
}
