//! Centroids as they are kept: made when somebody asks for them and their face has changed.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::sync::OwnedMutexGuard;

use super::{Caller, Failure, Flows, failure, personas::primitive_from_row};
use crate::{
    domain::{AccountId, ErrorCode},
    faces::{
        Primitive,
        centroid::{self, CentroidPart, CentroidSums, Centroids},
        embedding,
    },
    storage::{
        StorageError,
        centroids::{
            CentroidRow, ComponentVector, FaceCentroids, confirm_centroids, list_centroids,
            store_centroids,
        },
        faces::load_primitives,
    },
};

/// Faces whose centroids are kept in memory until they are stored together.
const UNSTORED_FACES_MAX: usize = 100;
/// When to come back while centroids are missing, ms: the next request makes as many again.
const UNFINISHED_RETRY_AFTER_MS: u64 = 1_000;

/// Who is bringing an account's centroids up to date: one request at a time, so that none makes what
/// another one is making.
#[derive(Debug, Default)]
pub(super) struct Turns(Mutex<HashMap<AccountId, Weak<tokio::sync::Mutex<()>>>>);

impl Turns {
    async fn take(&self, account: AccountId) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, turn| turn.strong_count() > 0);
            turns.get(&account).and_then(Weak::upgrade).unwrap_or_else(|| {
                let turn = Arc::default();
                turns.insert(account, Arc::downgrade(&turn));
                turn
            })
        };
        turn.lock_owned().await
    }
}

impl Flows {
    /// The centroids of these parts of the account's faces (or of those with these usernames), up to
    /// date: a face that was changed since its centroids were made gets new ones first.
    ///
    /// A face that others change meanwhile may come with the centroids of a moment ago.
    ///
    /// # Errors
    /// 503 while there are more to make than one request may; what was made stays.
    ///
    /// # Cancel safety
    /// Dropped, what was stored stays and the next request goes on from there.
    pub(super) async fn fresh_centroids(
        &self,
        caller: &Caller,
        parts: &[CentroidPart],
        usernames: Option<Vec<String>>,
    ) -> Result<Vec<CentroidRow>, Failure> {
        let db = &self.inner.platform.inner.db;
        let names: Vec<&'static str> = parts.iter().map(|part| part.as_str()).collect();
        let list = || list_centroids(db, caller.account_id, &names, usernames.clone());
        let rows = list().await?;
        if rows.iter().all(is_fresh) {
            return Ok(rows);
        }
        let _turn = self.inner.centroid_turns.take(caller.account_id).await;
        let mut stale = list().await?;
        stale.retain(|row| !is_fresh(row));
        stale.dedup_by_key(|row| row.face_id);
        self.make_centroids(stale).await?;
        Ok(list().await?)
    }

    async fn make_centroids(&self, stale: Vec<CentroidRow>) -> Result<(), Failure> {
        let db = &self.inner.platform.inner.db;
        let most = u64::from(self.inner.platform.inner.limits.centroid_statements_max);
        let (mut embedded, mut left) = (0_u64, stale.len());
        let (mut made, mut unchanged) = (Vec::new(), Vec::new());
        for row in stale {
            // One face always goes, so that each request gets further.
            if embedded >= most {
                break;
            }
            left -= 1;
            let rows = load_primitives(db, row.face_id).await?;
            let primitives: Vec<Primitive> =
                rows.into_iter().filter_map(primitive_from_row).collect();
            let source = centroid::source_of(&primitives).to_vec();
            let stored = row.stored.as_ref().filter(|it| it.embedder == embedding::EMBEDDER);
            if stored.is_some_and(|stored| stored.source == source) {
                unchanged.push((row.face_id, row.version));
                continue;
            }
            embedded = embedded.saturating_add(u64::try_from(primitives.len()).unwrap_or(u64::MAX));
            let centroids = blocking(move || lexical_centroids(&primitives)).await?;
            made.push(FaceCentroids {
                face_id: row.face_id,
                face_version: row.version,
                embedder: embedding::EMBEDDER.to_owned(),
                source,
                vectors: vectors_of(&centroids),
            });
            if made.len() == UNSTORED_FACES_MAX {
                self.store_made(std::mem::take(&mut made)).await?;
            }
        }
        self.store_made(made).await?;
        if !unchanged.is_empty() {
            confirm_centroids(db, unchanged).await?;
        }
        if left > 0 {
            return Err(unfinished(left));
        }
        Ok(())
    }

    async fn store_made(&self, made: Vec<FaceCentroids>) -> Result<(), Failure> {
        match store_centroids(&self.inner.platform.inner.db, made).await {
            // A face of these was deleted at that moment: whoever asks next makes the others again.
            Ok(()) | Err(StorageError::Missing { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Whether the stored centroids are of the face as it is now.
fn is_fresh(row: &CentroidRow) -> bool {
    row.stored.as_ref().is_some_and(|stored| {
        stored.face_version >= row.version && stored.embedder == embedding::EMBEDDER
    })
}

fn lexical_centroids(primitives: &[Primitive]) -> Centroids {
    let mut sums = CentroidSums::default();
    for primitive in primitives.iter().filter(|primitive| centroid::counts(primitive)) {
        sums.add(primitive.component, &embedding::embed(&primitive.text));
    }
    sums.finish()
}

fn vectors_of(centroids: &Centroids) -> Vec<ComponentVector> {
    let vector = |part: CentroidPart| {
        let values = centroids.of(part);
        let dimensions = values.map_or(0, |found| found.values().len());
        ComponentVector {
            component: part.as_str(),
            dimensions: u32::try_from(dimensions).unwrap_or(u32::MAX),
            vector: values.map(embedding::Embedding::to_bytes),
        }
    };
    CentroidPart::ALL.map(vector).into()
}

fn unfinished(left: usize) -> Failure {
    Failure::new(
        ErrorCode::Overloaded,
        format!("The centroids of {left} faces are still to be made. Ask again in a moment."),
    )
    .retry_after(UNFINISHED_RETRY_AFTER_MS)
}

/// Runs what takes long on a thread that serves nobody else.
///
/// # Errors
/// 500 when it panicked.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        log::error!(target: "faces::flows", "work of similarity was lost: {error}");
        Failure::new(ErrorCode::Internal, failure::INTERNAL_MESSAGE)
    })
}
