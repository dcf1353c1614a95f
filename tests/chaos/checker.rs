//! Joins what every client saw, what the provider was asked and what stands in the books.

use std::collections::{BTreeMap, HashMap};

use crate::{
    books,
    clients::Seen,
    keys,
    nemesis::Zombie,
    plan::{MODELS, Plan},
    stage::Stage,
    support::{ledger::Ledger, upstream::Recorded},
    verdict::{Case, Wrong},
};

/// What the check came to.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) requests: usize,
    /// Whose end was seen.
    pub(crate) complete: usize,
    /// Requests by the status that the client saw; 0 without an answer.
    pub(crate) statuses: BTreeMap<u16, usize>,
    /// Requests with a key, and how often they were asked again.
    pub(crate) keyed: usize,
    pub(crate) repeated: usize,
    /// Answers that a provider went on with when their instance was fenced.
    pub(crate) fenced: usize,
    /// Charged, nano-USD.
    pub(crate) charged: i64,
    pub(crate) lost: usize,
    pub(crate) doubled: usize,
    /// Everything that is wrong, in words.
    pub(crate) findings: Vec<String>,
}

impl Report {
    fn add(&mut self, wrong: Wrong, text: String) {
        match wrong {
            Wrong::Lost => self.lost += 1,
            Wrong::Doubled => self.doubled += 1,
            Wrong::Books => {}
        }
        self.findings.push(text);
    }
}

/// Checks a run whose instances have all stopped.
#[track_caller]
pub(crate) fn check(
    stage: &Stage,
    ledger: &Ledger,
    all_seen: &[Seen],
    zombies: &[Zombie],
) -> Report {
    let mut report = Report { requests: all_seen.len(), ..Report::default() };
    let mut asked: HashMap<u64, Vec<Recorded>> = HashMap::new();
    for request in stage.upstream.requests() {
        let id = Plan::id_in(&String::from_utf8_lossy(&request.body)).expect("a number");
        asked.entry(id).or_default().push(request);
    }
    let mut holds = books::holds(ledger);
    for seen in all_seen {
        let plan = &seen.plan;
        let account = &stage.accounts[plan.account];
        let rows = holds.remove(&(account.id.clone(), plan.model, plan.max_tokens));
        let rows = rows.unwrap_or_default();
        let asked = asked.get(&plan.id).map_or(&[][..], Vec::as_slice);
        *report.statuses.entry(seen.status.unwrap_or(0)).or_default() += 1;
        report.complete += usize::from(seen.is_complete());
        report.charged += rows.iter().filter_map(|hold| hold.cost).sum::<i64>();
        let judged = if plan.is_keyed {
            report.keyed += 1;
            report.repeated += seen.earlier.len();
            keys::judge(&seen.attempts(), &rows, asked.len())
        } else {
            Case { seen, holds: &rows, asked: asked.len() }.judge()
        };
        if let Err((wrong, why)) = judged {
            report.add(wrong, format!("request {}: {why}: {seen:?}: {rows:?}", plan.id));
        }
        if let Some(zombie) = in_hand_of(seen, asked, zombies) {
            report.fenced += 1;
            if let Some(why) = shown_by(zombie, seen, asked) {
                report.add(Wrong::Lost, format!("request {}: {why}: {seen:?}", plan.id));
            }
        }
    }
    for ((account, model, tokens), rows) in holds {
        let model = MODELS[model];
        let text = format!("a hold nobody asked for: {account} {model} {tokens}: {rows:?}");
        report.add(Wrong::Books, text);
    }
    check_wallets(stage, ledger, &mut report);
    report
}

/// Each wallet lost exactly what its holds cost, and nobody holds anything of it any more.
#[track_caller]
fn check_wallets(stage: &Stage, ledger: &Ledger, report: &mut Report) {
    for (account, credit) in stage.accounts.iter().zip(&stage.credits) {
        let wallet = ledger.wallet(account);
        let costs: i64 = ledger.holds(account).iter().filter_map(|hold| hold.cost).sum();
        let is_right = wallet.credits == *credit
            && wallet.debits == costs
            && wallet.leased == 0
            && wallet.balance() >= 0;
        if !is_right {
            report.add(Wrong::Books, format!("{}: {wallet:?}, costs {costs}", account.id));
        }
    }
}

/// The fenced instance that had a request in hand for which the provider wrote on.
fn in_hand_of<'a>(seen: &Seen, asked: &[Recorded], zombies: &'a [Zombie]) -> Option<&'a Zombie> {
    // An answer of several attempts is not one instance's.
    let asked_at = asked.first().filter(|_| !seen.plan.is_keyed)?.at;
    let last = seen.plan.pauses.len().checked_sub(1)?;
    zombies.iter().find(|zombie| {
        Some(zombie.slot) == seen.plan.slot
            && (seen.began..zombie.to).contains(&zombie.from)
            && asked_at + seen.plan.written_after(last) > zombie.from
    })
}

/// What the provider wrote after an instance had lost its rights must not have been shown by it.
fn shown_by(zombie: &Zombie, seen: &Seen, asked: &[Recorded]) -> Option<String> {
    let last = seen.deltas().checked_sub(1)?;
    let written_at = asked.first()?.at + seen.plan.written_after(last);
    let late = written_at.checked_duration_since(zombie.from)?;
    Some(format!("shown by a fenced instance {late:?} late"))
}
