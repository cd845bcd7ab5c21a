//! One message, or what waits to be sent, as rows.

use jiff::Zoned;
use ratatui::{
    style::{Color, Modifier, Style},
    text::{Line, Span},
};
use tandem_client::{
    Core,
    domain::{Conversation, Message},
};
use tandem_kernel::event::Kind;

use super::{
    super::{
        model::State,
        names,
        text::{clean, cut, fit, one_line, width, wrap},
    },
    deed, dim, kind, local,
};

/// Paints the rows of a conversation.
pub(super) struct Painter<'a> {
    state: &'a State,
    core: &'a Core,
    me: &'a str,
    columns: usize,
    /// Columns of the time and of the name.
    time: usize,
    name: usize,
    /// The newest message of one's own that everybody has read.
    newest_read: u64,
    /// The others in the conversation, if known.
    others: usize,
}

impl<'a> Painter<'a> {
    pub(super) fn new(state: &'a State, core: &'a Core, columns: usize) -> Self {
        let me = core.me().unwrap_or_default();
        let (time, name) = if columns >= 50 { (6, 10) } else { (0, 8) };
        let id = state.current.as_deref().unwrap_or_default();
        let others = state.people(core, id).len().max(1);
        let newest_read = state.view(core).and_then(|c| {
            let mut own = State::lines(c).filter(|m| m.event.sender == me && m.text.is_some());
            own.find(|m| c.seen_by(me, m.seq).1.len() >= others)
        });
        let newest_read = newest_read.map_or(0, |m| m.seq);
        Self {
            state,
            core,
            me,
            columns,
            time,
            name,
            newest_read,
            others,
        }
    }

    fn indent(&self) -> usize {
        self.time + self.name + 1
    }

    fn text_columns(&self) -> usize {
        self.columns.saturating_sub(self.indent()).max(4)
    }

    fn head(&self, time: &str, name: &str, style: Style) -> Vec<Span<'static>> {
        let time = if self.time > 0 {
            fit(time, self.time)
        } else {
            String::new()
        };
        vec![
            Span::styled(time, dim()),
            Span::styled(fit(name, self.name), style),
            Span::raw(" "),
        ]
    }

    fn rule(&self, label: &str, style: Style) -> Line<'static> {
        let label = format!("── {label} ");
        let filled = self.columns.saturating_sub(width(&label));
        Line::styled(format!("{label}{}", "─".repeat(filled)), style)
    }

    fn local(&self, at_ms: i64) -> Option<Zoned> {
        local(&self.state.zone, at_ms)
    }

    pub(super) fn message(
        &self,
        c: &Conversation,
        m: &Message<'_>,
        before: Option<&Message<'_>>,
    ) -> Vec<Line<'static>> {
        let mut lines = Vec::new();
        let at = self.local(m.event.at_ms);
        let day = at.as_ref().map(Zoned::date);
        if before.is_none_or(|b| self.local(b.event.at_ms).map(|z| z.date()) != day)
            && let Some(at) = &at
        {
            lines.push(self.rule(&at.strftime("%A %-d %B %Y").to_string(), dim()));
        }
        let id = self.state.current.as_deref().unwrap_or_default();
        let news = self.state.news_after.get(id).copied();
        let theirs = |m: &Message<'_>| m.event.sender != self.me;
        if news.is_some_and(|after| {
            m.seq > after && theirs(m) && before.is_none_or(|b| b.seq <= after || !theirs(b))
        }) && !State::lines(c)
            .any(|b| b.seq < m.seq && news.is_some_and(|after| b.seq > after) && theirs(&b))
        {
            lines.push(self.rule("new", Style::new().fg(Color::Red)));
        }
        let time = at
            .map(|t| t.strftime("%H:%M").to_string())
            .unwrap_or_default();
        self.content(c, m, &time, &mut lines);
        if self.state.selected == Some(m.seq) {
            for line in &mut lines {
                line.style = line.style.bg(Color::DarkGray);
            }
        }
        lines
    }

    fn content(
        &self,
        c: &Conversation,
        m: &Message<'_>,
        time: &str,
        lines: &mut Vec<Line<'static>>,
    ) {
        let sender = m.event.sender.as_str();
        let mine = sender == self.me;
        let name = if mine {
            "you".to_owned()
        } else {
            names::person(self.core, sender)
        };
        let style = if mine {
            Style::new().add_modifier(Modifier::BOLD)
        } else {
            Style::new().fg(colour(sender))
        };
        let Some(text) = m.text else {
            let (said, style) = if m.deleted {
                (
                    "message deleted".to_owned(),
                    dim().add_modifier(Modifier::ITALIC),
                )
            } else {
                let who = if mine {
                    "you".into()
                } else {
                    names::person(self.core, sender)
                };
                let nudge = matches!(kind(m.event), Some(Kind::Nudge(_))) && !mine;
                let style = if nudge {
                    Style::new().fg(Color::Yellow)
                } else {
                    dim()
                };
                (
                    format!("{who} {}", deed(self.core, m.event, names::person)),
                    style,
                )
            };
            let name = if m.deleted { name } else { "*".to_owned() };
            for (at, row) in wrap(&said, self.text_columns()).into_iter().enumerate() {
                let (time, name) = if at == 0 {
                    (time, name.as_str())
                } else {
                    ("", "")
                };
                let mut spans = self.head(time, name, dim());
                spans.push(Span::styled(row, style));
                lines.push(Line::from(spans));
            }
            return;
        };
        if text.reply_to > 0 {
            let quoted = c.at(text.reply_to).map_or_else(
                || "an older message".to_owned(),
                |q| {
                    let who = self.you(&q.event.sender);
                    let said = q.text.map_or("(deleted)".into(), |t| one_line(&t.text));
                    format!("{who}: {said}")
                },
            );
            let quoted = cut(&format!("↳ {quoted}"), self.text_columns());
            lines.push(Line::from(vec![
                Span::raw(" ".repeat(self.indent())),
                Span::styled(quoted, dim()),
            ]));
        }
        let mentioned: Vec<String> = text
            .mentions
            .iter()
            .map(|u| format!("@{}", names::handle(self.core, u)))
            .collect();
        let to_me = !mine && text.mentions.iter().any(|u| u == self.me);
        let style = if to_me {
            style.add_modifier(Modifier::REVERSED)
        } else {
            style
        };
        let rows = wrap(&clean(&text.text), self.text_columns());
        let mut tail = Vec::new();
        if m.edited {
            tail.push(Span::styled(" (edited)", dim()));
        }
        if mine {
            tail.push(self.ticks(c, m.seq));
        }
        for (at, row) in rows.into_iter().enumerate() {
            let first = at == 0;
            let mut spans = self.head(
                if first { time } else { "" },
                if first { &name } else { "" },
                if first { style } else { Style::new() },
            );
            spans.extend(highlight(row, &mentioned, to_me));
            lines.push(Line::from(spans));
        }
        let tail_width: usize = tail.iter().map(Span::width).sum();
        match lines.last_mut() {
            Some(last) if last.width() + tail_width <= self.columns => last.spans.extend(tail),
            _ => {
                let mut spans = vec![Span::raw(" ".repeat(self.indent().saturating_sub(1)))];
                spans.extend(tail);
                lines.push(Line::from(spans));
            }
        }
        if !m.reactions.is_empty() {
            let each = m
                .reactions
                .iter()
                .map(|(who, emoji)| format!("{} {}", one_line(emoji), self.you(who)));
            let each = each.collect::<Vec<_>>().join("  ");
            lines.push(Line::from(vec![
                Span::raw(" ".repeat(self.indent())),
                Span::styled(
                    cut(&each, self.text_columns()),
                    Style::new().fg(Color::Yellow),
                ),
            ]));
        }
    }

    fn you(&self, who: &str) -> String {
        if who == self.me {
            "you".into()
        } else {
            names::person(self.core, who)
        }
    }

    fn ticks(&self, c: &Conversation, seq: u64) -> Span<'static> {
        let (delivered, read) = c.seen_by(self.me, seq);
        let cyan = Style::new().fg(Color::Cyan);
        if read.len() >= self.others {
            let text = if seq == self.newest_read {
                " ✓✓ read"
            } else {
                " ✓✓"
            };
            Span::styled(text, cyan)
        } else if !read.is_empty() {
            Span::styled(format!(" ✓✓ read {}/{}", read.len(), self.others), cyan)
        } else if delivered.is_empty() {
            Span::styled(" ✓", dim())
        } else {
            Span::styled(" ✓✓", dim())
        }
    }

    /// What waits to be sent, and what was refused.
    pub(super) fn waiting(&self) -> Vec<Line<'static>> {
        let Some(id) = self.state.current.as_deref() else {
            return Vec::new();
        };
        let mut lines = Vec::new();
        for pending in self.core.outbox().of(id) {
            let said = match pending.body.kind.as_ref() {
                Some(Kind::Text(text)) => clean(&text.text),
                Some(Kind::Edit(edit)) => {
                    let text = edit
                        .text
                        .as_ref()
                        .map(|t| clean(&t.text))
                        .unwrap_or_default();
                    format!("(changed to) {text}")
                }
                _ => continue,
            };
            let at = self.local(pending.made_ms);
            let time = at
                .map(|t| t.strftime("%H:%M").to_string())
                .unwrap_or_default();
            for (n, row) in wrap(&format!("{said} …"), self.text_columns())
                .into_iter()
                .enumerate()
            {
                let (time, name) = if n == 0 {
                    (time.as_str(), "you")
                } else {
                    ("", "")
                };
                let mut spans = self.head(time, name, dim());
                spans.push(Span::styled(row, dim()));
                lines.push(Line::from(spans));
            }
        }
        let red = Style::new().fg(Color::Red);
        for refused in self.state.refused.get(id).into_iter().flatten() {
            let hint = if refused.given_back {
                ""
            } else {
                " (Up takes it back)"
            };
            let said = format!(
                "{} ✗ not sent: {}{hint}",
                clean(&refused.text),
                refused.reason
            );
            for (n, row) in wrap(&said, self.text_columns()).into_iter().enumerate() {
                let mut spans = self.head("", if n == 0 { "you" } else { "" }, red);
                spans.push(Span::styled(row, red));
                lines.push(Line::from(spans));
            }
        }
        lines
    }
}

/// The colour of a person's name: always the same.
fn colour(address: &str) -> Color {
    const COLOURS: [Color; 6] = [
        Color::Green,
        Color::Magenta,
        Color::Blue,
        Color::LightGreen,
        Color::LightMagenta,
        Color::LightBlue,
    ];
    let sum = address
        .bytes()
        .fold(0usize, |sum, b| sum.wrapping_mul(31).wrapping_add(b.into()));
    COLOURS[sum % COLOURS.len()]
}

/// The row with mentions standing out.
fn highlight(row: String, mentioned: &[String], to_me: bool) -> Vec<Span<'static>> {
    if mentioned.is_empty() {
        return vec![Span::raw(row)];
    }
    let style = Style::new().fg(Color::Yellow).add_modifier(Modifier::BOLD);
    let plain = if to_me {
        Style::new().add_modifier(Modifier::BOLD)
    } else {
        Style::new()
    };
    let (mut spans, mut rest) = (Vec::new(), row.as_str());
    while let Some((at, name)) = mentioned
        .iter()
        .filter_map(|n| Some((rest.to_ascii_lowercase().find(n.as_str())?, n)))
        .min()
    {
        spans.push(Span::styled(rest[..at].to_owned(), plain));
        spans.push(Span::styled(rest[at..at + name.len()].to_owned(), style));
        rest = &rest[at + name.len()..];
    }
    spans.push(Span::styled(rest.to_owned(), plain));
    spans
}
