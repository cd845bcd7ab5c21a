//! `tandem token`: a development token from a running `tandem up`.

use std::process::ExitCode;

use serde_json::json;
use tandem_chassis::Doors;
use tandem_client::{DevIssuer, DevTokenRequest, TokenSource};

use crate::cli::{self, ServerArgs};

/// `tandem token`
#[derive(clap::Args)]
pub struct Args {
    /// Whose: a local part or a whole address.
    #[arg(long = "as", value_name = "USER")]
    user: String,
    /// Seconds until it expires.
    #[arg(long, value_name = "SECONDS")]
    ttl: Option<u64>,
    /// Claim `plan`.
    #[arg(long)]
    plan: Option<String>,
    /// Claim `country` (ISO 3166-1 alpha-2).
    #[arg(long)]
    country: Option<String>,
    /// Claim `phone_number`.
    #[arg(long)]
    phone: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub async fn run(args: Args) -> ExitCode {
    let authority = match args.server.issuer() {
        Ok(authority) => authority,
        Err(error) => return cli::usage(&error),
    };
    let issuer = DevIssuer {
        doors: Doors::real(),
        authority,
        request: DevTokenRequest {
            user: args.user,
            ttl_s: args.ttl,
            plan: args.plan,
            country: args.country,
            phone_number: args.phone,
            ..DevTokenRequest::default()
        },
    };
    match issuer.token().await {
        Ok(token) => {
            let expires_at_ms = token.expires_at.map(|at| at.0);
            let shown = json!({"token": token.token, "expires_at_ms": expires_at_ms});
            cli::answer(args.json, &shown, |_| token.token.clone());
            ExitCode::SUCCESS
        }
        Err(error) => cli::fail(&format!("{}: {error}", issuer.authority)),
    }
}
