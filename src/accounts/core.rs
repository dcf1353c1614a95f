//! The ledger's arithmetic in memory: pure, no clock, no I/O.

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

/// What an instance knows about one account: its own durable holds and the last row it saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AccountCore {
    row: Option<AccountRow>,
    holds: u64,
    held: NanoUsd,
}

impl AccountCore {
    pub(super) const fn new() -> Self {
        Self { row: None, holds: 0, held: NanoUsd::ZERO }
    }

    /// Takes over what a flush made durable: holds granted, holds ended, and the row after it.
    ///
    /// # Errors
    /// [`Violation`] when the row breaks I1 or holds less than this instance's open holds (I7).
    pub(super) fn durable(&mut self, change: &DurableChange) -> Result<(), Violation> {
        self.holds = self.holds.saturating_add(change.granted).saturating_sub(change.ended);
        let held = i128::from(self.held.0) + i128::from(change.granted_amount.0)
            - i128::from(change.ended_amount.0);
        // A rebuilt actor does not know the holds of its predecessor: their ends find nothing.
        self.held = NanoUsd(i64::try_from(held.max(0)).unwrap_or(i64::MAX));
        let Some(row) = change.row else { return Ok(()) };
        self.row = Some(row);
        let owed = i128::from(row.debits.0) + i128::from(row.leased.0);
        let funds = i128::from(row.credits.0) + i128::from(row.overdraft_limit.0);
        if owed > funds {
            return Err(Violation::Insolvent { account: row.account_id });
        }
        if self.held > row.leased {
            return Err(Violation::Unbacked {
                account: row.account_id,
                held: self.held,
                leased: row.leased,
            });
        }
        Ok(())
    }

    /// The last row that was seen.
    pub(super) const fn row(&self) -> Option<&AccountRow> {
        self.row.as_ref()
    }

    /// Open holds of this instance, as far as this generation knows.
    pub(super) const fn holds(&self) -> u64 {
        self.holds
    }
}

/// A broken invariant. Nothing may be spent any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Violation {
    #[error("I1: account {account} owes more than it has")]
    Insolvent { account: AccountId },
    #[error("I7: account {account} holds {held} here but {leased} in all")]
    Unbacked { account: AccountId, held: NanoUsd, leased: NanoUsd },
}

/// What one flush did to one account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct DurableChange {
    pub(super) row: Option<AccountRow>,
    pub(super) granted: u64,
    pub(super) granted_amount: NanoUsd,
    pub(super) ended: u64,
    pub(super) ended_amount: NanoUsd,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::TokenPrices;

    fn terms(amount: i64, price: i64) -> HoldTerms {
        HoldTerms {
            hold_id: HoldId::generate(),
            account_id: AccountId::generate(),
            amount: NanoUsd(amount),
            rate: ChargeRate {
                prices: TokenPrices { input_pico: price, output_pico: price, ..Default::default() },
                markup_bps: 0,
            },
        }
    }

    fn outcome(usage: Usage, payer: Payer) -> Outcome {
        Outcome {
            usage,
            basis: UsageBasis::Provider,
            finish: Finish::Complete,
            attempt: None,
            payer,
        }
    }

    proptest! {
        #[test]
        fn every_nano_of_cost_has_exactly_one_payer(
            amount in 0_i64..10_000_000, price in 0_i64..1_000_000_000,
            input in 0_u64..100_000, output in 0_u64..100_000, operator: bool,
        ) {
            let terms = terms(amount, price);
            let usage = Usage { input_uncached: input, output_text: output, ..Usage::default() };
            let payer = if operator { Payer::Operator } else { Payer::Customer };
            let cost = terms.rate.charge_rounding_up(&usage).unwrap();
            let resolve = resolve(&terms, outcome(usage, payer));
            prop_assert_eq!(
                resolve.charge.0 + resolve.overrun.0 + resolve.provider_cost.0, cost.0
            );
            prop_assert!(resolve.charge <= terms.amount);
            prop_assert!(resolve.overrun == NanoUsd::ZERO || resolve.charge == terms.amount);
            prop_assert!(!operator || resolve.charge == NanoUsd::ZERO);
        }

        #[test]
        fn holds_in_memory_follow_any_series_of_grants_and_ends(
            amounts in proptest::collection::vec(0_i64..1_000_000, 1..40),
        ) {
            let mut core = AccountCore::new();
            let account_id = AccountId::generate();
            let row = |leased: i64| AccountRow {
                account_id, credits: NanoUsd(1 << 40), debits: NanoUsd::ZERO,
                leased: NanoUsd(leased), unfolded: NanoUsd::ZERO, leases: 1,
                overdraft_limit: NanoUsd::ZERO, flags: 0, recall_seq: 0,
            };
            let mut held = 0;
            for &amount in &amounts {
                held += amount;
                core.durable(&DurableChange {
                    row: Some(row(held)), granted: 1, granted_amount: NanoUsd(amount),
                    ..DurableChange::default()
                }).unwrap();
            }
            prop_assert_eq!(core.holds(), amounts.len() as u64);
            for &amount in &amounts {
                held -= amount;
                core.durable(&DurableChange {
                    row: Some(row(held)), ended: 1, ended_amount: NanoUsd(amount),
                    ..DurableChange::default()
                }).unwrap();
            }
            prop_assert_eq!((core.holds(), core.held), (0, NanoUsd::ZERO));
        }
    }

    #[test]
    fn usage_that_no_money_can_express_is_not_billed() {
        let usage = Usage { input_uncached: u64::MAX, ..Usage::default() };
        let resolve = resolve(&terms(100, i64::MAX), outcome(usage, Payer::Customer));
        assert_eq!((resolve.charge, resolve.overrun), (NanoUsd::ZERO, NanoUsd::ZERO));
        assert_eq!((resolve.usage, resolve.basis), (Usage::default(), UsageBasis::Counted));
    }

    #[test]
    fn a_row_that_breaks_an_invariant_is_noticed() {
        let mut core = AccountCore::new();
        let account_id = AccountId::generate();
        let row = |credits: i64, leased: i64| AccountRow {
            account_id,
            credits: NanoUsd(credits),
            debits: NanoUsd::ZERO,
            leased: NanoUsd(leased),
            unfolded: NanoUsd::ZERO,
            leases: 1,
            overdraft_limit: NanoUsd::ZERO,
            flags: 0,
            recall_seq: 0,
        };
        let grant = |row| DurableChange {
            row: Some(row),
            granted: 1,
            granted_amount: NanoUsd(10),
            ..DurableChange::default()
        };
        assert!(matches!(core.durable(&grant(row(5, 10))), Err(Violation::Insolvent { .. })));
        assert!(matches!(core.durable(&grant(row(50, 10))), Err(Violation::Unbacked { .. })));
    }

    #[test]
    fn a_frozen_account_is_named_before_its_balance() {
        let row = AccountRow {
            account_id: AccountId::generate(),
            credits: NanoUsd(1),
            debits: NanoUsd::ZERO,
            leased: NanoUsd::ZERO,
            unfolded: NanoUsd::ZERO,
            leases: 0,
            recall_seq: 0,
            overdraft_limit: NanoUsd::ZERO,
            flags: crate::domain::ledger::FLAG_FROZEN,
        };
        assert_eq!(denial_reason(&row, NanoUsd(5)), FundsReason::AccountFrozen);
    }
}
