//! How far a running request has come against its hold: extensions and checkpoints.

use std::{
    future::Future as _,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};

use super::{
    error::CreditExhausted, handle::Link, hold::HoldLimits, messages::ExtendHold,
    outcome::HoldTerms,
};
use crate::domain::{
    NanoUsd, Usage, UsageBasis,
    ledger::{Checkpoint, HoldExtend},
};

/// An extension is asked for when less than this part of a slice may be left, per cent: at 70 % of
/// the slice.
const EXTEND_BELOW_PERCENT: i64 = 30;
/// A checkpoint is written when so much was used since the last one (R§8.2: $0.001).
const CHECKPOINT_NANOUSD: i64 = 1_000_000;
/// A checkpoint is written when the last one is so old.
const CHECKPOINT_AFTER: Duration = Duration::from_secs(1);
/// But no two follow each other faster than this, whatever the model's price is.
const CHECKPOINT_GAP: Duration = Duration::from_millis(100);
/// Denials after which the credit counts as exhausted: at 70 %, and at the end.
const DENIALS_MAX: u8 = 2;

/// See the module.
#[derive(Debug)]
pub(super) struct Progress {
    limits: HoldLimits,
    /// What was noted last costs this much, by what would be billed and by its bound.
    cost: NanoUsd,
    bound: NanoUsd,
    /// An extension that is on its way.
    extension: Option<oneshot::Receiver<Option<NanoUsd>>>,
    denials: u8,
    is_exhausted: bool,
    checkpoint: NanoUsd,
    checkpoint_at: Option<Instant>,
}

impl Progress {
    pub(super) const fn new(limits: HoldLimits) -> Self {
        Self {
            limits,
            cost: NanoUsd::ZERO,
            bound: NanoUsd::ZERO,
            extension: None,
            denials: 0,
            is_exhausted: false,
            checkpoint: NanoUsd::ZERO,
            checkpoint_at: None,
        }
    }

    pub(super) fn affordable(&self) -> NanoUsd {
        self.limits.affordable.min(self.limits.amount_max)
    }

    /// The most that the hold may become.
    pub(super) const fn amount_max(&self) -> NanoUsd {
        self.limits.amount_max
    }

    pub(super) fn limit(&mut self, amount_max: NanoUsd) {
        self.limits.amount_max = self.limits.amount_max.min(amount_max);
    }

    /// Whether recovery would charge something.
    pub(super) fn has_checkpoint(&self) -> bool {
        self.checkpoint > NanoUsd::ZERO
    }

    /// Takes over what was metered by now; see [`super::Hold::progress`].
    pub(super) fn advance(
        &mut self,
        terms: &HoldTerms,
        link: &Link,
        (usage, basis): (Usage, UsageBasis),
        bound: &Usage,
        is_durable: bool,
    ) {
        let cost = |usage| terms.rate.charge_rounding_up(usage).unwrap_or(NanoUsd(i64::MAX));
        self.cost = cost(&usage);
        self.bound = cost(bound).max(self.cost);
        let left = i128::from(terms.amount.0) - i128::from(self.bound.0);
        let least = i128::from(self.limits.slice.0) * i128::from(EXTEND_BELOW_PERCENT);
        if left * 100 <= least && self.denials == 0 {
            self.extend(terms, link);
        }
        if is_durable {
            self.checkpoint(terms, link, usage, basis);
        }
    }

    fn checkpoint(&mut self, terms: &HoldTerms, link: &Link, usage: Usage, basis: UsageBasis) {
        let cost = self.cost.min(terms.amount);
        let since = cost.0 - self.checkpoint.0;
        let now = Instant::now();
        let last = *self.checkpoint_at.get_or_insert(now);
        let age = now.duration_since(last);
        let is_due = age >= CHECKPOINT_AFTER || since >= CHECKPOINT_NANOUSD;
        let is_first = self.checkpoint == NanoUsd::ZERO;
        if since <= 0 || !is_due || (age < CHECKPOINT_GAP && !is_first) {
            return;
        }
        let hold_id = terms.hold_id;
        link.checkpoint(Checkpoint { hold_id, cost, usage, basis });
        (self.checkpoint, self.checkpoint_at) = (cost, Some(now));
    }

    /// Asks for a larger hold, unless one is on its way or it is at its most.
    fn extend(&mut self, terms: &HoldTerms, link: &Link) {
        if self.extension.is_some() || terms.amount >= self.limits.amount_max {
            return;
        }
        let wanted = self.bound.max(terms.amount).0.saturating_add(self.limits.slice.0.max(1));
        let extend = HoldExtend {
            hold_id: terms.hold_id,
            account_id: terms.account_id,
            cap_id: terms.cap_id,
            from: terms.amount,
            to: NanoUsd(wanted).min(self.limits.amount_max),
            legs: Vec::new(),
        };
        let (reply, answer) = oneshot::channel();
        // Dropped with an actor that is gone: as a denial.
        link.extend(ExtendHold { extend, reply });
        self.extension = Some(answer);
    }

    /// See [`super::Hold::poll_covered`].
    pub(super) fn poll_covered(
        &mut self,
        terms: &mut HoldTerms,
        link: &Link,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), CreditExhausted>> {
        if self.is_exhausted {
            return Poll::Ready(Err(CreditExhausted));
        }
        loop {
            let answer = self.extension.as_mut().map(|answer| Pin::new(answer).poll(cx));
            match answer {
                Some(Poll::Ready(Ok(Some(amount)))) => {
                    terms.amount = amount;
                    (self.extension, self.denials) = (None, 0);
                }
                Some(Poll::Ready(Ok(None) | Err(_))) => {
                    self.extension = None;
                    self.denials = self.denials.saturating_add(1);
                }
                Some(Poll::Pending) | None => {}
            }
            if self.cost <= terms.amount || terms.amount >= self.limits.amount_max {
                return Poll::Ready(Ok(()));
            }
            if self.extension.is_some() {
                return Poll::Pending;
            }
            if self.denials >= DENIALS_MAX {
                // What was kept back is not bought later either.
                self.limits.amount_max = terms.amount;
                self.is_exhausted = true;
                return Poll::Ready(Err(CreditExhausted));
            }
            self.extend(terms, link);
        }
    }
}
