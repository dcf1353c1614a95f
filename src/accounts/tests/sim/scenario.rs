use std::{sync::Arc, time::Duration};

use tokio::{sync::mpsc, task::LocalSet};

use super::{
    database::Database,
    network::Message,
    plan::{Mutant, Plan, Request},
    process::{Process, pace},
    rng::Rng,
    world::{Counts, World},
};
use crate::storage::ledger::memory::MemoryLedger;

/// Longest time after the last fault until everything has to be resolved: a dead instance's time to
/// live by a slow clock, the next look for it, and the slowest request.
const CALM_MAX: Duration = Duration::from_secs(60);

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) trace: u64,
    pub(super) counts: Counts,
    pub(super) broken: Option<String>,
}

/// Plays one seed, in virtual time, and tells what happens if it is to be told.
pub(super) fn play(seed: u64, mutant: Option<Mutant>, is_told: bool) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let tasks = LocalSet::new();
    let world = tasks.block_on(&runtime, async {
        let world = Arc::new(World::new(Plan::new(seed, mutant), is_told));
        let (database, inbox) = mpsc::unbounded_channel();
        let (obituaries, dead) = mpsc::unbounded_channel();
        let database_task = Database::new(Arc::clone(&world), inbox, dead).run();
        let database_task = tokio::task::spawn_local(database_task);
        let mut scenario = Scenario::new(Arc::clone(&world), database, obituaries);
        scenario.run().await;
        drop(scenario);
        database_task.abort();
        world
    });
    let broken = world.broken();
    let (trace, counts) = world.result();
    Outcome { trace, counts, broken }
}

/// Who is killed, stopped and asked, and when.
struct Scenario {
    world: Arc<World>,
    rng: Rng,
    database: mpsc::UnboundedSender<Message>,
    obituaries: mpsc::UnboundedSender<u64>,
    processes: Vec<Process>,
    started: u64,
    requests: u64,
}

impl Scenario {
    fn new(
        world: Arc<World>,
        database: mpsc::UnboundedSender<Message>,
        obituaries: mpsc::UnboundedSender<u64>,
    ) -> Self {
        let rng = Rng::part(world.plan.seed, 5, 0);
        let processes = Vec::new();
        Self { world, rng, database, obituaries, processes, started: 0, requests: 0 }
    }

    async fn run(&mut self) {
        for _ in 0..self.world.plan.processes {
            self.start();
        }
        for _ in 0..self.world.plan.steps {
            let gap = if self.rng.percent(10) { 2_000 } else { 250 };
            pace(Duration::from_millis(self.rng.below(gap))).await;
            self.step().await;
            self.replace_stopped().await;
            if self.world.broken().is_some() {
                return;
            }
        }
        self.finish().await;
    }

    fn start(&mut self) {
        self.started += 1;
        let process = Process::start(&self.world, self.started, self.database.clone());
        self.processes.push(process);
    }

    async fn kill(&mut self, at: usize) {
        let process = self.processes.remove(at);
        let number = process.number;
        self.world.trace(("killed", number));
        process.kill().await;
        // A database that is gone has nothing to forget.
        let _ = self.obituaries.send(number);
    }

    /// A process whose ledger stopped exits, and is started again.
    async fn replace_stopped(&mut self) {
        while let Some(at) = self.processes.iter().position(|one| one.stopped().is_some()) {
            let process = &self.processes[at];
            let reason = process.stopped().unwrap_or_default();
            let is_expected = reason.contains("fenced") || reason == "drained";
            if !is_expected {
                self.world.fail(format!("process {} stopped: {reason}", process.number));
            }
            self.kill(at).await;
            self.start();
        }
    }

    async fn step(&mut self) {
        let faults = self.world.plan.faults;
        let at = usize::try_from(self.rng.below(64)).unwrap() % self.processes.len();
        let number = self.processes[at].number;
        if self.rng.percent(faults.crash) {
            self.kill(at).await;
            self.start();
        } else if self.rng.percent(faults.pause) {
            if self.processes[at].is_up() {
                self.world.trace(("paused", number));
                self.processes[at].pause();
            }
        } else if self.rng.percent(faults.drain) {
            self.world.trace(("drains", number));
            self.processes[at].drain();
        } else if self.rng.percent(faults.outage) {
            self.world.trace("the database goes down");
            self.world.go_down(Duration::from_millis(self.rng.below(12_000)));
        } else if self.rng.percent(faults.freeze) {
            self.change_an_account();
        } else {
            for _ in 0..self.rng.between(1, 4) {
                self.requests += 1;
                let request = Request::new(&self.world.plan, self.requests);
                self.processes[at].serve(request);
            }
        }
        // Some that were stopped go on: soon, or when others took over.
        if self.rng.percent(15) {
            let long = if self.rng.percent(30) { self.rng.below(20_000) } else { 0 };
            pace(Duration::from_millis(long)).await;
            self.world.trace("all that were paused go on");
            self.processes.iter().for_each(Process::resume);
        }
    }

    /// An operator tops up, raises a budget, freezes or unfreezes; the process that is asked knows at once.
    fn change_an_account(&mut self) {
        let wallet = self.rng.one_of(&self.world.plan.accounts).clone();
        let account = wallet.id;
        let amount = self.rng.money(1, 100);
        let choice = self.rng.below(3);
        self.world.trace(("operator", choice, account, amount));
        self.world.commit("operator", |ledger| match (choice, wallet.caps.first()) {
            (0, _) => ledger.top_up(account, amount),
            (1, Some((cap, _))) => ledger.raise_cap(*cap, amount),
            (_, _) => ledger.toggle_freeze(account),
        });
        let at = usize::try_from(self.rng.below(64)).unwrap() % self.processes.len();
        self.processes[at].changed(account);
    }

    /// The faults end: everything resolves, everything comes back, and the books add up.
    async fn finish(&mut self) {
        self.world.calm_down();
        self.processes.iter().for_each(Process::resume);
        self.wait_until_resolved().await;
        self.processes.iter().for_each(Process::drain);
        for _ in 0..CALM_MAX.as_secs() {
            if self.processes.iter().all(Process::is_drained) {
                break;
            }
            pace(Duration::from_secs(1)).await;
        }
        let stuck = self.processes.iter().find(|process| !process.is_drained());
        if let Some(process) = stuck {
            self.world.fail(format!("process {} does not end its drain", process.number));
        }
        let checked =
            self.world.read(|ledger| ledger.check().and_then(|()| ledger.check_released()));
        let checked = checked.and_then(|()| self.world.check_claims());
        if let Err(violation) = checked {
            self.world.fail(format!("at the end: {violation}"));
        }
    }

    /// Waits until nothing is open, and replaces what has to stop meanwhile.
    async fn wait_until_resolved(&mut self) {
        for _ in 0..CALM_MAX.as_millis() / 250 {
            if self.is_resolved() || self.world.broken().is_some() {
                return;
            }
            pace(Duration::from_millis(250)).await;
            self.replace_stopped().await;
        }
        let left = self.world.read(MemoryLedger::check_released);
        self.world.fail(format!("{} requests run on, and {left:?}", self.world.running()));
    }

    /// Nothing is open, and of the dead nobody can write any more: what they sent may still come.
    fn is_resolved(&self) -> bool {
        let is_ours = |process| self.processes.iter().any(|ours| ours.number == process);
        let live = self.world.read(MemoryLedger::live_instances);
        let mut live = live.into_iter().map(|instance| self.world.process(instance));
        let are_known = !self.world.plan.is_shared || live.all(|one| one.is_some_and(is_ours));
        let is_released = self.world.read(|ledger| ledger.check_released().is_ok());
        are_known && is_released && self.world.running() == 0
    }
}
