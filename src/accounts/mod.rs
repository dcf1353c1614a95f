//! Credits: holds before a request, settlements after it, in exact integers.
//!
//! Owns the handle [`Accounts`], the guard [`Hold`], and the actors behind them: one
//! `AccountActor` per live account (keeps the leases on the wallet and on the budgets of its keys:
//! grants from them in memory, asks the rows for the rest, makes running holds larger), the
//! `AccountRegistry` (spawns and passivates them, sets accounts aside whose actor panicked), the
//! `LedgerWriter` (group commit: one flush in flight, the next takes all that waited) and the
//! `LeaseKeeper` (finds instances that died and recovers what they held, reads the rows of accounts
//! with leases, deletes old idempotency keys). What they decide is pure: `core.rs`, `lease.rs`,
//! `demand.rs` and `outcome.rs` know no clock and no I/O.
//!
//! What never happens here: prices or tokens are not estimated, no HTTP, no provider, no SQL. The
//! writer never runs inside a request's future, and a request that is dropped cancels nothing: its
//! hold is a guard that settles or voids itself.
//!
//! **Gates.** [`Accounts::hold`] answers when the credit is reserved, which may be in memory only;
//! [`Hold::durable`] when that is written (gate 1), [`Hold::settle`] when the settlement is (gate
//! 2). Between them [`Hold::may_release`] says whether this instance still owns its holds.
//!
//! How it fails: [`HoldError`], [`SettleError`]. A broken invariant stops the writer for good:
//! nothing is granted any more, [`Accounts::stopped`] tells why, and the holds that are left open
//! are recovered by the next start.
//!
//! Limits: `ledger_queue_ops_max` (holds that wait; settlements are never refused),
//! `flush_ops_max`, `ledger_wait_ms`, `account_idle_ms`, `cache_ttl_ms` (how long an account's row is
//! believed); times that are the protocol's own are constants beside their use. Everything runs on
//! the System arbiter.
//! Invariants: I1–I8 of [`crate::domain::ledger`], tested in `core_tests.rs`, in `tests/` (rooms on
//! a real file, a simulation from seeds, a search through the protocol's states), by
//! `tests/store_suite`, and by `tests/chaos` on real processes.

mod account;
mod core;
mod demand;
mod error;
mod extension;
mod flight;
mod gate;
mod handle;
mod hold;
mod keeper;
mod lease;
mod messages;
mod observe;
mod outcome;
mod presence;
mod progress;
mod registry;
mod store;
#[cfg(test)]
mod tests;
mod writer;

pub use error::{AccountsError, CreditExhausted, HoldError, SettleError};
pub use handle::{Accounts, DrainReport, HoldRequest};
pub use hold::{Hold, Settled};
pub use observe::Observation;
pub use outcome::{Outcome, Payer, denial_reason};
pub use store::LedgerStore;
