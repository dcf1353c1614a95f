//! The schema of Faces, one change per migration, in order.
//!
//! Owns every `CREATE`, `ALTER` and `DROP`, and the file of an SQLite database (its directory,
//! permissions and lock). Never imports `entity`: a migration keeps its meaning when a model
//! changes. Never changes a migration that was released: add one.
//!
//! The server applies pending migrations when it starts; `cargo run -p migration -- up` does the
//! same by hand. Statements are plain SQL with the few words that differ between SQLite and
//! PostgreSQL filled in by [`ddl`], because `STRICT` tables and exact `CHECK`s matter more here
//! than a builder: SQLite would otherwise store a text or a float in a column of money.
//!
//! Tested by `tests/store_suite` of the server: up, down, up again and a dump of the schema, on
//! both databases.

pub mod ddl;
mod m20261123_000001_create_accounts;
mod m20261123_000002_create_ledger;
mod m20261123_000003_create_faces;
mod m20261123_000004_create_ledger_price;
mod m20261126_000005_extend_ledger;
mod m20261126_000006_create_ledger_idem;
mod m20261126_000007_add_key_budget;
mod m20261126_000008_create_ledger_seal;
mod m20261126_000009_add_logins;
mod m20261126_000010_add_face_texts;
mod m20261126_000011_create_compile;
mod m20261126_000012_create_face_centroid;
mod m20261126_000013_create_billing;
mod m20261126_000014_create_rate_limit;
mod m20261126_000015_create_usage_margin;
mod m20261127_000016_bind_usage_margin;
pub mod sqlite_file;

use sea_orm_migration::{MigrationTrait, async_trait};
pub use sea_orm_migration::{MigratorTrait, SchemaManager};

/// All migrations, oldest first.
#[derive(Debug)]
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m20261123_000001_create_accounts::Migration),
            Box::new(m20261123_000002_create_ledger::Migration),
            Box::new(m20261123_000003_create_faces::Migration),
            Box::new(m20261123_000004_create_ledger_price::Migration),
            Box::new(m20261126_000005_extend_ledger::Migration),
            Box::new(m20261126_000006_create_ledger_idem::Migration),
            Box::new(m20261126_000007_add_key_budget::Migration),
            Box::new(m20261126_000008_create_ledger_seal::Migration),
            Box::new(m20261126_000009_add_logins::Migration),
            Box::new(m20261126_000010_add_face_texts::Migration),
            Box::new(m20261126_000011_create_compile::Migration),
            Box::new(m20261126_000012_create_face_centroid::Migration),
            Box::new(m20261126_000013_create_billing::Migration),
            Box::new(m20261126_000014_create_rate_limit::Migration),
            Box::new(m20261126_000015_create_usage_margin::Migration),
            Box::new(m20261127_000016_bind_usage_margin::Migration),
        ]
    }
}
