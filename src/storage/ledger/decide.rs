//! Which holds of a flush are granted, and what the flush does to each account: pure arithmetic.

use std::collections::BTreeMap;

use crate::domain::{
    AccountId, NanoUsd,
    ledger::{AccountRow, FlushBatch, OpenVerdict},
};

/// What a flush does to one account row and to this instance's lease on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Change {
    /// Newly reserved.
    pub(super) grant: i64,
    /// Holds that end: given back to the account.
    pub(super) release: i64,
    /// The part of `release` that was used.
    pub(super) charge: i64,
}

/// The decision for a whole batch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Decision {
    /// One per `opens`.
    pub(super) verdicts: Vec<OpenVerdict>,
    /// Accounts that change, in id order (the lock order).
    pub(super) changes: BTreeMap<AccountId, Change>,
    /// Rows after the flush.
    pub(super) rows: BTreeMap<AccountId, AccountRow>,
}

/// Why a batch can't be applied: a bug, never a customer's doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Contradiction {
    /// A hold is resolved on an account that does not exist or holds less.
    #[error("account {0} does not hold what this flush releases")]
    Release(AccountId),
    /// `0 <= charge <= amount` is violated (I8), or an amount is negative.
    #[error("hold of account {0} has amounts out of order (I8)")]
    Amount(AccountId),
}

/// Decides a batch against the locked rows.
///
/// Endings come first, so that what a flush gives back can be granted in the same flush. Then the
/// opens in arrival order: the whole amount if it fits, else what is left if that is at least
/// `amount_min`, else a denial with the row as it stands at that moment.
pub(super) fn decide(
    mut rows: BTreeMap<AccountId, AccountRow>,
    batch: &FlushBatch,
) -> Result<Decision, Contradiction> {
    let mut changes: BTreeMap<AccountId, Change> = BTreeMap::new();
    for resolve in &batch.resolves {
        let id = resolve.account_id;
        let row = rows.get_mut(&id).ok_or(Contradiction::Release(id))?;
        if resolve.charge.is_negative() || resolve.charge > resolve.amount {
            return Err(Contradiction::Amount(id));
        }
        if row.leased < resolve.amount {
            return Err(Contradiction::Release(id));
        }
        row.leased.0 -= resolve.amount.0;
        row.debits = row.debits.checked_add(resolve.charge).ok_or(Contradiction::Amount(id))?;
        let change = changes.entry(id).or_default();
        change.release += resolve.amount.0;
        change.charge += resolve.charge.0;
    }
    let mut verdicts = Vec::with_capacity(batch.opens.len());
    for open in &batch.opens {
        let id = open.account_id;
        if open.amount_min.is_negative() || open.amount_min > open.amount {
            return Err(Contradiction::Amount(id));
        }
        let Some(row) = rows.get_mut(&id) else {
            verdicts.push(OpenVerdict::NoAccount);
            continue;
        };
        let available = row.available();
        if row.is_blocked() {
            verdicts.push(OpenVerdict::Blocked(*row));
        } else if available >= open.amount_min {
            let amount = NanoUsd(available.0.min(open.amount.0));
            row.leased = row.leased.checked_add(amount).ok_or(Contradiction::Amount(id))?;
            changes.entry(id).or_default().grant += amount.0;
            verdicts.push(OpenVerdict::Granted { amount });
        } else {
            verdicts.push(OpenVerdict::Denied(*row));
        }
    }
    Ok(Decision { verdicts, changes, rows })
}
