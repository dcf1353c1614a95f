use std::time::Duration;

use uuid::Uuid;

use super::rng::Rng;
use crate::{
    config::{LeasePolicy, limits::Limits},
    domain::{AccountId, HoldId},
    storage::ledger::memory::Rule,
};

/// A rule that is left out, to see that it is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mutant {
    /// In the database.
    Books(Rule),
    /// Gate 1 stands open.
    ContentBeforeHold,
    /// Gate 2 stands open.
    EndBeforeSettlement,
}

/// A wallet of a run.
#[derive(Debug, Clone)]
pub(super) struct Wallet {
    pub(super) id: AccountId,
    pub(super) credit: i64,
    /// Budgets of its keys.
    pub(super) caps: Vec<(AccountId, i64)>,
}

/// Chances of a hundred: which faults a run has, and how often.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Faults {
    pub(super) slow: u64,
    pub(super) lost: u64,
    pub(super) unanswered: u64,
    pub(super) repeated: u64,
    pub(super) crash: u64,
    pub(super) pause: u64,
    pub(super) drain: u64,
    pub(super) outage: u64,
    pub(super) freeze: u64,
}

/// What a seed makes of a run.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) seed: u64,
    /// Several processes over one PostgreSQL, or one over SQLite.
    pub(super) is_shared: bool,
    pub(super) processes: u64,
    pub(super) policy: LeasePolicy,
    pub(super) accounts: Vec<Wallet>,
    pub(super) steps: u64,
    pub(super) faults: Faults,
    pub(super) limits: Limits,
    /// How fast the database's clock is. 125 would be as much as the protocol bears.
    pub(super) database_clock_percent: i64,
    pub(super) without: Option<Rule>,
    pub(super) gate1: bool,
    pub(super) gate2: bool,
}

impl Plan {
    pub(super) fn new(seed: u64, mutant: Option<Mutant>) -> Self {
        let mut rng = Rng::part(seed, 1, 0);
        let is_shared = rng.percent(75);
        // A fault is missing from half of the runs, so that each is also seen without the others.
        let mut chance = |most: u64| if rng.percent(50) { rng.between(1, most) } else { 0 };
        let faults = Faults {
            slow: chance(20),
            lost: chance(15),
            unanswered: chance(15),
            repeated: chance(20),
            crash: chance(10),
            pause: chance(10),
            drain: chance(6),
            outage: chance(5),
            freeze: chance(8),
        };
        let limits = Limits {
            ledger_wait_ms: *rng.one_of(&[300, 1_000, 3_000]),
            account_idle_ms: *rng.one_of(&[200, 2_000, 10_000]),
            cache_ttl_ms: *rng.one_of(&[0, 200, 1_000]),
            flush_ops_max: *rng.one_of(&[2, 5, 512]),
            ledger_queue_ops_max: *rng.one_of(&[3, 1_000]),
            ..Limits::default()
        };
        let wallet = |number: u64, rng: &mut Rng| Wallet {
            id: account(number * 16),
            credit: rng.money(0, 400),
            caps: (1..=rng.below(3))
                .map(|cap| (account(number * 16 + cap), rng.money(10, 200)))
                .collect(),
        };
        let policies = [LeasePolicy::Auto, LeasePolicy::Exact, LeasePolicy::Retained];
        Self {
            seed,
            is_shared,
            processes: if is_shared { rng.between(2, 3) } else { 1 },
            policy: *rng.one_of(&policies),
            accounts: (0..rng.between(1, 3)).map(|number| wallet(number, &mut rng)).collect(),
            steps: rng.between(8, 30),
            faults,
            limits,
            database_clock_percent: rng.money(85, 120),
            without: match mutant {
                Some(Mutant::Books(rule)) => Some(rule),
                Some(Mutant::ContentBeforeHold | Mutant::EndBeforeSettlement) | None => None,
            },
            gate1: mutant != Some(Mutant::ContentBeforeHold),
            gate2: mutant != Some(Mutant::EndBeforeSettlement),
        }
    }
}

fn account(number: u64) -> AccountId {
    AccountId(Uuid::from_u128(0x1000 + u128::from(number)))
}

/// How a request wants to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    Settle,
    /// The end is sent, and nobody waits for it.
    SettleUnheard,
    OperatorPays,
    Void,
    Drop,
}

/// One request of a client.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) hold: HoldId,
    pub(super) account: AccountId,
    pub(super) cap: Option<AccountId>,
    pub(super) amount: i64,
    pub(super) funds_min: i64,
    /// The most that it may become.
    pub(super) amount_max: i64,
    pub(super) slice: i64,
    /// A free model: no hold.
    pub(super) is_free: bool,
    pub(super) chunks: u64,
    pub(super) cost_per_chunk: u64,
    pub(super) pace: Duration,
    pub(super) ending: Ending,
    /// When the client leaves, if it does.
    pub(super) leaves_after: Option<Duration>,
}

impl Request {
    pub(super) fn new(plan: &Plan, number: u64) -> Self {
        let mut rng = Rng::part(plan.seed, 2, number);
        let wallet = rng.one_of(&plan.accounts).clone();
        let amount = rng.money(1, 60);
        let caps: Vec<_> = wallet.caps.iter().map(|(id, _)| Some(*id)).chain([None]).collect();
        let grows = rng.percent(40);
        let amount_max = if grows { amount + rng.money(1, 80) } else { amount };
        let endings = [
            Ending::Settle,
            Ending::Settle,
            Ending::Settle,
            Ending::SettleUnheard,
            Ending::OperatorPays,
            Ending::Void,
            Ending::Drop,
        ];
        Self {
            hold: HoldId(Uuid::from_u128(0x0001_0000 + u128::from(number))),
            account: wallet.id,
            cap: *rng.one_of(&caps),
            amount,
            // The request may be made smaller, or must be affordable as a whole.
            funds_min: *rng.one_of(&[amount, amount, amount / 3, amount_max]),
            amount_max,
            slice: rng.money(0, 20),
            is_free: rng.percent(5),
            chunks: rng.below(6),
            cost_per_chunk: rng.below(20),
            pace: Duration::from_millis(*rng.one_of(&[1, 30, 400, 2_500])),
            ending: *rng.one_of(&endings),
            leaves_after: rng.percent(25).then(|| Duration::from_millis(rng.below(3_000))),
        }
    }
}
