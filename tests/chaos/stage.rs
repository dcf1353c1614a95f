//! Everything that a run plays with: PostgreSQL, three instances with a relay on either side,
//! nginx, the scripted provider, and accounts.

use std::{
    path::Path,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use sea_orm::QueryResult;

use crate::{
    nginx::Nginx,
    plan::{self, ACCOUNTS, POOR, Plan},
    postgres::{Cluster, TestDatabase},
    proxy::{Proxy, Target},
    support::{
        BOUND,
        ledger::Ledger,
        lock,
        models::usd,
        server::{Account, TestServer, say},
        upstream::{Exchange, Upstream},
        wait_for_or,
    },
};

/// Instances behind nginx.
pub(crate) const SLOTS: usize = 3;
/// Credit of an account that does not run dry, nano-USD.
const RICH_NANOUSD: i64 = 1_000_000_000_000;
/// Credit of the poorest account for each fault of the run, nano-USD; the next has twice as much.
const POOR_NANOUSD: i64 = 30_000;

/// A place for an instance: what runs there changes, its addresses don't.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) number: usize,
    server: Mutex<Option<TestServer>>,
    /// Between the instance and its database.
    pub(crate) database: Proxy,
    /// Between the instance and nginx or clients.
    pub(crate) front: Proxy,
    /// Whether a fault of the whole instance is under way.
    busy: AtomicBool,
}

/// See the module.
pub(crate) struct Stage {
    pub(crate) seed: u64,
    pub(crate) accounts: Vec<Account>,
    /// Credit of each account, nano-USD.
    pub(crate) credits: Vec<i64>,
    /// What ran once; audited when the stage is dropped.
    retired: Mutex<Vec<TestServer>>,
    pub(crate) slots: Vec<Slot>,
    pub(crate) nginx: Nginx,
    pub(crate) upstream: Upstream,
    /// Held by who starts an instance, and by who restarts the database.
    starting: Mutex<()>,
    pub(crate) cluster: &'static Cluster,
    database: TestDatabase,
}

impl Stage {
    /// Starts everything. `faults` says how long the poor accounts' credit should last.
    #[track_caller]
    pub(crate) fn start(cluster: &'static Cluster, nginx: &Path, seed: u64, faults: u64) -> Self {
        let database = cluster.database();
        let upstream = Upstream::answering(move |request| {
            let body = String::from_utf8_lossy(&request.body);
            let id = Plan::id_in(&body).expect("the prompt has the request's number");
            answer(seed, id)
        });
        let relay = || Proxy::start(Target::Unix(cluster.socket()));
        let slots: Vec<Slot> = (0..SLOTS)
            .map(|number| {
                let (database, front) = (relay(), Proxy::start(Target::Nobody));
                let busy = AtomicBool::new(false);
                Slot { number, server: Mutex::default(), database, front, busy }
            })
            .collect();
        for slot in &slots {
            let server = start_server(slot, &database, &upstream);
            slot.front.lead_to(Target::Tcp(server.address()));
            *lock(&slot.server) = Some(server);
        }
        let (mut accounts, mut credits) = (Vec::new(), Vec::new());
        for number in 0..ACCOUNTS {
            let faults = i64::try_from(faults).expect("not so many faults");
            let credit =
                if number < POOR { (POOR_NANOUSD * faults) << number } else { RICH_NANOUSD };
            let account = slots[0].with(|server| server.account_with_usd(&usd(credit)));
            accounts.push(account);
            credits.push(credit);
        }
        let addresses = [0, 1, 2].map(|number: usize| slots[number].front.address());
        Self {
            seed,
            accounts,
            credits,
            retired: Mutex::default(),
            nginx: Nginx::start(nginx, addresses),
            slots,
            upstream,
            starting: Mutex::default(),
            cluster,
            database,
        }
    }

    /// A connection to the database itself, past the relays.
    #[track_caller]
    pub(crate) fn ledger(&self) -> Ledger {
        // Not while the database is down.
        let _quiet = self.quiet();
        Ledger::open(&self.database.url)
    }

    /// Nobody starts an instance, and nobody restarts the database, as long as this is held.
    pub(crate) fn quiet(&self) -> MutexGuard<'_, ()> {
        lock(&self.starting)
    }

    /// Takes what died out of a slot and starts an instance there.
    #[track_caller]
    pub(crate) fn start_again(&self, slot: &Slot) {
        let _quiet = self.quiet();
        let dead = lock(&slot.server).take();
        lock(&self.retired).extend(dead);
        slot.database.thaw();
        let server = start_server(slot, &self.database, &self.upstream);
        slot.front.lead_to(Target::Tcp(server.address()));
        *lock(&slot.server) = Some(server);
    }

    /// Waits until there is nothing left to recover: the instances that run are the only live ones.
    /// One that a slow database had fenced has ended, and is started again, as by a supervisor.
    #[track_caller]
    pub(crate) fn wait_recovered(&self, ledger: &Ledger) {
        let sql = "SELECT CAST(COUNT(*) AS BIGINT) AS live FROM ledger_instance \
                   WHERE state NOT IN (4, 5)";
        let recovered = || {
            for slot in self.slots.iter().filter(|slot| slot.with(TestServer::has_ended)) {
                say(&format!("chaos: slot {} had ended by itself; started again", slot.number));
                self.start_again(slot);
            }
            let live: i64 = ledger.rows(sql).first()?.try_get("", "live").ok()?;
            (live == i64::try_from(SLOTS).ok()?).then_some(())
        };
        wait_for_or(BOUND * 2, recovered, || {
            format!("dead instances to be recovered; {}", self.instances(ledger))
        });
    }

    /// The instances that are not yet done with, and what the database does, for a message.
    fn instances(&self, ledger: &Ledger) -> String {
        let rows = |sql: &str| -> Vec<String> {
            let text = |row: &QueryResult| row.try_get::<String>("", "line").expect("a line");
            ledger.rows(sql).iter().map(text).collect()
        };
        let slots: Vec<String> = self.slots.iter().map(Slot::node).collect();
        let instances = rows(
            "SELECT format('%s state %s seq %s, expires in %s us', node, state, flush_seq, \
             expires_at - CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT)) AS line \
             FROM ledger_instance WHERE state NOT IN (4, 5)",
        );
        let busy = rows(
            "SELECT format('%s for %s, waits for %s %s: %s', state, clock_timestamp() - xact_start, \
             wait_event_type, wait_event, left(query, 120)) AS line FROM pg_stat_activity \
             WHERE xact_start IS NOT NULL AND pid <> pg_backend_pid()",
        );
        format!("slots {slots:?}; instances {instances:#?}; transactions {busy:#?}")
    }

    /// Stops all instances in order.
    #[track_caller]
    pub(crate) fn stop(&self) {
        for slot in &self.slots {
            let mut server = lock(&slot.server).take().expect("an instance");
            let status = server.terminate();
            assert!(status.success(), "slot {}: {status}", slot.number);
            lock(&self.retired).push(server);
        }
    }

    /// Runs `faces audit`; dirty books fail the test.
    #[track_caller]
    pub(crate) fn audit(&self) {
        lock(&self.retired).last().expect("an instance ran").audit();
    }
}

impl Slot {
    /// Asks the instance for something.
    #[track_caller]
    pub(crate) fn with<T>(&self, ask: impl FnOnce(&mut TestServer) -> T) -> T {
        ask(lock(&self.server).as_mut().expect("an instance"))
    }

    /// Claims the slot for a fault of the whole instance.
    pub(crate) fn claim(&self) -> bool {
        !self.busy.swap(true, Ordering::AcqRel)
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Acquire)
    }

    pub(crate) fn release(&self) {
        self.busy.store(false, Ordering::Release);
    }

    /// How the instance is named in its row.
    pub(crate) fn node(&self) -> String {
        self.with(|server| format!("pid {}", server.pid()))
    }

    /// Waits for the end of an instance that must end by itself; how long that took.
    #[track_caller]
    pub(crate) fn wait_own_end(&self) -> Duration {
        let from = Instant::now();
        let status = self.with(|server| server.wait_exit(BOUND));
        assert!(!status.success(), "slot {}: a fenced instance ended with {status}", self.number);
        from.elapsed()
    }
}

fn answer(seed: u64, id: u64) -> Exchange {
    Plan::new(seed, id, slots()).exchange()
}

/// [`SLOTS`], for a generator.
pub(crate) fn slots() -> u64 {
    u64::try_from(SLOTS).expect("few slots")
}

#[track_caller]
fn start_server(slot: &Slot, database: &TestDatabase, upstream: &Upstream) -> TestServer {
    let url = database.url_through(slot.database.address());
    // One of them gives a flush up early, so that it is sent again while the first one still runs.
    let wait_ms = if slot.number == 0 { "1000" } else { "5000" };
    // What an instance keeps of an account must not matter to the others.
    let policy = ["auto", "retained", "exact"][slot.number];
    TestServer::builder()
        .with_postgres(&url)
        .env("FACES_LEDGER_POLICY", policy)
        .with_upstream(upstream)
        .models(&plan::models_toml())
        .env("FACES_LEDGER_WAIT_MS", wait_ms)
        .env("FACES_DB_ACQUIRE_TIMEOUT_MS", wait_ms)
        .env("FACES_SHUTDOWN_GRACE_MS", "2000")
        .env("RUST_LOG", "info")
        .start()
}
