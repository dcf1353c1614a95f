//! One lease in memory: what this instance may spend of one account. Pure, no clock, no I/O.

use crate::domain::{
    AccountId, NanoUsd,
    ledger::{AccountRow, LeaseRow, Leg},
};

/// How much a lease keeps, and which rows are believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Policy {
    /// Whether what a request did not use stays for the next one.
    pub(super) retains: bool,
    /// How much the lease would like to get when it must ask anyway, nano-USD. `i64::MAX`: all.
    pub(super) want: i64,
    /// Whether other instances may want credit of the account too.
    pub(super) is_shared: bool,
    /// Rows that were seen earlier (ms of the actor's clock) are asked again before they are
    /// believed.
    pub(super) believed_from_ms: u64,
}

impl Policy {
    /// The lease is what open holds reserve.
    pub(super) const fn exact(is_shared: bool, believed_from_ms: u64) -> Self {
        Self { retains: false, want: 0, is_shared, believed_from_ms }
    }

    /// Nobody else spends from the account: the lease takes all that it has.
    pub(super) const fn sole(believed_from_ms: u64) -> Self {
        Self { retains: true, want: i64::MAX, is_shared: false, believed_from_ms }
    }
}

/// What an instance knows about one account (a wallet or a cap): its lease, what is reserved in it,
/// and the last row that it saw. Credit moves here before anything is sent, so that it can't be
/// spent twice.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Lease {
    row: Option<AccountRow>,
    /// When the row was seen; `None` when it was changed since.
    seen_ms: Option<u64>,
    /// The lease as the last reply told it, absolute.
    granted: i64,
    posted: i64,
    /// Reserved by holds that have not ended here, durable or on their way, and what waiting ones
    /// have set aside.
    held: i64,
    /// Charged by ends that are on their way.
    charging: i64,
    /// Given back, on its way.
    returning: i64,
    /// Whether something is on its way that takes all that the account has left.
    is_acquiring: bool,
    /// Questions that are on their way to the row.
    asking: u64,
}

impl Lease {
    /// What the lease has for a new hold.
    pub(super) const fn slack(&self) -> i64 {
        self.granted - self.posted - self.held - self.charging - self.returning
    }

    /// Reserved by holds.
    pub(super) const fn held(&self) -> i64 {
        self.held
    }

    /// The last row that was seen.
    pub(super) const fn row(&self) -> Option<&AccountRow> {
        self.row.as_ref()
    }

    /// The last row, unless it is too old to decide on.
    pub(super) fn believed(&self, policy: &Policy) -> Option<&AccountRow> {
        let is_fresh = self.seen_ms.is_some_and(|seen| seen >= policy.believed_from_ms);
        self.row.as_ref().filter(|_| is_fresh)
    }

    /// What the account could afford by what is known here.
    pub(super) fn affordable(&self) -> i64 {
        let available = self.row.map_or(0, |row| row.available().0);
        self.slack().max(0).saturating_add(available)
    }

    /// Whether a hold of `amount`, for which the account must afford `funds_min`, can be decided
    /// here.
    pub(super) fn covers(&self, amount: i64, funds_min: i64, policy: &Policy) -> bool {
        self.believed(policy).is_some_and(|row| !row.is_blocked())
            && self.slack() >= amount
            && self.affordable() >= funds_min
    }

    /// Whether a question would take all that is left, and the last one is still on its way.
    pub(super) fn is_waiting(&self, policy: &Policy) -> bool {
        self.is_acquiring && !policy.is_shared && self.want(policy) > 0
    }

    /// Nothing is left on a drained row, so nothing can be acquired: it only says why not.
    fn want(&self, policy: &Policy) -> i64 {
        let is_drained = self.believed(policy).is_some_and(|row| row.available() == NanoUsd::ZERO);
        let has_asked = self.is_acquiring && policy.is_shared;
        if is_drained || has_asked { 0 } else { policy.want }
    }

    /// Reserves `amount`, which the lease has.
    ///
    /// # Errors
    /// [`Violation::Lease`] (I7).
    pub(super) fn take(&mut self, id: AccountId, amount: i64) -> Result<(), Violation> {
        self.held += amount;
        self.check(id)
    }

    /// Sets aside what the lease has of `amount`; the row must give the rest.
    ///
    /// # Errors
    /// [`Violation::Lease`] (I7).
    pub(super) fn ask(
        &mut self,
        id: AccountId,
        amount: i64,
        policy: &Policy,
    ) -> Result<Leg, Violation> {
        let slack = self.slack().max(0);
        let aside = slack.min(amount);
        let want = self.want(policy);
        self.is_acquiring |= want > 0;
        self.asking += 1;
        self.held += aside;
        self.check(id)?;
        Ok(Leg {
            account_id: id,
            aside: NanoUsd(aside),
            spare: NanoUsd(slack - aside),
            want: NanoUsd(want),
            is_shared: policy.is_shared,
        })
    }

    /// A hold of `amount` ends with `charge`; its rest is free here at once, or on its way back.
    /// Answers what to give back.
    ///
    /// # Errors
    /// [`Violation::Lease`] (I7).
    pub(super) fn end(
        &mut self,
        id: AccountId,
        amount: i64,
        charge: i64,
        retains: bool,
    ) -> Result<i64, Violation> {
        self.held -= amount;
        self.charging += charge;
        let rest = if retains { 0 } else { amount - charge };
        self.returning += rest;
        self.check(id)?;
        Ok(rest)
    }

    /// Takes all but `keep` of what is not reserved out of memory, to be given back; `None` when
    /// there is nothing.
    pub(super) fn give_back(&mut self, keep: i64) -> Option<NanoUsd> {
        let surplus = self.slack().saturating_sub(keep);
        if surplus <= 0 {
            return None;
        }
        self.returning += surplus;
        Some(NanoUsd(surplus))
    }

    /// Takes over what a flush made durable, at `now_ms`.
    ///
    /// # Errors
    /// [`Violation`] when the row breaks I1 or the lease has less than what is reserved in it (I7).
    pub(super) fn durable(
        &mut self,
        id: AccountId,
        change: &DurableChange,
        now_ms: u64,
    ) -> Result<(), Violation> {
        if let Some(lease) = change.lease {
            (self.granted, self.posted) = (lease.granted.0, lease.posted.0);
        }
        self.held += change.granted.0 - change.aside.0;
        self.charging -= change.charged.0;
        self.returning -= change.given_back.0;
        self.asking = self.asking.saturating_sub(change.answered);
        self.is_acquiring &= !change.is_acquired;
        self.check(id)?;
        match change.row {
            // A row of a flush that asked for nothing may be older than the change it hides.
            Some(row) if self.seen_ms.is_some() || change.answered > 0 || self.row.is_none() => {
                self.see(id, row, now_ms)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Takes over a row that was read at `now_ms`.
    ///
    /// # Errors
    /// [`Violation::Insolvent`] when it breaks I1.
    pub(super) fn see(
        &mut self,
        id: AccountId,
        row: AccountRow,
        now_ms: u64,
    ) -> Result<(), Violation> {
        (self.row, self.seen_ms) = (Some(row), Some(now_ms));
        let owed = i128::from(row.debits.0) + i128::from(row.leased.0);
        let funds = i128::from(row.credits.0) + i128::from(row.overdraft_limit.0);
        if owed > funds {
            return Err(Violation::Insolvent { account: id });
        }
        Ok(())
    }

    /// The row was changed by an administrator: it must be read again before it is believed.
    pub(super) const fn changed(&mut self) {
        self.seen_ms = None;
    }

    /// I7, in every build: what is reserved, charged and given back is within the lease.
    fn check(&self, account: AccountId) -> Result<(), Violation> {
        let parts = [self.held, self.charging, self.returning, self.posted];
        // Of what waits for the row, only what was set aside is in `held`.
        if self.slack() < 0 || parts.iter().any(|part| *part < 0) {
            return Err(Violation::Lease {
                account,
                granted: self.granted,
                posted: self.posted,
                held: self.held,
                charging: self.charging,
                returning: self.returning,
            });
        }
        Ok(())
    }

    /// A mutant of the tests: what is charged is not taken off.
    #[cfg(test)]
    pub(super) const fn owe(&mut self, charge: i64) {
        self.charging += charge;
    }

    /// A mutant of the tests: what is given back stays.
    #[cfg(test)]
    pub(super) const fn unreturn(&mut self, amount: i64) {
        self.returning -= amount;
    }

    /// Whether nothing of the account is in this process any more.
    pub(super) const fn is_empty(&self) -> bool {
        self.granted == self.posted && self.charging == 0 && self.asking == 0
    }
}

/// A broken invariant. Nothing may be spent any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Violation {
    #[error("I1: account {account} owes more than it has")]
    Insolvent { account: AccountId },
    #[error(
        "I7: the lease on account {account} has {granted}: {posted} posted, {held} held, \
         {charging} being charged, {returning} on the way back"
    )]
    Lease {
        account: AccountId,
        granted: i64,
        posted: i64,
        held: i64,
        charging: i64,
        returning: i64,
    },
}

/// What one flush did to one account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct DurableChange {
    pub(super) row: Option<AccountRow>,
    pub(super) lease: Option<LeaseRow>,
    /// Questions that the row answered, what it granted in all, and what had been set aside for
    /// them, granted or not.
    pub(super) answered: u64,
    pub(super) granted: NanoUsd,
    pub(super) aside: NanoUsd,
    /// Whether one of them asked for more than it needed.
    pub(super) is_acquired: bool,
    /// Holds that were denied, and holds that ended; only of a wallet.
    pub(super) denied: u64,
    pub(super) ended: u64,
    pub(super) charged: NanoUsd,
    pub(super) given_back: NanoUsd,
}
