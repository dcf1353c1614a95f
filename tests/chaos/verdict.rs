//! Whether what one client saw and what stands in the books can both be true.

use crate::{
    books::{HoldRow, RECOVERED, UsageRow},
    clients::Seen,
    plan::{Fate, price},
    support::ledger::{
        BASIS_COUNTED, BASIS_PARTIAL, BASIS_PROVIDER, FINISH_CLIENT_GONE, FINISH_COMPLETE,
        FINISH_SHUTDOWN, FINISH_UPSTREAM_ERROR, SETTLED, VOIDED,
    },
};

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
    pub(crate) fn judge_rows(&self, hold: &HoldRow) -> Result<(), (Wrong, String)> {
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
    pub(crate) fn judge_told(&self, hold: &HoldRow) -> Result<(), (Wrong, String)> {
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

pub(crate) mod tests {
    use std::time::Instant;

    use super::*;
    use crate::{plan::Plan, support::http::End};

    const OPEN: i64 = 1;

    /// A stream that came whole and was paid, as told from both sides.
    pub(crate) fn fitting() -> (Seen, HoldRow) {
        let is_wanted =
            |plan: &Plan| plan.stream && plan.fate == Fate::Whole && plan.pauses.len() > 2;
        let plan = (0..).map(|id| Plan::new(7, id, 3)).find(is_wanted).expect("such a plan");
        let text: String = (0..plan.pauses.len()).map(|n| format!("<{}:{n}>", plan.id)).collect();
        let usage = UsageRow {
            input: plan.input,
            output: plan.output,
            basis: BASIS_PROVIDER,
            finish: FINISH_COMPLETE,
        };
        let hold = HoldRow {
            account: String::new(),
            model: String::new(),
            amount: price(0, plan.max_tokens),
            state: SETTLED,
            cost: Some(plan.cost()),
            usage: Some(usage),
            charges: 1,
            charged: plan.cost(),
        };
        let seen = Seen {
            began: Instant::now(),
            status: Some(200),
            request_id: None,
            text: text + "data: [DONE]\n\n",
            end: Some(End::Clean),
            has_left: false,
            told: Some(plan.cost()),
            is_final: false,
            earlier: Vec::new(),
            plan,
        };
        (seen, hold)
    }

    /// The client left after two deltas, and pays for them.
    fn left() -> (Seen, HoldRow) {
        let (mut seen, mut hold) = fitting();
        let plan = &seen.plan;
        seen.text = format!("<{}:0><{}:1>", plan.id, plan.id);
        (seen.end, seen.has_left, seen.told) = (None, true, None);
        pays(&mut hold, 90, seen.plan.counted(2));
        hold.usage = hold.usage.map(|usage| UsageRow {
            basis: BASIS_COUNTED,
            finish: FINISH_CLIENT_GONE,
            ..usage
        });
        (seen, hold)
    }

    fn pays(hold: &mut HoldRow, input: u64, output: u64) {
        let cost = price(input, output);
        (hold.cost, hold.charged) = (Some(cost), cost);
        hold.usage = hold.usage.map(|usage| UsageRow { input, output, ..usage });
    }

    fn judged(seen: &Seen, holds: &[HoldRow], asked: usize) -> Result<(), Wrong> {
        Case { seen, holds, asked }.judge().map_err(|(wrong, _)| wrong)
    }

    #[test]
    fn what_fits_is_believed() {
        let (seen, hold) = fitting();
        assert_eq!(judged(&seen, &[hold], 1), Ok(()));
        let (seen, hold) = left();
        assert_eq!(judged(&seen, &[hold], 1), Ok(()));
    }

    #[test]
    fn what_was_shown_and_is_not_written_is_lost() {
        let (seen, hold) = fitting();
        assert_eq!(judged(&seen, &[], 1), Err(Wrong::Lost), "no hold");
        let cheaper = HoldRow { cost: Some(1), charged: 1, ..hold.clone() };
        assert_eq!(judged(&seen, &[cheaper], 1), Err(Wrong::Lost), "another cost than told");
        let nothing = HoldRow { cost: Some(0), charges: 0, charged: 0, ..hold };
        for state in [VOIDED, RECOVERED] {
            let hold = HoldRow { state, ..nothing.clone() };
            assert_eq!(judged(&seen, &[hold], 1), Err(Wrong::Lost), "state {state}");
        }
        let (seen, hold) = left();
        let voided = HoldRow { state: VOIDED, cost: Some(0), charges: 0, charged: 0, ..hold };
        assert_eq!(judged(&seen, &[voided], 1), Err(Wrong::Lost), "content for nothing");
    }

    #[test]
    fn what_is_charged_and_not_owed_is_doubled() {
        let (seen, hold) = fitting();
        let two = [hold.clone(), hold.clone()];
        assert_eq!(judged(&seen, &two, 1), Err(Wrong::Doubled), "two holds");
        let twice = HoldRow { charges: 2, charged: 2 * hold.charged, ..hold.clone() };
        assert_eq!(judged(&seen, &[twice], 1), Err(Wrong::Doubled), "two charges");
        assert_eq!(judged(&seen, &[hold], 2), Err(Wrong::Doubled), "asked twice");
        let (seen, hold) = left();
        assert_eq!(
            judged(&seen, std::slice::from_ref(&hold), 0),
            Err(Wrong::Doubled),
            "never asked"
        );
        let refused = Seen { status: Some(402), text: "{}".to_owned(), ..seen.clone() };
        assert_eq!(
            judged(&refused, std::slice::from_ref(&hold), 1),
            Err(Wrong::Doubled),
            "refused"
        );
        for output in [seen.plan.counted(1), seen.plan.counted(12) + 1] {
            let mut hold = hold.clone();
            pays(&mut hold, 90, output);
            assert_eq!(judged(&seen, &[hold], 1), Err(Wrong::Doubled), "{output} tokens");
        }
        let mut recovered = HoldRow { state: RECOVERED, ..hold };
        pays(&mut recovered, 90, 3_000);
        assert_eq!(judged(&seen, &[recovered], 1), Err(Wrong::Doubled), "more than was sent");
    }

    #[test]
    fn rows_that_are_not_finished_are_found() {
        let (seen, hold) = left();
        let open = HoldRow { state: OPEN, cost: None, charges: 0, charged: 0, ..hold.clone() };
        assert_eq!(judged(&seen, &[open], 1), Err(Wrong::Books), "open");
        let unused = HoldRow { usage: None, ..hold };
        assert_eq!(judged(&seen, &[unused], 1), Err(Wrong::Books), "no basis");
    }
}
