//! Holds that become larger: the account actor's part of it.
//!
//! An end never overtakes an extension of its hold: it waits here until the rows have decided, and
//! then ends the hold with the amount that it has by then.

use actix::{AsyncContext as _, Context, Handler};
use tokio::{sync::oneshot, time::Instant};

use super::{
    account::{AccountActor, RECALL_POLL, RECALL_WAIT},
    core,
    handle::deliver,
    lease::Violation,
    messages::{EndHold, ExtendHold, Extended},
    writer::EnqueueExtend,
};
use crate::domain::{
    HoldId, NanoUsd,
    ledger::{ExtendVerdict, HoldExtend},
};

/// A hold that is being made larger.
#[derive(Debug)]
pub(super) struct Extension {
    extend: HoldExtend,
    /// The request that waits for it, when one does.
    reply: Option<oneshot::Sender<Option<NanoUsd>>>,
    /// The hold's end, which waits for it.
    end: Option<EndHold>,
    /// Whether the rows have been asked; else it waits for what the lease is about to get.
    is_asked: bool,
    since: Instant,
}

impl Extension {
    fn new(
        extend: HoldExtend,
        reply: Option<oneshot::Sender<Option<NanoUsd>>>,
        end: Option<EndHold>,
    ) -> Self {
        Self { extend, reply, end, is_asked: false, since: Instant::now() }
    }
}

impl AccountActor {
    /// A hold ends now, or once it is known what an extension makes of it. What its hold does not
    /// cover is asked for first, as far as the request could cost at most.
    pub(super) fn end_or_extend(&mut self, mut end: EndHold) -> Result<(), Violation> {
        let hold_id = end.resolve.hold_id;
        if let Some(extension) = self.extensions.get_mut(&hold_id) {
            if extension.is_asked {
                extension.end = Some(end);
                return Ok(());
            }
            self.extensions.remove(&hold_id);
        }
        self.core.adjust(&mut end.resolve);
        let resolve = &end.resolve;
        let whole = NanoUsd(resolve.amount.0.saturating_add(resolve.overrun.0));
        let to = whole.min(end.amount_max);
        if to <= resolve.amount {
            return self.end(end);
        }
        let extend = HoldExtend {
            hold_id,
            account_id: resolve.account_id,
            cap_id: resolve.cap_id,
            from: resolve.amount,
            to,
            legs: Vec::new(),
        };
        self.extensions.insert(hold_id, Extension::new(extend, None, Some(end)));
        self.ask_extension(hold_id)
    }

    /// Those that waited for what the lease was about to get.
    pub(super) fn extend_parked(&mut self) -> Result<(), Violation> {
        let parked = self.extensions.iter().filter(|(_, extension)| !extension.is_asked);
        let parked: Vec<HoldId> = parked.map(|(id, _)| *id).collect();
        parked.into_iter().try_for_each(|id| self.ask_extension(id))
    }

    fn ask_extension(&mut self, hold_id: HoldId) -> Result<(), Violation> {
        let policy = self.policy();
        let Some(extension) = self.extensions.get_mut(&hold_id) else { return Ok(()) };
        let extend = &mut extension.extend;
        let legs = match self.core.extend(extend, &policy)? {
            core::Extended::Later => return Ok(()),
            core::Extended::Here => None,
            core::Extended::Ask { legs } => Some(legs),
        };
        let is_here = legs.is_none();
        extend.legs = legs.unwrap_or_default();
        let (to, enqueue) = (extend.to, EnqueueExtend(extend.clone()));
        extension.is_asked = true;
        // First on its way, then told. A writer that is gone has stopped the ledger.
        drop(deliver(&self.shared.writer, enqueue));
        if is_here {
            return self.tell_extension(hold_id, Some(to));
        }
        self.note_question();
        Ok(())
    }

    /// An extension is decided: the request hears of it, or the end that waited is sent.
    fn tell_extension(&mut self, hold_id: HoldId, to: Option<NanoUsd>) -> Result<(), Violation> {
        let Some(extension) = self.extensions.remove(&hold_id) else { return Ok(()) };
        if let Some(amount) = to {
            self.core.extended(hold_id, amount);
        }
        if let Some(reply) = extension.reply {
            // Who does not wait any more sends the hold's end, which learns the amount here.
            let _ = reply.send(to);
        }
        extension.end.map_or(Ok(()), |end| self.end(end))
    }
}

impl Handler<ExtendHold> for AccountActor {
    type Result = ();

    fn handle(&mut self, ExtendHold { extend, reply }: ExtendHold, _ctx: &mut Self::Context) {
        let hold_id = extend.hold_id;
        self.extensions.insert(hold_id, Extension::new(extend, Some(reply), None));
        let asked = self.ask_extension(hold_id);
        self.conclude(asked);
    }
}

impl Handler<Extended> for AccountActor {
    type Result = ();

    fn handle(&mut self, Extended { hold_id, verdict }: Extended, ctx: &mut Context<Self>) {
        let amount = match verdict {
            ExtendVerdict::Granted { amount } => Some(amount),
            ExtendVerdict::Denied { is_recalled } => {
                let waiting = self.extensions.get_mut(&hold_id);
                if let Some(extension) = waiting
                    && is_recalled
                    && extension.since.elapsed() < RECALL_WAIT
                {
                    ctx.run_later(RECALL_POLL, move |actor, _| {
                        let asked = actor.ask_extension(hold_id);
                        actor.conclude(asked);
                    });
                    return;
                }
                None
            }
        };
        let told = self.tell_extension(hold_id, amount);
        self.conclude(told);
    }
}
