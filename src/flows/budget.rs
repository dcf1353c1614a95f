//! What a key may spend, and what it is told when that is not enough.

use super::{Failure, failure::Funds};
use crate::{
    domain::{AccountId, NanoUsd, clock::UnixMicros, error_code::FundsReason, ledger::AccountRow},
    storage::{keys::KeyInfo, ledger::CapWindow},
};

/// The budget of a caller's key in the window that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallerBudget {
    /// The account that counts what the window's requests cost.
    pub cap_id: AccountId,
    /// The most that they may.
    pub limit: NanoUsd,
    /// What they had cost when it was read: by now at least that.
    pub spent: NanoUsd,
    /// When the next window begins; `None` for never.
    pub resets_at: Option<UnixMicros>,
}

/// The window in which what a key spends at `now` counts, and when it ends. An owner who has its
/// spending counted anew (`spent_since`) begins another window in the middle of the one that runs.
pub(super) fn window_of(key: &KeyInfo, now: UnixMicros) -> Option<(CapWindow, Option<UnixMicros>)> {
    let window = key.budget?.window;
    let bounds = window.bounds(now);
    let start = key.spent_since.map_or(bounds.start, |since| bounds.start.max(since));
    Some((CapWindow { key_id: key.id, window, start }, bounds.end))
}

impl CallerBudget {
    /// Refuses a request that may cost `asked` when the budget was spent already, which no
    /// instance's lease can change.
    ///
    /// # Errors
    /// 402 `key_budget_exceeded`.
    pub(super) fn refuse_spent(&self, asked: NanoUsd) -> Result<(), Failure> {
        if self.spent < self.limit {
            return Ok(());
        }
        Err(self.exceeded(self.spent, asked, 0))
    }

    /// The 402 of a hold that the budget's account denied, decided on its `row`.
    pub(super) fn denied(
        &self,
        row: &AccountRow,
        asked: NanoUsd,
        affordable: impl Fn(NanoUsd) -> u64,
    ) -> Failure {
        let spent = row.spent();
        let left = NanoUsd(self.limit.0.saturating_sub(spent.0).max(0));
        if left >= asked {
            return Failure::funds(
                FundsReason::CreditReserved,
                format!(
                    "Insufficient credits right now: other running requests hold what is left of the budget of this API key, {left} of {} USD. Try again when they have finished.",
                    self.limit
                ),
            );
        }
        self.exceeded(spent, asked, affordable(left))
    }

    fn exceeded(&self, spent: NanoUsd, asked: NanoUsd, tokens: u64) -> Failure {
        let limit = self.limit;
        let mut message = format!(
            "Insufficient credits: this request may cost up to {asked} USD, and {spent} USD of the budget of this API key of {limit} USD are spent."
        );
        if tokens > 0 {
            message.push_str(&format!(" The rest pays for max_tokens={tokens}."));
        }
        match self.resets_at {
            Some(end) => message.push_str(&format!(" The budget begins anew on {end}.")),
            None => message.push_str(" Whoever made the key can raise its budget."),
        }
        let mut failure = Failure::funds(FundsReason::KeyBudgetExceeded, message);
        failure.funds = Some(Funds {
            reason: FundsReason::KeyBudgetExceeded,
            max_affordable_tokens: (tokens > 0).then_some(tokens),
            resets_at: self.resets_at,
        });
        failure
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(limit: i64, spent: i64) -> CallerBudget {
        CallerBudget {
            cap_id: AccountId::generate(),
            limit: NanoUsd(limit),
            spent: NanoUsd(spent),
            // 2026-11-27 00:00 UTC.
            resets_at: Some(UnixMicros(1_795_737_600_000_000)),
        }
    }

    fn row(budget: &CallerBudget, spent: i64, held: i64) -> AccountRow {
        AccountRow {
            account_id: budget.cap_id,
            credits: budget.limit,
            debits: NanoUsd(spent / 2),
            leased: NanoUsd(spent - spent / 2 + held),
            unfolded: NanoUsd(spent - spent / 2),
            leases: 1,
            overdraft_limit: NanoUsd::ZERO,
            flags: 0,
            recall_seq: 0,
        }
    }

    fn reason(failure: &Failure) -> (FundsReason, Option<u64>, bool) {
        let funds = failure.funds.unwrap();
        (funds.reason, funds.max_affordable_tokens, failure.retry_after_ms.is_some())
    }

    #[test]
    fn a_spent_budget_is_told_with_its_numbers_and_its_end() {
        let spent = budget(1_000_000_000, 1_000_000_000);
        let failure = spent.refuse_spent(NanoUsd(5_000_000)).unwrap_err();
        assert_eq!(reason(&failure), (FundsReason::KeyBudgetExceeded, None, false));
        for part in ["0.005 USD", "1 USD of the budget", "2026-11-27 00:00 UTC"] {
            assert!(failure.message.contains(part), "{part}: {}", failure.message);
        }
        assert_eq!(failure.funds.unwrap().resets_at, spent.resets_at);
        let for_ever = CallerBudget { resets_at: None, ..spent };
        let failure = for_ever.refuse_spent(NanoUsd(1)).unwrap_err();
        assert!(failure.message.contains("raise its budget"), "{}", failure.message);
        assert!(budget(2, 1).refuse_spent(NanoUsd(5)).is_ok(), "the row decides");
        assert!(budget(0, 0).refuse_spent(NanoUsd(5)).is_err());
    }

    #[test]
    fn what_running_requests_hold_is_told_from_what_is_spent() {
        let budget = budget(100, 0);
        let denied = |spent, held, asked| {
            budget.denied(&row(&budget, spent, held), NanoUsd(asked), |left| left.0.unsigned_abs())
        };
        let reserved = denied(40, 50, 60);
        assert_eq!(reason(&reserved), (FundsReason::CreditReserved, None, true));
        assert!(reserved.message.contains("budget"), "{}", reserved.message);
        let exceeded = denied(40, 50, 61);
        assert_eq!(reason(&exceeded), (FundsReason::KeyBudgetExceeded, Some(60), false));
        assert!(exceeded.message.contains("max_tokens=60"), "{}", exceeded.message);
        assert_eq!(reason(&denied(100, 0, 1)), (FundsReason::KeyBudgetExceeded, None, false));
        let lowered = denied(150, 0, 1);
        assert_eq!(reason(&lowered), (FundsReason::KeyBudgetExceeded, None, false));
    }
}
