//! Puts the rooms together: builds them in order, stops them in order.
//!
//! Owns start and stop, the files that tell others about a running server (`server.json`, the
//! administration socket), the first start and the execution of the command line. The only place
//! that knows all rooms.
//!
//! What never happens here: logic of a room.
//!
//! How it fails: a start that can't be completed says which setting or file is wrong and how to
//! put it right, and undoes nothing that others own; a stop that could not finish in time says so
//! in its exit code.
//!
//! Limits: `shutdown_grace_ms`, `shutdown_ready_delay_ms`.
//!
//! Tested with the real binary: `tests/api` (start, commands), `tests/stream` (SIGTERM).

mod admin_socket;
mod audit_command;
mod chat_command;
mod commands;
mod error;
mod first_start;
mod ledger_command;
mod run_file;
mod server;

pub use commands::{execute, start_failed};
pub use error::StartError;
pub use server::App;
