//! The command line: definitions only. `app` and `main` execute them.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Parser, Subcommand};
use secrecy::SecretString;

use super::{
    Settings,
    ledger_cli::{LedgerCommand, TopUpArgs},
};
use crate::domain::{AccountId, BudgetWindow, EmailAddress, FaceName, KeyId, NanoUsd, RateSetting};

/// Self-hosted, OpenAI-compatible server for personas with exact prepaid credits.
///
/// Without a command, `faces` serves. Every flag of a setting has an environment variable of the
/// same meaning; a `.env` file in this directory or above is read too. A flag goes before a
/// variable, a variable before `.env`.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "faces",
    version,
    max_term_width = 100,
    after_help = "Examples:\n  faces\n  faces serve --listen 0.0.0.0:8080\n  faces chat alice \"Who are you?\"\n  faces admin account create --name shop --credit-usd 5"
)]
pub struct Cli {
    /// Settings, from flags, environment, `.env` and defaults.
    #[command(flatten)]
    pub settings: Settings,

    #[command(subcommand)]
    pub(super) command: Option<Command>,
}

/// What to do.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Serve the API (this is the default)
    #[command(
        after_help = "Examples:\n  faces serve\n  OPENAI_API_KEY=sk-... faces serve --listen 0.0.0.0:8080 --database-url postgres://faces@db/faces"
    )]
    Serve,

    /// Talk to a face of a running server; the reply streams to the terminal, Ctrl-C stops it
    #[command(
        after_help = "Examples:\n  faces chat alice \"Who are you?\"\n  faces chat alice@gpt-4o-mini \"Who are you?\" --system \"Answer in one sentence.\" --no-stream"
    )]
    Chat(ChatArgs),

    /// Manage accounts, keys, credits and faces; works while the server runs and while it doesn't
    #[command(
        subcommand,
        after_help = "Examples:\n  faces admin account list\n  faces admin topup --account 0192f0c1-2d3e-7a4b-8c5d-6e7f8091a2b3 --usd 12.50 --ref invoice-17"
    )]
    Admin(AdminCommand),

    /// Add credits to an account; the same reference never counts twice
    #[command(
        name = "topup",
        after_help = "Examples:\n  faces topup 0192f0c1-2d3e-7a4b-8c5d-6e7f8091a2b3 --amount-usd 10 --ref invoice-17"
    )]
    TopUp(TopUpArgs),

    /// Look into the books: one account or hold, or an export of all transfers
    #[command(
        subcommand,
        after_help = "Examples:\n  faces ledger show 0192f0c1-2d3e-7a4b-8c5d-6e7f8091a2b3\n  faces ledger export --format csv --from 2026-11-01 --to 2026-12-01 --output november.csv"
    )]
    Ledger(LedgerCommand),

    /// Re-derive every balance from the books; exit code 0 clean, 1 a difference, 2 could not run
    ///
    /// A full audit reads everything, and finds a change of old rows too: run it once a day. An
    /// incremental one reads what came since the last clean incremental one and is as quick in
    /// large books as in small ones: run it every minute.
    #[command(
        after_help = "Examples:\n  faces audit\n  faces audit --json\n  faces audit --incremental"
    )]
    Audit(AuditArgs),
}

/// Arguments of `faces chat`.
#[derive(Debug, Clone, Args)]
pub struct ChatArgs {
    /// Face to talk to: FACE, FACE@MODEL, or a bare model
    #[arg(value_name = "FACE")]
    pub model_selector: String,

    /// What to say
    pub message: String,

    /// Server to talk to; unset: the one that runs on FACES_DATA_DIR, else one started for the question
    #[arg(long, env = "FACES_URL", value_name = "URL")]
    pub url: Option<String>,

    /// API key; unset: a key of ten minutes, made over the admin socket of the data directory
    #[arg(long, env = "FACES_API_KEY", value_name = "KEY", hide_env_values = true)]
    pub key: Option<SecretString>,

    /// Model to use instead of the face's own (the same as FACE@MODEL)
    #[arg(long)]
    pub model: Option<String>,

    /// System prompt after the persona
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,

    /// Wait for the whole reply instead of streaming it
    #[arg(long)]
    pub no_stream: bool,
}

/// Commands of `faces admin`.
#[derive(Debug, Clone, Subcommand)]
pub enum AdminCommand {
    /// Create, list, freeze and unfreeze accounts
    #[command(
        subcommand,
        after_help = "Examples:\n  faces admin account create --name shop --credit-usd 5 --json\n  faces admin account freeze --account 0192f0c1-2d3e-7a4b-8c5d-6e7f8091a2b3"
    )]
    Account(AccountCommand),

    /// Create, list, change and revoke API keys
    #[command(
        subcommand,
        after_help = "Examples:\n  faces admin key create --account 0192f0c1-2d3e-7a4b-8c5d-6e7f8091a2b3 --name laptop --json\n  faces admin key set --key 0192f0c1-2d3e-7a4b-8c5d-6e7f8091a2b3 --budget-usd 5\n  faces admin key revoke --key 0192f0c1-2d3e-7a4b-8c5d-6e7f8091a2b3"
    )]
    Key(KeyCommand),

    /// Add credits to an account (as `faces topup`); the same reference never counts twice
    #[command(
        after_help = "Examples:\n  faces admin topup --account 0192f0c1-2d3e-7a4b-8c5d-6e7f8091a2b3 --usd 12.50 --ref invoice-17 --json"
    )]
    Topup {
        /// Account to credit
        #[arg(long, value_name = "ID")]
        account: AccountId,
        /// Amount, USD, above 0, at most 9 decimal places; kept exactly
        #[arg(long, value_name = "USD", value_parser = usd_above_zero, allow_negative_numbers = true)]
        usd: NanoUsd,
        /// Your reference (an invoice or payment); repeating it with the same amount changes nothing
        #[arg(long = "ref", value_name = "REF", value_parser = reference)]
        reference: String,
        /// Answer in JSON
        #[arg(long)]
        json: bool,
    },

    /// Import and list faces
    #[command(
        subcommand,
        after_help = "Examples:\n  faces admin face import --account 0192f0c1-2d3e-7a4b-8c5d-6e7f8091a2b3 alice.json\n  faces admin face list --account 0192f0c1-2d3e-7a4b-8c5d-6e7f8091a2b3"
    )]
    Face(FaceCommand),
}

/// Commands of `faces admin account`.
#[derive(Debug, Clone, Subcommand)]
pub enum AccountCommand {
    /// Create an account; prints its id
    #[command(
        after_help = "Examples:\n  faces admin account create --name shop --credit-usd 5 --json"
    )]
    Create {
        /// Name for people
        #[arg(long, value_parser = name)]
        name: String,
        /// Opening credit, USD, at most 9 decimal places; kept exactly
        #[arg(long, value_name = "USD", default_value = "0", value_parser = usd_from_zero, allow_negative_numbers = true)]
        credit_usd: NanoUsd,
        /// Answer in JSON
        #[arg(long)]
        json: bool,
    },
    /// List accounts with their credit
    #[command(after_help = "Examples:\n  faces admin account list --json")]
    List {
        /// Answer in JSON
        #[arg(long)]
        json: bool,
    },
    /// Stop an account's spending: its requests get 402 until it is unfrozen
    #[command(
        after_help = "Examples:\n  faces admin account freeze --account 0192f0c1-2d3e-7a4b-8c5d-6e7f8091a2b3"
    )]
    Freeze {
        /// Account to freeze
        #[arg(long, value_name = "ID")]
        account: AccountId,
        /// Answer in JSON
        #[arg(long)]
        json: bool,
    },
    /// Set an account's password, read from the first line of standard input; ends its login tokens
    ///
    /// Servers follow within two seconds. An account that nobody can log in to yet needs --email.
    #[command(
        after_help = "Examples:\n  faces admin account set-password --account 0192f0c1-2d3e-7a4b-8c5d-6e7f8091a2b3\n  faces admin account set-password --account 0192f0c1-2d3e-7a4b-8c5d-6e7f8091a2b3 --email ada@x.org"
    )]
    SetPassword {
        /// Account to log in to
        #[arg(long, value_name = "ID")]
        account: AccountId,
        /// Address to log in with, for an account that has none; else it stays as it is
        #[arg(long, value_name = "EMAIL", value_parser = EmailAddress::parse)]
        email: Option<EmailAddress>,
        /// Answer in JSON
        #[arg(long)]
        json: bool,
    },
    /// Let a frozen account spend again
    #[command(
        after_help = "Examples:\n  faces admin account unfreeze --account 0192f0c1-2d3e-7a4b-8c5d-6e7f8091a2b3"
    )]
    Unfreeze {
        /// Account to unfreeze
        #[arg(long, value_name = "ID")]
        account: AccountId,
        /// Answer in JSON
        #[arg(long)]
        json: bool,
    },
    /// Set how often all keys of an account together may ask, on each server; servers follow within
    /// two seconds
    #[command(
        group = ArgGroup::new("rate").required(true).multiple(true),
        after_help = "Examples:\n  faces admin account rate --account 0192f0c1-2d3e-7a4b-8c5d-6e7f8091a2b3 --rpm 600 --tpm 1000000"
    )]
    Rate {
        /// Account to change
        #[arg(long, value_name = "ID")]
        account: AccountId,
        /// Requests per minute: a number, 0 for any number, or default for what the server says;
        /// unset: as before
        #[arg(long, value_name = "N", group = "rate")]
        rpm: Option<RateSetting>,
        /// Tokens per minute, as --rpm
        #[arg(long, value_name = "N", group = "rate")]
        tpm: Option<RateSetting>,
        /// Answer in JSON
        #[arg(long)]
        json: bool,
    },
    /// Put an account on a plan of FACES_PLANS_FILE
    #[command(
        after_help = "Examples:\n  faces admin account plan --account 0192f0c1-2d3e-7a4b-8c5d-6e7f8091a2b3 --plan pro"
    )]
    Plan {
        /// Account to change
        #[arg(long, value_name = "ID")]
        account: AccountId,
        /// Name of the plan
        #[arg(long, value_parser = name)]
        plan: String,
        /// Answer in JSON
        #[arg(long)]
        json: bool,
    },
}

/// Commands of `faces admin key`.
#[derive(Debug, Clone, Subcommand)]
pub enum KeyCommand {
    /// Create an API key; it is shown this once
    #[command(
        after_help = "Examples:\n  faces admin key create --account 0192f0c1-2d3e-7a4b-8c5d-6e7f8091a2b3 --name laptop --json\n  faces admin key create --account 0192f0c1-2d3e-7a4b-8c5d-6e7f8091a2b3 --expires-in-days 30 --allow-face alice --allow-model gpt-4o-mini --budget-usd 5 --budget-window daily"
    )]
    Create {
        /// Account that the key spends from
        #[arg(long, value_name = "ID")]
        account: AccountId,
        /// Name for people
        #[arg(long, default_value = "default", value_parser = name)]
        name: String,
        /// Life of the key, days; unset: it never expires
        #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=36_500))]
        expires_in_days: Option<u32>,
        /// Face that the key may use (repeat it for more); unset: all
        #[arg(long = "allow-face", value_name = "FACE", value_parser = FaceName::parse)]
        allowed_faces: Vec<FaceName>,
        /// Model that the key may use (repeat it for more); unset: all
        #[arg(long = "allow-model", value_name = "MODEL")]
        allowed_models: Vec<String>,
        /// Most that the key may spend in a window, USD, at most 9 decimal places; unset: all that
        /// the account has
        #[arg(long, value_name = "USD", value_parser = budget, allow_negative_numbers = true)]
        budget_usd: Option<NanoUsd>,
        /// When the budget begins anew, at midnight UTC: none, daily, weekly (Monday) or monthly
        /// (the 1st); unset: none
        #[arg(long, value_name = "WINDOW", value_parser = BudgetWindow::parse, requires = "budget_usd")]
        budget_window: Option<BudgetWindow>,
        /// Answer in JSON
        #[arg(long)]
        json: bool,
    },
    /// List an account's keys (never the secrets) with their budgets and what they spent
    #[command(
        after_help = "Examples:\n  faces admin key list --account 0192f0c1-2d3e-7a4b-8c5d-6e7f8091a2b3"
    )]
    List {
        /// Account whose keys to list
        #[arg(long, value_name = "ID")]
        account: AccountId,
        /// Answer in JSON
        #[arg(long)]
        json: bool,
    },
    /// Change or remove a key's budget; servers follow within two seconds
    #[command(
        group = ArgGroup::new("change").required(true).multiple(true),
        after_help = "Examples:\n  faces admin key set --key 0192f0c1-2d3e-7a4b-8c5d-6e7f8091a2b3 --budget-usd 5\n  faces admin key set --key 0192f0c1-2d3e-7a4b-8c5d-6e7f8091a2b3 --no-budget"
    )]
    Set {
        /// Id of the key (not the secret), as `faces admin key list` shows it
        #[arg(long, value_name = "ID")]
        key: KeyId,
        /// Most that the key may spend in a window, USD, at most 9 decimal places; what the window
        /// spent so far counts. Unset: as before
        #[arg(long, value_name = "USD", value_parser = budget, allow_negative_numbers = true, group = "change")]
        budget_usd: Option<NanoUsd>,
        /// When the budget begins anew, at midnight UTC: none, daily, weekly (Monday) or monthly
        /// (the 1st); another window begins with nothing spent. Unset: as before
        #[arg(long, value_name = "WINDOW", value_parser = BudgetWindow::parse, group = "change")]
        budget_window: Option<BudgetWindow>,
        /// Let the key spend all that its account has
        #[arg(long, group = "change", conflicts_with_all = ["budget_usd", "budget_window"])]
        no_budget: bool,
        /// Answer in JSON
        #[arg(long)]
        json: bool,
    },
    /// Set how often a key may ask, on each server; servers follow within two seconds
    #[command(
        group = ArgGroup::new("rate").required(true).multiple(true),
        after_help = "Examples:\n  faces admin key rate --key 0192f0c1-2d3e-7a4b-8c5d-6e7f8091a2b3 --rpm 60 --tpm 100000"
    )]
    Rate {
        /// Id of the key (not the secret), as `faces admin key list` shows it
        #[arg(long, value_name = "ID")]
        key: KeyId,
        /// Requests per minute: a number, 0 for any number, or default for what the server says;
        /// unset: as before
        #[arg(long, value_name = "N", group = "rate")]
        rpm: Option<RateSetting>,
        /// Tokens per minute, as --rpm
        #[arg(long, value_name = "N", group = "rate")]
        tpm: Option<RateSetting>,
        /// Answer in JSON
        #[arg(long)]
        json: bool,
    },
    /// Revoke an API key
    #[command(
        after_help = "Examples:\n  faces admin key revoke --key 0192f0c1-2d3e-7a4b-8c5d-6e7f8091a2b3"
    )]
    Revoke {
        /// Id of the key (not the secret), as `faces admin key list` shows it
        #[arg(long, value_name = "ID")]
        key: KeyId,
        /// Answer in JSON
        #[arg(long)]
        json: bool,
    },
}

/// Commands of `faces admin face`.
#[derive(Debug, Clone, Subcommand)]
pub enum FaceCommand {
    /// Import a face with its facts and primitives from a JSON file, replacing one of that username
    #[command(
        after_help = "Examples:\n  faces admin face import --account 0192f0c1-2d3e-7a4b-8c5d-6e7f8091a2b3 alice.json"
    )]
    Import {
        /// Account that owns the face
        #[arg(long, value_name = "ID")]
        account: AccountId,
        /// JSON file: {"username","name","basic_facts","default_model","primitives":[{"component","text","weight"}]}
        file: PathBuf,
        /// Answer in JSON
        #[arg(long)]
        json: bool,
    },
    /// List an account's faces
    #[command(
        after_help = "Examples:\n  faces admin face list --account 0192f0c1-2d3e-7a4b-8c5d-6e7f8091a2b3"
    )]
    List {
        /// Account whose faces to list
        #[arg(long, value_name = "ID")]
        account: AccountId,
        /// Answer in JSON
        #[arg(long)]
        json: bool,
    },
}

/// Arguments of `faces audit`.
#[derive(Debug, Clone, Copy, Args)]
pub struct AuditArgs {
    /// Audit what came since the last clean incremental audit, and seal what can't change any more
    #[arg(long)]
    pub incremental: bool,
    /// Answer in JSON
    #[arg(long)]
    pub json: bool,
}

pub(super) fn usd_from_zero(text: &str) -> Result<NanoUsd, String> {
    let amount: NanoUsd = text.parse().map_err(|error| format!("{error}"))?;
    if amount.is_negative() {
        return Err("an account's first credit can't be below 0".to_owned());
    }
    Ok(amount)
}

fn budget(text: &str) -> Result<NanoUsd, String> {
    let amount: NanoUsd = text.parse().map_err(|error| format!("{error}"))?;
    if amount.is_negative() {
        return Err("a budget can't be below 0".to_owned());
    }
    Ok(amount)
}

pub(super) fn usd_above_zero(text: &str) -> Result<NanoUsd, String> {
    let amount: NanoUsd = text.parse().map_err(|error| format!("{error}"))?;
    if amount <= NanoUsd::ZERO {
        return Err("a top-up must be above 0".to_owned());
    }
    Ok(amount)
}

pub(super) fn reference(text: &str) -> Result<String, &'static str> {
    bounded(text, 200).ok_or("it must have 1 to 200 characters and no control characters")
}

fn name(text: &str) -> Result<String, &'static str> {
    bounded(text, 100).ok_or("it must have 1 to 100 characters and no control characters")
}

fn bounded(text: &str, chars_max: usize) -> Option<String> {
    let text = text.trim();
    let fits = !text.is_empty() && text.chars().count() <= chars_max;
    (fits && !text.contains(char::is_control)).then(|| text.to_owned())
}
