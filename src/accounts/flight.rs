//! The flush in flight: what goes into it, and who hears what came of it.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Instant,
};

use tokio::sync::oneshot;

use super::{
    account::OpenHoldRequest,
    core::{DurableChange, HoldTerms},
    error::{HoldError, SettleError},
    gate::Place,
    handle::Link,
    hold::{Hold, Settled},
    writer::{EnqueueEnd, EnqueueFree},
};
use crate::domain::{
    AccountId, ChargeRate, NanoUsd,
    ledger::{AccountRow, FlushBatch, FlushReply, LeaseOp, Leg, OpenVerdict},
};

/// Something that waits for a flush.
pub(super) enum Op {
    Open(OpenHoldRequest),
    End(EnqueueEnd),
    Free(EnqueueFree),
}

/// One flush and everybody who waits for it.
pub(super) struct InFlight {
    pub(super) seq: i64,
    /// When it was sent for the first time: the try that was committed may be that one.
    pub(super) first_sent: Instant,
    pub(super) batch: Arc<FlushBatch>,
    pub(super) opens: Vec<WaitingOpen>,
    pub(super) ends: Vec<Option<oneshot::Sender<Result<Settled, SettleError>>>>,
    pub(super) free: Vec<oneshot::Sender<Result<AccountRow, SettleError>>>,
}

pub(super) struct WaitingOpen {
    reply: oneshot::Sender<Result<Hold, HoldError>>,
    rate: ChargeRate,
    _place: Place,
}

impl InFlight {
    /// Operations in it.
    pub(super) fn ops(&self) -> u64 {
        let ops = self.opens.len() + self.ends.len() + self.free.len();
        u64::try_from(ops).unwrap_or(u64::MAX)
    }

    /// Takes what waits, oldest first.
    ///
    /// With the policy `exact` a lease has what the running requests hold and nothing else: the rows
    /// grant each hold, and its end gives the rest back and folds the charge.
    pub(super) fn take(queue: &mut VecDeque<Op>, ops_max: usize, seq: i64) -> Self {
        let count = queue.len().min(ops_max);
        let mut batch = FlushBatch::default();
        let (mut opens, mut ends, mut free) = (Vec::new(), Vec::new(), Vec::new());
        let mut unused_of: BTreeMap<AccountId, i64> = BTreeMap::new();
        for op in queue.drain(..count) {
            match op {
                Op::Open(OpenHoldRequest { mut request, reply, place }) => {
                    request.open.legs = vec![exact_leg(request.open.account_id)];
                    opens.push(WaitingOpen { reply, rate: request.rate, _place: place });
                    batch.opens.push(request.open);
                }
                Op::End(end) => {
                    ends.push(end.reply);
                    let unused = end.resolve.amount.0 - end.resolve.charge.0;
                    *unused_of.entry(end.resolve.account_id).or_default() += unused;
                    batch.resolves.push(end.resolve);
                }
                Op::Free(one) => {
                    free.push(one.reply);
                    batch.free.push(*one.free);
                }
            }
        }
        batch.leases = unused_of
            .into_iter()
            .map(|(account_id, unused)| LeaseOp {
                account_id,
                give_back: NanoUsd(unused),
                fold: true,
            })
            .collect();
        Self { seq, first_sent: Instant::now(), batch: Arc::new(batch), opens, ends, free }
    }

    /// What the flush did to each account.
    pub(super) fn changes(&self, reply: &FlushReply) -> BTreeMap<AccountId, DurableChange> {
        let mut changes: BTreeMap<AccountId, DurableChange> = reply
            .accounts
            .iter()
            .map(|row| (row.account_id, DurableChange { row: Some(*row), ..Default::default() }))
            .collect();
        for (open, verdict) in self.batch.opens.iter().zip(&reply.opens) {
            if let OpenVerdict::Granted { amount, .. } = verdict {
                let change = changes.entry(open.account_id).or_default();
                change.granted += 1;
                change.granted_amount = NanoUsd(change.granted_amount.0.saturating_add(amount.0));
            }
        }
        for end in &self.batch.resolves {
            let change = changes.entry(end.account_id).or_default();
            change.ended += 1;
            change.ended_amount = NanoUsd(change.ended_amount.0.saturating_add(end.amount.0));
        }
        changes
    }

    /// Answers everybody.
    pub(super) fn answer(
        self,
        link: &Arc<Link>,
        reply: &FlushReply,
        changes: &BTreeMap<AccountId, DurableChange>,
    ) {
        let batch = self.batch;
        for ((waiting, open), verdict) in self.opens.into_iter().zip(&batch.opens).zip(&reply.opens)
        {
            let answer = match *verdict {
                OpenVerdict::Granted { amount, .. } => {
                    let terms = HoldTerms {
                        hold_id: open.hold_id,
                        account_id: open.account_id,
                        amount,
                        rate: waiting.rate,
                    };
                    Ok(Hold::new(Arc::clone(link), terms))
                }
                OpenVerdict::Denied { row, .. } => Err(HoldError::Denied(row)),
                OpenVerdict::Blocked(row) => Err(HoldError::Blocked(row)),
                OpenVerdict::NoAccount => Err(HoldError::NoAccount),
            };
            // Nobody waits any more: the hold is dropped here, and so voids itself.
            drop(waiting.reply.send(answer));
        }
        let row = |account: &AccountId| changes.get(account).and_then(|change| change.row);
        for (reply, end) in self.ends.into_iter().zip(&batch.resolves) {
            let Some(reply) = reply else { continue };
            let settled = row(&end.account_id).map(|account| Settled {
                charge: end.charge,
                overrun: end.overrun,
                provider_cost: end.provider_cost,
                account,
            });
            let _ = reply.send(settled.ok_or(SettleError::Stopped));
        }
        for (reply, free) in self.free.into_iter().zip(&batch.free) {
            let _ = reply.send(row(&free.open.account_id).ok_or(SettleError::Stopped));
        }
    }
}

/// All of the hold, from the account's row.
const fn exact_leg(account_id: AccountId) -> Leg {
    Leg {
        account_id,
        aside: NanoUsd::ZERO,
        spare: NanoUsd::ZERO,
        want: NanoUsd::ZERO,
        is_shared: false,
    }
}
