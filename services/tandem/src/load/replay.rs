//! Reads chat logs (`[HH:MM] <nick> text`, ` * nick does`, `=== nick has joined`) into what people say to
//! each other and to their groups. A `=== ` line of somebody who speaks is told to the group like an
//! action; of others (the server, passers-by) it is left out.

use std::collections::{BTreeMap, BTreeSet};

/// One line that somebody said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Who: index into [`Script::nicks`].
    pub from: usize,
    /// To whom alone; `None`: to the group.
    pub to: Option<usize>,
    /// Group of [`Script::groups`], for what is said to a group.
    pub group: usize,
    /// When, in milliseconds from the log's beginning.
    pub at_ms: u64,
    /// The words, unchanged.
    pub text: String,
}

/// What several logs say, played at once.
#[derive(Debug, Default)]
pub struct Script {
    /// The people who speak.
    pub nicks: Vec<String>,
    /// Members of each group.
    pub groups: Vec<BTreeSet<usize>>,
    /// The lines, by time.
    pub lines: Vec<Line>,
}

/// A line of a log as it stands there.
struct Raw<'a> {
    /// `None`: the minute of the line before.
    minute: Option<u64>,
    nick: &'a str,
    text: &'a str,
}

fn read_line(line: &str) -> Option<Raw<'_>> {
    if let Some(told) = line.strip_prefix("=== ") {
        return Some(Raw {
            minute: None,
            nick: told.split_once(' ')?.0,
            text: told,
        });
    }
    let rest = line.strip_prefix('[')?;
    let (time, rest) = rest.split_once(']')?;
    let (hours, minutes) = time.split_once(':')?;
    let minute = Some(hours.parse::<u64>().ok()? * 60 + minutes.parse::<u64>().ok()?);
    let rest = rest.strip_prefix(' ')?;
    let (nick, text) = if let Some(said) = rest.strip_prefix('<') {
        said.split_once("> ")?
    } else {
        let done = rest.trim_start().strip_prefix("* ")?;
        (done.split_once(' ')?.0, rest.trim_start())
    };
    (!nick.is_empty() && !text.trim().is_empty()).then_some(Raw { minute, nick, text })
}

/// Whom a text addresses: it begins with `nick:` or `nick,`.
fn addressee<'a>(text: &'a str, known: &BTreeMap<String, usize>) -> Option<(usize, &'a str)> {
    let (nick, rest) = text.split_once([':', ','])?;
    Some((*known.get(&nick.to_lowercase())?, rest))
}

impl Script {
    /// Reads logs; each begins at once. A group has at most `group_size` members: when the next speaker
    /// would be one too many, the log goes on in a new group.
    pub fn read(logs: &[String], group_size: usize) -> Self {
        let mut script = Self::default();
        let mut known = BTreeMap::new();
        for log in logs {
            let said = log.lines().filter_map(read_line);
            for raw in said.filter(|raw| raw.minute.is_some()) {
                let next = script.nicks.len();
                known.entry(raw.nick.to_lowercase()).or_insert_with(|| {
                    script.nicks.push(raw.nick.to_owned());
                    next
                });
            }
        }
        for log in logs {
            script.read_one(log, &known, group_size.max(2));
        }
        script.lines.sort_by_key(|l| l.at_ms);
        script
    }

    fn read_one(&mut self, log: &str, known: &BTreeMap<String, usize>, group_size: usize) {
        let mut minutes: BTreeMap<u64, Vec<Line>> = BTreeMap::new();
        let (mut first, mut last) = (None, 0);
        let mut members = BTreeSet::new();
        let mut group = self.groups.len();
        for raw in log.lines().filter_map(read_line) {
            let Some(from) = known.get(&raw.nick.to_lowercase()).copied() else {
                continue;
            };
            let Some(mut minute) = raw.minute.or(first.map(|_| last)) else {
                continue;
            };
            // past midnight
            while minute + 720 < last {
                minute += 1440;
            }
            last = minute.max(last);
            let begin = *first.get_or_insert(minute);
            let to = addressee(raw.text, known)
                .filter(|(to, rest)| *to != from && !rest.trim().is_empty())
                .map(|(to, _)| to);
            if to.is_none() {
                if !members.contains(&from) && members.len() >= group_size {
                    self.groups.push(std::mem::take(&mut members));
                    group = self.groups.len();
                }
                members.insert(from);
            }
            let text = raw.text.to_owned();
            let line = Line {
                from,
                to,
                group,
                at_ms: 0,
                text,
            };
            minutes
                .entry(last.saturating_sub(begin))
                .or_default()
                .push(line);
        }
        if !members.is_empty() {
            self.groups.push(members);
        }
        for (minute, lines) in minutes {
            // a minute's lines are spread over it
            let step = 60_000 / lines.len() as u64;
            for (i, line) in lines.into_iter().enumerate() {
                self.lines.push(Line {
                    at_ms: minute * 60_000 + i as u64 * step,
                    ..line
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
=== cy [n=cy@x] has joined #ubuntu before the log has a time
[23:58] <ann> hello all
=== bob [n=bob@x] has joined #ubuntu
[23:58] <bob> Ann: hi  there
=== passer-by has left #ubuntu
[23:59] <cy> nobody: is not here, and ann neither
[00:01]  * ann waves
[00:01] <ann> bob, see http://x/?a=b:c
[00:01] <ann> ann: talking to myself
[00:01] <bob> 
not a line
";

    #[test]
    fn what_names_somebody_goes_to_them_and_the_rest_to_the_group() {
        let s = Script::read(&[LOG.to_owned()], 100);
        assert_eq!(s.nicks, ["ann", "bob", "cy"]);
        let said: Vec<_> = s
            .lines
            .iter()
            .map(|l| (l.at_ms, l.from, l.to, l.text.as_str()))
            .collect();
        assert_eq!(
            said,
            [
                (0, 0, None, "hello all"),
                (20_000, 1, None, "bob [n=bob@x] has joined #ubuntu"),
                (40_000, 1, Some(0), "Ann: hi  there"),
                (60_000, 2, None, "nobody: is not here, and ann neither"),
                (180_000, 0, None, "* ann waves"),
                (200_000, 0, Some(1), "bob, see http://x/?a=b:c"),
                (220_000, 0, None, "ann: talking to myself"),
            ]
        );
        assert_eq!(s.groups, [BTreeSet::from([0, 1, 2])]);
    }

    #[test]
    fn a_full_group_is_followed_by_another_and_all_speakers_are_members_of_theirs() {
        let log = (0..10)
            .map(|i| format!("[10:00] <n{i}> words {i}\n"))
            .collect::<Vec<_>>()
            .concat();
        let s = Script::read(&[log.clone(), log], 4);
        assert_eq!(s.nicks.len(), 10);
        assert_eq!(
            s.groups.iter().map(BTreeSet::len).collect::<Vec<_>>(),
            [4, 4, 2, 4, 4, 2]
        );
        assert!(s.lines.iter().all(|l| s.groups[l.group].contains(&l.from)));
    }
}
