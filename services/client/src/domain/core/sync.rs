//! Sync: which pages a device asks for, and up to where it then holds everything.

use std::{collections::BTreeSet, mem};

use tandem_proto::client::{
    Contact, Head, Heads, Page, PageRequest, Presence, Problem, Response, contact, request,
    response,
};

use super::{
    super::update::{Pages, Update},
    Asker, Core, FETCHES, read_frame,
};

impl Core {
    pub(super) fn on_heads(&mut self, heads: Heads) {
        for head in heads.heads {
            if self.pages == Pages::None {
                continue;
            }
            let track = self.tracks.entry(head.conversation.clone()).or_default();
            if head.last_seq > track.have.max(track.target) {
                if head.last_content_seq > 0 && head.last_content_seq <= track.have {
                    // only receipts are ahead, and the head has said what they say
                    track.have = head.last_seq;
                } else {
                    track.target = head.last_seq;
                    if !self.to_fetch.contains(&head.conversation) {
                        self.to_fetch.push_back(head.conversation.clone());
                    }
                }
            }
            self.take_head(head);
        }
        self.fetch();
    }

    pub(super) fn take_head(&mut self, mut head: Head) {
        if self.lean {
            return;
        }
        let id = head.conversation.clone();
        let me = self.me().unwrap_or_default().to_owned();
        let read = self.conversations.get(&id).map_or(0, |c| c.read(&me));
        if read > head.read_seq {
            // the edge that was told is gone, and nobody else knows
            self.out.push(read_frame(&id, read));
        }
        let last = head.last_message.take();
        self.conversations
            .entry(id.clone())
            .or_default()
            .take_head(head, &me);
        if let Some(event) = last {
            self.put(event, false);
        }
        self.updates.push(Update::Conversation(id));
    }

    /// Asks for the pages that are lacking, a few at once.
    pub(super) fn fetch(&mut self) {
        let mut open = self
            .asked
            .values()
            .filter(|a| matches!(a, Asker::Sync(_)))
            .count();
        while open < FETCHES {
            let Some(id) = self.to_fetch.pop_front() else {
                return;
            };
            let limit = self.limits.page.max(1);
            let Some(track) = self.tracks.get_mut(&id) else {
                continue;
            };
            if !track.behind() || track.asked > 0 {
                continue;
            }
            track.asked = track.target;
            track.reached = track.reached.max(track.have);
            let page = match self.pages {
                Pages::All => PageRequest {
                    conversation: id.clone(),
                    after: track.reached,
                    before: 0,
                    limit,
                },
                Pages::Newest(n) => PageRequest {
                    conversation: id.clone(),
                    after: 0,
                    before: 0,
                    limit: n.min(limit),
                },
                Pages::None => return,
            };
            // `after` 0 would ask for the newest: the first event of all has a seq above 1
            let page = match self.pages {
                Pages::All => PageRequest {
                    after: page.after.max(1),
                    ..page
                },
                Pages::Newest(_) | Pages::None => page,
            };
            self.request(Asker::Sync(id), request::Op::Page(page));
            open += 1;
        }
    }

    /// Pages that could not be had are asked for again. To be called every second or so.
    pub fn tick(&mut self) {
        if mem::take(&mut self.fetch_again) && self.connected {
            self.to_fetch = self
                .tracks
                .iter()
                .filter(|(_, t)| t.behind())
                .map(|(c, _)| c.clone())
                .collect();
            self.fetch();
        }
    }

    pub(super) fn on_response(&mut self, response: Response) {
        let Some(asker) = self.asked.remove(&response.id) else {
            return;
        };
        let mut result = match response.result {
            Some(response::Result::Problem(p)) => Err(p),
            Some(other) => Ok(other),
            None => Err(Problem {
                code: "malformed".into(),
                ..Problem::default()
            }),
        };
        match asker {
            Asker::Contacts => {
                if let Ok(response::Result::Contacts(all)) = result {
                    self.contacts_known = true;
                    let listed: BTreeSet<&String> = all.contacts.iter().map(|c| &c.user).collect();
                    self.contacts.retain(|user, _| listed.contains(user));
                    for contact in all.contacts {
                        let kept = self.keep_answered(contact);
                        self.updates.push(Update::Contact(kept));
                    }
                }
            }
            Asker::Sync(id) => {
                match result {
                    Ok(response::Result::Page(page)) => self.on_sync_page(&id, page),
                    result => self.on_page_failed(&id, result.err()),
                }
                self.fetch();
            }
            Asker::Caller(number, asked) => {
                match (&mut result, asked) {
                    (Ok(response::Result::Page(page)), Some(asked)) => {
                        self.on_asked_page(&asked, page.clone());
                    }
                    (Ok(response::Result::Heads(heads)), _) => {
                        for head in heads.heads.clone() {
                            self.take_head(head);
                        }
                    }
                    (Ok(response::Result::Contacts(all)), _) => {
                        for contact in &mut all.contacts {
                            *contact = self.keep_answered(mem::take(contact));
                        }
                    }
                    _ => {}
                }
                self.answers.push((number, result));
            }
        }
    }

    pub(super) fn on_sync_page(&mut self, id: &str, page: Page) {
        let Some(track) = self.tracks.get_mut(id) else {
            return;
        };
        let asked = mem::take(&mut track.asked);
        let (first, last) = (
            page.events.first().map(|e| e.seq),
            page.events.last().map(|e| e.seq),
        );
        let mut held = None;
        let reached_end = match self.pages {
            Pages::All => {
                let from = track.reached;
                track.reached = track.reached.max(last.unwrap_or(0));
                let end = !page.more || last.is_none();
                let up_to = if end {
                    asked.max(track.reached)
                } else {
                    track.reached
                };
                held = Some((from, up_to));
                end
            }
            Pages::Newest(_) => {
                if let Some(first) = first {
                    let from = if page.more { first - 1 } else { 0 };
                    held = Some((from, asked.max(last.unwrap_or(0))));
                }
                true
            }
            Pages::None => return,
        };
        if reached_end {
            track.have = track.have.max(asked).max(last.unwrap_or(0));
            track.reached = track.have;
        }
        if track.behind() {
            self.to_fetch.push_back(id.to_owned());
        } else if self.synced {
            track.have = track.have.max(track.live);
            track.exact.clear();
            track.confirm = true;
            self.dirty.insert(id.to_owned());
        }
        if let Some((after, up_to)) = held.filter(|_| !self.lean) {
            self.conversations
                .entry(id.to_owned())
                .or_default()
                .holds(after, up_to);
        }
        for event in page.events {
            self.put(event, false);
        }
        self.hold_live(id);
    }

    /// What came live on top of what was fetched is held, too.
    pub(super) fn hold_live(&mut self, id: &str) {
        if let (Some(track), Some(c)) = (self.tracks.get(id), self.conversations.get_mut(id)) {
            let top = c.ranges().top();
            if !track.behind() && top < track.have {
                c.holds(top, track.have);
            }
        }
    }

    pub(super) fn on_page_failed(&mut self, id: &str, problem: Option<Problem>) {
        let Some(track) = self.tracks.get_mut(id) else {
            return;
        };
        track.asked = 0;
        let code = problem.map(|p| p.code).unwrap_or_default();
        if matches!(code.as_str(), "not_found" | "not_a_member" | "forbidden") {
            track.target = 0;
        } else {
            self.fetch_again = true;
        }
    }

    /// A page that the person scrolled to.
    pub(super) fn on_asked_page(&mut self, asked: &PageRequest, page: Page) {
        let (first, last) = (
            page.events.first().map(|e| e.seq),
            page.events.last().map(|e| e.seq),
        );
        let c = self
            .conversations
            .entry(asked.conversation.clone())
            .or_default();
        let ends = if asked.before > 0 {
            Some((
                if page.more {
                    first.map_or(0, |f| f - 1)
                } else {
                    0
                },
                asked.before - 1,
            ))
        } else if asked.after > 0 {
            Some((asked.after, last.unwrap_or(0)))
        } else {
            first.map(|f| (if page.more { f - 1 } else { 0 }, last.unwrap_or(0)))
        };
        if let Some((after, up_to)) = ends {
            c.holds(after, up_to);
        }
        for event in page.events {
            self.put(event, false);
        }
    }

    /// Keeps a relation, and gives it back as it is kept: what is known of a contact's presence stays when
    /// the relation is told without.
    fn keep_contact(&mut self, mut contact: Contact) -> Contact {
        if contact.state() == contact::State::None {
            self.contacts.remove(&contact.user);
            return contact;
        }
        if contact.presence.is_none() && contact.state() == contact::State::Mutual {
            contact.presence = self.known_presence(&contact.user);
        }
        self.contacts.insert(contact.user.clone(), contact.clone());
        contact
    }

    /// Keeps a relation of an answer, which what came live may have overtaken.
    fn keep_answered(&mut self, mut contact: Contact) -> Contact {
        if contact.state() == contact::State::Mutual
            && let Some(presence) = self.live_presences.get(&contact.user)
        {
            contact.presence = Some(presence.clone());
        }
        self.keep_contact(contact)
    }

    fn known_presence(&self, user: &str) -> Option<Presence> {
        self.contacts.get(user)?.presence.clone()
    }

    pub(super) fn on_presence(&mut self, presence: Presence) {
        let known = self.live_presences.get(&presence.user);
        let known = known.or_else(|| self.contacts.get(&presence.user)?.presence.as_ref());
        if presence.version != 0 && known.is_some_and(|k| presence.version < k.version) {
            return;
        }
        if let Some(contact) = self.contacts.get_mut(&presence.user) {
            contact.presence = Some(presence.clone());
        }
        let user = presence.user.clone();
        self.live_presences.insert(user, presence.clone());
        self.updates.push(Update::Presence(presence));
    }

    pub(super) fn on_contact(&mut self, contact: Contact) {
        // it tells of the presence itself
        self.live_presences.remove(&contact.user);
        let kept = self.keep_contact(contact);
        self.updates.push(Update::Contact(kept));
    }

    /// `Synced` came: what was received on top of complete conversations becomes theirs.
    pub(super) fn settle(&mut self) {
        for (id, track) in &mut self.tracks {
            if !track.behind() && track.live > track.have {
                track.have = track.live;
                track.exact.clear();
                track.confirm = true;
                self.dirty.insert(id.clone());
            }
        }
        let ids: Vec<String> = self.dirty.iter().cloned().collect();
        for id in ids {
            self.hold_live(&id);
        }
        self.confirm_again();
        self.updates.push(Update::Synced);
    }

    pub(super) fn confirm_again(&mut self) {
        let me = self.me().unwrap_or_default().to_owned();
        for id in mem::take(&mut self.reconfirm).into_keys() {
            let read = self.conversations.get(&id).map_or(0, |c| c.read(&me));
            if let Some(track) = self.tracks.get_mut(&id)
                && !track.behind()
            {
                track.confirm = true;
                self.dirty.insert(id.clone());
            }
            if read > 0 {
                self.out.push(read_frame(&id, read));
            }
        }
    }
}
