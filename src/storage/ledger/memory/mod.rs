//! The ledger's tables in memory, for simulations and the model checker.
//!
//! Owns a copy of what the transactions of this room do to their rows: the flush with its fence, its
//! number and its guards ([`MemoryLedger::flush`]), instances and recovery (`recovery.rs`) and the
//! audit's checks (`invariants.rs`). What decides is the real thing: `decide`, the batch's digest
//! and the reading back of a lost reply.
//!
//! What never happens here: a clock (times are given), a wait, an idempotency key, a rollback. A flush that fails has
//! found a bug, and the books are worth nothing after it.
//!
//! [`Rule`]s can be left out, to see that each is needed.

mod invariants;
mod recovery;

use std::collections::BTreeMap;

use uuid::Uuid;

use super::{
    FlushError,
    decide::{Books, Change, Decision, decide},
    flush,
};
use crate::domain::{
    AccountId, HoldId, InstanceId, NanoUsd,
    ledger::{
        AccountKind, AccountRow, ExtendVerdict, FLAG_FROZEN, Finish, FlushBatch, FlushReply,
        HoldResolve, HoldState, LeaseRow, OpenVerdict, TransferKind,
    },
};

pub(crate) use recovery::{RecoveryStep, Scope};

/// A rule of the protocol that a simulation can leave out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Rule {
    /// The fence is inside every flush.
    Fence,
    /// A flush follows the one before it.
    Sequence,
    /// Recovery only after fencing.
    RecoveryFences,
    /// A grant is what the row has.
    ConditionalGrant,
    /// A reply tells what is in the books, not what was asked for.
    AbsoluteReply,
}

/// A wallet or a budget.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Account {
    pub(crate) credits: i64,
    pub(crate) debits: i64,
    pub(crate) leased: i64,
    pub(crate) overdraft_limit: i64,
    pub(crate) flags: i32,
    pub(crate) recall_seq: i64,
    /// The wallet of a budget.
    pub(crate) parent: Option<AccountId>,
}

/// `ledger_instance.state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum InstanceState {
    Live,
    Fenced,
    Recovered,
    Closed,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Instance {
    pub(crate) state: InstanceState,
    pub(crate) seq: i64,
    digest: i64,
    /// Microseconds.
    pub(crate) expires_at: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Lease {
    pub(crate) is_open: bool,
    pub(crate) granted: i64,
    pub(crate) posted: i64,
    pub(crate) folded: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct HoldRow {
    pub(crate) account: AccountId,
    pub(crate) cap: Option<AccountId>,
    pub(crate) instance: InstanceId,
    pub(crate) amount: i64,
    pub(crate) checkpoint: i64,
    pub(crate) state: HoldState,
    pub(crate) cost: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Transfer {
    pub(crate) debit: AccountId,
    pub(crate) credit: AccountId,
    pub(crate) amount: i64,
}

/// One flush, as it comes to the database.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FlushHead {
    pub(crate) instance: InstanceId,
    pub(crate) seq: i64,
    /// By the database's clock, microseconds.
    pub(crate) now: i64,
    /// Microseconds.
    pub(crate) ttl: i64,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct MemoryLedger {
    pub(crate) accounts: BTreeMap<AccountId, Account>,
    pub(crate) instances: BTreeMap<InstanceId, Instance>,
    pub(crate) leases: BTreeMap<(InstanceId, AccountId), Lease>,
    pub(crate) holds: BTreeMap<HoldId, HoldRow>,
    /// By id and kind, as the table's primary key.
    pub(crate) transfers: BTreeMap<(Uuid, i16), Transfer>,
    pub(crate) usage: BTreeMap<HoldId, Finish>,
    /// What an operator did so far, for the ids of its transfers.
    deposits: u128,
    without: Option<Rule>,
}

impl MemoryLedger {
    /// Books in which one rule is left out.
    pub(crate) fn without(rule: Option<Rule>) -> Self {
        Self { without: rule, ..Self::default() }
    }

    fn lacks(&self, rule: Rule) -> bool {
        self.without == Some(rule)
    }

    /// A new wallet without credit.
    pub(crate) fn create_wallet(&mut self, id: AccountId) {
        self.accounts.insert(id, Account::default());
    }

    /// A new budget below a wallet.
    pub(crate) fn create_cap(&mut self, id: AccountId, wallet: AccountId, limit: i64) {
        let cap = Account { credits: limit, parent: Some(wallet), ..Account::default() };
        self.accounts.insert(id, cap);
    }

    /// Raises a budget.
    pub(crate) fn raise_cap(&mut self, id: AccountId, amount: i64) {
        if let Some(cap) = self.accounts.get_mut(&id) {
            cap.credits += amount;
        }
    }

    /// Freezes a wallet, or lets it go.
    pub(crate) fn toggle_freeze(&mut self, id: AccountId) {
        if let Some(account) = self.accounts.get_mut(&id) {
            account.flags ^= FLAG_FROZEN;
        }
    }

    /// Adds credit to a wallet, with its line of the books.
    pub(crate) fn top_up(&mut self, id: AccountId, amount: i64) {
        let Some(account) = self.accounts.get_mut(&id) else { return };
        account.credits += amount;
        self.deposits += 1;
        let line = Transfer { debit: operator(AccountKind::CashClearing), credit: id, amount };
        let key = (Uuid::from_u128(u128::MAX - self.deposits), TransferKind::TopUp.db_code());
        self.transfers.insert(key, line);
    }

    /// Applies a batch as `flush.rs` does.
    ///
    /// # Errors
    /// As [`super::flush()`].
    pub(crate) fn flush(
        &mut self,
        head: FlushHead,
        batch: &FlushBatch,
    ) -> Result<FlushReply, FlushError> {
        let digest = flush::digest(batch);
        let (no_fence, no_number) = (self.lacks(Rule::Fence), self.lacks(Rule::Sequence));
        let fence = |row: &&mut Instance| {
            (row.state == InstanceState::Live || no_fence) && (row.seq == head.seq - 1 || no_number)
        };
        let Some(row) = self.instances.get_mut(&head.instance).filter(fence) else {
            return self.already_applied(head, digest, batch);
        };
        row.seq = head.seq;
        row.digest = digest;
        row.expires_at = head.now + head.ttl;
        self.apply(head.instance, batch)
    }

    fn apply(&mut self, me: InstanceId, batch: &FlushBatch) -> Result<FlushReply, FlushError> {
        if batch.is_empty() {
            return Ok(FlushReply::default());
        }
        let mut books = self.books(me, batch);
        let imagined = if self.lacks(Rule::ConditionalGrant) { 1_000 } else { 0 };
        for row in books.rows.values_mut() {
            row.credits.0 += imagined;
        }
        let mut decision = decide(books, batch).map_err(|contradiction| {
            FlushError::Contradiction { what: contradiction.to_string() }
        })?;
        for row in decision.books.rows.values_mut() {
            row.credits.0 -= imagined;
        }
        self.write(me, batch, &decision)?;
        if self.lacks(Rule::AbsoluteReply) {
            return Ok(as_asked(batch, decision));
        }
        Ok(flush::reply(decision))
    }

    /// What the batch's accounts and this instance's leases are.
    fn books(&self, me: InstanceId, batch: &FlushBatch) -> Books {
        let mut leases = flush::no_leases(batch);
        let mut rows: BTreeMap<AccountId, AccountRow> = BTreeMap::new();
        for id in batch.row_ids() {
            let Some(account) = self.accounts.get(&id) else { continue };
            rows.insert(id, account_row(id, account));
        }
        for (&(instance, id), lease) in self.leases.iter().filter(|(_, lease)| lease.is_open) {
            if let Some(row) = rows.get_mut(&id) {
                row.unfolded.0 += lease.posted - lease.folded;
                row.leases += i64::from(lease.granted > lease.folded);
            }
            if let Some(mine) = leases.get_mut(&id).filter(|_| instance == me) {
                *mine = LeaseRow {
                    account_id: id,
                    granted: NanoUsd(lease.granted),
                    posted: NanoUsd(lease.posted),
                    folded: NanoUsd(lease.folded),
                };
            }
        }
        Books { rows, leases, ..Books::default() }
    }

    fn write(
        &mut self,
        me: InstanceId,
        batch: &FlushBatch,
        decision: &Decision,
    ) -> Result<(), FlushError> {
        self.write_accounts(&decision.changes)?;
        self.write_leases(me, &decision.changes)?;
        self.write_holds(me, batch, decision)?;
        for end in &batch.resolves {
            let hold = self.holds.get_mut(&end.hold_id).filter(|hold| {
                hold.state == HoldState::Open
                    && hold.instance == me
                    && hold.amount == end.amount.0
                    && hold.account == end.account_id
            });
            let hold = hold.ok_or_else(|| mismatch("resolve"))?;
            hold.state = if end.is_void() { HoldState::Voided } else { HoldState::Settled };
            hold.cost = Some(end.charge.0);
        }
        let free = batch.free.iter().map(|free| &free.resolve);
        for end in batch.resolves.iter().chain(free).filter(|end| !end.is_void()) {
            self.write_transfers(end)?;
            self.usage.insert(end.hold_id, end.finish);
        }
        Ok(())
    }

    /// Steps 3b and 4, with the guards of `UPDATE_ACCOUNTS`.
    fn write_accounts(&mut self, changes: &BTreeMap<AccountId, Change>) -> Result<(), FlushError> {
        let unguarded = self.lacks(Rule::ConditionalGrant);
        for (id, change) in changes.iter().filter(|(_, change)| change.touches_row()) {
            let guard = |account: &&mut Account| {
                let left = account.credits - account.debits - account.leased + change.give_back
                    - change.grant;
                let may_grant = account.flags & 3 == 0 && left >= -account.overdraft_limit;
                account.leased >= change.give_back + change.fold
                    && (change.grant == 0 || may_grant || unguarded)
            };
            let account = self.accounts.get_mut(id).filter(guard);
            let account = account.ok_or_else(|| mismatch("accounts"))?;
            account.leased += change.grant - change.give_back - change.fold;
            account.debits += change.fold;
            account.recall_seq += i64::from(change.is_recall);
        }
        Ok(())
    }

    /// Step 5, with the table's `CHECK`.
    fn write_leases(
        &mut self,
        me: InstanceId,
        changes: &BTreeMap<AccountId, Change>,
    ) -> Result<(), FlushError> {
        for (&id, change) in changes.iter().filter(|(_, change)| change.touches_lease()) {
            let new = Lease { is_open: true, granted: 0, posted: 0, folded: 0 };
            let lease = self.leases.entry((me, id)).or_insert(new);
            lease.granted += change.grant - change.give_back;
            lease.posted += change.charge;
            lease.folded += change.fold;
            let in_order =
                0 <= lease.folded && lease.folded <= lease.posted && lease.posted <= lease.granted;
            if !lease.is_open || !in_order {
                return Err(mismatch("leases"));
            }
        }
        Ok(())
    }

    /// Step 6, but the resolves.
    fn write_holds(
        &mut self,
        me: InstanceId,
        batch: &FlushBatch,
        decision: &Decision,
    ) -> Result<(), FlushError> {
        let granted = batch.opens.iter().zip(&decision.opens).filter_map(|(open, verdict)| {
            let OpenVerdict::Granted { amount, .. } = verdict else { return None };
            Some((open, amount.0, HoldState::Open, None))
        });
        let free = batch.free.iter().map(|free| (&free.open, 0, HoldState::Settled, Some(0)));
        for (open, amount, state, cost) in granted.chain(free) {
            let row = HoldRow {
                account: open.account_id,
                cap: open.cap_id,
                instance: me,
                amount,
                checkpoint: 0,
                state,
                cost,
            };
            if self.holds.insert(open.hold_id, row).is_some() {
                return Err(mismatch("open"));
            }
        }
        for (extend, verdict) in batch.extends.iter().zip(&decision.extends) {
            let ExtendVerdict::Granted { amount } = verdict else { continue };
            let hold = self.open_hold(me, extend.hold_id);
            let hold = hold.filter(|hold| hold.amount == extend.from.0);
            hold.ok_or_else(|| mismatch("extend"))?.amount = amount.0;
        }
        for point in &batch.checkpoints {
            let hold = self.open_hold(me, point.hold_id);
            let hold = hold.filter(|hold| hold.amount >= point.cost.0 && point.cost.0 >= 0);
            hold.ok_or_else(|| mismatch("checkpoint"))?.checkpoint = point.cost.0;
            self.usage.insert(point.hold_id, Finish::Running);
        }
        Ok(())
    }

    fn open_hold(&mut self, me: InstanceId, id: HoldId) -> Option<&mut HoldRow> {
        let mine = |hold: &&mut HoldRow| hold.state == HoldState::Open && hold.instance == me;
        self.holds.get_mut(&id).filter(mine)
    }

    /// Step 7, with the primary key of the table.
    fn write_transfers(&mut self, end: &HoldResolve) -> Result<(), FlushError> {
        let lines = [
            (TransferKind::Charge, end.account_id, end.charge.0),
            (TransferKind::Overrun, operator(AccountKind::Overrun), end.overrun.0),
            (TransferKind::ProviderCost, operator(AccountKind::ProviderCost), end.provider_cost.0),
        ];
        let credit = operator(AccountKind::Revenue);
        for (kind, debit, amount) in lines {
            if amount == 0 && kind != TransferKind::Charge {
                continue;
            }
            let line = Transfer { debit, credit, amount };
            if self.transfers.insert((end.hold_id.0, kind.db_code()), line).is_some() {
                return Err(mismatch("transfers"));
            }
        }
        Ok(())
    }

    fn already_applied(
        &self,
        head: FlushHead,
        digest: i64,
        batch: &FlushBatch,
    ) -> Result<FlushReply, FlushError> {
        let Some(row) = self.instances.get(&head.instance) else { return Err(FlushError::Fenced) };
        if row.state != InstanceState::Live {
            return Err(FlushError::Fenced);
        }
        if row.seq != head.seq || row.digest != digest {
            return Err(FlushError::OutOfSequence { sent: head.seq, durable: row.seq });
        }
        let opens = batch.opens.iter().map(|open| open.hold_id);
        let asked = opens.chain(batch.extends.iter().map(|extend| extend.hold_id));
        let found = |id: HoldId| self.holds.get(&id).map(|hold| (id, NanoUsd(hold.amount)));
        let amounts = asked.filter_map(found).collect();
        Ok(flush::read_back(batch, self.books(head.instance, batch), &amounts))
    }

    /// Reads one account's counters.
    pub(crate) fn account_row(&self, id: AccountId) -> Option<AccountRow> {
        let mut row = account_row(id, self.accounts.get(&id)?);
        let leases = self.leases.iter().filter(|((_, of), lease)| *of == id && lease.is_open);
        for (_, lease) in leases {
            row.unfolded.0 += lease.posted - lease.folded;
            row.leases += i64::from(lease.granted > lease.folded);
        }
        Some(row)
    }
}

fn account_row(account_id: AccountId, account: &Account) -> AccountRow {
    AccountRow {
        account_id,
        credits: NanoUsd(account.credits),
        debits: NanoUsd(account.debits),
        leased: NanoUsd(account.leased),
        unfolded: NanoUsd::ZERO,
        leases: 0,
        overdraft_limit: NanoUsd(account.overdraft_limit),
        flags: account.flags,
        recall_seq: account.recall_seq,
    }
}

/// Without [`Rule::AbsoluteReply`]: every hold that was asked for counts as granted, and its lease
/// as grown.
fn as_asked(batch: &FlushBatch, decision: Decision) -> FlushReply {
    let mut reply = flush::reply(decision);
    for (open, verdict) in batch.opens.iter().zip(&mut reply.opens) {
        if !matches!(verdict, OpenVerdict::Denied { .. }) {
            continue;
        }
        *verdict = OpenVerdict::Granted { amount: open.amount, affordable: open.amount };
        for leg in &open.legs {
            let lease = reply.leases.iter_mut().find(|lease| lease.account_id == leg.account_id);
            if let Some(lease) = lease {
                lease.granted.0 += open.amount.0 - leg.aside.0;
            }
        }
    }
    reply
}

fn operator(kind: AccountKind) -> AccountId {
    kind.operator_id().unwrap_or(AccountId(Uuid::nil()))
}

const fn mismatch(step: &'static str) -> FlushError {
    FlushError::Mismatch { step, expected: 1, changed: 0 }
}
