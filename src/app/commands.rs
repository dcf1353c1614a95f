//! Runs the command line.

use std::{
    fs,
    io::{self, BufRead, Read, Write},
    process::ExitCode,
};

use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use super::{
    App, StartError,
    admin_socket::{self, Remote},
    audit_command, chat_command, ledger_command, server,
};
use crate::{
    config::{
        AccountCommand, AdminCommand, Cli, Command, DatabaseUrl, FaceCommand, KeyCommand, Plans,
        Settings, TopUpArgs,
    },
    domain::{BudgetWindow, KeyBudget},
    flows::admin::{AdminRequest, NewPassword},
    storage::DbRole,
    telemetry,
};

/// Exit code when a command was refused or failed.
pub(super) const FAILED: u8 = 1;
/// Exit code after a second signal: 128 + SIGINT, as shells show it.
const INTERRUPTED: u8 = 130;

/// Longest line that is read from standard input, bytes: no password is longer.
const LINE_BYTES_MAX: u64 = 8_192;

/// Does what the command line says.
pub async fn execute(cli: Cli) -> ExitCode {
    let settings = cli.settings.clone();
    match cli.command() {
        Command::Serve => Box::pin(serve(settings)).await,
        Command::Chat(chat) => Box::pin(chat_command::run(settings, chat)).await,
        Command::Admin(command) => match request_of(command) {
            Ok((request, json)) => admin(&settings, request, json).await,
            Err(problem) => {
                complain(&problem);
                ExitCode::from(FAILED)
            }
        },
        Command::TopUp(TopUpArgs { account, amount_usd, reference, json }) => {
            let request = AdminRequest::TopUp { account, amount: amount_usd, reference };
            admin(&settings, request, json).await
        }
        Command::Ledger(command) => ledger_command::run(&settings, command).await,
        Command::Audit(audit) => audit_command::run(&settings, audit).await,
    }
}

async fn serve(settings: Settings) -> ExitCode {
    let app = match App::build(settings).await {
        Ok(app) => app,
        Err(error) => return start_failed(&error),
    };
    let (mut terminate, mut interrupt) =
        match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
            (Ok(terminate), Ok(interrupt)) => (terminate, interrupt),
            (Err(error), _) | (_, Err(error)) => {
                complain(&format!("signals can't be listened to: {error}"));
                return ExitCode::from(FAILED);
            }
        };
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = app.run_until(async {
        // A dropped sender stops the server as well.
        let _ = stopped.await;
    });
    let mut running = std::pin::pin!(running);
    tokio::select! {
        is_clean = &mut running => return exit_code(is_clean),
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    drop(stop);
    tokio::select! {
        is_clean = &mut running => exit_code(is_clean),
        _ = terminate.recv() => ExitCode::from(INTERRUPTED),
        _ = interrupt.recv() => ExitCode::from(INTERRUPTED),
    }
}

fn exit_code(is_clean: bool) -> ExitCode {
    if is_clean { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
}

/// Tells why a start was not completed; the exit code is 2 where a setting is wrong, else 1.
pub fn start_failed(error: &StartError) -> ExitCode {
    complain(&telemetry::chain(error).to_string());
    ExitCode::from(error.exit_code())
}

async fn admin(settings: &Settings, request: AdminRequest, json: bool) -> ExitCode {
    match administer(settings, request).await {
        Ok(value) => {
            if json {
                print_json(&value)
            } else {
                print_text(&human(&value))
            }
            if value["repeated"] == true {
                print_note("already done: this reference was booked before, nothing was changed");
            }
            ExitCode::SUCCESS
        }
        Err(refusal) => {
            if json {
                print_json(&json!({"error": {"code": refusal.code, "message": refusal.message}}));
            }
            complain(&refusal.message);
            ExitCode::from(FAILED)
        }
    }
}

/// Why an administrator's command did nothing.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) code: String,
    pub(super) message: String,
}

/// Runs a command: on SQLite by the running server when there is one, else in this process.
pub(super) async fn administer(
    settings: &Settings,
    request: AdminRequest,
) -> Result<Value, Refusal> {
    if matches!(settings.database(), DatabaseUrl::Sqlite(_)) {
        match admin_socket::send(&settings.data_dir, &request).await {
            Ok(Remote::NotRunning) => {}
            Ok(Remote::Done(value)) => return Ok(value),
            Ok(Remote::Refused { code, message }) => return Err(Refusal { code, message }),
            Err(error) => {
                return Err(Refusal {
                    code: "outcome_unknown".to_owned(),
                    message: format!(
                        "the running server broke off ({error}); look whether the command was done before you repeat it"
                    ),
                });
            }
        }
    }
    let refused = |error: StartError| Refusal {
        code: "unavailable".to_owned(),
        message: telemetry::chain(&error).to_string(),
    };
    server::make_data_dir(&settings.data_dir).map_err(refused)?;
    let db = server::open(settings, DbRole::Admin).await.map_err(refused)?;
    let catalog = server::catalog(settings).map_err(refused)?;
    let plans =
        Plans::load(settings.plans_file.as_deref()).map_err(|error| refused(error.into()))?;
    let platform = server::platform(&db, std::sync::Arc::new(catalog), plans, settings);
    let done = platform.administer(request).await;
    if let Err(error) = db.close().await {
        log::debug!(target: "faces::app", "the database was not closed: {error}");
    }
    done.map_err(|failure| Refusal {
        code: failure.code.as_str().to_owned(),
        message: failure.message,
    })
}

fn request_of(command: AdminCommand) -> Result<(AdminRequest, bool), String> {
    Ok(match command {
        AdminCommand::Account(command) => account_request(command)?,
        AdminCommand::Key(command) => key_request(command),
        AdminCommand::Topup { account, usd, reference, json } => {
            (AdminRequest::TopUp { account, amount: usd, reference }, json)
        }
        AdminCommand::Face(FaceCommand::List { account, json }) => {
            (AdminRequest::ListFaces { account }, json)
        }
        AdminCommand::Face(FaceCommand::Import { account, file, json }) => {
            let text = fs::read_to_string(&file)
                .map_err(|error| format!("can't read {}: {error}", file.display()))?;
            (AdminRequest::ImportFace { account, file: text }, json)
        }
    })
}

fn account_request(command: AccountCommand) -> Result<(AdminRequest, bool), String> {
    Ok(match command {
        AccountCommand::Create { name, credit_usd, json } => {
            (AdminRequest::CreateAccount { name, credit: credit_usd }, json)
        }
        AccountCommand::List { json } => (AdminRequest::ListAccounts, json),
        AccountCommand::Rate { account, rpm, tpm, json } => {
            (AdminRequest::SetAccountRate { account, requests: rpm, tokens: tpm }, json)
        }
        AccountCommand::Plan { account, plan, json } => {
            (AdminRequest::SetPlan { account, plan }, json)
        }
        AccountCommand::Freeze { account, json } => {
            (AdminRequest::SetFrozen { account, frozen: true }, json)
        }
        AccountCommand::Unfreeze { account, json } => {
            (AdminRequest::SetFrozen { account, frozen: false }, json)
        }
        AccountCommand::SetPassword { account, email, json } => {
            let password = NewPassword(read_line()?);
            let email = email.map(|email| email.as_str().to_owned());
            (AdminRequest::SetPassword { account, email, password }, json)
        }
    })
}

/// The first line of standard input, without its end.
fn read_line() -> Result<String, String> {
    let mut line = String::new();
    let read = io::stdin().lock().take(LINE_BYTES_MAX).read_line(&mut line);
    read.map_err(|error| format!("standard input can't be read: {error}"))?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn key_request(command: KeyCommand) -> (AdminRequest, bool) {
    match command {
        KeyCommand::Create {
            account,
            name,
            expires_in_days,
            allowed_faces,
            allowed_models,
            budget_usd,
            budget_window,
            json,
        } => {
            let allowed_faces = Some(allowed_faces).filter(|names| !names.is_empty());
            let allowed_models = Some(allowed_models).filter(|models| !models.is_empty());
            let window = budget_window.unwrap_or(BudgetWindow::Forever);
            let budget = budget_usd.map(|limit| KeyBudget { limit, window });
            (
                AdminRequest::CreateKey {
                    account,
                    name,
                    expires_in_days,
                    allowed_faces,
                    allowed_models,
                    budget,
                },
                json,
            )
        }
        KeyCommand::List { account, json } => (AdminRequest::ListKeys { account }, json),
        KeyCommand::Set { key, no_budget: true, json, .. } => {
            (AdminRequest::RemoveBudget { key }, json)
        }
        KeyCommand::Set { key, budget_usd, budget_window, no_budget: false, json } => {
            let change =
                AdminRequest::ChangeBudget { key, limit: budget_usd, window: budget_window };
            (change, json)
        }
        KeyCommand::Rate { key, rpm, tpm, json } => {
            (AdminRequest::SetKeyRate { key, requests: rpm, tokens: tpm }, json)
        }
        KeyCommand::Revoke { key, json } => (AdminRequest::RevokeKey { key }, json),
    }
}

pub(super) fn print_json(value: &Value) {
    print_text(&format!("{value}\n"));
}

/// Prints to standard output; a closed pipe (`| head`) is not an error.
pub(super) fn print_text(text: &str) {
    let mut out = io::stdout().lock();
    if let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        log::debug!(target: "faces::app", "standard output is closed: {error}");
    }
}

/// Prints an error for people.
pub(super) fn complain(problem: &str) {
    print_note(&format!("error: {problem}"));
}

/// Prints a line beside the output proper.
pub(super) fn print_note(note: &str) {
    let mut err = io::stderr().lock();
    if writeln!(err, "{note}").is_err() {
        log::debug!(target: "faces::app", "standard error is closed");
    }
}

/// A value for people: an object line by line, a list as a table of its plain columns.
pub(super) fn human(value: &Value) -> String {
    match value.get("data").and_then(Value::as_array) {
        Some(rows) if rows.is_empty() => "none\n".to_owned(),
        Some(rows) => table(rows),
        None => lines(value),
    }
}

fn lines(value: &Value) -> String {
    let Some(fields) = value.as_object() else { return format!("{value}\n") };
    let width = fields.keys().map(String::len).max().unwrap_or_default();
    fields.iter().map(|(name, value)| format!("{name:width$}  {}\n", plain(value))).collect()
}

fn table(rows: &[Value]) -> String {
    let Some(first) = rows.first().and_then(Value::as_object) else { return String::new() };
    // A list or an object has no place in a column.
    let is_nested = |row: &Value, name: &str| {
        row.get(name).is_some_and(|value| value.is_object() || value.is_array())
    };
    let is_plain = |name: &&String| !rows.iter().any(|row| is_nested(row, name));
    let names: Vec<&String> = first.keys().filter(is_plain).collect();
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| names.iter().map(|name| row.get(*name).map(plain).unwrap_or_default()).collect())
        .collect();
    let widths: Vec<usize> = names
        .iter()
        .enumerate()
        .map(|(column, name)| {
            cells
                .iter()
                .map(|row| row[column].chars().count())
                .chain([name.len()])
                .max()
                .unwrap_or_default()
        })
        .collect();
    let line = |texts: Vec<&str>| {
        let padded: Vec<String> =
            texts.iter().zip(&widths).map(|(text, width)| format!("{text:width$}")).collect();
        format!("{}\n", padded.join("  ").trim_end())
    };
    let mut out = line(names.iter().map(|name| name.as_str()).collect());
    for row in &cells {
        out.push_str(&line(row.iter().map(String::as_str).collect()));
    }
    out
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}
