//! The faults: what is broken, when, and how it is put right again. All of it follows the seed.

use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread::Scope,
    time::{Duration, Instant},
};

use crate::{
    books,
    clients::Crowd,
    plan::{Plan, Random},
    proxy::Cut,
    stage::{Slot, Stage, slots},
    support::{BOUND, ledger::Ledger, lock, wait_for},
};

/// How long an instance counts as live after its last flush.
const TTL: Duration = Duration::from_secs(10);
/// Long streams at an instance that is about to be fenced.
const VISITORS: u64 = 6;
/// How long before.
const VISITORS_LEAD: Duration = Duration::from_millis(1_500);
/// State of an instance of which nothing is left.
const RECOVERED: i64 = 4;

/// How many faults of each kind there are, or were.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) kills: AtomicU64,
    pub(crate) stops: AtomicU64,
    pub(crate) partitions: AtomicU64,
    pub(crate) database_restarts: AtomicU64,
    pub(crate) database_cuts: AtomicU64,
    pub(crate) database_freezes: AtomicU64,
    pub(crate) client_cuts: AtomicU64,
}

impl Tally {
    /// What `faults` faults are made of; hang-ups of clients make up the rest.
    pub(crate) fn of(faults: u64) -> Self {
        Self {
            kills: (faults / 50).into(),
            stops: (faults / 100).into(),
            partitions: (faults / 200).into(),
            database_restarts: (faults / 100).into(),
            database_cuts: (faults / 10).into(),
            database_freezes: (faults / 25).into(),
            client_cuts: (faults / 10).into(),
        }
    }

    fn counts(&self) -> [(&'static str, &AtomicU64); 7] {
        [
            ("kills", &self.kills),
            ("stops", &self.stops),
            ("partitions", &self.partitions),
            ("database restarts", &self.database_restarts),
            ("database cuts", &self.database_cuts),
            ("database freezes", &self.database_freezes),
            ("client cuts", &self.client_cuts),
        ]
    }

    pub(crate) fn sum(&self) -> u64 {
        self.counts().iter().map(|(_, count)| count.load(Ordering::Acquire)).sum()
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let words =
            self.counts().map(|(name, count)| format!("{name} {}", count.load(Ordering::Acquire)));
        f.write_str(&words.join(", "))
    }
}

/// A time in which an instance had lost its right to its holds and did not know it yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Zombie {
    pub(crate) slot: usize,
    /// What the provider wrote after this must not be shown.
    pub(crate) from: Instant,
    /// The instance is gone.
    pub(crate) to: Instant,
}

/// A fault of a whole process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heavy {
    Kill,
    Stop,
    Partition,
    DatabaseRestart,
}

/// See the module.
pub(crate) struct Nemesis<'a> {
    stage: &'a Stage,
    crowd: &'a Crowd<'a>,
    visits: AtomicU64,
    plan: Tally,
    pub(crate) done: Tally,
    zombies: Mutex<Vec<Zombie>>,
    problems: Mutex<Vec<String>>,
    began: Instant,
    diary: Mutex<File>,
}

impl<'a> Nemesis<'a> {
    pub(crate) fn new(stage: &'a Stage, crowd: &'a Crowd<'a>, faults: u64) -> Self {
        Self {
            stage,
            crowd,
            visits: AtomicU64::new(0),
            plan: Tally::of(faults),
            done: Tally::default(),
            zombies: Mutex::default(),
            problems: Mutex::default(),
            began: Instant::now(),
            diary: Mutex::new(File::create(diary_path()).expect("a file for the faults")),
        }
    }

    /// Writes down what is being done, for whoever has to find out why a run failed.
    fn note(&self, what: &str) {
        let at = self.began.elapsed().as_millis();
        writeln!(lock(&self.diary), "{at:>7} ms  {what}").expect("the diary is written");
    }

    pub(crate) fn zombies(&self) -> Vec<Zombie> {
        lock(&self.zombies).clone()
    }

    /// What fenced instances did that they must not do.
    pub(crate) fn problems(&self) -> Vec<String> {
        lock(&self.problems).clone()
    }

    /// Kills, stops and parts instances, and restarts the database, in an order of the seed.
    pub(crate) fn break_processes<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) {
        let mut random = Random::new(self.stage.seed);
        for fault in self.shuffled(&mut random) {
            pace(random.millis(500, 3_000));
            if fault == Heavy::DatabaseRestart {
                self.restart_database(random.millis(100, 1_500));
                continue;
            }
            let first = random.next();
            let slot = wait_for("a slot without a fault", BOUND * 4, || self.claim(first));
            scope.spawn(move || {
                if matches!(fault, Heavy::Stop | Heavy::Partition) {
                    self.occupy(scope, slot);
                }
                match fault {
                    Heavy::Kill => self.kill(slot),
                    Heavy::Stop => self.stop(slot),
                    Heavy::Partition | Heavy::DatabaseRestart => self.partition(slot),
                }
                self.stage.start_again(slot);
                self.note(&format!("slot {} has {}", slot.number, slot.node()));
                slot.release();
            });
        }
    }

    /// Gives an instance answers in hand that outlast its rights.
    fn occupy<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>, slot: &Slot) {
        for _ in 0..VISITORS {
            let nth = self.visits.fetch_add(1, Ordering::AcqRel);
            let id = Plan::long_id(slot.number, slots(), nth);
            scope.spawn(move || self.crowd.visit(id));
        }
        // Time for most of them to begin, and to go on for a while.
        pace(VISITORS_LEAD);
    }

    fn shuffled(&self, random: &mut Random) -> Vec<Heavy> {
        let mut faults = Vec::new();
        for (fault, count) in [
            (Heavy::Kill, &self.plan.kills),
            (Heavy::Stop, &self.plan.stops),
            (Heavy::Partition, &self.plan.partitions),
            (Heavy::DatabaseRestart, &self.plan.database_restarts),
        ] {
            faults.extend((0..count.load(Ordering::Acquire)).map(|_| (random.next(), fault)));
        }
        faults.sort_by_key(|(order, _)| *order);
        faults.into_iter().map(|(_, fault)| fault).collect()
    }

    /// A slot without a fault, when at most one has one: somebody must be there to recover.
    fn claim(&self, first: u64) -> Option<&'a Slot> {
        let slots = &self.stage.slots;
        if slots.iter().filter(|slot| slot.is_busy()).count() > 1 {
            return None;
        }
        let first = usize::try_from(first % 97).expect("a small number");
        (0..slots.len()).map(|n| &slots[(first + n) % slots.len()]).find(|slot| slot.claim())
    }

    fn kill(&self, slot: &Slot) {
        self.note(&format!("kill slot {}", slot.number));
        slot.with(|server| server.kill());
        count(&self.done.kills);
    }

    /// The process stands still until others have taken over its holds, and then goes on.
    fn stop(&self, slot: &Slot) {
        let node = slot.node();
        let from = Instant::now();
        self.note(&format!("stop slot {}, {node}", slot.number));
        slot.with(|server| server.signal("STOP"));
        self.wait_fenced_and_gone(slot, &node, from, || slot.with(|server| server.signal("CONT")));
        count(&self.done.stops);
    }

    /// The process goes on, and can't reach its database until others have taken over its holds.
    fn partition(&self, slot: &Slot) {
        let node = slot.node();
        let from = Instant::now() + TTL;
        self.note(&format!("part slot {}, {node}", slot.number));
        slot.database.freeze();
        self.wait_fenced_and_gone(slot, &node, from, || slot.database.thaw());
        count(&self.done.partitions);
    }

    fn wait_fenced_and_gone(&self, slot: &Slot, node: &str, from: Instant, wake: impl Fn()) {
        let ledger = self.stage.ledger();
        let fenced = wait_recovered(&ledger, node);
        self.note(&format!("{node} is fenced and recovered"));
        wake();
        slot.wait_own_end();
        self.note(&format!("{node} has ended"));
        let to = Instant::now();
        lock(&self.zombies).push(Zombie { slot: slot.number, from, to });
        let after = wait_recovered(&ledger, node);
        if fenced != after {
            let problem = format!("{node} wrote after it was fenced: {fenced}, then {after}");
            lock(&self.problems).push(problem);
        }
    }

    fn restart_database(&self, down: Duration) {
        let _quiet = self.stage.quiet();
        self.note("crash the database");
        self.stage.cluster.crash();
        pace(down);
        self.stage.cluster.start_again();
        self.note("the database is back");
        count(&self.done.database_restarts);
    }

    /// Cuts and freezes connections, until there were as many faults as planned.
    pub(crate) fn break_connections(&self) {
        let mut random = Random::new(!self.stage.seed);
        let kinds = [
            (&self.plan.database_cuts, &self.done.database_cuts),
            (&self.plan.database_freezes, &self.done.database_freezes),
            (&self.plan.client_cuts, &self.done.client_cuts),
        ];
        loop {
            let is_left = |(plan, done): &(&AtomicU64, &AtomicU64)| {
                done.load(Ordering::Acquire) < plan.load(Ordering::Acquire)
            };
            let left: Vec<usize> = (0..3).filter(|kind| is_left(&kinds[*kind])).collect();
            if left.is_empty() {
                return;
            }
            pace(random.millis(100, 900));
            let among = |count: usize, random: &mut Random| {
                usize::try_from(random.next() % 1_000).expect("a small number") % count
            };
            let kind = left[among(left.len(), &mut random)];
            let slot = &self.stage.slots[among(self.stage.slots.len(), &mut random)];
            let happened = match kind {
                0 => cut_database(slot, &mut random),
                1 => freeze_database(slot, &mut random),
                _ => cut_clients(slot, &mut random),
            };
            if happened {
                let name = ["database cut", "database freeze", "client cut"][kind];
                self.note(&format!("{name} at slot {}", slot.number));
                count(kinds[kind].1);
            }
        }
    }
}

fn cut_database(slot: &Slot, random: &mut Random) -> bool {
    let how = match random.between(0, 4) {
        0 => Cut::Fin,
        1 => Cut::Reset,
        _ => Cut::Swallow(random.millis(5, 150)),
    };
    // What an instance needs at its start is not cut.
    !slot.is_busy() && slot.database.cut(how, |_| true) > 0
}

fn freeze_database(slot: &Slot, random: &mut Random) -> bool {
    let time = random.millis(200, 2_500);
    if !slot.claim() {
        return false;
    }
    slot.database.freeze();
    pace(time);
    slot.database.thaw();
    slot.release();
    true
}

fn cut_clients(slot: &Slot, random: &mut Random) -> bool {
    let how = if random.percent(50) { Cut::Fin } else { Cut::Reset };
    let odd = usize::from(random.percent(50));
    slot.front.cut(how, |number| number % 2 == odd) > 0
}

/// The flush number of an instance, once nothing of it is left.
fn wait_recovered(ledger: &Ledger, node: &str) -> i64 {
    wait_for("a dead instance to be recovered", BOUND * 4, || {
        let (state, flush_seq) = books::instance(ledger, node)?;
        (state == RECOVERED).then_some(flush_seq)
    })
}

/// `target/test-logs/chaos-faults.log`.
fn diary_path() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target directory");
    target.join("test-logs").join("chaos-faults.log")
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::AcqRel);
}

/// Lets the load go on for a while.
fn pace(time: Duration) {
    let until = Instant::now() + time;
    while let Some(left) = until.checked_duration_since(Instant::now()).filter(|l| !l.is_zero()) {
        std::thread::park_timeout(left);
    }
}
