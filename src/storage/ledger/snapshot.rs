//! One consistent view of the books.

use sea_orm::{
    AccessMode, ConnectionTrait, DatabaseTransaction, DbErr, IsolationLevel, QueryResult,
    SqliteTransactionMode, Statement, TransactionOptions, TransactionTrait as _, Value,
};

use super::super::Db;

/// One read transaction: a snapshot of the WAL on SQLite, `REPEATABLE READ READ ONLY` on
/// PostgreSQL. It neither disturbs a running server nor is disturbed by one.
pub(super) struct Snapshot {
    transaction: DatabaseTransaction,
}

impl Snapshot {
    pub(super) async fn begin(db: &Db) -> Result<Self, DbErr> {
        let options = if db.is_sqlite() {
            TransactionOptions {
                sqlite_transaction_mode: Some(SqliteTransactionMode::Deferred),
                ..TransactionOptions::default()
            }
        } else {
            TransactionOptions {
                isolation_level: Some(IsolationLevel::RepeatableRead),
                access_mode: Some(AccessMode::ReadOnly),
                sqlite_transaction_mode: None,
            }
        };
        Ok(Self { transaction: db.reader().begin_with_options(options).await? })
    }

    /// All rows of a statement.
    pub(super) async fn query(
        &self,
        sql: &str,
        values: impl IntoIterator<Item = Value>,
    ) -> Result<Vec<QueryResult>, DbErr> {
        let backend = self.transaction.get_database_backend();
        self.transaction.query_all_raw(Statement::from_sql_and_values(backend, sql, values)).await
    }

    /// Ends it. Nothing was written: how it ends does not matter.
    pub(super) async fn end(self) {
        drop(self.transaction.rollback().await);
    }
}
