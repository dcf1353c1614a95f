//! Rows of instances: born at start, renewed by every flush, closed by a drain.

use sea_orm::ConnectionTrait as _;

use super::{
    super::{Db, StorageError},
    WHAT,
    flush::Tx,
    recovery,
    sql::statements,
};
use crate::domain::InstanceId;

/// `ledger_instance.state`: closed after a complete drain.
const CLOSED: i16 = 5;
/// `ledger_instance.state`: may never write again; its leftovers wait for recovery.
const FENCED: i16 = 3;

/// Writes the row of a new incarnation: live, no flush yet.
///
/// # Units
/// `ttl_ms` as in [`super::flush()`].
///
/// # Errors
/// As every write ([`StorageError`]).
pub async fn register_instance(
    db: &Db,
    instance: InstanceId,
    node: String,
    ttl_ms: i64,
) -> Result<(), StorageError> {
    db.run(WHAT, move |db| async move {
        let values = [instance.0.into(), node.into(), ttl_ms.saturating_mul(1_000).into()];
        let statement = db.statement(&statements(db.backend()).register, values);
        db.writer(WHAT)?.execute_raw(statement).await.map_err(StorageError::on(WHAT))?;
        Ok(())
    })
    .await
}

/// Ends an incarnation: its leases are folded and closed, and it may never write again.
///
/// Holds that are still open are resolved at their checkpoint, as after a crash. Repeating it is
/// harmless. Answers how many holds there were.
///
/// # Errors
/// As every write ([`StorageError`]).
pub async fn close_instance(db: &Db, instance: InstanceId) -> Result<u64, StorageError> {
    db.run(WHAT, move |db| async move {
        let tx = Tx::begin(&db).await?;
        let fenced =
            tx.execute(&tx.sql.set_instance_state, [FENCED.into(), instance.0.into()]).await;
        if let Err(error) = fenced {
            tx.rollback().await;
            return Err(StorageError::on(WHAT)(error));
        }
        tx.commit().await?;
        let report = recovery::recover_instance(&db, instance, CLOSED).await?;
        Ok(report.holds)
    })
    .await
}
