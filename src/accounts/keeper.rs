//! What an instance looks after beside its requests: idempotency keys whose time is over, and where
//! several share the books, instances that died and what was changed elsewhere.

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, PoisonError},
    time::Duration,
};

use actix::{Actor, ActorFutureExt as _, AsyncContext as _, Context, WrapFuture as _};

use super::{
    gate::Gate,
    handle::{Live, deliver},
    messages::Seen,
    presence::Watch,
    store::LedgerStore,
};
use crate::{
    domain::{AccountId, InstanceId, ledger::AccountRow},
    storage::StorageError,
    telemetry::metrics,
};

/// Time between two looks for dead instances. One is dead after its TTL of 10 s, so its holds come
/// back within about 13 s.
const RECOVER_EVERY: Duration = Duration::from_secs(3);
/// Time between two readings of the accounts that this instance has leases on: freezes, top-ups,
/// changed budgets and recalls are heard of that fast (the design's bound is 2 s).
const READ_EVERY: Duration = Duration::from_millis(500);
/// Longest wait for the database's answer to a look.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Accounts in one reading: bounds its memory and its time.
const READ_MAX: usize = 10_000;

/// Time between two purges of idempotency keys: their expiry need not be prompt.
const PURGE_EVERY: Duration = Duration::from_secs(60);

/// Deletes old idempotency keys; where the books are shared, fences and recovers expired instances
/// and reads the rows of accounts with leases. (This instance's own heartbeat is the writer's flush.)
pub(super) struct LeaseKeeper {
    store: Arc<dyn LedgerStore>,
    me: InstanceId,
    gate: Arc<Gate>,
    watch: Watch,
    live: Arc<Live>,
    is_recovering: bool,
    is_reading: bool,
}

impl LeaseKeeper {
    pub(super) fn new(
        store: Arc<dyn LedgerStore>,
        me: InstanceId,
        gate: Arc<Gate>,
        watch: Watch,
        live: Arc<Live>,
    ) -> Self {
        Self { store, me, gate, watch, live, is_recovering: false, is_reading: false }
    }

    fn recover(&mut self, ctx: &mut Context<Self>) {
        if self.is_recovering || self.gate.stopped().is_some() {
            return;
        }
        self.is_recovering = true;
        let recovered = within(self.store.recover(self.me)).into_actor(self);
        ctx.spawn(recovered.map(|result, keeper, _| {
            keeper.is_recovering = false;
            match result {
                Ok(report) if report.instances > 0 => {
                    metrics::ledger().recovered(report.instances, report.holds);
                    log::warn!(
                        "recovered {} holds of {} dead instances",
                        report.holds,
                        report.instances
                    );
                }
                Ok(_) => {}
                Err(error) => log::warn!("looking for dead instances failed: {error}"),
            }
        }));
    }

    fn read(&mut self, ctx: &mut Context<Self>) {
        let mut watched = self.watch.all();
        if watched.is_empty() || self.is_reading || self.gate.stopped().is_some() {
            return;
        }
        if watched.len() > READ_MAX {
            log::warn!("{} accounts have leases; {READ_MAX} are read at once", watched.len());
            watched = watched.into_iter().take(READ_MAX).collect();
        }
        self.is_reading = true;
        let rows = self.store.account_rows(watched.keys().copied().collect());
        let rows = within(rows).into_actor(self);
        ctx.spawn(rows.map(move |result, keeper, _| {
            keeper.is_reading = false;
            match result {
                Ok(rows) => keeper.tell(&watched, rows),
                // Their rows grow old, so the next holds ask.
                Err(error) => log::warn!("reading the accounts with leases failed: {error}"),
            }
        }));
    }

    fn tell(&self, owners: &HashMap<AccountId, AccountId>, rows: Vec<AccountRow>) {
        let live = self.live.read().unwrap_or_else(PoisonError::into_inner);
        for row in rows {
            let owner = owners.get(&row.account_id).and_then(|owner| live.get(owner));
            if let Some(actor) = owner {
                // One that is gone has no lease any more.
                let _ = deliver(actor, Seen(row));
            }
        }
    }

    fn purge(&mut self, ctx: &mut Context<Self>) {
        if self.gate.stopped().is_some() {
            return;
        }
        ctx.spawn(self.store.purge_keys().into_actor(self).map(|result, _, _| {
            if let Err(error) = result {
                log::warn!("deleting old idempotency keys failed: {error}");
            }
        }));
    }
}

/// What the database does not answer in time is asked again at the next look: a connection that
/// nobody closed must not end the looking.
async fn within<T>(
    answer: impl Future<Output = Result<T, StorageError>>,
) -> Result<T, StorageError> {
    let lost = || Err(StorageError::Unavailable { what: "ledger", source: None });
    tokio::time::timeout(ANSWER_WITHIN, answer).await.unwrap_or_else(|_| lost())
}

impl Actor for LeaseKeeper {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(PURGE_EVERY, Self::purge);
        if self.store.is_shared() {
            ctx.run_interval(RECOVER_EVERY, Self::recover);
            ctx.run_interval(READ_EVERY, Self::read);
        }
    }
}
