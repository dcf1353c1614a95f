//! What the operator decides: settings, named limits, and the command line.
//!
//! Owns the process environment: this room is the only reader of `std::env` and of `.env`. One
//! value comes from, in falling order: a flag, an environment variable, a line of `.env`, the
//! default of its definition. An empty variable counts as unset. [`Cli::from_process`] reads all
//! of them once; afterwards everything is a plain value.
//!
//! What never happens here: logging (it is not started yet), network, database. Nothing mutates
//! the environment. Secrets are `SecretString`s, and `Debug` shows none of them.
//!
//! How it fails: before anything else has started, with a [`CliError`] whose text names the
//! variable or flag and the fix, and never repeats a secret. Its exit code is 2, as usual for
//! wrong usage; help and version leave with 0.
//!
//! Limits: all bounds of the server stand in [`Limits`], with unit and reason. What one field
//! can't see alone is checked by `checks.rs` after parsing.
//!
//! Tested in `tests.rs`: precedence, messages, redaction, and that `.env.example` says the same as
//! the definitions.

mod checks;
pub mod cli;
mod database_url;
mod environment;
pub mod ledger_cli;
pub mod limits;
mod load;
pub mod plans;
pub mod providers;
mod settings;

pub use cli::{
    AccountCommand, AdminCommand, AuditArgs, ChatArgs, Cli, Command, FaceCommand, KeyCommand,
};
pub use database_url::{DatabaseUrl, DatabaseUrlError};
pub use environment::{DotenvError, Environment};
pub use ledger_cli::{ExportArgs, ExportFormat, LedgerCommand, TopUpArgs};
pub use limits::Limits;
pub use load::{CliError, SettingError};
pub use plans::{Plan, Plans};
pub use providers::ProviderSettings;
pub use settings::{DemoMode, LeasePolicy, RegistrationMode, Settings, TopUpMode};

#[cfg(test)]
mod tests;
