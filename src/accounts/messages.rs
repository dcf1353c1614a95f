//! What an account's actor hears.

use std::time::Duration;

use actix::Message;
use tokio::{sync::oneshot, time::Instant};

use super::{
    error::{HoldError, SettleError},
    gate::{Ending, Place},
    handle::HoldRequest,
    hold::{Hold, Settled},
    lease::DurableChange,
};
use crate::domain::{
    AccountId, HoldId, NanoUsd,
    ledger::{AccountRow, ExtendVerdict, HoldExtend, HoldResolve},
};

/// A hold that somebody waits for.
#[derive(Debug)]
pub(super) struct OpenHoldRequest {
    pub(super) request: HoldRequest,
    pub(super) reply: oneshot::Sender<Result<Hold, HoldError>>,
    pub(super) place: Place,
    /// When the hold was asked for first.
    pub(super) since: Instant,
}

impl Message for OpenHoldRequest {
    type Result = ();
}

/// A hold that was denied while other instances are giving back what they don't use.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct AskAgain(pub(super) OpenHoldRequest);

/// A hold shall become larger.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct ExtendHold {
    pub(super) extend: HoldExtend,
    /// Hears the new amount, or `None` when it stays as it is.
    pub(super) reply: oneshot::Sender<Option<NanoUsd>>,
}

/// The rows have decided an extension.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub(super) struct Extended {
    pub(super) hold_id: HoldId,
    pub(super) verdict: ExtendVerdict,
}

/// A hold ends. Never refused while the ledger lives.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct EndHold {
    pub(super) resolve: HoldResolve,
    /// The most that the hold may become to pay for it: the worst case of its request.
    pub(super) amount_max: NanoUsd,
    pub(super) reply: Option<oneshot::Sender<Result<Settled, SettleError>>>,
    pub(super) ending: Ending,
}

/// What a flush did to this account, or to a cap under it.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub(super) struct Durable {
    pub(super) account_id: AccountId,
    pub(super) change: DurableChange,
}

/// A row of this account, or of a cap under it, that the keeper has read.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub(super) struct Seen(pub(super) AccountRow);

/// The account's row was changed by an administrator: it must be read again before it is believed.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub(super) struct Changed;

/// The ledger has stopped for good: nobody gets an answer any more.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub(super) struct Halt;

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
