//! Instances and recovery, step by step: a simulation may stop between two steps.

use std::collections::BTreeMap;

use super::{
    Change, FlushError, Instance, InstanceState, MemoryLedger, Rule, Transfer, mismatch, operator,
};
use crate::domain::{
    AccountId, InstanceId,
    ledger::{AccountKind, Finish, HoldState, TransferKind},
};

/// Which instances count as dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Every other one.
    AllOthers,
    /// Those that have expired at this time, microseconds.
    Expired(i64),
}

/// What one transaction of recovery did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RecoveryStep {
    /// So many holds were resolved; there may be more.
    Holds(u64),
    /// Nothing of the instance is left.
    Finished,
}

impl MemoryLedger {
    /// Writes the row of a new incarnation.
    pub(crate) fn register(&mut self, id: InstanceId, expires_at: i64) {
        let row = Instance { state: InstanceState::Live, seq: 0, digest: 0, expires_at };
        self.instances.insert(id, row);
    }

    /// Incarnations that may still write.
    pub(crate) fn live_instances(&self) -> Vec<InstanceId> {
        let live = self.instances.iter().filter(|(_, row)| row.state == InstanceState::Live);
        live.map(|(id, _)| *id).collect()
    }

    /// The first transaction of recovery: fences; answers whom to recover.
    pub(crate) fn fence(&mut self, me: InstanceId, scope: Scope) -> Vec<InstanceId> {
        let is_dead = |row: &Instance| match scope {
            Scope::AllOthers => true,
            Scope::Expired(now) => row.expires_at < now,
        };
        let mut found = Vec::new();
        let fences = !self.lacks(Rule::RecoveryFences);
        for (&id, row) in &mut self.instances {
            let is_dead = id != me && row.state == InstanceState::Live && is_dead(row);
            if is_dead && fences {
                row.state = InstanceState::Fenced;
            }
            if is_dead || row.state == InstanceState::Fenced {
                found.push(id);
            }
        }
        found
    }

    /// The first transaction of a close.
    pub(crate) fn fence_one(&mut self, id: InstanceId) {
        if let Some(row) = self
            .instances
            .get_mut(&id)
            .filter(|row| matches!(row.state, InstanceState::Live | InstanceState::Fenced))
        {
            row.state = InstanceState::Fenced;
        }
    }

    /// One transaction of recovery, as `recovery.rs` does it.
    ///
    /// # Errors
    /// [`FlushError::Mismatch`]: the books contradict themselves.
    pub(crate) fn recover_chunk(
        &mut self,
        id: InstanceId,
        last: InstanceState,
        holds_max: usize,
    ) -> Result<RecoveryStep, FlushError> {
        let state = self.instances.get(&id).map(|row| row.state);
        let may_be_live = self.lacks(Rule::RecoveryFences) && state == Some(InstanceState::Live);
        if state != Some(InstanceState::Fenced) && !may_be_live {
            return Ok(RecoveryStep::Finished);
        }
        let mut changes: BTreeMap<AccountId, Change> = BTreeMap::new();
        let mut charged = Vec::new();
        let open = self.holds.iter_mut();
        let open = open.filter(|(_, hold)| hold.instance == id && hold.state == HoldState::Open);
        let mut found = 0;
        for (&hold_id, hold) in open.take(holds_max) {
            found += 1;
            let cost = hold.checkpoint;
            (hold.state, hold.cost) = (HoldState::Recovered, Some(cost));
            for account in std::iter::once(hold.account).chain(hold.cap) {
                changes.entry(account).or_default().charge += cost;
            }
            if let Some(finish) = self.usage.get_mut(&hold_id) {
                *finish = Finish::Recovered;
            }
            if cost > 0 {
                charged.push((hold_id, hold.account, cost));
            }
        }
        if found == 0 {
            self.close_leases(id)?;
            if let Some(row) = self.instances.get_mut(&id).filter(|_| !may_be_live) {
                row.state = last;
            }
            return Ok(RecoveryStep::Finished);
        }
        self.write_leases(id, &changes)?;
        for (hold, debit, amount) in charged {
            let line = Transfer { debit, credit: operator(AccountKind::Revenue), amount };
            let key = (hold.0, TransferKind::Charge.db_code());
            if self.transfers.insert(key, line).is_some() {
                return Err(mismatch("transfers"));
            }
        }
        Ok(RecoveryStep::Holds(found))
    }

    /// Gives back what the leases still have and books what was posted but not folded.
    fn close_leases(&mut self, id: InstanceId) -> Result<(), FlushError> {
        let mut changes: BTreeMap<AccountId, Change> = BTreeMap::new();
        let mine = self.leases.iter_mut().filter(|((of, _), lease)| *of == id && lease.is_open);
        for (&(_, account), lease) in mine {
            let change = Change {
                give_back: lease.granted - lease.posted,
                fold: lease.posted - lease.folded,
                ..Change::default()
            };
            changes.insert(account, change);
            (lease.is_open, lease.granted, lease.folded) = (false, lease.posted, lease.posted);
        }
        self.write_accounts(&changes)
    }
}
