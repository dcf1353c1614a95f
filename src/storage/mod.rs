//! The database: every table, every statement, and the only user of SeaORM.
//!
//! Owns [`Db`], the connections, the runtime that they live on, and functions named for their use
//! (`accounts::top_up`, `keys::find_key_by_hash`). What comes in and goes out are domain types or
//! the plain rows of this room; a SeaORM model never leaves it.
//!
//! What never happens here: business rules, HTTP, decisions about money beyond the guards that
//! repeat an invariant as a condition of a statement.
//!
//! **Cancellation.** Every public function runs on a runtime of its own (threads `faces-db`) and
//! awaits the result: a caller that is dropped never cancels a statement, and a transaction is
//! never left half sent. What was asked for still happens.
//!
//! **Durability.** SQLite: WAL, `synchronous=FULL`, one writing connection and a server's second
//! one that only flushes the ledger (both begin `IMMEDIATE` and wait for each other), one process
//! (a lock file beside the database). PostgreSQL: `READ COMMITTED`, `synchronous_commit` and
//! `fsync` on. The settings are read back when the database is opened, and a database that would
//! forget acknowledged commits is refused.
//!
//! How it fails: [`StorageError`], written for the caller's decision. A commit whose answer was
//! lost is [`StorageError::OutcomeUnknown`], never "failed".
//!
//! Limits: `db_connections_max`, `db_acquire_timeout_ms` and `db_read_timeout_ms` of
//! [`crate::config::Limits`]; lists are paged by the caller's `limit`. Tested by
//! `tests/store_suite`, on both databases, and by `tests/chaos`.

pub mod accounts;
pub mod centroids;
pub mod compile;
mod db;
mod error;
pub mod faces;
pub mod keys;
pub mod ledger;
pub mod logins;
pub mod payments;
mod postgres;
pub mod preferences;
pub mod prices;
pub mod rates;
mod sqlite;
mod transaction;

pub use db::{DatabaseUrl, Db, DbOptions, DbRole};
pub use error::StorageError;
