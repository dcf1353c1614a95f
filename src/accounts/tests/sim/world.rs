use std::{
    collections::BTreeMap,
    fmt::Debug,
    hash::{DefaultHasher, Hash, Hasher as _},
    sync::Mutex,
    time::Duration,
};

use tokio::time::Instant;

use super::plan::Plan;
use crate::{
    accounts::Settled,
    domain::{
        HoldId, InstanceId,
        ledger::{FlushBatch, HoldState},
    },
    storage::ledger::memory::MemoryLedger,
};

/// What a request was promised and what it asked for.
#[derive(Debug, Default)]
struct Claim {
    /// Cost that it noted; what a hang-up is billed.
    noted: i64,
    /// What it asked to be charged, when it ended its hold itself. `None` inside: a void.
    asked: Option<Option<i64>>,
    /// What it was told.
    told: Option<i64>,
}

/// Everything that the simulation sees from outside: the books, what clients saw, and the first
/// promise that was broken.
pub(super) struct World {
    pub(super) plan: Plan,
    is_told: bool,
    born: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    ledger: MemoryLedger,
    claims: BTreeMap<HoldId, Claim>,
    processes: BTreeMap<InstanceId, u64>,
    running: u64,
    is_calm: bool,
    down_until: Option<Instant>,
    trace: u64,
    counts: Counts,
    broken: Option<String>,
}

/// What happened in a run, to see that the faults did happen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) commits: u64,
    pub(super) repeated: u64,
    pub(super) refused: u64,
    pub(super) settled: u64,
    pub(super) recovered: u64,
    pub(super) contents: u64,
    pub(super) denied: u64,
}

impl Counts {
    pub(super) fn add(&mut self, other: &Self) {
        self.commits += other.commits;
        self.repeated += other.repeated;
        self.refused += other.refused;
        self.settled += other.settled;
        self.recovered += other.recovered;
        self.contents += other.contents;
        self.denied += other.denied;
    }
}

impl World {
    pub(super) fn new(plan: Plan, is_told: bool) -> Self {
        if is_told {
            println!("{plan:#?}");
        }
        let mut ledger = MemoryLedger::without(plan.without);
        for account in &plan.accounts {
            ledger.create_wallet(account.id);
            ledger.top_up(account.id, account.credit);
            for &(cap, limit) in &account.caps {
                ledger.create_cap(cap, account.id, limit);
            }
        }
        let state = State { ledger, ..State::default() };
        Self { plan, is_told, born: Instant::now(), state: Mutex::new(state) }
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap())
    }

    /// A promise is broken. The first one is told.
    pub(super) fn fail(&self, what: String) {
        let at = self.born.elapsed();
        self.with(|state| {
            state.broken.get_or_insert_with(|| format!("after {at:?}: {what}"));
        });
    }

    pub(super) fn broken(&self) -> Option<String> {
        self.with(|state| state.broken.clone())
    }

    /// Works on the books and checks them, unless something was broken before.
    pub(super) fn commit<T>(
        &self,
        what: &str,
        act: impl FnOnce(&mut MemoryLedger) -> T,
    ) -> Option<T> {
        let checked = self.with(|state| {
            if state.broken.is_some() {
                return None;
            }
            state.counts.commits += 1;
            let done = act(&mut state.ledger);
            Some((done, state.ledger.check()))
        });
        let (done, checked) = checked?;
        if let Err(violation) = checked {
            self.fail(format!("{what}: {violation}"));
        }
        Some(done)
    }

    pub(super) fn read<T>(&self, read: impl FnOnce(&MemoryLedger) -> T) -> T {
        self.with(|state| read(&state.ledger))
    }

    /// Notes an event, and tells it when the seed was asked for. The sum does not depend on the
    /// order of what happens at one instant.
    pub(super) fn trace(&self, event: impl Hash + Debug) {
        if self.is_told {
            println!("{:>12?} {event:?}", self.born.elapsed());
        }
        let mut hasher = DefaultHasher::new();
        (self.born.elapsed().as_micros(), event).hash(&mut hasher);
        self.with(|state| state.trace = state.trace.wrapping_add(hasher.finish()));
    }

    /// Shows more of a seed that was asked for.
    pub(super) fn tell(&self, more: &dyn Debug) {
        if self.is_told {
            println!("{more:?}");
        }
    }

    pub(super) fn result(&self) -> (u64, Counts) {
        self.with(|state| (state.trace, state.counts))
    }

    pub(super) fn count(&self, count: impl FnOnce(&mut Counts)) {
        self.with(|state| count(&mut state.counts));
    }

    /// The database's clock, microseconds: not as fast as that of the processes.
    pub(super) fn database_micros(&self) -> i64 {
        let micros = i64::try_from(self.born.elapsed().as_micros()).unwrap();
        micros / 100 * self.plan.database_clock_percent
    }

    /// No more faults from here on.
    pub(super) fn calm_down(&self) {
        self.with(|state| (state.is_calm, state.down_until) = (true, None));
    }

    pub(super) fn is_calm(&self) -> bool {
        self.with(|state| state.is_calm)
    }

    pub(super) fn go_down(&self, span: Duration) {
        self.with(|state| state.down_until = Some(Instant::now() + span));
    }

    pub(super) fn is_down(&self) -> bool {
        self.with(|state| state.down_until.is_some_and(|until| Instant::now() < until))
    }

    pub(super) fn registered(&self, instance: InstanceId, process: u64) {
        self.with(|state| state.processes.insert(instance, process));
    }

    /// The process of an instance, for the trace: ids differ from run to run.
    pub(super) fn process(&self, instance: InstanceId) -> Option<u64> {
        self.with(|state| state.processes.get(&instance).copied())
    }

    pub(super) fn request_begins(&self, hold: HoldId) {
        self.with(|state| {
            state.running += 1;
            state.claims.insert(hold, Claim::default());
        });
    }

    pub(super) fn request_is_over(&self) {
        self.with(|state| state.running -= 1);
    }

    pub(super) fn running(&self) -> u64 {
        self.with(|state| state.running)
    }

    pub(super) fn noted(&self, hold: HoldId, cost: i64) {
        self.with(|state| {
            if let Some(claim) = state.claims.get_mut(&hold) {
                claim.noted = cost;
            }
        });
    }

    pub(super) fn asked(&self, hold: HoldId, cost: Option<i64>) {
        self.with(|state| {
            if let Some(claim) = state.claims.get_mut(&hold) {
                claim.asked = Some(cost);
            }
        });
    }

    /// Gate 1: a client got content.
    pub(super) fn saw_content(&self, hold: HoldId) {
        self.trace(("content", hold));
        self.count(|counts| counts.contents += 1);
        let row = self.read(|ledger| ledger.holds.get(&hold).cloned());
        if row.as_ref().is_none_or(|row| row.state != HoldState::Open) {
            self.fail(format!("I3: content of hold {hold}, which is {row:?}"));
        }
    }

    /// Gate 2: a client saw the end of its answer, with this bill.
    pub(super) fn saw_end(&self, hold: HoldId, bill: &Settled) {
        self.trace(("end", hold, bill.charge));
        let row = self.read(|ledger| ledger.holds.get(&hold).cloned());
        let is_written = row.as_ref().is_some_and(|row| {
            matches!(row.state, HoldState::Settled | HoldState::Voided)
                && row.cost == Some(bill.charge.0)
        });
        if !is_written {
            self.fail(format!("I3: the end of hold {hold} with {bill:?}, which is {row:?}"));
        }
        self.with(|state| {
            if let Some(claim) = state.claims.get_mut(&hold) {
                claim.told = Some(bill.charge.0);
            }
        });
    }

    /// At the end: every hold ended as its request wanted, or was recovered at most at what it had
    /// used.
    pub(super) fn check_claims(&self) -> Result<(), String> {
        self.with(|state| {
            for (id, hold) in &state.ledger.holds {
                let Some(claim) = state.claims.get(id) else {
                    return Err(format!("nobody asked for hold {id}"));
                };
                let cost = hold.cost.unwrap_or(0);
                let wanted = match claim.asked {
                    Some(asked) => asked,
                    None => (claim.noted > 0).then_some(claim.noted),
                };
                let is_right = match hold.state {
                    HoldState::Open => false,
                    // A void after a checkpoint is a settlement that the operator pays.
                    HoldState::Settled => wanted.unwrap_or(0).min(hold.amount) == cost,
                    HoldState::Voided => wanted.is_none(),
                    HoldState::Recovered => cost <= claim.noted,
                };
                let is_as_told = claim.told.is_none_or(|told| told == cost);
                if !is_right || !is_as_told {
                    return Err(format!("hold {id} ended as {hold:?} for {claim:?}"));
                }
            }
            Ok(())
        })
    }
}

/// A batch for the trace.
pub(super) fn digest(batch: &FlushBatch) -> u64 {
    let opens = batch.opens.iter().map(|open| (1_u8, open.hold_id, open.amount));
    let ends = batch.resolves.iter().map(|end| (2_u8, end.hold_id, end.charge));
    let points = batch.checkpoints.iter().map(|point| (3_u8, point.hold_id, point.cost));
    let extends = batch.extends.iter().map(|extend| (4_u8, extend.hold_id, extend.to));
    let free = batch.free.iter().map(|free| (5_u8, free.open.hold_id, free.open.amount));
    let leases = batch.leases.iter().map(|lease| (lease.account_id, lease.give_back));
    let hash = |event: &dyn Fn(&mut DefaultHasher)| {
        let mut hasher = DefaultHasher::new();
        event(&mut hasher);
        hasher.finish()
    };
    let ops = opens.chain(ends).chain(points).chain(extends).chain(free);
    let ops = ops.map(|op| hash(&|hasher| op.hash(hasher)));
    let leases = leases.map(|lease| hash(&|hasher| lease.hash(hasher)));
    ops.chain(leases).fold(0, u64::wrapping_add)
}
