//! Takes records in, in the order of their times.

use crate::{
    device::{Copy, Session, Told, Why},
    model::{Class, Model, NEVER, Notified, Reading, Receipt, Said, Screen, Sent},
    record::{Kind, Record, VERSION, What},
};

impl Model {
    pub(crate) fn take(&mut self, mut record: Record) {
        self.records += 1;
        if self.records == 1 && !matches!(record.what, What::Begun { .. }) {
            self.flaw("the first record must be `begun`");
        }
        if record.at + 1_000_000 < self.last {
            self.flaw("it is older than the one before it");
        }
        // one of several threads may come late by a moment
        record.at = record.at.max(self.last);
        self.last = record.at;
        if !self.settled {
            self.end = record.at;
        }
        if record.who.is_some() {
            self.take_devices(record);
        } else {
            self.take_fact(record);
        }
    }

    fn take_fact(&mut self, record: Record) {
        let at = record.at;
        match record.what {
            What::Begun { version, .. } => {
                if version != VERSION {
                    self.flaw(&format!(
                        "its version is {version}, and this checker reads {VERSION}"
                    ));
                }
            }
            What::Settled {} => self.settled = true,
            What::Contacts { a, b, are, since } => {
                let (a, b) = (self.users.number(&a), self.users.number(&b));
                let pair = (a.min(b), a.max(b));
                let changes = &mut self.contacts.entry(pair).or_default().changes;
                changes.push((since, at, are));
            }
            What::Block {
                by,
                blocked,
                is,
                since,
            } => {
                let pair = (self.users.number(&by), self.users.number(&blocked));
                let changes = &mut self.blocks.entry(pair).or_default().changes;
                changes.push((since, at, is));
            }
            What::Group {
                conversation,
                owner,
                members,
            } => {
                let talk = self.talks.number(&conversation);
                self.groups.insert(talk, (owner, members));
            }
            What::FaultBegan { fault, excuses, .. } => {
                if !self.faults.began(fault, at, excuses) {
                    self.flaw("a fault of this number is open already");
                }
            }
            What::FaultEnded { fault } => {
                if !self.faults.ended(fault, at) {
                    self.flaw("no fault of this number is open");
                }
            }
            _ => self.flaw("it is a device's, and `who` is not set"),
        }
    }

    fn take_devices(&mut self, record: Record) {
        let Some(number) = self.device_of(&record) else {
            return;
        };
        let said = Said {
            at: record.at,
            line: self.records,
        };
        let at = record.at;
        let device = &mut self.devices[number as usize];
        let reads_back = matches!(
            record.what,
            What::Device { .. }
                | What::History { .. }
                | What::Screen { .. }
                | What::Notified { .. }
        );
        if self.settled && !reads_back {
            return;
        }
        match record.what {
            What::Device { listens } => {
                (device.declared, device.listens) = (true, listens);
                return;
            }
            What::PushToken { is } => device.tokens.push((at, is)),
            What::Emptied {} => device.emptied(said),
            What::Connecting { status } => device.hello(at, status),
            What::Welcome { resumed, .. } => {
                device.welcome(said, resumed);
                self.count(
                    if resumed {
                        "sessions resumed"
                    } else {
                        "sessions opened"
                    },
                    1,
                );
            }
            What::Synced {} => device.synced(said),
            What::Resyncing {} => device.resyncing(said),
            What::Lost { heard, .. } => device.lost(heard.unwrap_or(at), at, Why::Lost),
            What::Closed {} => device.lost(at, at, Why::Closed),
            What::PresenceSet { status, message } => {
                let message = self.text(&message);
                self.devices[number as usize].set(at, Session { status, message });
            }
            What::Presence {
                of,
                status,
                message,
                version,
                shown,
            } => {
                if !shown {
                    return self.count("statuses dropped as older", 1);
                }
                let (of, message) = (self.users.number(&of), self.text(&message));
                let told = Told {
                    said,
                    session: Session { status, message },
                    version,
                };
                let device = &mut self.devices[number as usize];
                device.told.entry(of).or_default().push(told);
            }
            What::Submitted {
                id,
                conversation,
                ordinal,
                kind,
            } => self.submitted(number, said, &id, &conversation, ordinal, kind),
            What::Accepted { id, seq } => self.accepted(number, said, &id, seq),
            What::Rejected { id, again, .. } => self.rejected(number, said, &id, again),
            What::Confirmed {
                conversation,
                delivered,
                exact,
                read,
            } => {
                let key = (device.user, self.talks.number(&conversation));
                let confirmed = self.confirmed.entry(key).or_default();
                confirmed.say(at, delivered.max(read), exact);
            }
            What::Seen {
                conversation,
                seq,
                id,
                author,
                how,
                shown,
            } => {
                let author = self.users.number(&author);
                let talk = self.talks.number(&conversation);
                let Some(event) = self.event(author, &id, talk) else {
                    return;
                };
                let copy = Copy {
                    event,
                    line: said.line,
                    seq,
                    at,
                    how: Some(how),
                    shown,
                };
                self.seen(number, said, copy);
            }
            What::Receipt {
                conversation,
                by,
                delivered,
                exact,
                read,
                how: _,
            } => {
                let receipt = Receipt {
                    device: number,
                    talk: self.talks.number(&conversation),
                    by: self.users.number(&by),
                    up_to: delivered.max(read),
                    exact: exact.into(),
                    said,
                };
                self.receipts.push(receipt);
            }
            What::Notified { conversation, seq } => {
                let talk = self.talks.number(&conversation);
                let all = self.notified.entry((number, talk)).or_default();
                all.push(Notified { seq, said });
            }
            What::Screen {
                conversation,
                lines,
            } => {
                let talk = self.talks.number(&conversation);
                let screen = Screen {
                    line: said.line,
                    lines: self.lines(talk, &lines),
                };
                self.screens.insert((number, talk), screen);
            }
            What::History {
                conversation,
                since,
                lines,
                complete,
            } => {
                let talk = self.talks.number(&conversation);
                let lines = self.lines(talk, &lines);
                let reading = Reading {
                    device: number,
                    talk,
                    since,
                    line: said.line,
                    lines: Vec::new(),
                };
                let key = (number, talk);
                let open = self.open_readings.entry(key).or_insert(reading);
                open.lines.extend(lines);
                open.line = said.line;
                if complete && let Some(reading) = self.open_readings.remove(&key) {
                    self.readings.push(reading);
                }
            }
            _ => return self.flaw("it is the driver's, and `who` is set"),
        }
        if !self.devices[number as usize].declared {
            self.flaw("its device was not declared (`device`) before");
            self.devices[number as usize].declared = true;
        }
    }

    /// The number of a personal message; that of none is 0.
    fn text(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            0
        } else {
            self.texts.number(text) + 1
        }
    }

    fn submitted(
        &mut self,
        device: u32,
        said: Said,
        id: &str,
        conversation: &str,
        ordinal: u64,
        kind: Kind,
    ) {
        let author = self.devices[device as usize].user;
        let talk = self.talks.number(conversation);
        let Some(number) = self.event(author, id, talk) else {
            return;
        };
        let event = &mut self.events[number as usize];
        if let Some(sent) = &mut event.sent {
            if event.put_off || event.refused.is_some() {
                sent.again = sent.ordinal.max(ordinal);
            }
            event.refused = None;
            event.put_off = false;
            return self.count("events submitted again", 1);
        }
        event.sent = Some(Sent {
            device,
            ordinal,
            again: ordinal,
            at: said.at,
            line: said.line,
        });
        event.class = match &kind {
            Kind::Text | Kind::Nudge => Class::Ring,
            Kind::Edit | Kind::Delete | Kind::Reaction => Class::Note,
            _ => Class::Change,
        };
        if event.class == Class::Change {
            event.change = Some(Box::new(kind));
        }
    }

    fn accepted(&mut self, device: u32, said: Said, id: &str, seq: u64) {
        let author = self.devices[device as usize].user;
        let Some(number) = self.known_event(author, id) else {
            return self.flaw("accepted, and never submitted");
        };
        let event = &mut self.events[number as usize];
        if event.accepted.is_none() {
            event.accepted = Some(said);
            event.told = seq;
        }
        self.devices[device as usize].copies.push(Copy {
            event: number,
            line: said.line,
            seq,
            at: said.at,
            how: None,
            shown: false,
        });
    }

    fn rejected(&mut self, device: u32, said: Said, id: &str, again: bool) {
        let author = self.devices[device as usize].user;
        let Some(number) = self.known_event(author, id) else {
            return self.flaw("rejected, and never submitted");
        };
        let event = &mut self.events[number as usize];
        if again {
            event.put_off = true;
        } else {
            event.refused = Some(said);
        }
    }

    fn seen(&mut self, device: u32, said: Said, copy: Copy) {
        if copy.seq == 0 || copy.seq == NEVER {
            return self.flaw("an event without a place");
        }
        let event = &mut self.events[copy.event as usize];
        event.delivered.get_or_insert(said);
        self.devices[device as usize].copies.push(copy);
    }
}
