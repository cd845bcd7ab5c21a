//! The loop of the line mode.

use std::{io, process::ExitCode, time::Duration};

use tandem_chassis::Doors;
use tandem_client::{Client, Update};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    signal::unix::{SignalKind, signal},
    sync::mpsc::UnboundedReceiver,
    time::Instant,
};

use super::{
    super::{
        deeds::{Deeds, Own},
        model::{Input, Link, State},
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

/// Reads lines and prints what happens, until the input's end and everything sent is answered. Lines are
/// read once the device is connected. Exit code 1 if something went wrong.
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
    // when the input ended; whether a line may be read, as the one before has been dealt with
    let (mut ended, mut begun) = (None::<Instant>, false);
    loop {
        // a line is obeyed only when what it builds on is known: what was asked for has come
        let ready = ended.is_none() && begun && deeds.is_idle();
        let mut inputs = Vec::new();
        tokio::select! {
            update = updates.recv() => match update {
                Some(update) => inputs.push(Input::Update(Box::new(update))),
                None => break,
            },
            answer = deeds.answer() => inputs.push(Input::Answer(answer)),
            line = lines.next_line(), if ready => match line? {
                Some(line) => inputs.push(Input::Line(line)),
                None => ended = Some(Instant::now()),
            },
            _ = tick.tick() => inputs.push(Input::Tick),
            _ = terminate.recv() => break,
        }
        let mut quit = false;
        let mut text = String::new();
        for input in inputs {
            let now = doors.clock.unix().0;
            let (effects, printed) = client.look(|core| {
                let printed = match &input {
                    Input::Update(update) => printer.update(core, update),
                    _ => Vec::new(),
                };
                begun |= core.is_synced();
                (state.on(core, input, now), printed)
            });
            let said = printer.said(&mut state);
            for line in printed.into_iter().chain(said) {
                text.push_str(&line);
                text.push('\n');
            }
            for effect in effects {
                quit |= deeds.run(effect) == Some(Own::Quit);
            }
        }
        if !text.is_empty() {
            out.write_all(text.as_bytes()).await?;
            out.flush().await?;
        }
        if quit && ended.is_none() {
            ended = Some(Instant::now());
            if matches!(state.link, Link::Closed(..)) {
                return Ok(ExitCode::from(1));
            }
        }
        if let Some(ended) = ended {
            let answered = client.look(tandem_client::Core::all_answered) && deeds.is_idle();
            let passed = ended.elapsed();
            if answered && (quit || passed >= patience.linger) {
                break;
            }
            if passed >= patience.answers.max(patience.linger) {
                out.write_all(b"! gave up waiting for answers; what was sent may have been accepted all the same\n").await?;
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
