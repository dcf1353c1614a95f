//! The audit: every number of the books derived again, in one snapshot.
//!
//! Owns the checks of I1, I2, I4, I5, I6 and I8 over the whole database, the balances of the
//! operator's accounts (which exist only as sums of transfers), and the pricing of every usage row
//! once more by the same function that charged it. It never repairs.
//!
//! One read transaction (a snapshot of the WAL on SQLite, `REPEATABLE READ READ ONLY` on
//! PostgreSQL), so a running server neither disturbs it nor is disturbed.
//!
//! A full audit reads everything. An incremental one takes holds, transfers and usage below the
//! seal's cut as sums (`seal.rs`) and checks the rest; accounts, leases and open holds it checks
//! whole. When all is right it moves the seal forward. So its time does not grow with history, and
//! it does not see what somebody changes below the cut: the full audit does, and holds the seal
//! against the rows.
//!
//! How it fails: a broken book is no error but a [`Difference`]; an error means that the audit
//! could not be done. Limits: [`DIFFERENCES_MAX`] differences of each check are listed,
//! [`PRICED_ROWS_PER_PAGE`] rows are in memory at once. Each check is tested with a planted
//! difference by `tests/store_suite`, on both databases.

mod checks;
mod prices;
mod seal;
mod totals;

use sea_orm::{DbErr, QueryResult};
use serde::Serialize;
use uuid::Uuid;

pub use totals::{Counts, Totals};

use self::seal::NextSeal;
use super::{
    super::{Db, StorageError},
    cut,
    snapshot::Snapshot,
};

/// Differences of one check that are listed.
pub const DIFFERENCES_MAX: usize = 100;
/// Usage rows that are priced at a time.
pub const PRICED_ROWS_PER_PAGE: u64 = 2_000;

const WHAT: &str = "audit";

/// What an audit reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditMode {
    /// Everything, and whether the seal agrees.
    Full,
    /// What the last clean incremental audit did not seal.
    Incremental,
}

/// What the audit found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditReport {
    /// What it read.
    pub mode: AuditMode,
    /// Time (RFC 3339) of the cut of the seal, after this audit: what is older is sealed. `None`
    /// without a seal.
    pub sealed_to: Option<String>,
    /// Whether every check passed.
    pub clean: bool,
    /// Rows that were looked at.
    pub counts: Counts,
    /// Sums over the books, nano-USD.
    pub totals: Totals,
    /// Where the books don't add up; at most [`DIFFERENCES_MAX`] for each check.
    pub differences: Vec<Difference>,
    /// Whether a check found more than are listed.
    pub truncated: bool,
}

/// A number that is not what it has to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The invariant, as in [`crate::domain::ledger`], or `seal` where the seal is not what the rows
    /// below it give.
    pub invariant: &'static str,
    /// What was compared.
    pub what: &'static str,
    /// The account, hold, transfer or instance.
    pub id: Uuid,
    /// What it has to be; `None` where only the presence matters.
    pub expected: Option<i128>,
    /// What it is; `None` when it is missing.
    pub actual: Option<i128>,
}

/// Derives the books again, all of them.
///
/// # Errors
/// [`StorageError::Unavailable`] and the like: the audit could not be done.
///
/// # Cancel safety
/// It only reads; dropping the future lets it end in the background.
pub async fn audit(db: &Db) -> Result<AuditReport, StorageError> {
    Ok(run(db, AuditMode::Full).await?.0)
}

/// Derives the books again from the seal on, and moves the seal when they are right. Of two at
/// once, one moves it.
///
/// # Errors
/// As [`audit()`]; [`StorageError::ReadOnly`] when the seal can't be written.
///
/// # Cancel safety
/// Dropping the future lets it end in the background, with or without moving the seal.
pub async fn audit_incremental(db: &Db) -> Result<AuditReport, StorageError> {
    let (mut report, next) = run(db, AuditMode::Incremental).await?;
    if let Some(next) = next {
        report.sealed_to = seal::keep(db, next).await?.and_then(cut::moment);
    }
    Ok(report)
}

async fn run(db: &Db, mode: AuditMode) -> Result<(AuditReport, Option<NextSeal>), StorageError> {
    db.run(WHAT, move |db| async move {
        let snapshot = Snapshot::begin(&db).await.map_err(StorageError::on(WHAT))?;
        let done = snapshot.audit(&db, mode).await;
        snapshot.end().await;
        done.map_err(StorageError::on(WHAT))
    })
    .await
}

/// Collects differences up to the bound.
#[derive(Default)]
struct Findings {
    differences: Vec<Difference>,
    truncated: bool,
}

impl Findings {
    /// Adds what one check found.
    fn add(&mut self, found: Vec<Difference>) {
        self.truncated |= found.len() > DIFFERENCES_MAX;
        self.differences.extend(found.into_iter().take(DIFFERENCES_MAX));
    }
}

impl Snapshot {
    async fn audit(
        &self,
        db: &Db,
        mode: AuditMode,
    ) -> Result<(AuditReport, Option<NextSeal>), DbErr> {
        let standing = seal::read(self, db).await?;
        let cut = match mode {
            AuditMode::Full => Uuid::nil(),
            AuditMode::Incremental => standing.cut.unwrap_or_default(),
        };
        let counts = totals::counts(self, cut).await?;
        let mut findings = Findings::default();
        for check in checks::CHECKS {
            findings.add(checks::run(self, check, cut).await?);
        }
        findings.add(prices::check(self, cut).await?);
        let (totals, imbalance) = totals::totals(self, cut).await?;
        findings.add(imbalance);
        if let (AuditMode::Full, Some(sealed)) = (mode, standing.cut) {
            for check in checks::SEAL_CHECKS {
                findings.add(checks::run(self, check, sealed).await?);
            }
        }
        let Findings { differences, truncated } = findings;
        let clean = differences.is_empty();
        let next = match mode {
            AuditMode::Incremental if clean => seal::next(self, &standing).await?,
            AuditMode::Incremental | AuditMode::Full => None,
        };
        let sealed_to = standing.cut.and_then(cut::moment);
        Ok((AuditReport { mode, sealed_to, clean, counts, totals, differences, truncated }, next))
    }
}

/// Reads a sum that the statement cast to text (sums don't fit `i64` by right), or NULL.
fn wide(row: &QueryResult, column: usize) -> Result<Option<i128>, DbErr> {
    let text: Option<String> = row.try_get_by_index(column)?;
    let parse = |text: String| {
        text.parse().map_err(|_| DbErr::Type(format!("`{text}` is not a whole number")))
    };
    text.map(parse).transpose()
}

#[cfg(test)]
mod tests {
    use sea_orm::{ConnectionTrait as _, DbBackend, Statement};

    use crate::storage::{DatabaseUrl, Db, DbOptions, DbRole};

    /// How tables that grow with history are called in the statements.
    const GROWING: [&str; 6] = ["ledger_hold", "ledger_transfer", "ledger_usage", "h", "t", "u"];

    /// Asserts that SQLite enters each table that grows with history at the cut, by an id, or by
    /// the index of open holds.
    pub(super) async fn assert_read_no_history(all: Vec<String>) {
        let directory = tempfile::tempdir().unwrap();
        let db = Db::open(DbOptions {
            url: DatabaseUrl::Sqlite(directory.path().join("faces.db")),
            connections_max: 2,
            acquire_timeout_ms: 5_000,
            read_timeout_ms: 5_000,
            migrate: true,
            role: DbRole::Server,
        })
        .await
        .unwrap();
        let planned = db.run("plan", move |db| async move {
            let mut steps = Vec::new();
            for sql in all {
                let explain = format!("EXPLAIN QUERY PLAN {sql}");
                let statement = Statement::from_string(DbBackend::Sqlite, explain);
                for row in db.reader().query_all_raw(statement).await.unwrap() {
                    steps.push((sql.clone(), row.try_get_by_index::<String>(3).unwrap()));
                }
            }
            Ok(steps)
        });
        for (sql, step) in planned.await.unwrap() {
            let scans = |table: &&str| step.split(' ').take(2).eq(["SCAN", table]);
            let walks = GROWING.iter().any(scans) && !step.contains("ledger_hold_open");
            // Up to the cut is all that is sealed.
            let is_sealed = step.contains("(id<?)") || step.contains("(hold_id<?)");
            assert!(!walks && !is_sealed, "{step}: {sql}");
        }
    }
}
