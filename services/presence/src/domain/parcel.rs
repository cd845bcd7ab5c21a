//! What goes to one edge: frames, each for some sessions, cut into batches of bounded size.

use std::collections::BTreeMap;

use bytes::Bytes;
use tandem_ephemeral::Reach;
use tandem_kernel::{Address, EdgeId, SessionId};
use tandem_proto::{
    client::{ContactEvent, Presence},
    edge::{Delivery, delivery::What},
};

/// Frames for sessions of one edge.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Parcel {
    /// In order.
    pub deliveries: Vec<Delivery>,
    /// Its sessions, which must sync anew if this is lost.
    pub to: Vec<(Address, SessionId)>,
}

impl Parcel {
    /// Sessions named, counted once for each frame.
    pub fn sessions(&self) -> usize {
        self.deliveries.iter().map(|d| d.sessions.len()).sum()
    }

    /// Appends `other`.
    pub fn join(&mut self, other: Self) {
        self.deliveries.extend(other.deliveries);
        self.to.extend(other.to);
    }
}

/// What goes to one edge: the sessions of each frame.
type Sorted = BTreeMap<usize, Vec<(Address, SessionId)>>;

/// Collects what goes to whom, by edge.
#[derive(Debug, Default)]
pub struct Sorter {
    edges: BTreeMap<EdgeId, Sorted>,
    frames: Vec<What>,
}

impl Sorter {
    /// A status to be delivered; returns what [`Sorter::to`] calls it.
    pub fn presence(&mut self, presence: Presence) -> usize {
        self.frame(What::Presence(presence))
    }

    /// A relation's change to be delivered.
    pub fn contact(&mut self, event: ContactEvent) -> usize {
        self.frame(What::Contact(event))
    }

    fn frame(&mut self, what: What) -> usize {
        self.frames.push(what);
        self.frames.len() - 1
    }

    /// `viewer`, who is to be reached so, gets this frame.
    pub fn to(&mut self, frame: usize, viewer: &Address, reach: &Reach) {
        for (edge, session) in &reach.live {
            let sorted = match self.edges.get_mut(edge) {
                Some(known) => known,
                None => self.edges.entry(edge.clone()).or_default(),
            };
            let sessions = sorted.entry(frame).or_default();
            sessions.push((viewer.clone(), *session));
        }
    }

    /// For each edge its parcels of at most `most` sessions, frames in the order in which they came.
    pub fn parcels(self, most: usize) -> Vec<(EdgeId, Parcel)> {
        let mut parcels = Vec::with_capacity(self.edges.len());
        for (edge, frames) in self.edges {
            let mut parcel = Parcel::default();
            let mut room = most;
            for (frame, sessions) in frames {
                for part in sessions.chunks(most) {
                    if part.len() > room {
                        parcels.push((edge.clone(), std::mem::take(&mut parcel)));
                        room = most;
                    }
                    room -= part.len();
                    parcel.deliveries.push(Delivery {
                        sessions: part.iter().map(octets).collect(),
                        what: Some(self.frames[frame].clone()),
                        traceparent: String::new(),
                    });
                    parcel.to.extend_from_slice(part);
                }
            }
            parcels.push((edge, parcel));
        }
        parcels
    }
}

fn octets((_, session): &(Address, SessionId)) -> Bytes {
    Bytes::copy_from_slice(&session.to_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parcel_names_no_more_sessions_than_allowed_and_loses_none() {
        let viewer = Address::parse("v@x.test").unwrap();
        let edges = [EdgeId::new("one", 1), EdgeId::new("two", 1)];
        let mut sorter = Sorter::default();
        for n in 0..3 {
            let frame = sorter.presence(Presence {
                version: n,
                ..Presence::default()
            });
            let live = (0..7)
                .map(|s| (edges[s % 2].clone(), SessionId(s as u128)))
                .collect();
            sorter.to(
                frame,
                &viewer,
                &Reach {
                    live,
                    ..Reach::default()
                },
            );
        }
        let parcels = sorter.parcels(3);
        assert!(parcels.iter().all(|(_, p)| p.sessions() <= 3));
        assert!(parcels.iter().all(|(_, p)| p.to.len() == p.sessions()));
        assert_eq!(parcels.iter().map(|(_, p)| p.sessions()).sum::<usize>(), 21);
        for edge in &edges {
            let versions: Vec<u64> = parcels
                .iter()
                .filter(|(e, _)| e == edge)
                .flat_map(|(_, p)| &p.deliveries)
                .map(|d| match &d.what {
                    Some(What::Presence(p)) => p.version,
                    other => panic!("{other:?}"),
                })
                .collect();
            assert!(versions.is_sorted(), "{versions:?}");
        }
    }
}
