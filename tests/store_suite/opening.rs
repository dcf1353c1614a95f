//! What is checked before a database is used, and who may use it.

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use ::faces::{
    domain::{AccountId, NanoUsd},
    storage::{DatabaseUrl, Db, DbOptions, DbRole, StorageError, accounts},
};
use futures_util::FutureExt;
use migration::{Migrator, MigratorTrait, sqlite_file};
use sea_orm::{ConnectionTrait, Statement};

use crate::{
    accounts::some_account,
    on_both_databases,
    store::{TestStore, block_on, connect, server},
};

/// Tells a copy of this program which database to own.
const OWN: &str = "FACES_TEST_OWN_DATABASE";

async fn a_reader_sees_what_was_written_and_can_not_write(store: TestStore) {
    let id = some_account(&store.db).await;
    let options = DbOptions { role: DbRole::ReadOnly, ..store.options() };
    let reader = Db::open(options).await.unwrap();
    assert!(accounts::find_account(&reader, id).await.unwrap().is_some());
    let frozen = accounts::set_frozen(&reader, id, true).await;
    assert!(matches!(frozen, Err(StorageError::ReadOnly { .. })), "{frozen:?}");
    assert!(!accounts::read_account_row(&store.db, id).await.unwrap().unwrap().is_blocked());
}

async fn everything_is_still_there_after_a_restart(store: TestStore) {
    let id = some_account(&store.db).await;
    store.db.close().await.unwrap();
    let closed = store.db.ping().await;
    assert!(matches!(closed, Err(StorageError::Unavailable { .. })), "{closed:?}");

    let options = store.options();
    let _kept = store.release().await;
    let db = Db::open(options).await.unwrap();
    db.ping().await.unwrap();
    assert!(accounts::find_account(&db, id).await.unwrap().is_some());
}

async fn a_schema_that_is_behind_is_refused_where_it_must_not_be_changed(store: TestStore) {
    let raw = store.raw().await;
    Migrator::down(&raw, Some(1)).await.unwrap();
    let options = store.options();
    let _kept = store.release().await;
    let opened = Db::open(DbOptions { migrate: false, ..options.clone() }).await;
    assert!(matches!(opened, Err(StorageError::Outdated { count: 1 })), "{opened:?}");
    let opened = Db::open(DbOptions { role: DbRole::ReadOnly, ..options.clone() }).await;
    assert!(matches!(opened, Err(StorageError::Outdated { count: 1 })), "{opened:?}");
    Db::open(options).await.unwrap();
}

async fn a_schema_from_the_future_is_refused(store: TestStore) {
    let raw = store.raw().await;
    let future =
        "INSERT INTO seaql_migrations (version, applied_at) VALUES ('m29991231_000001_x', 0)";
    raw.execute_unprepared(future).await.unwrap();
    let options = store.options();
    let _kept = store.release().await;
    let opened = Db::open(options).await;
    assert!(matches!(opened, Err(StorageError::Migration(_))), "{opened:?}");
}

async fn the_database_refuses_what_an_invariant_forbids(store: TestStore) {
    let id = some_account(&store.db).await;
    let raw = store.raw().await;
    let backend = raw.get_database_backend();
    for change in ["debits = 1", "leased = 1", "credits = -1", "overdraft_limit = -1"] {
        let sql = format!("UPDATE ledger_account SET {change} WHERE id = $1");
        let statement = Statement::from_sql_and_values(backend, sql, [id.0.into()]);
        let changed = raw.execute_raw(statement).await;
        assert!(changed.is_err(), "{change}");
    }
}

on_both_databases! {
    a_reader_sees_what_was_written_and_can_not_write,
    everything_is_still_there_after_a_restart,
    a_schema_that_is_behind_is_refused_where_it_must_not_be_changed,
    a_schema_from_the_future_is_refused,
    the_database_refuses_what_an_invariant_forbids,
}

/// Tests on PostgreSQL alone; their names end up beside the others'.
mod postgres_only {
    use futures_util::future::join_all;

    use super::*;
    use crate::{postgres, store::run_on_postgres};

    #[test]
    fn servers_that_start_at_once_on_an_empty_database_all_come_up() {
        let cluster = match postgres::cluster() {
            Ok(cluster) => cluster,
            Err(why) => return postgres::skipped(why),
        };
        block_on(async {
            let database = cluster.create_database().await;
            let mut options = server(DatabaseUrl::Postgres(database.url.clone().into()));
            options.connections_max = 2;
            let opened = join_all((0..6).map(|_| Db::open(options.clone()))).await;
            let servers: Vec<_> = opened.into_iter().map(Result::unwrap).collect();
            let id = some_account(&servers[0]).await;
            for db in &servers {
                assert!(accounts::find_account(db, id).await.unwrap().is_some());
            }
        });
    }

    #[test]
    fn a_server_that_forgets_acknowledged_commits_is_refused() {
        run_on_postgres(|store| async move {
            configure(&store, "synchronous_commit = off").await;
            let options = store.options();
            let _kept = store.release().await;
            let error = Db::open(options).await.unwrap_err();
            assert!(matches!(error, StorageError::UnsafeSetting { .. }), "{error:?}");
            assert!(error.to_string().contains("SET synchronous_commit = on"), "{error}");
        });
    }

    #[test]
    fn another_default_isolation_does_not_make_concurrent_top_ups_fail() {
        run_on_postgres(|store| async move {
            configure(&store, "default_transaction_isolation = 'serializable'").await;
            let options = store.options();
            let id = some_account(&store.db).await;
            let _kept = store.release().await;
            let db = Db::open(options).await.unwrap();
            let references: Vec<_> = (0..32).map(|number| format!("{}", number / 2)).collect();
            let sent = references.iter().map(|text| accounts::top_up(&db, id, NanoUsd(1), text));
            for answer in join_all(sent).await {
                answer.unwrap();
            }
            let row = accounts::read_account_row(&db, id).await.unwrap().unwrap();
            assert_eq!(row.credits, NanoUsd(16));
        });
    }

    #[test]
    fn lost_connections_are_replaced_and_meanwhile_it_is_unavailable() {
        run_on_postgres(|store| async move {
            let id = some_account(&store.db).await;
            let raw = store.raw().await;
            let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                       WHERE datname = current_database() AND pid <> pg_backend_pid()";
            raw.execute_unprepared(cut).await.unwrap();
            let deadline = Instant::now() + Duration::from_secs(20);
            while let Err(error) = accounts::top_up(&store.db, id, NanoUsd(5), "invoice").await {
                assert!(matches!(error, StorageError::Unavailable { .. }), "{error:?}");
                assert!(Instant::now() < deadline, "{error}");
            }
            let row = accounts::read_account_row(&store.db, id).await.unwrap().unwrap();
            assert_eq!(row.credits, NanoUsd(5));
        });
    }

    /// A setting for the connections that come after this one.
    async fn configure(store: &TestStore, setting: &str) {
        let sql = format!(
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET {}', \
                           current_database()); END $$",
            setting.replace('\'', "''")
        );
        store.raw().await.execute_unprepared(&sql).await.unwrap();
    }
}

fn options_of(path: &Path) -> DbOptions {
    server(DatabaseUrl::Sqlite(path.to_owned()))
}

#[cfg(unix)]
#[test]
fn an_sqlite_file_is_made_with_its_directories_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;

    block_on(async {
        let directory = tempfile::tempdir().unwrap();
        // Characters that would mean something in a URL.
        let data = directory.path().join("da ta?x#%20/deep");
        let path = data.join("faces.db");
        let db = Db::open(options_of(&path)).await.unwrap();
        some_account(&db).await;
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&data), 0o700);
        for name in ["faces.db", "faces.db-wal", "faces.db.lock"] {
            assert_eq!(mode(&data.join(name)), 0o600, "{name}");
        }
    });
}

#[test]
fn what_durability_needs_is_in_the_file_itself() {
    block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("faces.db");
        let db = Db::open(options_of(&path)).await.unwrap();
        let raw = connect(&format!("sqlite://{}", path.display())).await;
        let statement = Statement::from_string(raw.get_database_backend(), "PRAGMA journal_mode");
        let row = raw.query_one_raw(statement).await.unwrap().unwrap();
        assert_eq!(row.try_get_by_index::<String>(0).unwrap(), "wal");
        db.close().await.unwrap();
    });
}

#[test]
fn a_path_that_can_not_be_a_database_is_refused_with_its_name() {
    block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, "not a directory").unwrap();
        let below = Db::open(options_of(&file.join("faces.db"))).await;
        assert!(matches!(below, Err(StorageError::File { .. })), "{below:?}");
        let garbage = Db::open(options_of(&file)).await;
        assert!(garbage.is_err(), "a text file is not a database");

        let missing = directory.path().join("none.db");
        let options = DbOptions { role: DbRole::ReadOnly, ..options_of(&missing) };
        let opened = Db::open(options).await;
        assert!(matches!(opened, Err(StorageError::File { .. })), "{opened:?}");
        assert!(!missing.exists(), "reading makes nothing");
    });
}

#[test]
fn an_unreachable_postgres_is_unavailable_and_its_password_stays_secret() {
    block_on(async {
        let url = "postgres://faces:hunter2@127.0.0.1:1/faces".to_owned();
        let mut options = server(DatabaseUrl::Postgres(url.into()));
        options.acquire_timeout_ms = 100;
        let shown = format!("{options:?}");
        let error = Db::open(options).await.unwrap_err();
        assert!(matches!(error, StorageError::Unavailable { .. }), "{error:?}");
        assert!(!format!("{shown} {error} {error:?}").contains("hunter2"));
    });
}

#[test]
fn a_second_owner_is_refused_until_the_first_is_gone_however_it_goes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("faces.db");
    let mut owner = OtherProcess::own(&path);
    block_on(async {
        for role in [DbRole::Server, DbRole::Admin] {
            let error = Db::open(DbOptions { role, ..options_of(&path) }).await.unwrap_err();
            assert!(matches!(error, StorageError::Locked { .. }), "{error:?}");
            let text = error.to_string();
            let named = format!(
                "process {} uses the database {}: stop it",
                owner.child.id(),
                path.display()
            );
            assert!(text.starts_with(&named), "{text}");
        }
        let options = DbOptions { role: DbRole::ReadOnly, ..options_of(&path) };
        let reader = Db::open(options).await.unwrap();
        assert_eq!(accounts::count_accounts(&reader).await.unwrap(), 1);
    });
    // No chance to tidy up.
    owner.child.kill().unwrap();
    owner.child.wait().unwrap();
    assert!(sqlite_file::lock_path(&path).exists());
    block_on(async {
        let options = DbOptions { role: DbRole::ReadOnly, ..options_of(&path) };
        let reader = Db::open(options).await.unwrap();
        assert_eq!(accounts::count_accounts(&reader).await.unwrap(), 1, "a commit survives a kill");
        let db = Db::open(options_of(&path)).await.unwrap();
        assert_eq!(accounts::count_accounts(&db).await.unwrap(), 1);
    });
}

#[test]
fn an_owner_that_ends_gives_the_database_free_within_the_same_process_too() {
    block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("faces.db");
        let first = Db::open(options_of(&path)).await.unwrap();
        let second = Db::open(options_of(&path)).await;
        assert!(matches!(second, Err(StorageError::Locked { .. })), "{second:?}");
        drop(first);
        let deadline = Instant::now() + Duration::from_secs(20);
        while let Err(error) = Db::open(options_of(&path)).await {
            assert!(Instant::now() < deadline, "{error}");
        }
    });
}

#[test]
fn work_runs_to_its_end_when_its_caller_and_the_last_handle_are_gone() {
    block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("faces.db");
        let db = Db::open(options_of(&path)).await.unwrap();
        let id = some_account(&db).await;
        let asked = accounts::top_up(&db, id, NanoUsd(5), "invoice");
        // Polled once, then dropped.
        let _ = asked.now_or_never();
        drop(db);

        let deadline = Instant::now() + Duration::from_secs(20);
        let db = loop {
            match Db::open(options_of(&path)).await {
                Ok(db) => break db,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
        };
        let row = accounts::read_account_row(&db, id).await.unwrap().unwrap();
        assert_eq!(row.credits, NanoUsd(5));
    });
}

/// This program once more, as the owner of a database.
struct OtherProcess {
    child: Child,
}

impl OtherProcess {
    /// Starts it and waits until it owns the database.
    fn own(path: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "opening::owns_the_database_that_it_is_told_to_own", "--nocapture"])
            .env(OWN, path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().ends_with("owned")), "it never owned the database");
        Self { child }
    }
}

impl Drop for OtherProcess {
    fn drop(&mut self) {
        // It is gone already when the test got that far.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The other process; in the first one it only shows that nobody owns nothing.
#[test]
fn owns_the_database_that_it_is_told_to_own() {
    #[expect(
        clippy::disallowed_methods,
        reason = "the child process learns its role from its parent"
    )]
    let Some(path) = std::env::var_os(OWN).map(PathBuf::from) else { return };
    block_on(async {
        let db = Db::open(options_of(&path)).await.unwrap();
        let id: AccountId = some_account(&db).await;
        println!("{id} owned");
        std::io::stdout().flush().unwrap();
        // Until the other end kills this process, or is gone itself.
        std::io::stdin().lines().for_each(drop);
    });
}
