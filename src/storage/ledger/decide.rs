//! What a flush grants and what it does to each account and lease: pure arithmetic.

use std::collections::BTreeMap;

use super::idem::Claims;
use crate::domain::{
    AccountId, NanoUsd,
    ledger::{
        AccountRow, ExtendVerdict, FlushBatch, HoldExtend, HoldOpen, LeaseRow, Leg, OpenVerdict,
    },
};

/// A slice of an account that others want too is at most this part of what is left per lease.
const SHARE_DIVISOR: i64 = 2;
/// An account with less left than this many times what is needed grants exactly that.
const EXACT_BELOW: i64 = 4;

/// What a flush does to one account row and to this instance's lease on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Change {
    /// Account → lease.
    pub(super) grant: i64,
    /// Lease → account.
    pub(super) give_back: i64,
    /// Charged inside the lease.
    pub(super) charge: i64,
    /// Charged before or now, and moved into the account's `debits`.
    pub(super) fold: i64,
    /// Other instances are asked for what they don't use.
    pub(super) is_recall: bool,
}

impl Change {
    /// Whether the account's row changes, not only the lease.
    pub(super) const fn touches_row(&self) -> bool {
        self.grant != 0 || self.give_back != 0 || self.fold != 0 || self.is_recall
    }

    /// Whether the lease changes.
    pub(super) const fn touches_lease(&self) -> bool {
        self.grant != 0 || self.give_back != 0 || self.charge != 0 || self.fold != 0
    }
}

/// What a flush works on: the locked account rows, this instance's leases, and the idempotency keys
/// that others have of those that the batch wants.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Books {
    pub(super) rows: BTreeMap<AccountId, AccountRow>,
    pub(super) leases: BTreeMap<AccountId, LeaseRow>,
    pub(super) claims: Claims,
}

/// The decision for a whole batch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Decision {
    /// One per `opens`.
    pub(super) opens: Vec<OpenVerdict>,
    /// One per `extends`.
    pub(super) extends: Vec<ExtendVerdict>,
    /// Accounts that change, in id order (the lock order).
    pub(super) changes: BTreeMap<AccountId, Change>,
    /// Rows and leases after the flush.
    pub(super) books: Books,
}

/// Why a batch can't be applied: a bug, never a customer's doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Contradiction {
    /// A lease charges or gives back more than it has (I6).
    #[error("the lease on account {0} does not have what this flush takes from it (I6)")]
    Lease(AccountId),
    /// `0 <= charge <= amount` is violated (I8), or an amount is negative.
    #[error("hold of account {0} has amounts out of order (I8)")]
    Amount(AccountId),
    /// A key is claimed without the lock on its wallet's row.
    #[error("a hold of account {0} claims a key and does not ask the account's row")]
    Unlocked(AccountId),
    /// A lease gives back to an account that does not exist.
    #[error("account {0} does not exist")]
    NoAccount(AccountId),
}

/// Decides a batch: charges, then what leases give back, then opens in arrival order, then extends.
///
/// An open is granted whole by all its legs or not at all; it becomes smaller than asked only down
/// to its `funds_min`. One without legs is inside its leases and can't be denied. One whose
/// idempotency key is taken gets nothing; one that is granted takes its key.
pub(super) fn decide(books: Books, batch: &FlushBatch) -> Result<Decision, Contradiction> {
    let mut at_work = Decision { books, ..Decision::default() };
    for end in &batch.resolves {
        if end.charge.is_negative() || end.charge > end.amount {
            return Err(Contradiction::Amount(end.account_id));
        }
        for id in std::iter::once(end.account_id).chain(end.cap_id) {
            at_work.charge(id, end.charge.0)?;
        }
        if end.idem.is_some() && end.frees_key() {
            at_work.books.claims.retain(|_, hold| *hold != end.hold_id);
        }
    }
    for lease in &batch.leases {
        at_work.give_back(lease.account_id, lease.give_back.0)?;
        if lease.fold {
            at_work.fold(lease.account_id)?;
        }
    }
    for open in &batch.opens {
        let verdict = at_work.open(open)?;
        at_work.opens.push(verdict);
    }
    for extend in &batch.extends {
        let verdict = at_work.extend(extend)?;
        at_work.extends.push(verdict);
    }
    Ok(at_work)
}

impl Decision {
    fn change(&mut self, id: AccountId) -> &mut Change {
        self.changes.entry(id).or_default()
    }

    fn lease(&mut self, id: AccountId) -> &mut LeaseRow {
        self.books.leases.entry(id).or_insert(LeaseRow {
            account_id: id,
            granted: NanoUsd::ZERO,
            posted: NanoUsd::ZERO,
            folded: NanoUsd::ZERO,
        })
    }

    fn charge(&mut self, id: AccountId, charge: i64) -> Result<(), Contradiction> {
        if charge == 0 {
            return Ok(());
        }
        let lease = self.lease(id);
        if lease.granted.0 - lease.posted.0 < charge {
            return Err(Contradiction::Lease(id));
        }
        lease.posted.0 += charge;
        if let Some(row) = self.books.rows.get_mut(&id) {
            row.unfolded.0 += charge;
        }
        self.change(id).charge += charge;
        Ok(())
    }

    fn give_back(&mut self, id: AccountId, amount: i64) -> Result<(), Contradiction> {
        let lease = self.lease(id);
        if amount < 0 || lease.granted.0 - lease.posted.0 < amount {
            return Err(Contradiction::Lease(id));
        }
        let was_used = lease.granted > lease.folded;
        lease.granted.0 -= amount;
        let is_emptied = was_used && lease.granted == lease.folded;
        let row = self.books.rows.get_mut(&id).ok_or(Contradiction::NoAccount(id))?;
        row.leased.0 = row.leased.0.checked_sub(amount).ok_or(Contradiction::Lease(id))?;
        row.leases -= i64::from(is_emptied);
        self.change(id).give_back += amount;
        Ok(())
    }

    fn fold(&mut self, id: AccountId) -> Result<(), Contradiction> {
        let lease = self.lease(id);
        let amount = lease.posted.0 - lease.folded.0;
        let was_used = lease.granted > lease.folded;
        lease.folded = lease.posted;
        let is_emptied = was_used && lease.granted == lease.folded;
        let row = self.books.rows.get_mut(&id).ok_or(Contradiction::NoAccount(id))?;
        row.leases -= i64::from(is_emptied);
        row.leased.0 -= amount;
        row.unfolded.0 -= amount;
        row.debits = row.debits.checked_add(NanoUsd(amount)).ok_or(Contradiction::Amount(id))?;
        self.change(id).fold += amount;
        Ok(())
    }

    fn open(&mut self, open: &HoldOpen) -> Result<OpenVerdict, Contradiction> {
        let (amount, funds_min) = (open.amount, open.funds_min);
        check(open.account_id, amount, &open.legs)?;
        if funds_min.is_negative() {
            return Err(Contradiction::Amount(open.account_id));
        }
        let claim = open.idem.as_ref().map(|claim| (open.account_id, claim.key.clone()));
        if let Some(claim) = &claim {
            if !open.legs.iter().any(|leg| leg.account_id == open.account_id) {
                return Err(Contradiction::Unlocked(open.account_id));
            }
            if self.books.claims.contains_key(claim) {
                return Ok(OpenVerdict::Claimed);
            }
        }
        let mut granted = amount;
        let mut affordable = NanoUsd(i64::MAX);
        for leg in &open.legs {
            let Some(row) = self.books.rows.get(&leg.account_id).copied() else {
                return Ok(OpenVerdict::NoAccount);
            };
            if row.is_blocked() {
                return Ok(OpenVerdict::Blocked(row));
            }
            let within = leg.aside.0.saturating_add(row.available().0);
            affordable.0 = affordable.0.min(within.saturating_add(leg.spare.0));
            granted.0 = granted.0.min(within);
            if affordable < funds_min {
                let is_recalled = self.recall(leg, &row, funds_min);
                return Ok(OpenVerdict::Denied { row, is_recalled });
            }
        }
        if open.legs.is_empty() {
            affordable = amount;
        }
        for leg in &open.legs {
            self.grant(leg, granted.0)?;
        }
        self.books.claims.extend(claim.map(|claim| (claim, open.hold_id)));
        Ok(OpenVerdict::Granted { amount: granted, affordable })
    }

    fn extend(&mut self, extend: &HoldExtend) -> Result<ExtendVerdict, Contradiction> {
        let more = extend.to.0.checked_sub(extend.from.0).filter(|more| *more > 0);
        let more = more.ok_or(Contradiction::Amount(extend.account_id))?;
        check(extend.account_id, NanoUsd(more), &extend.legs)?;
        let mut granted = more;
        for leg in &extend.legs {
            let row = self.books.rows.get(&leg.account_id).copied();
            let row = row.ok_or(Contradiction::NoAccount(leg.account_id))?;
            let available = if row.is_blocked() { 0 } else { row.available().0 };
            granted = granted.min(leg.aside.0.saturating_add(available));
            if granted <= 0 {
                let is_recalled = self.recall(leg, &row, NanoUsd(1));
                return Ok(ExtendVerdict::Denied { is_recalled });
            }
        }
        for leg in &extend.legs {
            self.grant(leg, granted)?;
        }
        Ok(ExtendVerdict::Granted { amount: NanoUsd(extend.from.0 + granted) })
    }

    /// Asks other instances to give back, when what they have would help.
    fn recall(&mut self, leg: &Leg, row: &AccountRow, funds_min: NanoUsd) -> bool {
        let id = leg.account_id;
        let mine = self.books.leases.get(&id).map_or(0, |mine| mine.granted.0 - mine.folded.0);
        let others = row.leased.0 - mine;
        if !leg.is_shared || row.is_blocked() || others <= 0 || row.spendable() < funds_min {
            return false;
        }
        if !self.change(id).is_recall {
            self.change(id).is_recall = true;
            if let Some(row) = self.books.rows.get_mut(&id) {
                row.recall_seq += 1;
            }
        }
        true
    }

    /// Moves credit from an account that has enough to this instance's lease: what is missing to
    /// `amount`, and a slice beyond that when there is plenty and the account may spend (an extension
    /// within its lease is granted from a frozen account too).
    fn grant(&mut self, leg: &Leg, amount: i64) -> Result<(), Contradiction> {
        let id = leg.account_id;
        let need = (amount - leg.aside.0).max(0);
        let is_new = self.books.leases.get(&id).is_none_or(|mine| mine.granted == mine.folded);
        let row = self.books.rows.get_mut(&id).ok_or(Contradiction::NoAccount(id))?;
        let available = row.available().0;
        let share = if row.is_blocked() {
            0
        } else if !leg.is_shared {
            available
        } else if available / EXACT_BELOW < need {
            need
        } else {
            available / SHARE_DIVISOR / (row.leases + i64::from(is_new)).max(1)
        };
        let grant = leg.want.0.min(share).max(need);
        if grant == 0 {
            return Ok(());
        }
        row.leased = row.leased.checked_add(NanoUsd(grant)).ok_or(Contradiction::Amount(id))?;
        row.leases += i64::from(is_new);
        let lease = self.lease(id);
        let granted = lease.granted.checked_add(NanoUsd(grant));
        lease.granted = granted.ok_or(Contradiction::Amount(id))?;
        self.change(id).grant += grant;
        Ok(())
    }
}

/// Amounts that no bug of the core may bring here.
fn check(id: AccountId, amount: NanoUsd, legs: &[Leg]) -> Result<(), Contradiction> {
    let ordered = |leg: &Leg| {
        NanoUsd::ZERO <= leg.aside
            && leg.aside <= amount
            && !leg.spare.is_negative()
            && !leg.want.is_negative()
    };
    if amount.is_negative() || !legs.iter().all(ordered) {
        return Err(Contradiction::Amount(id));
    }
    Ok(())
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
