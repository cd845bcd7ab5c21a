//! What one session sends to one conversation keeps its order, though some of it is refused for now.
//!
//! After such a refusal whatever the session sends to that conversation is refused likewise, until the
//! device sends the first of all that was refused again; then the next of them is waited for. It may
//! also go on without: once it has acknowledged every refusal there, what it sends is its own order.

use std::{collections::BTreeMap, sync::Arc};

use ahash::AHashMap;
use tandem_kernel::{EventId, SessionId};
use tandem_proto::client::Rejected;

/// Most refused events of a session that are remembered.
pub const HELD: usize = 1024;

/// What a device sends, and what it knew then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// The session.
    pub session: SessionId,
    /// The event.
    pub event: EventId,
    /// Number of the last refusal that the device has acknowledged.
    pub known: u64,
}

/// An event's turn among what its session sends to its conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// Rises in the order in which the device sent them first.
    pub order: u64,
    /// Names what was admitted since the last refusal by routing, which refuses all of it after one.
    pub chain: u64,
}

/// A refusal for now.
#[derive(Debug, Clone, PartialEq)]
pub struct Held {
    /// To be told to the device.
    pub rejected: Rejected,
    /// Rises with each; 0: more were refused than can be remembered, and the order can only be kept by a
    /// new session.
    pub number: u64,
}

#[derive(Debug, Default)]
struct Course {
    /// Admitted and not answered.
    open: usize,
    order: u64,
    chain: u64,
    held: BTreeMap<u64, EventId>,
    last: Option<Held>,
}

#[derive(Debug, Default)]
struct Sender {
    courses: AHashMap<Arc<str>, Course>,
    held: usize,
    gone: bool,
}

/// The courses of all sessions. One takes memory only while something of it is unanswered or held.
#[derive(Debug, Default)]
pub struct Courses {
    senders: AHashMap<SessionId, Sender>,
    chains: u64,
    refusals: u64,
}

impl Courses {
    /// Admits an event, or refuses it as the one before it was.
    pub fn admit(&mut self, conversation: &Arc<str>, sent: Sent) -> Result<Turn, Held> {
        let sender = self.senders.entry(sent.session).or_default();
        let course = sender.courses.entry(Arc::clone(conversation)).or_default();
        let mut again = None;
        if let Some(last) = &course.last {
            let knows = sent.known >= last.number;
            let first = course.held.first_key_value();
            match first.map(|(order, event)| (*order, *event == sent.event)) {
                _ if knows => {
                    sender.held -= course.held.len();
                    course.held.clear();
                }
                Some((order, true)) => {
                    sender.held -= 1;
                    course.held.remove(&order);
                    again = Some(order);
                }
                Some((_, false)) => {
                    let rejected = last.rejected.clone();
                    return Err(self.hold(conversation, sent, &rejected));
                }
                None => {}
            }
            if course.held.is_empty() {
                course.last = None;
            }
        }
        if course.chain == 0 {
            self.chains += 1;
            course.chain = self.chains;
        }
        course.open += 1;
        let order = again.unwrap_or_else(|| {
            course.order += 1;
            course.order
        });
        Ok(Turn {
            order,
            chain: course.chain,
        })
    }

    /// An event that was not admitted is refused for now.
    pub fn hold(&mut self, conversation: &Arc<str>, sent: Sent, rejected: &Rejected) -> Held {
        let sender = self.senders.entry(sent.session).or_default();
        let course = sender.courses.entry(Arc::clone(conversation)).or_default();
        course.order += 1;
        let order = course.order;
        self.refuse(conversation, sent.session, order, sent.event, rejected)
    }

    /// An admitted event was refused for now. `by_routing`: which refuses all of its chain from here on.
    pub fn refused(
        &mut self,
        conversation: &Arc<str>,
        session: SessionId,
        event: EventId,
        turn: Turn,
        by_routing: bool,
        rejected: &Rejected,
    ) -> Held {
        if let Some(course) = self.course(conversation, session) {
            course.open = course.open.saturating_sub(1);
            if by_routing && course.chain == turn.chain {
                course.chain = 0;
            }
        }
        self.refuse(conversation, session, turn.order, event, rejected)
    }

    fn refuse(
        &mut self,
        conversation: &Arc<str>,
        session: SessionId,
        order: u64,
        event: EventId,
        rejected: &Rejected,
    ) -> Held {
        self.refusals += 1;
        let rejected = Rejected {
            event_id: event.to_string(),
            ..rejected.clone()
        };
        let mut refusal = Held {
            rejected,
            number: self.refusals,
        };
        if let Some(sender) = self.senders.get_mut(&session).filter(|s| !s.gone)
            && let Some(course) = sender.courses.get_mut(conversation)
        {
            // a device that resumed may have sent it twice
            let earlier = course.held.iter().find(|(_, e)| **e == event);
            match earlier.map(|(earlier, _)| *earlier) {
                Some(earlier) => {
                    course.held.remove(&earlier);
                    course.held.insert(order.min(earlier), event);
                }
                None if sender.held == HELD => refusal.number = 0,
                None => {
                    sender.held += 1;
                    course.held.insert(order, event);
                }
            }
            course.last = Some(refusal.clone());
        }
        self.tidy(conversation, session);
        refusal
    }

    /// An admitted event has its final answer.
    pub fn answered(&mut self, conversation: &Arc<str>, session: SessionId) {
        if let Some(course) = self.course(conversation, session) {
            course.open = course.open.saturating_sub(1);
        }
        self.tidy(conversation, session);
    }

    /// How many events of the course are admitted and not answered.
    pub fn open(&self, conversation: &Arc<str>, session: SessionId) -> usize {
        let sender = self.senders.get(&session);
        let course = sender.and_then(|s| s.courses.get(conversation));
        course.map_or(0, |c| c.open)
    }

    /// The session is over: it sends nothing again.
    pub fn forget(&mut self, session: SessionId) {
        if let Some(sender) = self.senders.get_mut(&session) {
            sender.gone = true;
            sender.held = 0;
            sender.courses.retain(|_, course| {
                course.held.clear();
                course.open > 0
            });
            if sender.courses.is_empty() {
                self.senders.remove(&session);
            }
        }
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.senders.is_empty()
    }

    fn course(&mut self, conversation: &Arc<str>, session: SessionId) -> Option<&mut Course> {
        let sender = self.senders.get_mut(&session)?;
        sender.courses.get_mut(conversation)
    }

    fn tidy(&mut self, conversation: &Arc<str>, session: SessionId) {
        if let Some(sender) = self.senders.get_mut(&session)
            && let Some(course) = sender.courses.get(conversation)
            && course.open == 0
            && course.held.is_empty()
        {
            sender.courses.remove(conversation);
            if sender.courses.is_empty() {
                self.senders.remove(&session);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: SessionId = SessionId(1);

    fn c() -> Arc<str> {
        Arc::from("c")
    }

    fn id(n: u64) -> EventId {
        EventId::new(n, &[0; 10])
    }

    fn sent(n: u64) -> Sent {
        Sent {
            session: S,
            event: id(n),
            known: 0,
        }
    }

    fn busy() -> Rejected {
        Rejected {
            code: "unavailable".into(),
            retry_after_ms: 1_000,
            ..Rejected::default()
        }
    }

    fn admit(courses: &mut Courses, n: u64) -> Result<Turn, Held> {
        courses.admit(&c(), sent(n))
    }

    fn refuse(courses: &mut Courses, n: u64, turn: Turn) -> Held {
        courses.refused(&c(), S, id(n), turn, true, &busy())
    }

    #[test]
    fn after_a_refusal_nothing_is_admitted_before_the_event_comes_again() {
        let mut courses = Courses::default();
        let first = admit(&mut courses, 1).unwrap();
        let held = refuse(&mut courses, 1, first);
        assert_eq!(held.rejected.event_id, id(1).to_string());
        let second = admit(&mut courses, 2).unwrap_err();
        assert_eq!(
            (
                second.rejected.code.as_str(),
                second.rejected.retry_after_ms
            ),
            ("unavailable", 1_000)
        );
        assert_eq!(second.rejected.event_id, id(2).to_string());
        assert!(
            courses.admit(&Arc::from("another"), sent(3)).is_ok(),
            "another conversation goes on"
        );
        let other = Sent {
            session: SessionId(2),
            ..sent(4)
        };
        assert!(
            courses.admit(&c(), other).is_ok(),
            "another session goes on"
        );
        let again = admit(&mut courses, 1).unwrap();
        assert_eq!(again.order, first.order);
        assert_ne!(again.chain, first.chain, "routing refuses the old chain");
    }

    #[test]
    fn what_was_refused_is_admitted_in_its_order_and_nothing_new_among_it() {
        let mut courses = Courses::default();
        let turns: Vec<Turn> = (1..=3).map(|n| admit(&mut courses, n).unwrap()).collect();
        // routing's answers need not be told in the order of the turns
        for n in [2, 1, 3] {
            refuse(&mut courses, n, turns[n as usize - 1]);
        }
        assert!(
            admit(&mut courses, 2).is_err(),
            "the first of them is missing"
        );
        admit(&mut courses, 1).unwrap();
        assert!(
            admit(&mut courses, 4).is_err(),
            "the second and third are missing"
        );
        admit(&mut courses, 2).unwrap();
        admit(&mut courses, 3).unwrap();
        admit(&mut courses, 4).unwrap();
        assert_eq!(courses.open(&c(), S), 4, "and then all goes on");
    }

    #[test]
    fn one_that_is_refused_again_is_waited_for_again() {
        let mut courses = Courses::default();
        let first = admit(&mut courses, 1).unwrap();
        refuse(&mut courses, 1, first);
        admit(&mut courses, 2).unwrap_err();
        let first = admit(&mut courses, 1).unwrap();
        let second = admit(&mut courses, 2).unwrap();
        refuse(&mut courses, 1, first);
        refuse(&mut courses, 2, second);
        assert!(admit(&mut courses, 2).is_err());
        assert!(admit(&mut courses, 1).is_ok());
        assert!(admit(&mut courses, 2).is_ok());
    }

    #[test]
    fn one_that_was_sent_twice_is_waited_for_once() {
        let mut courses = Courses::default();
        let turns: Vec<Turn> = [1, 2, 1, 2]
            .map(|n| admit(&mut courses, n).unwrap())
            .to_vec();
        for (n, turn) in [1, 2, 1, 2].into_iter().zip(turns) {
            refuse(&mut courses, n, turn);
        }
        for n in 1..=3 {
            admit(&mut courses, n).unwrap();
        }
    }

    #[test]
    fn a_device_that_has_acknowledged_the_refusals_may_go_on_without() {
        let mut courses = Courses::default();
        let first = admit(&mut courses, 1).unwrap();
        refuse(&mut courses, 1, first);
        let second = admit(&mut courses, 2).unwrap_err();
        let knows = |known| Sent { known, ..sent(3) };
        let third = courses.admit(&c(), knows(second.number - 1)).unwrap_err();
        assert!(
            courses.admit(&c(), knows(second.number)).is_err(),
            "of the third's refusal it does not know"
        );
        assert!(courses.admit(&c(), knows(third.number + 1)).is_ok());
        assert!(admit(&mut courses, 4).is_ok());
    }

    #[test]
    fn a_final_answer_holds_nothing_back_and_leaves_nothing_behind() {
        let mut courses = Courses::default();
        admit(&mut courses, 1).unwrap();
        admit(&mut courses, 2).unwrap();
        courses.answered(&c(), S);
        courses.answered(&c(), S);
        assert!(courses.is_empty());
    }

    #[test]
    fn what_was_not_admitted_keeps_its_place_too() {
        let mut courses = Courses::default();
        let first = admit(&mut courses, 1).unwrap();
        courses.hold(&c(), sent(2), &busy());
        courses.hold(&c(), sent(2), &busy());
        // turned down here, and not by routing
        courses.refused(&c(), S, id(1), first, false, &busy());
        assert!(admit(&mut courses, 2).is_err());
        assert_eq!(
            admit(&mut courses, 1),
            Ok(first),
            "routing has refused nothing"
        );
        assert!(admit(&mut courses, 2).is_ok());
        assert!(admit(&mut courses, 3).is_ok());
    }

    #[test]
    fn what_is_remembered_of_a_session_is_bounded_and_goes_with_it() {
        let mut courses = Courses::default();
        let first = admit(&mut courses, 1).unwrap();
        admit(&mut courses, 2).unwrap();
        refuse(&mut courses, 1, first);
        for n in 0..HELD as u64 - 1 {
            assert_ne!(admit(&mut courses, 10 + n).unwrap_err().number, 0);
        }
        assert_eq!(admit(&mut courses, 5).unwrap_err().number, 0);
        courses.forget(S);
        let second = Turn {
            order: 2,
            chain: first.chain,
        };
        refuse(&mut courses, 2, second);
        assert!(courses.is_empty());
    }
}
