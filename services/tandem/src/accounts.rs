//! `tandem accounts`: provisioning from the command line.

use std::{path::PathBuf, process::ExitCode};

use serde_json::{Value, json};
use tandem_chassis::{Doors, grpc::Channel};
use tandem_proto::accounts::{
    Account, CloseRequest, ConnectRequest, GetRequest, UpsertRequest, account::State,
    import_result::Result as Imported, provisioning_client::ProvisioningClient,
};
use tonic::Status;

#[cfg(feature = "engines")]
use crate::service::{self, Service};
use crate::{
    cli::{self, ServerArgs},
    settings::ConfigArgs,
};

/// `tandem accounts`
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    config: ConfigArgs,
}

/// `tandem accounts …`
#[derive(clap::Subcommand)]
pub enum Command {
    /// Create a subscriber, or change what is given.
    Set {
        #[command(flatten)]
        fields: Fields,
        #[command(flatten)]
        common: Common,
    },
    /// Show a subscriber.
    Show {
        /// Address or phone number.
        who: String,
        #[command(flatten)]
        common: Common,
    },
    /// End an account.
    Close {
        /// Address.
        user: String,
        #[command(flatten)]
        common: Common,
    },
    /// Make two subscribers contacts of each other.
    Connect {
        /// Address.
        a: String,
        /// Address.
        b: String,
        #[command(flatten)]
        common: Common,
    },
    /// Create or change many: one JSON object a line, with the keys user, name, phone, email, country,
    /// brand, plan. Lines that are refused are told with their number; the rest is done.
    Import {
        /// The file; - is standard input.
        file: PathBuf,
        #[command(flatten)]
        common: Common,
    },
}

/// Where, and how to answer.
#[derive(clap::Args)]
pub struct Common {
    #[command(flatten)]
    server: ServerArgs,
    /// Print one JSON object a line.
    #[arg(long)]
    json: bool,
}

/// A subscriber's fields.
#[derive(clap::Args, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fields {
    /// Address: local@domain.
    user: String,
    /// Name to show.
    #[arg(long)]
    name: Option<String>,
    /// Phone number in any usual form.
    #[arg(long)]
    phone: Option<String>,
    /// E-mail address.
    #[arg(long)]
    email: Option<String>,
    /// ISO 3166-1 alpha-2.
    #[arg(long)]
    country: Option<String>,
    /// Brand.
    #[arg(long)]
    brand: Option<String>,
    /// Plan.
    #[arg(long)]
    plan: Option<String>,
}

impl From<Fields> for UpsertRequest {
    fn from(f: Fields) -> Self {
        Self {
            user: f.user,
            name: f.name,
            phone: f.phone,
            email: f.email,
            country: f.country,
            brand: f.brand,
            plan: f.plan,
        }
    }
}

/// Runs it.
pub async fn run(args: Args) -> ExitCode {
    match args.command {
        Some(command) => provision(command).await,
        #[cfg(feature = "engines")]
        None => service::run(Service::Accounts, args.config).await,
        #[cfg(not(feature = "engines"))]
        None => cli::usage(cli::NO_ENGINES),
    }
}

async fn provision(command: Command) -> ExitCode {
    let (Command::Set { common, .. }
    | Command::Show { common, .. }
    | Command::Close { common, .. }
    | Command::Connect { common, .. }
    | Command::Import { common, .. }) = &command;
    let json = common.json;
    let client = match common.server.accounts(&Doors::real()) {
        Ok(channel) => ProvisioningClient::new(channel),
        Err(error) => return cli::usage(&error),
    };
    match act(command, client, json).await {
        Ok(code) => code,
        Err(status) => cli::fail(status.message()),
    }
}

async fn act(
    command: Command,
    mut client: ProvisioningClient<Channel>,
    json: bool,
) -> Result<ExitCode, Status> {
    match command {
        Command::Set { fields, .. } => {
            let account = client
                .upsert(UpsertRequest::from(fields))
                .await?
                .into_inner();
            cli::answer(json, &shown(&account), text);
        }
        Command::Show { who, .. } => {
            let account = client.get(GetRequest { who }).await?.into_inner();
            cli::answer(json, &shown(&account), text);
        }
        Command::Close { user, .. } => {
            let account = client.close(CloseRequest { user }).await?.into_inner();
            cli::answer(json, &shown(&account), text);
        }
        Command::Connect { a, b, .. } => {
            client
                .connect(ConnectRequest {
                    a: a.clone(),
                    b: b.clone(),
                })
                .await?;
            cli::answer(json, &json!({"a": a, "b": b}), |_| {
                format!("{a} and {b} are contacts")
            });
        }
        Command::Import { file, .. } => return import(file, client, json).await,
    }
    Ok(ExitCode::SUCCESS)
}

async fn import(
    file: PathBuf,
    mut client: ProvisioningClient<Channel>,
    json: bool,
) -> Result<ExitCode, Status> {
    let name = file.display().to_string();
    let text = if name == "-" {
        std::io::read_to_string(std::io::stdin())
    } else {
        std::fs::read_to_string(&file)
    };
    let text = text.map_err(|e| Status::invalid_argument(format!("{name}: {e}")))?;
    let (mut requests, mut lines, mut refused) = (Vec::new(), Vec::new(), 0);
    for (at, line) in text
        .lines()
        .enumerate()
        .filter(|(_, l)| !l.trim().is_empty())
    {
        match serde_json::from_str::<Fields>(line) {
            Ok(fields) => {
                requests.push(UpsertRequest::from(fields));
                lines.push(at + 1);
            }
            Err(error) => {
                refused += 1;
                eprintln!("{name}:{}: {error}", at + 1);
            }
        }
    }
    let mut results = client
        .import(tokio_stream::iter(requests))
        .await?
        .into_inner();
    let mut done = 0;
    while let Some(result) = results.message().await? {
        match result.result {
            Some(Imported::Account(_)) => done += 1,
            Some(Imported::Problem(problem)) => {
                refused += 1;
                let line = lines
                    .get(result.index as usize)
                    .copied()
                    .unwrap_or_default();
                eprintln!("{name}:{line}: {} ({})", problem.message, problem.code);
            }
            None => {}
        }
    }
    let report = json!({"imported": done, "refused": refused});
    cli::answer(json, &report, |_| {
        format!("{done} imported, {refused} refused")
    });
    Ok(if refused == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    })
}

fn shown(account: &Account) -> Value {
    json!({
        "user": account.user,
        "name": account.name,
        "phone": account.phone,
        "email": account.email,
        "country": account.country,
        "brand": account.brand,
        "plan": account.plan,
        "state": if account.state() == State::Closed { "closed" } else { "active" },
        "version": account.version,
    })
}

fn text(account: &Value) -> String {
    let field = |(key, value): (&String, &Value)| {
        let value = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        format!("{key:8} {value}")
    };
    let fields = account.as_object().into_iter().flatten();
    fields.map(field).collect::<Vec<_>>().join("\n")
}
