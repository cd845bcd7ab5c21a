//! The full screen: the terminal in and out. It is as it was before on every way out: quitting, a signal,
//! a panic.

use std::{
    io::{self, Stdout, Write},
    time::Duration,
};

use crossterm::{
    cursor::Show,
    event::{
        DisableBracketedPaste, DisableFocusChange, EnableBracketedPaste, EnableFocusChange, Event,
        EventStream,
    },
    execute,
    terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode},
};
use futures::StreamExt;
use ratatui::{Terminal, backend::CrosstermBackend};
use tandem_chassis::Doors;
use tandem_client::{Client, Update};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc::UnboundedReceiver,
};

use super::{
    deeds::{Deeds, Own},
    model::{Input, Link, State},
    view,
};

/// How the talk ended.
pub enum Ended {
    /// By the person, or by a signal.
    Quit,
    /// By the server: code and text.
    Closed(String, String),
}

/// Gives the terminal back when dropped.
struct Screen(Terminal<CrosstermBackend<Stdout>>);

fn restore() {
    // as much as can be: there is nobody left to tell
    let _ = execute!(
        io::stdout(),
        DisableFocusChange,
        DisableBracketedPaste,
        LeaveAlternateScreen,
        Show
    );
    let _ = disable_raw_mode();
}

impl Screen {
    fn open() -> io::Result<Self> {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            restore();
            before(info);
        }));
        enable_raw_mode()?;
        let opened = execute!(
            io::stdout(),
            EnterAlternateScreen,
            EnableBracketedPaste,
            EnableFocusChange
        )
        .and_then(|()| Terminal::new(CrosstermBackend::new(io::stdout())));
        match opened {
            Ok(terminal) => Ok(Self(terminal)),
            Err(error) => {
                restore();
                Err(error)
            }
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

/// Inputs that are taken before the screen is drawn again.
const BEFORE_DRAWING: usize = 500;

/// Runs until the person leaves.
pub async fn run(
    doors: &Doors,
    client: Client,
    mut updates: UnboundedReceiver<Update>,
    mut state: State,
    server: &str,
) -> io::Result<Ended> {
    let mut ended = [
        SignalKind::terminate(),
        SignalKind::hangup(),
        SignalKind::interrupt(),
    ]
    .into_iter()
    .map(signal)
    .collect::<io::Result<Vec<_>>>()?;
    let mut screen = Screen::open()?;
    let mut events = EventStream::new();
    let mut deeds = Deeds::new(client.clone());
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    let (columns, rows) = crossterm::terminal::size()?;
    let mut next = vec![Input::Resize(columns, rows)];
    loop {
        for input in next.drain(..) {
            let now = doors.clock.unix().0;
            for effect in client.look(|core| state.on(core, input, now)) {
                match deeds.run(effect) {
                    None => {}
                    Some(Own::Bell) => {
                        io::stdout().write_all(b"\x07")?;
                    }
                    Some(Own::Quit) => {
                        return Ok(match state.link {
                            Link::Closed(code, message) => Ended::Closed(code, message),
                            _ => Ended::Quit,
                        });
                    }
                }
            }
        }
        let scene = client.look(|core| view::scene(&state, core, server));
        screen.0.draw(|frame| scene.draw(frame))?;
        let signalled = futures::future::select_all(ended.iter_mut().map(|s| Box::pin(s.recv())));
        tokio::select! {
            event = events.next() => match event {
                Some(Ok(event)) => next.extend(read(event)),
                // the terminal is gone
                Some(Err(_)) | None => return Ok(Ended::Quit),
            },
            update = updates.recv() => match update {
                Some(update) => next.push(Input::Update(Box::new(update))),
                None => return Ok(Ended::Quit),
            },
            answer = deeds.answer() => next.push(Input::Answer(answer)),
            _ = tick.tick() => next.push(Input::Tick),
            _ = signalled => return Ok(Ended::Quit),
        }
        while next.len() < BEFORE_DRAWING
            && let Ok(update) = updates.try_recv()
        {
            next.push(Input::Update(Box::new(update)));
        }
    }
}

fn read(event: Event) -> Option<Input> {
    match event {
        Event::Key(key) => Some(Input::Key(key)),
        Event::Paste(text) => Some(Input::Paste(text)),
        Event::Resize(columns, rows) => Some(Input::Resize(columns, rows)),
        Event::FocusGained => Some(Input::Focus(true)),
        Event::FocusLost => Some(Input::Focus(false)),
        Event::Mouse(_) => None,
    }
}
