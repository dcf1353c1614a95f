//! PostgreSQL: one pool, and settings that are read back.

use std::{io::ErrorKind, str::FromStr, time::Duration};

use log::LevelFilter;
use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbBackend, DbErr,
    IsolationLevel, RuntimeErr, Statement,
    sqlx::{self, Connection as _, postgres::PgConnectOptions},
};

use super::{
    StorageError,
    db::{Connections, DbOptions, DbRole},
};

/// A connection that was idle for longer is asked whether it still lives before it is used.
const PING_AFTER_IDLE: Duration = Duration::from_secs(1);
/// A session that stands still for longer inside a transaction is ended, and with it its locks: an
/// instance that was stopped or cut off in the middle of a flush would else keep everybody from its
/// accounts, and from fencing it. Shorter than an instance's TTL.
const STANDSTILL_MAX: Duration = Duration::from_secs(3);
/// A statement that takes longer is logged.
const SLOW_STATEMENT: Duration = Duration::from_secs(1);

/// Connects. Reads and writes share one pool.
pub(super) async fn connect(url: &str, options: &DbOptions) -> Result<Connections, StorageError> {
    let parsed = PgConnectOptions::from_str(url)
        .map_err(|error| DbErr::Conn(RuntimeErr::SqlxError(error.into())))
        .map_err(StorageError::on("PostgreSQL URL"))?;
    // The URL holds a password, and SeaORM shows this text to whoever listens to its spans.
    let mut connect = ConnectOptions::new("postgres://localhost");
    connect
        .max_connections(options.connections_max)
        .min_connections(1)
        .acquire_timeout(Duration::from_millis(options.acquire_timeout_ms))
        .test_before_acquire(false)
        .test_before_acquire_if_idle_for(PING_AFTER_IDLE)
        .sqlx_logging_level(LevelFilter::Trace)
        .sqlx_slow_statements_logging_settings(LevelFilter::Warn, SLOW_STATEMENT);
    connect.map_sqlx_postgres_opts(move |_| {
        use sea_orm::sqlx::ConnectOptions as _;
        parsed
            .clone()
            .application_name("faces")
            .options([("idle_in_transaction_session_timeout", STANDSTILL_MAX.as_millis())])
            .log_statements(LevelFilter::Trace)
            .log_slow_statements(LevelFilter::Warn, SLOW_STATEMENT)
    });
    // sqlx asks a connection that comes back, too, but waits for it without a limit. One that falls
    // silent just between both questions keeps its place until its socket fails: where nothing
    // acknowledges, when the kernel gives up sending (about 15 minutes on Linux).
    let answers_within = Duration::from_millis(options.read_timeout_ms);
    connect.map_sqlx_postgres_pool_opts(move |pool| {
        pool.after_release(move |connection, _| {
            Box::pin(async move {
                let answer = tokio::time::timeout(answers_within, connection.ping()).await;
                answer.unwrap_or_else(|_| Err(sqlx::Error::Io(ErrorKind::TimedOut.into())))?;
                Ok(true)
            })
        })
    });
    let pool =
        Database::connect(connect).await.map_err(StorageError::on("PostgreSQL connection"))?;
    verify(&pool).await?;
    let isolation = match show(&pool, "default_transaction_isolation").await?.as_str() {
        "read committed" => None,
        _ => Some(IsolationLevel::ReadCommitted),
    };
    let writer = match options.role {
        DbRole::ReadOnly => None,
        DbRole::Server | DbRole::Admin => Some(pool.clone()),
    };
    Ok(Connections { writer, reader: pool, backend: DbBackend::Postgres, isolation, lock: None })
}

/// Refuses a server that forgets commits which it has acknowledged.
async fn verify(pool: &DatabaseConnection) -> Result<(), StorageError> {
    const SETTINGS: [(&str, &str); 2] = [
        ("fsync", "`on` (postgresql.conf)"),
        ("synchronous_commit", "not `off` (`ALTER DATABASE … SET synchronous_commit = on`)"),
    ];
    for (setting, needed) in SETTINGS {
        let found = show(pool, setting).await?;
        if found == "off" {
            return Err(StorageError::UnsafeSetting { setting, found, needed });
        }
    }
    Ok(())
}

async fn show(pool: &DatabaseConnection, setting: &str) -> Result<String, StorageError> {
    let what = "PostgreSQL settings";
    let statement = Statement::from_string(DbBackend::Postgres, format!("SHOW {setting}"));
    let row = pool.query_one_raw(statement).await.map_err(StorageError::on(what))?;
    let row = row.ok_or(StorageError::Bug { what, source: None })?;
    row.try_get_by_index(0).map_err(StorageError::on(what))
}
