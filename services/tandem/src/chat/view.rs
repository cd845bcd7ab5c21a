//! The screen as a picture of the state: nothing is decided here.

use ratatui::{
    Frame,
    layout::{Position, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::Paragraph,
};
use tandem_client::Core;
use tandem_proto::client::{DeviceClass, Presence, Status, contact};

use super::{
    layout::{self, Geometry, PROMPT, dim},
    model::{Link, Mode, State},
    names,
    text::{cut, fit, one_line, width, wrap, wrap_columns},
};

/// Everything that is to be drawn, taken off the device so that drawing keeps nobody waiting.
#[derive(Debug, Clone)]
pub struct Scene {
    geometry: Geometry,
    list: Vec<Line<'static>>,
    heading: Line<'static>,
    body: Vec<Line<'static>>,
    goings_on: Line<'static>,
    label: Line<'static>,
    input: Vec<Line<'static>>,
    cursor: (usize, usize),
    status: Line<'static>,
}

fn bold() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

/// The picture of a state.
pub fn scene(state: &State, core: &Core, server: &str) -> Scene {
    let geometry = layout::geometry(state);
    let (input, cursor) = input(state, &geometry);
    Scene {
        list: list(state, core, usize::from(geometry.side)),
        heading: heading(state, core, geometry.body_width),
        body: body(state, core, &geometry, server),
        goings_on: goings_on(state, core, geometry.body_width),
        label: label(state, core, geometry.body_width),
        input,
        cursor,
        status: status(state, core, usize::from(state.size.0)),
        geometry,
    }
}

impl Scene {
    /// Draws it.
    pub fn draw(self, frame: &mut Frame<'_>) {
        let all = frame.area();
        let g = self.geometry;
        let x = if g.side > 0 { g.side + 1 } else { 0 };
        let mut y = 0;
        let mut put = |frame: &mut Frame<'_>, lines: Vec<Line<'static>>, height: usize| {
            let height = height as u16;
            let area = Rect::new(x, y, all.width.saturating_sub(x), height).intersection(all);
            frame.render_widget(Paragraph::new(lines), area);
            y += height;
            area
        };
        put(frame, vec![self.heading], 1);
        put(frame, self.body, g.body_height);
        put(frame, vec![self.goings_on], 1);
        if g.label {
            put(frame, vec![self.label], 1);
        }
        let input = put(frame, self.input, g.input_height);
        let last = Rect::new(0, all.height.saturating_sub(1), all.width, 1).intersection(all);
        if g.side > 0 {
            let height = all.height.saturating_sub(1);
            let rule = vec![Line::styled("│", dim()); usize::from(height)];
            frame.render_widget(
                Paragraph::new(rule),
                Rect::new(g.side, 0, 1, height).intersection(all),
            );
            let area = Rect::new(0, 0, g.side, height).intersection(all);
            frame.render_widget(Paragraph::new(self.list), area);
        }
        frame.render_widget(Paragraph::new(self.status), last);
        let at = Position::new(
            input.x + self.cursor.1 as u16,
            input.y + self.cursor.0 as u16,
        );
        if all.contains(at) {
            frame.set_cursor_position(at);
        }
    }
}

fn mark(presence: Option<&Presence>, live: bool) -> Span<'static> {
    let Some(presence) = presence.filter(|_| live) else {
        return Span::styled("○", dim());
    };
    match presence.status() {
        Status::Unspecified | Status::Online => Span::styled("●", Style::new().fg(Color::Green)),
        Status::Busy | Status::OnThePhone => Span::styled("●", Style::new().fg(Color::Red)),
        Status::BeRightBack | Status::Away | Status::OutToLunch => {
            Span::styled("◐", Style::new().fg(Color::Yellow))
        }
        Status::AppearOffline | Status::Offline => Span::styled("○", dim()),
    }
}

fn list(state: &State, core: &Core, columns: usize) -> Vec<Line<'static>> {
    if columns == 0 {
        return Vec::new();
    }
    let me = core.me().unwrap_or_default();
    let mut lines = vec![Line::styled(fit(" Conversations", columns), dim())];
    // the one in view stays on the screen however long the list is
    let room = usize::from(state.size.1).saturating_sub(3).max(1);
    let at = state
        .tabs
        .iter()
        .position(|t| Some(t) == state.current.as_ref())
        .unwrap_or(0);
    let first = at.saturating_sub(room.saturating_sub(1));
    for (n, id) in state.tabs.iter().enumerate().skip(first).take(room) {
        let current = state.current.as_ref() == Some(id);
        let c = core.conversation(id);
        let unread = c.map_or(0, |c| c.unread(me));
        let peer = names::peer(core, id);
        let contact = peer.as_ref().and_then(|p| names::contact(core, p));
        let mark = if names::is_group(id) {
            Span::styled("#", dim())
        } else {
            mark(
                contact.and_then(|c| c.presence.as_ref()),
                state.link == Link::Up,
            )
        };
        let mentioned = unread > 0
            && c.is_some_and(|c| {
                c.messages_after(c.read(me))
                    .any(|m| m.text.is_some_and(|t| t.mentions.iter().any(|u| u == me)))
            });
        let mut badge = if unread > 0 {
            format!(" {unread}")
        } else {
            String::new()
        };
        if mentioned {
            badge.insert(1, '@');
        }
        if state
            .refused
            .get(id)
            .is_some_and(|r| r.iter().any(|r| !r.given_back))
        {
            badge.push_str(" ✗");
        } else if !current && state.drafts.get(id).is_some_and(|d| !d.editor.is_empty()) {
            badge.push_str(" ✎");
        }
        let mut name = names::conversation(core, id, names::person);
        if c.is_some_and(tandem_client::domain::Conversation::is_request) {
            name.push_str(" ?");
        }
        let number = format!("{:>2} ", n + 1);
        let room = columns.saturating_sub(width(&number) + 2 + width(&badge));
        let style = match (current, unread > 0) {
            (true, _) => Style::new().add_modifier(Modifier::REVERSED),
            (false, true) => bold(),
            (false, false) => Style::new(),
        };
        let badge_style = if mentioned {
            bold().fg(Color::Yellow)
        } else {
            bold().fg(Color::Cyan)
        };
        let line = Line::from(vec![
            Span::styled(number, dim()),
            mark,
            Span::raw(" "),
            Span::styled(fit(&name, room), style),
            Span::styled(badge, badge_style),
        ]);
        lines.push(line);
    }
    let asking: Vec<_> = core
        .contacts()
        .filter(|c| c.state() == contact::State::AskedBy)
        .collect();
    if !asking.is_empty() {
        lines.push(Line::raw(""));
        lines.push(Line::styled(fit(" Ask to be contacts", columns), dim()));
        for contact in asking {
            let who = names::person(core, &contact.user);
            lines.push(Line::styled(
                fit(&format!("   + {who}"), columns),
                Style::new().fg(Color::Yellow),
            ));
        }
    }
    lines
}

fn availability(presence: &Presence) -> String {
    let device = match presence.class() {
        _ if matches!(presence.status(), Status::Offline | Status::AppearOffline) => "",
        DeviceClass::Mobile => " on the mobile",
        DeviceClass::Portal => " on the portal",
        DeviceClass::Pc | DeviceClass::Unspecified => " on the PC",
    };
    let message = one_line(presence.message.trim());
    let message = if message.is_empty() {
        message
    } else {
        format!(" · {message}")
    };
    format!("{}{device}{message}", names::status(presence.status()))
}

fn heading(state: &State, core: &Core, columns: usize) -> Line<'static> {
    let Some(id) = &state.current else {
        return Line::styled("Tandem", bold());
    };
    let name = names::conversation(core, id, names::person);
    let mut about = String::new();
    if let Some(peer) = names::peer(core, id) {
        let contact = names::contact(core, &peer);
        about = match contact.map(tandem_proto::client::Contact::state) {
            Some(contact::State::Mutual) if state.link != Link::Up => String::new(),
            Some(contact::State::Mutual) => contact
                .and_then(|c| c.presence.as_ref())
                .map_or_else(|| "offline".to_owned(), availability),
            Some(contact::State::Blocked) => "blocked · /unblock".into(),
            Some(contact::State::Asked) => "asked to be your contact, no answer yet".into(),
            Some(contact::State::AskedBy) => "asks to be your contact · /accept or /decline".into(),
            _ => "not a contact · /ask".into(),
        };
        let handle = names::handle(core, &peer);
        if handle != name {
            about = if about.is_empty() {
                handle
            } else {
                format!("{handle} · {about}")
            };
        }
    } else if let Some(members) = state.members.get(id) {
        let me = core.me().unwrap_or_default();
        let who: Vec<String> = members
            .members
            .iter()
            .map(|m| {
                if m.user == me {
                    "you".into()
                } else {
                    names::person(core, &m.user)
                }
            })
            .collect();
        about = format!("{}: {}", who.len(), who.join(", "));
    }
    let name = cut(&name, columns);
    let about = cut(&format!("  {about}"), columns.saturating_sub(width(&name)));
    Line::from(vec![Span::styled(name, bold()), Span::styled(about, dim())])
}

fn body(state: &State, core: &Core, g: &Geometry, server: &str) -> Vec<Line<'static>> {
    if let Some(panel) = &state.panel {
        let mut lines = vec![Line::styled(panel.title.clone(), bold()), Line::raw("")];
        let rows = panel
            .lines
            .iter()
            .flat_map(|l| wrap_columns(l, g.body_width));
        lines.extend(rows.skip(panel.top).map(Line::raw));
        lines.truncate(g.body_height);
        lines.resize(g.body_height.saturating_sub(1), Line::raw(""));
        lines.push(Line::styled("Esc closes, PgUp and PgDn scroll", dim()));
        return lines;
    }
    let mut lines: Vec<Line<'static>> = layout::rows(state, core, g.body_width, g.body_height)
        .into_iter()
        .map(|row| row.line)
        .collect();
    if lines.len() < g.body_height {
        let note = match (&state.current, state.view(core)) {
            (None, _) if core.me().is_none() => format!("Connecting to {server} …"),
            (None, _) => "Nobody here yet. /ask dan asks someone to be your contact, /to dan writes at once, /help tells more.".into(),
            (Some(_), Some(c)) if c.ranges().newest_gap().is_some() => "… older messages are on their way".into(),
            (Some(_), _) if !lines.is_empty() => "The conversation begins here.".into(),
            (Some(_), _) => "The conversation begins here. Write something and press Enter; /help tells more.".into(),
        };
        for row in wrap(&note, g.body_width).into_iter().rev() {
            lines.push(Line::styled(row, dim()));
        }
        lines.truncate(g.body_height);
        lines.resize(g.body_height, Line::raw(""));
    }
    lines.reverse();
    lines
}

fn goings_on(state: &State, core: &Core, columns: usize) -> Line<'static> {
    if let Some(notice) = state.notice() {
        let style = Style::new().fg(if notice.bad {
            Color::Red
        } else {
            Color::Yellow
        });
        return Line::styled(cut(&notice.text, columns), style);
    }
    let mut said = Vec::new();
    if state.scroll.is_some() {
        let me = core.me().unwrap_or_default();
        let n = state.view(core).map_or(0, |c| c.unread(me));
        said.push(if n > 0 {
            format!("↓ {n} new below (Esc)")
        } else {
            "↓ newer below (Esc)".into()
        });
    }
    let here = |(id, _): &&(String, String)| Some(id) == state.current.as_ref();
    let who: Vec<String> = state
        .typing
        .keys()
        .filter(here)
        .map(|(_, who)| names::person(core, who))
        .collect();
    match who.as_slice() {
        [] => {}
        [one] => said.push(format!("{one} is typing …")),
        many => said.push(format!("{} are typing …", many.join(", "))),
    }
    Line::styled(cut(&said.join("   "), columns), dim())
}

fn label(state: &State, core: &Core, columns: usize) -> Line<'static> {
    let mode = state.written().map_or(Mode::New, |d| d.mode);
    let quoted = |seq: u64| {
        let message = state.view(core).and_then(|c| c.at(seq));
        message.map_or_else(String::new, |m| {
            let who = names::person(core, &m.event.sender);
            format!(
                " {who}: {}",
                m.text.map_or_else(String::new, |t| one_line(&t.text))
            )
        })
    };
    let text = match (mode, state.selected) {
        (Mode::Reply(seq), _) => format!("replying to{} (Esc cancels)", quoted(seq)),
        (Mode::Edit(_), _) => "editing your message: Enter saves, Esc cancels".into(),
        (Mode::New, Some(_)) => "selected: /re, /react, /edit or /del; Esc ends".into(),
        (Mode::New, None) => String::new(),
    };
    Line::styled(cut(&text, columns), Style::new().fg(Color::Cyan))
}

fn input(state: &State, g: &Geometry) -> (Vec<Line<'static>>, (usize, usize)) {
    let columns = g.body_width.saturating_sub(PROMPT.len());
    let (rows, row, column) = state
        .written()
        .map_or_else(|| (vec![String::new()], 0, 0), |d| d.editor.rows(columns));
    // the cursor's row is always among those shown
    let first = (row + 1).saturating_sub(g.input_height);
    let shown = rows
        .into_iter()
        .enumerate()
        .skip(first)
        .take(g.input_height);
    let lines = shown
        .map(|(n, row)| {
            let prompt = if n == 0 { PROMPT } else { "  " };
            Line::from(vec![
                Span::styled(prompt, Style::new().fg(Color::Cyan)),
                Span::raw(row),
            ])
        })
        .collect();
    (lines, (row - first, column + PROMPT.len()))
}

fn status(state: &State, core: &Core, columns: usize) -> Line<'static> {
    let me = core.me().unwrap_or("Tandem");
    let mut why = String::new();
    let (link, style) = match &state.link {
        Link::Down(None) => ("connecting …", Color::Yellow),
        Link::Down(Some(reason)) => {
            why = format!(" · {reason}");
            ("offline, trying again", Color::Red)
        }
        Link::Closed(code, _) => (code.as_str(), Color::Red),
        Link::Up if !core.is_synced() => ("catching up …", Color::Yellow),
        Link::Up => (names::status(state.presence.0), Color::Green),
    };
    let waiting = core.outbox().len();
    let waiting = if waiting > 0 && state.link != Link::Up {
        format!(" · {waiting} to be sent")
    } else {
        String::new()
    };
    let message = one_line(&state.presence.1);
    let message = if message.is_empty() {
        message
    } else {
        format!(" · {message}")
    };
    let (left, help) = (format!(" {me} · "), " /help ");
    let rest = format!("{message}{waiting}{why}");
    let room = columns.saturating_sub(width(&left) + width(link) + width(help));
    let base = Style::new().bg(Color::Indexed(236)).fg(Color::White);
    Line::from(vec![
        Span::styled(left, base),
        Span::styled(link.to_owned(), base.fg(style)),
        Span::styled(fit(&rest, room), base),
        Span::styled(help, base),
    ])
}
