//! The money of a stream: one state machine for every kind of stream.

use std::task::{Context, Poll, ready};

use futures_util::{FutureExt, future::LocalBoxFuture, task::noop_waker_ref};

use super::{
    Failure,
    billing::{Bill, Billing, End},
};
use crate::{
    accounts::Payer,
    domain::{ErrorCode, ledger::Finish},
    wire::Meter,
};

/// Relaying, then settling, then ended. The one place where a stream's end is decided.
#[derive(Debug)]
pub(super) struct StreamMoney {
    phase: Phase,
    input_tokens_estimate: u64,
    charge_partial: bool,
}

enum Phase {
    Relaying(Box<Billing>),
    Settling { settlement: Settlement, failure: Option<Failure> },
    Ended,
}

/// What a settled stream tells its client.
#[derive(Debug)]
pub(super) enum Closing {
    /// The upstream's own end was seen and is paid for; `None` when nothing was billed.
    Complete(Option<Bill>),
    /// It failed.
    Failed(Failure),
}

type Settlement = LocalBoxFuture<'static, Result<Option<Bill>, Failure>>;

impl StreamMoney {
    pub(super) fn new(billing: Billing, input_tokens_estimate: u64, charge_partial: bool) -> Self {
        Self { phase: Phase::Relaying(Box::new(billing)), input_tokens_estimate, charge_partial }
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

    /// The upstream is done, well or badly: begins the settlement. Later calls do nothing.
    ///
    /// The settlement's first step runs here, so the ledger has it even when the client leaves
    /// before the stream is polled again.
    pub(super) fn end(&mut self, meter: &Meter, failure: Option<Failure>) {
        if !self.is_relaying() {
            return;
        }
        let Phase::Relaying(billing) = std::mem::replace(&mut self.phase, Phase::Ended) else {
            return;
        };
        // Only this server's own stop has cut a call whose client had left: as at any hang-up.
        let left = billing.has_client_left()
            && failure.as_ref().is_some_and(|failure| failure.code == ErrorCode::ShuttingDown);
        let (finish, payer) = match &failure {
            _ if left => (Finish::ClientGone, Payer::Customer),
            None => (Finish::Complete, Payer::Customer),
            Some(failure) if failure.code == ErrorCode::ShuttingDown => {
                (Finish::Shutdown, Payer::Operator)
            }
            Some(_) if self.charge_partial => (Finish::UpstreamError, Payer::Customer),
            Some(_) => (Finish::UpstreamError, Payer::Operator),
        };
        let end = End { finish, payer, ..End::complete(meter, self.input_tokens_estimate) };
        let produced = left || failure.is_none() || meter.output_seen();
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
        self.phase = Phase::Settling { settlement, failure };
    }

    /// Waits for the settlement (gate 2). `None` when it has been told already.
    pub(super) fn poll_closing(&mut self, cx: &mut Context<'_>) -> Poll<Option<Closing>> {
        let Phase::Settling { settlement, failure } = &mut self.phase else {
            return Poll::Ready(None);
        };
        let settled = ready!(settlement.poll_unpin(cx));
        let failure = failure.take();
        self.phase = Phase::Ended;
        Poll::Ready(Some(match (settled, failure) {
            (_, Some(failure)) | (Err(failure), None) => Closing::Failed(failure),
            (Ok(bill), None) => Closing::Complete(bill),
        }))
    }

    /// The client left: the guard that is about to be dropped bills what `meter` has read.
    pub(super) fn client_left(&mut self, meter: &Meter) {
        if let Phase::Relaying(billing) = &mut self.phase {
            let (usage, basis) = meter.usage_reading(self.input_tokens_estimate);
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
