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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::{
        HoldId, PriceId, Usage, UsageBasis,
        ledger::{FLAG_FROZEN, Finish, HoldOpen, HoldResolve},
    };

    fn open(account_id: AccountId, amount_min: i64, amount: i64) -> HoldOpen {
        HoldOpen {
            hold_id: HoldId::generate(),
            account_id,
            key_id: None,
            face_id: None,
            amount: NanoUsd(amount),
            amount_min: NanoUsd(amount_min),
            price_id: PriceId(1),
            model: String::new(),
        }
    }

    fn resolve(account_id: AccountId, amount: i64, charge: i64) -> HoldResolve {
        HoldResolve {
            hold_id: HoldId::generate(),
            account_id,
            amount: NanoUsd(amount),
            charge: NanoUsd(charge),
            overrun: NanoUsd::ZERO,
            provider_cost: NanoUsd::ZERO,
            usage: Usage::default(),
            basis: UsageBasis::Counted,
            finish: Finish::Complete,
            attempt: None,
        }
    }

    fn row(account_id: AccountId, credits: i64, flags: i32) -> AccountRow {
        AccountRow {
            account_id,
            credits: NanoUsd(credits),
            debits: NanoUsd::ZERO,
            leased: NanoUsd::ZERO,
            overdraft_limit: NanoUsd::ZERO,
            flags,
        }
    }

    /// Runs flush after flush on a few accounts: the holds that were granted end in a later one.
    fn drive(
        credits: &[(i64, bool)],
        flushes: &[Vec<(usize, i64, i64, u8)>],
    ) -> Result<(), TestCaseError> {
        let ids: Vec<AccountId> = credits.iter().map(|_| AccountId::generate()).collect();
        let mut rows: BTreeMap<AccountId, AccountRow> = ids
            .iter()
            .zip(credits)
            .map(|(&id, &(credit, frozen))| {
                (id, row(id, credit, if frozen { FLAG_FROZEN } else { 0 }))
            })
            .collect();
        let mut held: Vec<(AccountId, i64)> = Vec::new();
        for flush in flushes {
            let mut batch = FlushBatch::default();
            for &(account, min, more, share) in flush {
                let id = ids[account % ids.len()];
                batch.opens.push(open(id, min, min + more));
                if let Some((id, amount)) = held.pop() {
                    let charge = i128::from(amount) * i128::from(share) / 255;
                    batch.resolves.push(resolve(id, amount, i64::try_from(charge).unwrap()));
                }
            }
            let decision = decide(rows.clone(), &batch).unwrap();
            for (open, verdict) in batch.opens.iter().zip(&decision.verdicts) {
                match *verdict {
                    OpenVerdict::Granted { amount } => {
                        prop_assert!(open.amount_min <= amount && amount <= open.amount);
                        prop_assert!(!rows[&open.account_id].is_blocked());
                        held.push((open.account_id, amount.0));
                    }
                    OpenVerdict::Denied(row) => prop_assert!(row.available() < open.amount_min),
                    OpenVerdict::Blocked(row) => prop_assert!(row.is_blocked()),
                    OpenVerdict::NoAccount => prop_assert!(false, "every account exists"),
                }
            }
            for (id, before) in &rows {
                let after = decision.rows[id];
                let change = decision.changes.get(id).copied().unwrap_or_default();
                prop_assert_eq!(after.leased.0, before.leased.0 + change.grant - change.release);
                prop_assert_eq!(after.debits.0, before.debits.0 + change.charge);
                prop_assert_eq!(after.credits, before.credits);
                prop_assert!(after.debits.0 + after.leased.0 <= after.credits.0, "I1");
                let open: i64 = held.iter().filter(|(held, _)| held == id).map(|(_, a)| a).sum();
                prop_assert_eq!(after.leased.0, open, "I5");
            }
            rows = decision.rows;
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn no_series_of_flushes_overspends_or_loses_a_nano(
            credits in proptest::collection::vec((0_i64..2_000, proptest::bool::weighted(0.1)), 1..4),
            flushes in proptest::collection::vec(
                proptest::collection::vec((0_usize..4, 0_i64..600, 0_i64..600, any::<u8>()), 0..12),
                1..12,
            ),
        ) {
            drive(&credits, &flushes)?;
        }
    }

    #[test]
    fn a_batch_that_contradicts_the_books_is_refused_whole() {
        let id = AccountId::generate();
        let rows = || BTreeMap::from([(id, row(id, 10, 0))]);
        let ends = |end| FlushBatch { resolves: vec![end], ..FlushBatch::default() };
        let opens = |open| FlushBatch { opens: vec![open], ..FlushBatch::default() };
        let release = Err(Contradiction::Release(id));
        assert_eq!(decide(rows(), &ends(resolve(id, 1, 0))), release);
        assert_eq!(decide(BTreeMap::new(), &ends(resolve(id, 0, 0))), release);
        let amount = Err(Contradiction::Amount(id));
        assert_eq!(decide(rows(), &ends(resolve(id, 1, 2))), amount);
        assert_eq!(decide(rows(), &ends(resolve(id, 1, -1))), amount);
        assert_eq!(decide(rows(), &opens(open(id, -1, 1))), amount);
        assert_eq!(decide(rows(), &opens(open(id, 2, 1))), amount);
    }
}
