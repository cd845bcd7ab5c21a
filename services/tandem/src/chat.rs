//! `tandem chat`: the terminal client. [`model`] decides and draws nothing, [`view`] draws and decides
//! nothing, [`screen`] and [`lines`] are its two front ends. It keeps nothing on the disk but its
//! device id: history is the server's.

use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::tz::TimeZone;
use tandem_chassis::{Doors, Lifecycle};
use tandem_client::{Client, DevIssuer, DevTokenRequest, Fixed, Options, Pages, TokenSource};
use tandem_kernel::DeviceId;
use tandem_proto::client::{Device, DeviceClass};

use crate::cli::{self, ServerArgs};

mod command;
mod deeds;
mod editor;
mod layout;
mod lines;
mod model;
mod names;
mod screen;
mod text;
mod view;
#[cfg(test)]
mod view_tests;

/// `tandem chat`
#[derive(clap::Args)]
pub struct Args {
    /// Who talks: a local part or a whole address, with a token of the development issuer.
    #[arg(
        long = "as",
        value_name = "USER",
        required_unless_present = "token_file"
    )]
    user: Option<String>,
    /// Read the token from this file instead.
    #[arg(long, value_name = "FILE", conflicts_with = "user")]
    token_file: Option<PathBuf>,
    /// Open the conversation with this person first.
    #[arg(long, value_name = "USER")]
    to: Option<String>,
    /// This device's id; without it, one is kept for each user.
    #[arg(long, value_name = "ID")]
    device: Option<String>,
    /// What kind of device to be.
    #[arg(long, value_enum, default_value_t = Class::Pc)]
    class: Class,
    /// Lines in and lines out instead of a full screen: the default when the input or the output is no
    /// terminal. Ends with the input, once everything sent is answered.
    #[arg(long)]
    plain: bool,
    /// With --plain: stay so many seconds after the input's end.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    linger: u64,
    /// With --plain: wait so many seconds for the answers to what was sent.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    timeout: u64,
    /// Write a log for debugging to this file.
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    #[command(flatten)]
    server: ServerArgs,
    #[arg(long, env = "XDG_STATE_HOME", hide = true)]
    state_home: Option<PathBuf>,
    #[arg(long, env = "HOME", hide = true)]
    home: Option<PathBuf>,
}

/// A device class as it is written.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Class {
    Pc,
    Mobile,
    Portal,
}

/// Runs it.
pub async fn run(args: Args) -> ExitCode {
    let doors = Doors::real();
    let server = match args.server.address() {
        Ok(server) => server,
        Err(error) => return cli::usage(&error),
    };
    let (tokens, device) = match prepare(&args, &doors) {
        Ok(prepared) => prepared,
        Err(error) => return cli::usage(&error),
    };
    if let Some(file) = &args.log
        && let Err(error) = log_to(file)
    {
        return cli::usage(&format!("--log: {}: {error}", file.display()));
    }
    let class = match args.class {
        Class::Pc => DeviceClass::Pc,
        Class::Mobile => DeviceClass::Mobile,
        Class::Portal => DeviceClass::Portal,
    };
    let agent = concat!("tandem-chat/", env!("CARGO_PKG_VERSION")).into();
    let device = Device {
        id: device,
        class: class.into(),
        agent,
    };
    let lifecycle = Lifecycle::new();
    let mut options = Options::new(doors.clone(), server, tokens, device);
    options.pages = Pages::Newest(200);
    options.retry_max = Duration::from_secs(5);
    let (client, updates) = Client::connect(options, &lifecycle);
    let plain = args.plain || !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal();
    let state = model::State::new(plain, args.to, TimeZone::system(), doors.clock.unix().0);
    let code = if plain {
        let patience = lines::Patience {
            answers: Duration::from_secs(args.timeout),
            linger: Duration::from_secs(args.linger),
        };
        lines::run(&doors, client.clone(), updates, state, patience).await
    } else {
        screen::run(&doors, client.clone(), updates, state, &args.server.server)
            .await
            .map(|ended| match ended {
                screen::Ended::Quit => ExitCode::SUCCESS,
                screen::Ended::Closed(code, message) => cli::fail(&format!(
                    "the session has ended: {} ({code})",
                    text::one_line(&message)
                )),
            })
    };
    client.stop();
    lifecycle.stop();
    lifecycle.run_to_end(Duration::from_secs(2)).await;
    code.unwrap_or_else(|error| cli::fail(&format!("terminal: {error}")))
}

fn prepare(args: &Args, doors: &Doors) -> Result<(Arc<dyn TokenSource>, String), String> {
    let tokens: Arc<dyn TokenSource> = match (&args.user, &args.token_file) {
        (Some(user), _) => Arc::new(DevIssuer {
            doors: doors.clone(),
            authority: args.server.issuer()?,
            request: DevTokenRequest {
                user: user.clone(),
                ..DevTokenRequest::default()
            },
        }),
        (None, Some(file)) => match std::fs::read_to_string(file) {
            Ok(token) => Arc::new(Fixed(token.trim().to_owned())),
            Err(error) => return Err(format!("--token-file: {}: {error}", file.display())),
        },
        (None, None) => return Err("name the person with --as or --token-file".into()),
    };
    if let Some(id) = &args.device {
        let id = DeviceId::parse(id).map_err(|e| format!("--device: {e}"))?;
        return Ok((tokens, id.to_string()));
    }
    let fresh = format!("chat-{:016x}", doors.rng.u64());
    // without a name or a home there is nowhere to keep it: a device for this time
    let home = args
        .state_home
        .clone()
        .or_else(|| Some(args.home.as_ref()?.join(".local/state")));
    let kept = args
        .user
        .as_ref()
        .zip(home)
        .map(|(user, home)| device_file(&home, user));
    let id = match kept {
        Some(file) => kept_id(&file, &fresh)
            .map_err(|e| format!("{}: {e}; --device names one", file.display()))?,
        None => fresh,
    };
    Ok((tokens, id))
}

fn device_file(home: &Path, user: &str) -> PathBuf {
    let safe = |c: char| {
        if c.is_ascii_alphanumeric() || ".@_+-".contains(c) {
            c
        } else {
            '_'
        }
    };
    let user: String = user.to_ascii_lowercase().chars().map(safe).collect();
    home.join("tandem").join(format!("device-{user}"))
}

/// The id in the file; if there is none, `fresh`, which is then kept there.
fn kept_id(file: &Path, fresh: &str) -> std::io::Result<String> {
    match std::fs::read_to_string(file) {
        Ok(text) if DeviceId::parse(text.trim()).is_ok() => return Ok(text.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(file, format!("{fresh}\n"))?;
    Ok(fresh.to_owned())
}

fn log_to(file: &Path) -> std::io::Result<()> {
    let file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(file)?;
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::DEBUG)
        .with_ansi(false)
        .with_writer(Mutex::new(file));
    // another subscriber may be there already: then that one logs
    let _ = subscriber.try_init();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_keeps_its_id_and_no_name_leads_out_of_the_folder() {
        let home = std::env::temp_dir().join(format!("tandem-chat-{}", std::process::id()));
        let file = device_file(&home, "../Alice/x@y");
        assert_eq!(file, home.join("tandem/device-.._alice_x@y"));
        assert_eq!(kept_id(&file, "chat-1").unwrap(), "chat-1");
        assert_eq!(kept_id(&file, "chat-2").unwrap(), "chat-1");
        std::fs::write(&file, "not an id!\n").unwrap();
        assert_eq!(kept_id(&file, "chat-3").unwrap(), "chat-3");
        std::fs::remove_dir_all(&home).unwrap();
    }
}
