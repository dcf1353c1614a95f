//! One client request's money, from the hold to its one resolution.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use futures_util::future::LocalBoxFuture;

use super::{
    Caller, Failure, Flows, estimate::Estimate, failure, rates::Spender, trace::RequestTrace,
};
use crate::{
    accounts::{Accounts, CreditExhausted, Hold, HoldError, HoldRequest, Outcome, Payer},
    domain::{
        ChargeRate, ErrorCode, FaceId, HoldId, NanoUsd, TokenPrices, Usage, UsageBasis,
        clock::{self, UnixMicros},
        ledger::{Attempt, Finish, FreeUse, HoldOpen, HoldResolve, IdemClaim, StoredResponse},
    },
    providers::{Model, ProviderError, SentMark},
    wire::Meter,
};

/// What a finished request cost and what is left.
#[derive(Debug, Clone, Copy)]
pub struct Bill {
    /// What the customer paid, nano-USD.
    pub charge: NanoUsd,
    /// Balance after it (charges settled so far; holds of running requests not deducted).
    pub balance: NanoUsd,
    /// The tokens that were billed.
    pub usage: Usage,
}

/// The guard of a request's money.
///
/// Exactly one of [`Billing::settle`], [`Billing::void`] or `Drop` resolves it. Dropped, it bills
/// what was last noted, as for a client that left, and nothing when the request had not begun to
/// go out to its provider.
#[derive(Debug)]
pub(super) struct Billing {
    guard: Option<Guard>,
    rate: ChargeRate,
    model: Arc<Model>,
    noted: Option<(Usage, UsageBasis)>,
    sent: SentMark,
    started_at: i64,
    status: u16,
    trace: RequestTrace,
    spender: Spender,
}

/// What must be resolved, once.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly every request takes a hold")]
enum Guard {
    /// Reserved credit.
    Hold(Hold),
    /// A free model takes no hold: its use is written when it ends.
    Free { open: Box<HoldOpen>, accounts: Accounts },
}

/// How a request ended, for its settlement.
#[derive(Debug, Clone)]
pub(super) struct End {
    pub(super) usage: Usage,
    pub(super) basis: UsageBasis,
    pub(super) finish: Finish,
    pub(super) payer: Payer,
    pub(super) upstream_id: Option<String>,
    /// Whether the provider told a usage that can't be true, so that it counts as absent.
    pub(super) implausible: bool,
}

impl End {
    /// The end of an answer that came whole, as `meter` has read it.
    pub(super) fn complete(meter: &Meter, input_tokens_estimate: u64) -> Self {
        let (usage, basis) = meter.usage_reading(input_tokens_estimate);
        Self {
            usage,
            basis,
            finish: Finish::Complete,
            payer: Payer::Customer,
            upstream_id: meter.upstream_id().map(str::to_owned),
            implausible: meter.implausible(),
        }
    }
}

impl Flows {
    /// Reserves what a request needs to begin and returns its guard, with the `max_tokens` to send
    /// upstream when the account can't afford the worst case.
    ///
    /// # Errors
    /// 402 with its reason, 503 when the ledger can't promise anything; nothing is held then.
    ///
    /// # Cancel safety
    /// Dropped while waiting, the hold is released by the account's actor.
    pub(super) async fn open_billing(
        &self,
        caller: &Caller,
        face_id: Option<FaceId>,
        model: &Arc<Model>,
        estimate: &Estimate,
        idem: Option<IdemClaim>,
        trace: &RequestTrace,
    ) -> Result<(Billing, Option<u64>), Failure> {
        let price = self.inner.prices.of(model)?;
        let rate = price.rate;
        let ask = estimate.ask(&rate)?;
        let open = HoldOpen {
            hold_id: HoldId::generate(),
            account_id: caller.account_id,
            key_id: caller.key_id,
            face_id,
            amount: ask.amount,
            funds_min: ask.funds_min,
            cap_id: caller.budget.map(|budget| budget.cap_id),
            legs: Vec::new(),
            price_id: price.id,
            model: model.id.clone(),
            idem: idem.map(Box::new),
        };
        let mut clamp = None;
        // With an idempotency key a free request takes a hold (of 0) too, which claims the key.
        let guard = if rate.prices.is_free() && open.idem.is_none() {
            self.refuse_blocked(caller).await?;
            Guard::Free { open: Box::new(open), accounts: self.inner.accounts.clone() }
        } else {
            let budget = caller.budget.as_ref();
            budget.map_or(Ok(()), |budget| budget.refuse_spent(ask.funds_min))?;
            let request = HoldRequest { open, rate, amount_max: ask.amount_max, slice: ask.slice };
            let held = self.inner.accounts.hold(request).await;
            let mut hold = held.map_err(|error| {
                failure::refused_hold(error, ask.funds_min, budget, |amount| {
                    estimate.affordable(&rate, amount)
                })
            })?;
            clamp = estimate.clamp(&rate, &ask, hold.affordable());
            if let Some(clamp) = clamp {
                hold.limit(clamp.amount_max);
            }
            Guard::Hold(hold)
        };
        let billing = Billing {
            guard: Some(guard),
            rate,
            model: Arc::clone(model),
            noted: None,
            sent: SentMark::default(),
            started_at: 0,
            status: 0,
            trace: trace.clone(),
            spender: Spender::of(&self.inner.platform.inner.rates, caller),
        };
        Ok((billing, clamp.map(|clamp| clamp.max_tokens)))
    }

    /// Output tokens that an answer holds at a time; `None`: it must be held whole. A JSON answer can't
    /// be metered on its way, nor a stream that does not show all that is billed.
    pub(super) fn slice_tokens(
        &self,
        model: &Model,
        stream: bool,
        asks_for_reasoning: bool,
    ) -> Option<u64> {
        let is_metered = stream && !model.hides_output(asks_for_reasoning);
        is_metered.then_some(self.inner.options.hold_slice_tokens)
    }

    /// A free model needs no credit, but an account that may spend. Asks the database at most once
    /// in `cache_ttl_ms` for an account.
    async fn refuse_blocked(&self, caller: &Caller) -> Result<(), Failure> {
        let directory = &self.inner.platform.inner.directory;
        let blocked = match directory.is_blocked(caller.account_id) {
            Some(blocked) => blocked,
            None => {
                let asked = Instant::now();
                let row = self.inner.accounts.account_row(caller.account_id).await?;
                let no_account =
                    || failure::refused_hold(HoldError::NoAccount, NanoUsd::ZERO, None, |_| 0);
                let blocked = row.ok_or_else(no_account)?.is_blocked();
                directory.note_blocked(caller.account_id, blocked, asked);
                blocked
            }
        };
        if blocked { Err(failure::frozen()) } else { Ok(()) }
    }
}

impl Billing {
    /// The provider is about to be asked, with this mark on the request: once that is set, the
    /// input is owed even if the client leaves.
    pub(super) fn start(&mut self, estimate: &Estimate) -> SentMark {
        self.started_at = clock::now().0;
        let usage = Usage { input_uncached: estimate.input_tokens_estimate, ..Usage::default() };
        self.note(usage, UsageBasis::Counted);
        self.sent.clone()
    }

    /// Remembers the upstream's status for the last attempt's row.
    pub(super) const fn answered(&mut self, status: u16) {
        self.status = status;
    }

    /// Waits until the hold is durable (gate 1). A free model has none.
    ///
    /// # Errors
    /// 503 when the ledger does not answer in time.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub(super) async fn durable(&mut self) -> Result<(), Failure> {
        match &mut self.guard {
            Some(Guard::Hold(hold)) => hold.durable().await.map_err(|error| {
                log::error!(target: "faces::accounts", "{}", crate::telemetry::chain(&error));
                failure::ledger_unavailable()
            }),
            Some(Guard::Free { .. }) | None => Ok(()),
        }
    }

    /// As [`Billing::void`], and waits for nothing: the ledger did not answer a moment ago.
    pub(super) fn abandon(mut self) {
        let Some(Guard::Hold(hold)) = self.guard.take() else { return };
        // On its way already.
        drop(hold.void(self.attempts(None)));
        self.trace.update(|line| {
            line.cost = Some(NanoUsd::ZERO);
            line.finish = Some(Finish::Failed.as_str());
        });
    }

    /// Whether content may go to the client: the hold is still this instance's.
    pub(super) fn may_release(&self) -> bool {
        match &self.guard {
            Some(Guard::Hold(hold)) => hold.may_release(),
            Some(Guard::Free { .. }) => true,
            None => false,
        }
    }

    /// Keeps the answer for the request's idempotency key, when it has one; settling writes it.
    pub(super) fn keep_response(&mut self, response: impl FnOnce() -> StoredResponse) {
        if let Some(Guard::Hold(hold)) = &mut self.guard {
            hold.keep_response(response);
        }
    }

    /// Remembers what would be billed if the client left now.
    pub(super) const fn note(&mut self, usage: Usage, basis: UsageBasis) {
        self.noted = Some((usage, basis));
    }

    /// Notes how far a running answer has come: what would be billed now, and what the provider may
    /// have counted. More credit is asked for in time, and a checkpoint written now and then.
    pub(super) fn progress(&mut self, usage: Usage, basis: UsageBasis, bound: &Usage) {
        self.note(usage, basis);
        if let Some(Guard::Hold(hold)) = &mut self.guard {
            hold.progress(usage, basis, bound);
        }
    }

    /// Whether the credit that is held pays for `usage`.
    pub(super) fn covers(&self, usage: &Usage) -> bool {
        match &self.guard {
            Some(Guard::Hold(hold)) => {
                self.rate.charge_rounding_up(usage).is_some_and(|cost| cost <= hold.amount())
            }
            Some(Guard::Free { .. }) | None => true,
        }
    }

    /// Ready when the credit pays for what was noted last. What is read on for a client that has
    /// left is not shown to anybody, so it waits for nothing.
    ///
    /// # Errors
    /// [`CreditExhausted`]: it does not, and there is no more.
    ///
    /// # Cancel safety
    /// Polling again asks again.
    pub(super) fn poll_covered(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), CreditExhausted>> {
        match &mut self.guard {
            Some(Guard::Hold(hold)) if !self.trace.has_client_left() => hold.poll_covered(cx),
            Some(Guard::Hold(_) | Guard::Free { .. }) | None => Poll::Ready(Ok(())),
        }
    }

    /// Settles: durable when it returns (gate 2).
    ///
    /// # Errors
    /// When durability can't be told; the end must not be shown then. The settlement stays queued.
    ///
    /// # Cancel safety
    /// Once called, the settlement happens, whether or not the future is polled to its end.
    pub(super) async fn settle(mut self, end: End) -> Result<Bill, Failure> {
        let Some(guard) = self.guard.take() else { return Err(failure::ledger_unavailable()) };
        let finish = self.finish_of(&end);
        if end.implausible {
            log::warn!(
                target: "faces::flows",
                "provider={} model={} request={}: told a usage that can't be true; it counts as \
                 absent and the request is billed by {}",
                self.model.provider.name,
                self.model.upstream_id,
                self.trace.request_id(),
                end.basis.as_str()
            );
        }
        self.spender.spend(&end.usage);
        let attempts = self.attempts(end.upstream_id);
        let outcome =
            Outcome { usage: end.usage, basis: end.basis, finish, payer: end.payer, attempts };
        let (charge, account) = match guard {
            Guard::Hold(hold) => {
                let settled = hold.settle(outcome).await?;
                (settled.charge, settled.account)
            }
            Guard::Free { open, accounts } => {
                (NanoUsd::ZERO, accounts.record_free(free_use(*open, outcome)).await?)
            }
        };
        self.trace.update(|line| {
            line.input_tokens = Some(end.usage.input_total());
            line.output_tokens = Some(end.usage.output_total());
            line.cost = Some(charge);
            line.basis = Some(end.basis);
            line.finish = Some(finish.as_str());
        });
        Ok(Bill { charge, balance: account.balance(), usage: end.usage })
    }

    /// Releases the hold without a charge. An unreachable ledger is logged, not told: the caller
    /// has a better error to tell, and the release stays queued.
    ///
    /// Boxed: every call would carry room for it, and few need it.
    pub(super) fn void(mut self) -> LocalBoxFuture<'static, ()> {
        Box::pin(async move {
            let Some(Guard::Hold(hold)) = self.guard.take() else { return };
            let attempts = if self.started_at == 0 { Vec::new() } else { self.attempts(None) };
            self.trace.update(|line| {
                line.cost = Some(NanoUsd::ZERO);
                line.finish = Some(Finish::Failed.as_str());
            });
            if let Err(error) = hold.void(attempts).await {
                log::error!(target: "faces::accounts", "{}", crate::telemetry::chain(&error));
            }
        })
    }

    /// The prices that the hold has pinned.
    pub(super) const fn prices(&self) -> &TokenPrices {
        &self.rate.prices
    }

    /// Whether the client has left and its upstream is read on without it.
    pub(super) fn has_client_left(&self) -> bool {
        self.trace.has_client_left()
    }

    /// What an end is called once the client has left: nobody saw a complete answer.
    fn finish_of(&self, end: &End) -> Finish {
        match end.finish {
            Finish::Complete if self.has_client_left() => Finish::ClientGone,
            finish => finish,
        }
    }

    /// A JSON answer broke off: nobody pays, except a client that had left and whose call only this
    /// server's own stop has cut; it owes its input as at any hang-up.
    pub(super) async fn broken_off(self, error: ProviderError) -> Failure {
        let failure = Failure::from(error);
        if failure.code == ErrorCode::ShuttingDown && self.has_client_left() {
            drop(self);
        } else {
            self.void().await;
        }
        failure
    }

    /// The tries so far. The pool makes a second one when a connection turned out stale; the answer
    /// is the last one's.
    fn attempts(&self, upstream_id: Option<String>) -> Vec<Attempt> {
        let attempt = |status, upstream_id, started_at, ended_at| Attempt {
            provider: self.model.provider.name.clone(),
            upstream_model: self.model.upstream_id.clone(),
            status,
            upstream_id,
            started_at,
            ended_at,
        };
        let now = clock::now().0;
        match self.sent.repeated_at() {
            None => vec![attempt(self.status, upstream_id, self.started_at, now)],
            Some(UnixMicros(repeated_at)) => vec![
                attempt(0, None, self.started_at, repeated_at),
                attempt(self.status, upstream_id, repeated_at, now),
            ],
        }
    }
}

impl Drop for Billing {
    fn drop(&mut self) {
        let Some(guard) = self.guard.take() else { return };
        // A request that never began to go out was no try and costs nothing.
        let attempts = if self.sent.is_set() { self.attempts(None) } else { Vec::new() };
        let noted = self.noted.filter(|_| self.sent.is_set());
        if let Some((usage, _)) = &noted {
            self.spender.spend(usage);
        }
        let held = match guard {
            Guard::Hold(mut hold) => {
                if let Some((usage, basis)) = noted {
                    hold.note(usage, basis);
                }
                hold.note_attempts(attempts);
                // Dropped with the match: it settles what was noted, or voids itself.
                hold.amount()
            }
            Guard::Free { open, accounts } => {
                if let Some((usage, basis)) = noted {
                    let (finish, payer) = (Finish::ClientGone, Payer::Customer);
                    let outcome = Outcome { usage, basis, finish, payer, attempts };
                    // On its way already; nobody waits for its durability.
                    drop(accounts.record_free(free_use(*open, outcome)));
                }
                NanoUsd::ZERO
            }
        };
        let rate = self.rate;
        self.trace.update(|line| {
            line.finish = Some(Finish::ClientGone.as_str());
            if let Some((usage, basis)) = noted {
                line.input_tokens = Some(usage.input_total());
                line.output_tokens = Some(usage.output_total());
                line.basis = Some(basis);
                line.cost = rate.charge_rounding_up(&usage).map(|cost| cost.min(held));
            }
        });
    }
}

/// The use of a free model, opened and resolved at once. Its id is made now: a row must not come
/// long after its id, which is how the audit knows what is complete.
fn free_use(open: HoldOpen, outcome: Outcome) -> FreeUse {
    let open = HoldOpen { hold_id: HoldId::generate(), ..open };
    let resolve = HoldResolve {
        hold_id: open.hold_id,
        account_id: open.account_id,
        cap_id: open.cap_id,
        amount: NanoUsd::ZERO,
        charge: NanoUsd::ZERO,
        overrun: NanoUsd::ZERO,
        provider_cost: NanoUsd::ZERO,
        usage: outcome.usage,
        basis: outcome.basis,
        finish: outcome.finish,
        attempts: outcome.attempts,
        idem: None,
    };
    FreeUse { open, resolve }
}
