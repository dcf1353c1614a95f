//! The guard of a hold.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::sync::oneshot;

use super::{
    error::{CreditExhausted, HoldError, SettleError},
    handle::Link,
    messages::EndHold,
    outcome::{self, HoldTerms, Outcome, Payer},
    progress::Progress,
};
use crate::domain::{
    HoldId, NanoUsd, Usage, UsageBasis,
    ledger::{AccountRow, Attempt, Finish, HoldResolve, IdemEnd, StoredResponse},
};

/// A settlement that is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// What the customer paid.
    pub charge: NanoUsd,
    /// What the hold did not cover; the operator's.
    pub overrun: NanoUsd,
    /// The cost that the operator took over.
    pub provider_cost: NanoUsd,
    /// The account after it.
    pub account: AccountRow,
}

/// Reserved credit for one request. Resolved exactly once (I2), whatever happens to the
/// request: [`Hold::settle`] or [`Hold::void`] consume it, and dropping it settles what was noted
/// (as [`Finish::ClientGone`]), or voids it when nothing was.
#[must_use = "dropping a hold resolves it"]
#[derive(Debug)]
pub struct Hold {
    open: Option<OpenHold>,
    terms: HoldTerms,
}

#[derive(Debug)]
struct OpenHold {
    link: Arc<Link>,
    /// `None` once the hold is durable.
    ticket: Option<oneshot::Receiver<()>>,
    noted: Option<(Usage, UsageBasis)>,
    attempts: Vec<Attempt>,
    progress: Progress,
    /// What is kept for the idempotency key, when one was claimed.
    idem: Option<Box<IdemEnd>>,
}

/// What bounds a hold beyond its amount.
#[derive(Debug, Clone, Copy)]
pub(super) struct HoldLimits {
    /// The most that it may become.
    pub(super) amount_max: NanoUsd,
    /// What one extension adds at least.
    pub(super) slice: NanoUsd,
    /// What the account could afford when it was granted.
    pub(super) affordable: NanoUsd,
}

impl Hold {
    /// A hold that is durable (`ticket` is `None`), or will be when its ticket is called.
    pub(super) fn new(
        link: Arc<Link>,
        terms: HoldTerms,
        limits: HoldLimits,
        ticket: Option<oneshot::Receiver<()>>,
    ) -> Self {
        let progress = Progress::new(limits);
        let open =
            OpenHold { link, ticket, noted: None, attempts: Vec::new(), progress, idem: None };
        Self { open: Some(open), terms }
    }

    /// Its idempotency key was claimed with it.
    pub(super) fn with_key(mut self) -> Self {
        if let Some(open) = &mut self.open {
            open.idem = Some(Box::default());
        }
        self
    }

    /// Its id; also the id of its charge and usage rows.
    #[must_use]
    pub const fn id(&self) -> HoldId {
        self.terms.hold_id
    }

    /// What is reserved now: from what was granted on, it grows by extensions.
    #[must_use]
    pub const fn amount(&self) -> NanoUsd {
        self.terms.amount
    }

    /// What the account could afford for this request when the hold was granted, the hold included:
    /// at most the request's `amount_max`. Other requests may have taken it since.
    #[must_use]
    pub fn affordable(&self) -> NanoUsd {
        self.open.as_ref().map_or(self.terms.amount, |open| open.progress.affordable())
    }

    /// Lowers the most that the hold may become: the request was made smaller.
    pub fn limit(&mut self, amount_max: NanoUsd) {
        if let Some(open) = &mut self.open {
            open.progress.limit(amount_max);
        }
    }

    /// Whether the hold is known to be durable and this instance still owns its holds, so that
    /// content may go to the client. `false` after the instance's own deadline (it could not renew
    /// itself) and after a stop.
    #[must_use]
    pub fn may_release(&self) -> bool {
        let released = |open: &OpenHold| open.ticket.is_none() && open.link.gate.is_live();
        self.open.as_ref().is_some_and(released)
    }

    /// Ready when the hold is durable (gate 1): no byte of content may reach the client before.
    ///
    /// # Errors
    /// [`HoldError`]: it never will be; nothing may be shown, and nothing is charged.
    ///
    /// # Cancel safety
    /// Polling again asks again.
    pub fn poll_durable(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), HoldError>> {
        let Some(open) = &mut self.open else { return Poll::Ready(Err(HoldError::Unavailable)) };
        if let Some(ticket) = &mut open.ticket {
            // The writer drops tickets only when it stops for good.
            ready!(Pin::new(ticket).poll(cx)).map_err(|_| HoldError::Unavailable)?;
            open.ticket = None;
        }
        let is_live = open.link.gate.is_live();
        Poll::Ready(if is_live { Ok(()) } else { Err(HoldError::Unavailable) })
    }

    /// Waits for [`Hold::poll_durable`], at most `ledger_wait_ms`.
    ///
    /// # Errors
    /// As [`Hold::poll_durable`], and [`HoldError::OutcomeUnknown`] when there is no answer in time.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing; call it again to wait again.
    pub async fn durable(&mut self) -> Result<(), HoldError> {
        let hold_id = self.terms.hold_id;
        let Some(wait) = self.open.as_ref().map(|open| open.link.wait) else {
            return Err(HoldError::Unavailable);
        };
        let durable = std::future::poll_fn(|cx| self.poll_durable(cx));
        tokio::time::timeout(wait, durable)
            .await
            .unwrap_or(Err(HoldError::OutcomeUnknown { hold_id }))
    }

    /// Notes what dropping the hold would bill, before there is any output.
    pub fn note(&mut self, usage: Usage, basis: UsageBasis) {
        if let Some(open) = &mut self.open {
            open.noted = Some((usage, basis));
        }
    }

    /// Notes the tries at an upstream, for the rows that dropping the hold would write.
    pub fn note_attempts(&mut self, attempts: Vec<Attempt>) {
        if let Some(open) = &mut self.open {
            open.attempts = attempts;
        }
    }

    /// Notes how far the answer has come: what would be billed now (also by dropping the hold), and
    /// a bound of what the provider may have counted. Asks for an extension when the bound's cost
    /// reaches 70 % of the last slice, and writes a checkpoint (what recovery would charge) when the last
    /// one is a second or $0.001 old. Cheap; call it whenever output was metered.
    pub fn progress(&mut self, usage: Usage, basis: UsageBasis, bound: &Usage) {
        let Some(open) = &mut self.open else { return };
        open.noted = Some((usage, basis));
        let is_durable = open.ticket.is_none();
        open.progress.advance(&self.terms, &open.link, (usage, basis), bound, is_durable);
    }

    /// Ready when the cost that [`Hold::progress`] noted last is inside the hold, or the hold is at
    /// its most (then the provider enforces the request's bound).
    ///
    /// # Errors
    /// [`CreditExhausted`] when an extension was denied: what goes beyond the hold must not be shown.
    ///
    /// # Cancel safety
    /// Polling again asks again.
    pub fn poll_covered(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CreditExhausted>> {
        let Some(open) = &mut self.open else { return Poll::Ready(Ok(())) };
        open.progress.poll_covered(&mut self.terms, &open.link, cx)
    }

    /// Keeps the answer for whoever asks with the same idempotency key again; nothing without one.
    /// Call it before [`Hold::settle`], which writes both in one transaction (so gate 2 covers it).
    pub fn keep_response(&mut self, response: impl FnOnce() -> StoredResponse) {
        if let Some(idem) = self.open.as_mut().and_then(|open| open.idem.as_mut()) {
            idem.response = Some(response());
        }
    }

    /// Settles: the cost of `outcome.usage` is charged, the rest of the hold released. A cost above
    /// the hold is first asked for (an extension, at most to the request's `amount_max`), else the
    /// operator's. Answers when that is durable (gate 2). An outcome without attempts keeps the noted
    /// ones.
    ///
    /// # Errors
    /// [`SettleError`]; also then the settlement is never lost while this process lives.
    ///
    /// # Cancel safety
    /// The settlement is on its way before this function returns its future: dropping the future,
    /// polled or not, changes nothing.
    pub fn settle(
        mut self,
        mut outcome: Outcome,
    ) -> impl Future<Output = Result<Settled, SettleError>> + Send + 'static {
        let open = self.open.take();
        let terms = self.terms;
        let sent = open.map(|open| {
            if outcome.attempts.is_empty() {
                outcome.attempts = open.attempts;
            }
            let amount_max = open.progress.amount_max();
            let end = outcome::resolve(&terms, outcome);
            send_end(&open.link, HoldResolve { idem: open.idem, ..end }, amount_max)
        });
        wait(sent)
    }

    /// Releases everything without a charge. The future answers when that is durable; nobody needs
    /// to wait for it. After a checkpoint its cost is the operator's.
    ///
    /// # Errors
    /// As [`Hold::settle`].
    ///
    /// # Cancel safety
    /// As [`Hold::settle`].
    pub fn void(
        mut self,
        attempts: Vec<Attempt>,
    ) -> impl Future<Output = Result<Settled, SettleError>> + Send + 'static {
        let open = self.open.take();
        let terms = self.terms;
        let sent = open.map(|open| {
            let attempts = if attempts.is_empty() { open.attempts } else { attempts };
            let end = match open.noted {
                Some((usage, basis)) if open.progress.has_checkpoint() => {
                    let (finish, payer) = (Finish::Failed, Payer::Operator);
                    outcome::resolve(&terms, Outcome { usage, basis, finish, attempts, payer })
                }
                Some(_) | None => outcome::void(&terms, attempts),
            };
            let end = HoldResolve { idem: open.idem, ..end };
            send_end(&open.link, end, terms.amount)
        });
        wait(sent)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let Some(open) = self.open.take() else { return };
        let end = match open.noted {
            Some((usage, basis)) if !usage.is_empty() => outcome::resolve(
                &self.terms,
                Outcome {
                    usage,
                    basis,
                    finish: Finish::ClientGone,
                    attempts: open.attempts,
                    payer: Payer::Customer,
                },
            ),
            Some(_) | None => outcome::void(&self.terms, open.attempts),
        };
        let amount_max = open.progress.amount_max();
        let resolve = HoldResolve { idem: open.idem, ..end };
        let ending = open.link.gate.end();
        let end = EndHold { resolve, amount_max, reply: None, ending };
        if let Err(unsent) = open.link.end(end) {
            report_lost(&unsent);
        }
    }
}

type Sent = (oneshot::Receiver<Result<Settled, SettleError>>, Duration);

fn send_end(link: &Arc<Link>, resolve: HoldResolve, amount_max: NanoUsd) -> Sent {
    let (reply, answer) = oneshot::channel();
    let ending = link.gate.end();
    let end = EndHold { resolve, amount_max, reply: Some(reply), ending };
    if let Err(unsent) = link.end(end) {
        report_lost(&unsent);
    }
    (answer, link.wait)
}

async fn wait(sent: Option<Sent>) -> Result<Settled, SettleError> {
    let Some((answer, wait)) = sent else { return Err(SettleError::Stopped) };
    match tokio::time::timeout(wait, answer).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(SettleError::Stopped),
        Err(_) => Err(SettleError::Pending),
    }
}

fn report_lost(unsent: &EndHold) {
    log::error!(
        "the ledger has stopped: hold {} (charge {} nano-USD) is left to recovery",
        unsent.resolve.hold_id,
        unsent.resolve.charge.0
    );
}
