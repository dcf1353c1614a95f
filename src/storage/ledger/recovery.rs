//! Recovery: what a dead instance left open is resolved, exactly once, by whoever comes first.
//!
//! Only after fencing: a fenced incarnation's flush finds no row, inside the same transaction as
//! its writes. Every chunk is a transaction that leaves all invariants true, so recovery may die
//! anywhere and be run again; the compare-and-set on `open` makes each hold end once (I2).

use std::collections::BTreeMap;

use sea_orm::{DbErr, QueryResult};
use uuid::Uuid;

use super::{
    super::{Db, StorageError},
    FlushError, WHAT,
    decide::Change,
    flush::{self, Tx},
    idem,
    payload::Payload,
    rows, writes,
};
use crate::domain::{
    AccountId, InstanceId, clock,
    ledger::{AccountKind, TransferKind},
};

/// Open holds that one transaction of recovery resolves: bounds its locks and its memory.
pub(super) const HOLDS_PER_CHUNK: u64 = 1_000;

/// `ledger_instance.state`: nothing of it is left.
const RECOVERED: i16 = 4;

/// Which instances count as dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecoveryScope {
    /// Every other one: the caller owns the database alone (SQLite and its lock file).
    AllOthers,
    /// Those whose time ran out, by the database's clock.
    Expired,
}

/// What recovery found and did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RecoveryReport {
    /// Instances that were finished.
    pub instances: u64,
    /// Holds that were resolved at their checkpoint.
    pub holds: u64,
    /// Given back to accounts, nano-USD.
    pub released_nanousd: i64,
    /// Charged at checkpoints, nano-USD.
    pub charged_nanousd: i64,
}

/// Fences the dead instances of `scope` (never `me`) and resolves what they and earlier fenced
/// ones left: each open hold at its last durable checkpoint, the rest is released.
///
/// # Errors
/// As every write ([`StorageError`]); what was done until then stays done.
///
/// # Cancel safety
/// Dropping the future does not stop it.
pub async fn recover(
    db: &Db,
    me: InstanceId,
    scope: RecoveryScope,
) -> Result<RecoveryReport, StorageError> {
    db.run(WHAT, move |db| async move {
        let fenced = fence(&db, me, scope).await?;
        let mut report = RecoveryReport::default();
        for instance in fenced {
            let one = recover_instance(&db, instance, RECOVERED).await?;
            report.instances += 1;
            report.holds += one.holds;
            report.released_nanousd = report.released_nanousd.saturating_add(one.released_nanousd);
            report.charged_nanousd = report.charged_nanousd.saturating_add(one.charged_nanousd);
        }
        Ok(report)
    })
    .await
}

async fn fence(
    db: &Db,
    me: InstanceId,
    scope: RecoveryScope,
) -> Result<Vec<InstanceId>, StorageError> {
    let tx = Tx::begin(db).await?;
    let sql = match scope {
        RecoveryScope::AllOthers => &tx.sql.fence_all,
        RecoveryScope::Expired => &tx.sql.fence_expired,
    };
    let found = match tx.execute(sql, [me.0.into()]).await {
        Ok(_) => tx.query(&tx.sql.fenced, []).await,
        Err(error) => Err(error),
    };
    let ids = found.and_then(|rows| {
        rows.iter().map(|row| row.try_get_by_index::<Uuid>(0).map(InstanceId)).collect()
    });
    match ids {
        Ok(ids) => tx.commit().await.map(|()| ids),
        Err(error) => {
            tx.rollback().await;
            Err(StorageError::on(WHAT)(error))
        }
    }
}

/// Resolves everything of a fenced instance, chunk by chunk, and writes its last state.
pub(super) async fn recover_instance(
    db: &Db,
    instance: InstanceId,
    last_state: i16,
) -> Result<RecoveryReport, StorageError> {
    let mut report = RecoveryReport::default();
    loop {
        let tx = Tx::begin(db).await?;
        let step = match tx.recover_chunk(instance, last_state, &mut report).await {
            Ok(step) => step,
            Err(error) => {
                tx.rollback().await;
                return Err(storage_error(error));
            }
        };
        tx.commit().await?;
        if step == Step::Finished {
            return Ok(report);
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    More,
    Finished,
}

struct Leftover {
    hold: Uuid,
    account: AccountId,
    cap: Option<AccountId>,
    amount: i64,
    cost: i64,
}

impl Tx {
    async fn recover_chunk(
        &self,
        instance: InstanceId,
        last_state: i16,
        report: &mut RecoveryReport,
    ) -> Result<Step, FlushError> {
        let locked = self.query(&self.sql.lock_instance, [instance.0.into()]).await?;
        let state: Option<i16> = locked.first().map(|row| row.try_get_by_index(0)).transpose()?;
        if state != Some(3) {
            return Ok(Step::Finished);
        }
        let limit = HOLDS_PER_CHUNK.cast_signed();
        let open = self.query(&self.sql.open_holds, [instance.0.into(), limit.into()]).await?;
        let leftovers = open.iter().map(leftover).collect::<Result<Vec<_>, DbErr>>()?;
        if leftovers.is_empty() {
            self.close_leases(instance).await?;
            let values = [last_state.into(), instance.0.into()];
            self.execute(&self.sql.set_instance_state, values).await?;
            return Ok(Step::Finished);
        }
        self.resolve_leftovers(instance, &leftovers, report).await?;
        Ok(Step::More)
    }

    async fn resolve_leftovers(
        &self,
        instance: InstanceId,
        leftovers: &[Leftover],
        report: &mut RecoveryReport,
    ) -> Result<(), FlushError> {
        let now = clock::now().0;
        let mut changes: BTreeMap<AccountId, Change> = BTreeMap::new();
        let mut ids = Payload::with_capacity(leftovers.len(), 1);
        let mut holds = Payload::with_capacity(leftovers.len(), 2);
        let mut transfers = Payload::default();
        let (mut freed, mut finished) = (Payload::default(), Payload::default());
        for leftover in leftovers {
            for account in std::iter::once(leftover.account).chain(leftover.cap) {
                changes.entry(account).or_default().charge += leftover.cost;
            }
            ids.row().id(leftover.hold);
            holds.row().id(leftover.hold).int(leftover.cost);
            if leftover.cost > 0 {
                transfers
                    .row()
                    .id(leftover.hold)
                    .int(TransferKind::Charge.db_code().into())
                    .id(leftover.account.0)
                    .id(rows::operator(AccountKind::Revenue).0)
                    .int(leftover.cost);
                idem::finish_row(&mut finished, leftover.hold, None);
            } else {
                freed.row().id(leftover.hold);
            }
            report.holds += 1;
            report.released_nanousd += leftover.amount - leftover.cost;
            report.charged_nanousd += leftover.cost;
        }
        self.write_leases(instance, 0, writes::leases(&changes), now).await?;
        let (rows, json) = (holds.row_count(), holds.json());
        let values = [json.into(), now.into()];
        self.execute_exactly("recover", rows, &self.sql.recover_holds, values).await?;
        self.execute(&self.sql.recover_usage, [ids.json().into()]).await?;
        self.write_transfers(instance, 0, transfers, now).await?;
        // Few holds have an idempotency key; which ones is not read.
        self.execute(&self.sql.free_keys, [freed.json().into()]).await?;
        self.execute(&self.sql.finish_keys, [finished.json().into()]).await?;
        Ok(())
    }

    /// Gives back what the leases still have and books what was posted but not folded.
    async fn close_leases(&self, instance: InstanceId) -> Result<(), FlushError> {
        let mut changes: BTreeMap<AccountId, Change> = BTreeMap::new();
        for row in self.query(&self.sql.open_leases, [instance.0.into()]).await? {
            let account: Uuid = row.try_get_by_index(0)?;
            let granted: i64 = row.try_get_by_index(1)?;
            let posted: i64 = row.try_get_by_index(2)?;
            let folded: i64 = row.try_get_by_index(3)?;
            let change =
                Change { give_back: granted - posted, fold: posted - folded, ..Change::default() };
            if change.touches_row() {
                changes.insert(AccountId(account), change);
            }
        }
        self.lock(flush::ids(changes.keys().copied())).await?;
        self.write_accounts(writes::accounts(&changes)).await?;
        self.execute(&self.sql.close_leases, [instance.0.into()]).await?;
        Ok(())
    }
}

fn leftover(row: &QueryResult) -> Result<Leftover, DbErr> {
    let account: Uuid = row.try_get_by_index(1)?;
    Ok(Leftover {
        hold: row.try_get_by_index(0)?,
        account: AccountId(account),
        amount: row.try_get_by_index(2)?,
        cost: row.try_get_by_index(3)?,
        cap: row.try_get_by_index::<Option<Uuid>>(4)?.map(AccountId),
    })
}

fn storage_error(error: FlushError) -> StorageError {
    match error {
        FlushError::Retry(error) | FlushError::Failed(error) => error,
        other @ (FlushError::Fenced
        | FlushError::OutOfSequence { .. }
        | FlushError::Mismatch { .. }
        | FlushError::Contradiction { .. }) => {
            log::error!("recovery of the ledger stopped: {other}");
            StorageError::Bug { what: "ledger recovery", source: None }
        }
    }
}
