//! The flush on SQLite: the same statements on a connection and a thread of their own.
//!
//! Through the asynchronous driver every result of every statement wakes another thread, and with the
//! small batches of an ordinary load most of the profile was those switches. Here a flush crosses to
//! its thread once and comes back once. The order of the statements and every guard are those of
//! `flush.rs`.

use std::{collections::BTreeMap, path::Path, sync::mpsc, thread, time::Duration};

use rusqlite::{Connection, OpenFlags, Row, ToSql, params};
use sea_orm::DbBackend;
use tokio::sync::oneshot;

use super::{
    super::StorageError,
    FlushError, WHAT,
    decide::{Books, decide},
    flush::{self, FlushHead},
    idem::{self, Claim, Claims, KeyWrites},
    rows::Leases,
    sql::{Statements, statements},
    writes::{Rows, Writes},
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
    let applied = Tx { connection, sql: statements(DbBackend::Sqlite) }.apply(head, batch);
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
        if self.execute(&self.sql.fence, fenced)? != 1 {
            return Ok(None);
        }
        if batch.is_empty() {
            return Ok(Some(FlushReply::default()));
        }
        let now = clock::now().0;
        let books = self.books(head.instance, batch, now)?;
        let decision = decide(books, batch).map_err(|contradiction| FlushError::Contradiction {
            what: contradiction.to_string(),
        })?;
        self.write(head, &Writes::new(batch, &decision, now), now)?;
        Ok(Some(flush::reply(decision)))
    }

    fn books(&self, me: InstanceId, batch: &FlushBatch, now: i64) -> Result<Books, FlushError> {
        let rows: Rows = flush::ids(batch.row_ids()).into();
        let mut rows = if rows.count == 0 { BTreeMap::new() } else { self.accounts(&rows)? };
        let ids: Rows = flush::ids(batch.lease_ids()).into();
        let mut leases = flush::no_leases(batch);
        if ids.count > 0 {
            let read = || {
                let mut statement = self.connection.prepare_cached(&self.sql.read_leases)?;
                let found = statement.query_map(params![ids.json, me.0.as_bytes()], lease)?;
                found.collect::<Result<Vec<_>, _>>()
            };
            for found in read().map_err(|error| lost(&error))? {
                flush::note_leases(found, &mut rows, &mut leases);
            }
        }
        let wanted = idem::wanted(batch);
        let claims = if wanted.count == 0 { Claims::new() } else { self.claims(&wanted, now)? };
        Ok(Books { rows, leases, claims })
    }

    fn claims(&self, wanted: &Rows, now: i64) -> Result<Claims, FlushError> {
        let read = || {
            let mut statement = self.connection.prepare_cached(&self.sql.read_claims)?;
            let rows = statement.query_map(params![wanted.json, now], claim)?;
            rows.collect::<Result<Vec<_>, _>>()
        };
        Ok(read().map_err(|error| lost(&error))?.into_iter().collect())
    }

    fn accounts(&self, ids: &Rows) -> Result<BTreeMap<AccountId, AccountRow>, FlushError> {
        let read = || {
            let mut statement = self.connection.prepare_cached(&self.sql.read_accounts)?;
            let rows = statement.query_map([&ids.json], account)?;
            rows.map(|row| row.map(|row| (row.account_id, row))).collect::<Result<_, _>>()
        };
        read().map_err(|error| lost(&error))
    }

    fn write(&self, head: FlushHead, writes: &Writes, now: i64) -> Result<(), FlushError> {
        let sql = self.sql;
        let instance = head.instance.0.as_bytes();
        let Writes {
            accounts,
            leases,
            holds,
            extends,
            checkpoints,
            ends,
            transfers,
            usage,
            attempts,
            keys,
        } = writes;
        self.step("accounts", accounts, &sql.update_accounts, params![accounts.json])?;
        self.leases(head.instance, head.seq, leases, now)?;
        self.step("open", holds, &sql.insert_holds, params![holds.json, instance, head.seq, now])?;
        self.step("extend", extends, &sql.extend_holds, params![extends.json, instance])?;
        let points = params![checkpoints.json, instance];
        self.step("checkpoint", checkpoints, &sql.checkpoint_holds, points)?;
        self.step("resolve", ends, &sql.resolve_holds, params![ends.json, now, instance])?;
        let books = params![transfers.json, instance, head.seq, now];
        self.step("transfers", transfers, &sql.insert_transfers, books)?;
        self.step("usage", usage, &sql.write_usage, params![usage.json])?;
        self.step("attempts", attempts, &sql.insert_attempts, params![attempts.json])?;
        let KeyWrites { freed, claimed, finished } = keys;
        self.step("free keys", freed, &sql.free_keys, params![freed.json])?;
        self.step("claim keys", claimed, &sql.claim_keys, params![claimed.json, now])?;
        for part in finished {
            self.step("finish keys", part, &sql.finish_keys, params![part.json])?;
        }
        Ok(())
    }

    fn leases(&self, me: InstanceId, seq: i64, leases: &Rows, now: i64) -> Result<(), FlushError> {
        if leases.count == 0 {
            return Ok(());
        }
        let me = me.0.as_bytes();
        let updated = self.execute(&self.sql.update_leases, params![leases.json, seq, me])?;
        if updated == leases.count {
            return Ok(());
        }
        let expected = leases.count.saturating_sub(updated);
        let values = params![leases.json, seq, me, now];
        let changed = self.execute(&self.sql.insert_leases, values)?;
        if changed == expected {
            return Ok(());
        }
        Err(FlushError::Mismatch { step: "leases", expected, changed })
    }

    /// Runs a statement that must change exactly the rows that it was given.
    fn step(
        &self,
        step: &'static str,
        rows: &Rows,
        sql: &str,
        values: &[&dyn ToSql],
    ) -> Result<(), FlushError> {
        if rows.count == 0 {
            return Ok(());
        }
        let changed = self.execute(sql, values)?;
        if changed == rows.count {
            return Ok(());
        }
        Err(FlushError::Mismatch { step, expected: rows.count, changed })
    }

    fn execute(&self, sql: &str, values: &[&dyn ToSql]) -> Result<u64, FlushError> {
        let run = || self.connection.prepare_cached(sql)?.execute(values);
        let changed = run().map_err(|error| lost(&error))?;
        Ok(u64::try_from(changed).unwrap_or(u64::MAX))
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
