//! The loop of the line mode.

use std::{io, process::ExitCode, time::Duration};

use tandem_chassis::Doors;
use tandem_client::{Client, Core, Update};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    signal::unix::{SignalKind, signal},
    sync::mpsc::UnboundedReceiver,
    time::Instant,
};

use super::{
    super::{
        deeds::{Deeds, Own},
        model::{Answer, Input, Link, State},
    },
    Printer,
};

/// When to end after the last line was read.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For the answers to what was sent.
    pub answers: Duration,
    /// For what may come besides.
    pub linger: Duration,
}

/// How long a line may wait for the sync once the session is open: with history down it never comes.
const SYNC: Duration = Duration::from_secs(5);

/// Reads lines and prints what happens, until the input's end and everything sent is answered. Lines are
/// obeyed one after the other, once the device is in sync; only messages do not wait for the answer to
/// the message before. Exit code 1 if something went wrong.
pub async fn run(
    doors: &Doors,
    client: Client,
    mut updates: UnboundedReceiver<Update>,
    mut state: State,
    patience: Patience,
) -> io::Result<ExitCode> {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut out = tokio::io::stdout();
    let mut deeds = Deeds::new(client.clone());
    let mut printer = Printer::default();
    let mut tick = tokio::time::interval(Duration::from_millis(200));
    let mut terminate = signal(SignalKind::terminate())?;
    // when something that was waited for came last
    let mut progress = Instant::now();
    let (mut connected, mut ended) = (None::<Instant>, None::<Instant>);
    // the line that waits, and whether the one before it was a message
    let (mut held, mut after_text) = (None::<String>, false);
    let mut begun = false;
    loop {
        let is_text = |line: &str| !line.starts_with('/') || line.starts_with("//");
        let free = |line: &str| {
            let at_once = is_text(line) && after_text && deeds.all_answered();
            at_once || deeds.is_idle() && client.look(Core::is_connected)
        };
        let input = if let Some(line) = held.take_if(|line| begun && free(line)) {
            after_text = is_text(&line);
            Some(Input::Line(line))
        } else {
            tokio::select! {
                biased;
                update = updates.recv() => match update {
                    Some(update) => {
                        if matches!(update, Update::Connected { .. }) {
                            connected.get_or_insert_with(Instant::now);
                        }
                        if deeds.told(&update) {
                            progress = Instant::now();
                        }
                        Some(Input::Update(Box::new(update)))
                    }
                    None => break,
                },
                answer = deeds.answer() => Some(Input::Answer(answer)),
                line = lines.next_line(), if begun && held.is_none() && ended.is_none() => {
                    held = line?;
                    if held.is_none() {
                        ended = Some(Instant::now());
                    }
                    None
                }
                _ = tick.tick() => Some(Input::Tick),
                _ = terminate.recv() => break,
            }
        };
        let mut quit = false;
        if let Some(input) = input {
            let now = doors.clock.unix().0;
            let (effects, mut text) = client.look(|core| {
                let known = core.is_synced() && core.knows_contacts();
                begun |= known || connected.is_some_and(|at| at.elapsed() > SYNC);
                let mut printed = Vec::new();
                match &input {
                    Input::Update(update) => printed = printer.update(core, update),
                    Input::Answer(Answer::Relation(_, _, Ok(contact))) => {
                        printer.relation(core, contact, &mut printed);
                    }
                    _ => {}
                }
                (state.on(core, input, now), printed)
            });
            text.extend(printer.said(&mut state));
            if !text.is_empty() {
                text.push(String::new());
                out.write_all(text.join("\n").as_bytes()).await?;
                out.flush().await?;
            }
            for effect in effects {
                quit |= deeds.run(effect) == Some(Own::Quit);
            }
        }
        if quit {
            if matches!(state.link, Link::Closed(..)) {
                return Ok(ExitCode::from(1));
            }
            ended.get_or_insert_with(Instant::now);
            held = None;
        }
        if let Some(ended) = ended.or((!begun).then_some(progress)) {
            let done = begun && held.is_none() && deeds.is_idle();
            if done && (quit || ended.elapsed() >= patience.linger) {
                break;
            }
            if !done && ended.max(progress).elapsed() >= patience.answers {
                let what = if begun {
                    "! no answer in time; what was sent may have been accepted all the same\n"
                } else {
                    "! the server cannot be reached\n"
                };
                out.write_all(what.as_bytes()).await?;
                out.flush().await?;
                return Ok(ExitCode::from(1));
            }
        }
    }
    Ok(if printer.complaints() > 0 {
        ExitCode::from(1)
    } else {
        ExitCode::SUCCESS
    })
}
