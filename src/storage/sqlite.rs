//! SQLite: one writing connection, a few that only read, and settings that are read back. (A
//! server's ledger has another one: `ledger/sqlite_flush.rs`.)

use std::{path::Path, time::Duration};

use log::LevelFilter;
use migration::sqlite_file::{self, SqliteLock, SqliteLockError};
use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbBackend, Statement,
    sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};

use super::{
    StorageError,
    db::{Connections, DbOptions, DbRole, file_error},
};

/// Readers share the file's cache of the operating system; more of them only cost memory.
const READERS_MAX: u32 = 4;
/// Only a backup program or a shell can make the writer wait: nobody else may write.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// The WAL file is cut back to this after a checkpoint, bytes.
const WAL_BYTES_KEPT_MAX: &str = "67108864";
/// A statement that takes longer is logged.
const SLOW_STATEMENT: Duration = Duration::from_secs(1);
/// Versions before can corrupt a database in WAL mode when two connections write or checkpoint at
/// once. Source: sqlite.org/wal.html, "the WAL-reset bug", fixed in 3.51.3.
const VERSION_MIN: (u32, u32, u32) = (3, 51, 3);

/// Makes the file, takes its lock (unless only reading) and connects.
pub(super) async fn connect(path: &Path, options: &DbOptions) -> Result<Connections, StorageError> {
    let lock = match options.role {
        DbRole::ReadOnly => None,
        DbRole::Server | DbRole::Admin => Some(own(path)?),
    };
    let writer = match options.role {
        DbRole::ReadOnly => None,
        DbRole::Server | DbRole::Admin => {
            let writer = open(path, options, Access::Write).await?;
            verify_writer(&writer).await?;
            Some(writer)
        }
    };
    if !path.exists() {
        return Err(file_error(path)(std::io::ErrorKind::NotFound.into()));
    }
    let reader = open(path, options, Access::Read).await?;
    verify_version(&reader).await?;
    Ok(Connections { writer, reader, backend: DbBackend::Sqlite, isolation: None, lock })
}

fn own(path: &Path) -> Result<SqliteLock, StorageError> {
    sqlite_file::create(path).map_err(file_error(path))?;
    SqliteLock::take(path).map_err(|error| match error {
        SqliteLockError::Held { pid } => StorageError::Locked { path: path.to_owned(), pid },
        SqliteLockError::Io(source) => file_error(&sqlite_file::lock_path(path))(source),
    })
}

#[derive(Clone, Copy)]
enum Access {
    Read,
    Write,
}

async fn open(
    path: &Path,
    options: &DbOptions,
    access: Access,
) -> Result<DatabaseConnection, StorageError> {
    let connections_max = match access {
        Access::Write => 1,
        Access::Read => options.connections_max.saturating_sub(1).clamp(1, READERS_MAX),
    };
    // The path is set below: in a URL, some of its characters would have a meaning.
    let mut connect = ConnectOptions::new("sqlite://faces.db");
    connect
        .max_connections(connections_max)
        .min_connections(1)
        .acquire_timeout(Duration::from_millis(options.acquire_timeout_ms))
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .sqlx_logging_level(LevelFilter::Trace)
        .sqlx_slow_statements_logging_settings(LevelFilter::Warn, SLOW_STATEMENT);
    let path = path.to_owned();
    connect.map_sqlx_sqlite_opts(move |sqlite| configure(sqlite.filename(&path), access));
    Database::connect(connect).await.map_err(StorageError::on("SQLite connection"))
}

fn configure(sqlite: SqliteConnectOptions, access: Access) -> SqliteConnectOptions {
    let sqlite = sqlite
        .create_if_missing(false)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .pragma("trusted_schema", "OFF");
    match access {
        Access::Read => sqlite.read_only(true).pragma("query_only", "ON"),
        Access::Write => sqlite
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .pragma("journal_size_limit", WAL_BYTES_KEPT_MAX)
            // On macOS a plain fsync does not reach the disk; elsewhere these do nothing.
            .pragma("fullfsync", "ON")
            .pragma("checkpoint_fullfsync", "ON"),
    }
}

/// Refuses a writer on which a commit would not be durable or a reference would not be checked.
async fn verify_writer(writer: &DatabaseConnection) -> Result<(), StorageError> {
    const PRAGMAS: [(&str, &str, &str); 4] = [
        (
            "journal_mode",
            "wal",
            "`wal` (the file system must allow shared memory; not a network share)",
        ),
        ("synchronous", "2", "`2` (FULL)"),
        ("foreign_keys", "1", "`1`"),
        ("busy_timeout", "5000", "`5000`"),
    ];
    for (setting, expected, needed) in PRAGMAS {
        let found = read_text(writer, &format!("PRAGMA {setting}")).await?;
        if found != expected {
            return Err(StorageError::UnsafeSetting { setting, found, needed });
        }
    }
    Ok(())
}

async fn verify_version(connection: &DatabaseConnection) -> Result<(), StorageError> {
    let found = read_text(connection, "SELECT sqlite_version()").await?;
    let mut numbers = found.split('.').map(|part| part.parse::<u32>().unwrap_or_default());
    let mut next = || numbers.next().unwrap_or_default();
    if (next(), next(), next()) < VERSION_MIN {
        let needed = "`3.51.3` or later (older ones can corrupt a database in WAL mode)";
        return Err(StorageError::UnsafeSetting { setting: "sqlite_version", found, needed });
    }
    Ok(())
}

/// The first column of the only row, as text whatever its type is.
async fn read_text(connection: &DatabaseConnection, sql: &str) -> Result<String, StorageError> {
    let what = "SQLite settings";
    let statement = Statement::from_string(DbBackend::Sqlite, sql);
    let row = connection.query_one_raw(statement).await.map_err(StorageError::on(what))?;
    let row = row.ok_or(StorageError::Bug { what, source: None })?;
    match row.try_get_by_index::<String>(0) {
        Ok(text) => Ok(text),
        Err(_) => row
            .try_get_by_index::<i64>(0)
            .map(|number| number.to_string())
            .map_err(StorageError::on(what)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn plain(path: &Path, pragma: &'static str, value: &'static str) -> DatabaseConnection {
        let mut connect = ConnectOptions::new("sqlite://faces.db");
        connect.max_connections(1);
        let path = path.to_owned();
        connect.map_sqlx_sqlite_opts(move |sqlite| {
            let safe = configure(sqlite.filename(&path), Access::Write);
            safe.create_if_missing(true).pragma(pragma, value)
        });
        Database::connect(connect).await.unwrap()
    }

    #[tokio::test]
    async fn a_writer_that_would_forget_commits_is_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let unsafe_settings = [
            ("journal_mode", "DELETE", "delete"),
            ("synchronous", "NORMAL", "1"),
            ("foreign_keys", "OFF", "0"),
            ("busy_timeout", "0", "0"),
        ];
        for (pragma, value, expected) in unsafe_settings {
            let path = directory.path().join(format!("{pragma}.db"));
            let writer = plain(&path, pragma, value).await;
            match verify_writer(&writer).await {
                Err(StorageError::UnsafeSetting { setting, found, .. }) => {
                    assert_eq!((setting, found.as_str()), (pragma, expected));
                }
                other => panic!("{pragma}: {other:?}"),
            }
        }
        let writer = plain(&directory.path().join("safe.db"), "user_version", "1").await;
        verify_writer(&writer).await.unwrap();
    }
}
