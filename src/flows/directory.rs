//! Keys, logins and faces in memory, so that a warm request asks the database nothing.
//!
//! An entry is believed for `cache_ttl_ms`; after that one small query revalidates it. Changes
//! made through this process are seen at once; changes made by another instance or a command
//! within the time to live.

use std::{
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use quick_cache::sync::Cache;
use tokio::sync::Semaphore;

use super::{CallerBudget, budget::window_of, key_uses::KeyUses};
use crate::{
    config::Limits,
    domain::{AccountId, ApiKeyHash, ApiKeySecret, FaceId, FaceName, clock::UnixMicros},
    faces::{Face, Persona, Primitive},
    storage::{
        self, Db, StorageError,
        faces::{FaceRow, OperandVersion},
        keys,
        keys::KeyInfo,
        ledger, logins,
    },
};

/// Counters of changes; accounts share them. More than accounts that change faces at one moment.
const CHANGE_COUNTERS: usize = 256;

/// Caches of what every request needs.
pub(super) struct Directory {
    pub(super) db: Db,
    time_to_live: Duration,
    persona_tokens_max: u32,
    keys: Cache<ApiKeyHash, Arc<KnownKey>>,
    uses: KeyUses,
    logins: Cache<AccountId, CachedLogin>,
    faces: Cache<(AccountId, FaceKey), CachedFace>,
    /// Who evaluates a formula has one of these.
    pub(super) formula_turns: Arc<Semaphore>,
    /// Whether an account is blocked, and when that was read.
    blocked: Cache<AccountId, (bool, Instant)>,
    /// Grow with each change of a face made here, so that what was made of it is checked again.
    changes: Box<[AtomicU64; CHANGE_COUNTERS]>,
}

impl std::fmt::Debug for Directory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Directory")
            .field("keys", &self.keys.len())
            .field("faces", &self.faces.len())
            .finish()
    }
}

/// A key as it was read a moment ago.
pub(super) struct KnownKey {
    /// The key.
    pub(super) key: KeyInfo,
    /// Its budget in the window that runs.
    pub(super) budget: Option<CallerBudget>,
    /// When its use was noted last, microseconds.
    used: AtomicI64,
    loaded: Instant,
}

/// The token epoch of an account; `None` when it has no login.
#[derive(Clone, Copy)]
struct CachedLogin {
    epoch: Option<i64>,
    loaded: Instant,
}

impl KnownKey {
    /// Whether the window of its budget is over.
    fn is_over(&self, now: UnixMicros) -> bool {
        self.budget.and_then(|budget| budget.resets_at).is_some_and(|end| end <= now)
    }
}

/// A face ready to be injected.
#[derive(Debug, Clone)]
pub(super) struct LoadedFace {
    /// The face's id.
    pub(super) id: FaceId,
    /// Its own choice of model.
    pub(super) default_model: Option<String>,
    /// Its account's choice.
    pub(super) account_model: Option<String>,
    /// Its prompt composer.
    pub(super) persona: Arc<Persona>,
    pub(super) version: i64,
    /// What it was made of, when a formula made it.
    pub(super) operands: Arc<[OperandVersion]>,
}

/// What a face is asked for by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum FaceKey {
    /// Its username.
    Stored(FaceName),
    /// The canonical formula of one that is not stored.
    Composite(Box<str>),
}

#[derive(Clone)]
pub(super) struct CachedFace {
    /// `None`: the account has no such face (every request for a bare model asks).
    pub(super) face: Option<LoadedFace>,
    seen: Seen,
}

/// When something was read of the database: taken before the first question.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    at: Instant,
    changes: u64,
}

impl Directory {
    pub(super) fn new(db: Db, limits: &Limits) -> Self {
        let entries = |max: u32| usize::try_from(max).unwrap_or(usize::MAX);
        Self {
            db,
            time_to_live: Duration::from_millis(limits.cache_ttl_ms),
            persona_tokens_max: limits.persona_tokens_max,
            keys: Cache::new(entries(limits.key_cache_entries_max)),
            uses: KeyUses::new(entries(limits.key_cache_entries_max)),
            logins: Cache::new(entries(limits.login_cache_entries_max)),
            faces: Cache::new(entries(limits.face_cache_entries_max)),
            formula_turns: Arc::new(Semaphore::new(entries(limits.formula_evaluations_max))),
            blocked: Cache::new(entries(limits.key_cache_entries_max)),
            changes: Box::new([const { AtomicU64::new(0) }; CHANGE_COUNTERS]),
        }
    }

    /// Finds the key that belongs to a secret, if it may be used `now`, with its budget in the
    /// window that runs.
    ///
    /// `None`: unknown, revoked or expired, which a caller can't tell apart.
    pub(super) async fn key(
        &self,
        secret: &ApiKeySecret,
        now: UnixMicros,
    ) -> Result<Option<Arc<KnownKey>>, StorageError> {
        let hash = secret.hash();
        let cached = self.keys.get(&hash);
        let is_fresh = |entry: &Arc<KnownKey>| {
            entry.loaded.elapsed() < self.time_to_live && !entry.is_over(now)
        };
        let entry = match cached {
            Some(entry) if is_fresh(&entry) => entry,
            // Boxed here and below, because nearly every request finds its answer in memory and
            // would carry room for the question.
            stale => match Box::pin(self.read_key(hash, stale, now)).await? {
                Some(entry) => entry,
                None => return Ok(None),
            },
        };
        let expired = entry.key.expires_at.is_some_and(|expires_at| expires_at <= now);
        if entry.key.revoked_at.is_some() || expired {
            return Ok(None);
        }
        self.uses.note(entry.key.id, &entry.used, now);
        Ok(Some(entry))
    }

    async fn read_key(
        &self,
        hash: ApiKeyHash,
        stale: Option<Arc<KnownKey>>,
        now: UnixMicros,
    ) -> Result<Option<Arc<KnownKey>>, StorageError> {
        let loaded = Instant::now();
        let Some(key) = keys::find_key_by_hash(&self.db, hash).await? else {
            self.keys.remove(&hash);
            return Ok(None);
        };
        let budget = self.budget_of(&key, now).await?;
        let noted = stale.map_or(0, |entry| entry.used.load(Ordering::Relaxed));
        let used = key.last_used_at.map_or(0, |at| at.0).max(noted);
        let entry = Arc::new(KnownKey { key, budget, used: AtomicI64::new(used), loaded });
        self.keys.insert(hash, Arc::clone(&entry));
        Ok(Some(entry))
    }

    /// When keys were used, to be written by [`KeyUses::write`].
    pub(super) fn uses(&self) -> &KeyUses {
        &self.uses
    }

    /// The token epoch of an account, `None` when it has no login.
    pub(super) async fn token_epoch(&self, id: AccountId) -> Result<Option<i64>, StorageError> {
        if let Some(entry) = self.logins.get(&id)
            && entry.loaded.elapsed() < self.time_to_live
        {
            return Ok(entry.epoch);
        }
        let loaded = Instant::now();
        let epoch = logins::find_login(&self.db, id).await?.map(|login| login.token_epoch);
        self.logins.insert(id, CachedLogin { epoch, loaded });
        Ok(epoch)
    }

    /// Forgets the login of an account that was changed here.
    pub(super) fn forget_login(&self, id: AccountId) {
        self.logins.remove(&id);
    }

    /// The account of a key's budget in the window that runs, made when this is its first request,
    /// and moved when the budget was changed.
    pub(super) async fn budget_of(
        &self,
        key: &KeyInfo,
        now: UnixMicros,
    ) -> Result<Option<CallerBudget>, StorageError> {
        let Some(budget) = key.budget.filter(|_| key.revoked_at.is_none()) else {
            return Ok(None);
        };
        let Some((cap, resets_at)) = window_of(key, now) else { return Ok(None) };
        let row = ledger::ensure_cap(&self.db, key.account_id, cap, budget.limit).await?;
        Ok(Some(CallerBudget {
            cap_id: row.account_id,
            limit: budget.limit,
            spent: row.spent(),
            resets_at,
        }))
    }

    /// Finds a face of the account, with its persona prepared.
    pub(super) async fn face(
        &self,
        account_id: AccountId,
        username: &FaceName,
    ) -> Result<Option<LoadedFace>, super::Failure> {
        let key = FaceKey::Stored(username.clone());
        let (cached, is_fresh) = self.cached(account_id, &key);
        if is_fresh {
            return Ok(cached.and_then(|entry| entry.face));
        }
        Box::pin(self.read_face(account_id, username, cached)).await
    }

    async fn read_face(
        &self,
        account_id: AccountId,
        username: &FaceName,
        cached: Option<CachedFace>,
    ) -> Result<Option<LoadedFace>, super::Failure> {
        let seen = self.look(account_id);
        let version = storage::faces::face_version(&self.db, account_id, username).await?;
        let known = cached.and_then(|entry| entry.face);
        let face = match (version, known) {
            (None, _) => None,
            (Some(version), Some(face))
                if face.version == version.version
                    && face.id == version.id
                    && self.is_made_of(account_id, &face.operands).await? =>
            {
                Some(LoadedFace { account_model: version.account_model, ..face })
            }
            (Some(version), _) => {
                match storage::faces::find_face(&self.db, account_id, username).await? {
                    Some(row) => Some(self.prepare(row, version.account_model).await?),
                    None => None,
                }
            }
        };
        self.remember(account_id, FaceKey::Stored(username.clone()), face.clone(), seen);
        Ok(face)
    }

    /// What is in memory, and whether it may be believed without a question.
    pub(super) fn cached(
        &self,
        account_id: AccountId,
        key: &FaceKey,
    ) -> (Option<CachedFace>, bool) {
        let Some(entry) = self.faces.get(&(account_id, key.clone())) else { return (None, false) };
        let is_made_of_others = entry.face.as_ref().is_some_and(|face| !face.operands.is_empty());
        let is_fresh = entry.seen.at.elapsed() < self.time_to_live
            && (!is_made_of_others || entry.seen.changes == self.look(account_id).changes);
        (Some(entry), is_fresh)
    }

    pub(super) fn remember(
        &self,
        account_id: AccountId,
        key: FaceKey,
        face: Option<LoadedFace>,
        seen: Seen,
    ) {
        self.faces.insert((account_id, key), CachedFace { face, seen });
    }

    /// The moment at which a reading begins.
    pub(super) fn look(&self, account_id: AccountId) -> Seen {
        Seen { at: Instant::now(), changes: self.counter(account_id).load(Ordering::Acquire) }
    }

    fn counter(&self, account_id: AccountId) -> &AtomicU64 {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(account_id);
        &self.changes[usize::from(hash.to_le_bytes()[0]) % CHANGE_COUNTERS]
    }

    /// Forgets a face that was changed here, and has those that may be made of it checked.
    pub(super) fn forget_face(&self, account_id: AccountId, username: &FaceName) {
        self.counter(account_id).fetch_add(1, Ordering::AcqRel);
        self.faces.remove(&(account_id, FaceKey::Stored(username.clone())));
    }

    /// Whether an account is frozen or closed, as far as that was read lately.
    pub(super) fn is_blocked(&self, account_id: AccountId) -> Option<bool> {
        let (blocked, loaded) = self.blocked.get(&account_id)?;
        (loaded.elapsed() < self.time_to_live).then_some(blocked)
    }

    /// Remembers whether an account is blocked, as a query that was sent at `asked` has read it.
    pub(super) fn note_blocked(&self, account_id: AccountId, blocked: bool, asked: Instant) {
        self.blocked.insert(account_id, (blocked, asked));
    }

    /// Forgets what is known of an account that was changed here.
    pub(super) fn forget_account(&self, account_id: AccountId) {
        self.blocked.remove(&account_id);
    }

    /// Forgets all faces of an account whose preferences were changed here.
    pub(super) fn forget_faces(&self, account_id: AccountId) {
        self.faces.retain(|(owner, _), _| *owner != account_id);
    }

    /// Forgets every key (one was changed here; keys are looked up by hash, changed by id).
    pub(super) fn forget_keys(&self) {
        self.keys.clear();
    }

    async fn prepare(
        &self,
        row: FaceRow,
        account_model: Option<String>,
    ) -> Result<LoadedFace, super::Failure> {
        let (id, default_model, version) = (row.id, row.default_model.clone(), row.version);
        let face = super::personas::face_from_row(row)?;
        let (persona, operands) = match &face.formula {
            None => (self.persona(face, self.primitives(id).await?).await?, Vec::new()),
            Some(_) => self.combined(face).await?,
        };
        let (persona, operands) = (Arc::new(persona), operands.into());
        Ok(LoadedFace { id, default_model, account_model, persona, version, operands })
    }

    pub(super) async fn primitives(&self, id: FaceId) -> Result<Vec<Primitive>, super::Failure> {
        let rows = storage::faces::load_primitives(&self.db, id).await?;
        Ok(rows.into_iter().filter_map(super::personas::primitive_from_row).collect())
    }

    async fn persona(
        &self,
        face: Face,
        primitives: Vec<Primitive>,
    ) -> Result<Persona, super::Failure> {
        self.prepared(move |tokens_max| Persona::prepare(face, &primitives, tokens_max)).await
    }

    /// What `prepare` makes with the budget of a persona. Indexing 20,000 primitives takes a tenth
    /// of a second: not on a thread that serves others.
    pub(super) async fn prepared<T: Send + 'static>(
        &self,
        prepare: impl FnOnce(u64) -> T + Send + 'static,
    ) -> Result<T, super::Failure> {
        let tokens_max = u64::from(self.persona_tokens_max);
        tokio::task::spawn_blocking(move || prepare(tokens_max)).await.map_err(|error| {
            log::error!(target: "faces::flows", "a face could not be prepared: {error}");
            super::failure::internal()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{BudgetWindow, KeyBudget, KeyId, NanoUsd, Scopes},
        storage::{
            DatabaseUrl, DbOptions, DbRole,
            accounts::{CreditSource, NewAccount, create_account},
            keys::{BudgetChange, NewKey, change_budget, insert_key},
        },
    };

    const DAY_MICROS: i64 = 86_400_000_000;

    /// A key with a daily budget of 5 nano-USD, and a directory that believes what it read for so
    /// long.
    async fn budgeted(
        path: std::path::PathBuf,
        cache_ttl_ms: u64,
    ) -> (Directory, NewKey, ApiKeySecret) {
        let db = Db::open(DbOptions {
            url: DatabaseUrl::Sqlite(path),
            connections_max: 2,
            acquire_timeout_ms: 5_000,
            read_timeout_ms: 5_000,
            migrate: true,
            role: DbRole::Server,
        });
        let db = db.await.unwrap();
        let account = NewAccount {
            id: AccountId::generate(),
            name: "Ada".to_owned(),
            credit: NanoUsd(100),
            credit_source: CreditSource::Cash,
        };
        let account_id = create_account(&db, account).await.unwrap().id;
        let secret = ApiKeySecret::generate().unwrap();
        let key = NewKey {
            id: KeyId::generate(),
            account_id,
            name: "key".to_owned(),
            hash: secret.hash(),
            prefix: secret.display_prefix(),
            expires_at: None,
            allowed_faces: None,
            allowed_models: None,
            budget: Some(KeyBudget { limit: NanoUsd(5), window: BudgetWindow::Daily }),
            scopes: Scopes::KEY,
        };
        insert_key(&db, key.clone()).await.unwrap();
        let limits = Limits { cache_ttl_ms, ..Limits::default() };
        (Directory::new(db, &limits), key, secret)
    }

    async fn budget_at(directory: &Directory, secret: &ApiKeySecret, now: i64) -> CallerBudget {
        directory.key(secret, UnixMicros(now)).await.unwrap().unwrap().budget.unwrap()
    }

    #[tokio::test]
    async fn a_new_window_is_counted_by_another_account_at_its_first_moment() {
        let place = tempfile::tempdir().unwrap();
        let (directory, _, secret) = budgeted(place.path().join("faces.db"), 60_000).await;
        let first = budget_at(&directory, &secret, 10 * DAY_MICROS + 5).await;
        assert_eq!((first.limit, first.spent), (NanoUsd(5), NanoUsd(0)));
        assert_eq!(first.resets_at, Some(UnixMicros(11 * DAY_MICROS)));
        assert_eq!(budget_at(&directory, &secret, 11 * DAY_MICROS - 1).await, first);
        let second = budget_at(&directory, &secret, 11 * DAY_MICROS).await;
        assert_ne!(second.cap_id, first.cap_id, "although the key is still believed");
        assert_eq!(second.resets_at, Some(UnixMicros(12 * DAY_MICROS)));
        assert_eq!(budget_at(&directory, &secret, 12 * DAY_MICROS - 1).await, second);
    }

    #[tokio::test]
    async fn a_changed_budget_is_found_when_the_key_is_read_again() {
        let place = tempfile::tempdir().unwrap();
        let (directory, key, secret) = budgeted(place.path().join("faces.db"), 0).await;
        let before = budget_at(&directory, &secret, 0).await;
        let change = BudgetChange { limit: Some(NanoUsd(9)), window: None };
        change_budget(&directory.db, key.id, Some(change)).await.unwrap();
        let raised = budget_at(&directory, &secret, 0).await;
        assert_eq!((raised.cap_id, raised.limit), (before.cap_id, NanoUsd(9)));
        change_budget(&directory.db, key.id, None).await.unwrap();
        let known = directory.key(&secret, UnixMicros(0)).await.unwrap().unwrap();
        assert_eq!(known.budget, None);
    }

    #[tokio::test]
    async fn a_use_is_noted_at_most_once_a_minute() {
        let place = tempfile::tempdir().unwrap();
        let (directory, key, secret) = budgeted(place.path().join("faces.db"), 0).await;
        let uses = |now: i64| {
            let (directory, secret) = (&directory, &secret);
            async move {
                directory.key(secret, UnixMicros(now)).await.unwrap().unwrap();
                directory.uses().write(&directory.db).await.unwrap()
            }
        };
        let start = 10 * DAY_MICROS;
        assert_eq!(uses(start).await, 1);
        assert_eq!(uses(start + 59_999_999).await, 0, "although the key was read again");
        assert_eq!(uses(start + 60_000_000).await, 1);
        let kept = keys::find_key(&directory.db, key.account_id, key.id).await.unwrap().unwrap();
        assert_eq!(kept.last_used_at, Some(UnixMicros(start + 60_000_000)));
    }
}
