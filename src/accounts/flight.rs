//! The flush in flight: what goes into it, and who hears what came of it.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};

use super::{
    account::RECALL_WAIT,
    error::{HoldError, SettleError},
    gate::{Ending, Place},
    handle::HoldRequest,
    hold::{Hold, Settled},
    lease::DurableChange,
    messages::OpenHoldRequest,
    outcome::{HoldTerms, denial_reason},
    writer::{EnqueueEnd, EnqueueFree, EnqueueOpen, EnqueueReturn, Waiter},
};
use crate::{
    domain::{
        AccountId, HoldId, NanoUsd,
        ledger::{
            AccountRow, Checkpoint, ExtendVerdict, FlushBatch, FlushReply, HoldExtend, HoldOpen,
            LeaseOp, Leg, OpenVerdict,
        },
    },
    telemetry::metrics,
};

/// Something that waits for a flush.
pub(super) enum Op {
    Open(EnqueueOpen),
    Extend(HoldExtend),
    Checkpoint(Checkpoint),
    End(EnqueueEnd),
    Return(EnqueueReturn),
    Free(EnqueueFree),
}

/// Where a settlement is waited for.
type SettleReply = oneshot::Sender<Result<Settled, SettleError>>;

/// One flush and everybody who waits for it.
pub(super) struct InFlight {
    pub(super) seq: i64,
    /// When it was sent for the first time: the try that was committed may be that one.
    pub(super) first_sent: Instant,
    pub(super) batch: Arc<FlushBatch>,
    pub(super) opens: Vec<(Waiter, Place)>,
    pub(super) ends: Vec<(Option<SettleReply>, Ending)>,
    pub(super) free: Vec<oneshot::Sender<Result<AccountRow, SettleError>>>,
    /// The wallets over the caps.
    owners: BTreeMap<AccountId, AccountId>,
}

/// A flush that is being filled.
#[derive(Default)]
struct Filling {
    batch: FlushBatch,
    opens: Vec<(Waiter, Place)>,
    ends: Vec<(Option<SettleReply>, Ending)>,
    free: Vec<oneshot::Sender<Result<AccountRow, SettleError>>>,
    owners: BTreeMap<AccountId, AccountId>,
    given_back: BTreeMap<AccountId, i64>,
    /// Holds that this flush opens or extends: what comes next for them goes into a later one.
    changed: HashSet<HoldId>,
    /// Where the checkpoint of a hold stands.
    checkpoints: HashMap<HoldId, usize>,
}

impl Filling {
    /// Whether an operation must wait for the next flush, because this one changes its hold.
    fn must_wait(&self, op: &Op) -> bool {
        match op {
            Op::End(end) => self.changed.contains(&end.resolve.hold_id),
            Op::Checkpoint(point) => self.changed.contains(&point.hold_id),
            Op::Extend(extend) => {
                self.changed.contains(&extend.hold_id)
                    || self.checkpoints.contains_key(&extend.hold_id)
            }
            Op::Open(_) | Op::Return(_) | Op::Free(_) => false,
        }
    }

    fn push(&mut self, op: Op) {
        match op {
            Op::Open(EnqueueOpen { open, waiter, place }) => {
                self.changed.insert(open.hold_id);
                self.note_owner(open.cap_id, open.account_id);
                self.opens.push((waiter, place));
                self.batch.opens.push(open);
            }
            Op::Extend(extend) => {
                self.changed.insert(extend.hold_id);
                self.note_owner(extend.cap_id, extend.account_id);
                self.batch.extends.push(extend);
            }
            Op::Checkpoint(point) => {
                let next = self.batch.checkpoints.len();
                let at = *self.checkpoints.entry(point.hold_id).or_insert(next);
                match self.batch.checkpoints.get_mut(at) {
                    Some(earlier) => *earlier = point,
                    None => self.batch.checkpoints.push(point),
                }
            }
            Op::End(EnqueueEnd { resolve, give_back, reply, ending }) => {
                self.drop_checkpoint(resolve.hold_id);
                self.note_owner(resolve.cap_id, resolve.account_id);
                self.ends.push((reply, ending));
                for id in std::iter::once(resolve.account_id).chain(resolve.cap_id) {
                    *self.given_back.entry(id).or_default() += give_back.0;
                }
                self.batch.resolves.push(resolve);
            }
            Op::Return(EnqueueReturn { account_id, owner_id, amount }) => {
                self.note_owner(Some(account_id), owner_id);
                *self.given_back.entry(account_id).or_default() += amount.0;
            }
            Op::Free(one) => {
                self.free.push(one.reply);
                self.batch.free.push(*one.free);
            }
        }
    }

    fn note_owner(&mut self, cap: Option<AccountId>, owner: AccountId) {
        if let Some(cap) = cap.filter(|cap| *cap != owner) {
            self.owners.insert(cap, owner);
        }
    }

    /// The end of a hold says all that its checkpoint does.
    fn drop_checkpoint(&mut self, hold: HoldId) {
        let Some(at) = self.checkpoints.remove(&hold) else { return };
        self.batch.checkpoints.swap_remove(at);
        if let Some(moved) = self.batch.checkpoints.get(at) {
            self.checkpoints.insert(moved.hold_id, at);
        }
    }
}

impl InFlight {
    /// Operations in it.
    pub(super) fn ops(&self) -> u64 {
        let batch = &self.batch;
        let silent = batch.extends.len() + batch.checkpoints.len() + self.returns();
        let ops = self.opens.len() + self.ends.len() + self.free.len() + silent;
        u64::try_from(ops).unwrap_or(u64::MAX)
    }

    /// Leases that give back without an end.
    fn returns(&self) -> usize {
        if self.ends.is_empty() { self.batch.leases.len() } else { 0 }
    }

    /// Takes what waits, oldest first, as far as something that this same flush must have made
    /// durable before. Charges are folded at once: the account's row is read for the bill anyway.
    pub(super) fn take(queue: &mut VecDeque<Op>, ops_max: usize, seq: i64) -> Self {
        let mut filling = Filling::default();
        for _ in 0..ops_max {
            let Some(op) = queue.pop_front_if(|op| !filling.must_wait(op)) else { break };
            filling.push(op);
        }
        let Filling { mut batch, opens, ends, free, owners, given_back, .. } = filling;
        let lease =
            |(account_id, amount)| LeaseOp { account_id, give_back: NanoUsd(amount), fold: true };
        batch.leases = given_back.into_iter().map(lease).collect();
        let (first_sent, batch) = (Instant::now(), Arc::new(batch));
        Self { seq, first_sent, batch, opens, ends, free, owners }
    }

    /// Whose actor an account's lease belongs to.
    pub(super) fn owner_of(&self, account: AccountId) -> AccountId {
        self.owners.get(&account).copied().unwrap_or(account)
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
        // What has no legs is in the memory of its account already.
        for (open, verdict) in self.batch.opens.iter().zip(&reply.opens) {
            let granted = match verdict {
                OpenVerdict::Granted { amount, .. } => *amount,
                OpenVerdict::Denied { .. }
                | OpenVerdict::Blocked(_)
                | OpenVerdict::NoAccount
                | OpenVerdict::Claimed => {
                    changes.entry(open.account_id).or_default().denied += 1;
                    NanoUsd::ZERO
                }
            };
            answered(&mut changes, &open.legs, granted);
        }
        for (extend, verdict) in self.batch.extends.iter().zip(&reply.extends) {
            let granted = match verdict {
                ExtendVerdict::Granted { amount } => NanoUsd(amount.0 - extend.from.0),
                ExtendVerdict::Denied { .. } => NanoUsd::ZERO,
            };
            answered(&mut changes, &extend.legs, granted);
        }
        for end in &self.batch.resolves {
            changes.entry(end.account_id).or_default().ended += 1;
            for id in std::iter::once(end.account_id).chain(end.cap_id) {
                add(&mut changes.entry(id).or_default().charged, end.charge);
            }
        }
        for lease in &self.batch.leases {
            add(&mut changes.entry(lease.account_id).or_default().given_back, lease.give_back);
        }
        changes
    }

    /// Tells the metrics what a flush made durable; heartbeats don't count.
    pub(super) fn record(&self, reply: &FlushReply, elapsed: Duration) {
        if self.ops() == 0 {
            return;
        }
        let metrics = metrics::ledger();
        metrics.flushed(self.ops(), elapsed);
        let ended = u64::try_from(self.batch.resolves.len()).unwrap_or(u64::MAX);
        metrics.holds_changed(reply.granted(), ended);
        for (open, verdict) in self.batch.opens.iter().zip(&reply.opens) {
            if let OpenVerdict::Denied { row, .. } | OpenVerdict::Blocked(row) = verdict {
                metrics.denied(denial_reason(row, open.funds_min));
            }
        }
        for end in &self.batch.resolves {
            if !end.is_void() {
                metrics.settled(end.basis);
                metrics.overrun(end.overrun);
            }
        }
    }

    /// Answers everybody; holds that are worth asking for again go to `ask_again`.
    pub(super) fn answer(
        self,
        reply: &FlushReply,
        changes: &BTreeMap<AccountId, DurableChange>,
        ask_again: impl Fn(AccountId, OpenHoldRequest),
    ) {
        let batch = self.batch;
        for (((waiter, place), open), verdict) in
            self.opens.into_iter().zip(&batch.opens).zip(&reply.opens)
        {
            if let Some(open) = tell(waiter, place, open, verdict) {
                ask_again(open.request.open.account_id, open);
            }
        }
        let row = |account: &AccountId| changes.get(account).and_then(|change| change.row);
        for ((reply, _ending), end) in self.ends.into_iter().zip(&batch.resolves) {
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

/// Notes that rows have answered a question.
fn answered(changes: &mut BTreeMap<AccountId, DurableChange>, legs: &[Leg], granted: NanoUsd) {
    for leg in legs {
        let change = changes.entry(leg.account_id).or_default();
        change.answered += 1;
        change.is_acquired |= leg.want > NanoUsd::ZERO;
        add(&mut change.aside, leg.aside);
        add(&mut change.granted, granted);
    }
}

/// Tells one hold's verdict; gives it back when other instances were asked to return credit and
/// there is time to ask again.
fn tell(
    waiter: Waiter,
    place: Place,
    open: &HoldOpen,
    verdict: &OpenVerdict,
) -> Option<OpenHoldRequest> {
    let (rate, amount_max, slice, since, reply, link) = match waiter {
        Waiter::Verdict { rate, amount_max, slice, since, reply, link } => {
            (rate, amount_max, slice, since, reply, link)
        }
        Waiter::Ticket(durable) => {
            let _ = durable.send(());
            return None;
        }
    };
    let mut request = HoldRequest { open: open.clone(), rate, amount_max, slice };
    let answer = match *verdict {
        OpenVerdict::Granted { amount, affordable } => {
            let terms = HoldTerms::of(&request, amount);
            let hold = Hold::new(link, terms, request.limits(affordable), None);
            Ok(if open.idem.is_some() { hold.with_key() } else { hold })
        }
        OpenVerdict::Denied { is_recalled: true, .. } if since.elapsed() < RECALL_WAIT => {
            request.open.legs.clear();
            return Some(OpenHoldRequest { request, reply, place, since });
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
        OpenVerdict::Claimed => Err(HoldError::Claimed),
    };
    // Nobody waits any more: the hold is dropped here, and so voids itself.
    drop(reply.send(answer));
    None
}

/// Amounts of one flush; no account can hold more than `i64` in all.
const fn add(sum: &mut NanoUsd, amount: NanoUsd) {
    sum.0 = sum.0.saturating_add(amount.0);
}
