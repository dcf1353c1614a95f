//! When keys were used last: noted in memory by requests, written by a task in batches.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use super::Platform;
use crate::{
    domain::{KeyId, clock::UnixMicros},
    storage::{Db, StorageError, keys},
};

/// A key's use is noted again after this much time.
const STEP_MICROS: i64 = 60_000_000;

/// Uses that are not written yet.
pub(super) struct KeyUses {
    waiting: Mutex<BTreeMap<KeyId, UnixMicros>>,
    waiting_max: usize,
}

impl KeyUses {
    pub(super) const fn new(waiting_max: usize) -> Self {
        Self { waiting: Mutex::new(BTreeMap::new()), waiting_max }
    }

    /// Notes a use of a key whose last noted one is `used`. Once a minute it takes a lock, else it
    /// is one comparison.
    pub(super) fn note(&self, id: KeyId, used: &AtomicI64, now: UnixMicros) {
        let last = used.load(Ordering::Relaxed);
        if now.0.saturating_sub(last) < STEP_MICROS {
            return;
        }
        // One of those that come at the same time does it.
        if used.compare_exchange(last, now.0, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return;
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        // When it is full the database has been away for long; a use that is not told does no harm.
        if waiting.len() < self.waiting_max {
            waiting.insert(id, now);
        }
    }

    /// Writes what was noted; answers how many.
    pub(super) async fn write(&self, db: &Db) -> Result<usize, StorageError> {
        let uses =
            std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        let count = uses.len();
        if count > 0 {
            keys::note_uses(db, uses).await?;
        }
        Ok(count)
    }
}

impl Platform {
    /// Writes when keys were used, every `key_uses_flush_ms`, until it is dropped. What was noted
    /// since then is written by [`Platform::write_key_uses`].
    pub async fn keep_key_uses(&self) {
        let interval = Duration::from_millis(self.inner.limits.key_uses_flush_ms);
        loop {
            tokio::time::sleep(interval).await;
            self.write_key_uses().await;
        }
    }

    /// Writes when keys were used since the last time. A failure is logged: nobody waits for it.
    pub async fn write_key_uses(&self) {
        if let Err(error) = self.inner.directory.uses().write(&self.inner.db).await {
            log::warn!(target: "faces::flows", "when keys were used is not written: {}", crate::telemetry::chain(&error));
        }
    }
}
