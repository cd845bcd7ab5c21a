use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

/// Two sides and what is on its way between them, in order.
#[derive(Debug, Default)]
struct Pair {
    sides: [Side; 2],
    to: [VecDeque<Register>; 2],
}

impl Pair {
    fn act(&mut self, who: usize, action: Action) -> Result<(), Refusal> {
        if let Some(c) = self.sides[who].change(action, "")? {
            self.sides[who] = c.side;
            if c.tell {
                self.to[1 - who].push_back(self.sides[who].own);
            }
        }
        Ok(())
    }

    fn connect(&mut self, who: usize) {
        if let Some(side) = self.sides[who].connect() {
            self.sides[who] = side;
            self.to[1 - who].push_back(self.sides[who].own);
        }
    }

    fn deliver(&mut self, to: usize, again: bool) {
        let Some(register) = self.to[to].pop_front() else {
            return;
        };
        if again {
            self.to[to].push_back(register);
        }
        if let Some(c) = self.sides[to].receive(register, false) {
            self.sides[to] = c.side;
            if c.tell {
                self.to[1 - to].push_back(self.sides[to].own);
            }
        }
    }

    fn drain(&mut self) {
        while !(self.to[0].is_empty() && self.to[1].is_empty()) {
            self.deliver(0, false);
            self.deliver(1, false);
        }
    }

    fn states(&self) -> (State, State) {
        (self.sides[0].state(), self.sides[1].state())
    }
}

fn script(steps: &[(usize, Action)]) -> Pair {
    let mut pair = Pair::default();
    for (who, action) in steps {
        pair.act(*who, *action).unwrap();
        pair.drain();
    }
    pair
}

#[test]
fn a_request_and_its_acceptance_make_contacts() {
    let mut pair = script(&[(0, Action::Request)]);
    assert_eq!(pair.states(), (State::Asked, State::AskedBy));
    pair.act(1, Action::Accept).unwrap();
    pair.drain();
    assert_eq!(pair.states(), (State::Mutual, State::Mutual));
}

#[test]
fn two_requests_that_cross_make_contacts() {
    let mut pair = Pair::default();
    pair.act(0, Action::Request).unwrap();
    pair.act(1, Action::Request).unwrap();
    pair.drain();
    assert_eq!(pair.states(), (State::Mutual, State::Mutual));
}

#[test]
fn a_declined_request_can_be_made_again() {
    let mut pair = script(&[(0, Action::Request), (1, Action::Decline)]);
    assert_eq!(pair.states(), (State::None, State::None));
    pair.act(0, Action::Request).unwrap();
    pair.drain();
    assert_eq!(pair.states(), (State::Asked, State::AskedBy));
}

#[test]
fn a_removal_ends_the_contact_on_both_sides() {
    let pair = script(&[
        (0, Action::Request),
        (1, Action::Accept),
        (1, Action::Remove),
    ]);
    assert_eq!(pair.states(), (State::None, State::None));
}

#[test]
fn unblocking_restores_what_was() {
    let pair = script(&[
        (0, Action::Request),
        (1, Action::Accept),
        (1, Action::Block),
    ]);
    assert_eq!(pair.states(), (State::Mutual, State::Blocked));
    let pair = script(&[
        (0, Action::Request),
        (1, Action::Accept),
        (1, Action::Block),
        (1, Action::Unblock),
    ]);
    assert_eq!(pair.states(), (State::Mutual, State::Mutual));
}

#[test]
fn a_request_made_while_blocked_is_never_shown_but_looks_asked() {
    let mut pair = script(&[(1, Action::Block), (0, Action::Request)]);
    assert_eq!(pair.states(), (State::Asked, State::Blocked));
    pair.act(1, Action::Unblock).unwrap();
    pair.drain();
    assert_eq!(pair.states(), (State::Asked, State::None));
    pair.act(1, Action::Request).unwrap();
    pair.drain();
    assert_eq!(pair.states(), (State::Mutual, State::Mutual));
}

#[test]
fn provisioning_connects_without_asking_and_only_once() {
    let mut pair = Pair::default();
    pair.connect(0);
    let record = pair.to[1][0];
    pair.drain();
    assert_eq!(pair.states(), (State::Mutual, State::Mutual));
    pair.act(1, Action::Remove).unwrap();
    pair.to[1].push_back(record);
    pair.drain();
    assert_eq!(pair.states(), (State::None, State::None));
}

#[test]
fn a_closed_account_voids_what_reaches_it() {
    let mut pair = Pair::default();
    pair.act(0, Action::Request).unwrap();
    let register = pair.to[1].pop_front().unwrap();
    let answer = pair.sides[1].receive(register, true).unwrap();
    assert!(answer.tell);
    pair.sides[0] = pair.sides[0].receive(answer.side.own, false).unwrap().side;
    assert_eq!(pair.sides[0].state(), State::None);
}

#[test]
fn what_cannot_be_is_refused() {
    let code = |side: &Side, action| side.change(action, "").unwrap_err().code;
    let none = Side::default();
    assert_eq!(code(&none, Action::Accept), Code::Conflict);
    assert_eq!(code(&none, Action::Rename), Code::NotFound);
    assert_eq!(code(&none, Action::Unspecified), Code::InvalidArgument);
    let asked = none.change(Action::Request, "").unwrap().unwrap().side;
    assert_eq!(code(&asked, Action::Decline), Code::Conflict);
    let blocked = none.change(Action::Block, "").unwrap().unwrap().side;
    assert_eq!(code(&blocked, Action::Request), Code::Conflict);
}

#[test]
fn the_same_change_again_changes_nothing() {
    let none = Side::default();
    for action in [Action::Remove, Action::Decline, Action::Unblock] {
        assert_eq!(none.change(action, ""), Ok(None));
    }
    for action in [Action::Request, Action::Block] {
        let once = none.change(action, "").unwrap().unwrap().side;
        assert_eq!(once.change(action, ""), Ok(None));
    }
}

fn any_action() -> impl Strategy<Value = Action> {
    prop::sample::select(vec![
        Action::Request,
        Action::Accept,
        Action::Decline,
        Action::Remove,
        Action::Block,
        Action::Unblock,
    ])
}

/// 0 to 5: an action; 6: connect; 7: deliver; 8: deliver, and once more later.
fn any_step() -> impl Strategy<Value = (usize, u8, Action)> {
    (0..2usize, 0..9u8, any_action())
}

fn step(pair: &mut Pair, (who, kind, action): (usize, u8, Action)) {
    match kind {
        6 => pair.connect(who),
        7 => pair.deliver(who, false),
        8 => pair.deliver(who, true),
        // a refusal is an answer, too
        _ => drop(pair.act(who, action)),
    }
}

proptest! {
    #[test]
    fn both_sides_agree_once_everything_has_arrived(steps in prop::collection::vec(any_step(), 0..40)) {
        let mut pair = Pair::default();
        for s in steps {
            step(&mut pair, s);
        }
        pair.drain();
        let mirror = match pair.sides[0].relation() {
            Relation::Asked => Relation::AskedBy,
            Relation::AskedBy => Relation::Asked,
            same => same,
        };
        prop_assert_eq!(pair.sides[1].relation(), mirror);
    }

    #[test]
    fn the_blocked_side_sees_what_it_would_see_unblocked(
        before in prop::collection::vec(any_step(), 0..20),
        after in prop::collection::vec(any_action(), 0..10),
    ) {
        // side 1 blocks in one world and not in the other, and does nothing from then on
        let mut worlds = [Pair::default(), Pair::default()];
        for (i, pair) in worlds.iter_mut().enumerate() {
            for s in &before {
                step(pair, *s);
            }
            pair.drain();
            pair.act(1, if i == 0 { Action::Block } else { Action::Unblock }).unwrap();
        }
        for action in after {
            let seen = worlds.each_mut().map(|pair| {
                let answer = pair.act(0, action);
                pair.drain();
                (answer, pair.sides[0].state())
            });
            prop_assert_eq!(&seen[0], &seen[1]);
        }
    }
}
