//! One actor per live account: the first to hear of a hold.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use actix::{Actor, ActorContext as _, Addr, Context, Handler, Message};
use tokio::sync::oneshot;

use super::{
    core::{AccountCore, DurableChange},
    error::HoldError,
    gate::{Gate, Place},
    handle::{HoldRequest, deliver},
    hold::Hold,
    registry::{AccountRegistry, Exited, Idle},
    writer::{EnqueueOpen, LedgerWriter},
};
use crate::domain::AccountId;

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

/// What a flush did to this account.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Durable(pub(super) DurableChange);

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

/// Serialises the opens of one account and remembers its last row.
///
/// It refuses a hold by itself only when the row it saw moments ago was frozen or closed;
/// sufficiency is decided on the account row, inside the flush.
#[derive(Debug)]
pub(super) struct AccountActor {
    core: AccountCore,
    seen: Instant,
    used: Instant,
    blocked_for: Duration,
    writer: Addr<LedgerWriter>,
    gate: Arc<Gate>,
    exit: ExitGuard,
}

impl AccountActor {
    pub(super) fn new(
        account: AccountId,
        generation: u64,
        registry: Addr<AccountRegistry>,
        writer: Addr<LedgerWriter>,
        gate: Arc<Gate>,
        blocked_for: Duration,
    ) -> Self {
        Self {
            core: AccountCore::new(),
            seen: Instant::now(),
            used: Instant::now(),
            blocked_for,
            writer,
            gate,
            exit: ExitGuard { registry, account, generation, orderly: false },
        }
    }
}

impl Actor for AccountActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
    }
}

impl Handler<OpenHoldRequest> for AccountActor {
    type Result = ();

    fn handle(&mut self, open: OpenHoldRequest, _ctx: &mut Self::Context) {
        self.used = Instant::now();
        if let Some(row) = self.core.row()
            && row.is_blocked()
            && self.seen.elapsed() < self.blocked_for
        {
            drop(open.reply.send(Err(HoldError::Blocked(*row))));
            return;
        }
        if let Err(unsent) = deliver(&self.writer, EnqueueOpen(open)) {
            drop(unsent.0.reply.send(Err(HoldError::Unavailable)));
        }
    }
}

impl Handler<Durable> for AccountActor {
    type Result = ();

    fn handle(&mut self, Durable(change): Durable, _ctx: &mut Self::Context) {
        self.seen = Instant::now();
        self.used = self.seen;
        if let Err(violation) = self.core.durable(&change) {
            log::error!("the ledger stops: {violation}");
            self.gate.stop(violation.to_string());
        }
    }
}

impl Handler<Sweep> for AccountActor {
    type Result = ();

    fn handle(&mut self, Sweep { idle }: Sweep, _ctx: &mut Self::Context) {
        if self.core.holds() == 0 && self.used.elapsed() >= idle {
            let exit = &self.exit;
            let message = Idle { account: exit.account, generation: exit.generation };
            drop(deliver(&exit.registry, message));
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
