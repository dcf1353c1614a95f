//! What a flush writes, as the parameters of its statements: the same for both databases.

use std::collections::BTreeMap;

use super::{
    decide::{Change, Decision},
    idem::KeyWrites,
    payload::Payload,
    rows,
};
use crate::domain::{
    AccountId, NanoUsd,
    ledger::{ExtendVerdict, Finish, FlushBatch, HoldOpen, HoldState, OpenVerdict},
};

/// Everything after the decision, in the order in which it is written.
#[derive(Debug)]
pub(super) struct Writes {
    /// Steps 3b and 4: one row per account, so that each is written once.
    pub(super) accounts: Payload,
    /// Step 5.
    pub(super) leases: Payload,
    /// Step 6: what is opened.
    pub(super) holds: Payload,
    /// Step 6: what becomes larger.
    pub(super) extends: Payload,
    /// Step 6: what has been used so far.
    pub(super) checkpoints: Payload,
    /// Step 6: what is resolved.
    pub(super) ends: Payload,
    /// Step 7, here and below: what is never changed again (but a checkpoint's usage).
    pub(super) transfers: Payload,
    pub(super) usage: Payload,
    pub(super) attempts: Payload,
    /// Step 8: idempotency keys.
    pub(super) keys: KeyWrites,
}

impl Writes {
    pub(super) fn new(batch: &FlushBatch, decision: &Decision, now: i64) -> Self {
        let count = batch.resolves.len() + batch.free.len();
        let mut transfers = Payload::with_capacity(count, 5);
        let mut usage = Payload::with_capacity(count + batch.checkpoints.len(), 9);
        let mut attempts = Payload::with_capacity(count, 8);
        for end in batch.resolves.iter().chain(batch.free.iter().map(|free| &free.resolve)) {
            if !end.is_void() {
                rows::transfers(&mut transfers, end);
                rows::usage(&mut usage, end.hold_id, &end.usage, end.basis, end.finish);
            }
            rows::attempts(&mut attempts, end.hold_id, &end.attempts);
        }
        let mut checkpoints = Payload::with_capacity(batch.checkpoints.len(), 2);
        for point in &batch.checkpoints {
            checkpoints.row().id(point.hold_id.0).int(point.cost.0);
            rows::usage(&mut usage, point.hold_id, &point.usage, point.basis, Finish::Running);
        }
        Self {
            accounts: accounts(&decision.changes),
            leases: leases(&decision.changes),
            holds: holds(batch, decision, now),
            extends: extends(batch, decision),
            checkpoints,
            ends: ends(batch),
            transfers,
            usage,
            attempts,
            keys: KeyWrites::new(batch, &decision.opens),
        }
    }
}

/// One row per account, so that each account row is written once.
pub(super) fn accounts(changes: &BTreeMap<AccountId, Change>) -> Payload {
    let mut accounts = Payload::with_capacity(changes.len(), 5);
    for (id, change) in changes.iter().filter(|(_, change)| change.touches_row()) {
        accounts
            .row()
            .id(id.0)
            .int(change.grant)
            .int(change.give_back)
            .int(change.fold)
            .int(change.is_recall.into());
    }
    accounts
}

/// What the changes do to the instance's leases.
pub(super) fn leases(changes: &BTreeMap<AccountId, Change>) -> Payload {
    let mut leases = Payload::with_capacity(changes.len(), 4);
    for (id, change) in changes.iter().filter(|(_, change)| change.touches_lease()) {
        let granted = change.grant - change.give_back;
        leases.row().id(id.0).int(granted).int(change.charge).int(change.fold);
    }
    leases
}

fn holds(batch: &FlushBatch, decision: &Decision, now: i64) -> Payload {
    let mut holds = Payload::with_capacity(batch.opens.len() + batch.free.len(), 11);
    for (open, verdict) in batch.opens.iter().zip(&decision.opens) {
        if let OpenVerdict::Granted { amount, .. } = verdict {
            hold_columns(&mut holds, open, *amount, HoldState::Open);
            holds.null().null();
        }
    }
    for free in &batch.free {
        hold_columns(&mut holds, &free.open, NanoUsd::ZERO, HoldState::Settled);
        holds.int(0).int(now);
    }
    holds
}

fn hold_columns(payload: &mut Payload, open: &HoldOpen, amount: NanoUsd, state: HoldState) {
    payload
        .row()
        .id(open.hold_id.0)
        .id(open.account_id.0)
        .id_or_null(open.key_id.map(|id| id.0))
        .id_or_null(open.face_id.map(|id| id.0))
        .int(open.price_id.0)
        .text(&open.model)
        .int(amount.0)
        .int(state.db_code().into())
        .id_or_null(open.cap_id.map(|id| id.0));
}

fn extends(batch: &FlushBatch, decision: &Decision) -> Payload {
    let mut extends = Payload::with_capacity(batch.extends.len(), 3);
    for (extend, verdict) in batch.extends.iter().zip(&decision.extends) {
        if let ExtendVerdict::Granted { amount } = verdict {
            extends.row().id(extend.hold_id.0).int(extend.from.0).int(amount.0);
        }
    }
    extends
}

fn ends(batch: &FlushBatch) -> Payload {
    let mut ends = Payload::with_capacity(batch.resolves.len(), 4);
    for resolve in &batch.resolves {
        let state = if resolve.is_void() { HoldState::Voided } else { HoldState::Settled };
        ends.row()
            .id(resolve.hold_id.0)
            .int(state.db_code().into())
            .int(resolve.charge.0)
            .id(resolve.account_id.0);
    }
    ends
}
