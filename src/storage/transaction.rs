//! One way to run a transaction.

use std::time::Duration;

use futures_util::future::BoxFuture;
use sea_orm::{DatabaseTransaction, SqliteTransactionMode, TransactionOptions, TransactionTrait};

use super::{Db, StorageError};

/// A transaction is run again this often when it loses against concurrent ones.
const ATTEMPTS_MAX: u32 = 8;
/// First pause before it is run again; doubled each time.
const BACKOFF: Duration = Duration::from_millis(2);

/// What the work of a transaction returns.
pub(crate) type TxFuture<'tx, T> = BoxFuture<'tx, Result<T, StorageError>>;

impl Db {
    /// Runs `work` in one transaction: committed when it answers `Ok`, rolled back otherwise.
    ///
    /// `BEGIN IMMEDIATE` on SQLite (a deferred transaction that starts to write fails at once when
    /// somebody else writes), `READ COMMITTED` on PostgreSQL. `work` may run several times, each
    /// time from the start: it must have no effect outside the transaction.
    ///
    /// # Errors
    /// What `work` answered; [`StorageError::Contended`] after the last attempt;
    /// [`StorageError::OutcomeUnknown`] when the answer to the commit was lost.
    ///
    /// # Cancel safety
    /// Dropping the future does not stop the transaction.
    pub(crate) async fn in_transaction<T, W>(
        &self,
        what: &'static str,
        work: W,
    ) -> Result<T, StorageError>
    where
        T: Send + 'static,
        W: for<'tx> Fn(&'tx DatabaseTransaction) -> TxFuture<'tx, T> + Send + Sync + 'static,
    {
        self.run(what, move |db| async move {
            let mut attempt = 1;
            loop {
                match attempt_once(&db, what, &work).await {
                    Err(StorageError::Contended { .. }) if attempt < ATTEMPTS_MAX => {
                        tokio::time::sleep(BACKOFF * 2_u32.pow(attempt - 1)).await;
                        attempt += 1;
                    }
                    result => return result,
                }
            }
        })
        .await
    }
}

async fn attempt_once<T, W>(db: &Db, what: &'static str, work: &W) -> Result<T, StorageError>
where
    W: for<'tx> Fn(&'tx DatabaseTransaction) -> TxFuture<'tx, T>,
{
    let options = TransactionOptions {
        isolation_level: db.isolation(),
        access_mode: None,
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
    };
    let begun = db.writer(what)?.begin_with_options(options).await;
    let transaction = begun.map_err(StorageError::on(what))?;
    match work(&transaction).await {
        Ok(value) => match transaction.commit().await {
            Ok(()) => Ok(value),
            Err(error) => Err(StorageError::from_commit(what, error)),
        },
        Err(error) => {
            if let Err(failed) = transaction.rollback().await {
                log::warn!("rolling back {what} failed; its connection does it later: {failed}");
            }
            Err(error)
        }
    }
}
