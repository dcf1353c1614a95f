//! The flush on SQLite: the same statements on a connection and a thread of their own, each run once
//! per row.
//!
//! Through the asynchronous driver every result of every statement wakes another thread, and with the
//! small batches of an ordinary load most of the profile was those switches. Here a flush crosses to
//! its thread once and comes back once. The order of the statements and every guard are those of
//! `flush.rs`.

use std::{collections::BTreeMap, path::Path, sync::mpsc, thread, time::Duration};

use rusqlite::{
    Connection, OpenFlags, Row, ToSql, params,
    types::{ToSqlOutput, ValueRef},
};
use tokio::sync::oneshot;

use super::{
    super::StorageError,
    FlushError, WHAT,
    decide::{Books, decide},
    flush::{self, FlushHead},
    idem::{self, Claim, KeyWrites},
    payload::{Cell, Payload},
    rows::Leases,
    sql::{ROW_PARAMETERS_FROM, Statements, by_row},
    writes::Writes,
};
use crate::domain::{
    AccountId, InstanceId, NanoUsd, clock,
    ledger::{AccountRow, FlushBatch, FlushReply, LeaseRow},
};

/// How long a flush waits for the other writing connection (an import, a top-up).
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Statements of a flush, all kept prepared.
const STATEMENTS_PREPARED_MAX: usize = 20;

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// The thread that owns the ledger's connection. Dropping it ends the thread after its last job.
#[derive(Debug)]
pub(in crate::storage) struct FlushThread {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl FlushThread {
    /// Opens the connection (the file exists and is in WAL mode) and checks that it is durable.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] when the file can't be opened, [`StorageError::UnsafeSetting`]
    /// when a commit would not be synced.
    pub(in crate::storage) fn start(path: &Path) -> Result<Self, StorageError> {
        let mut connection = open(path)?;
        let (jobs, work) = mpsc::channel::<Job>();
        let run = move || {
            while let Ok(job) = work.recv() {
                job(&mut connection);
            }
        };
        let started = thread::Builder::new().name("faces-ledger".to_owned()).spawn(run);
        let thread = started.map_err(|_| StorageError::Unavailable { what: WHAT, source: None })?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Hands a job over; `None` when the thread is gone.
    ///
    /// # Cancel safety
    /// The job runs, whether or not anyone waits for the answer.
    pub(in crate::storage) fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Connection) -> T + Send + 'static,
    ) -> Option<oneshot::Receiver<T>> {
        let (reply, answer) = oneshot::channel();
        let job = Box::new(move |connection: &mut Connection| {
            // Whoever asked may have gone.
            drop(reply.send(job(connection)));
        });
        self.jobs.as_ref()?.send(job).ok()?;
        Some(answer)
    }
}

impl Drop for FlushThread {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the ledger's thread panicked");
        }
    }
}

fn open(path: &Path) -> Result<Connection, StorageError> {
    let unusable = |error: rusqlite::Error| StorageError::on_rusqlite(WHAT, &error);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(unusable)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(unusable)?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(unusable)?;
    connection.pragma_update(None, "foreign_keys", true).map_err(unusable)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_PREPARED_MAX);
    let read = |name| connection.pragma_query_value(None, name, |row| row.get::<_, String>(0));
    let synchronous =
        connection.pragma_query_value(None, "synchronous", |row| row.get::<_, i64>(0));
    let (mode, synchronous) =
        (read("journal_mode").map_err(unusable)?, synchronous.map_err(unusable)?);
    if mode != "wal" {
        return Err(StorageError::UnsafeSetting {
            setting: "journal_mode",
            found: mode,
            needed: "wal",
        });
    }
    if synchronous != 2 {
        let found = synchronous.to_string();
        return Err(StorageError::UnsafeSetting {
            setting: "synchronous",
            found,
            needed: "2 (FULL)",
        });
    }
    Ok(connection)
}

/// Applies a batch; `None` when the fence did not let it pass (nothing was written then).
pub(super) fn flush(
    connection: &Connection,
    head: FlushHead,
    batch: &FlushBatch,
) -> Result<Option<FlushReply>, FlushError> {
    connection.execute_batch("BEGIN IMMEDIATE").map_err(|error| lost(&error))?;
    let applied = Tx { connection, sql: by_row() }.apply(head, batch);
    if matches!(applied, Ok(Some(_))) {
        let committed = connection.execute_batch("COMMIT");
        if let Err(error) = committed {
            roll_back(connection);
            return Err(StorageError::from_rusqlite_commit(WHAT, &error).into());
        }
    } else {
        roll_back(connection);
    }
    applied
}

fn roll_back(connection: &Connection) {
    // Some errors have rolled back already.
    if !connection.is_autocommit()
        && let Err(error) = connection.execute_batch("ROLLBACK")
    {
        log::warn!("rolling back a flush failed: {error}");
    }
}

struct Tx<'a> {
    connection: &'a Connection,
    sql: &'static Statements,
}

impl Tx<'_> {
    fn apply(&self, head: FlushHead, batch: &FlushBatch) -> Result<Option<FlushReply>, FlushError> {
        let (digest, ttl_micros) = (flush::digest(batch), head.ttl_ms.saturating_mul(1_000));
        let fenced = params![head.seq, digest, ttl_micros, head.instance.0.as_bytes()];
        let fence = || self.connection.prepare_cached(&self.sql.fence)?.execute(fenced);
        if fence().map_err(|error| lost(&error))? != 1 {
            return Ok(None);
        }
        if batch.is_empty() {
            return Ok(Some(FlushReply::default()));
        }
        let now = clock::now().0;
        let books = self.books(head.instance, batch, now).map_err(|error| lost(&error))?;
        let decision = decide(books, batch).map_err(|contradiction| FlushError::Contradiction {
            what: contradiction.to_string(),
        })?;
        self.write(head, &Writes::new(batch, &decision, now), now)?;
        Ok(Some(flush::reply(decision)))
    }

    fn books(&self, me: InstanceId, batch: &FlushBatch, now: i64) -> rusqlite::Result<Books> {
        let sql = self.sql;
        let found = self.read(&sql.read_accounts, &flush::ids(batch.row_ids()), &[], account)?;
        let mut rows: BTreeMap<_, _> = found.into_iter().map(|row| (row.account_id, row)).collect();
        let mut leases = flush::no_leases(batch);
        let of_me: Own<'_> = &[(2, &me.0.as_bytes())];
        for found in self.read(&sql.read_leases, &flush::ids(batch.lease_ids()), of_me, lease)? {
            flush::note_leases(found, &mut rows, &mut leases);
        }
        let claims = self.read(&sql.read_claims, &idem::wanted(batch), &[(2, &now)], claim)?;
        Ok(Books { rows, leases, claims: claims.into_iter().collect() })
    }

    fn write(&self, head: FlushHead, writes: &Writes, now: i64) -> Result<(), FlushError> {
        let (sql, me) = (self.sql, &head.instance.0.as_bytes());
        self.step("accounts", &writes.accounts, &sql.update_accounts, &[])?;
        self.leases(head, &writes.leases, now)?;
        let opened: Own<'_> = &[(2, me), (3, &head.seq), (4, &now)];
        self.step("open", &writes.holds, &sql.insert_holds, opened)?;
        self.step("extend", &writes.extends, &sql.extend_holds, &[(2, me)])?;
        self.step("checkpoint", &writes.checkpoints, &sql.checkpoint_holds, &[(2, me)])?;
        self.step("resolve", &writes.ends, &sql.resolve_holds, &[(2, &now), (3, me)])?;
        self.step("transfers", &writes.transfers, &sql.insert_transfers, opened)?;
        self.step("usage", &writes.usage, &sql.write_usage, &[])?;
        self.step("attempts", &writes.attempts, &sql.insert_attempts, &[])?;
        let KeyWrites { freed, claimed, finished } = &writes.keys;
        self.step("free keys", freed, &sql.free_keys, &[])?;
        self.step("claim keys", claimed, &sql.claim_keys, &[(2, &now)])?;
        for part in finished {
            self.step("finish keys", part, &sql.finish_keys, &[])?;
        }
        Ok(())
    }

    fn leases(&self, head: FlushHead, leases: &Payload, now: i64) -> Result<(), FlushError> {
        let me = &head.instance.0.as_bytes();
        let own: Own<'_> = &[(2, &head.seq), (3, me), (4, &now)];
        let updated = self.execute(&self.sql.update_leases, leases, &own[..2])?;
        let expected = leases.row_count().saturating_sub(updated);
        if expected == 0 {
            return Ok(());
        }
        let changed = self.execute(&self.sql.insert_leases, leases, own)?;
        if changed == expected {
            return Ok(());
        }
        Err(FlushError::Mismatch { step: "leases", expected, changed })
    }

    /// Runs a statement that must change as many rows as it was given.
    fn step(
        &self,
        step: &'static str,
        rows: &Payload,
        sql: &str,
        own: Own<'_>,
    ) -> Result<(), FlushError> {
        let (expected, changed) = (rows.row_count(), self.execute(sql, rows, own)?);
        if changed == expected {
            return Ok(());
        }
        Err(FlushError::Mismatch { step, expected, changed })
    }

    /// Runs a statement for each row; how many rows of the table it changed.
    fn execute(&self, sql: &str, rows: &Payload, own: Own<'_>) -> Result<u64, FlushError> {
        let run = || {
            let mut changed = 0;
            self.each(sql, rows, own, |statement| {
                changed += statement.raw_execute()?;
                Ok(())
            })?;
            Ok(changed)
        };
        let changed = run().map_err(|error| lost(&error))?;
        Ok(u64::try_from(changed).unwrap_or(u64::MAX))
    }

    /// Runs a query for each row; what all of them found.
    fn read<T>(
        &self,
        sql: &str,
        rows: &Payload,
        own: Own<'_>,
        map: fn(&Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Vec<T>> {
        let mut all = Vec::new();
        self.each(sql, rows, own, |statement| {
            let mut found = statement.raw_query();
            while let Some(row) = found.next()? {
                all.push(map(row)?);
            }
            Ok(())
        })?;
        Ok(all)
    }

    /// Binds the statement's own parameters once and those of each row in turn.
    fn each(
        &self,
        sql: &str,
        rows: &Payload,
        own: Own<'_>,
        mut run: impl FnMut(&mut rusqlite::Statement<'_>) -> rusqlite::Result<()>,
    ) -> rusqlite::Result<()> {
        if rows.row_count() == 0 {
            return Ok(());
        }
        let mut statement = self.connection.prepare_cached(sql)?;
        for (number, value) in own {
            statement.raw_bind_parameter(*number, value)?;
        }
        // What a row leaves out would be that of the row before.
        let columns = (statement.parameter_count() + 1).saturating_sub(ROW_PARAMETERS_FROM);
        for row in rows.rows() {
            if row.len() != columns {
                return Err(rusqlite::Error::InvalidParameterCount(row.len(), columns));
            }
            for (number, cell) in (ROW_PARAMETERS_FROM..).zip(row) {
                statement.raw_bind_parameter(number, cell)?;
            }
            run(&mut statement)?;
        }
        Ok(())
    }
}

/// A statement's own parameters by their numbers.
type Own<'a> = &'a [(usize, &'a dyn ToSql)];

impl ToSql for Cell {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Id(id) => ValueRef::Blob(id.as_bytes()),
            Self::Int(value) => ValueRef::Integer(*value),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

/// Reads `id, credits, debits, leased, overdraft_limit, flags, recall_seq`.
fn account(row: &Row<'_>) -> Result<AccountRow, rusqlite::Error> {
    let id: [u8; 16] = row.get(0)?;
    Ok(AccountRow {
        account_id: AccountId(uuid::Uuid::from_bytes(id)),
        credits: NanoUsd(row.get(1)?),
        debits: NanoUsd(row.get(2)?),
        leased: NanoUsd(row.get(3)?),
        overdraft_limit: NanoUsd(row.get(4)?),
        flags: row.get(5)?,
        recall_seq: row.get(6)?,
        unfolded: NanoUsd::ZERO,
        leases: 0,
    })
}

/// Reads `account, unfolded, leases, granted, posted, folded`.
fn lease(row: &Row<'_>) -> Result<Leases, rusqlite::Error> {
    let id: [u8; 16] = row.get(0)?;
    Ok(Leases {
        unfolded: NanoUsd(row.get(1)?),
        count: row.get(2)?,
        mine: LeaseRow {
            account_id: AccountId(uuid::Uuid::from_bytes(id)),
            granted: NanoUsd(row.get(3)?),
            posted: NanoUsd(row.get(4)?),
            folded: NanoUsd(row.get(5)?),
        },
    })
}

/// Reads `account, key, hold`.
fn claim(row: &Row<'_>) -> Result<Claim, rusqlite::Error> {
    let (account, key, hold): ([u8; 16], String, [u8; 16]) =
        (row.get(0)?, row.get(1)?, row.get(2)?);
    Ok(idem::claim(uuid::Uuid::from_bytes(account), &key, uuid::Uuid::from_bytes(hold)))
}

fn lost(error: &rusqlite::Error) -> FlushError {
    StorageError::on_rusqlite(WHAT, error).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_another_width_is_refused() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE pair (a, b)").unwrap();
        let tx = Tx { connection: &connection, sql: by_row() };
        let insert = |widths: &[i64]| {
            let mut rows = Payload::default();
            for width in widths {
                rows.row();
                for value in 0..*width {
                    rows.int(value);
                }
            }
            tx.execute("INSERT INTO pair VALUES (?10, ?11)", &rows, &[])
        };
        assert_eq!(insert(&[2, 2]).unwrap(), 2);
        for widths in [[2, 1], [1, 2], [3, 2], [2, 3]] {
            insert(&widths).unwrap_err();
        }
    }
}
