//! `faces ledger …`: the books shown and exported, read from the database without the server.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::{
    StartError,
    commands::{FAILED, complain, human, print_json, print_note, print_text},
    server,
};
use crate::{
    config::{ExportArgs, ExportFormat, LedgerCommand, Settings},
    domain::{
        NanoUsd, UsageBasis,
        clock::{self, UnixMicros},
        ledger::{AccountKind, FLAG_CLOSED, FLAG_FROZEN, Finish, HoldState, TransferKind},
    },
    storage::{
        DbRole, StorageError,
        ledger::books::{self, AccountBooks, HoldBooks, HoldLine, LeaseLine, Shown, TransferLine},
    },
    telemetry,
};

/// Pages of an export that wait for the file.
const PAGES_WAITING: usize = 4;
/// A code that this version does not know.
const UNKNOWN: &str = "unknown";
const NANOS_PER_MICRO: i128 = 1_000;

pub(super) async fn run(settings: &Settings, command: LedgerCommand) -> ExitCode {
    let done = match command {
        LedgerCommand::Show { id, json } => show(settings, id, json).await,
        LedgerCommand::Export(export) => run_export(settings, export).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            complain(&problem);
            ExitCode::from(FAILED)
        }
    }
}

async fn show(settings: &Settings, id: Uuid, as_json: bool) -> Result<(), String> {
    let db = open(settings).await?;
    let shown = books::show(&db, id).await.map_err(|error| unreadable(&error))?;
    let shown = shown.ok_or_else(|| {
        format!("there is no account and no hold with the id {id}; `faces admin account list` shows the accounts")
    })?;
    let value = match &shown {
        Shown::Account(account) => account_json(account),
        Shown::Hold(hold) => hold_books_json(hold),
    };
    if as_json {
        print_json(&value);
    } else {
        print_text(&sections(&value));
    }
    Ok(())
}

async fn open(settings: &Settings) -> Result<crate::storage::Db, String> {
    let opened = server::open(settings, DbRole::ReadOnly).await;
    opened.map_err(|error: StartError| telemetry::chain(&error).to_string())
}

fn unreadable(error: &StorageError) -> String {
    format!("the books can't be read: {}", telemetry::chain(error))
}

/// A value for people: what is plain line by line, then each list as a table under its name.
fn sections(value: &Value) -> String {
    let Some(fields) = value.as_object() else { return human(value) };
    let plain = |value: &Value| !value.is_array() && !value.is_object();
    let head: serde_json::Map<String, Value> = fields
        .iter()
        .filter(|(_, value)| plain(value))
        .map(|(n, v)| (n.clone(), v.clone()))
        .collect();
    let mut text = human(&Value::Object(head));
    for (name, part) in fields.iter().filter(|(_, value)| !plain(value)) {
        let body = if part.is_array() { human(&json!({"data": part})) } else { human(part) };
        text.push_str(&format!("\n{name}:\n{body}"));
    }
    text
}

fn account_json(account: &AccountBooks) -> Value {
    let AccountBooks { credits, debits, unfolded, .. } = account;
    // An operator's account has no counters: its balance is the sum of its transfers, which the
    // audit tells.
    let balance = debits.checked_add(*unfolded).and_then(|spent| credits.checked_sub(spent));
    let balance = balance.filter(|_| account.kind < AccountKind::CashClearing.db_code());
    json!({
        "account": account.id,
        "kind": AccountKind::from_db_code(account.kind).map_or(UNKNOWN, AccountKind::as_str),
        "name": account.name,
        "balance_usd": balance.map(NanoUsd::to_json_number),
        "credits_usd": account.credits.to_json_number(),
        "debits_usd": account.debits.to_json_number(),
        "unfolded_usd": account.unfolded.to_json_number(),
        "leased_usd": account.leased.to_json_number(),
        "overdraft_limit_usd": account.overdraft_limit.to_json_number(),
        "frozen": account.flags & FLAG_FROZEN != 0,
        "closed": account.flags & FLAG_CLOSED != 0,
        "leases": account.leases.iter().map(lease_json).collect::<Vec<_>>(),
        "open_holds": account.open_holds.iter().map(hold_json).collect::<Vec<_>>(),
        "transfers": account.transfers.iter().map(transfer_json).collect::<Vec<_>>(),
    })
}

fn lease_json(lease: &LeaseLine) -> Value {
    json!({
        "instance": lease.instance_id,
        "granted_usd": lease.granted.to_json_number(),
        "posted_usd": lease.posted.to_json_number(),
        "folded_usd": lease.folded.to_json_number(),
        "opened_at": rfc3339(lease.opened_at),
    })
}

fn hold_json(hold: &HoldLine) -> Value {
    json!({
        "hold": hold.id,
        "state": HoldState::from_db_code(hold.state).map_or(UNKNOWN, HoldState::as_str),
        "account": hold.account_id,
        "cap_account": hold.cap_account_id,
        "instance": hold.instance_id,
        "key": hold.key_id,
        "face": hold.face_id,
        "model": hold.model,
        "price_id": hold.price_id,
        "amount_usd": hold.amount.to_json_number(),
        "checkpoint_usd": hold.checkpoint.to_json_number(),
        "cost_usd": hold.cost.map(NanoUsd::to_json_number),
        "opened_at": rfc3339(hold.opened_at),
        "resolved_at": hold.resolved_at.map(rfc3339),
    })
}

fn hold_books_json(books: &HoldBooks) -> Value {
    let usage = books.usage.map(|usage| {
        json!({
            "input_uncached": usage.input_uncached,
            "cache_read": usage.cache_read,
            "cache_write_5m": usage.cache_write_5m,
            "cache_write_1h": usage.cache_write_1h,
            "output_text": usage.output_text,
            "reasoning": usage.reasoning,
            "basis": UsageBasis::from_db_code(usage.basis).map_or(UNKNOWN, UsageBasis::as_str),
            "finish": Finish::from_db_code(usage.finish).map_or(UNKNOWN, Finish::as_str),
        })
    });
    let attempts = books.attempts.iter().map(|attempt| {
        json!({
            "n": attempt.n,
            "provider": attempt.provider,
            "upstream_model": attempt.upstream_model,
            "upstream_id": attempt.upstream_id,
            "status": attempt.status,
            "started_at": rfc3339(attempt.started_at),
            "ended_at": rfc3339(attempt.ended_at),
        })
    });
    let mut value = hold_json(&books.hold);
    value["usage"] = json!(usage);
    value["attempts"] = attempts.collect();
    value["transfers"] = books.transfers.iter().map(transfer_json).collect();
    value
}

fn transfer_json(line: &TransferLine) -> Value {
    json!({
        "created_at": rfc3339(line.created_at),
        "id": line.id,
        "kind": kind_word(line),
        "debit_account": line.debit_account,
        "credit_account": line.credit_account,
        "amount_usd": line.amount.to_string(),
        "amount_nanousd": line.amount,
        "hold": line.hold_id,
        "ref": line.external_ref,
    })
}

fn kind_word(line: &TransferLine) -> &'static str {
    TransferKind::from_db_code(line.kind).map_or(UNKNOWN, TransferKind::as_str)
}

/// Microseconds that no calendar has stay a number.
fn rfc3339(at: UnixMicros) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(at.0) * NANOS_PER_MICRO)
        .ok()
        .and_then(|at| at.format(&Rfc3339).ok())
        .unwrap_or_else(|| at.0.to_string())
}

async fn run_export(settings: &Settings, export: ExportArgs) -> Result<(), String> {
    let range = export.from.unwrap_or(UnixMicros(0))..export.to.unwrap_or_else(clock::now);
    if range.start >= range.end {
        return Err("the export ends before it begins: --from must be before --to".to_owned());
    }
    let db = open(settings).await?;
    let (sender, pages) = mpsc::channel(PAGES_WAITING);
    let target = Target::create(export.output.as_deref())?;
    let read = books::export_transfers(&db, range, sender);
    let (read, written) = tokio::join!(read, write_pages(export.format, target, pages));
    // The reader's error explains more: the writer then only saw an early end.
    let count = read.map_err(|error| unreadable(&error))?;
    match written {
        Ok(target) => target.finish(count),
        // `| head` has what it wanted.
        Err(error) if export.output.is_none() && error.kind() == io::ErrorKind::BrokenPipe => {
            Ok(())
        }
        Err(error) => Err(format!("the export can't be written: {error}")),
    }
}

/// Where an export goes. A file gets its name when it is complete.
struct Target {
    out: BufWriter<Box<dyn Write>>,
    file: Option<(PathBuf, PathBuf)>,
}

impl Target {
    fn create(path: Option<&Path>) -> Result<Self, String> {
        let Some(path) = path else {
            return Ok(Self { out: BufWriter::new(Box::new(io::stdout())), file: None });
        };
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        let file = File::create(&part)
            .map_err(|error| format!("can't write {}: {error}", part.display()))?;
        Ok(Self { out: BufWriter::new(Box::new(file)), file: Some((part, path.to_owned())) })
    }

    fn finish(self, count: u64) -> Result<(), String> {
        let Some((part, path)) = self.file else { return Ok(()) };
        fs::rename(&part, &path)
            .map_err(|error| format!("can't write {}: {error}", path.display()))?;
        print_note(&format!("{count} transfers written to {}", path.display()));
        Ok(())
    }
}

async fn write_pages(
    format: ExportFormat,
    mut target: Target,
    mut pages: mpsc::Receiver<Vec<TransferLine>>,
) -> io::Result<Target> {
    match format {
        ExportFormat::Csv => {
            let mut csv = csv::Writer::from_writer(&mut target.out);
            csv.write_record(COLUMNS)?;
            while let Some(page) = pages.recv().await {
                page.iter().try_for_each(|line| csv.write_record(record(line)))?;
            }
            csv.flush()?;
        }
        ExportFormat::Jsonl => {
            while let Some(page) = pages.recv().await {
                page.iter().try_for_each(|line| writeln!(target.out, "{}", transfer_json(line)))?;
            }
        }
    }
    target.out.flush()?;
    Ok(target)
}

const COLUMNS: [&str; 9] = [
    "created_at",
    "id",
    "kind",
    "debit_account",
    "credit_account",
    "amount_usd",
    "amount_nanousd",
    "hold",
    "ref",
];

fn record(line: &TransferLine) -> [String; 9] {
    [
        rfc3339(line.created_at),
        line.id.to_string(),
        kind_word(line).to_owned(),
        line.debit_account.to_string(),
        line.credit_account.to_string(),
        line.amount.to_string(),
        line.amount.0.to_string(),
        line.hold_id.map(|id| id.to_string()).unwrap_or_default(),
        line.external_ref.clone().unwrap_or_default(),
    ]
}
