//! Holds per second: `cargo bench --bench ledger`.
//!
//! Clients hold and settle in a loop, through the same room that the server uses, on a real SQLite
//! file (`synchronous=FULL`) and on a real PostgreSQL (`synchronous_commit=on`, `fsync=on`), on one
//! account and on a thousand. A hold here is the whole cycle: opened, durable, settled, durable. The
//! first table writes batches of 64 opens directly, one transaction after the other: what the
//! database alone can do.
//!
//! Figures are for comparing two versions on one machine, not for promises.
#![expect(clippy::expect_used, clippy::print_stdout, reason = "a program for developers")]

use std::{
    cell::Cell,
    sync::Arc,
    time::{Duration, Instant},
};

use actix::System;
use faces::{
    accounts::{Accounts, HoldRequest, Outcome, Payer},
    config::{LeasePolicy, limits::Limits},
    domain::{
        AccountId, ChargeRate, HoldId, InstanceId, NanoUsd, PriceId, TokenPrices, Usage,
        UsageBasis,
        ledger::{Finish, FlushBatch, HoldOpen, Leg},
    },
    storage::{
        DatabaseUrl, Db, DbOptions, DbRole,
        accounts::{CreditSource, NewAccount, create_account},
        ledger::{flush, register_instance},
        prices::sync_price,
    },
};
use futures_util::future::join_all;

#[path = "../tests/support/postgres.rs"]
#[expect(
    dead_code,
    clippy::unwrap_used,
    clippy::explicit_write,
    clippy::panic,
    reason = "written for tests; only a database is needed here"
)]
mod postgres;

/// How long each case is measured.
const MEASURE: Duration = Duration::from_secs(3);
/// How long each case runs before.
const WARM_UP: Duration = Duration::from_millis(500);
/// Opens in one transaction of the first table (R§9).
const BATCH: usize = 64;
const TTL_MS: i64 = 600_000;

/// One nano-USD per token.
fn rate() -> ChargeRate {
    ChargeRate {
        prices: TokenPrices { output_pico: 1_000, ..TokenPrices::default() },
        markup_bps: 0,
    }
}

struct Books {
    db: Db,
    price: PriceId,
    accounts: Vec<AccountId>,
}

impl Books {
    async fn open(url: DatabaseUrl, accounts: usize) -> Self {
        let options = DbOptions {
            url,
            connections_max: 8,
            acquire_timeout_ms: 5_000,
            read_timeout_ms: 5_000,
            migrate: true,
            role: DbRole::Server,
        };
        let db = Db::open(options).await.expect("the database opens");
        let price = sync_price(&db, "m", rate()).await.expect("the price is written");
        let mut made = Vec::new();
        for _ in 0..accounts {
            let new = NewAccount {
                id: AccountId::generate(),
                name: "bench".to_owned(),
                credit: NanoUsd(1_000_000_000_000_000),
                credit_source: CreditSource::Cash,
            };
            made.push(create_account(&db, new).await.expect("the account is made").id);
        }
        Self { db, price, accounts: made }
    }

    fn hold(&self, number: usize) -> HoldOpen {
        let account_id = self.accounts[number % self.accounts.len()];
        HoldOpen {
            hold_id: HoldId::generate(),
            account_id,
            cap_id: None,
            key_id: None,
            face_id: None,
            amount: NanoUsd(1_000),
            funds_min: NanoUsd(1_000),
            price_id: self.price,
            model: "m".to_owned(),
            legs: Vec::new(),
            idem: None,
        }
    }

    /// Opens alone, in batches, one transaction after the other.
    async fn batches(&self) -> Rate {
        let me = InstanceId::generate();
        register_instance(&self.db, me, "bench".to_owned(), TTL_MS).await.expect("registered");
        let (mut seq, mut measured) = (0, Measured::begin(WARM_UP + MEASURE));
        while measured.goes_on() {
            seq += 1;
            let open = |number| {
                let open = self.hold(number);
                let leg = Leg {
                    account_id: open.account_id,
                    aside: NanoUsd::ZERO,
                    spare: NanoUsd::ZERO,
                    want: NanoUsd::ZERO,
                    is_shared: false,
                };
                HoldOpen { legs: vec![leg], ..open }
            };
            let first = usize::try_from(seq).expect("small") * BATCH;
            let opens = (first..first + BATCH).map(open).collect();
            let batch = Arc::new(FlushBatch { opens, ..FlushBatch::default() });
            flush(&self.db, me, seq, TTL_MS, batch).await.expect("flushed");
            measured.add(BATCH);
        }
        measured.end()
    }

    /// `clients` that hold and settle.
    async fn cycles(&self, policy: LeasePolicy, clients: usize) -> Rate {
        let limits = Limits::default();
        let accounts =
            Accounts::start(self.db.clone(), &limits, policy).await.expect("the room starts");
        let measured = Cell::new(Some(Measured::begin(WARM_UP + MEASURE)));
        let step = |done: usize| {
            let mut now = measured.take().expect("no client is inside");
            now.add(done);
            let goes_on = now.goes_on();
            measured.set(Some(now));
            goes_on
        };
        join_all((0..clients).map(async |client| {
            let mut number = client;
            while step(0) {
                let open = self.hold(number);
                let (amount_max, slice) = (open.amount, NanoUsd::ZERO);
                let request = HoldRequest { open, rate: rate(), amount_max, slice };
                let mut hold = accounts.hold(request).await.expect("there is credit");
                hold.durable().await.expect("it becomes durable");
                let outcome = Outcome {
                    usage: Usage { output_text: 300, ..Usage::default() },
                    basis: UsageBasis::Provider,
                    finish: Finish::Complete,
                    attempts: Vec::new(),
                    payer: Payer::Customer,
                };
                hold.settle(outcome).await.expect("it settles");
                step(1);
                number += clients;
            }
        }))
        .await;
        accounts.drain().await.expect("it drains");
        measured.take().expect("no client is inside").end()
    }
}

/// What was done in the measured time.
struct Measured {
    begun: Instant,
    until: Instant,
    warm: Option<(Instant, Duration)>,
    done: usize,
}

struct Rate {
    per_second: f64,
    cpu_micros: f64,
}

impl Measured {
    fn begin(span: Duration) -> Self {
        let begun = Instant::now();
        Self { begun, until: begun + span, warm: None, done: 0 }
    }

    fn goes_on(&self) -> bool {
        Instant::now() < self.until
    }

    fn add(&mut self, done: usize) {
        if self.warm.is_some() {
            self.done += done;
        } else if self.begun.elapsed() >= WARM_UP {
            self.warm = Some((Instant::now(), cpu()));
        }
    }

    fn end(self) -> Rate {
        let (from, cpu_before) = self.warm.expect("it ran long enough");
        let done = f64::from(u32::try_from(self.done.max(1)).expect("few enough"));
        let cpu_micros = (cpu() - cpu_before).as_secs_f64() * 1e6 / done;
        Rate { per_second: done / from.elapsed().as_secs_f64(), cpu_micros }
    }
}

/// CPU time of this process (a PostgreSQL server's is not in it).
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(") ").next().unwrap_or_default();
    let ticks: u64 =
        fields.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    // The kernel tells hundredths of a second, whatever its own tick is.
    Duration::from_millis(ticks * 10)
}

fn print(database: &str, accounts: usize, what: &str, rate: &Rate) {
    println!(
        "| {database} | {accounts} | {what} | {:.0} | {:.0} |",
        rate.per_second, rate.cpu_micros
    );
}

async fn run(database: &str, url: impl AsyncFn() -> DatabaseUrl, policies: &[(&str, LeasePolicy)]) {
    for accounts in [1, 1_000] {
        let books = Books::open(url().await, accounts).await;
        print(database, accounts, "opens, batches of 64", &books.batches().await);
        for (name, policy) in policies {
            for clients in [1, 64, 512] {
                let books = Books::open(url().await, accounts).await;
                let rate = books.cycles(*policy, clients).await;
                print(database, accounts, &format!("cycles, {name}, {clients} clients"), &rate);
            }
        }
    }
}

fn main() {
    // `cargo test` and `cargo bench` pass flags of the usual harness; `--test` only looks whether it
    // builds.
    if std::env::args().any(|arg| arg == "--test") {
        return;
    }
    // It starts a server, which needs a runtime of its own.
    let postgres = postgres::cluster();
    println!("| database | accounts | what | holds/s | own CPU, µs per hold |");
    println!("|---|---|---|---|---|");
    System::new().block_on(async {
        let directory = tempfile::tempdir().expect("a directory");
        let files = Cell::new(0);
        let file = async || {
            files.set(files.get() + 1);
            DatabaseUrl::Sqlite(directory.path().join(format!("{}.db", files.get())))
        };
        let policies = [("exact", LeasePolicy::Exact), ("retained", LeasePolicy::Auto)];
        run("SQLite", file, &policies).await;
        match postgres {
            Ok(cluster) => {
                let policies = [("exact", LeasePolicy::Exact), ("retained", LeasePolicy::Retained)];
                let database = async || {
                    let made = cluster.create_database().await;
                    DatabaseUrl::Postgres(made.url.clone().into())
                };
                run("PostgreSQL", database, &policies).await;
            }
            Err(why) => println!("no PostgreSQL: {why}"),
        }
    });
}
