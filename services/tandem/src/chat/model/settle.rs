//! What follows from how things stand, whatever led there: the list, read marks, older messages, typing.

use std::collections::BTreeSet;

use tandem_client::Core;
use tandem_proto::client::contact;

use super::{super::layout, Effect, Link, State, TYPING_AGAIN_MS};

impl State {
    pub(super) fn settle(&mut self, core: &Core) {
        self.typing.retain(|_, until| *until > self.now_ms);
        self.list(core);
        self.follow_typing();
        let Some(id) = self.current.clone() else {
            return;
        };
        self.read(core, &id);
        if !self.plain && self.panel.is_none() && self.wants_older(core) {
            self.fetch(core, &id);
        }
    }

    fn list(&mut self, core: &Core) {
        let known: BTreeSet<&str> = self.tabs.iter().map(String::as_str).collect();
        let mut found: Vec<(i64, String)> = core
            .conversations()
            .filter(|(id, c)| !known.contains(id) && c.newest().0 > 0)
            .map(|(id, c)| (c.newest().1, id.to_owned()))
            .collect();
        for contact in core
            .contacts()
            .filter(|c| c.state() == contact::State::Mutual)
        {
            if let Some(id) = core.with(&contact.user)
                && !known.contains(id.as_str())
                && !found.iter().any(|(_, f)| *f == id)
            {
                found.push((0, id));
            }
        }
        found.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        self.tabs.extend(found.into_iter().map(|(_, id)| id));
        if !self.sorted && core.is_synced() {
            // from here on the numbers stay
            self.sorted = true;
            let newest = |id: &String| core.conversation(id).map_or(0, |c| c.newest().1);
            self.tabs.sort_by_key(|id| std::cmp::Reverse(newest(id)));
        }
        if let Some(wanted) = self.wanted.clone()
            && core.me().is_some()
        {
            self.wanted = None;
            self.go_to(core, &wanted);
        } else if self.sorted
            && self.current.is_none()
            && !self.plain
            // what is open is read, and that a stranger's request is, the person decides
            && let Some(first) = self.tabs.iter().find(|id| !is_request(core, id)).cloned()
        {
            self.open(core, &first);
        }
    }

    fn read(&mut self, core: &Core, id: &str) {
        let (Some(c), Some(me)) = (core.conversation(id), core.me()) else {
            return;
        };
        // what a script prints is read; a person must see the newest
        if !self.plain && (!self.focused || self.scroll.is_some() || self.panel.is_some()) {
            return;
        }
        let theirs = c
            .messages_after(c.read(me))
            .rev()
            .find(|m| m.event.sender != me);
        if let Some(newest) = theirs {
            self.out.push(Effect::Read(id.to_owned(), newest.seq));
        }
    }

    /// Whether the topmost rows in view are the oldest that are here, and there are older ones.
    fn wants_older(&self, core: &Core) -> bool {
        let Some(c) = self.view(core) else {
            return false;
        };
        if c.ranges().newest_gap().is_none() {
            return false;
        }
        let geometry = layout::geometry(self);
        let need = geometry.body_height * 2;
        layout::rows(self, core, geometry.body_width, need).len() < need
    }

    pub(super) fn fetch(&mut self, core: &Core, id: &str) {
        if core.is_connected() && self.fetching.insert(id.to_owned()) {
            self.out.push(Effect::Back(id.to_owned()));
        }
    }

    fn follow_typing(&mut self) {
        let id = self.current.clone();
        let written = self.written();
        let writes =
            written.is_some_and(|d| !d.editor.is_empty() && !d.editor.text().starts_with('/'));
        match (&self.told_typing, id) {
            (Some((told, _, last_key)), Some(id))
                if *told == id && writes && self.now_ms - last_key < TYPING_AGAIN_MS * 2 => {}
            (Some(_), _) => self.cease_typing(),
            (None, _) => {}
        }
    }

    /// A key changed what is being written.
    pub(super) fn typed(&mut self) {
        let Some(id) = self.current.clone() else {
            return;
        };
        let text = self.written().map_or("", |d| d.editor.text());
        if text.is_empty() || text.starts_with('/') || self.link != Link::Up {
            return;
        }
        let now = self.now_ms;
        match &mut self.told_typing {
            Some((told, at, last_key)) if *told == id => {
                *last_key = now;
                if now - *at < TYPING_AGAIN_MS {
                    return;
                }
                *at = now;
            }
            _ => {
                self.cease_typing();
                self.told_typing = Some((id.clone(), now, now));
            }
        }
        self.out.push(Effect::Typing(id, true));
    }

    pub(super) fn cease_typing(&mut self) {
        if let Some((id, _, _)) = self.told_typing.take() {
            self.out.push(Effect::Typing(id, false));
        }
    }
}

fn is_request(core: &Core, id: &str) -> bool {
    core.conversation(id)
        .is_some_and(tandem_client::domain::Conversation::is_request)
}
