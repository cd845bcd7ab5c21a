//! What the keys do.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tandem_client::Core;

use super::{
    super::{command::COMMANDS, layout, names},
    Anchor, Mode, State,
};

impl State {
    pub(super) fn on_key(&mut self, core: &Core, key: KeyEvent) {
        if key.kind == KeyEventKind::Release {
            return;
        }
        let (ctrl, alt) = (
            key.modifiers.contains(KeyModifiers::CONTROL),
            key.modifiers.contains(KeyModifiers::ALT),
        );
        let page = layout::geometry(self).body_height.saturating_sub(2).max(1);
        match key.code {
            KeyCode::Char('c') if ctrl => return self.quit(core),
            KeyCode::Char('d') if ctrl && self.written().is_none_or(|d| d.editor.is_empty()) => {
                return self.quit(core);
            }
            KeyCode::F(1) => return self.show("Help", super::super::command::help(None)),
            KeyCode::PageUp => return self.scroll_up(core, page),
            KeyCode::PageDown => return self.scroll_down(core, page),
            KeyCode::End if ctrl => return self.scroll = None,
            KeyCode::Up if alt => return self.select(core, true),
            KeyCode::Down if alt => return self.select(core, false),
            KeyCode::Char(n @ '1'..='9') if alt => {
                let at = n.to_digit(10).unwrap_or(1) as usize - 1;
                if let Some(id) = self.tabs.get(at).cloned() {
                    self.open(core, &id);
                }
                return;
            }
            KeyCode::Char('a') if alt => return self.next_unread(core),
            KeyCode::BackTab => return self.step(core, false),
            KeyCode::Tab => {
                if !self.complete(core) {
                    self.step(core, true);
                }
                return;
            }
            KeyCode::Esc => return self.cancel(),
            KeyCode::Up if self.written().is_none_or(|d| d.editor.is_empty()) => {
                return self.take_back(core);
            }
            KeyCode::Enter if !alt => {
                if self.panel.is_some() && self.written().is_none_or(|d| d.editor.is_empty()) {
                    self.panel = None;
                    return;
                }
                return self.submit(core);
            }
            _ => {}
        }
        self.warned = false;
        let editor = &mut self.draft().editor;
        match key.code {
            KeyCode::Enter => editor.insert("\n"),
            KeyCode::Char('j') if ctrl => editor.insert("\n"),
            KeyCode::Char('a') if ctrl => editor.home(),
            KeyCode::Char('e') if ctrl => editor.end(),
            KeyCode::Char('u') if ctrl => editor.cut_before(),
            KeyCode::Char('k') if ctrl => editor.cut_after(),
            KeyCode::Char('w') if ctrl => editor.backspace(true),
            KeyCode::Char('d') if ctrl => editor.delete(),
            KeyCode::Char('b') if alt => editor.left(true),
            KeyCode::Char('f') if alt => editor.right(true),
            KeyCode::Backspace => editor.backspace(alt || ctrl),
            KeyCode::Delete => editor.delete(),
            KeyCode::Left => editor.left(ctrl || alt),
            KeyCode::Right => editor.right(ctrl || alt),
            KeyCode::Home => editor.home(),
            KeyCode::End => editor.end(),
            KeyCode::Char(c) if !ctrl && !alt => editor.insert(c.encode_utf8(&mut [0; 4])),
            _ => return,
        }
        self.typed();
    }

    fn step(&mut self, core: &Core, forward: bool) {
        let n = self.tabs.len();
        if n == 0 {
            return;
        }
        let at = self
            .tabs
            .iter()
            .position(|t| Some(t) == self.current.as_ref());
        let next = match at {
            Some(at) if forward => (at + 1) % n,
            Some(at) => (at + n - 1) % n,
            None => 0,
        };
        let id = self.tabs[next].clone();
        self.open(core, &id);
    }

    fn next_unread(&mut self, core: &Core) {
        let me = core.me().unwrap_or_default();
        let unread = |id: &&String| {
            Some(*id) != self.current.as_ref()
                && core.conversation(id).is_some_and(|c| c.unread(me) > 0)
        };
        match self.tabs.iter().find(unread).cloned() {
            Some(id) => self.open(core, &id),
            None => self.say("nothing new elsewhere"),
        }
    }

    fn cancel(&mut self) {
        if self.panel.take().is_some() {
            return;
        }
        let draft = self.draft();
        if draft.mode == Mode::New {
            if self.selected.take().is_none() {
                self.scroll = None;
            }
        } else {
            if matches!(draft.mode, Mode::Edit(_)) {
                draft.editor.take();
            }
            draft.mode = Mode::New;
            self.selected = None;
        }
        self.notices.retain(|n| !n.bad);
    }

    /// A refused text, or one's own last message, comes back into the line.
    fn take_back(&mut self, core: &Core) {
        let id = self.current.clone().unwrap_or_default();
        let refused = self.refused.entry(id).or_default();
        if let Some(refused) = refused.iter_mut().rev().find(|r| !r.given_back) {
            refused.given_back = true;
            let text = refused.text.clone();
            self.draft().editor.set(text);
        } else if let Some((seq, text)) = self.own(core) {
            let draft = self.draft();
            draft.mode = Mode::Edit(seq);
            draft.editor.set(text);
        }
    }

    fn select(&mut self, core: &Core, up: bool) {
        let Some(c) = self.view(core) else { return };
        let seqs: Vec<u64> = Self::lines(c)
            .filter(|m| m.text.is_some())
            .map(|m| m.seq)
            .collect();
        let at = self
            .selected
            .and_then(|s| seqs.iter().position(|q| *q == s));
        let next = match at {
            None if up => Some(0),
            None => None,
            Some(at) if up => Some((at + 1).min(seqs.len().saturating_sub(1))),
            Some(at) => at.checked_sub(1),
        };
        self.selected = next.and_then(|n| seqs.get(n)).copied();
        let Some(seq) = self.selected else {
            self.scroll = None;
            return;
        };
        let geometry = layout::geometry(self);
        let shown = layout::rows(self, core, geometry.body_width, geometry.body_height);
        if !shown.iter().any(|row| row.at.seq == seq) {
            self.scroll = Some(Anchor {
                seq,
                row: usize::MAX,
            });
        }
    }

    fn scroll_up(&mut self, core: &Core, by: usize) {
        if let Some(panel) = &mut self.panel {
            panel.top = panel.top.saturating_sub(by);
            return;
        }
        let g = layout::geometry(self);
        // newest first
        let rows = layout::rows(self, core, g.body_width, g.body_height + by);
        let at = by.min(rows.len().saturating_sub(g.body_height));
        if at > 0 {
            self.scroll = rows.get(at).map(|row| row.at);
        }
    }

    fn scroll_down(&mut self, core: &Core, by: usize) {
        let g = layout::geometry(self);
        if let Some(panel) = &mut self.panel {
            panel.top = (panel.top + by).min(panel.lines.len().saturating_sub(g.body_height / 2));
            return;
        }
        let Some(anchor) = self.scroll.take() else {
            return;
        };
        // from the newest up to the anchor
        let mut need = g.body_height;
        loop {
            let rows = layout::rows(self, core, g.body_width, need);
            let at = rows
                .iter()
                .position(|row| row.at.seq < anchor.seq || row.at == anchor);
            match at {
                Some(at) if at > by => {
                    self.scroll = rows.get(at - by).map(|row| row.at);
                    return;
                }
                Some(_) => return,
                None if rows.len() < need => return,
                None => need *= 2,
            }
        }
    }

    /// Completes the word at the cursor; false if there is nothing to complete.
    fn complete(&mut self, core: &Core) -> bool {
        let Some(draft) = self.written() else {
            return false;
        };
        let (text, word) = (draft.editor.text(), draft.editor.word());
        if word.is_empty() {
            return false;
        }
        let people = || {
            let here = self
                .current
                .as_ref()
                .map(|id| self.people(core, id))
                .unwrap_or_default();
            let contacts = core.contacts().map(|c| c.user.clone());
            here.into_iter()
                .chain(contacts)
                .map(|p| names::handle(core, &p))
        };
        let whole = if word.starts_with('/') && text.trim_start() == word {
            COMMANDS
                .iter()
                .map(|s| format!("/{}", s.name))
                .find(|c| c.starts_with(word))
        } else if word.starts_with('@') {
            people()
                .map(|p| format!("@{p}"))
                .find(|p| p.starts_with(word))
        } else if text.starts_with('/') && !text.starts_with("//") {
            people().find(|p| p.starts_with(word))
        } else {
            return false;
        };
        if let Some(whole) = whole {
            self.draft().editor.complete(&format!("{whole} "));
        }
        true
    }
}
