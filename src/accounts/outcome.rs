//! How a request ends, and what that costs whom: pure.

use super::handle::HoldRequest;
use crate::domain::{
    AccountId, ChargeRate, HoldId, NanoUsd, Usage, UsageBasis,
    error_code::FundsReason,
    ledger::{AccountRow, Attempt, Finish, FreeUse, HoldResolve},
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
    /// The tries at an upstream, in their order.
    pub attempts: Vec<Attempt>,
    /// Who pays.
    pub payer: Payer,
}

/// What a hold is made of. All but the amount, which an extension raises, is fixed when it is
/// granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HoldTerms {
    pub(super) hold_id: HoldId,
    pub(super) account_id: AccountId,
    pub(super) cap_id: Option<AccountId>,
    pub(super) amount: NanoUsd,
    pub(super) rate: ChargeRate,
}

impl HoldTerms {
    /// The terms of a hold of `amount`.
    pub(super) const fn of(request: &HoldRequest, amount: NanoUsd) -> Self {
        Self {
            hold_id: request.open.hold_id,
            account_id: request.open.account_id,
            cap_id: request.open.cap_id,
            amount,
            rate: request.rate,
        }
    }
}

/// Prices an outcome: the charge is the cost clipped to the hold, the excess is overrun.
///
/// Usage whose cost leaves the range of money is implausible and counts as none.
///
/// # Panics
/// When the result violates I8.
pub(super) fn resolve(terms: &HoldTerms, outcome: Outcome) -> HoldResolve {
    let Outcome { mut usage, mut basis, finish, attempts, payer } = outcome;
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
        cap_id: terms.cap_id,
        amount: terms.amount,
        charge,
        overrun,
        provider_cost,
        usage,
        basis,
        finish,
        attempts,
        idem: None,
    }
}

/// Releases a hold without a charge.
pub(super) fn void(terms: &HoldTerms, attempts: Vec<Attempt>) -> HoldResolve {
    HoldResolve {
        hold_id: terms.hold_id,
        account_id: terms.account_id,
        cap_id: terms.cap_id,
        amount: terms.amount,
        charge: NanoUsd::ZERO,
        overrun: NanoUsd::ZERO,
        provider_cost: NanoUsd::ZERO,
        usage: Usage::default(),
        basis: UsageBasis::Counted,
        finish: Finish::Failed,
        attempts,
        idem: None,
    }
}

/// What the customer pays once the hold is `amount`: an extension pays what was overrun before it.
///
/// # Panics
/// When `amount` does not cover what is charged already (I8).
pub(super) fn resize(resolve: &mut HoldResolve, amount: NanoUsd) {
    assert!(amount >= resolve.charge, "I8: a hold became smaller than its charge");
    let more = NanoUsd(resolve.overrun.0.min(amount.0 - resolve.charge.0));
    resolve.charge.0 += more.0;
    resolve.overrun.0 -= more.0;
    resolve.amount = amount;
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

#[cfg(test)]
#[path = "outcome_tests.rs"]
mod tests;
