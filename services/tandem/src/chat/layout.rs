//! How a conversation becomes rows of the screen, newest first.

use jiff::{Timestamp, Zoned, tz::TimeZone};
use ratatui::{
    style::{Modifier, Style},
    text::Line,
};
use tandem_client::Core;
use tandem_kernel::event::{Event, Kind, Role};

use super::{
    model::{Anchor, Mode, State},
    text::one_line,
};

mod paint;

use paint::Painter;

/// Where things stand on the screen, in columns and rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Columns of the list; 0: not shown.
    pub side: u16,
    /// Columns of the conversation.
    pub body_width: usize,
    /// Rows of the conversation.
    pub body_height: usize,
    /// Rows of the line being written.
    pub input_height: usize,
    /// Whether a row says what the line is for.
    pub label: bool,
}

/// Most rows of the line being written that are shown.
const INPUT_ROWS: usize = 6;
/// What stands before the line being written.
pub const PROMPT: &str = "> ";

/// The geometry of a state.
pub fn geometry(state: &State) -> Geometry {
    let (columns, rows) = (state.size.0, usize::from(state.size.1));
    let side = if columns >= 60 {
        (columns / 4).clamp(18, 30)
    } else {
        0
    };
    // a rule stands between the list and the conversation
    let body_width = usize::from(columns.saturating_sub(if side > 0 { side + 1 } else { 0 }));
    let written = state.written();
    let lines = written.map_or(1, |d| {
        d.editor
            .rows(body_width.saturating_sub(PROMPT.len()))
            .0
            .len()
    });
    let input_height = lines.clamp(1, INPUT_ROWS.min(rows / 3).max(1));
    let label = written.is_some_and(|d| d.mode != Mode::New) || state.selected.is_some();
    // heading, what goes on, status
    let rest = 3 + input_height + usize::from(label);
    Geometry {
        side,
        body_width,
        body_height: rows.saturating_sub(rest).max(1),
        input_height,
        label,
    }
}

/// A row of a conversation.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Which.
    pub at: Anchor,
    /// What it shows.
    pub line: Line<'static>,
}

/// Dimmed.
pub fn dim() -> Style {
    Style::new().add_modifier(Modifier::DIM)
}

/// At most so many rows of the conversation in view, from where it is scrolled to, newest first.
pub fn rows(state: &State, core: &Core, columns: usize, need: usize) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    let from = state.scroll.unwrap_or(Anchor {
        seq: u64::MAX,
        row: usize::MAX,
    });
    let mut push = |seq: u64, block: Vec<Line<'static>>| {
        let last = if seq == from.seq {
            from.row
        } else {
            usize::MAX
        };
        for (row, line) in block
            .into_iter()
            .enumerate()
            .rev()
            .filter(|(row, _)| *row <= last)
        {
            rows.push(Row {
                at: Anchor { seq, row },
                line,
            });
        }
        rows.len() >= need
    };
    let painter = Painter::new(state, core, columns);
    let full = from.seq == u64::MAX && push(u64::MAX, painter.waiting());
    if let Some(c) = state.view(core)
        && !full
    {
        let mut lines = State::lines(c).skip_while(|m| m.seq > from.seq).peekable();
        while let Some(message) = lines.next() {
            if push(message.seq, painter.message(c, &message, lines.peek())) {
                break;
            }
        }
    }
    rows.truncate(need);
    rows
}

/// A time where the person is.
pub fn local(zone: &TimeZone, at_ms: i64) -> Option<Zoned> {
    Some(
        Timestamp::from_millisecond(at_ms)
            .ok()?
            .to_zoned(zone.clone()),
    )
}

fn kind(event: &Event) -> Option<&Kind> {
    event.body.as_ref()?.kind.as_ref()
}

/// What somebody did who did not write a message, after their name.
pub fn deed(core: &Core, event: &Event, who: fn(&Core, &str) -> String) -> String {
    let mine = core.me() == Some(event.sender.as_str());
    let you = |address: &String| {
        if core.me() == Some(address.as_str()) {
            "you".to_owned()
        } else {
            who(core, address)
        }
    };
    let all = |people: &[String]| people.iter().map(you).collect::<Vec<_>>().join(", ");
    match kind(event) {
        Some(Kind::Nudge(_)) if mine => "nudged".into(),
        Some(Kind::Nudge(_)) => "nudges you".into(),
        Some(Kind::GroupCreate(g)) => {
            format!(
                "began the group \"{}\" with {}",
                one_line(&g.title),
                all(&g.members)
            )
        }
        Some(Kind::MembersAdd(add)) => format!("added {}", all(&add.members)),
        Some(Kind::MemberRemove(remove)) => format!("removed {}", you(&remove.member)),
        Some(Kind::MemberLeave(_)) => "left the group".into(),
        Some(Kind::TitleSet(set)) => format!("named the group \"{}\"", one_line(&set.title)),
        Some(Kind::RoleSet(set)) => {
            let role = match set.role() {
                Role::Owner => "owner",
                Role::Admin => "admin",
                Role::Member | Role::Unspecified => "member",
            };
            format!("made {} {role}", you(&set.member))
        }
        _ => "did something that this version does not know".into(),
    }
}
