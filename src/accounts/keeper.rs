//! Looks for instances that died, where several share the books.

use std::{sync::Arc, time::Duration};

use actix::{Actor, ActorFutureExt as _, AsyncContext as _, Context, WrapFuture as _};

use super::{gate::Gate, store::LedgerStore};
use crate::{domain::InstanceId, telemetry::metrics};

/// Time between two looks. An instance is dead after its TTL of 10 s, so its holds come back
/// within about 13 s.
const RECOVER_EVERY: Duration = Duration::from_secs(3);

/// Fences and recovers expired instances. (This instance's own heartbeat is the writer's flush.)
pub(super) struct LeaseKeeper {
    store: Arc<dyn LedgerStore>,
    me: InstanceId,
    gate: Arc<Gate>,
    busy: bool,
}

impl LeaseKeeper {
    pub(super) fn new(store: Arc<dyn LedgerStore>, me: InstanceId, gate: Arc<Gate>) -> Self {
        Self { store, me, gate, busy: false }
    }

    fn look(&mut self, ctx: &mut Context<Self>) {
        if self.busy || self.gate.stopped().is_some() {
            return;
        }
        self.busy = true;
        let recovered = self.store.recover(self.me).into_actor(self);
        ctx.spawn(recovered.map(|result, keeper, _| {
            keeper.busy = false;
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
}

impl Actor for LeaseKeeper {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(RECOVER_EVERY, Self::look);
    }
}
