//! `tandem send`: one message, for scripts.

use std::{process::ExitCode, sync::Arc, time::Duration};

use serde_json::json;
use tandem_chassis::{Doors, Lifecycle};
use tandem_client::{
    Client, DevIssuer, DevTokenRequest, Fixed, Options, Pages, TokenSource, Update,
};
use tandem_proto::client::{Device, DeviceClass};

use crate::cli::{self, ServerArgs};

/// `tandem send`
#[derive(clap::Args)]
pub struct Args {
    /// Who sends: a local part or a whole address, with a token of the development issuer.
    #[arg(
        long = "as",
        value_name = "USER",
        required_unless_present = "token_file"
    )]
    user: Option<String>,
    /// Read the sender's token from this file instead.
    #[arg(long, value_name = "FILE", conflicts_with = "user")]
    token_file: Option<std::path::PathBuf>,
    /// To whom: an address, a local part of the own domain, or a conversation id.
    #[arg(long, value_name = "USER")]
    to: String,
    /// The message; - reads it from standard input.
    text: String,
    /// Give up after so many seconds without an answer. The message may have been accepted all the same.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    timeout: u64,
    #[command(flatten)]
    server: ServerArgs,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub async fn run(args: Args) -> ExitCode {
    let doors = Doors::real();
    let server = match args.server.address() {
        Ok(server) => server,
        Err(error) => return cli::usage(&error),
    };
    let tokens: Arc<dyn TokenSource> = match (&args.user, &args.token_file) {
        (Some(user), _) => Arc::new(DevIssuer {
            doors: doors.clone(),
            authority: args
                .server
                .issuer()
                .unwrap_or_else(|_| server.authority.clone()),
            request: DevTokenRequest {
                user: user.clone(),
                ..DevTokenRequest::default()
            },
        }),
        (None, Some(file)) => match std::fs::read_to_string(file) {
            Ok(token) => Arc::new(Fixed(token.trim().to_owned())),
            Err(error) => return cli::usage(&format!("{}: {error}", file.display())),
        },
        (None, None) => return cli::usage("name the sender with --as or --token-file"),
    };
    let text = match args.text.as_str() {
        "-" => std::io::read_to_string(std::io::stdin()).map_err(|e| e.to_string()),
        text => Ok(text.to_owned()),
    };
    let text = match text {
        Ok(text) => text,
        Err(error) => return cli::fail(&error),
    };
    let device = Device {
        id: format!("send-{:08x}", doors.rng.u64() as u32),
        class: DeviceClass::Pc.into(),
        agent: concat!("tandem-send/", env!("CARGO_PKG_VERSION")).into(),
    };
    let lifecycle = Lifecycle::new();
    let mut options = Options::new(doors, server, tokens, device);
    options.pages = Pages::None;
    let (client, mut updates) = Client::connect(options, &lifecycle);
    let outcome = client.send_text(&args.to, text).outcome();
    let outcome = tokio::select! {
        // the end of a session also ends the wait for outcomes, and says less
        biased;
        reason = closed(&mut updates) => return cli::fail(&reason),
        outcome = outcome => outcome,
        () = tokio::time::sleep(Duration::from_secs(args.timeout)) => {
            return cli::fail("no answer in time; the message may have been accepted all the same");
        }
    };
    client.stop();
    lifecycle.stop();
    lifecycle.run_to_end(Duration::from_secs(2)).await;
    match outcome {
        Ok(taken) => {
            let report = json!({"conversation": taken.conversation, "seq": taken.seq.to_string()});
            cli::answer(args.json, &report, |_| format!("accepted at {}", taken.seq));
            ExitCode::SUCCESS
        }
        Err(problem) => cli::fail(&format!("{} ({})", problem.message, problem.code)),
    }
}

/// Waits until the session has ended for good, and says why.
async fn closed(updates: &mut tokio::sync::mpsc::UnboundedReceiver<Update>) -> String {
    while let Some(update) = updates.recv().await {
        if let Update::Closed { code, message } = update {
            return format!("{message} ({code})");
        }
    }
    "the session has ended".into()
}
