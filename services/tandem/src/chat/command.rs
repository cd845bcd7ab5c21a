//! What a person can type: the commands, their help, and the reading of a line.

use tandem_kernel::event::Role;
use tandem_proto::client::{Status, contact_change::Action};

use super::text::words;

/// A line as it was meant.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// A message.
    Say(String),
    /// Go to a conversation.
    To(String),
    /// Begin a group.
    New { title: String, members: Vec<String> },
    /// Add members.
    Add(Vec<String>),
    /// Remove a member.
    Remove(String),
    /// Leave the group.
    Leave,
    /// Set the group's title.
    Title(String),
    /// Set a member's role.
    Role(String, Role),
    /// Who is in the group.
    Members,
    /// Replace a message's text; `#n` names it.
    Edit(Option<u64>, String),
    /// Remove a message.
    Delete(Option<u64>),
    /// Reply to a message.
    Reply(Option<u64>, String),
    /// React to a message; an empty emoji takes it back.
    React(Option<u64>, String),
    /// Ask for attention.
    Nudge,
    /// Set the status and, if given, the personal message.
    Status(Status, Option<String>),
    /// Change a relation; without a name, with the other person of the conversation.
    Relation {
        action: Action,
        who: Option<String>,
        name: String,
    },
    /// The contacts and their presence.
    Contacts,
    /// Fetch older messages.
    More,
    /// Explain.
    Help(Option<String>),
    /// End.
    Quit,
}

/// One command's help.
pub struct Spec {
    /// Its name.
    pub name: &'static str,
    /// How to write it.
    pub usage: &'static str,
    /// What it does.
    pub does: &'static str,
}

const fn spec(name: &'static str, usage: &'static str, does: &'static str) -> Spec {
    Spec { name, usage, does }
}

/// All commands, in the order in which help tells them.
pub const COMMANDS: &[Spec] = &[
    spec(
        "to",
        "/to bob",
        "open a conversation: a person, a group's title, or a number of the list",
    ),
    spec(
        "re",
        "/re see you there",
        "reply to the newest message of others, or to the selected one",
    ),
    spec(
        "edit",
        "/edit see you at 8",
        "replace your last message's text (or press Up)",
    ),
    spec(
        "del",
        "/del",
        "remove your last message, or the selected one",
    ),
    spec(
        "react",
        "/react 👍",
        "react to the newest message of others; names go, too: +1 -1 heart joy wow sad tada; alone takes it back",
    ),
    spec("nudge", "/nudge", "ask for attention"),
    spec("more", "/more", "fetch older messages"),
    spec("new", "/new \"Friday lunch\" bob chloe", "begin a group"),
    spec("add", "/add dan", "add people to the group"),
    spec("remove", "/remove dan", "remove a member from the group"),
    spec("leave", "/leave", "leave the group"),
    spec("title", "/title Monday lunch", "change the group's title"),
    spec(
        "role",
        "/role bob admin",
        "make a member admin, member or owner",
    ),
    spec("members", "/members", "who is in the group"),
    spec(
        "contacts",
        "/contacts",
        "your contacts, who asks to be one, and whom you blocked",
    ),
    spec(
        "ask",
        "/ask dan",
        "ask someone (address or phone number) to become your contact",
    ),
    spec("accept", "/accept dan", "accept someone who asks you"),
    spec("decline", "/decline dan", "decline; the other is not told"),
    spec("forget", "/forget dan", "end being contacts"),
    spec(
        "rename",
        "/rename dan \"Dan (work)\"",
        "show another name for a contact",
    ),
    spec(
        "block",
        "/block dan",
        "hear nothing from someone any more; the other is not told",
    ),
    spec("unblock", "/unblock dan", "end a block"),
    spec(
        "status",
        "/status busy \"in a meeting\"",
        "online, busy, brb, away, phone, lunch or invisible, and a personal message; \"\" removes it",
    ),
    spec("help", "/help react", "explain a command"),
    spec("quit", "/quit", "leave (or Ctrl-C)"),
];

/// Keys, for help.
pub const KEYS: &[(&str, &str)] = &[
    (
        "Tab, Shift-Tab",
        "next and previous conversation; completes a /command or an @name",
    ),
    ("Alt-1 … Alt-9", "a conversation by its number"),
    ("Alt-A", "the next conversation with something new"),
    (
        "PgUp, PgDn",
        "scroll; older messages are fetched on the way; Ctrl-End goes to the newest",
    ),
    (
        "Alt-Up, Alt-Down",
        "select a message for /re, /react, /edit and /del",
    ),
    (
        "Up",
        "edit your last message, or take back one that was refused",
    ),
    ("Alt-Enter", "a new line in the message"),
    ("Esc", "cancel: editing, replying, selecting, scrolling"),
];

const REACTIONS: &[(&str, &str)] = &[
    ("+1", "👍"),
    ("-1", "👎"),
    ("heart", "❤️"),
    ("joy", "😂"),
    ("wow", "😮"),
    ("sad", "😢"),
    ("tada", "🎉"),
];

/// The statuses that a person may set, by the words for them.
pub const STATUSES: &[(&str, Status)] = &[
    ("online", Status::Online),
    ("busy", Status::Busy),
    ("brb", Status::BeRightBack),
    ("away", Status::Away),
    ("phone", Status::OnThePhone),
    ("lunch", Status::OutToLunch),
    ("invisible", Status::AppearOffline),
];

/// Reads a line. The error tells what to write instead.
pub fn parse(line: &str) -> Result<Command, String> {
    let Some(command) = line.strip_prefix('/') else {
        return Ok(Command::Say(line.to_owned()));
    };
    if command.starts_with('/') {
        // a message that begins with a slash
        return Ok(Command::Say(command.to_owned()));
    }
    let (name, rest) = command
        .split_once(char::is_whitespace)
        .unwrap_or((command, ""));
    let rest = rest.trim();
    let name = match name {
        "q" | "exit" => "quit",
        "reply" => "re",
        "delete" => "del",
        "kick" => "remove",
        "who" => "members",
        "h" | "?" => "help",
        name => name,
    };
    let Some(spec) = COMMANDS.iter().find(|s| s.name == name) else {
        let near = COMMANDS
            .iter()
            .find(|s| !name.is_empty() && s.name.starts_with(name));
        let hint = near.map_or_else(
            || "/help lists them".into(),
            |s| format!("did you mean /{}?", s.name),
        );
        return Err(format!(
            "there is no command /{name}; {hint}. A message that begins with / is written //"
        ));
    };
    read(spec.name, rest).ok_or_else(|| format!("write {}", spec.usage))
}

fn read(name: &str, rest: &str) -> Option<Command> {
    let relation = |action| {
        let mut words = words(rest).into_iter();
        Some(Command::Relation {
            action,
            who: words.next(),
            name: words.collect::<Vec<_>>().join(" "),
        })
    };
    let given = (!rest.is_empty()).then(|| rest.to_owned());
    match name {
        "to" => given.map(|who| Command::To(words(&who).join(" "))),
        "re" => target(rest).and_then(|(n, text)| Some(Command::Reply(n, some(text)?))),
        "edit" => target(rest).and_then(|(n, text)| Some(Command::Edit(n, some(text)?))),
        "del" => target(rest)
            .filter(|(_, r)| r.is_empty())
            .map(|(n, _)| Command::Delete(n)),
        "react" => target(rest).map(|(n, emoji)| {
            let known = REACTIONS
                .iter()
                .find(|(name, _)| *name == emoji.trim_matches(':'));
            Command::React(n, known.map_or(emoji, |(_, emoji)| *emoji).to_owned())
        }),
        "nudge" => Some(Command::Nudge),
        "more" => Some(Command::More),
        "new" => {
            let mut words = words(rest).into_iter();
            let title = words.next().filter(|t| !t.trim().is_empty())?;
            Some(Command::New {
                title,
                members: words.collect(),
            })
        }
        "add" => Some(words(rest))
            .filter(|w| !w.is_empty())
            .map(Command::Add),
        "remove" => given.map(Command::Remove),
        "leave" => Some(Command::Leave),
        "title" => given.map(|t| Command::Title(t.trim_matches('"').to_owned())),
        "role" => {
            let (who, role) = rest.rsplit_once(char::is_whitespace)?;
            let role = match role {
                "member" => Role::Member,
                "admin" => Role::Admin,
                "owner" => Role::Owner,
                _ => return None,
            };
            Some(Command::Role(who.trim().to_owned(), role))
        }
        "members" => Some(Command::Members),
        "contacts" => Some(Command::Contacts),
        "ask" => relation(Action::Request),
        "accept" => relation(Action::Accept),
        "decline" => relation(Action::Decline),
        "forget" => relation(Action::Remove),
        "rename" => relation(Action::Rename).filter(
            |c| matches!(c, Command::Relation { who: Some(_), name, .. } if !name.is_empty()),
        ),
        "block" => relation(Action::Block),
        "unblock" => relation(Action::Unblock),
        "status" => {
            let mut words = words(rest).into_iter();
            let word = words.next()?;
            let status = STATUSES.iter().find(|(name, _)| *name == word)?.1;
            let message: Vec<String> = words.collect();
            Some(Command::Status(
                status,
                (!message.is_empty()).then(|| message.join(" ")),
            ))
        }
        "help" => Some(Command::Help(
            given.map(|g| g.trim_start_matches('/').to_owned()),
        )),
        "quit" => Some(Command::Quit),
        _ => None,
    }
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// A leading `#n`, and the rest. `None` if it begins like one and is none.
fn target(rest: &str) -> Option<(Option<u64>, &str)> {
    let (first, after) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    match first.strip_prefix('#') {
        Some(n) => Some((Some(n.parse().ok()?), after.trim())),
        None => Some((None, rest)),
    }
}

/// The lines of the help; what stands left and right of a tab are two columns.
pub fn help(about: Option<&str>) -> Vec<String> {
    if let Some(name) = about {
        let Some(spec) = COMMANDS.iter().find(|s| s.name == name) else {
            return vec![format!("there is no command /{name}; /help lists them")];
        };
        return vec![
            format!("/{}: {}", spec.name, spec.does),
            format!("for example: {}", spec.usage),
        ];
    }
    let mut lines = vec![
        "Write a message and press Enter. Commands begin with /:".to_owned(),
        String::new(),
    ];
    lines.extend(COMMANDS.iter().map(|s| format!("{}\t{}", s.usage, s.does)));
    lines.push(String::new());
    lines.extend(KEYS.iter().map(|(key, does)| format!("{key}\t{does}")));
    lines.extend([
        String::new(),
        "✓ the server has it   ✓✓ it is on a device of theirs   ✓✓ read   … waits to be sent".into(),
        "@name mentions someone. #n names a message in /re, /edit, /del and /react: its number in plain mode.".into(),
    ]);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_example_of_the_help_is_a_command() {
        for spec in COMMANDS {
            assert!(
                parse(spec.usage).is_ok_and(|c| !matches!(c, Command::Say(_))),
                "{}",
                spec.usage
            );
            assert!(spec.usage.starts_with(&format!("/{}", spec.name)));
        }
        assert!(help(None).len() > COMMANDS.len() + KEYS.len());
    }

    #[test]
    fn what_is_no_command_is_told_and_not_sent() {
        assert!(parse("/rect 👍").unwrap_err().contains("no command /rect"));
        assert!(parse("/cont").unwrap_err().contains("/contacts?"));
        assert!(parse("/edit").unwrap_err().contains("/edit see you"));
        assert!(parse("/edit #x text").is_err());
        assert_eq!(parse("//etc/hosts"), Ok(Command::Say("/etc/hosts".into())));
    }

    #[test]
    fn messages_are_named_by_their_number() {
        assert_eq!(
            parse("/re #12 see #13"),
            Ok(Command::Reply(Some(12), "see #13".into()))
        );
        assert_eq!(
            parse("/re see #13"),
            Ok(Command::Reply(None, "see #13".into()))
        );
        assert_eq!(
            parse("/react #7 heart"),
            Ok(Command::React(Some(7), "❤️".into()))
        );
        assert_eq!(
            parse("/react #7"),
            Ok(Command::React(Some(7), String::new()))
        );
        assert_eq!(parse("/del #7"), Ok(Command::Delete(Some(7))));
        assert_eq!(
            parse("/new \"Friday lunch\" bob chloe"),
            Ok(Command::New {
                title: "Friday lunch".into(),
                members: vec!["bob".into(), "chloe".into()]
            })
        );
        assert_eq!(
            parse("/status busy in a meeting"),
            Ok(Command::Status(Status::Busy, Some("in a meeting".into())))
        );
        assert_eq!(
            parse("/status online"),
            Ok(Command::Status(Status::Online, None))
        );
    }
}
