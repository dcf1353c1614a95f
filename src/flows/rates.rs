//! Requests and tokens per minute, by key and by account.
//!
//! Each server counts for itself, in memory: with N servers behind a balancer an account gets up to N
//! times its rate. A request is let in while the minute's requests and tokens are not used up; the
//! tokens that it really used count when it is settled, so requests that run at once may go beyond
//! the rate, and are waited for then. Where no rate is set, nothing is counted.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use quick_cache::sync::Cache;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Caller, Failure, Flows, Platform};
use crate::{
    config::Limits,
    domain::{AccountId, ErrorCode, KeyId, RateBucket, RateSetting, RateState, Usage},
    storage::{
        Db, StorageError,
        rates::{self, RateChange, Rates},
    },
};

/// Time between two looks for changed rates.
const READ_EVERY: Duration = Duration::from_secs(1);
/// How far a look goes back before the newest change that was seen: a transaction becomes visible
/// some time after the time that it writes.
const OVERLAP_MICROS: i64 = 60_000_000;

/// The rates of a server, and what was used of them.
pub(super) struct RateLimits {
    key: Rates,
    account: Rates,
    /// Rates of a key or an account that differ; seldom many.
    others: RwLock<HashMap<Uuid, Rates>>,
    is_on: AtomicBool,
    used: Cache<Uuid, Arc<Mutex<Used>>>,
    began: Instant,
}

impl std::fmt::Debug for RateLimits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RateLimits").field("subjects", &self.used.len()).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Used {
    requests: RateBucket,
    tokens: RateBucket,
}

/// What is left of the tightest rates, for the headers of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RateNotes {
    /// Requests, when there is a rate.
    pub requests: Option<RateState>,
    /// Tokens, when there is a rate.
    pub tokens: Option<RateState>,
}

#[derive(Debug, Clone, Copy)]
struct Subject {
    id: Uuid,
    what: &'static str,
    requests: Option<u64>,
    tokens: Option<u64>,
}

impl RateLimits {
    pub(super) fn new(limits: &Limits) -> Self {
        let rates = |requests, tokens| Rates { requests: Some(requests), tokens: Some(tokens) };
        let key = rates(limits.key_requests_per_minute, limits.key_tokens_per_minute);
        let account = rates(limits.account_requests_per_minute, limits.account_tokens_per_minute);
        let is_on = [key.requests, key.tokens, account.requests, account.tokens]
            .into_iter()
            .flatten()
            .any(|rate| rate > 0);
        Self {
            key,
            account,
            others: RwLock::default(),
            is_on: AtomicBool::new(is_on),
            used: Cache::new(usize::try_from(limits.rate_entries_max).unwrap_or(usize::MAX)),
            began: Instant::now(),
        }
    }

    /// Counts a request, or refuses it.
    ///
    /// # Errors
    /// 429 with the time to wait; nothing is counted then.
    pub(super) fn admit(&self, caller: &Caller) -> Result<(), Failure> {
        if !self.is_on.load(Ordering::Relaxed) {
            return Ok(());
        }
        let now = self.now_ns();
        let subjects = self.subjects(caller.account_id, caller.key_id);
        let buckets =
            subjects.map(|subject| subject.map(|subject| (subject, self.used(subject.id))));
        // Both are held, so that what one of them lets in the other counts too. A key's comes first
        // everywhere, and no id is both a key's and an account's.
        let mut held: Vec<_> = buckets
            .iter()
            .flatten()
            .map(|(subject, used)| (subject, used.lock().unwrap_or_else(PoisonError::into_inner)))
            .collect();
        for (subject, used) in &held {
            let rates = [
                ("requests", used.requests, subject.requests),
                ("tokens", used.tokens, subject.tokens),
            ];
            for (what, bucket, limit) in rates {
                if let Some(limit) = limit
                    && let Some(wait_ns) = bucket.wait_ns(1, limit, now)
                {
                    return Err(too_many(subject.what, what, limit, wait_ns));
                }
            }
        }
        for (subject, used) in &mut held {
            if let Some(limit) = subject.requests {
                used.requests.take(1, limit, now);
            }
        }
        Ok(())
    }

    /// Counts the tokens that a request has used.
    fn spend(&self, account: AccountId, key: Option<KeyId>, tokens: u64) {
        let now = self.now_ns();
        for subject in self.subjects(account, key).iter().flatten() {
            if let Some(limit) = subject.tokens {
                let used = self.used(subject.id);
                let mut used = used.lock().unwrap_or_else(PoisonError::into_inner);
                used.tokens.take(tokens, limit, now);
            }
        }
    }

    /// What is left to a caller, also to one that was refused.
    pub(super) fn notes(&self, caller: &Caller) -> RateNotes {
        if !self.is_on.load(Ordering::Relaxed) {
            return RateNotes::default();
        }
        let now = self.now_ns();
        let mut notes = RateNotes::default();
        for subject in self.subjects(caller.account_id, caller.key_id).iter().flatten() {
            let used = self.used(subject.id);
            let used = used.lock().unwrap_or_else(PoisonError::into_inner);
            let tighter = |known: Option<RateState>, bucket: RateBucket, limit: Option<u64>| {
                let state = limit.map(|limit| bucket.state(limit, now));
                match (known, state) {
                    (Some(known), Some(state)) if known.remaining <= state.remaining => Some(known),
                    (known, state) => state.or(known),
                }
            };
            notes.requests = tighter(notes.requests, used.requests, subject.requests);
            notes.tokens = tighter(notes.tokens, used.tokens, subject.tokens);
        }
        notes
    }

    fn subjects(&self, account: AccountId, key: Option<KeyId>) -> [Option<Subject>; 2] {
        let others = self.others.read().unwrap_or_else(PoisonError::into_inner);
        let subject = |id: Uuid, what, own: Rates| {
            let other = others.get(&id).copied().unwrap_or_default();
            let some = |rate: Option<u64>| rate.filter(|rate| *rate > 0);
            let requests = some(other.requests.or(own.requests));
            let tokens = some(other.tokens.or(own.tokens));
            let is_limited = requests.is_some() || tokens.is_some();
            is_limited.then_some(Subject { id, what, requests, tokens })
        };
        let key = key.and_then(|key| subject(key.0, "API key", self.key));
        [key, subject(account.0, "account", self.account)]
    }

    fn used(&self, id: Uuid) -> Arc<Mutex<Used>> {
        let made: Result<_, std::convert::Infallible> =
            self.used.get_or_insert_with(&id, || Ok(Arc::default()));
        match made {
            Ok(used) => used,
            Err(never) => match never {},
        }
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Takes in what was changed since `seen`; the time of the newest change.
    async fn follow(&self, db: &Db, seen: i64) -> Result<i64, StorageError> {
        let mut newest = seen;
        let mut since = seen.saturating_sub(OVERLAP_MICROS);
        loop {
            let changes = rates::changed_rates(db, since).await?;
            let Some(last) = changes.last().copied() else { return Ok(newest) };
            self.take_in(&changes);
            newest = newest.max(last.changed_at);
            // A whole page of changes of one microsecond can't be.
            if changes.len() < rates::CHANGES_MAX || last.changed_at == since {
                return Ok(newest);
            }
            since = last.changed_at;
        }
    }

    fn take_in(&self, changes: &[RateChange]) {
        let mut others = self.others.write().unwrap_or_else(PoisonError::into_inner);
        for change in changes {
            if change.rates == Rates::default() {
                others.remove(&change.subject);
            } else {
                others.insert(change.subject, change.rates);
                self.is_on.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Follows changed rates every second, for ever.
    ///
    /// # Cancel safety
    /// Dropped, what was seen stays.
    pub(super) async fn follow_changes(&self, db: &Db) {
        let mut seen = 0;
        loop {
            match self.follow(db, seen).await {
                Ok(newest) => seen = newest,
                Err(error) => {
                    let chain = crate::telemetry::chain(&error);
                    log::warn!(target: "faces::flows", "reading changed rates failed: {chain}");
                }
            }
            tokio::time::sleep(READ_EVERY).await;
        }
    }
}

/// Whose tokens a request uses; nothing where no rate is set. Boxed, because it lives in the future
/// of every request.
#[derive(Debug)]
pub(super) struct Spender(Option<Box<Spending>>);

#[derive(Debug)]
struct Spending {
    rates: Arc<RateLimits>,
    account: AccountId,
    key: Option<KeyId>,
}

impl Spender {
    pub(super) fn of(rates: &Arc<RateLimits>, caller: &Caller) -> Self {
        let (account, key) = (caller.account_id, caller.key_id);
        let is_on = rates.is_on.load(Ordering::Relaxed);
        Self(is_on.then(|| Box::new(Spending { rates: Arc::clone(rates), account, key })))
    }

    /// Counts what a request has used.
    pub(super) fn spend(&self, usage: &Usage) {
        if let Some(spending) = &self.0 {
            let tokens = usage.input_total().saturating_add(usage.output_total());
            spending.rates.spend(spending.account, spending.key, tokens);
        }
    }
}

impl Flows {
    /// Counts a request of a caller against its rates, or refuses it; what is left either way.
    pub fn admit(&self, caller: &Caller) -> (RateNotes, Result<(), Failure>) {
        let rates = &self.inner.platform.inner.rates;
        let admitted = rates.admit(caller);
        (rates.notes(caller), admitted)
    }
}

impl Platform {
    /// Follows changed rates for ever.
    ///
    /// # Cancel safety
    /// Dropped, what was seen stays.
    pub async fn follow_rates(&self) {
        self.inner.rates.follow_changes(&self.inner.db).await;
    }

    /// Sets the rates of a key or an account; `None` keeps one.
    pub(super) async fn set_rates(
        &self,
        subject: Uuid,
        requests: Option<RateSetting>,
        tokens: Option<RateSetting>,
    ) -> Result<Value, Failure> {
        let before = rates::find_rates(&self.inner.db, subject).await?;
        let rates = Rates {
            requests: requests.map_or(before.requests, RateSetting::number),
            tokens: tokens.map_or(before.tokens, RateSetting::number),
        };
        rates::set_rates(&self.inner.db, subject, rates).await?;
        Ok(json!({
            "id": subject,
            "requests_per_minute": rates.requests,
            "tokens_per_minute": rates.tokens,
        }))
    }
}

fn too_many(subject: &str, what: &str, limit: u64, wait_ns: u64) -> Failure {
    let wait_ms = wait_ns.div_ceil(1_000_000);
    let seconds = wait_ms.div_ceil(1_000).max(1);
    let message = format!(
        "Rate limit reached for {what} per minute of this {subject}: {limit}. Try again in {seconds} s."
    );
    Failure::new(ErrorCode::RateLimited, message).retry_after(wait_ms)
}
