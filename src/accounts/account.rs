//! One actor per live account: owns the account's lease in memory.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use actix::{Actor, ActorContext as _, Addr, AsyncContext as _, Context, Handler, Message};
use tokio::sync::oneshot;

use super::{
    core::{AccountCore, DurableChange, HoldTerms, Reserved, Violation},
    error::{HoldError, SettleError},
    gate::{Gate, Place},
    handle::{HoldRequest, Link, deliver},
    hold::{Hold, Settled},
    registry::{AccountRegistry, Exited, Idle},
    writer::{EnqueueEnd, EnqueueOpen, EnqueueReturn, LedgerWriter, Waiter},
};
use crate::domain::{AccountId, ledger::HoldResolve};

/// Messages that fit without the detour of a full mailbox.
const MAILBOX: usize = 1_024;

/// A hold that somebody waits for.
#[derive(Debug)]
pub(super) struct OpenHoldRequest {
    pub(super) request: HoldRequest,
    pub(super) reply: oneshot::Sender<Result<Hold, HoldError>>,
    pub(super) place: Place,
}

impl Message for OpenHoldRequest {
    type Result = ();
}

/// A hold ends. Never refused while the ledger lives.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct EndHold {
    pub(super) resolve: HoldResolve,
    pub(super) reply: Option<oneshot::Sender<Result<Settled, SettleError>>>,
}

/// What a flush did to this account.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Durable(pub(super) DurableChange);

/// The account's row was changed by an administrator: it must be read again before it is believed.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub(super) struct Changed;

/// Asks whether this account has nothing to do; if so, the actor tells the registry.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Sweep {
    /// How long it must have been without work.
    pub(super) idle: Duration,
}

/// The registry has forgotten this actor, so no message can follow: it may stop.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Passivate;

/// What all account actors share.
#[derive(Debug, Clone)]
pub(super) struct AccountShared {
    pub(super) registry: Addr<AccountRegistry>,
    pub(super) writer: Addr<LedgerWriter>,
    pub(super) gate: Arc<Gate>,
    /// How long a row is believed.
    pub(super) fresh_for: Duration,
    /// Longest wait for durability.
    pub(super) wait: Duration,
    /// Whether leases keep their credit between requests.
    pub(super) retains: bool,
}

/// Serialises the holds of one account: reserves them in its lease, and asks the account's row when
/// the lease does not have enough or the row was not seen for a while.
///
/// It refuses a hold by itself only when the row it saw moments ago was frozen or closed;
/// sufficiency is decided on the account row, inside the flush.
#[derive(Debug)]
pub(super) struct AccountActor {
    core: AccountCore,
    seen: Instant,
    /// Whether the account was changed here after its row was seen.
    is_stale: bool,
    used: Instant,
    /// Holds that wait for what the lease is about to get. Bounded by the gate's places.
    parked: VecDeque<OpenHoldRequest>,
    link: Option<Arc<Link>>,
    shared: AccountShared,
    exit: ExitGuard,
}

impl AccountActor {
    pub(super) fn new(account: AccountId, generation: u64, shared: AccountShared) -> Self {
        let registry = shared.registry.clone();
        Self {
            core: AccountCore::default(),
            seen: Instant::now(),
            is_stale: false,
            used: Instant::now(),
            parked: VecDeque::new(),
            link: None,
            shared,
            exit: ExitGuard { registry, account, generation, orderly: false },
        }
    }

    fn open(&mut self, open: OpenHoldRequest, link: Arc<Link>) -> Result<(), Violation> {
        if open.reply.is_closed() {
            return Ok(());
        }
        let is_fresh = !self.is_stale
            && self.core.row().is_some()
            && self.seen.elapsed() < self.shared.fresh_for;
        if let Some(row) = self.core.row()
            && row.is_blocked()
            && is_fresh
        {
            drop(open.reply.send(Err(HoldError::Blocked(*row))));
            return Ok(());
        }
        let reserved = self.core.reserve(&open.request.open, self.shared.retains, is_fresh)?;
        if reserved == Reserved::Later {
            self.parked.push_back(open);
            return Ok(());
        }
        let OpenHoldRequest { request: HoldRequest { open: mut hold, rate }, reply, place } = open;
        match reserved {
            Reserved::Later => {}
            Reserved::Here => {
                let (durable, ticket) = oneshot::channel();
                let terms = HoldTerms {
                    hold_id: hold.hold_id,
                    account_id: hold.account_id,
                    amount: hold.amount,
                    rate,
                };
                // First on its way, then told: whoever hears of the hold sends its end after this.
                let enqueue = EnqueueOpen { open: hold, waiter: Waiter::Ticket(durable), place };
                if deliver(&self.shared.writer, enqueue).is_err() {
                    drop(reply.send(Err(HoldError::Unavailable)));
                    return Ok(());
                }
                // Nobody waits any more: the hold is dropped here, and so voids itself.
                drop(reply.send(Ok(Hold::new(link, terms, Some(ticket)))));
            }
            Reserved::Ask { leg } => {
                hold.legs = vec![leg];
                let waiter = Waiter::Verdict { rate, reply, link };
                // A writer that is gone drops the reply: the outcome is unknown to the caller.
                drop(deliver(&self.shared.writer, EnqueueOpen { open: hold, waiter, place }));
            }
        }
        Ok(())
    }

    /// The lease got what there was: those that waited for it decide again, oldest first.
    fn open_parked(&mut self, is_acquired: bool) -> Result<(), Violation> {
        if !is_acquired {
            return Ok(());
        }
        for open in std::mem::take(&mut self.parked) {
            if let Some(link) = self.link.clone() {
                self.open(open, link)?;
            }
        }
        Ok(())
    }

    /// Everything that is not reserved leaves memory, and then the lease.
    fn give_back_all(&mut self) {
        if let Some(amount) = self.core.give_back_all() {
            let account_id = self.exit.account;
            // A writer that is gone has stopped the ledger: recovery gives it back.
            let _ = deliver(&self.shared.writer, EnqueueReturn { account_id, amount });
        }
    }

    fn stop_on(&self, done: Result<(), Violation>) {
        if let Err(violation) = done {
            log::error!("the ledger stops: {violation}");
            self.shared.gate.stop(violation.to_string());
        }
    }
}

impl Actor for AccountActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        let AccountShared { writer, gate, wait, .. } = &self.shared;
        let link = Link::new(writer.clone(), Some(ctx.address()), Arc::clone(gate), *wait);
        self.link = Some(Arc::new(link));
    }
}

impl Handler<OpenHoldRequest> for AccountActor {
    type Result = ();

    fn handle(&mut self, open: OpenHoldRequest, _ctx: &mut Self::Context) {
        self.used = Instant::now();
        if let Some(link) = self.link.clone() {
            let opened = self.open(open, link);
            self.stop_on(opened);
        }
    }
}

impl Handler<EndHold> for AccountActor {
    type Result = ();

    fn handle(&mut self, EndHold { resolve, reply }: EndHold, _ctx: &mut Self::Context) {
        self.used = Instant::now();
        match self.core.end(&resolve, self.shared.retains) {
            Ok(give_back) => {
                // A writer that is gone has stopped the ledger: recovery ends the hold.
                drop(deliver(&self.shared.writer, EnqueueEnd { resolve, give_back, reply }));
            }
            Err(violation) => self.stop_on(Err(violation)),
        }
    }
}

impl Handler<Durable> for AccountActor {
    type Result = ();

    fn handle(&mut self, Durable(change): Durable, _ctx: &mut Self::Context) {
        if change.row.is_some() {
            self.seen = Instant::now();
            self.is_stale &= !change.is_acquired;
        }
        self.used = Instant::now();
        let done = self.core.durable(self.exit.account, &change);
        let done = done.and_then(|()| self.open_parked(change.is_acquired));
        self.stop_on(done);
        if self.core.row().is_some_and(crate::domain::ledger::AccountRow::is_blocked) {
            self.give_back_all();
        }
    }
}

impl Handler<Changed> for AccountActor {
    type Result = ();

    fn handle(&mut self, _: Changed, _ctx: &mut Self::Context) {
        self.is_stale = true;
    }
}

impl Handler<Sweep> for AccountActor {
    type Result = ();

    fn handle(&mut self, Sweep { idle }: Sweep, _ctx: &mut Self::Context) {
        if self.core.holds() != 0 || self.used.elapsed() < idle {
            return;
        }
        if self.core.is_empty() {
            let exit = &self.exit;
            let message = Idle { account: exit.account, generation: exit.generation };
            drop(deliver(&exit.registry, message));
        } else {
            self.give_back_all();
        }
    }
}

impl Handler<Passivate> for AccountActor {
    type Result = ();

    fn handle(&mut self, _: Passivate, ctx: &mut Self::Context) {
        self.exit.orderly = true;
        ctx.stop();
    }
}

/// Tells the registry that this actor is gone: orderly, or by a panic.
#[derive(Debug)]
struct ExitGuard {
    registry: Addr<AccountRegistry>,
    account: AccountId,
    generation: u64,
    orderly: bool,
}

impl Drop for ExitGuard {
    fn drop(&mut self) {
        let exited =
            Exited { account: self.account, generation: self.generation, orderly: self.orderly };
        // With the registry gone there is nobody to tell.
        drop(deliver(&self.registry, exited));
    }
}
