//! The writer: group commit of everything that waits.
//!
//! One flush is in flight; what arrives meanwhile waits and goes into the next one. There is no
//! timer: the first operation of an idle moment is flushed at once, and under load a flush carries
//! what one commit's time has gathered.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, PoisonError},
    time::Duration,
};

use actix::{
    Actor, ActorFutureExt as _, AsyncContext as _, Context, Handler, Message, MessageResult,
    WrapFuture as _,
};
use tokio::{sync::oneshot, time::Instant};

use super::{
    error::{HoldError, SettleError},
    flight::{InFlight, Op},
    gate::{Ending, Gate, Place},
    handle::{Link, Live, deliver},
    hold::{Hold, Settled},
    lease::DurableChange,
    messages::{AskAgain, Durable, Extended, Halt},
    observe::WriterObservation,
    store::LedgerStore,
};
use crate::{
    domain::{
        AccountId, ChargeRate, InstanceId, NanoUsd,
        ledger::{AccountRow, Checkpoint, FlushReply, FreeUse, HoldExtend, HoldOpen, HoldResolve},
    },
    storage::{StorageError, ledger::FlushError},
    telemetry::metrics,
};

/// How long an instance counts as live after a flush, by the database's clock.
pub(super) const TTL: Duration = Duration::from_secs(10);
/// This instance stops granting and releasing that much earlier, by its own clock.
const TTL_MARGIN: Duration = Duration::from_secs(2);
/// An idle instance that shares the books renews itself this often.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// First pause before a flush is sent again; doubled each time up to [`RETRY_MAX`].
const RETRY_FIRST: Duration = Duration::from_millis(10);
/// See [`RETRY_FIRST`].
const RETRY_MAX: Duration = Duration::from_secs(1);
/// Failures in a row after which new holds are refused instead of queued.
const FAILING_AFTER: u32 = 2;
/// How often a drain looks for holds that are still on their way here.
const DRAIN_POLL: Duration = Duration::from_millis(5);
/// Messages that fit without the detour of a full mailbox.
const MAILBOX: usize = 4_096;

/// A hold to be opened.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct EnqueueOpen {
    pub(super) open: HoldOpen,
    pub(super) waiter: Waiter,
    pub(super) place: Place,
}

/// Who waits for a hold.
#[derive(Debug)]
pub(super) enum Waiter {
    /// The rows decide.
    Verdict {
        rate: ChargeRate,
        amount_max: NanoUsd,
        slice: NanoUsd,
        since: Instant,
        reply: oneshot::Sender<Result<Hold, HoldError>>,
        link: Arc<Link>,
    },
    /// It is granted already, and may show nothing before this is called.
    Ticket(oneshot::Sender<()>),
}

/// What a lease gives back.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub(super) struct EnqueueReturn {
    pub(super) account_id: AccountId,
    /// Whose actor it is: the wallet over a cap.
    pub(super) owner_id: AccountId,
    pub(super) amount: NanoUsd,
}

/// A hold to be extended.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct EnqueueExtend(pub(super) HoldExtend);

/// What an open hold has used so far.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct EnqueueCheckpoint(pub(super) Checkpoint);

/// A hold to be resolved. Never refused while the writer lives.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct EnqueueEnd {
    pub(super) resolve: HoldResolve,
    /// The rest of the hold, when the lease does not keep it.
    pub(super) give_back: NanoUsd,
    pub(super) reply: Option<oneshot::Sender<Result<Settled, SettleError>>>,
    pub(super) ending: Ending,
}

/// The use of a free model.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct EnqueueFree {
    pub(super) free: Box<FreeUse>,
    pub(super) reply: oneshot::Sender<Result<AccountRow, SettleError>>,
}

/// Asks to be told when nothing waits any more.
#[derive(Debug, Message)]
#[rtype(result = "oneshot::Receiver<()>")]
pub(super) struct Drain;

/// Asks for a [`WriterObservation`].
#[derive(Debug, Message)]
#[rtype(result = "WriterObservation")]
pub(super) struct ObserveWriter;

/// Sent to itself, so that a flush begins after the whole mailbox was read.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct StartFlush;

/// What a writer is made of.
pub(super) struct WriterOptions {
    pub(super) store: Arc<dyn LedgerStore>,
    pub(super) instance: InstanceId,
    pub(super) gate: Arc<Gate>,
    pub(super) live: Arc<Live>,
    pub(super) ops_max: u32,
    pub(super) wait: Duration,
    /// When the registration was sent.
    pub(super) registered: Instant,
}

/// See the module.
pub(super) struct LedgerWriter {
    options: WriterOptions,
    queue: VecDeque<Op>,
    in_flight: Option<InFlight>,
    scheduled: bool,
    failures: u32,
    drains: Vec<oneshot::Sender<()>>,
    sent: Instant,
    seen: WriterObservation,
    _exit: ExitGuard,
}

impl LedgerWriter {
    pub(super) fn new(options: WriterOptions) -> Self {
        let exit = ExitGuard(Arc::clone(&options.gate));
        Self {
            sent: options.registered,
            options,
            queue: VecDeque::new(),
            in_flight: None,
            scheduled: false,
            failures: 0,
            drains: Vec::new(),
            seen: WriterObservation::default(),
            _exit: exit,
        }
    }

    fn enqueue(&mut self, op: Op, ctx: &mut Context<Self>) {
        self.queue.push_back(op);
        if self.in_flight.is_none() && !self.scheduled {
            self.scheduled = true;
            ctx.notify(StartFlush);
        }
    }

    fn start_flush(&mut self, ctx: &mut Context<Self>) {
        let ops_max = usize::try_from(self.options.ops_max).unwrap_or(usize::MAX);
        let flight = InFlight::take(&mut self.queue, ops_max, self.seen.flush_seq + 1);
        self.in_flight = Some(flight);
        self.send(ctx);
    }

    /// Sends the flush in flight (again). One that gets no answer in time is sent again too: the
    /// sequence number finds out what became of it.
    fn send(&mut self, ctx: &mut Context<Self>) {
        let Some(flight) = &self.in_flight else { return };
        if self.is_stopped() {
            self.stop("stopped");
            return;
        }
        self.sent = Instant::now();
        let ttl_ms = i64::try_from(TTL.as_millis()).unwrap_or(i64::MAX);
        let batch = Arc::clone(&flight.batch);
        let flush = self.options.store.flush(self.options.instance, flight.seq, ttl_ms, batch);
        let answer = tokio::time::timeout(self.options.wait, flush);
        ctx.spawn(answer.into_actor(self).map(|result, writer, ctx| match result {
            Ok(Ok(reply)) => writer.flushed(reply, ctx),
            Ok(Err(error)) => writer.failed(&error, ctx),
            Err(_) => {
                let lost = StorageError::Unavailable { what: "ledger", source: None };
                writer.failed(&FlushError::Retry(lost), ctx);
            }
        }));
    }

    fn flushed(&mut self, reply: FlushReply, ctx: &mut Context<Self>) {
        let Some(flight) = self.in_flight.take() else { return };
        self.failures = 0;
        self.options.gate.set_failing(false);
        if self.options.store.is_shared() {
            self.options.gate.live_until(flight.first_sent, TTL.saturating_sub(TTL_MARGIN));
        }
        let seen = &mut self.seen;
        seen.flush_seq = flight.seq;
        seen.flushes += u64::from(flight.ops() > 0);
        seen.ops += flight.ops();
        seen.ops_in_flush_max = seen.ops_in_flush_max.max(flight.ops());
        let micros = self.sent.elapsed().as_micros();
        seen.last_flush_micros = u64::try_from(micros).unwrap_or(u64::MAX);
        if reply.opens.len() != flight.opens.len()
            || reply.extends.len() != flight.batch.extends.len()
        {
            self.stop("the flush's reply does not fit its batch");
            return;
        }
        let changes = flight.changes(&reply);
        self.seen.granted += reply.granted();
        self.seen.ended += changes.values().map(|change| change.ended).sum::<u64>();
        self.seen.denied += reply.denied();
        flight.record(&reply, self.sent.elapsed());
        self.tell_actors(&flight, &reply, &changes);
        flight.answer(&reply, &changes, |account, open| {
            let live = self.options.live.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(actor) = live.get(&account) {
                // One that is gone drops the reply: the outcome is unknown to the caller.
                drop(deliver(actor, AskAgain(open)));
            }
        });
        if self.is_stopped() {
            self.stop("stopped");
        } else if !self.queue.is_empty() {
            self.start_flush(ctx);
        }
        self.check_drained();
    }

    /// Before any reply: whoever hears of a hold sends its end after this.
    fn tell_actors(
        &self,
        flight: &InFlight,
        reply: &FlushReply,
        changes: &BTreeMap<AccountId, DurableChange>,
    ) {
        let live = self.options.live.read().unwrap_or_else(PoisonError::into_inner);
        for (&account_id, &change) in changes {
            if let Some(actor) = live.get(&flight.owner_of(account_id)) {
                // One that is gone has panicked: its account is set aside.
                let _ = deliver(actor, Durable { account_id, change });
            }
        }
        for (extend, &verdict) in flight.batch.extends.iter().zip(&reply.extends) {
            // Without legs it was granted in memory, and nobody waits.
            if !extend.legs.is_empty()
                && let Some(actor) = live.get(&extend.account_id)
            {
                let _ = deliver(actor, Extended { hold_id: extend.hold_id, verdict });
            }
        }
    }

    fn failed(&mut self, error: &FlushError, ctx: &mut Context<Self>) {
        match error {
            FlushError::Retry(cause) => {
                self.failures = self.failures.saturating_add(1);
                self.seen.retries += 1;
                metrics::ledger().flush_retried();
                let delay = RETRY_FIRST
                    .saturating_mul(1_u32.checked_shl(self.failures - 1).unwrap_or(u32::MAX))
                    .min(RETRY_MAX);
                if self.failures >= FAILING_AFTER {
                    self.options.gate.set_failing(true);
                    log::warn!("a flush of the ledger failed {} times: {cause}", self.failures);
                }
                ctx.run_later(delay, Self::send);
            }
            FlushError::Fenced
            | FlushError::OutOfSequence { .. }
            | FlushError::Mismatch { .. }
            | FlushError::Contradiction { .. }
            | FlushError::Failed(_) => {
                log::error!("the ledger stops: {error}{}", causes(error));
                self.stop(&error.to_string());
            }
        }
    }

    /// For good: what waits is answered as not done, and every later operation too. The holds that
    /// stay open are recovered by the next start.
    fn stop(&mut self, reason: &str) {
        self.options.gate.stop(reason.to_owned());
        let lost = self.queue.len() + self.in_flight.as_ref().map_or(0, |flight| flight.ends.len());
        if lost > 0 {
            log::error!("{lost} operations of the ledger are left to recovery");
        }
        self.in_flight = None;
        self.queue.clear();
        self.drains.clear();
        let live = self.options.live.read().unwrap_or_else(PoisonError::into_inner);
        for actor in live.values() {
            let _ = deliver(actor, Halt);
        }
    }

    fn is_stopped(&self) -> bool {
        self.options.gate.stopped().is_some()
    }

    fn check_drained(&mut self) {
        let is_idle = self.queue.is_empty() && self.in_flight.is_none();
        if is_idle && self.options.gate.waiting() == 0 && self.options.gate.ending() == 0 {
            for drain in self.drains.drain(..) {
                let _ = drain.send(());
            }
        }
    }

    fn heartbeat(&mut self, ctx: &mut Context<Self>) {
        let idle = self.in_flight.is_none() && !self.scheduled;
        if idle && !self.is_stopped() && self.sent.elapsed() >= HEARTBEAT / 2 {
            self.start_flush(ctx);
        }
    }
}

/// The errors below an error, for the log.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = String::new();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

impl Actor for LedgerWriter {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        let gate = Arc::clone(&self.options.gate);
        if self.options.store.is_shared() {
            gate.live_until(self.options.registered, TTL.saturating_sub(TTL_MARGIN));
            ctx.run_interval(HEARTBEAT, Self::heartbeat);
        }
    }
}

impl Handler<EnqueueOpen> for LedgerWriter {
    type Result = ();

    fn handle(&mut self, open: EnqueueOpen, ctx: &mut Self::Context) {
        if !self.is_stopped() {
            self.enqueue(Op::Open(open), ctx);
        } else if let Waiter::Verdict { reply, .. } = open.waiter {
            drop(reply.send(Err(HoldError::Unavailable)));
        }
    }
}

impl Handler<EnqueueReturn> for LedgerWriter {
    type Result = ();

    fn handle(&mut self, give_back: EnqueueReturn, ctx: &mut Self::Context) {
        if !self.is_stopped() {
            self.enqueue(Op::Return(give_back), ctx);
        }
    }
}

impl Handler<EnqueueExtend> for LedgerWriter {
    type Result = ();

    fn handle(&mut self, EnqueueExtend(extend): EnqueueExtend, ctx: &mut Self::Context) {
        if !self.is_stopped() {
            self.enqueue(Op::Extend(extend), ctx);
        }
    }
}

impl Handler<EnqueueCheckpoint> for LedgerWriter {
    type Result = ();

    fn handle(&mut self, EnqueueCheckpoint(point): EnqueueCheckpoint, ctx: &mut Self::Context) {
        if !self.is_stopped() {
            self.enqueue(Op::Checkpoint(point), ctx);
        }
    }
}

impl Handler<EnqueueEnd> for LedgerWriter {
    type Result = ();

    fn handle(&mut self, end: EnqueueEnd, ctx: &mut Self::Context) {
        if self.is_stopped() {
            log::error!("hold {} is left to recovery", end.resolve.hold_id);
            return;
        }
        self.enqueue(Op::End(end), ctx);
    }
}

impl Handler<EnqueueFree> for LedgerWriter {
    type Result = ();

    fn handle(&mut self, free: EnqueueFree, ctx: &mut Self::Context) {
        if !self.is_stopped() {
            self.enqueue(Op::Free(free), ctx);
        }
    }
}

impl Handler<StartFlush> for LedgerWriter {
    type Result = ();

    fn handle(&mut self, _: StartFlush, ctx: &mut Self::Context) {
        self.scheduled = false;
        if self.is_stopped() {
            self.stop("stopped");
        } else if self.in_flight.is_none() && !self.queue.is_empty() {
            self.start_flush(ctx);
        }
    }
}

impl Handler<Drain> for LedgerWriter {
    type Result = MessageResult<Drain>;

    fn handle(&mut self, _: Drain, ctx: &mut Self::Context) -> Self::Result {
        let (done, receiver) = oneshot::channel();
        if !self.is_stopped() {
            self.drains.push(done);
            ctx.run_later(Duration::ZERO, Self::poll_drained);
        }
        MessageResult(receiver)
    }
}

impl LedgerWriter {
    fn poll_drained(&mut self, ctx: &mut Context<Self>) {
        self.check_drained();
        if !self.drains.is_empty() {
            ctx.run_later(DRAIN_POLL, Self::poll_drained);
        }
    }
}

impl Handler<ObserveWriter> for LedgerWriter {
    type Result = MessageResult<ObserveWriter>;

    fn handle(&mut self, _: ObserveWriter, _ctx: &mut Self::Context) -> Self::Result {
        MessageResult(WriterObservation {
            queued: u64::try_from(self.queue.len()).unwrap_or(u64::MAX),
            in_flight: self.in_flight.as_ref().map_or(0, InFlight::ops),
            ..self.seen
        })
    }
}

/// A writer that is gone, also by a panic, stops the ledger.
struct ExitGuard(Arc<Gate>);

impl Drop for ExitGuard {
    fn drop(&mut self) {
        self.0.stop("the writer is gone".to_owned());
    }
}
