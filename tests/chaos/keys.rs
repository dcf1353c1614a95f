//! Requests with an `Idempotency-Key`: whether what all attempts saw and what stands in the books
//! can be true of one request.

use crate::{
    books::HoldRow,
    clients::Seen,
    plan::price,
    support::ledger::VOIDED,
    verdict::{Case, Wrong},
};

/// What is wrong, with the reason; the first thing that is.
///
/// An attempt that failed and cost nothing may be followed by a run of its own, with its own hold.
pub(crate) fn judge(
    attempts: &[&Seen],
    holds: &[HoldRow],
    asked: usize,
) -> Result<(), (Wrong, String)> {
    let wrong = |wrong, why: &str| Err((wrong, why.to_owned()));
    if asked > holds.len() {
        return wrong(Wrong::Doubled, "the provider was asked without a hold of the key");
    }
    for hold in holds {
        if !hold.is_ended() {
            return wrong(Wrong::Books, "the hold is still open");
        }
        Case { seen: attempts[0], holds, asked }.judge_rows(hold)?;
    }
    let mut paid = holds.iter().filter(|hold| hold.cost.unwrap_or(0) > 0);
    let (paid, second) = (paid.next(), paid.next());
    if second.is_some() {
        return wrong(Wrong::Doubled, "two charges for one key");
    }
    for seen in attempts {
        let Some(paid) = paid else {
            if seen.is_complete() || seen.told.is_some() {
                return wrong(Wrong::Lost, "an end was seen and nothing was charged");
            }
            if seen.deltas() > 0 && holds.iter().all(|hold| hold.state == VOIDED) {
                return wrong(Wrong::Lost, "content of voided holds");
            }
            continue;
        };
        judge_paid(seen, paid)?;
    }
    let answers = || attempts.iter().filter(|seen| !seen.plan.stream && seen.is_complete());
    if answers().any(|seen| answers().any(|other| other.text != seen.text)) {
        return wrong(Wrong::Lost, "two answers to one key");
    }
    Ok(())
}

fn judge_paid(seen: &Seen, paid: &HoldRow) -> Result<(), (Wrong, String)> {
    let plan = &seen.plan;
    let most = plan.counted(plan.pauses.len()).max(plan.output);
    if paid.cost.unwrap_or(0) > price(0, most + 1) {
        return Err((Wrong::Doubled, "charged more than was ever sent".to_owned()));
    }
    if seen.status == Some(409) {
        let is_told = seen.told.is_none_or(|told| Some(told) == paid.cost);
        let why = "a repetition was told another cost";
        return if is_told { Ok(()) } else { Err((Wrong::Lost, why.to_owned())) };
    }
    Case { seen, holds: &[], asked: 1 }.judge_told(paid)
}

mod tests {
    use super::*;
    use crate::verdict::tests::fitting;

    fn judged(attempts: &[&Seen], holds: &[HoldRow], asked: usize) -> Result<(), Wrong> {
        judge(attempts, holds, asked).map_err(|(wrong, _)| wrong)
    }

    /// A hold of the same key whose request failed and cost nothing.
    fn voided(hold: &HoldRow) -> HoldRow {
        HoldRow { state: VOIDED, cost: Some(0), charges: 0, charged: 0, ..hold.clone() }
    }

    #[test]
    fn a_key_is_charged_once_whatever_failed_before() {
        let (seen, hold) = fitting();
        let failed = Seen { status: Some(503), text: String::new(), told: None, ..seen.clone() };
        let repeated = Seen { status: Some(409), ..failed.clone() };
        let attempts = [&failed, &seen, &repeated];
        assert_eq!(judged(&attempts, &[voided(&hold), hold.clone()], 2), Ok(()));
        let twice = [hold.clone(), hold.clone()];
        assert_eq!(judged(&attempts, &twice, 2), Err(Wrong::Doubled), "two charges");
        assert_eq!(judged(&attempts, &[hold], 2), Err(Wrong::Doubled), "asked without a hold");
    }

    #[test]
    fn what_an_attempt_saw_is_written() {
        let (seen, hold) = fitting();
        assert_eq!(judged(&[&seen], &[voided(&hold)], 1), Err(Wrong::Lost), "nothing charged");
        let mut other = Seen { status: Some(409), text: String::new(), ..seen.clone() };
        assert_eq!(judged(&[&seen, &other], std::slice::from_ref(&hold), 1), Ok(()));
        other.told = seen.told.map(|told| told + 1);
        assert_eq!(judged(&[&seen, &other], &[hold], 1), Err(Wrong::Lost), "another cost");
    }
}
