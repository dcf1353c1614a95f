//! The flush in flight: what goes into it, and who hears what came of it.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    sync::Arc,
    time::Instant,
};

use tokio::sync::oneshot;

use super::{
    core::{DurableChange, HoldTerms},
    error::{HoldError, SettleError},
    gate::Place,
    hold::{Hold, Settled},
    writer::{EnqueueEnd, EnqueueFree, EnqueueOpen, EnqueueReturn, Waiter},
};
use crate::domain::{
    AccountId, HoldId, NanoUsd,
    ledger::{AccountRow, FlushBatch, FlushReply, HoldOpen, LeaseOp, OpenVerdict},
};

/// Something that waits for a flush.
pub(super) enum Op {
    Open(EnqueueOpen),
    End(EnqueueEnd),
    Return(EnqueueReturn),
    Free(EnqueueFree),
}

/// One flush and everybody who waits for it.
pub(super) struct InFlight {
    pub(super) seq: i64,
    /// When it was sent for the first time: the try that was committed may be that one.
    pub(super) first_sent: Instant,
    pub(super) batch: Arc<FlushBatch>,
    pub(super) opens: Vec<(Waiter, Place)>,
    pub(super) ends: Vec<Option<oneshot::Sender<Result<Settled, SettleError>>>>,
    pub(super) free: Vec<oneshot::Sender<Result<AccountRow, SettleError>>>,
}

impl InFlight {
    /// Operations in it.
    pub(super) fn ops(&self) -> u64 {
        let ops = self.opens.len() + self.ends.len() + self.free.len();
        u64::try_from(ops).unwrap_or(u64::MAX)
    }

    /// Takes what waits, oldest first, as far as the end of a hold that would be opened by this same
    /// flush. Charges are folded at once: the account's row is read for the bill anyway.
    pub(super) fn take(queue: &mut VecDeque<Op>, ops_max: usize, seq: i64) -> Self {
        let mut batch = FlushBatch::default();
        let (mut opens, mut ends, mut free) = (Vec::new(), Vec::new(), Vec::new());
        let mut given_back: BTreeMap<AccountId, i64> = BTreeMap::new();
        let mut opened: HashSet<HoldId> = HashSet::new();
        for _ in 0..ops_max {
            if let Some(Op::End(end)) = queue.front()
                && opened.contains(&end.resolve.hold_id)
            {
                break;
            }
            match queue.pop_front() {
                Some(Op::Open(EnqueueOpen { open, waiter, place })) => {
                    opened.insert(open.hold_id);
                    opens.push((waiter, place));
                    batch.opens.push(open);
                }
                Some(Op::End(EnqueueEnd { resolve, give_back, reply })) => {
                    ends.push(reply);
                    *given_back.entry(resolve.account_id).or_default() += give_back.0;
                    batch.resolves.push(resolve);
                }
                Some(Op::Return(EnqueueReturn { account_id, amount })) => {
                    *given_back.entry(account_id).or_default() += amount.0;
                }
                Some(Op::Free(one)) => {
                    free.push(one.reply);
                    batch.free.push(*one.free);
                }
                None => break,
            }
        }
        let lease =
            |(account_id, amount)| LeaseOp { account_id, give_back: NanoUsd(amount), fold: true };
        batch.leases = given_back.into_iter().map(lease).collect();
        Self { seq, first_sent: Instant::now(), batch: Arc::new(batch), opens, ends, free }
    }

    /// What the flush did to each account.
    pub(super) fn changes(&self, reply: &FlushReply) -> BTreeMap<AccountId, DurableChange> {
        let mut changes: BTreeMap<AccountId, DurableChange> = BTreeMap::new();
        for row in &reply.accounts {
            changes.entry(row.account_id).or_default().row = Some(*row);
        }
        for lease in &reply.leases {
            changes.entry(lease.account_id).or_default().lease = Some(*lease);
        }
        for (open, verdict) in self.batch.opens.iter().zip(&reply.opens) {
            let change = changes.entry(open.account_id).or_default();
            // A hold without legs is in the memory of its account already.
            for leg in &open.legs {
                add(&mut change.aside, leg.aside);
                change.is_acquired |= leg.want > NanoUsd::ZERO;
                if let OpenVerdict::Granted { amount, .. } = verdict {
                    add(&mut change.granted_amount, *amount);
                } else {
                    change.denied += 1;
                }
            }
        }
        for end in &self.batch.resolves {
            let change = changes.entry(end.account_id).or_default();
            change.ended += 1;
            add(&mut change.charged, end.charge);
        }
        for lease in &self.batch.leases {
            add(&mut changes.entry(lease.account_id).or_default().given_back, lease.give_back);
        }
        changes
    }

    /// Answers everybody.
    pub(super) fn answer(self, reply: &FlushReply, changes: &BTreeMap<AccountId, DurableChange>) {
        let batch = self.batch;
        for (((waiter, _place), open), verdict) in
            self.opens.into_iter().zip(&batch.opens).zip(&reply.opens)
        {
            tell(waiter, open, verdict);
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

/// Tells one hold's verdict.
fn tell(waiter: Waiter, open: &HoldOpen, verdict: &OpenVerdict) {
    let (rate, reply, link) = match waiter {
        Waiter::Verdict { rate, reply, link } => (rate, reply, link),
        Waiter::Ticket(durable) => {
            let _ = durable.send(());
            return;
        }
    };
    let (hold_id, account_id) = (open.hold_id, open.account_id);
    let answer = match *verdict {
        OpenVerdict::Granted { amount, .. } => {
            Ok(Hold::new(link, HoldTerms { hold_id, account_id, amount, rate }, None))
        }
        OpenVerdict::Denied { mut row, .. } => {
            // What this instance had set aside for the hold is not in anybody's way.
            for leg in open.legs.iter().filter(|leg| leg.account_id == row.account_id) {
                row.leased.0 -= leg.aside.0;
            }
            Err(HoldError::Denied(row))
        }
        OpenVerdict::Blocked(row) => Err(HoldError::Blocked(row)),
        OpenVerdict::NoAccount => Err(HoldError::NoAccount),
    };
    // Nobody waits any more: the hold is dropped here, and so voids itself.
    drop(reply.send(answer));
}

/// Amounts of one flush; no account can hold more than `i64` in all.
const fn add(sum: &mut NanoUsd, amount: NanoUsd) {
    sum.0 = sum.0.saturating_add(amount.0);
}
