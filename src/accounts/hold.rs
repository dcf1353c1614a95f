//! The guard of a hold.

use std::{
    future::Future,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::sync::oneshot;

use super::{
    core::{self, HoldTerms, Outcome, Payer},
    error::{HoldError, SettleError},
    handle::Link,
    writer::EnqueueEnd,
};
use crate::domain::{
    HoldId, NanoUsd, Usage, UsageBasis,
    ledger::{AccountRow, Attempt, Finish, HoldResolve},
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

/// How far a hold covers what was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Go on.
    Covered,
    /// The hold is used up and more was asked for: show nothing more until
    /// [`Hold::poll_standing`] answers.
    Waiting,
    /// The hold is used up and there is no more: cut the request off here and settle.
    Exhausted,
}

/// Reserved credit for one request, durable. Resolved exactly once (I2), whatever happens to the
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
    noted: Option<(Usage, UsageBasis)>,
    attempt: Option<Attempt>,
}

impl Hold {
    pub(super) fn new(link: Arc<Link>, terms: HoldTerms) -> Self {
        Self { open: Some(OpenHold { link, noted: None, attempt: None }), terms }
    }

    /// Its id; also the id of its charge and usage rows.
    #[must_use]
    pub const fn id(&self) -> HoldId {
        self.terms.hold_id
    }

    /// What is reserved: between `funds_min` and the `amount` that was asked for.
    #[must_use]
    pub const fn amount(&self) -> NanoUsd {
        self.terms.amount
    }

    /// Whether this instance still owns its holds, so that content may go to the client. `false`
    /// after its own deadline (it could not renew itself) and after a stop.
    #[must_use]
    pub fn may_release(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.link.gate.is_live())
    }

    /// Ready when the hold is durable (gate 1): no byte of content may reach the client before.
    ///
    /// # Errors
    /// [`HoldError`]: it never will be; nothing may be shown, and nothing is charged.
    ///
    /// # Cancel safety
    /// Polling again asks again.
    pub fn poll_durable(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), HoldError>> {
        Poll::Ready(Ok(()))
    }

    /// What the account could pay for this request when the hold was granted, the hold included.
    #[must_use]
    pub const fn affordable(&self) -> NanoUsd {
        self.terms.amount
    }

    /// As [`Hold::note`], and says whether the hold still covers it. From 70 % of the hold on it
    /// asks for more by itself; about once a second it writes a checkpoint.
    pub fn progress(&mut self, usage: Usage, basis: UsageBasis) -> Standing {
        self.note(usage, basis);
        Standing::Covered
    }

    /// Waits while [`Hold::progress`] answered [`Standing::Waiting`].
    ///
    /// # Cancel safety
    /// Polling again asks again.
    pub fn poll_standing(&mut self, _cx: &mut Context<'_>) -> Poll<Standing> {
        Poll::Ready(Standing::Covered)
    }

    /// Notes what was used so far: what dropping the hold would bill. Cheap; call it as often as
    /// the meter moves.
    pub fn note(&mut self, usage: Usage, basis: UsageBasis) {
        if let Some(open) = &mut self.open {
            open.noted = Some((usage, basis));
        }
    }

    /// Notes the upstream call, for the row that dropping the hold would write.
    pub fn note_attempt(&mut self, attempt: Attempt) {
        if let Some(open) = &mut self.open {
            open.attempt = Some(attempt);
        }
    }

    /// Settles: the cost of `outcome.usage` is charged up to the hold's amount, the rest released.
    /// Answers when that is durable (gate 2). An outcome without an attempt keeps the noted one.
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
            if outcome.attempt.is_none() {
                outcome.attempt = open.attempt;
            }
            send_end(&open.link, core::resolve(&terms, outcome))
        });
        wait(sent)
    }

    /// Releases everything without a charge. The future answers when that is durable; nobody needs
    /// to wait for it.
    ///
    /// # Errors
    /// As [`Hold::settle`].
    ///
    /// # Cancel safety
    /// As [`Hold::settle`].
    pub fn void(
        mut self,
        attempt: Option<Attempt>,
    ) -> impl Future<Output = Result<Settled, SettleError>> + Send + 'static {
        let open = self.open.take();
        let terms = self.terms;
        let sent =
            open.map(|open| send_end(&open.link, core::void(&terms, attempt.or(open.attempt))));
        wait(sent)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let Some(open) = self.open.take() else { return };
        let end = match open.noted {
            Some((usage, basis)) if !usage.is_empty() => core::resolve(
                &self.terms,
                Outcome {
                    usage,
                    basis,
                    finish: Finish::ClientGone,
                    attempt: open.attempt,
                    payer: Payer::Customer,
                },
            ),
            Some(_) | None => core::void(&self.terms, open.attempt),
        };
        if let Err(unsent) = open.link.end(EnqueueEnd { resolve: end, reply: None }) {
            report_lost(&unsent);
        }
    }
}

type Sent = (oneshot::Receiver<Result<Settled, SettleError>>, Duration);

fn send_end(link: &Arc<Link>, resolve: HoldResolve) -> Sent {
    let (reply, answer) = oneshot::channel();
    if let Err(unsent) = link.end(EnqueueEnd { resolve, reply: Some(reply) }) {
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

fn report_lost(unsent: &EnqueueEnd) {
    log::error!(
        "the ledger has stopped: hold {} (charge {} nano-USD) is left to recovery",
        unsent.resolve.hold_id,
        unsent.resolve.charge.0
    );
}
