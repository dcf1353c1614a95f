//! The seal: how far the books were audited, and what they added up to until there.
//!
//! Below the cut every hold is resolved and nothing is written any more, so its sums stand for its
//! rows. The cut is an id: those of holds and of transfers are UUIDv7, made just before the row.

use std::sync::Arc;

use sea_orm::{ConnectionTrait as _, DatabaseTransaction, DbErr, QueryResult, Statement, Value};
use uuid::Uuid;

use super::{Snapshot, WHAT};
use crate::storage::{
    Db, StorageError,
    ledger::{cut, payload::Payload, sql},
};

/// Sums in one statement while a seal is written.
const ROWS_PER_STATEMENT: usize = 5_000;

/// Where the seal is and what keeps the next one back. The first statement of the snapshot: the
/// clock must not be later than what the snapshot shows.
const READ: &str = "SELECT (SELECT cut_id FROM ledger_seal), {standing}";

/// Rows below `$2`: those from `$1` on, and those that the seal with this cut counted.
const COUNTS: &str = "SELECT
    (SELECT COUNT(*) FROM ledger_hold WHERE state = 2 AND id >= $1 AND id < $2)
        + COALESCE(seal.holds_settled, 0),
    (SELECT COUNT(*) FROM ledger_hold WHERE state = 3 AND id >= $1 AND id < $2)
        + COALESCE(seal.holds_voided, 0),
    (SELECT COUNT(*) FROM ledger_hold WHERE state = 4 AND id >= $1 AND id < $2)
        + COALESCE(seal.holds_recovered, 0),
    (SELECT COUNT(*) FROM ledger_transfer WHERE id >= $1 AND id < $2)
        + COALESCE(seal.transfers, 0),
    (SELECT COUNT(*) FROM ledger_usage WHERE hold_id >= $1 AND hold_id < $2)
        + COALESCE(seal.usage_rows, 0)
    FROM (SELECT 1 AS one) AS one LEFT JOIN ledger_seal AS seal ON seal.cut_id = $1";

/// What rows from `$1` on and below `$2` add to each account.
const ACCOUNTS: &str = "SELECT s.account, CAST(SUM(s.credited) AS BIGINT),
        CAST(SUM(s.debited) AS BIGINT), CAST(SUM(s.costs) AS BIGINT)
    FROM (SELECT credit_account AS account, amount AS credited, 0 AS debited, 0 AS costs
            FROM ledger_transfer WHERE id >= $1 AND id < $2
        UNION ALL SELECT debit_account, 0, amount, 0
            FROM ledger_transfer WHERE id >= $1 AND id < $2
        UNION ALL SELECT cap_account_id, 0, 0, cost FROM ledger_hold
            WHERE id >= $1 AND id < $2 AND cap_account_id IS NOT NULL AND cost <> 0) AS s
    GROUP BY s.account";

/// What holds from `$1` on and below `$2` add to each instance's costs on an account.
const LEASES: &str = "SELECT s.instance_id, s.account_id, CAST(SUM(s.cost) AS BIGINT)
    FROM (SELECT instance_id, account_id, cost FROM ledger_hold
            WHERE id >= $1 AND id < $2 AND cost <> 0
        UNION ALL SELECT instance_id, cap_account_id, cost FROM ledger_hold
            WHERE id >= $1 AND id < $2 AND cap_account_id IS NOT NULL AND cost <> 0) AS s
    GROUP BY s.instance_id, s.account_id";

const INSERT: &str = "INSERT INTO ledger_seal (id, cut_id, sealed_at, holds_settled, holds_voided,
        holds_recovered, transfers, usage_rows)
    VALUES (1, $1, {now}, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING";

const MOVE: &str = "UPDATE ledger_seal SET cut_id = $1, sealed_at = {now}, holds_settled = $2,
        holds_voided = $3, holds_recovered = $4, transfers = $5, usage_rows = $6
    WHERE id = 1 AND cut_id = $7";

/// Sums that belong to no seal: the operator deleted it to begin anew.
const CLEAR: [&str; 2] = ["DELETE FROM ledger_seal_account", "DELETE FROM ledger_seal_lease"];

/// Batch: `[account, credited, debited, costs]`.
const ADD_ACCOUNTS: &str = "INSERT INTO ledger_seal_account (account_id, credited, debited, costs)
    SELECT {id:0}, {int:1}, {int:2}, {int:3} FROM {batch} WHERE true
    ON CONFLICT (account_id) DO UPDATE SET
        credited = ledger_seal_account.credited + excluded.credited,
        debited = ledger_seal_account.debited + excluded.debited,
        costs = ledger_seal_account.costs + excluded.costs";

/// Batch: `[instance, account, cost]`.
const ADD_LEASES: &str = "INSERT INTO ledger_seal_lease (instance_id, account_id, cost)
    SELECT {id:0}, {id:1}, {int:2} FROM {batch} WHERE true
    ON CONFLICT (instance_id, account_id) DO UPDATE SET cost = ledger_seal_lease.cost + excluded.cost";

const CUT: &str = "SELECT cut_id FROM ledger_seal";

/// Where the seal is, and where the next one may be.
pub(super) struct Standing {
    /// The cut of the seal, if there is one.
    pub(super) cut: Option<Uuid>,
    /// The highest cut that nothing can be written below any more.
    highest: Uuid,
}

/// A seal that is not written yet.
pub(super) struct NextSeal {
    before: Option<Uuid>,
    cut: Uuid,
    /// Settled, voided and recovered holds, transfers, usage rows.
    counts: [i64; 5],
    /// Batches of what is added to the sums.
    accounts: Vec<String>,
    leases: Vec<String>,
}

/// Must be the snapshot's first statement.
pub(super) async fn read(snapshot: &Snapshot, db: &Db) -> Result<Standing, DbErr> {
    let rows = snapshot.query(&sql::fill(db.backend(), READ), []).await?;
    let Some(row) = rows.first() else {
        return Ok(Standing { cut: None, highest: Uuid::nil() });
    };
    Ok(Standing { cut: row.try_get_by_index(0)?, highest: cut::highest(row, 1)? })
}

/// Adds up what lies between the seal and the highest cut; `None` when there is no way ahead.
pub(super) async fn next(
    snapshot: &Snapshot,
    standing: &Standing,
) -> Result<Option<NextSeal>, DbErr> {
    let (from, cut) = (standing.cut.unwrap_or_default(), standing.highest);
    if cut <= from {
        return Ok(None);
    }
    let range = || [Value::from(from), cut.into()];
    let mut counts = [0; 5];
    if let Some(row) = snapshot.query(COUNTS, range()).await?.first() {
        for (column, count) in counts.iter_mut().enumerate() {
            *count = row.try_get_by_index(column)?;
        }
    }
    let accounts = batches(&snapshot.query(ACCOUNTS, range()).await?, |batch, row| {
        batch.id(row.try_get_by_index(0)?).int(row.try_get_by_index(1)?);
        batch.int(row.try_get_by_index(2)?).int(row.try_get_by_index(3)?);
        Ok(())
    })?;
    let leases = batches(&snapshot.query(LEASES, range()).await?, |batch, row| {
        batch.id(row.try_get_by_index(0)?).id(row.try_get_by_index(1)?);
        batch.int(row.try_get_by_index(2)?);
        Ok(())
    })?;
    Ok(Some(NextSeal { before: standing.cut, cut, counts, accounts, leases }))
}

fn batches(
    rows: &[QueryResult],
    write: impl Fn(&mut Payload, &QueryResult) -> Result<(), DbErr>,
) -> Result<Vec<String>, DbErr> {
    let batch = |rows: &[QueryResult]| {
        let mut batch = Payload::with_capacity(rows.len(), 4);
        for row in rows {
            write(batch.row(), row)?;
        }
        Ok(batch.json())
    };
    rows.chunks(ROWS_PER_STATEMENT).map(batch).collect()
}

/// Writes a seal, unless somebody else moved it in the meantime; the cut that stands then.
///
/// # Errors
/// [`StorageError`]; the seal is as before, or (when the answer of the commit was lost) moved.
///
/// # Cancel safety
/// Dropping the future does not stop the transaction.
pub(super) async fn keep(db: &Db, next: NextSeal) -> Result<Option<Uuid>, StorageError> {
    let next = Arc::new(next);
    db.in_transaction(WHAT, move |tx| {
        let next = Arc::clone(&next);
        Box::pin(async move { next.write(tx).await.map_err(StorageError::on(WHAT)) })
    })
    .await
}

impl NextSeal {
    async fn write(&self, tx: &DatabaseTransaction) -> Result<Option<Uuid>, DbErr> {
        let backend = tx.get_database_backend();
        let statement = |text: &str, values: Vec<Value>| {
            Statement::from_sql_and_values(backend, sql::fill(backend, text), values)
        };
        let mut values = vec![Value::from(self.cut)];
        values.extend(self.counts.map(Value::from));
        let guard = match self.before {
            None => INSERT,
            Some(before) => {
                values.push(before.into());
                MOVE
            }
        };
        if tx.execute_raw(statement(guard, values)).await?.rows_affected() == 0 {
            let row = tx.query_one_raw(statement(CUT, Vec::new())).await?;
            return row.map(|row| row.try_get_by_index(0)).transpose();
        }
        if self.before.is_none() {
            for text in CLEAR {
                tx.execute_raw(statement(text, Vec::new())).await?;
            }
        }
        for (text, batches) in [(ADD_ACCOUNTS, &self.accounts), (ADD_LEASES, &self.leases)] {
            for batch in batches {
                tx.execute_raw(statement(text, vec![batch.as_str().into()])).await?;
            }
        }
        Ok(Some(self.cut))
    }
}

#[cfg(test)]
mod tests {
    use sea_orm::DbBackend;

    use super::{super::tests::assert_read_no_history, *};

    #[tokio::test]
    async fn a_seal_does_not_read_what_is_sealed() {
        let fill = |text: &&str| sql::fill(DbBackend::Sqlite, text);
        let all = [READ, COUNTS, ACCOUNTS, LEASES];
        assert_read_no_history(all.iter().map(fill).collect()).await;
    }
}
