//! Counts and sums of the books, with the operator's balances derived from transfers.

use sea_orm::DbErr;
use serde::Serialize;
use uuid::Uuid;

use super::{Difference, Snapshot, checks::with_sealed, wide};
use crate::domain::ledger::AccountKind;

/// Rows that the audit looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Counts {
    /// Wallets.
    pub accounts: i64,
    /// Holds that are not resolved.
    pub holds_open: i64,
    /// Holds that were charged.
    pub holds_settled: i64,
    /// Holds that were released.
    pub holds_voided: i64,
    /// Holds that recovery resolved.
    pub holds_recovered: i64,
    /// Lines of the books.
    pub transfers: i64,
    /// Usage rows.
    pub usage_rows: i64,
    /// Instances that are live or draining.
    pub instances_live: i64,
}

/// Sums, nano-USD. An operator account's balance is what it received less what it gave: cash
/// clearing, promo, overrun and provider cost are negative, revenue is positive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Totals {
    /// All that ever came into wallets.
    pub credits: i128,
    /// All that was charged to wallets.
    pub debits: i128,
    /// Held now.
    pub leased: i128,
    /// Balance of `cash_clearing`.
    pub cash_clearing: i128,
    /// Balance of `promo`.
    pub promo: i128,
    /// Balance of `revenue`.
    pub revenue: i128,
    /// Balance of `overrun`.
    pub overrun: i128,
    /// Balance of `provider_cost`.
    pub provider_cost: i128,
}

/// Rows from `$1` on, and those that the seal with this cut counted.
const COUNTS: &str = "SELECT
    (SELECT COUNT(*) FROM ledger_account WHERE kind = 1),
    (SELECT COUNT(*) FROM ledger_hold WHERE state = 1),
    (SELECT COUNT(*) FROM ledger_hold WHERE state = 2 AND id >= $1)
        + COALESCE(seal.holds_settled, 0),
    (SELECT COUNT(*) FROM ledger_hold WHERE state = 3 AND id >= $1)
        + COALESCE(seal.holds_voided, 0),
    (SELECT COUNT(*) FROM ledger_hold WHERE state = 4 AND id >= $1)
        + COALESCE(seal.holds_recovered, 0),
    (SELECT COUNT(*) FROM ledger_transfer WHERE id >= $1) + COALESCE(seal.transfers, 0),
    (SELECT COUNT(*) FROM ledger_usage WHERE hold_id >= $1) + COALESCE(seal.usage_rows, 0),
    (SELECT COUNT(*) FROM ledger_instance WHERE state IN (1, 2))
    FROM (SELECT 1 AS one) AS one LEFT JOIN ledger_seal AS seal ON seal.cut_id = $1";

const WALLETS: &str = "SELECT CAST(COALESCE(SUM(credits), 0) AS TEXT),
        CAST(COALESCE(SUM(debits), 0) AS TEXT), CAST(COALESCE(SUM(leased), 0) AS TEXT),
        (SELECT CAST(COALESCE(SUM(posted - folded), 0) AS TEXT) FROM ledger_lease WHERE state = 1)
    FROM ledger_account WHERE kind = 1";

/// As the checks: from `$1` on, with what is sealed below. `$2` is the account.
const OPERATOR: &str = "SELECT CAST(COALESCE(SUM(sums.amount), 0) AS TEXT)
    FROM (SELECT amount FROM ledger_transfer WHERE id >= $1 AND credit_account = $2
        UNION ALL SELECT -amount FROM ledger_transfer WHERE id >= $1 AND debit_account = $2
        UNION ALL SELECT credited - debited FROM ledger_seal_account
        WHERE account_id = $2 AND {sealed}) AS sums";

pub(super) async fn counts(snapshot: &Snapshot, cut: Uuid) -> Result<Counts, DbErr> {
    let rows = snapshot.query(COUNTS, [cut.into()]).await?;
    let Some(row) = rows.first() else { return Ok(Counts::default()) };
    Ok(Counts {
        accounts: row.try_get_by_index(0)?,
        holds_open: row.try_get_by_index(1)?,
        holds_settled: row.try_get_by_index(2)?,
        holds_voided: row.try_get_by_index(3)?,
        holds_recovered: row.try_get_by_index(4)?,
        transfers: row.try_get_by_index(5)?,
        usage_rows: row.try_get_by_index(6)?,
        instances_live: row.try_get_by_index(7)?,
    })
}

/// The sums, and the difference when all money accounts together are not 0 (I4).
pub(super) async fn totals(
    snapshot: &Snapshot,
    cut: Uuid,
) -> Result<(Totals, Vec<Difference>), DbErr> {
    let rows = snapshot.query(WALLETS, []).await?;
    let mut totals = Totals::default();
    let mut sum = 0;
    if let Some(row) = rows.first() {
        totals.credits = wide(row, 0)?.unwrap_or_default();
        totals.debits = wide(row, 1)?.unwrap_or_default();
        totals.leased = wide(row, 2)?.unwrap_or_default();
        sum = totals.credits - totals.debits - wide(row, 3)?.unwrap_or_default();
    }
    for kind in AccountKind::OPERATOR {
        let balance = operator_balance(snapshot, kind, cut).await?;
        sum += balance;
        match kind {
            AccountKind::CashClearing => totals.cash_clearing = balance,
            AccountKind::Promo => totals.promo = balance,
            AccountKind::Revenue => totals.revenue = balance,
            AccountKind::Overrun => totals.overrun = balance,
            AccountKind::ProviderCost => totals.provider_cost = balance,
            AccountKind::Wallet | AccountKind::KeyCap => {}
        }
    }
    let imbalance = Difference {
        invariant: "I4",
        what: "the sum over all money accounts",
        id: Uuid::nil(),
        expected: Some(0),
        actual: Some(sum),
    };
    Ok((totals, if sum == 0 { Vec::new() } else { vec![imbalance] }))
}

async fn operator_balance(
    snapshot: &Snapshot,
    kind: AccountKind,
    cut: Uuid,
) -> Result<i128, DbErr> {
    let Some(id) = kind.operator_id() else { return Ok(0) };
    let rows = snapshot.query(&with_sealed(OPERATOR), [cut.into(), id.0.into()]).await?;
    let balance = rows.first().map(|row| wide(row, 0)).transpose()?;
    Ok(balance.flatten().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::{super::tests::assert_read_no_history, *};

    #[tokio::test]
    async fn counts_and_balances_do_not_read_what_is_sealed() {
        assert_read_no_history(vec![COUNTS.to_owned(), with_sealed(OPERATOR)]).await;
    }
}
