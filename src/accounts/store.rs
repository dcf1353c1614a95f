//! What the room needs of a database: the seam at which a simulated store takes its place.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::{
    domain::{
        AccountId, InstanceId,
        ledger::{AccountRow, FlushBatch, FlushReply},
    },
    storage::{
        Db, StorageError, accounts,
        ledger::{self, FlushError, RecoveryReport, RecoveryScope},
    },
};

/// The ledger's storage. Every future runs on by itself when it is dropped.
pub trait LedgerStore: Send + Sync + 'static {
    /// Whether other instances may use the same books at the same time. Then this one must renew
    /// itself, and stops granting when it can't.
    fn is_shared(&self) -> bool;

    /// Writes the row of a new incarnation.
    fn register(
        &self,
        instance: InstanceId,
        node: String,
        ttl_ms: i64,
    ) -> BoxFuture<'static, Result<(), StorageError>>;

    /// Applies a batch; repeating it with the same number and content is harmless.
    fn flush(
        &self,
        instance: InstanceId,
        seq: i64,
        ttl_ms: i64,
        batch: Arc<FlushBatch>,
    ) -> BoxFuture<'static, Result<FlushReply, FlushError>>;

    /// Fences and recovers instances that are dead; never `me`.
    fn recover(&self, me: InstanceId) -> BoxFuture<'static, Result<RecoveryReport, StorageError>>;

    /// Ends this incarnation; answers how many holds were still open.
    fn close(&self, me: InstanceId) -> BoxFuture<'static, Result<u64, StorageError>>;

    /// Deletes the idempotency keys whose time is over; answers how many. A store without any has
    /// nothing to do.
    fn purge_keys(&self) -> BoxFuture<'static, Result<u64, StorageError>> {
        Box::pin(std::future::ready(Ok(0)))
    }

    /// Reads accounts' counters; those that do not exist are left out.
    fn account_rows(
        &self,
        accounts: Vec<AccountId>,
    ) -> BoxFuture<'static, Result<Vec<AccountRow>, StorageError>>;
}

impl LedgerStore for Db {
    fn is_shared(&self) -> bool {
        !self.is_sqlite()
    }

    fn register(
        &self,
        instance: InstanceId,
        node: String,
        ttl_ms: i64,
    ) -> BoxFuture<'static, Result<(), StorageError>> {
        let db = self.clone();
        Box::pin(async move { ledger::register_instance(&db, instance, node, ttl_ms).await })
    }

    fn flush(
        &self,
        instance: InstanceId,
        seq: i64,
        ttl_ms: i64,
        batch: Arc<FlushBatch>,
    ) -> BoxFuture<'static, Result<FlushReply, FlushError>> {
        let db = self.clone();
        Box::pin(async move { ledger::flush(&db, instance, seq, ttl_ms, batch).await })
    }

    fn recover(&self, me: InstanceId) -> BoxFuture<'static, Result<RecoveryReport, StorageError>> {
        let db = self.clone();
        let scope =
            if self.is_sqlite() { RecoveryScope::AllOthers } else { RecoveryScope::Expired };
        Box::pin(async move { ledger::recover(&db, me, scope).await })
    }

    fn close(&self, me: InstanceId) -> BoxFuture<'static, Result<u64, StorageError>> {
        let db = self.clone();
        Box::pin(async move { ledger::close_instance(&db, me).await })
    }

    fn purge_keys(&self) -> BoxFuture<'static, Result<u64, StorageError>> {
        let db = self.clone();
        Box::pin(async move { ledger::purge_keys(&db).await })
    }

    fn account_rows(
        &self,
        accounts: Vec<AccountId>,
    ) -> BoxFuture<'static, Result<Vec<AccountRow>, StorageError>> {
        let db = self.clone();
        Box::pin(async move { accounts::read_account_rows(&db, accounts).await })
    }
}
