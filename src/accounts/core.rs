//! The ledger's arithmetic in memory: pure, no clock, no I/O.

use crate::domain::{
    AccountId, ChargeRate, HoldId, NanoUsd, Usage, UsageBasis,
    error_code::FundsReason,
    ledger::{AccountRow, Attempt, Finish, FreeUse, HoldOpen, HoldResolve, LeaseRow, Leg},
};

/// Who pays for what was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payer {
    /// The customer, up to the hold; the rest is the operator's `overrun` (I8).
    Customer,
    /// The operator: nothing is charged and the cost is booked as `provider_cost`.
    Operator,
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Metered tokens.
    pub usage: Usage,
    /// How they were learned.
    pub basis: UsageBasis,
    /// How the request ended.
    pub finish: Finish,
    /// The upstream call, if one was made.
    pub attempt: Option<Attempt>,
    /// Who pays.
    pub payer: Payer,
}

/// What a hold is made of: fixed when it is granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HoldTerms {
    pub(super) hold_id: HoldId,
    pub(super) account_id: AccountId,
    pub(super) amount: NanoUsd,
    pub(super) rate: ChargeRate,
}

/// Prices an outcome: the charge is the cost clipped to the hold, the excess is overrun.
///
/// Usage whose cost leaves the range of money is implausible and counts as none.
///
/// # Panics
/// When the result violates I8.
pub(super) fn resolve(terms: &HoldTerms, outcome: Outcome) -> HoldResolve {
    let Outcome { mut usage, mut basis, finish, attempt, payer } = outcome;
    let cost = terms.rate.charge_rounding_up(&usage).unwrap_or_else(|| {
        log::error!("hold {}: implausible usage is not billed", terms.hold_id);
        usage = Usage::default();
        basis = UsageBasis::Counted;
        NanoUsd::ZERO
    });
    let (charge, overrun, provider_cost) = match payer {
        Payer::Customer => {
            let charge = cost.min(terms.amount);
            (charge, NanoUsd(cost.0 - charge.0), NanoUsd::ZERO)
        }
        Payer::Operator => (NanoUsd::ZERO, NanoUsd::ZERO, cost),
    };
    assert!(
        NanoUsd::ZERO <= charge && charge <= terms.amount && overrun >= NanoUsd::ZERO,
        "I8: charge {charge} and overrun {overrun} of a hold of {}",
        terms.amount
    );
    HoldResolve {
        hold_id: terms.hold_id,
        account_id: terms.account_id,
        cap_id: None,
        amount: terms.amount,
        charge,
        overrun,
        provider_cost,
        usage,
        basis,
        finish,
        attempt,
    }
}

/// Releases a hold without a charge.
pub(super) fn void(terms: &HoldTerms, attempt: Option<Attempt>) -> HoldResolve {
    HoldResolve {
        hold_id: terms.hold_id,
        account_id: terms.account_id,
        cap_id: None,
        amount: terms.amount,
        charge: NanoUsd::ZERO,
        overrun: NanoUsd::ZERO,
        provider_cost: NanoUsd::ZERO,
        usage: Usage::default(),
        basis: UsageBasis::Counted,
        finish: Finish::Failed,
        attempt,
    }
}

/// A free use moves no money, whatever its amounts say.
pub(super) fn without_money(mut free: FreeUse) -> FreeUse {
    free.open.amount = NanoUsd::ZERO;
    free.open.funds_min = NanoUsd::ZERO;
    free.resolve.amount = NanoUsd::ZERO;
    free.resolve.charge = NanoUsd::ZERO;
    free.resolve.overrun = NanoUsd::ZERO;
    free.resolve.provider_cost = NanoUsd::ZERO;
    free
}

/// Which 402 a denied hold is, decided on the account row: what the balance would pay for if
/// nothing else ran is "reserved", else the credit does not suffice.
///
/// # Examples
/// ```
/// use faces::{accounts::denial_reason, domain::{AccountId, NanoUsd, error_code::FundsReason, ledger::AccountRow}};
/// let row = AccountRow {
///     account_id: AccountId::generate(), credits: NanoUsd(100), debits: NanoUsd(40),
///     leased: NanoUsd(50), unfolded: NanoUsd(0), leases: 1, overdraft_limit: NanoUsd(0), flags: 0,
///     recall_seq: 0,
/// };
/// assert_eq!(denial_reason(&row, NanoUsd(60)), FundsReason::CreditReserved);
/// assert_eq!(denial_reason(&row, NanoUsd(61)), FundsReason::InsufficientCredits);
/// ```
#[must_use]
pub fn denial_reason(row: &AccountRow, funds_min: NanoUsd) -> FundsReason {
    if row.is_blocked() {
        return FundsReason::AccountFrozen;
    }
    if row.spendable() >= funds_min {
        FundsReason::CreditReserved
    } else {
        FundsReason::InsufficientCredits
    }
}

/// What an instance knows about one account: its lease, what is reserved in it, and the last row
/// that it saw. Credit moves here before anything is sent, so that it can't be spent twice.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct AccountCore {
    row: Option<AccountRow>,
    /// The lease as the last reply told it, absolute.
    granted: i64,
    posted: i64,
    /// Reserved by holds that have not ended here, durable or on their way, and what waiting holds
    /// have set aside.
    held: i64,
    holds: u64,
    /// Charged by ends that are on their way.
    charging: i64,
    ending: u64,
    /// Given back, on its way.
    returning: i64,
    /// Whether a hold is on its way that takes all that the account has left.
    is_acquiring: bool,
}

/// How a hold was answered in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reserved {
    /// The lease covers it: the request may begin, and shows nothing before it is durable.
    Here,
    /// The row must decide.
    Ask {
        /// What the lease gives and wants.
        leg: Leg,
    },
    /// The lease is about to get what the account has left: ask again then.
    Later,
}

impl AccountCore {
    /// What the lease has for a new hold.
    const fn slack(&self) -> i64 {
        self.granted - self.posted - self.held - self.charging - self.returning
    }

    /// Reserves for a hold. With `retains` the lease keeps what it has and takes all that the
    /// account has left; a row that is not `is_fresh` is asked all the same, whether the account may
    /// still spend.
    ///
    /// # Errors
    /// [`Violation::Lease`] (I7).
    pub(super) fn reserve(
        &mut self,
        open: &HoldOpen,
        retains: bool,
        is_fresh: bool,
    ) -> Result<Reserved, Violation> {
        let slack = self.slack().max(0);
        let needed = open.amount.max(open.funds_min).0;
        if retains && is_fresh && slack >= needed {
            self.held += open.amount.0;
            self.holds += 1;
            self.check(open.account_id)?;
            return Ok(Reserved::Here);
        }
        // Nothing is left on the row, so nothing can be acquired: it only says why not.
        let is_drained = is_fresh && self.row.is_some_and(|row| row.available() == NanoUsd::ZERO);
        let acquires = retains && !is_drained;
        if acquires && self.is_acquiring {
            return Ok(Reserved::Later);
        }
        self.is_acquiring |= acquires;
        let aside = if retains { slack.min(open.amount.0) } else { 0 };
        self.held += aside;
        self.holds += 1;
        self.check(open.account_id)?;
        let spare = if retains { slack - aside } else { 0 };
        let leg = Leg {
            account_id: open.account_id,
            aside: NanoUsd(aside),
            spare: NanoUsd(spare),
            want: NanoUsd(if acquires { i64::MAX } else { 0 }),
            is_shared: false,
        };
        Ok(Reserved::Ask { leg })
    }

    /// A hold ends: its rest is free here at once, or on its way back when nothing is retained.
    /// Answers what to give back.
    ///
    /// # Errors
    /// [`Violation::Lease`] (I7).
    pub(super) fn end(&mut self, end: &HoldResolve, retains: bool) -> Result<NanoUsd, Violation> {
        self.held -= end.amount.0;
        self.holds = self.holds.saturating_sub(1);
        self.charging += end.charge.0;
        self.ending += 1;
        let rest = if retains { 0 } else { end.amount.0 - end.charge.0 };
        self.returning += rest;
        self.check(end.account_id)?;
        Ok(NanoUsd(rest))
    }

    /// Takes everything that is not reserved out of memory, to be given back; `None` when there is
    /// nothing.
    pub(super) fn give_back_all(&mut self) -> Option<NanoUsd> {
        let slack = self.slack();
        if slack <= 0 {
            return None;
        }
        self.returning += slack;
        Some(NanoUsd(slack))
    }

    /// Takes over what a flush made durable.
    ///
    /// # Errors
    /// [`Violation`] when the row breaks I1 or the lease has less than what is reserved in it (I7).
    pub(super) fn durable(
        &mut self,
        account: AccountId,
        change: &DurableChange,
    ) -> Result<(), Violation> {
        if let Some(lease) = change.lease {
            (self.granted, self.posted) = (lease.granted.0, lease.posted.0);
        }
        self.held += change.granted_amount.0 - change.aside.0;
        self.holds = self.holds.saturating_sub(change.denied);
        self.charging -= change.charged.0;
        self.ending = self.ending.saturating_sub(change.ended);
        self.returning -= change.given_back.0;
        self.is_acquiring &= !change.is_acquired;
        self.check(account)?;
        let Some(row) = change.row else { return Ok(()) };
        self.row = Some(row);
        let owed = i128::from(row.debits.0) + i128::from(row.leased.0);
        let funds = i128::from(row.credits.0) + i128::from(row.overdraft_limit.0);
        if owed > funds {
            return Err(Violation::Insolvent { account });
        }
        Ok(())
    }

    /// I7, in every build: what is reserved, charged and given back is within the lease.
    fn check(&self, account: AccountId) -> Result<(), Violation> {
        let parts = [self.held, self.charging, self.returning, self.posted];
        // Of a hold that waits for the row, only what was set aside is in `held`.
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

    /// The last row that was seen.
    pub(super) const fn row(&self) -> Option<&AccountRow> {
        self.row.as_ref()
    }

    /// Whether nothing of the account is in this process any more.
    pub(super) const fn is_empty(&self) -> bool {
        self.holds == 0 && self.ending == 0 && self.returning == 0 && self.slack() == 0
    }

    /// Open holds, those that wait for their verdict included.
    pub(super) const fn holds(&self) -> u64 {
        self.holds
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct DurableChange {
    pub(super) row: Option<AccountRow>,
    pub(super) lease: Option<LeaseRow>,
    /// Holds that the row granted, what they reserve, and what had been set aside for those that it
    /// decided, granted or not.
    pub(super) granted_amount: NanoUsd,
    pub(super) aside: NanoUsd,
    pub(super) denied: u64,
    /// Whether what the account had left was asked for.
    pub(super) is_acquired: bool,
    pub(super) ended: u64,
    pub(super) charged: NanoUsd,
    pub(super) given_back: NanoUsd,
}

#[cfg(test)]
#[path = "core_tests.rs"]
mod tests;
