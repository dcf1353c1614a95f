//! The handle: connections, the runtime that they live on, and how work gets there.

use std::{
    fmt,
    future::Future,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use migration::{Migrator, MigratorTrait, sqlite_file::SqliteLock};
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DbBackend, DbErr, IsolationLevel, RuntimeErr, Statement,
    Value,
};
use secrecy::{ExposeSecret, SecretString};
use tokio::runtime::{Builder, Runtime};

use super::{StorageError, ledger::sqlite_flush::FlushThread, postgres, sqlite};

/// Which database.
#[derive(Clone)]
pub enum DatabaseUrl {
    /// An SQLite file (made when it does not exist).
    Sqlite(PathBuf),
    /// A `postgres://` URL, password included.
    Postgres(SecretString),
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "Sqlite({})", path.display()),
            Self::Postgres(_) => f.write_str("Postgres([REDACTED])"),
        }
    }
}

/// What the handle is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DbRole {
    /// Serves requests. On SQLite it owns the file.
    Server,
    /// One administrative command. On SQLite it owns the file while it runs.
    Admin,
    /// Only reads, beside whoever owns the file. Never migrates.
    ReadOnly,
}

/// How to open the database.
#[derive(Debug, Clone)]
pub struct DbOptions {
    /// Which one.
    pub url: DatabaseUrl,
    /// Connections at most (PostgreSQL; SQLite has one writer and at most 4 readers).
    pub connections_max: u32,
    /// Longest wait for a connection, ms.
    pub acquire_timeout_ms: u64,
    /// Longest wait for what a request reads, ms; the wait for a connection is part of it.
    pub read_timeout_ms: u64,
    /// Whether pending migrations are applied; otherwise they are an error.
    pub migrate: bool,
    /// What for.
    pub role: DbRole,
}

/// The database. Cheap to clone; all clones share connections and threads.
///
/// # Cancel safety
/// Work given to it runs to its end on its own threads, whether or not the caller still waits.
#[derive(Clone)]
pub struct Db {
    inner: Arc<Inner>,
}

struct Inner {
    /// `None` when the role is [`DbRole::ReadOnly`].
    writer: Option<DatabaseConnection>,
    reader: DatabaseConnection,
    backend: DbBackend,
    isolation: Option<IsolationLevel>,
    /// SQLite's second writing connection, of a server only.
    flush: Mutex<Option<FlushThread>>,
    read_timeout: Duration,
    runtime: DbRuntime,
    /// Declared last: it must outlive the connections.
    _lock: Option<SqliteLock>,
}

/// What a database's own module hands back.
pub(super) struct Connections {
    /// `None` when the role is [`DbRole::ReadOnly`].
    pub(super) writer: Option<DatabaseConnection>,
    pub(super) reader: DatabaseConnection,
    pub(super) backend: DbBackend,
    /// Asked for at each `BEGIN`, when the database's own default is another one.
    pub(super) isolation: Option<IsolationLevel>,
    pub(super) lock: Option<SqliteLock>,
}

/// A runtime that may be dropped anywhere, inside another runtime too.
struct DbRuntime(Option<Runtime>);

impl Drop for DbRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl DbRuntime {
    fn start() -> Result<Self, std::io::Error> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("faces-db")
            .enable_all()
            .build()?;
        Ok(Self(Some(runtime)))
    }

    async fn run<T, F>(&self, what: &'static str, work: F) -> Result<T, StorageError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StorageError>> + Send + 'static,
    {
        let Some(runtime) = &self.0 else {
            return Err(StorageError::Unavailable { what, source: None });
        };
        match runtime.spawn(work).await {
            Ok(result) => result,
            Err(error) if error.is_panic() => Err(StorageError::Bug { what, source: None }),
            Err(_) => Err(StorageError::Unavailable { what, source: None }),
        }
    }
}

impl Db {
    /// Opens the database: makes the SQLite file, takes its lock, connects, reads the settings
    /// back and brings the schema up to date.
    ///
    /// # Errors
    /// [`StorageError::Locked`], [`StorageError::File`], [`StorageError::UnsafeSetting`],
    /// [`StorageError::Migration`], [`StorageError::Outdated`] or [`StorageError::Unavailable`];
    /// each message tells the fix.
    pub async fn open(options: DbOptions) -> Result<Self, StorageError> {
        let runtime = DbRuntime::start().map_err(|error| StorageError::Unavailable {
            what: "starting its threads",
            source: Some(DbErr::Conn(RuntimeErr::Internal(error.to_string()))),
        })?;
        let read_timeout = Duration::from_millis(options.read_timeout_ms);
        let opened = runtime.run("open", async move {
            let connections = match &options.url {
                DatabaseUrl::Sqlite(path) => sqlite::connect(path, &options).await?,
                DatabaseUrl::Postgres(url) => {
                    postgres::connect(url.expose_secret(), &options).await?
                }
            };
            bring_up_to_date(&connections, options.migrate).await?;
            let flush = match &options.url {
                DatabaseUrl::Sqlite(path) if options.role == DbRole::Server => {
                    Some(FlushThread::start(path)?)
                }
                DatabaseUrl::Sqlite(_) | DatabaseUrl::Postgres(_) => None,
            };
            Ok((connections, flush))
        });
        let (connections, flush) = opened.await?;
        let Connections { writer, reader, backend, isolation, lock } = connections;
        let flush = Mutex::new(flush);
        Ok(Self {
            inner: Arc::new(Inner {
                writer,
                reader,
                backend,
                isolation,
                flush,
                read_timeout,
                runtime,
                _lock: lock,
            }),
        })
    }

    /// Closes every connection after its running statement (on SQLite this folds the WAL into the
    /// file). Later calls of any clone answer [`StorageError::Unavailable`].
    ///
    /// # Errors
    /// Only when the threads are gone already.
    pub async fn close(&self) -> Result<(), StorageError> {
        self.run("close", |db| async move {
            let inner = &db.inner;
            // Ends its thread after the job it has.
            drop(inner.flush.lock().unwrap_or_else(PoisonError::into_inner).take());
            inner.reader.close_by_ref().await.map_err(StorageError::on("close"))?;
            if let Some(writer) = &inner.writer {
                writer.close_by_ref().await.map_err(StorageError::on("close"))?;
            }
            Ok(())
        })
        .await
    }

    /// Uses the ledger's own connection, if this handle has one.
    pub(super) fn flush_thread<T>(&self, job: impl FnOnce(&FlushThread) -> T) -> Option<T> {
        let flush = self.inner.flush.lock().unwrap_or_else(PoisonError::into_inner);
        flush.as_ref().map(job)
    }

    /// Asks the database for an answer: what a readiness probe needs to know.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`].
    pub async fn ping(&self) -> Result<(), StorageError> {
        self.read("ping", |db| async move {
            let asked = db.reader().query_one_raw(db.statement("SELECT 1", [])).await;
            asked.map_err(StorageError::on("ping")).map(drop)
        })
        .await
    }

    /// Whether this is SQLite (else it is PostgreSQL).
    #[must_use]
    pub fn is_sqlite(&self) -> bool {
        self.inner.backend == DbBackend::Sqlite
    }

    /// Runs `work` on the room's own threads and waits for it. Everything that touches a
    /// connection goes through here.
    ///
    /// # Cancel safety
    /// Dropping the future does not stop the work.
    pub(crate) async fn run<T, F, W>(&self, what: &'static str, work: W) -> Result<T, StorageError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StorageError>> + Send + 'static,
        W: FnOnce(Self) -> F,
    {
        self.inner.runtime.run(what, work(self.clone())).await
    }

    /// As [`Db::run`], for what a request needs to know before it can go on: gives up after
    /// `read_timeout_ms`, because a connection whose other side was cut off says nothing at all.
    /// On PostgreSQL its connection gets as long again to answer, and is closed when it does not;
    /// so one that stands still is used once at most. Only for work that may end at any statement.
    ///
    /// # Errors
    /// Also [`StorageError::Unavailable`], when the time is over.
    ///
    /// # Cancel safety
    /// Dropping the future does not stop the work.
    pub(crate) async fn read<T, F, W>(&self, what: &'static str, work: W) -> Result<T, StorageError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StorageError>> + Send + 'static,
        W: FnOnce(Self) -> F,
    {
        let limit = self.inner.read_timeout;
        let work = work(self.clone());
        let bounded = async move {
            let in_time = tokio::time::timeout(limit, work).await;
            in_time.unwrap_or(Err(StorageError::Unavailable { what, source: None }))
        };
        self.inner.runtime.run(what, bounded).await
    }

    /// For statements that only read: a read-only connection on SQLite, any on PostgreSQL. Sees
    /// every commit that was acknowledged before.
    pub(crate) fn reader(&self) -> &DatabaseConnection {
        &self.inner.reader
    }

    /// For statements that write: on SQLite the one writing connection beside the ledger's, on
    /// PostgreSQL any.
    pub(crate) fn writer(&self, what: &'static str) -> Result<&DatabaseConnection, StorageError> {
        self.inner.writer.as_ref().ok_or(StorageError::ReadOnly { what })
    }

    /// The dialect.
    pub(crate) fn backend(&self) -> DbBackend {
        self.inner.backend
    }

    /// A raw statement. Both databases read `$1`, `$2`, ….
    pub(crate) fn statement(
        &self,
        sql: &str,
        values: impl IntoIterator<Item = Value>,
    ) -> Statement {
        Statement::from_sql_and_values(self.backend(), sql, values)
    }

    pub(super) fn isolation(&self) -> Option<IsolationLevel> {
        self.inner.isolation
    }
}

impl fmt::Debug for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Db").field("backend", &self.inner.backend).finish_non_exhaustive()
    }
}

/// Applies pending migrations, or refuses a schema that is not this program's.
///
/// Several servers may start at once on PostgreSQL: the one that loses the race over a migration
/// looks again, and only fails when there still is something to do.
async fn bring_up_to_date(connections: &Connections, migrate: bool) -> Result<(), StorageError> {
    const RACES_MAX: u32 = 20;
    let mut races = 0;
    let writer = match &connections.writer {
        Some(writer) if migrate => writer,
        _ => {
            let pending = Migrator::get_pending_migrations_read_only(&connections.reader)
                .await
                .map_err(StorageError::Migration)?;
            return match pending.len() {
                0 => Ok(()),
                count => Err(StorageError::Outdated { count }),
            };
        }
    };
    loop {
        match Migrator::up(writer, None).await {
            Ok(()) => return Ok(()),
            Err(error) if connections.backend == DbBackend::Sqlite || races == RACES_MAX => {
                return Err(StorageError::Migration(error));
            }
            Err(error) => {
                races += 1;
                log::info!("applying migrations again, somebody else may be at it: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Names the file in an error of the operating system.
pub(super) fn file_error(path: &Path) -> impl Fn(std::io::Error) -> StorageError + '_ {
    move |source| StorageError::File { path: path.to_owned(), source }
}
