//! A fresh, migrated database for each test, on SQLite and on PostgreSQL.
//!
//! A test is an `async fn name(store: TestStore)`; [`on_both_databases!`] at the end of its file
//! makes `sqlite::name` and `postgres::name` of it. The second is skipped, with a line that says
//! so, when there is no PostgreSQL (see `postgres.rs`).

use std::{future::Future, time::Duration};

use faces::storage::{DatabaseUrl, Db, DbOptions, DbRole};
use sea_orm::{ConnectOptions, Database, DatabaseConnection};
use tempfile::TempDir;

use crate::postgres::{self, TestDatabase};

/// A database of one test.
pub(crate) struct TestStore {
    /// Opened as a server, schema up to date.
    pub(crate) db: Db,
    options: DbOptions,
    /// A URL for tools that are not ours.
    url: String,
    _directory: Option<TempDir>,
    _database: Option<TestDatabase>,
}

impl TestStore {
    /// How `db` was opened; change it and open the database once more.
    pub(crate) fn options(&self) -> DbOptions {
        self.options.clone()
    }

    /// Gives up `db`, so that the database can be opened as its owner again. Keep the answer: the
    /// database is deleted with it.
    pub(crate) async fn release(self) -> impl Sized {
        self.db.close().await.unwrap();
        (self._directory, self._database)
    }

    /// A connection past the server's code, to look at (or spoil) what it wrote.
    pub(crate) async fn raw(&self) -> DatabaseConnection {
        connect(&self.url).await
    }
}

/// A connection past the server's code.
pub(crate) async fn connect(url: &str) -> DatabaseConnection {
    let mut options = ConnectOptions::new(url);
    options.max_connections(1);
    Database::connect(options).await.unwrap()
}

/// Options of a server on `url`, with small limits.
pub(crate) fn server(url: DatabaseUrl) -> DbOptions {
    DbOptions {
        url,
        connections_max: 8,
        acquire_timeout_ms: 10_000,
        read_timeout_ms: 10_000,
        migrate: true,
        role: DbRole::Server,
    }
}

/// Runs a test on a new SQLite file.
pub(crate) fn run_on_sqlite<F: Future<Output = ()>>(test: fn(TestStore) -> F) {
    block_on(async move {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("faces.db");
        let url = format!("sqlite://{}", path.display());
        let options = server(DatabaseUrl::Sqlite(path));
        let db = Db::open(options.clone()).await.unwrap();
        test(TestStore { db, options, url, _directory: Some(directory), _database: None }).await;
    });
}

/// Runs a test on a new PostgreSQL database, or says why not.
pub(crate) fn run_on_postgres<F: Future<Output = ()>>(test: fn(TestStore) -> F) {
    let cluster = match postgres::cluster() {
        Ok(cluster) => cluster,
        Err(why) => return postgres::skipped(why),
    };
    block_on(async move {
        let database = cluster.create_database().await;
        let url = database.url.clone();
        let options = server(DatabaseUrl::Postgres(url.clone().into()));
        let db = Db::open(options.clone()).await.unwrap();
        test(TestStore { db, options, url, _directory: None, _database: Some(database) }).await;
    });
}

/// Drives one test, at most a minute.
pub(crate) fn block_on(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), test).await }).unwrap();
}

/// Makes the tests `sqlite::…` and `postgres::…` of functions `async fn(TestStore)`.
#[macro_export]
macro_rules! on_both_databases {
    ($($test:ident,)+) => {
        mod sqlite {
            $(#[test] fn $test() { $crate::store::run_on_sqlite(super::$test); })+
        }
        mod postgres {
            $(#[test] fn $test() { $crate::store::run_on_postgres(super::$test); })+
        }
    };
}
