//! One account in memory: its wallet's lease, the leases of the budgets under it, and the holds that
//! grew. Pure, no clock, no I/O: events in, what to send out.

use std::collections::BTreeMap;

use super::{
    lease::{DurableChange, Lease, Policy, Violation},
    outcome,
};
use crate::domain::{
    AccountId, HoldId, NanoUsd,
    ledger::{AccountRow, HoldExtend, HoldOpen, HoldResolve, Leg},
};

/// Budgets that one account keeps in memory when nothing of them is in use: bounds the map of an
/// account with many keys.
const IDLE_CAPS_MAX: usize = 256;

/// How a hold was answered in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reserved {
    /// The leases cover it: the request may begin, and shows nothing before it is durable.
    Here {
        /// What the account could afford for it.
        affordable: NanoUsd,
    },
    /// The rows must decide.
    Ask {
        /// What the leases give and want.
        legs: Vec<Leg>,
    },
    /// The lease is about to get what the account has left: ask again then.
    Later,
}

/// How an extension was answered in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Extended {
    /// The leases cover it: it is done, and still must be written.
    Here,
    /// The rows must decide.
    Ask {
        /// What the leases give and want.
        legs: Vec<Leg>,
    },
    /// As [`Reserved::Later`].
    Later,
}

/// What an instance knows about an account.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct AccountCore {
    id: AccountId,
    wallet: Lease,
    caps: BTreeMap<AccountId, Lease>,
    /// What holds that were extended reserve now.
    grown: BTreeMap<HoldId, NanoUsd>,
    /// Open holds, those that wait for their verdict included.
    holds: u64,
    /// Ends that are on their way.
    ending: u64,
}

impl AccountCore {
    pub(super) fn new(id: AccountId) -> Self {
        Self {
            id,
            wallet: Lease::default(),
            caps: BTreeMap::new(),
            grown: BTreeMap::new(),
            holds: 0,
            ending: 0,
        }
    }

    /// The wallet's lease.
    pub(super) const fn wallet(&self) -> &Lease {
        &self.wallet
    }

    /// The wallet's lease and those of the budgets.
    pub(super) fn leases(&self) -> impl Iterator<Item = (AccountId, &Lease)> {
        std::iter::once((self.id, &self.wallet)).chain(self.caps.iter().map(|(id, cap)| (*id, cap)))
    }

    fn lease_mut(&mut self, id: AccountId) -> &mut Lease {
        if id == self.id { &mut self.wallet } else { self.caps.entry(id).or_default() }
    }

    /// The accounts that pay together: all or none.
    fn payers(&self, cap: Option<AccountId>) -> impl Iterator<Item = AccountId> + use<> {
        std::iter::once(self.id).chain(cap)
    }

    /// Reserves for a hold, whole or not at all. A row that is too old is asked all the same, whether
    /// the account may still spend.
    ///
    /// # Errors
    /// [`Violation::Lease`] (I7).
    pub(super) fn reserve(
        &mut self,
        open: &HoldOpen,
        policy: &Policy,
    ) -> Result<Reserved, Violation> {
        let (amount, funds_min) = (open.amount.0, open.funds_min.0);
        let mut affordable = i64::MAX;
        let (mut is_covered, mut is_waiting) = (true, false);
        for id in self.payers(open.cap_id) {
            let lease = self.lease_mut(id);
            is_covered &= lease.covers(amount, funds_min, policy);
            is_waiting |= lease.is_waiting(policy);
            affordable = affordable.min(lease.affordable());
        }
        if !is_covered && is_waiting {
            return Ok(Reserved::Later);
        }
        self.holds += 1;
        // Only the flush knows whether an idempotency key is free.
        if is_covered && open.idem.is_none() {
            for id in self.payers(open.cap_id) {
                self.lease_mut(id).take(id, amount)?;
            }
            return Ok(Reserved::Here { affordable: NanoUsd(affordable) });
        }
        let want = if is_covered { 0 } else { policy.want };
        Ok(Reserved::Ask { legs: self.ask(open.cap_id, amount, &Policy { want, ..*policy })? })
    }

    fn ask(
        &mut self,
        cap: Option<AccountId>,
        amount: i64,
        policy: &Policy,
    ) -> Result<Vec<Leg>, Violation> {
        self.payers(cap).map(|id| self.lease_mut(id).ask(id, amount, policy)).collect()
    }

    /// Makes a hold larger. While the rows are asked it must not end.
    ///
    /// # Errors
    /// [`Violation::Lease`] (I7).
    pub(super) fn extend(
        &mut self,
        extend: &HoldExtend,
        policy: &Policy,
    ) -> Result<Extended, Violation> {
        let more = extend.to.0 - extend.from.0;
        let (mut is_covered, mut is_waiting) = (true, false);
        for id in self.payers(extend.cap_id) {
            let lease = self.lease_mut(id);
            is_covered &= lease.covers(more, more, policy);
            is_waiting |= lease.is_waiting(policy);
        }
        if is_covered {
            for id in self.payers(extend.cap_id) {
                self.lease_mut(id).take(id, more)?;
            }
            self.grown.insert(extend.hold_id, extend.to);
            return Ok(Extended::Here);
        }
        if is_waiting {
            return Ok(Extended::Later);
        }
        Ok(Extended::Ask { legs: self.ask(extend.cap_id, more, policy)? })
    }

    /// The rows have granted an extension.
    pub(super) fn extended(&mut self, hold: HoldId, amount: NanoUsd) {
        self.grown.insert(hold, amount);
    }

    /// Gives an end the amount that its hold has by now: its request may not have heard of it.
    pub(super) fn adjust(&self, end: &mut HoldResolve) {
        if let Some(amount) = self.grown.get(&end.hold_id) {
            outcome::resize(end, *amount);
        }
    }

    /// A hold ends: its rest is free here at once, or on its way back when nothing is retained.
    /// Answers what to give back, to the wallet and to the cap.
    ///
    /// # Errors
    /// [`Violation::Lease`] (I7).
    pub(super) fn end(&mut self, end: &HoldResolve, retains: bool) -> Result<NanoUsd, Violation> {
        self.grown.remove(&end.hold_id);
        self.holds = self.holds.saturating_sub(1);
        self.ending += 1;
        let mut rest = 0;
        for id in self.payers(end.cap_id) {
            rest = self.lease_mut(id).end(id, end.amount.0, end.charge.0, retains)?;
        }
        Ok(NanoUsd(rest))
    }

    /// Takes all but `keep` of what is not reserved out of memory, to be given back.
    pub(super) fn give_back(&mut self, keep: i64) -> Vec<(AccountId, NanoUsd)> {
        let ids: Vec<AccountId> = self.leases().map(|(id, _)| id).collect();
        let give = |id| self.lease_mut(id).give_back(keep).map(|amount| (id, amount));
        ids.into_iter().filter_map(give).collect()
    }

    /// Takes over what a flush made durable for the wallet or a cap, at `now_ms`.
    ///
    /// # Errors
    /// [`Violation`].
    pub(super) fn durable(
        &mut self,
        id: AccountId,
        change: &DurableChange,
        now_ms: u64,
    ) -> Result<(), Violation> {
        self.holds = self.holds.saturating_sub(change.denied);
        self.ending = self.ending.saturating_sub(change.ended);
        self.lease_mut(id).durable(id, change, now_ms)
    }

    /// Takes over a row that was read at `now_ms`.
    ///
    /// # Errors
    /// [`Violation::Insolvent`].
    pub(super) fn see(&mut self, row: AccountRow, now_ms: u64) -> Result<(), Violation> {
        self.lease_mut(row.account_id).see(row.account_id, row, now_ms)
    }

    /// All rows must be read again before they are believed.
    pub(super) fn changed(&mut self) {
        self.wallet.changed();
        self.caps.values_mut().for_each(Lease::changed);
    }

    /// Forgets budgets that nothing uses, when there are many: windows that have passed.
    pub(super) fn forget_idle_caps(&mut self) {
        if self.caps.len() > IDLE_CAPS_MAX || self.is_empty() {
            self.caps.retain(|_, cap| !cap.is_empty());
        }
    }

    /// Whether nothing of the account is in this process any more.
    pub(super) fn is_empty(&self) -> bool {
        self.holds == 0 && self.ending == 0 && self.leases().all(|(_, lease)| lease.is_empty())
    }

    /// Open holds, those that wait for their verdict included.
    pub(super) const fn holds(&self) -> u64 {
        self.holds
    }
}

#[cfg(test)]
#[path = "core_tests.rs"]
mod tests;
