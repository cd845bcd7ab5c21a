//! `tandem token`: a development token from a running `tandem up`.

use std::process::ExitCode;

use tandem_chassis::Doors;

use crate::{
    cli::{self, ServerArgs},
    issuer::TokenRequest,
};

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
    let request = TokenRequest {
        user: args.user,
        ttl_s: args.ttl,
        plan: args.plan,
        country: args.country,
        phone_number: args.phone,
        ..TokenRequest::default()
    };
    match cli::development_token(&Doors::real(), &args.server, &request).await {
        Ok(token) => {
            cli::answer(args.json, &token, |t| t.token.clone());
            ExitCode::SUCCESS
        }
        Err(error) => cli::fail(&error),
    }
}
