//! Usage over ten million charges: `cargo bench --bench usage`.
//!
//! Fills a real SQLite file and a real PostgreSQL (`USAGE_ON=postgresql`: that alone) with settled
//! holds of a thousand accounts over a hundred days (`USAGE_CHARGES`, 10,000,000), adds them to the
//! sums by day with the statements that the server uses, and measures what `GET /v1/billing/usage`
//! and an invoice read: with the sums up to date, and with a tail of 100,000 holds that are not in
//! them. It prints the plan of the statement, too. Rows are written by the databases themselves,
//! past the ledger: filling is not measured.
//!
//! Figures are for comparing two versions on one machine, not for promises.
#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a program for developers"
)]

use std::time::{Duration, Instant};

use faces::{
    domain::{AccountId, ChargeRate, Day, NanoUsd, TokenPrices},
    storage::{
        DatabaseUrl, Db, DbOptions, DbRole,
        ledger::usage::{
            Rolled, UsageFilter, UsageGroup, read_days, read_statement, read_usage, roll,
        },
        prices::sync_price,
    },
};
use sea_orm::{ConnectionTrait, Database, DatabaseConnection, DbBackend, Statement};

#[path = "../tests/support/postgres.rs"]
#[expect(
    dead_code,
    clippy::unwrap_used,
    clippy::explicit_write,
    clippy::panic,
    reason = "written for tests; only a database is needed here"
)]
mod postgres;

const ACCOUNTS: i64 = 1_000;
const DAYS: i64 = 100;
/// Holds written by one statement.
const FILL_ROWS: i64 = 500_000;
/// Holds that are too young for the sums.
const TAIL: i64 = 100_000;
/// Holds in one step of the rollup.
const STEP: u32 = 1_000;
/// Readings of each kind.
const READINGS: usize = 20;

/// Ids, times and numbers of hold `n`: as text of 32 digits whose first 12 are the milliseconds, like
/// a UUIDv7. `{ms}` is when it was made.
const SQLITE_HOLDS: &str = "INSERT INTO ledger_hold (id, account_id, instance_id, key_id, face_id,
        price_id, model, amount, state, cost, flush_seq, opened_at, resolved_at)
    WITH RECURSIVE numbers(n) AS
        (SELECT {from} UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < {to})
    SELECT unhex(printf('%012x7%03x8%015x', {ms}, n % 4096, n)),
        unhex(printf('%032x', 1000000 + n % 1000)), zeroblob(16),
        unhex(printf('%032x', 2000000 + n % 3000)), unhex(printf('%032x', 3000000 + n % 4000)),
        {price}, 'model-' || (n % 3), 1000000, 2, 330, 1, {ms} * 1000, {ms} * 1000 + 2000000
    FROM numbers";
const SQLITE_USAGE: &str = "INSERT INTO ledger_usage (hold_id, in_uncached, in_cache_read,
        in_cache_write_5m, in_cache_write_1h, out_text, out_reasoning, usage_source, finish)
    WITH RECURSIVE numbers(n) AS
        (SELECT {from} UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < {to})
    SELECT unhex(printf('%012x7%03x8%015x', {ms}, n % 4096, n)), 100, 0, 0, 0, 200, 0, 1, 1
    FROM numbers";
const POSTGRES_HOLDS: &str =
    "INSERT INTO ledger_hold (id, account_id, instance_id, key_id, face_id,
        price_id, model, amount, state, cost, flush_seq, opened_at, resolved_at)
    SELECT (lpad(to_hex({ms}), 12, '0') || '7' || lpad(to_hex(n % 4096), 3, '0') || '8'
            || lpad(to_hex(n), 15, '0'))::uuid,
        lpad(to_hex(1000000 + n % 1000), 32, '0')::uuid,
        '00000000-0000-0000-0000-000000000000'::uuid,
        lpad(to_hex(2000000 + n % 3000), 32, '0')::uuid,
        lpad(to_hex(3000000 + n % 4000), 32, '0')::uuid,
        {price}, 'model-' || (n % 3), 1000000, 2, 330, 1, {ms} * 1000, {ms} * 1000 + 2000000
    FROM generate_series({from}::bigint, {to}::bigint - 1) AS numbers(n)";
const POSTGRES_USAGE: &str = "INSERT INTO ledger_usage (hold_id, in_uncached, in_cache_read,
        in_cache_write_5m, in_cache_write_1h, out_text, out_reasoning, usage_source, finish)
    SELECT (lpad(to_hex({ms}), 12, '0') || '7' || lpad(to_hex(n % 4096), 3, '0') || '8'
            || lpad(to_hex(n), 15, '0'))::uuid, 100, 0, 0, 0, 200, 0, 1, 1
    FROM generate_series({from}::bigint, {to}::bigint - 1) AS numbers(n)";

/// What the server asks for usage by model, as `EXPLAIN` takes it. `{nil}` and `{id}` are filled in.
const SHOWN: [(&str, &str); 2] = [
    (
        "sums",
        "SELECT model, SUM(requests), SUM(cost) FROM usage_margin
            WHERE kind = 3 AND account_id = {id} AND day >= 0 AND day <= 100000 GROUP BY model",
    ),
    (
        "tail",
        "SELECT h.model, COUNT(*), SUM(h.cost) FROM ledger_hold AS h
            LEFT JOIN ledger_usage AS u ON u.hold_id = h.id
            LEFT JOIN ledger_price AS p ON p.id = h.price_id
            WHERE (h.state = 2 OR (h.state = 4 AND h.cost > 0)) AND h.id >= {mark}
            AND h.account_id = {id} GROUP BY h.model",
    ),
];

struct Filled {
    db: Db,
    raw: DatabaseConnection,
    charges: i64,
    price: i64,
    today: Day,
}

impl Filled {
    async fn open(options: DbOptions, url: &str, charges: i64) -> Self {
        let db = Db::open(options).await.expect("the database opens");
        let rate = ChargeRate {
            prices: TokenPrices { input_pico: 1_000, output_pico: 1_000, ..TokenPrices::default() },
            markup_bps: 1_000,
        };
        let price = sync_price(&db, "m", rate).await.expect("the price is written").0;
        let raw = Database::connect(url).await.expect("a second connection");
        let today = Day::of(faces::domain::clock::now());
        Self { db, raw, charges, price, today }
    }

    fn account() -> AccountId {
        AccountId(uuid::Uuid::from_u128(1_000_000))
    }

    async fn run(&self, text: &str, from: i64, to: i64, ms: &str) {
        let text = text
            .replace("{ms}", ms)
            .replace("{from}", &from.to_string())
            .replace("{to}", &to.to_string())
            .replace("{price}", &self.price.to_string());
        self.raw.execute_unprepared(&text).await.expect("rows are written");
    }

    /// `count` holds from number `first` on, spread evenly from `start_ms` over `span_ms`.
    async fn fill(&self, first: i64, count: i64, start_ms: i64, span_ms: i64) {
        let sqlite = self.raw.get_database_backend() == DbBackend::Sqlite;
        let (holds, usage) =
            if sqlite { (SQLITE_HOLDS, SQLITE_USAGE) } else { (POSTGRES_HOLDS, POSTGRES_USAGE) };
        let ms = format!("({start_ms} + (n - {first}) * {span_ms} / {count})");
        let mut from = first;
        while from < first + count {
            let to = (from + FILL_ROWS).min(first + count);
            self.run(holds, from, to, &ms).await;
            self.run(usage, from, to, &ms).await;
            from = to;
        }
    }

    async fn roll(&self) -> (u32, Duration) {
        let (began, mut steps) = (Instant::now(), 0);
        while roll(&self.db, STEP).await.expect("a step") != Rolled::Done {
            steps += 1;
        }
        (steps, began.elapsed())
    }

    /// The median and the longest of some readings, ms.
    async fn timed<F: Future<Output = ()>>(&self, what: impl Fn() -> F) -> (f64, f64) {
        let mut times = Vec::new();
        for _ in 0..READINGS {
            let began = Instant::now();
            what().await;
            times.push(began.elapsed().as_secs_f64() * 1e3);
        }
        times.sort_by(f64::total_cmp);
        (times[READINGS / 2], times[READINGS - 1])
    }

    async fn measure(&self, database: &str, tail: i64) {
        let all = || UsageFilter::all(Self::account());
        let month = || UsageFilter { from: Some(Day(self.today.0 - 30)), ..all() };
        let asked = [
            ("by model, all", all(), UsageGroup::Model),
            ("by key, 30 days", month(), UsageGroup::Key),
            ("by face, 30 days", month(), UsageGroup::Face),
            ("by date, all", all(), UsageGroup::Day),
        ];
        for (name, filter, group) in asked {
            let read = self.timed(async || {
                let page = read_usage(&self.db, filter.clone(), group, None, 100).await;
                assert!(page.expect("usage is read").totals.requests > 0);
            });
            print(database, tail, name, read.await);
        }
        let read = self.timed(async || {
            let days = read_days(&self.db, Self::account()).await.expect("days are read");
            assert!(!days.is_empty());
        });
        print(database, tail, "list of invoices", read.await);
        let read = self.timed(async || {
            let (from, to) = (Day(self.today.0 - 30), self.today);
            let read = read_statement(&self.db, Self::account(), from, to).await;
            assert!(read.expect("a statement is read").charges_total.requests > 0);
        });
        print(database, tail, "one invoice", read.await);
    }

    /// The totals over all accounts are all charges: nothing is lost or counted twice.
    async fn check(&self, charges: i64) {
        let mut sum = NanoUsd::ZERO;
        for number in 0..ACCOUNTS {
            let id = AccountId(uuid::Uuid::from_u128(1_000_000 + number.unsigned_abs() as u128));
            let filter = UsageFilter::all(id);
            let page = read_usage(&self.db, filter, UsageGroup::Model, None, 10).await;
            sum.0 += page.expect("usage is read").totals.cost.0;
        }
        assert_eq!(sum.0, charges * 330, "usage is not what was charged");
    }

    async fn explain(&self, database: &str) {
        let sqlite = self.raw.get_database_backend() == DbBackend::Sqlite;
        let id = format!("{:032x}", 1_000_000);
        let (id, mark) = if sqlite {
            (format!("x'{id}'"), "(SELECT cut_id FROM usage_mark)".to_owned())
        } else {
            self.raw.execute_unprepared("ANALYZE").await.expect("analysed");
            (format!("'{id}'::uuid"), "(SELECT cut_id FROM usage_mark)".to_owned())
        };
        for (name, text) in SHOWN {
            let text = text.replace("{id}", &id).replace("{mark}", &mark);
            let (explain, column) = if sqlite { ("EXPLAIN QUERY PLAN", 3) } else { ("EXPLAIN", 0) };
            let statement = Statement::from_string(
                self.raw.get_database_backend(),
                format!("{explain} {text}"),
            );
            println!("{database}, {name}:");
            for row in self.raw.query_all_raw(statement).await.expect("a plan") {
                println!("  {}", row.try_get_by_index::<String>(column).expect("a step"));
            }
        }
    }

    async fn bench(&self, database: &str) {
        let day_ms = 86_400_000;
        let start = (self.today.0 - DAYS) * day_ms;
        let began = Instant::now();
        self.fill(0, self.charges, start, DAYS * day_ms - day_ms).await;
        println!("{database}: {} charges filled in {:.0?}", self.charges, began.elapsed());
        let (steps, took) = self.roll().await;
        println!(
            "{database}: {steps} steps of {STEP} in {took:.1?}, {:.1} ms each",
            took.as_secs_f64() * 1e3 / f64::from(steps.max(1))
        );
        self.explain(database).await;
        println!(
            "| database | holds in the tail | what | median, ms | longest of {READINGS}, ms |"
        );
        println!("|---|---|---|---|---|");
        self.measure(database, 0).await;
        let now_ms = faces::domain::clock::now().0 / 1_000;
        self.fill(self.charges, TAIL, now_ms - 600_000, 500_000).await;
        self.measure(database, TAIL).await;
        self.check(self.charges + TAIL).await;
    }
}

fn print(database: &str, tail: i64, what: &str, (median, longest): (f64, f64)) {
    println!("| {database} | {tail} | {what} | {median:.1} | {longest:.1} |");
}

fn options(url: DatabaseUrl) -> DbOptions {
    DbOptions {
        url,
        connections_max: 4,
        acquire_timeout_ms: 60_000,
        read_timeout_ms: 600_000,
        migrate: true,
        role: DbRole::Server,
    }
}

fn main() {
    // `cargo test` and `cargo bench` pass flags of the usual harness; `--test` only looks whether it
    // builds.
    if std::env::args().any(|arg| arg == "--test") {
        return;
    }
    let asked = std::env::var("USAGE_CHARGES").ok();
    let charges: i64 = asked.and_then(|text| text.parse().ok()).unwrap_or(10_000_000);
    let only_postgres = std::env::var("USAGE_ON").is_ok_and(|name| name == "postgresql");
    // It starts a server, which needs a runtime of its own.
    let postgres = postgres::cluster();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        if !only_postgres {
            let directory = tempfile::tempdir().expect("a directory");
            let path = directory.path().join("usage.db");
            let url = format!("sqlite://{}", path.display());
            let filled = Filled::open(options(DatabaseUrl::Sqlite(path)), &url, charges).await;
            filled.bench("SQLite").await;
        }
        match postgres {
            Ok(cluster) => {
                let made = cluster.create_database().await;
                let url = DatabaseUrl::Postgres(made.url.clone().into());
                let filled = Filled::open(options(url), &made.url, charges).await;
                filled.bench("PostgreSQL").await;
            }
            Err(why) => println!("no PostgreSQL: {why}"),
        }
    });
}
