//! Centroids as they are kept: made when somebody asks for them and their face has changed.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::sync::OwnedMutexGuard;

use super::{
    Caller, Failure, Flows, embeddings::Tally, failure, personas::primitive_from_row,
    trace::RequestTrace,
};
use crate::{
    domain::{AccountId, ErrorCode},
    faces::{
        Primitive,
        centroid::{self, CentroidPart, Centroids},
        embedding::Embedding,
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
    /// date: a face that was changed since its centroids were made gets new ones first, and so does
    /// one whose centroids another embedder made.
    ///
    /// A face that others change meanwhile may come with the centroids of a moment ago.
    ///
    /// # Errors
    /// 503 while there are more to make than one request may; what was made stays. With a model's
    /// embeddings also those of [`Flows::centroids_of`].
    ///
    /// # Cancel safety
    /// Dropped, what was stored or kept stays and the next request goes on from there. See
    /// [`Flows::centroids_of`] for a call that was under way.
    pub(super) async fn fresh_centroids(
        &self,
        caller: &Caller,
        parts: &[CentroidPart],
        usernames: Option<Vec<String>>,
        trace: &RequestTrace,
    ) -> Result<Vec<CentroidRow>, Failure> {
        let embedder = self.inner.embedder.id();
        let is_fresh = |row: &CentroidRow| is_fresh(row, embedder);
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
        let mut tally = Tally::new(&self.inner.platform.inner.limits);
        let made = self.make_centroids(caller, stale, &mut tally, trace).await;
        tally.write(trace);
        made?;
        let mut rows = list().await?;
        // A server with another embedder, which shares the database, may have been here meanwhile.
        for row in &mut rows {
            row.stored.take_if(|stored| stored.embedder != embedder);
        }
        Ok(rows)
    }

    async fn make_centroids(
        &self,
        caller: &Caller,
        stale: Vec<CentroidRow>,
        tally: &mut Tally,
        trace: &RequestTrace,
    ) -> Result<(), Failure> {
        let (db, embedder) = (&self.inner.platform.inner.db, &self.inner.embedder);
        let most = u64::from(self.inner.platform.inner.limits.centroid_statements_max);
        let (mut embedded, mut left) = (0_u64, stale.len());
        let (mut made, mut unchanged) = (Vec::new(), Vec::new());
        for row in stale {
            // One face always goes, so that each request gets further.
            if embedded >= most {
                break;
            }
            let rows = load_primitives(db, row.face_id).await?;
            let primitives: Vec<Primitive> =
                rows.into_iter().filter_map(primitive_from_row).collect();
            let source = centroid::source_of(&primitives).to_vec();
            let stored = row.stored.as_ref().filter(|it| it.embedder == embedder.id());
            if stored.is_some_and(|stored| stored.source == source) {
                left -= 1;
                unchanged.push((row.face_id, row.version));
                continue;
            }
            embedded = embedded.saturating_add(u64::try_from(primitives.len()).unwrap_or(u64::MAX));
            let centroids =
                self.centroids_of(caller, row.face_id, primitives, tally, trace).await?;
            let Some(centroids) = centroids else { break };
            left -= 1;
            made.push(FaceCentroids {
                face_id: row.face_id,
                face_version: row.version,
                embedder: embedder.id().to_owned(),
                source,
                vectors: vectors_of(&centroids),
            });
            if embedder.is_billed() || made.len() == UNSTORED_FACES_MAX {
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

/// Whether the stored centroids are this embedder's, and of the face as it is now.
fn is_fresh(row: &CentroidRow, embedder: &str) -> bool {
    row.stored
        .as_ref()
        .is_some_and(|stored| stored.face_version >= row.version && stored.embedder == embedder)
}

fn vectors_of(centroids: &Centroids) -> Vec<ComponentVector> {
    let vector = |part: CentroidPart| {
        let values = centroids.of(part);
        let dimensions = values.map_or(0, |found| found.values().len());
        ComponentVector {
            component: part.as_str(),
            dimensions: u32::try_from(dimensions).unwrap_or(u32::MAX),
            vector: values.map(Embedding::to_bytes),
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
