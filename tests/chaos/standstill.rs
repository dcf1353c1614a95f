//! An instance that stands still in the middle of a flush, holding locks.

use std::time::Duration;

use sea_orm::{ConnectionTrait as _, Database, TransactionTrait as _};

use crate::{
    postgres,
    proxy::{Proxy, Target},
    support::{
        BOUND,
        credit::{OUTPUT_TOKENS, request},
        ledger::Ledger,
        replies::openai,
        server::TestServer,
        upstream::Upstream,
        wait_for,
    },
};

/// The instance is fenced after 10 s; by then its locks must be gone.
const FREE_WITHIN: Duration = Duration::from_secs(8);

#[test]
fn an_instance_that_is_cut_off_inside_a_flush_does_not_keep_its_locks() {
    let cluster = match postgres::own_cluster() {
        Ok(cluster) => cluster,
        Err(why) => return postgres::skipped(&why),
    };
    let database = cluster.database();
    let relay = Proxy::start(Target::Unix(cluster.socket()));
    let exchange = openai::json_exchange("x", 1, u64::from(OUTPUT_TOKENS));
    let upstream = Upstream::start([exchange.any_times()]);
    let url = database.url_through(relay.address());
    let server = TestServer::builder().with_postgres(&url).with_upstream(&upstream).start();
    let account = server.account();
    let ledger = Ledger::open(&database.url);

    // The flush has locked its instance's row and waits for the account's.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let lock = "SELECT id FROM ledger_account WHERE kind = 1 FOR UPDATE";
    let keeper = runtime.block_on(async {
        let keeper = Database::connect(&database.url).await.expect("the database opens");
        let keeper = keeper.begin().await.expect("a transaction");
        keeper.execute_unprepared(lock).await.expect("the account is locked");
        keeper
    });
    let sent = request(&account, false).send(server.address());
    let waiting = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'faces' \
                   AND datname = current_database() AND wait_event_type = 'Lock'";
    wait_for("the flush at the account's row", BOUND, || ledger.rows(waiting).pop());
    // It gets the lock, and never hears of it.
    relay.freeze();
    runtime.block_on(keeper.rollback()).expect("the account is free");
    wait_for("the locks of the instance that stands still", FREE_WITHIN, || {
        ledger.try_rows("SELECT id FROM ledger_instance FOR UPDATE NOWAIT").ok()
    });
    relay.thaw();
    // The flush was rolled back and is sent again.
    assert_eq!(sent.answer().fetch().status, 200);
}
