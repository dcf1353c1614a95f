//! The settings of the server that are no limits.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    num::NonZeroUsize,
    path::PathBuf,
};

use clap::{ArgAction, Args, ValueEnum, builder::BoolishValueParser};
use ipnet::IpNet;
use secrecy::{ExposeSecret, SecretString};

use super::{DatabaseUrl, Limits, ProviderSettings, cli::usd_from_zero};
use crate::domain::{EmailAddress, NanoUsd};

/// Shortest `FACES_ADMIN_KEY`, characters: below it, it could be guessed.
const ADMIN_KEY_CHARS_MIN: usize = 16;
/// Shortest secret of login tokens, characters (RFC 7518, section 3.2: as long as the hash).
const JWT_SECRET_CHARS_MIN: usize = 32;

/// Shortest secret of `FACES_WEBHOOK_SECRETS`, characters: below it, it could be guessed.
const WEBHOOK_SECRET_CHARS_MIN: usize = 16;

/// Everything that flags, environment and `.env` decide. Each field's help is its reference.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Server")]
pub struct Settings {
    /// Address and port to serve on, IP:PORT (0.0.0.0:8080 for all interfaces; port 0 takes a free one)
    #[arg(long, env = "FACES_LISTEN", value_name = "IP:PORT", default_value = "127.0.0.1:8080", value_parser = listen_address)]
    pub listen: SocketAddr,

    /// Directory for the SQLite file, its lock and local state; made when missing
    #[arg(long, env = "FACES_DATA_DIR", value_name = "DIR", default_value = "./data")]
    pub data_dir: PathBuf,

    /// sqlite:PATH or postgres://USER:PASSWORD@HOST/DATABASE; unset: sqlite:FACES_DATA_DIR/faces.db
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub database_url: Option<DatabaseUrl>,

    /// Whether to migrate the database at start, true or false (false when a deploy step does it)
    #[arg(long, env = "FACES_MIGRATE", value_name = "BOOL", default_value = "true", action = ArgAction::Set, value_parser = BoolishValueParser::new())]
    pub migrate: bool,

    /// Model for faces without one of their own; unset: gpt-4o-mini when it is usable, else the first usable one
    #[arg(long, env = "FACES_DEFAULT_MODEL", value_name = "MODEL")]
    pub default_model: Option<String>,

    /// Model that reads the texts of faces (compiling); unset: the one of FACES_DEFAULT_MODEL
    #[arg(long, env = "FACES_COMPILE_MODEL", value_name = "MODEL")]
    pub compile_model: Option<String>,

    /// Model whose embeddings faces are compared by (GET /v1/faces/diff and neighbors), one of kind "embeddings"; its calls are paid by the account that asks, once for each state of a face; unset: the built-in lexical embedding, free
    #[arg(long, env = "FACES_EMBEDDING_MODEL", value_name = "MODEL")]
    pub embedding_model: Option<String>,

    /// TOML file of models, providers and prices that extends or replaces the embedded catalog
    #[arg(long, env = "FACES_MODELS_FILE", value_name = "FILE")]
    pub models_file: Option<PathBuf>,

    /// Markup on provider prices, basis points (500 = 5 %)
    #[arg(long, env = "FACES_MARKUP_BPS", value_name = "BPS", default_value_t = 500, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub markup_bps: u32,

    /// Demo account, face and key in an empty database: auto (only when listening on loopback), on, off
    #[arg(long, env = "FACES_DEMO", value_name = "MODE", default_value = "auto")]
    pub demo: DemoMode,

    /// Key that opens the administrator's endpoints, at least 16 characters; unset: they answer 404 (GET /metrics, GET /v1/admin/audit)
    #[arg(long, env = "FACES_ADMIN_KEY", value_name = "KEY", hide_env_values = true, value_parser = admin_key)]
    pub admin_key: Option<SecretString>,

    /// Whether customers may add credit themselves with POST /v1/billing/topup: off (only what a signed webhook or an administrator told of) or trusted (any payment_ref is believed: for a server among friends, and for tests)
    #[arg(long, env = "FACES_TOPUP", value_name = "MODE", default_value = "off")]
    pub topup: TopUpMode,

    /// Secrets of POST /v1/billing/webhook, separated by commas, each of at least 16 characters; any of them may sign an event, so a secret is changed by adding the new one first; unset: the route answers 404
    #[arg(long, env = "FACES_WEBHOOK_SECRETS", value_name = "SECRETS", hide_env_values = true, value_delimiter = ',', value_parser = webhook_secret)]
    pub webhook_secrets: Vec<SecretString>,

    /// TOML file of plans (name, price, face_limit, compile_tokens, period_days); unset: one plan `free` without bounds
    #[arg(long, env = "FACES_PLANS_FILE", value_name = "FILE")]
    pub plans_file: Option<PathBuf>,
    /// Who may register over HTTP: auto (anybody when listening on loopback, else nobody), open (anybody), closed (nobody)
    #[arg(long, env = "FACES_REGISTRATION", value_name = "MODE", default_value = "auto")]
    pub registration: RegistrationMode,

    /// E-mail address of the administrator: the account that logs in with it has is_admin. Addresses are not verified, so register it before others can
    #[arg(long, env = "FACES_ADMIN_EMAIL", value_name = "EMAIL", value_parser = EmailAddress::parse)]
    pub admin_email: Option<EmailAddress>,

    /// Credit that each account which registers is given, USD
    #[arg(long, env = "FACES_WELCOME_CREDIT_USD", value_name = "USD", default_value = "0", value_parser = usd_from_zero)]
    pub welcome_credit_usd: NanoUsd,

    /// Secrets of login tokens, at least 32 characters each, separated by commas: the first signs, all verify; unset: the servers of a database share a random one that it keeps
    #[arg(long, env = "FACES_JWT_SECRETS", value_name = "SECRETS", hide_env_values = true, value_delimiter = ',', value_parser = jwt_secret)]
    pub jwt_secrets: Vec<SecretString>,

    /// Proxies before this server, addresses or networks separated by commas (10.0.0.0/8,::1): what they say in X-Forwarded-For is believed when logins are counted by address
    #[arg(long, env = "FACES_TRUSTED_PROXIES", value_name = "NETWORKS", value_delimiter = ',', value_parser = network)]
    pub trusted_proxies: Vec<IpNet>,

    /// HTTP worker threads; unset: one per available core
    #[arg(long, env = "FACES_WORKERS", value_name = "THREADS", value_parser = worker_count)]
    pub workers: Option<NonZeroUsize>,

    /// Whether customers pay for output that came before a provider failed, true or false (false: the operator does)
    #[arg(long, env = "FACES_CHARGE_PARTIAL_ON_UPSTREAM_ERROR", value_name = "BOOL", default_value = "false", action = ArgAction::Set, value_parser = BoolishValueParser::new())]
    pub charge_partial_on_upstream_error: bool,

    /// How much credit an account's lease keeps between requests: auto (on SQLite all, so that a request starts without waiting for a commit; on PostgreSQL a slice for busy accounts), exact (nothing) or retained (on PostgreSQL a slice for every account)
    #[arg(long, env = "FACES_LEDGER_POLICY", value_name = "POLICY", default_value = "auto")]
    pub ledger_policy: LeasePolicy,

    /// Log filter: a level, or TARGET=LEVEL pairs separated by commas (faces::access=off drops the access log)
    #[arg(long, env = "RUST_LOG", value_name = "FILTER", default_value = Settings::LOG_FILTER_DEFAULT)]
    pub log_filter: String,

    /// Keys and addresses of the providers.
    #[command(flatten)]
    pub providers: ProviderSettings,

    /// All named limits.
    #[command(flatten)]
    pub limits: Limits,
}

/// How much credit an account's lease keeps between requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LeasePolicy {
    /// All that the account has where one server owns the database (SQLite): a hold is arithmetic in
    /// memory. Where servers share it (PostgreSQL), a slice for accounts that are busy, when others
    /// are busy with them too or a verdict of the database takes long; nothing for the rest.
    Auto,
    /// Nothing: every hold waits for its commit.
    Exact,
    /// As `Auto`, but on PostgreSQL every account in use keeps a slice.
    Retained,
}

/// Whether customers may add credit themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TopUpMode {
    /// Only a payment that a signed webhook told of.
    Off,
    /// Any reference of a payment.
    Trusted,
}

/// When the demo account is made (only ever into an empty database).
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DemoMode {
    /// When the server listens on loopback.
    Auto,
    /// As `Auto`, but listening elsewhere stops the start instead of leaving the demo out.
    On,
    /// Never.
    Off,
}

/// Who may register over HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RegistrationMode {
    /// Anybody when the server listens on loopback, else nobody.
    Auto,
    /// Anybody.
    Open,
    /// Nobody.
    Closed,
}

impl Settings {
    /// The log filter when nothing else is said (commands other than `serve` then show warnings
    /// only).
    pub const LOG_FILTER_DEFAULT: &str = "info";

    /// The database to use: `DATABASE_URL`, or `faces.db` in the data directory.
    #[must_use]
    pub fn database(&self) -> DatabaseUrl {
        let in_data_dir = || DatabaseUrl::Sqlite(self.data_dir.join("faces.db"));
        self.database_url.clone().unwrap_or_else(in_data_dir)
    }

    /// HTTP worker threads: as set, else the cores available to this process, else 1.
    #[must_use]
    pub fn worker_count(&self) -> usize {
        self.workers
            .or_else(|| std::thread::available_parallelism().ok())
            .map_or(1, NonZeroUsize::get)
    }

    /// Whether an empty database gets the demo account.
    #[must_use]
    pub fn makes_demo(&self) -> bool {
        match self.demo {
            DemoMode::Auto | DemoMode::On => self.listen.ip().is_loopback(),
            DemoMode::Off => false,
        }
    }

    /// Whether accounts may be made over HTTP.
    #[must_use]
    pub fn takes_registrations(&self) -> bool {
        match self.registration {
            RegistrationMode::Auto => self.listen.ip().is_loopback(),
            RegistrationMode::Open => true,
            RegistrationMode::Closed => false,
        }
    }

    /// The server's base URL as this machine reaches it (an unspecified address becomes loopback).
    #[must_use]
    pub fn local_url(&self) -> String {
        let ip = match self.listen.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        format!("http://{}", SocketAddr::new(ip, self.listen.port()))
    }
}

fn listen_address(text: &str) -> Result<SocketAddr, &'static str> {
    let numeric = text
        .strip_prefix("localhost:")
        .map_or_else(|| text.to_owned(), |port| format!("127.0.0.1:{port}"));
    numeric.parse().map_err(|_| {
        "it must be IP:PORT, for example 127.0.0.1:8080, 0.0.0.0:8080 or [::1]:8080 (port 0 to 65535)"
    })
}

fn admin_key(text: &str) -> Result<SecretString, String> {
    let key = SecretString::from(text);
    if key.expose_secret().chars().count() < ADMIN_KEY_CHARS_MIN {
        return Err(format!(
            "it has fewer than {ADMIN_KEY_CHARS_MIN} characters; make one with: openssl rand -hex 32"
        ));
    }
    Ok(key)
}

fn webhook_secret(text: &str) -> Result<SecretString, String> {
    let secret = text.trim();
    if secret.chars().count() < WEBHOOK_SECRET_CHARS_MIN {
        return Err(format!(
            "one has fewer than {WEBHOOK_SECRET_CHARS_MIN} characters; make one with: openssl rand -hex 32"
        ));
    }
    Ok(SecretString::from(secret))
}

fn jwt_secret(text: &str) -> Result<SecretString, String> {
    let secret = SecretString::from(text.trim());
    if secret.expose_secret().chars().count() < JWT_SECRET_CHARS_MIN {
        return Err(format!(
            "one of them has fewer than {JWT_SECRET_CHARS_MIN} characters; make one with: openssl rand -hex 32"
        ));
    }
    Ok(secret)
}

fn network(text: &str) -> Result<IpNet, &'static str> {
    let text = text.trim();
    let address = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse().or_else(|_| address()).map_err(
        |_| "each must be an address or a network, for example 127.0.0.1, 10.0.0.0/8 or fd00::/8",
    )
}

fn worker_count(text: &str) -> Result<NonZeroUsize, &'static str> {
    match text.parse::<NonZeroUsize>() {
        Ok(count) if count.get() <= 1_024 => Ok(count),
        _ => Err("it must be a whole number from 1 to 1024"),
    }
}
