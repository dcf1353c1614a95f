//! The money of a stream: one state machine for every kind of stream.

use std::task::{Context, Poll, ready};

use futures_util::{FutureExt, future::LocalBoxFuture, task::noop_waker_ref};

use super::{
    Failure,
    billing::{Bill, Billing, End},
};
use crate::{
    accounts::{CreditExhausted, Payer},
    domain::{ErrorCode, Usage, ledger::Finish},
    wire::Meter,
};

/// Relaying, then settling, then ended. The one place where a stream's end is decided.
#[derive(Debug)]
pub(super) struct StreamMoney {
    phase: Phase,
    terms: MoneyTerms,
    /// Content that [`StreamMoney::covers`] has seen, bytes.
    content_bytes: u64,
}

/// What the money of a stream is reckoned with.
#[derive(Debug, Clone, Copy)]
pub(super) struct MoneyTerms {
    /// Stands in for input that the provider has not told.
    pub(super) input_tokens_estimate: u64,
    /// The most that this input can be billed as.
    pub(super) input_max: Usage,
    /// Whether output that an upstream failure cut short is charged to the customer.
    pub(super) charge_partial: bool,
}

enum Phase {
    Relaying(Box<Billing>),
    Settling { settlement: Settlement, ending: Ending },
    Ended,
}

/// How the relaying ended.
#[derive(Debug)]
pub(super) enum Ending {
    /// The upstream's own end was seen.
    Complete,
    /// It failed.
    Failed(Failure),
    /// There is no credit for what comes next.
    Exhausted,
}

/// What a settled stream tells its client.
#[derive(Debug)]
pub(super) enum Closing {
    /// The upstream's own end was seen and is paid for; `None` when nothing was billed.
    Complete(Option<Bill>),
    /// The credit ran out, and what it paid for is paid.
    Exhausted(Option<Bill>),
    /// It failed.
    Failed(Failure),
}

type Settlement = LocalBoxFuture<'static, Result<Option<Bill>, Failure>>;

impl StreamMoney {
    pub(super) fn new(billing: Billing, terms: MoneyTerms) -> Self {
        Self { phase: Phase::Relaying(Box::new(billing)), terms, content_bytes: 0 }
    }

    /// Whether content that the last record added may be shown now: the credit that is held pays for
    /// it. Where it does not, [`StreamMoney::poll_covered`] tells whether more has come.
    pub(super) fn covers(&mut self, meter: &Meter) -> bool {
        let Phase::Relaying(billing) = &self.phase else { return true };
        let content_bytes = meter.content_bytes();
        if std::mem::replace(&mut self.content_bytes, content_bytes) == content_bytes {
            return true;
        }
        billing.covers(&self.usage(meter))
    }

    /// Notes how far the answer has come; call it once for all that one read brought.
    pub(super) fn progress(&mut self, meter: &Meter) {
        if let Phase::Relaying(billing) = &mut self.phase {
            let (usage, basis) = meter.usage_reading(self.terms.input_tokens_estimate);
            billing.progress(usage, basis, &meter.usage_bound(&self.terms.input_max));
        }
    }

    /// Ready when the credit pays for what was noted last.
    ///
    /// # Errors
    /// [`CreditExhausted`]: there is no more; [`Ending::Exhausted`] is what is left to do.
    ///
    /// # Cancel safety
    /// Polling again asks again.
    pub(super) fn poll_covered(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), CreditExhausted>> {
        match &mut self.phase {
            Phase::Relaying(billing) => billing.poll_covered(cx),
            Phase::Settling { .. } | Phase::Ended => Poll::Ready(Ok(())),
        }
    }

    /// What is billed for what `meter` has read.
    pub(super) fn usage(&self, meter: &Meter) -> Usage {
        meter.usage_reading(self.terms.input_tokens_estimate).0
    }

    /// Whether the upstream's body is still wanted.
    pub(super) const fn is_relaying(&self) -> bool {
        matches!(self.phase, Phase::Relaying(_))
    }

    /// Whether this instance still owns its holds, so that content may go out (gate 1).
    pub(super) fn may_release(&self) -> bool {
        match &self.phase {
            Phase::Relaying(billing) => billing.may_release(),
            Phase::Settling { .. } | Phase::Ended => true,
        }
    }

    /// The relaying is over, well or badly: begins the settlement. Later calls do nothing.
    ///
    /// The settlement's first step runs here, so the ledger has it even when the client leaves
    /// before the stream is polled again.
    pub(super) fn end(&mut self, meter: &Meter, ending: Ending) {
        if !self.is_relaying() {
            return;
        }
        let Phase::Relaying(billing) = std::mem::replace(&mut self.phase, Phase::Ended) else {
            return;
        };
        let shutdown = |failure: &Failure| failure.code == ErrorCode::ShuttingDown;
        let (finish, payer) = match &ending {
            Ending::Complete => (Finish::Complete, Payer::Customer),
            Ending::Exhausted => (Finish::CreditExhausted, Payer::Customer),
            // Only this server's own stop has cut a call whose client had left: as at any hang-up.
            Ending::Failed(failure) if shutdown(failure) && billing.has_client_left() => {
                (Finish::ClientGone, Payer::Customer)
            }
            Ending::Failed(failure) if shutdown(failure) => (Finish::Shutdown, Payer::Operator),
            Ending::Failed(_) if self.terms.charge_partial => {
                (Finish::UpstreamError, Payer::Customer)
            }
            Ending::Failed(_) => (Finish::UpstreamError, Payer::Operator),
        };
        let end = End { finish, payer, ..End::complete(meter, self.terms.input_tokens_estimate) };
        let produced = finish == Finish::ClientGone
            || !matches!(ending, Ending::Failed(_))
            || meter.output_seen();
        let mut settlement: Settlement = async move {
            if produced {
                return billing.settle(end).await.map(Some);
            }
            billing.void().await;
            Ok(None)
        }
        .boxed_local();
        let first = settlement.poll_unpin(&mut Context::from_waker(noop_waker_ref()));
        if let Poll::Ready(settled) = first {
            settlement = std::future::ready(settled).boxed_local();
        }
        self.phase = Phase::Settling { settlement, ending };
    }

    /// Waits for the settlement (gate 2). `None` when it has been told already.
    pub(super) fn poll_closing(&mut self, cx: &mut Context<'_>) -> Poll<Option<Closing>> {
        let Phase::Settling { settlement, .. } = &mut self.phase else {
            return Poll::Ready(None);
        };
        let settled = ready!(settlement.poll_unpin(cx));
        let Phase::Settling { ending, .. } = std::mem::replace(&mut self.phase, Phase::Ended)
        else {
            return Poll::Ready(None);
        };
        Poll::Ready(Some(match (settled, ending) {
            (_, Ending::Failed(failure)) | (Err(failure), _) => Closing::Failed(failure),
            (Ok(bill), Ending::Complete) => Closing::Complete(bill),
            (Ok(bill), Ending::Exhausted) => Closing::Exhausted(bill),
        }))
    }

    /// The client left: the guard that is about to be dropped bills what `meter` has read.
    pub(super) fn client_left(&mut self, meter: &Meter) {
        if let Phase::Relaying(billing) = &mut self.phase {
            let (usage, basis) = meter.usage_reading(self.terms.input_tokens_estimate);
            billing.note(usage, basis);
        }
    }
}

impl std::fmt::Debug for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Relaying(_) => "Relaying",
            Self::Settling { .. } => "Settling",
            Self::Ended => "Ended",
        })
    }
}
