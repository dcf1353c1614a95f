//! A database connection that stands still: in the middle of a flush, holding locks, and under a
//! request that reads.

use std::time::{Duration, Instant};

use faces::storage::{DatabaseUrl, Db, DbOptions, DbRole};
use sea_orm::{ConnectionTrait as _, Database, DbBackend, Statement, TransactionTrait as _};

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
/// Requests at the same time, more than [`CONNECTIONS_MAX`].
const REQUESTS: usize = 5;
/// So few that none is left when each is used once.
const CONNECTIONS_MAX: &str = "3";
/// Much more than what is read may take, and less than everything else that might end the wait.
const REFUSED_WITHIN: Duration = Duration::from_secs(4);

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

#[test]
fn what_gets_no_answer_from_the_database_is_refused_in_time() {
    let cluster = match postgres::own_cluster() {
        Ok(cluster) => cluster,
        Err(why) => return postgres::skipped(&why),
    };
    let database = cluster.database();
    let relay = Proxy::start(Target::Unix(cluster.socket()));
    let exchange = openai::json_exchange("x", 1, u64::from(OUTPUT_TOKENS));
    let upstream = Upstream::start([exchange.any_times()]);
    let server = TestServer::builder()
        .with_postgres(&database.url_through(relay.address()))
        .with_upstream(&upstream)
        // Each request asks for its key.
        .env("FACES_CACHE_TTL_MS", "0")
        .env("FACES_DB_READ_TIMEOUT_MS", "1000")
        .env("FACES_DB_CONNECTIONS_MAX", CONNECTIONS_MAX)
        .start();
    let account = server.account();
    let ask = || request(&account, false).send(server.address());
    assert_eq!(ask().answer().fetch().status, 200);

    relay.freeze();
    let began = Instant::now();
    let sent: Vec<_> = (0..REQUESTS).map(|_| ask()).collect();
    for sent in sent {
        let answer = sent.answer().fetch();
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert!(answer.header("retry-after").is_some(), "{}", answer.text());
    }
    assert!(began.elapsed() < REFUSED_WITHIN, "refused after {:?}", began.elapsed());
    relay.thaw();
    // No connection is lost, and none is in a state that somebody else would see.
    wait_for("the database to be used again", BOUND, || {
        (ask().answer().fetch().status == 200).then_some(())
    });
    let all: Vec<_> = (0..REQUESTS).map(|_| ask()).collect();
    assert!(all.into_iter().all(|sent| sent.answer().fetch().status == 200));
}

#[test]
fn a_connection_that_never_answers_again_gives_its_place_to_another() {
    const PLACES: u32 = 2;
    let cluster = match postgres::own_cluster() {
        Ok(cluster) => cluster,
        Err(why) => return postgres::skipped(&why),
    };
    let database = cluster.database();
    let relay = Proxy::start(Target::Unix(cluster.socket()));
    let options = DbOptions {
        url: DatabaseUrl::Postgres(database.url_through(relay.address()).into()),
        connections_max: PLACES,
        acquire_timeout_ms: 500,
        read_timeout_ms: 200,
        migrate: true,
        role: DbRole::Server,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let db = runtime.block_on(Db::open(options)).expect("the database opens");
    let all_answer = || {
        let asked = || runtime.block_on(async { tokio::join!(db.ping(), db.ping(), db.ping()) });
        let (first, second, third) = asked();
        (first.is_ok() && second.is_ok() && third.is_ok()).then_some(())
    };
    wait_for("all connections", BOUND, all_answer);
    // The pool asks a connection that comes back once more itself, and waits for that answer as
    // long as the socket lives: not what is tested here.
    let watcher = runtime.block_on(Database::connect(&database.url)).expect("the database opens");
    let busy = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'faces' \
                AND datname = current_database() \
                AND (state <> 'idle' OR state_change > clock_timestamp() - interval '250 ms')";
    let busy = Statement::from_string(DbBackend::Postgres, busy);
    wait_for("idle connections", BOUND, || {
        let found = runtime.block_on(watcher.query_one_raw(busy.clone()));
        found.expect("the sessions are listed").is_none().then_some(())
    });
    relay.silence();
    wait_for("new connections", BOUND, all_answer);
}
