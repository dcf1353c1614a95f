//! Which leases this process has: for the keeper, and for the metrics.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use super::core::AccountCore;
use crate::{domain::AccountId, telemetry::metrics};

/// Accounts whose leases have something, with the wallet whose actor owns them.
#[derive(Debug, Clone, Default)]
pub(super) struct Watch(Arc<Mutex<HashMap<AccountId, AccountId>>>);

impl Watch {
    /// All of them.
    pub(super) fn all(&self) -> HashMap<AccountId, AccountId> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// One actor's part of it. Dropped with its actor.
#[derive(Debug)]
pub(super) struct Presence {
    watch: Watch,
    owner: AccountId,
    leases: Vec<AccountId>,
    idle_nanousd: i64,
}

impl Presence {
    pub(super) const fn new(watch: Watch, owner: AccountId) -> Self {
        Self { watch, owner, leases: Vec::new(), idle_nanousd: 0 }
    }

    /// Notes what the account's leases have now.
    pub(super) fn update(&mut self, core: &AccountCore) {
        let idle = core.wallet().slack().max(0);
        let used = || core.leases().filter(|(_, lease)| !lease.is_empty()).map(|(id, _)| id);
        let is_same = used().eq(self.leases.iter().copied());
        let before = self.leases.len();
        if !is_same {
            let mut watched = self.watch.0.lock().unwrap_or_else(PoisonError::into_inner);
            for id in self.leases.drain(..) {
                watched.remove(&id);
            }
            self.leases.extend(used());
            watched.extend(self.leases.iter().map(|id| (*id, self.owner)));
        }
        metrics::ledger().leases_changed(before, self.leases.len(), idle - self.idle_nanousd);
        self.idle_nanousd = idle;
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        let mut watched = self.watch.0.lock().unwrap_or_else(PoisonError::into_inner);
        for id in &self.leases {
            watched.remove(id);
        }
        metrics::ledger().leases_changed(self.leases.len(), 0, -self.idle_nanousd);
    }
}
