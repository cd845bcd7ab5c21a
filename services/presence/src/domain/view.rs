//! A user's status as a viewer may see it.

use tandem_ephemeral::UserStatus;
use tandem_kernel::Address;
use tandem_proto::client::{Contact, DeviceClass, Presence, Status, contact::State};

use super::relations::Relations;

/// Whether `viewer` may see `subject`: both consent, and neither blocks the other.
pub fn sees(
    viewer: &Address,
    of_viewer: &Relations,
    subject: &Address,
    of_subject: &Relations,
) -> bool {
    viewer == subject || (of_subject.admits(viewer) && of_viewer.admits(subject))
}

/// A status as it is delivered when it changes.
pub fn presence(user: &Address, status: &UserStatus) -> Presence {
    Presence {
        user: user.to_string(),
        status: status.status.into(),
        message: status.message.clone(),
        class: status.class.into(),
        version: status.version,
    }
}

/// Offline, in this version.
pub fn offline(user: &Address, version: u64) -> Presence {
    Presence {
        user: user.to_string(),
        status: Status::Offline.into(),
        message: String::new(),
        class: DeviceClass::Unspecified.into(),
        version,
    }
}

/// A status as it is answered when asked for; `None`: never settled, or not to be seen. Everyone who is
/// offline has version 0 there, so that one who is hidden cannot be told from one who is off: the version
/// of a hidden user moves with what they do.
pub fn snapshot(user: &Address, status: Option<&UserStatus>) -> Presence {
    match status.filter(|s| s.status != Status::Offline) {
        Some(status) => presence(user, status),
        None => offline(user, 0),
    }
}

/// What follows for presence from a change of a relation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exchange {
    /// They are contacts now: each gets the other's status.
    Show,
    /// The user hides from the other, who gets them offline if they were shown.
    Hide,
    /// Nothing: nobody saw anybody, and nobody does.
    Nothing,
}

/// What follows for `user`, whose relation to another was `was` (unspecified: not known) and is
/// `now`. Whoever was no contact must get nothing: even an "offline" would tell that something happened.
pub fn exchange(was: State, now: &Contact) -> Exchange {
    match (was, now.state()) {
        (State::Mutual, State::Mutual) => Exchange::Nothing,
        (_, State::Mutual) => Exchange::Show,
        (State::Mutual, State::Blocked | State::None) | (State::Unspecified, State::Blocked) => {
            Exchange::Hide
        }
        _ => Exchange::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    #[test]
    fn both_must_consent() {
        let (a, b) = (address("a@x.test"), address("b@x.test"));
        let yes = |other: &Address| Relations::new(1, [other.clone()]);
        let no = Relations::default();
        assert!(sees(&a, &yes(&b), &b, &yes(&a)));
        assert!(!sees(&a, &yes(&b), &b, &no));
        assert!(!sees(&a, &no, &b, &yes(&a)));
        assert!(sees(&a, &no, &a, &no));
    }

    #[test]
    fn in_an_answer_the_hidden_and_the_absent_are_alike() {
        let a = address("a@x.test");
        let off = UserStatus {
            status: Status::Offline,
            message: String::new(),
            class: DeviceClass::Unspecified,
            version: 9,
        };
        assert_eq!(snapshot(&a, None), snapshot(&a, Some(&off)));
    }

    #[test]
    fn only_those_who_saw_somebody_are_told() {
        let contact = |state: State| Contact {
            state: state.into(),
            ..Contact::default()
        };
        for (was, now, then) in [
            (State::AskedBy, State::Mutual, Exchange::Show),
            (State::Blocked, State::Mutual, Exchange::Show),
            (State::Mutual, State::Mutual, Exchange::Nothing),
            (State::Mutual, State::Blocked, Exchange::Hide),
            (State::Mutual, State::None, Exchange::Hide),
            (State::None, State::Blocked, Exchange::Nothing),
            (State::Blocked, State::Blocked, Exchange::Nothing),
            (State::AskedBy, State::None, Exchange::Nothing),
            (State::None, State::AskedBy, Exchange::Nothing),
            (State::None, State::Asked, Exchange::Nothing),
            (State::Unspecified, State::None, Exchange::Nothing),
            (State::Unspecified, State::Blocked, Exchange::Hide),
        ] {
            assert_eq!(exchange(was, &contact(now)), then, "{was:?} to {now:?}");
        }
    }
}
