//! The audit's checks on the tables in memory, and that the books are empty at the end.

use std::collections::BTreeMap;

use super::{HoldRow, MemoryLedger};
use crate::domain::{
    AccountId, InstanceId,
    ledger::{Finish, HoldState, TransferKind},
};

/// Sums of one lease's holds.
#[derive(Default)]
struct Held {
    open: i64,
    cost: i64,
}

/// Sums of one account's leases.
#[derive(Clone, Copy, Default)]
struct Leased {
    sum: i64,
    unfolded: i64,
    /// Also of those that are closed.
    posted: i64,
}

impl MemoryLedger {
    /// I1, I2, I4, I5, I6 and I8, as `audit/checks.rs` states them.
    ///
    /// # Errors
    /// The first one that does not hold.
    pub(crate) fn check(&self) -> Result<(), String> {
        let mut held: BTreeMap<(InstanceId, AccountId), Held> = BTreeMap::new();
        for (id, hold) in &self.holds {
            let cost = hold.cost.unwrap_or(0);
            if cost < 0 || cost > hold.amount || hold.checkpoint > hold.amount {
                return Err(format!("I8: hold {id}: {hold:?}"));
            }
            if (hold.state == HoldState::Open) != hold.cost.is_none() {
                return Err(format!("I8: hold {id} has a cost exactly when resolved: {hold:?}"));
            }
            for account in std::iter::once(hold.account).chain(hold.cap) {
                let held = held.entry((hold.instance, account)).or_default();
                held.cost += cost;
                held.open += if hold.state == HoldState::Open { hold.amount } else { 0 };
            }
            self.check_lines(id.0, hold)?;
        }
        for (id, held) in &held {
            let lease = self.leases.get(id);
            if held.open > 0 && lease.is_none_or(|lease| !lease.is_open) {
                return Err(format!("I6: holds of {id:?} without a lease"));
            }
        }
        let mut leased: BTreeMap<AccountId, Leased> = BTreeMap::new();
        for (id, lease) in &self.leases {
            let none = Held::default();
            let held = held.get(id).unwrap_or(&none);
            if lease.posted != held.cost {
                return Err(format!("I2: {id:?} posted {} of {}", lease.posted, held.cost));
            }
            if lease.posted + held.open > lease.granted {
                return Err(format!("I6: {id:?} holds {} in {lease:?}", held.open));
            }
            let leased = leased.entry(id.1).or_default();
            leased.posted += lease.posted;
            if lease.is_open {
                leased.sum += lease.granted - lease.folded;
                leased.unfolded += lease.posted - lease.folded;
            }
        }
        self.check_accounts(&leased)
    }

    /// I2: a resolved hold has exactly its charge.
    fn check_lines(&self, id: uuid::Uuid, hold: &HoldRow) -> Result<(), String> {
        let charge = self.transfers.get(&(id, TransferKind::Charge.db_code()));
        let cost = hold.cost.unwrap_or(0);
        let is_right = match hold.state {
            HoldState::Open | HoldState::Voided => charge.is_none() && cost == 0,
            HoldState::Settled => {
                charge.is_some_and(|line| line.amount == cost && line.debit == hold.account)
            }
            HoldState::Recovered => charge.map_or(0, |line| line.amount) == cost,
        };
        if !is_right {
            return Err(format!("I2: hold {id}: {hold:?} has the charge {charge:?}"));
        }
        let finish = self.usage.get(&crate::domain::HoldId(id));
        let is_right = match hold.state {
            HoldState::Open => finish.is_none_or(|finish| *finish == Finish::Running),
            HoldState::Settled => finish.is_some(),
            HoldState::Voided => finish.is_none(),
            HoldState::Recovered => finish.is_none_or(|finish| *finish != Finish::Running),
        };
        if !is_right {
            return Err(format!("I8: hold {id}: {hold:?} has the usage {finish:?}"));
        }
        Ok(())
    }

    /// I1, I4 and I5.
    fn check_accounts(&self, leased: &BTreeMap<AccountId, Leased>) -> Result<(), String> {
        let (mut came, mut charged) = (BTreeMap::new(), BTreeMap::new());
        for line in self.transfers.values() {
            *came.entry(line.credit).or_insert(0) += line.amount;
            *charged.entry(line.debit).or_insert(0) += line.amount;
        }
        for (id, account) in &self.accounts {
            let Leased { sum, unfolded, posted } = leased.get(id).copied().unwrap_or_default();
            let within = account.debits + account.leased
                <= account.credits + account.overdraft_limit
                && account.debits >= 0
                && account.leased >= 0;
            if !within {
                return Err(format!("I1: {id}: {account:?}"));
            }
            if account.leased != sum {
                return Err(format!("I5: {id}: leases {sum} of {account:?}"));
            }
            if account.debits + unfolded != posted {
                return Err(format!("I4: {id}: leases posted {posted} of {account:?}"));
            }
            if account.parent.is_some() {
                continue;
            }
            let came = came.get(id).copied().unwrap_or(0);
            let charged = charged.get(id).copied().unwrap_or(0);
            if account.credits != came || account.debits + unfolded != charged {
                return Err(format!(
                    "I4: {id}: {came} came in, {charged} was charged, {unfolded} unfolded: \
                     {account:?}"
                ));
            }
        }
        Ok(())
    }

    /// That nothing is open any more.
    ///
    /// # Errors
    /// What still is.
    pub(crate) fn check_released(&self) -> Result<(), String> {
        let open = self.holds.iter().find(|(_, hold)| hold.state == HoldState::Open);
        if let Some((id, hold)) = open {
            return Err(format!("hold {id} is still open: {hold:?}"));
        }
        let leased = self.accounts.iter().find(|(_, account)| account.leased != 0);
        if let Some((id, account)) = leased {
            let leases: Vec<_> = self.leases.iter().filter(|((_, of), _)| of == id).collect();
            return Err(format!("account {id} is still leased: {account:?}: {leases:?}"));
        }
        Ok(())
    }
}
