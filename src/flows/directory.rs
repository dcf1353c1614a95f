//! Keys and faces in memory, so that a warm request asks the database nothing.
//!
//! An entry is believed for `cache_ttl_ms`; after that one small query revalidates it. Changes
//! made through this process are seen at once; changes made by another instance or a command
//! within the time to live.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use quick_cache::sync::Cache;

use crate::{
    config::Limits,
    domain::{AccountId, ApiKeyHash, ApiKeySecret, FaceId, FaceName, clock},
    faces::{self, Persona},
    storage::{self, Db, StorageError, faces::FaceRow, keys, keys::KeyInfo},
};

/// Caches of what every request needs.
pub(super) struct Directory {
    db: Db,
    time_to_live: Duration,
    persona_tokens_max: u32,
    keys: Cache<ApiKeyHash, CachedKey>,
    faces: Cache<(AccountId, FaceName), CachedFace>,
}

impl std::fmt::Debug for Directory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Directory")
            .field("keys", &self.keys.len())
            .field("faces", &self.faces.len())
            .finish()
    }
}

#[derive(Clone)]
struct CachedKey {
    key: Arc<KeyInfo>,
    loaded: Instant,
}

/// A face ready to be injected.
#[derive(Debug, Clone)]
pub(super) struct LoadedFace {
    /// The face's id.
    pub(super) id: FaceId,
    /// Its own choice of model.
    pub(super) default_model: Option<String>,
    /// Its prompt composer.
    pub(super) persona: Arc<Persona>,
    version: i64,
}

#[derive(Clone)]
struct CachedFace {
    /// `None`: the account has no such face (every request for a bare model asks).
    face: Option<LoadedFace>,
    loaded: Instant,
}

impl Directory {
    pub(super) fn new(db: Db, limits: &Limits) -> Self {
        let entries = |max: u32| usize::try_from(max).unwrap_or(usize::MAX);
        Self {
            db,
            time_to_live: Duration::from_millis(limits.cache_ttl_ms),
            persona_tokens_max: limits.persona_tokens_max,
            keys: Cache::new(entries(limits.key_cache_entries_max)),
            faces: Cache::new(entries(limits.face_cache_entries_max)),
        }
    }

    /// Finds the key that belongs to a secret, if it may be used now.
    ///
    /// `None`: unknown, revoked or expired, which a caller can't tell apart.
    pub(super) async fn key(
        &self,
        secret: &ApiKeySecret,
    ) -> Result<Option<Arc<KeyInfo>>, StorageError> {
        let hash = secret.hash();
        let cached =
            self.keys.get(&hash).filter(|entry| entry.loaded.elapsed() < self.time_to_live);
        let key = match cached {
            Some(entry) => entry.key,
            None => {
                let loaded = Instant::now();
                let Some(key) = keys::find_key_by_hash(&self.db, hash).await? else {
                    self.keys.remove(&hash);
                    return Ok(None);
                };
                let key = Arc::new(key);
                self.keys.insert(hash, CachedKey { key: Arc::clone(&key), loaded });
                key
            }
        };
        let expired = key.expires_at.is_some_and(|expires_at| expires_at <= clock::now());
        Ok((key.revoked_at.is_none() && !expired).then_some(key))
    }

    /// Finds a face of the account, with its persona prepared.
    pub(super) async fn face(
        &self,
        account_id: AccountId,
        username: &FaceName,
    ) -> Result<Option<LoadedFace>, super::Failure> {
        let cache_key = (account_id, username.clone());
        let cached = self.faces.get(&cache_key);
        if let Some(entry) = &cached
            && entry.loaded.elapsed() < self.time_to_live
        {
            return Ok(entry.face.clone());
        }
        let loaded = Instant::now();
        let version = storage::faces::face_version(&self.db, account_id, username).await?;
        let known = cached.and_then(|entry| entry.face);
        let face = match (version, known) {
            (None, _) => None,
            (Some(version), Some(face))
                if face.version == version.version && face.id == version.id =>
            {
                Some(face)
            }
            (Some(_), _) => {
                match storage::faces::find_face(&self.db, account_id, username).await? {
                    Some(row) => Some(self.prepare(row).await?),
                    None => None,
                }
            }
        };
        self.faces.insert(cache_key, CachedFace { face: face.clone(), loaded });
        Ok(face)
    }

    /// Forgets a face that was changed here.
    pub(super) fn forget_face(&self, account_id: AccountId, username: &FaceName) {
        self.faces.remove(&(account_id, username.clone()));
    }

    /// Forgets every key (one was revoked here; keys are looked up by hash, revoked by id).
    pub(super) fn forget_keys(&self) {
        self.keys.clear();
    }

    async fn prepare(&self, row: FaceRow) -> Result<LoadedFace, super::Failure> {
        let primitives = storage::faces::load_primitives(&self.db, row.id).await?;
        let (id, default_model, version) = (row.id, row.default_model.clone(), row.version);
        let face = super::personas::face_from_row(row)?;
        let primitives: Vec<faces::Primitive> =
            primitives.into_iter().filter_map(super::personas::primitive_from_row).collect();
        let tokens_max = u64::from(self.persona_tokens_max);
        // Indexing 20,000 primitives takes a tenth of a second: not on a thread that serves others.
        let prepared =
            tokio::task::spawn_blocking(move || Persona::prepare(face, &primitives, tokens_max))
                .await;
        let persona = prepared.map_err(|error| {
            log::error!(target: "faces::flows", "a face could not be prepared: {error}");
            super::Failure::new(
                crate::domain::ErrorCode::Internal,
                super::failure::INTERNAL_MESSAGE,
            )
        })?;
        Ok(LoadedFace { id, default_model, persona: Arc::new(persona), version })
    }
}
