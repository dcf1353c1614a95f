//! The audit: every number of the books derived again, in one snapshot.
//!
//! Owns the checks of I1, I2, I4, I5, I6 and I8 over the whole database, the balances of the
//! operator's accounts (which exist only as sums of transfers), and the pricing of every usage row
//! once more by the same function that charged it. It reads; it never repairs.
//!
//! One read transaction (a snapshot of the WAL on SQLite, `REPEATABLE READ READ ONLY` on
//! PostgreSQL), so a running server neither disturbs it nor is disturbed.
//!
//! How it fails: a broken book is no error but a [`Difference`]; an error means that the audit
//! could not be done. Limits: [`DIFFERENCES_MAX`] differences of each check are listed,
//! [`PRICED_ROWS_PER_PAGE`] rows are in memory at once. Each check is tested with a planted
//! difference by `tests/store_suite`, on both databases.

mod checks;
mod prices;
mod totals;

use sea_orm::{DbErr, QueryResult};
use serde::Serialize;
use uuid::Uuid;

pub use totals::{Counts, Totals};

use super::{
    super::{Db, StorageError},
    snapshot::Snapshot,
};

/// Differences of one check that are listed.
pub const DIFFERENCES_MAX: usize = 100;
/// Usage rows that are priced at a time.
pub const PRICED_ROWS_PER_PAGE: u64 = 2_000;

const WHAT: &str = "audit";

/// What the audit found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditReport {
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
    /// The invariant, as in [`crate::domain::ledger`].
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

/// Derives the books again.
///
/// # Errors
/// [`StorageError::Unavailable`] and the like: the audit could not be done.
///
/// # Cancel safety
/// It only reads; dropping the future lets it end in the background.
pub async fn audit(db: &Db) -> Result<AuditReport, StorageError> {
    db.run(WHAT, |db| async move {
        let snapshot = Snapshot::begin(&db).await.map_err(StorageError::on(WHAT))?;
        let report = snapshot.audit().await;
        snapshot.end().await;
        report.map_err(StorageError::on(WHAT))
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
    async fn audit(&self) -> Result<AuditReport, DbErr> {
        let counts = totals::counts(self).await?;
        let mut findings = Findings::default();
        for check in checks::CHECKS {
            findings.add(checks::run(self, check).await?);
        }
        findings.add(prices::check(self).await?);
        let (totals, imbalance) = totals::totals(self).await?;
        findings.add(imbalance);
        let Findings { differences, truncated } = findings;
        let clean = differences.is_empty();
        Ok(AuditReport { clean, counts, totals, differences, truncated })
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
