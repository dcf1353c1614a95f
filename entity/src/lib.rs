//! One file per table: its shape and nothing else.
//!
//! The models never leave the room `storage` of the server, which returns domain types; rules live
//! in `domain`, schema changes in `migration` (which never imports this crate, so that an old
//! migration keeps its meaning when a model changes).
//!
//! Ids are UUIDv7 (`BLOB` of 16 bytes on SQLite), times are microseconds since the Unix epoch in
//! UTC (`…_at`), money is integer nano-USD and prices are integer pico-USD per token. JSON is kept
//! as text: the database never looks into it.
//!
//! Only tables that are read row by row have a model here. The journal tables of the ledger are
//! written and read in sets, by raw statements of `storage::ledger`.

pub mod account;
pub mod account_login;
pub mod api_key;
pub mod billing_event;
pub mod face;
pub mod face_primitive;
pub mod ledger_account;
pub mod ledger_price;
pub mod ledger_transfer;
pub mod server_secret;
