//! Whether what one client saw and what stands in the books can both be true.

use crate::{
    books::{HoldRow, UsageRow},
    clients::Seen,
    plan::{Fate, price},
    support::ledger::{
        BASIS_COUNTED, BASIS_PARTIAL, BASIS_PROVIDER, FINISH_CLIENT_GONE, FINISH_COMPLETE,
        FINISH_SHUTDOWN, FINISH_UPSTREAM_ERROR, SETTLED, VOIDED,
    },
};

/// State of a hold that was resolved for a dead instance.
const RECOVERED: i64 = 4;
/// Error code of an end that is withheld, because whether it is durable is not known.
const WITHHELD: &str = "ledger_unavailable";

/// What is wrong with a request's money.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// Something was shown or told that is not written.
    Lost,
    /// Something is charged twice, or that should not be.
    Doubled,
    /// A row contradicts another one.
    Books,
}

/// One request's story, to be told from both sides.
pub(crate) struct Case<'a> {
    pub(crate) seen: &'a Seen,
    pub(crate) holds: &'a [HoldRow],
    /// How often the provider was asked.
    pub(crate) asked: usize,
}

impl Case<'_> {
    /// What is wrong, with the reason; the first thing that is.
    pub(crate) fn judge(&self) -> Result<(), (Wrong, String)> {
        let seen = self.seen;
        if self.asked > 1 {
            return Err((Wrong::Doubled, format!("the provider was asked {} times", self.asked)));
        }
        let hold = match self.holds {
            [] if seen.deltas() > 0 || seen.is_complete() || seen.told.is_some() => {
                return Err((Wrong::Lost, "content without a hold".to_owned()));
            }
            [] => return Ok(()),
            [hold] => hold,
            _ => return Err((Wrong::Doubled, "two holds for one request".to_owned())),
        };
        self.judge_rows(hold)?;
        self.judge_told(hold)?;
        match hold.state {
            SETTLED => self.judge_settled(hold),
            VOIDED if seen.deltas() == 0 => Ok(()),
            VOIDED => Err((Wrong::Lost, "content of a voided hold".to_owned())),
            RECOVERED => self.judge_recovered(hold),
            _ => Err((Wrong::Books, "the hold is still open".to_owned())),
        }
    }

    /// The hold, its usage and its charge say the same.
    fn judge_rows(&self, hold: &HoldRow) -> Result<(), (Wrong, String)> {
        let cost = hold.cost.unwrap_or(0);
        let of_one = hold.charges <= 1 && hold.charged == cost;
        if !of_one {
            return Err((Wrong::Doubled, "charges that are not the hold's cost".to_owned()));
        }
        if hold.state == VOIDED && cost != 0 {
            return Err((Wrong::Doubled, "a voided hold with a cost".to_owned()));
        }
        let bases = [BASIS_PROVIDER, BASIS_PARTIAL, BASIS_COUNTED];
        let has_basis = hold.usage.is_some_and(|usage| bases.contains(&usage.basis));
        if !has_basis && (hold.state == SETTLED || cost > 0) {
            return Err((Wrong::Books, "a charge without its basis".to_owned()));
        }
        if cost > 0 && self.asked == 0 {
            return Err((Wrong::Doubled, "a charge, and the provider was not asked".to_owned()));
        }
        Ok(())
    }

    /// What the client was told is what is written.
    fn judge_told(&self, hold: &HoldRow) -> Result<(), (Wrong, String)> {
        let (plan, cost) = (&self.seen.plan, hold.cost);
        if self.seen.told.is_some_and(|told| Some(told) != cost || hold.state != SETTLED) {
            return Err((Wrong::Lost, "the cost that was told is not written".to_owned()));
        }
        let whole = hold.usage.is_some_and(|usage| {
            usage.finish == FINISH_COMPLETE
                && (usage.input, usage.output) == (plan.input, plan.output)
        });
        let is_paid = hold.state == SETTLED && cost == Some(plan.cost()) && whole;
        if self.seen.is_complete() && !is_paid {
            return Err((Wrong::Lost, "an end was seen that is not settled".to_owned()));
        }
        if self.seen.is_complete() && self.seen.deltas() != plan.pauses.len() {
            return Err((Wrong::Lost, "an end was seen before the whole content".to_owned()));
        }
        Ok(())
    }

    fn judge_settled(&self, hold: &HoldRow) -> Result<(), (Wrong, String)> {
        let (seen, cost) = (self.seen, hold.cost.unwrap_or(0));
        let plan = &seen.plan;
        let Some(usage) = hold.usage else { return Ok(()) };
        // An error of the instance itself: nobody owes anything, but for an end that is withheld.
        let is_refused = seen.status.is_some_and(|status| status >= 400)
            && seen.error_code().is_none_or(|code| code != "unreachable" && code != WITHHELD);
        if is_refused && cost > 0 {
            return Err((Wrong::Doubled, "a refused request is charged".to_owned()));
        }
        match usage.finish {
            FINISH_COMPLETE => {
                let fits = plan.fate == Fate::Whole && cost == plan.cost();
                let why = "a complete answer that the provider did not give";
                if fits { Ok(()) } else { Err((Wrong::Doubled, why.to_owned())) }
            }
            FINISH_CLIENT_GONE => self.judge_left(hold, usage),
            FINISH_UPSTREAM_ERROR | FINISH_SHUTDOWN if cost == 0 => Ok(()),
            _ => Err((Wrong::Doubled, format!("a charge at finish {}", usage.finish))),
        }
    }

    /// A client that left owes the input, and the output up to then.
    fn judge_left(&self, hold: &HoldRow, usage: UsageRow) -> Result<(), (Wrong, String)> {
        let plan = &self.seen.plan;
        let seen = self.seen.deltas();
        let could_be = match usage.basis {
            BASIS_PROVIDER => (usage.input, usage.output) == (plan.input, plan.output),
            basis => (seen..=plan.pauses.len()).any(|deltas| {
                let counted = plan.counted(deltas);
                let told = if basis == BASIS_PARTIAL { counted.max(1) } else { counted };
                usage.output == told
            }),
        };
        if !could_be {
            return Err((
                Wrong::Doubled,
                "no such moment at which a client could leave".to_owned(),
            ));
        }
        if hold.cost != Some(price(usage.input, usage.output).min(hold.amount)) {
            return Err((Wrong::Doubled, "a cost that is not the price of the usage".to_owned()));
        }
        Ok(())
    }

    /// A dead instance's hold costs no more than what the provider had sent.
    fn judge_recovered(&self, hold: &HoldRow) -> Result<(), (Wrong, String)> {
        let plan = &self.seen.plan;
        let counted = plan.counted(plan.pauses.len()).max(1);
        let output = if plan.fate == Fate::Whole { counted.max(plan.output) } else { counted };
        // All input costs less than a token of output.
        if hold.cost.unwrap_or(0) > price(0, output + 1) {
            return Err((Wrong::Doubled, "recovered at more than was ever sent".to_owned()));
        }
        Ok(())
    }
}
