//! The books as they stand in the database: what a user is told must be what is written.

use std::time::Duration;

use sea_orm::{
    ConnectionTrait, Database, DatabaseConnection, DbBackend, DbErr, QueryResult, Statement,
};
use tokio::runtime::{Builder, Runtime};

use super::{BOUND, server::Account, wait_for};

/// A connection of the test's own, for reading.
#[derive(Debug)]
pub(crate) struct Ledger {
    runtime: Runtime,
    connection: DatabaseConnection,
}

/// A wallet's row, nano-USD.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wallet {
    /// All that came in.
    pub(crate) credits: i64,
    /// All that was charged and folded.
    pub(crate) debits: i64,
    /// What instances hold.
    pub(crate) leased: i64,
}

impl Wallet {
    /// What is left once nothing is in flight.
    pub(crate) fn balance(&self) -> i64 {
        self.credits - self.debits
    }
}

/// A hold and its usage row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    /// 1 open, 2 settled, 3 voided, 4 recovered.
    pub(crate) state: i64,
    /// What is reserved, nano-USD.
    pub(crate) amount: i64,
    /// What a crash would charge, nano-USD.
    pub(crate) checkpoint: i64,
    /// Charge, nano-USD; `None` until it is settled.
    pub(crate) cost: Option<i64>,
    /// The catalog's model.
    pub(crate) model: String,
    /// Input tokens of all buckets.
    pub(crate) input: i64,
    /// Output tokens of both buckets.
    pub(crate) output: i64,
    /// 1 provider, 2 partial, 4 counted; `None` without a usage row.
    pub(crate) basis: Option<i64>,
    /// 1 complete, 2 client gone, 3 upstream error, 4 shutdown, 5 failed, 6 recovered, 7 credit
    /// exhausted.
    pub(crate) finish: Option<i64>,
}

/// State of a settled hold.
pub(crate) const SETTLED: i64 = 2;
/// State of a voided hold.
pub(crate) const VOIDED: i64 = 3;
/// State of a hold that a crash left open.
pub(crate) const RECOVERED: i64 = 4;
/// State of an open hold.
pub(crate) const OPEN: i64 = 1;

/// Basis: the provider's final usage.
pub(crate) const BASIS_PROVIDER: i64 = 1;
/// Basis: the provider's usage so far.
pub(crate) const BASIS_PARTIAL: i64 = 2;
/// Basis: counted by the server.
pub(crate) const BASIS_COUNTED: i64 = 4;

/// Finish: complete.
pub(crate) const FINISH_COMPLETE: i64 = 1;
/// Finish: the client left.
pub(crate) const FINISH_CLIENT_GONE: i64 = 2;
/// Finish: the upstream failed after output.
pub(crate) const FINISH_UPSTREAM_ERROR: i64 = 3;
/// Finish: cut by the shutdown deadline.
pub(crate) const FINISH_SHUTDOWN: i64 = 4;
/// Finish: the server crashed.
pub(crate) const FINISH_RECOVERED: i64 = 6;
/// Finish: credit ran out in the stream.
pub(crate) const FINISH_CREDIT_EXHAUSTED: i64 = 7;

impl Ledger {
    /// Connects.
    #[track_caller]
    pub(crate) fn open(url: &str) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let connection = runtime.block_on(Database::connect(url)).expect("the database opens");
        Self { runtime, connection }
    }

    /// Rows of a query.
    #[track_caller]
    pub(crate) fn rows(&self, sql: &str) -> Vec<QueryResult> {
        self.try_rows(sql).expect("the query runs")
    }

    /// Rows of a query, while the database may be down.
    ///
    /// # Errors
    /// What the database says.
    pub(crate) fn try_rows(&self, sql: &str) -> Result<Vec<QueryResult>, DbErr> {
        let statement = Statement::from_string(self.connection.get_database_backend(), sql);
        self.runtime.block_on(self.connection.query_all_raw(statement))
    }

    /// How the database writes an id.
    fn id(&self, id: &str) -> String {
        match self.connection.get_database_backend() {
            DbBackend::Sqlite => format!("x'{}'", id.replace('-', "")),
            _ => format!("'{id}'"),
        }
    }

    /// Lets nobody else write to an SQLite database until [`Ledger::let_write`].
    #[track_caller]
    pub(crate) fn keep_from_writing(&self) {
        self.run("BEGIN IMMEDIATE");
    }

    /// See [`Ledger::keep_from_writing`].
    #[track_caller]
    pub(crate) fn let_write(&self) {
        self.run("ROLLBACK");
    }

    #[track_caller]
    fn run(&self, sql: &str) {
        let done = self.runtime.block_on(self.connection.execute_unprepared(sql));
        done.expect("the statement runs");
    }

    /// The wallet of an account.
    #[track_caller]
    pub(crate) fn wallet(&self, account: &Account) -> Wallet {
        let id = self.id(&account.id);
        let sql = format!(
            "SELECT credits, debits, leased FROM ledger_account WHERE kind = 1 AND owner_id = {id}"
        );
        let rows = self.rows(&sql);
        let row = rows.first().expect("the account has a wallet");
        let number = |name: &str| row.try_get::<i64>("", name).expect("a number");
        Wallet { credits: number("credits"), debits: number("debits"), leased: number("leased") }
    }

    /// All holds of an account, oldest first, with their usage.
    #[track_caller]
    pub(crate) fn holds(&self, account: &Account) -> Vec<Row> {
        let id = self.id(&account.id);
        let sql = format!(
            "SELECT CAST(hold.state AS BIGINT) AS state, hold.amount AS amount, \
             hold.checkpoint AS checkpoint, hold.cost AS cost, hold.model AS model, \
             CAST(COALESCE(used.in_uncached + used.in_cache_read + used.in_cache_write_5m \
               + used.in_cache_write_1h, 0) AS BIGINT) AS input, \
             CAST(COALESCE(used.out_text + used.out_reasoning, 0) AS BIGINT) AS output, \
             CAST(used.usage_source AS BIGINT) AS basis, CAST(used.finish AS BIGINT) AS finish \
             FROM ledger_hold hold LEFT JOIN ledger_usage used ON used.hold_id = hold.id \
             WHERE hold.account_id = {id} ORDER BY hold.id"
        );
        self.rows(&sql).iter().map(row).collect()
    }

    /// Waits until the account has `count` holds and none is open.
    #[track_caller]
    pub(crate) fn wait_resolved(&self, account: &Account, count: usize) -> Vec<Row> {
        self.wait_resolved_within(account, count, BOUND)
    }

    /// Waits until the account has `count` open holds.
    #[track_caller]
    pub(crate) fn wait_open(&self, account: &Account, count: usize) {
        wait_for(&format!("{count} open holds"), BOUND, || {
            let open = self.holds(account).iter().filter(|row| row.state == OPEN).count();
            (open == count).then_some(())
        });
    }

    /// As [`Ledger::wait_resolved`], with a bound of the test's own.
    #[track_caller]
    pub(crate) fn wait_resolved_within(
        &self,
        account: &Account,
        count: usize,
        bound: Duration,
    ) -> Vec<Row> {
        wait_for(&format!("{count} resolved holds"), bound, || {
            let rows = self.holds(account);
            (rows.len() == count && rows.iter().all(|row| row.state != OPEN)).then_some(rows)
        })
    }
}

#[track_caller]
fn row(row: &QueryResult) -> Row {
    let number = |name: &str| row.try_get::<i64>("", name).expect("a number");
    let maybe = |name: &str| row.try_get::<Option<i64>>("", name).expect("a number or null");
    Row {
        state: number("state"),
        amount: number("amount"),
        checkpoint: number("checkpoint"),
        cost: maybe("cost"),
        model: row.try_get("", "model").expect("a text"),
        input: number("input"),
        output: number("output"),
        basis: maybe("basis"),
        finish: maybe("finish"),
    }
}
