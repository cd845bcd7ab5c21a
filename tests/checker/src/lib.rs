//! The checker: decides G1 to G6 and G9 (architecture.md, section 10) from the record alone of what every
//! client did and saw. Pure and synchronous; [`Checker`] takes [`Record`]s one after the other, and keeps of
//! each about 50 octets.
//!
//! [`record`] is the format. A driver records facts (who is whose contact, who blocks whom, devices, faults,
//! notifications at the gateway), what each device did and was told, and, after [`What::Settled`], screens and
//! histories. Take the screens before the same device pages back; whatever a device sees after `settled` is not
//! looked at.
//!
//! # What excuses
//! A [`What::FaultBegan`] names the guarantees that it may **delay** ("its services being up"), for how long after its
//! end, and for how long at most. Time that a guarantee allows runs anew from the end of the last such span
//! that begins before it is over. Nothing else is excused, and a **loss never is**: what is missing when the
//! record ends is a violation, even if a fault is still open, as soon as the plain bound has passed. A crash of an
//! edge is a fault that excuses G6 for at most 15 s (its lease), which makes the 20 s of the guarantee.
//!
//! # What is checked
//! An event is known by `(author, event id)`. Its **place** is the seq at which most devices and readings of
//! history have it, the lowest if as many have another; a device has it at the lowest copy that reached it (or at
//! which it was told `accepted`), as the protocol asks. So a second copy in the log is no violation where all drop
//! it. **Audience**: both of a conversation, or the members of a group at its place, as
//! [`tandem_kernel::group`] folds the changes that the record holds: who joins sees it from the joining event
//! on, who left up to the leaving one. Without who blocked the author all the while from submitting to the first
//! answer or sight (5 s after a change of a relation either is right).
//!
//! | | an obligation is | violations |
//! | --- | --- | --- |
//! | G1 | an accepted event × a device of its audience, for each time that it was set up | `lost`: the device is synced at the end, has been for 5 s, and has no copy, or not on its screen. `late`: its first copy came more than 5 s after both the acceptance and the beginning of a span of being synced that lasted so long; or never, in that span |
//! | G2 | an event that a device showed; a line of a screen | `shown twice`; `twice on the screen`; `refused and shown`: its author was told that it never will be in the log. Copies on the wire that a device drops are information |
//! | G3 | an event on a device or in a reading; a line; a live event; an event sent | `another place`: a device or history has it elsewhere than most (once for each event). `screen`: lines not in rising seq. `live`: a live event shown after one of a higher seq in one session (not resumed ones apart; what the device itself sent is out). `sending order`: at a lower place than what the same device sent earlier to the conversation. What is refused is out; what was refused for now may stand anywhere from its first ordinal to its new one |
//! | G4 | an event that was accepted or seen × a person of its audience who read the conversation back | `missing` in their last reading, if that began 5 s or more after the event was known; `late`: missing in an earlier one that began after it was due; `twice` in one reading |
//! | G5 | a text or nudge × a device with a push token of a recipient | `missing`, `late`: no device of the person had confirmed it (`Received`, `Read` sent) 5 s (the window) and 5 s (the way) after it was accepted, and the gateway had no notification of its place (or, if the gateway cannot tell, of its conversation after it was sent). Notifications of one event more than once are information |
//! | G6 | a status told to a watcher; a moment at which a change must have shown; the same after the watcher connects | `wrong status`: told, and not what the contact's sessions add up to now or up to 5 s ago (10 s after a lost connection: damping). `old status`: still held then. `version`: lower than one told before. Only status and message count, the device's class does not |
//! | G9 | an event whose author must learn nothing of a member; a status that must be "offline" | `receipt`: of an event that was withheld, or confirmed and told while the reader hid (blocked; in a conversation of two also: no contact). `status shown` to somebody who may not see it. `astray`: an event reached a device, a history or a notification of somebody outside its audience |
//!
//! A guarantee of which nothing was checked says so, see [`Verdict::covers`]. An obligation that the record ends
//! too soon for is counted as undecided. What a record must not contain (an acceptance of what was never
//! submitted, an unknown device) is a flaw, and a verdict with flaws is not clean.
//!
//! # What it does not see
//! Typing; the text of an event; that a presence class is right; groups that a fact neither declares nor an event
//! begins (counted); a member's right to an edit or a delete.

mod audience;
mod check;
mod device;
mod faults;
mod held;
mod model;
mod names;
mod parts;
pub mod record;
mod rules;
mod take;
mod timeline;
mod truth;
mod verdict;

pub use record::{Excuse, Guarantee, How, Kind, Line, Record, Status, VERSION, What, Who};
pub use rules::Rules;
pub use verdict::{Broken, Example, Finding, Verdict};

/// Takes a record in, one after the other, and decides.
#[derive(Debug, Default)]
pub struct Checker(model::Model);

impl Checker {
    /// With other bounds than the architecture's.
    pub fn with(rules: Rules) -> Self {
        let mut checker = Self::default();
        checker.0.rules = rules;
        checker
    }

    /// The next record.
    pub fn take(&mut self, record: Record) {
        self.0.take(record);
    }

    /// The next record, as a line of JSON.
    pub fn take_line(&mut self, line: &str) -> Result<(), serde_json::Error> {
        self.take(serde_json::from_str(line)?);
        Ok(())
    }

    /// The record is complete.
    pub fn verdict(self) -> Verdict {
        self.0.verdict()
    }
}
