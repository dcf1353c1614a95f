//! The handle `Accounts`: what other rooms and threads call.

use std::{
    collections::HashMap,
    future::Future,
    hash::{BuildHasherDefault, DefaultHasher},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use actix::{
    Actor as _, Addr, AsyncContext as _, Handler, Message, dev::ToEnvelope, prelude::SendError,
};
use serde::Serialize;
use tokio::{sync::oneshot, time::Instant};

use super::{
    account::{AccountActor, AccountShared, LeaseMode},
    error::{AccountsError, HoldError, SettleError},
    gate::Gate,
    hold::{Hold, HoldLimits},
    keeper::LeaseKeeper,
    messages::{Changed, EndHold, ExtendHold, OpenHoldRequest},
    observe::Observation,
    outcome,
    presence::Watch,
    registry::{AccountRegistry, ObserveRegistry, Revive},
    store::LedgerStore,
    writer::{
        Drain, EnqueueCheckpoint, EnqueueEnd, EnqueueFree, LedgerWriter, ObserveWriter, TTL,
        WriterOptions,
    },
};
use crate::{
    config::{LeasePolicy, limits::Limits},
    domain::{
        AccountId, ChargeRate, InstanceId, NanoUsd,
        ledger::{AccountRow, Checkpoint, FreeUse, HoldOpen},
    },
    storage::{Db, StorageError},
};

/// When a client that met a full queue should try again, ms.
const RETRY_AFTER_MS: u64 = 1_000;

/// A hold to be opened, with the rate that its settlement will use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldRequest {
    /// What to reserve now: the whole request, or its first slice.
    pub open: HoldOpen,
    /// The prices of `open.price_id`, with markup.
    pub rate: ChargeRate,
    /// The most that the hold may become: the worst case of the whole request. `open.amount` when
    /// the hold is not to grow.
    pub amount_max: NanoUsd,
    /// What one extension adds at least: the price of a slice of output.
    pub slice: NanoUsd,
}

impl HoldRequest {
    /// The bounds of its hold, when the account can afford so much.
    pub(super) const fn limits(&self, affordable: NanoUsd) -> HoldLimits {
        HoldLimits { amount_max: self.amount_max, slice: self.slice, affordable }
    }
}

/// What a drain left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct DrainReport {
    /// Holds that nobody had resolved: they ended at their last checkpoint.
    pub holds_recovered: u64,
}

/// Live actors, by account, in the same order in every run of a simulation. Read by every thread,
/// written by the registry.
pub(super) type Live =
    RwLock<HashMap<AccountId, Addr<AccountActor>, BuildHasherDefault<DefaultHasher>>>;

/// The way from a hold back to the ledger.
#[derive(Debug)]
pub(super) struct Link {
    writer: Addr<LedgerWriter>,
    account: Option<Addr<AccountActor>>,
    pub(super) gate: Arc<Gate>,
    pub(super) wait: Duration,
}

impl Link {
    pub(super) fn new(
        writer: Addr<LedgerWriter>,
        account: Option<Addr<AccountActor>>,
        gate: Arc<Gate>,
        wait: Duration,
    ) -> Self {
        Self { writer, account, gate, wait }
    }

    /// Hands an ending to the account's actor, now; to the writer when that actor is gone (what the
    /// hold leaves over stays in the lease then). Gives it back when the writer is gone too.
    pub(super) fn end(&self, end: EndHold) -> Result<(), Box<EndHold>> {
        let end = match &self.account {
            Some(account) => match deliver(account, end) {
                Ok(()) => return Ok(()),
                Err(end) => end,
            },
            None => end,
        };
        let EndHold { resolve, reply, amount_max, ending } = end;
        let direct = EnqueueEnd { resolve, give_back: NanoUsd::ZERO, reply, ending };
        deliver(&self.writer, direct).map_err(|EnqueueEnd { resolve, reply, ending, .. }| {
            Box::new(EndHold { resolve, reply, amount_max, ending })
        })
    }

    /// Asks the account's actor for a larger hold. One that is gone drops the reply.
    pub(super) fn extend(&self, extend: ExtendHold) {
        if let Some(account) = &self.account {
            drop(deliver(account, extend));
        }
    }

    /// Hands over what a hold has used so far. A writer that is gone has stopped the ledger.
    pub(super) fn checkpoint(&self, checkpoint: Checkpoint) {
        drop(deliver(&self.writer, EnqueueCheckpoint(checkpoint)));
    }
}

/// Delivers a message whatever the mailbox's fill is; gives it back when the actor is gone.
pub(super) fn deliver<A, M>(addr: &Addr<A>, message: M) -> Result<(), M>
where
    A: Handler<M>,
    A::Context: ToEnvelope<A, M>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    match addr.try_send(message) {
        Ok(()) => Ok(()),
        Err(SendError::Closed(message)) => Err(message),
        Err(SendError::Full(message)) => {
            #[expect(
                clippy::disallowed_methods,
                reason = "the gate bounds waiting holds, and open holds bound their endings"
            )]
            addr.do_send(message);
            Ok(())
        }
    }
}

/// The credits of every account. Cheap to clone; usable from any thread.
#[derive(Clone)]
pub struct Accounts {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    store: Arc<dyn LedgerStore>,
    instance: InstanceId,
    pub(super) live: Arc<Live>,
    registry: Addr<AccountRegistry>,
    link: Arc<Link>,
}

impl std::fmt::Debug for Accounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Accounts").field("instance", &self.inner.instance).finish_non_exhaustive()
    }
}

const fn lease_mode(policy: LeasePolicy, is_shared: bool) -> LeaseMode {
    match (policy, is_shared) {
        (LeasePolicy::Exact, is_shared) => LeaseMode::Exact { is_shared },
        (LeasePolicy::Auto | LeasePolicy::Retained, false) => LeaseMode::Sole,
        (LeasePolicy::Auto, true) => LeaseMode::Shared { always: false },
        (LeasePolicy::Retained, true) => LeaseMode::Shared { always: true },
    }
}

impl Accounts {
    /// Starts the room on the current arbiter (the System's): recovers what dead instances left, registers this
    /// one, starts the actors.
    ///
    /// # Errors
    /// [`AccountsError::Storage`]: the database refused or did not answer.
    pub async fn start(
        db: Db,
        limits: &Limits,
        policy: LeasePolicy,
    ) -> Result<Self, AccountsError> {
        Self::start_with(Arc::new(db), limits, policy).await
    }

    /// As [`Accounts::start`], on any store.
    ///
    /// # Errors
    /// As [`Accounts::start`].
    pub async fn start_with(
        store: Arc<dyn LedgerStore>,
        limits: &Limits,
        policy: LeasePolicy,
    ) -> Result<Self, AccountsError> {
        let instance = InstanceId::generate();
        let recovered = store.recover(instance).await?;
        if recovered.instances > 0 {
            log::warn!(
                "recovered {} holds of {} earlier instances",
                recovered.holds,
                recovered.instances
            );
        }
        let node = format!("pid {}", std::process::id());
        let ttl_ms = i64::try_from(TTL.as_millis()).unwrap_or(i64::MAX);
        let sent = Instant::now();
        store.register(instance, node, ttl_ms).await?;
        let gate = Arc::new(Gate::new(limits.ledger_queue_ops_max.into()));
        let live: Arc<Live> = Arc::default();
        let writer = LedgerWriter::new(WriterOptions {
            store: Arc::clone(&store),
            instance,
            gate: Arc::clone(&gate),
            live: Arc::clone(&live),
            ops_max: limits.flush_ops_max,
            wait: Duration::from_millis(limits.ledger_wait_ms),
            registered: sent,
        })
        .start();
        let wait = Duration::from_millis(limits.ledger_wait_ms);
        let link = Arc::new(Link::new(writer.clone(), None, Arc::clone(&gate), wait));
        let idle = Duration::from_millis(limits.account_idle_ms);
        let watch = Watch::default();
        let mode = lease_mode(policy, store.is_shared());
        let registry = AccountRegistry::create(|ctx| {
            let shared = AccountShared {
                registry: ctx.address(),
                writer,
                gate: Arc::clone(&gate),
                fresh_for: Duration::from_millis(limits.cache_ttl_ms),
                wait,
                mode,
                watch: watch.clone(),
            };
            AccountRegistry::new(Arc::clone(&live), shared, idle)
        });
        LeaseKeeper::new(Arc::clone(&store), instance, gate, watch, Arc::clone(&live)).start();
        Ok(Self { inner: Arc::new(Inner { store, instance, live, registry, link }) })
    }

    /// Reserves credit for one request. The request may be sent to its provider as soon as this
    /// answers, but nothing may be shown before [`Hold::durable`] (gate 1): a hold inside the
    /// account's lease is still on its way to the database.
    ///
    /// # Errors
    /// [`HoldError`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves no hold behind: one that becomes durable afterwards is voided.
    pub async fn hold(&self, request: HoldRequest) -> Result<Hold, HoldError> {
        let hold_id = request.open.hold_id;
        let amounts = [request.open.funds_min, request.open.amount, request.slice];
        if amounts.into_iter().any(NanoUsd::is_negative) {
            // The flush would refuse it as a broken invariant, and everybody else's holds with it.
            log::error!("hold {hold_id} asks for amounts out of order");
            return Err(HoldError::Unavailable);
        }
        let link = &self.inner.link;
        if link.gate.is_draining() {
            return Err(HoldError::ShuttingDown);
        }
        if link.gate.is_failing() || !link.gate.is_live() {
            return Err(HoldError::Unavailable);
        }
        let Some(place) = link.gate.enter() else {
            return Err(HoldError::Overloaded { retry_after_ms: RETRY_AFTER_MS });
        };
        let (reply, answer) = oneshot::channel();
        let message = OpenHoldRequest { request, reply, place, since: Instant::now() };
        if let Err(unsent) = self.deliver_open(message) {
            self.revive(unsent).await?;
        }
        let hold = match tokio::time::timeout(link.wait, answer).await {
            Ok(Ok(verdict)) => verdict?,
            Ok(Err(_)) | Err(_) => return Err(HoldError::OutcomeUnknown { hold_id }),
        };
        // Dropped here, the hold voids itself.
        if link.gate.is_live() { Ok(hold) } else { Err(HoldError::Unavailable) }
    }

    /// To the account's actor. The lock is held while sending, so that an actor that is being
    /// passivated gets the message before it learns that it may go.
    #[expect(clippy::result_large_err, reason = "the unsent message goes to the registry at once")]
    fn deliver_open(&self, message: OpenHoldRequest) -> Result<(), OpenHoldRequest> {
        let live = self.inner.live.read().unwrap_or_else(PoisonError::into_inner);
        match live.get(&message.request.open.account_id) {
            Some(actor) => deliver(actor, message),
            None => Err(message),
        }
    }

    /// The account has no actor, or a dead one: the registry makes one and passes the message on.
    async fn revive(&self, message: OpenHoldRequest) -> Result<(), HoldError> {
        let sent = self.inner.registry.send(Revive(message)).await;
        sent.map_err(|_| HoldError::Unavailable)?
    }

    /// Writes the use of a free model: a hold of 0 that is opened and settled at once, a usage row
    /// and a transfer of 0. Answers with the account when durable.
    ///
    /// # Errors
    /// As [`Hold::settle`].
    ///
    /// # Cancel safety
    /// The record is on its way before this function returns its future.
    pub fn record_free(
        &self,
        free: FreeUse,
    ) -> impl Future<Output = Result<AccountRow, SettleError>> + Send + 'static {
        let (reply, answer) = oneshot::channel();
        let link = &self.inner.link;
        let free = Box::new(outcome::without_money(free));
        let sent = deliver(&link.writer, EnqueueFree { free, reply });
        let wait = link.wait;
        async move {
            sent.map_err(|_| SettleError::Stopped)?;
            match tokio::time::timeout(wait, answer).await {
                Ok(Ok(result)) => result,
                Ok(Err(_)) => Err(SettleError::Stopped),
                Err(_) => Err(SettleError::Pending),
            }
        }
    }

    /// Tells that an account was frozen, unfrozen or topped up, so that this instance reads its row
    /// before the next hold. (Other instances notice within `cache_ttl_ms`.)
    pub fn changed(&self, account: AccountId) {
        let live = self.inner.live.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(actor) = live.get(&account) {
            // One that is gone knows no row.
            let _ = deliver(actor, Changed);
        }
    }

    /// Reads an account's counters from the database (every durable settlement is in them).
    ///
    /// # Errors
    /// [`StorageError::Unavailable`].
    pub async fn account_row(
        &self,
        account: AccountId,
    ) -> Result<Option<AccountRow>, StorageError> {
        let rows = self.inner.store.account_rows(vec![account]).await?;
        Ok(rows.into_iter().next())
    }

    /// This incarnation's id.
    #[must_use]
    pub fn instance(&self) -> InstanceId {
        self.inner.instance
    }

    /// Whether holds are granted now (for readiness).
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let gate = &self.inner.link.gate;
        gate.is_live() && !gate.is_failing() && !gate.is_draining()
    }

    /// Why the ledger stopped for good, when it did: a broken invariant, or fenced by another
    /// instance. The process should end.
    #[must_use]
    pub fn stopped(&self) -> Option<String> {
        self.inner.link.gate.stopped().map(str::to_owned)
    }

    /// Refuses new holds, waits until everything that is queued is durable, and closes this
    /// incarnation. Holds that nobody resolved by then end at their checkpoint: resolve them first.
    ///
    /// # Errors
    /// [`AccountsError`]; then the next start recovers what is left.
    ///
    /// # Cancel safety
    /// Dropping the future does not stop the drain; call it again to wait for it.
    pub async fn drain(&self) -> Result<DrainReport, AccountsError> {
        let link = &self.inner.link;
        link.gate.drain();
        let stopped = || AccountsError::Stopped {
            reason: link.gate.stopped().unwrap_or("the writer is gone").to_owned(),
        };
        let drained = link.writer.send(Drain).await.map_err(|_| stopped())?;
        drained.await.map_err(|_| stopped())?;
        link.gate.close();
        let close = self.inner.store.close(self.inner.instance);
        let lost = |_| StorageError::Unavailable { what: "ledger", source: None };
        let holds_recovered = tokio::time::timeout(link.wait, close).await.map_err(lost)??;
        link.gate.stop("drained".to_owned());
        Ok(DrainReport { holds_recovered })
    }

    /// What the room's actors are doing.
    ///
    /// # Errors
    /// [`AccountsError::Stopped`] when one of them is gone.
    pub async fn observe(&self) -> Result<Observation, AccountsError> {
        let gone = |_| AccountsError::Stopped { reason: "an actor is gone".to_owned() };
        let writer = self.inner.link.writer.send(ObserveWriter).await.map_err(gone)?;
        let registry = self.inner.registry.send(ObserveRegistry).await.map_err(gone)?;
        let gate = &self.inner.link.gate;
        Ok(Observation {
            instance: self.inner.instance,
            ready: self.is_ready(),
            draining: gate.is_draining(),
            stopped: self.stopped(),
            holds_waiting: gate.waiting(),
            writer,
            registry,
        })
    }
}
