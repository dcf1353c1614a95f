//! One error for the room, and how the database's errors map to it.

use std::path::PathBuf;

use sea_orm::{DbErr, RuntimeErr, SqlErr, sqlx};

use crate::domain::ErrorCode;

/// Why a call of this room failed, written for the caller's decision.
///
/// Unless a variant says otherwise, nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The database can't be reached or can't answer now; the same call may succeed later.
    #[error("the database is unavailable ({what})")]
    Unavailable {
        /// What was being done.
        what: &'static str,
        /// What the driver says.
        #[source]
        source: Option<DbErr>,
    },
    /// The transaction lost against concurrent ones more often than it is retried.
    #[error("the database is contended ({what})")]
    Contended {
        /// What was being done.
        what: &'static str,
    },
    /// The answer to a commit was lost: it may or may not have happened. Read before repeating.
    #[error("the outcome of a commit is unknown ({what})")]
    OutcomeUnknown {
        /// What was being done.
        what: &'static str,
        /// What the driver says.
        #[source]
        source: DbErr,
    },
    /// It exists already, or an idempotency key was used for something else.
    #[error("{what} exists already")]
    Conflict {
        /// A noun.
        what: &'static str,
    },
    /// Somebody changed it since it was read.
    #[error("{what} was changed in between; read it again")]
    Stale {
        /// A noun.
        what: &'static str,
    },
    /// It (or what it belongs to) does not exist.
    #[error("{what} does not exist")]
    Missing {
        /// A noun.
        what: &'static str,
    },
    /// An amount is negative where it can't be, or a balance would leave the range of `i64`.
    #[error("{what} is out of range")]
    OutOfRange {
        /// A noun.
        what: &'static str,
    },
    /// Another process owns the SQLite database.
    #[error(
        "{} uses the database {}: stop it, or use another data directory \
         (one SQLite file serves one process; PostgreSQL serves many)",
        pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}")),
        path.display()
    )]
    Locked {
        /// The database file.
        path: PathBuf,
        /// The owner, as far as it can be told.
        pid: Option<u32>,
    },
    /// The file of the SQLite database (or its directory or lock) can't be made or opened.
    #[error("the database file {} can't be used", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        #[source]
        source: std::io::Error,
    },
    /// A setting that durability or exactness needs is not in force.
    #[error("the database is not safe for money: {setting} is `{found}`, needed is {needed}")]
    UnsafeSetting {
        /// Name of the setting.
        setting: &'static str,
        /// What was read back.
        found: String,
        /// What must be there, with the fix.
        needed: &'static str,
    },
    /// The schema can't be brought up to date, or is not the one of this program.
    #[error("the database's schema does not fit this program")]
    Migration(#[source] DbErr),
    /// The schema is older than this program and must not be changed here.
    #[error(
        "the database lacks {count} migrations: start the server once, or run \
         `cargo run -p migration -- up`"
    )]
    Outdated {
        /// How many are missing.
        count: usize,
    },
    /// A write through a handle that was opened for reading.
    #[error("the database was opened read-only ({what})")]
    ReadOnly {
        /// What was being done.
        what: &'static str,
    },
    /// A statement or a row is not what this program expects.
    #[error("a bug in the storage room ({what})")]
    Bug {
        /// What was being done.
        what: &'static str,
        /// What the driver says.
        #[source]
        source: Option<DbErr>,
    },
}

impl StorageError {
    /// The row of the table of error codes.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Unavailable { .. }
            | Self::Contended { .. }
            | Self::OutcomeUnknown { .. }
            | Self::Locked { .. }
            | Self::File { .. }
            | Self::UnsafeSetting { .. }
            | Self::Migration(_)
            | Self::Outdated { .. } => ErrorCode::StorageUnavailable,
            Self::Conflict { .. } | Self::Stale { .. } => ErrorCode::Conflict,
            Self::Missing { .. } => ErrorCode::NotFound,
            Self::OutOfRange { .. } => ErrorCode::InvalidRequest,
            Self::ReadOnly { .. } | Self::Bug { .. } => ErrorCode::Internal,
        }
    }

    /// Maps a driver's error, for `map_err(StorageError::on("api key"))`. `what` is the noun of
    /// the messages.
    pub(crate) fn on(what: &'static str) -> impl Fn(DbErr) -> Self {
        move |error| Self::from_driver(what, error)
    }

    fn from_driver(what: &'static str, error: DbErr) -> Self {
        match error.sql_err() {
            Some(SqlErr::UniqueConstraintViolation(_)) => return Self::Conflict { what },
            Some(SqlErr::ForeignKeyConstraintViolation(_)) => return Self::Missing { what },
            Some(_) | None => {}
        }
        match fault(&error) {
            Fault::Contended => Self::Contended { what },
            Fault::Unavailable => Self::Unavailable { what, source: Some(error) },
            Fault::Bug => Self::Bug { what, source: Some(error) },
        }
    }

    /// [`Self::on`] for the ledger's own connection to SQLite.
    pub(super) fn on_rusqlite(what: &'static str, error: &rusqlite::Error) -> Self {
        let source = Some(DbErr::Custom(error.to_string()));
        match rusqlite_fault(error) {
            Fault::Contended => Self::Contended { what },
            Fault::Unavailable => Self::Unavailable { what, source },
            Fault::Bug => Self::Bug { what, source },
        }
    }

    /// [`Self::from_commit`] for the ledger's own connection to SQLite.
    pub(super) fn from_rusqlite_commit(what: &'static str, error: &rusqlite::Error) -> Self {
        match rusqlite_fault(error) {
            Fault::Contended => Self::Contended { what },
            Fault::Unavailable | Fault::Bug => {
                Self::OutcomeUnknown { what, source: DbErr::Custom(error.to_string()) }
            }
        }
    }

    /// Maps the error of a `COMMIT`: only a lost serialisation race is known to have done nothing.
    pub(crate) fn from_commit(what: &'static str, error: DbErr) -> Self {
        match fault(&error) {
            Fault::Contended => Self::Contended { what },
            Fault::Unavailable | Fault::Bug => Self::OutcomeUnknown { what, source: error },
        }
    }
}

enum Fault {
    Contended,
    Unavailable,
    Bug,
}

/// Classifies by codes and kinds, never by the text of a message.
fn fault(error: &DbErr) -> Fault {
    match error {
        DbErr::ConnectionAcquire(_) | DbErr::Conn(_) => Fault::Unavailable,
        DbErr::Exec(RuntimeErr::SqlxError(error)) | DbErr::Query(RuntimeErr::SqlxError(error)) => {
            driver_fault(error)
        }
        _ => Fault::Bug,
    }
}

fn driver_fault(error: &sqlx::Error) -> Fault {
    match error {
        sqlx::Error::Database(database) => match database.code() {
            Some(code) if code.len() == 5 => sqlstate_fault(&code),
            Some(code) => sqlite_fault(&code),
            None => Fault::Bug,
        },
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::BeginFailed => Fault::Unavailable,
        _ => Fault::Bug,
    }
}

/// PostgreSQL. Source: its manual, appendix A, "PostgreSQL Error Codes", version 15.
fn sqlstate_fault(code: &str) -> Fault {
    match code {
        // serialization_failure, deadlock_detected
        "40001" | "40P01" => Fault::Contended,
        // lock_not_available; cannot_connect_now and the other ways of an operator's intervention;
        // read_only_sql_transaction (a standby after a failover); the session was ended because it
        // stood still inside a transaction
        "55P03" | "25006" | "25P03" => Fault::Unavailable,
        _ => match code.get(..2) {
            // connection exception, insufficient resources, operator intervention, system error
            Some("08" | "53" | "57" | "58") => Fault::Unavailable,
            _ => Fault::Bug,
        },
    }
}

fn rusqlite_fault(error: &rusqlite::Error) -> Fault {
    match error.sqlite_error() {
        Some(error) => sqlite_fault(&error.extended_code.to_string()),
        None => Fault::Bug,
    }
}

/// SQLite. Source: "Result and Error Codes" of its manual; the low byte is the primary code.
fn sqlite_fault(code: &str) -> Fault {
    match code.parse::<u32>().map(|code| code & 0xff) {
        // BUSY, LOCKED
        Ok(5 | 6) => Fault::Contended,
        // NOMEM, READONLY, INTERRUPT, IOERR, FULL, CANTOPEN
        Ok(7 | 8 | 9 | 10 | 13 | 14) => Fault::Unavailable,
        _ => Fault::Bug,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(fault: &Fault) -> &'static str {
        match fault {
            Fault::Contended => "contended",
            Fault::Unavailable => "unavailable",
            Fault::Bug => "bug",
        }
    }

    #[test]
    fn what_a_database_says_is_told_apart_by_its_code() {
        for (code, expected) in [
            ("40001", "contended"),
            ("40P01", "contended"),
            ("57P01", "unavailable"),
            ("53300", "unavailable"),
            ("25006", "unavailable"),
            ("25P03", "unavailable"),
            ("08006", "unavailable"),
            ("42601", "bug"),
            ("23514", "bug"),
        ] {
            assert_eq!(word(&sqlstate_fault(code)), expected, "{code}");
        }
        // 517 is BUSY_SNAPSHOT, 778 IOERR_WRITE, 275 CONSTRAINT_CHECK.
        for (code, expected) in [
            ("5", "contended"),
            ("517", "contended"),
            ("778", "unavailable"),
            ("13", "unavailable"),
            ("275", "bug"),
            ("1", "bug"),
        ] {
            assert_eq!(word(&sqlite_fault(code)), expected, "{code}");
        }
    }

    #[test]
    fn a_commit_without_an_answer_is_never_told_as_a_failure() {
        let lost = || DbErr::Exec(RuntimeErr::SqlxError(sqlx::Error::PoolClosed.into()));
        let error = StorageError::from_commit("flush", lost());
        assert!(matches!(error, StorageError::OutcomeUnknown { .. }), "{error:?}");
        let error = StorageError::on("flush")(lost());
        assert!(matches!(error, StorageError::Unavailable { .. }), "{error:?}");
    }
}
