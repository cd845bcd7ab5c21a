//! What waits for a session: a bounded queue that its one task drains.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::task::AtomicWaker;
use parking_lot::Mutex;
use tandem_proto::client::Status;
use tokio::sync::oneshot;

use crate::{
    domain::{
        effect::{Answer, Grant},
        frame::Parcel,
    },
    wire::Wire,
};

/// Something for a session.
pub enum Item {
    /// To be passed on.
    Parcel(Arc<Parcel>),
    /// What became of an event in a conversation.
    Answer(Arc<str>, Box<Answer>),
    /// Events may have been kept from it: what follows has gaps, until it has synced anew.
    Unsynced,
    /// It is registered, or its resync flag is cleared: sync from here.
    Registered,
    /// Its device is back.
    Resume(Box<Resume>),
    /// A newer session of the same device has come.
    Replaced,
    /// The edge is going down; come back after this.
    Drain(Duration),
}

/// A device that is back on a new connection.
pub struct Resume {
    /// The connection.
    pub wire: Box<Wire>,
    /// What the device has processed.
    pub n: u64,
    /// Who it is, verified anew.
    pub grant: Grant,
    /// The status that it has by now, if it says so.
    pub status: Option<Status>,
    /// The connection goes back if the session cannot go on.
    pub back: oneshot::Sender<(Box<Wire>, Grant)>,
}

#[derive(Default)]
struct Inner {
    items: VecDeque<Item>,
    bytes: usize,
    overflown: bool,
    urgent: bool,
    closed: bool,
}

/// The queue.
#[derive(Default)]
pub struct Mailbox {
    inner: Mutex<Inner>,
    waker: AtomicWaker,
}

/// What a mailbox may hold.
#[derive(Debug, Clone, Copy)]
pub struct Bound {
    /// Items.
    pub items: usize,
    /// Bytes of parcels.
    pub bytes: usize,
}

impl Mailbox {
    /// Puts an item in; gives it back if the session is gone. Beyond the bound the session is told that it
    /// is too slow, and parcels are dropped.
    pub fn push(&self, item: Item, bound: Bound) -> Result<(), Item> {
        {
            let mut inner = self.inner.lock();
            if inner.closed {
                return Err(item);
            }
            let bytes = if let Item::Parcel(p) = &item {
                p.body.len()
            } else {
                0
            };
            if inner.overflown && bytes > 0 {
                return Err(item);
            }
            inner.urgent |= matches!(item, Item::Resume(_) | Item::Replaced | Item::Drain(_));
            if bytes > 0 && (inner.items.len() >= bound.items || inner.bytes + bytes > bound.bytes)
            {
                inner.overflown = true;
                inner.urgent = true;
                inner.bytes = 0;
                inner.items.retain(|i| !matches!(i, Item::Parcel(_)));
            } else {
                inner.bytes += bytes;
                inner.items.push_back(item);
            }
        }
        self.waker.wake();
        Ok(())
    }

    /// Ready when something came that a connection that is stuck is to be let go for.
    pub fn poll_urgent(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.waker.register(cx.waker());
        if self.inner.lock().urgent {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// Moves everything to `to` (which is empty). Ready with true if parcels were dropped since they were too many.
    pub fn poll_drain(&self, cx: &mut Context<'_>, to: &mut VecDeque<Item>) -> Poll<bool> {
        self.waker.register(cx.waker());
        let mut inner = self.inner.lock();
        if inner.items.is_empty() && !inner.urgent {
            if to.capacity() > 64 {
                *to = VecDeque::new();
            }
            return Poll::Pending;
        }
        inner.bytes = 0;
        inner.urgent = false;
        std::mem::swap(&mut inner.items, to);
        Poll::Ready(inner.overflown)
    }

    /// Takes nothing more; what is in it is dropped.
    pub fn close(&self) {
        let items = {
            let mut inner = self.inner.lock();
            inner.closed = true;
            std::mem::take(&mut inner.items)
        };
        // outside of the lock: a connection that waits to resume is among them
        drop(items);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::frame::Passing;
    use bytes::Bytes;

    fn parcel(bytes: usize) -> Item {
        let body = Bytes::from(vec![0; bytes]);
        Item::Parcel(Arc::new(Parcel {
            passing: Passing::Typing,
            body,
            sampled_at: None,
            span: tracing::Span::none(),
        }))
    }

    fn drain(m: &Mailbox) -> Option<(bool, usize)> {
        let mut to = VecDeque::new();
        let mut cx = Context::from_waker(std::task::Waker::noop());
        match m.poll_drain(&mut cx, &mut to) {
            Poll::Ready(overflown) => Some((overflown, to.len())),
            Poll::Pending => None,
        }
    }

    #[test]
    fn beyond_the_bound_parcels_are_dropped_and_the_session_is_told() {
        let m = Mailbox::default();
        let bound = Bound {
            items: 3,
            bytes: 100,
        };
        assert_eq!(drain(&m), None);
        m.push(parcel(50), bound).ok().unwrap();
        m.push(parcel(50), bound).ok().unwrap();
        assert_eq!(drain(&m), Some((false, 2)));
        m.push(parcel(50), bound).ok().unwrap();
        m.push(Item::Replaced, bound).ok().unwrap();
        m.push(parcel(51), bound).ok().unwrap();
        assert!(m.push(parcel(1), bound).is_err());
        assert_eq!(drain(&m), Some((true, 1)), "what is no parcel is kept");
        m.close();
        assert!(m.push(Item::Replaced, bound).is_err());
    }
}
