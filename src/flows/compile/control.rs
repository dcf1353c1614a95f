//! What an owner asks of a source: prepare, make, sync, pause, reset, delete.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{FACE_TRIES, no_source, noun, render};
use crate::{
    domain::{
        ErrorCode, SourceId,
        compile::{CompileEvent, CompileGoal, CompileState, SourceKind},
    },
    faces::merge::SourceFacts,
    flows::{Caller, Failure, Flows, personas},
    storage::{
        StorageError,
        compile::{self as storage_compile, SourceRow, Transition, Withdrawal},
        faces as storage_faces,
    },
};

/// How often a request that waits for a sync looks how far it is.
const SYNC_LOOK: Duration = Duration::from_millis(100);

impl Flows {
    /// `POST …/prepare`: reads the text, and writes nothing to the face yet.
    ///
    /// # Errors
    /// 404, 403; 402 when the plan's quota has no room for the text.
    pub async fn prepare_source(
        &self,
        caller: &Caller,
        kind: SourceKind,
        id: &str,
    ) -> Result<Value, Failure> {
        let source = self.source(caller, kind, id).await?;
        let source = self.start_compiling(caller, &source, CompileGoal::Prepare).await?;
        Ok(render::progress_json(&source, self.chunks_total(&source)))
    }

    /// `POST …/make`: reads the text and writes it to the face, in the background.
    ///
    /// # Errors
    /// As [`Flows::prepare_source`].
    pub async fn make_source(
        &self,
        caller: &Caller,
        kind: SourceKind,
        id: &str,
    ) -> Result<Value, Failure> {
        let source = self.source(caller, kind, id).await?;
        let source = self.start_compiling(caller, &source, CompileGoal::Make).await?;
        Ok(render::progress_json(&source, self.chunks_total(&source)))
    }

    /// `POST …/sync`: as [`Flows::make_source`], and waits for the end, at most
    /// `compile_sync_wait_ms`; after that its answer tells how far it is.
    ///
    /// # Errors
    /// As [`Flows::prepare_source`]. What stops the work while it is waited for is told as the
    /// source's `status` and `failure`, except a spent quota, which is a 402.
    ///
    /// # Cancel safety
    /// Dropping the future does not stop the work.
    pub async fn sync_source(
        &self,
        caller: &Caller,
        kind: SourceKind,
        id: &str,
    ) -> Result<Value, Failure> {
        let before = self.source(caller, kind, id).await?;
        let started = self.start_compiling(caller, &before, CompileGoal::Make).await?;
        let after = self.wait_for_sync(caller, started).await?;
        if after.state == CompileState::Stalled {
            self.refuse_beyond_quota(&after).await?;
        }
        let charged = after.tokens_charged.saturating_sub(before.tokens_charged);
        let quota = self.quota_of(caller.account_id).await?;
        Ok(render::sync_json(&after, &quota, charged, self.chunks_total(&after)))
    }

    async fn wait_for_sync(
        &self,
        caller: &Caller,
        mut source: SourceRow,
    ) -> Result<SourceRow, Failure> {
        let platform = &self.inner.platform.inner;
        let wait = Duration::from_millis(platform.limits.compile_sync_wait_ms);
        let deadline = Instant::now() + wait;
        while source.state.is_running() && Instant::now() < deadline {
            tokio::time::sleep(SYNC_LOOK).await;
            let db = &platform.db;
            let found = storage_compile::find_source(db, caller.account_id, source.id).await?;
            source = found.ok_or_else(|| no_source(source.kind))?;
        }
        Ok(source)
    }

    /// `POST …/pause`: rests after the pieces that are being read.
    ///
    /// # Errors
    /// 404, 403; 409 when nothing is running that can rest.
    pub async fn pause_source(
        &self,
        caller: &Caller,
        kind: SourceKind,
        id: &str,
    ) -> Result<Value, Failure> {
        let source = self.source(caller, kind, id).await?;
        let source = self.apply(caller, &source, CompileEvent::Pause).await?;
        Ok(render::progress_json(&source, self.chunks_total(&source)))
    }

    /// `POST …/reset`: drops what was extracted, also from the face; the text stays.
    ///
    /// # Errors
    /// 404, 403; 409 when others keep changing the face at the same time.
    pub async fn reset_source(
        &self,
        caller: &Caller,
        kind: SourceKind,
        id: &str,
    ) -> Result<Value, Failure> {
        let source = self.source(caller, kind, id).await?;
        let after = self.withdraw(caller, source, false).await?;
        let after = after.ok_or_else(|| no_source(kind))?;
        Ok(render::progress_json(&after, after.chunks_total))
    }

    /// `DELETE` of a source: with exactly the primitives that no other source and nobody by hand
    /// gave.
    ///
    /// # Errors
    /// 404, 403; 409 when others keep changing the face at the same time.
    pub async fn delete_source(
        &self,
        caller: &Caller,
        kind: SourceKind,
        face: Option<&str>,
        id: &str,
    ) -> Result<Value, Failure> {
        let source = self.source(caller, kind, id).await?;
        if face.is_some_and(|face| face != source.face.as_str()) {
            return Err(no_source(kind));
        }
        let (id, noun) = (source.id, noun(kind));
        self.withdraw(caller, source, true).await?;
        let mut shown = json!({"deleted": true, "id": id, "object": format!("compile.{noun}")});
        shown[format!("{noun}_id")] = json!(id);
        Ok(shown)
    }

    /// `POST /v1/faces/{face}/sync`: makes everything of a face that is not in it yet.
    ///
    /// # Errors
    /// 404, 403; 402 when the plan's quota has no room for the first of them.
    pub async fn sync_face(&self, caller: &Caller, username: &str) -> Result<Value, Failure> {
        let face = self.face_to_compile(caller, username).await?;
        let db = &self.inner.platform.inner.db;
        let pending = storage_compile::pending_sources(db, caller.account_id, face.id).await?;
        let mut data = Vec::with_capacity(pending.len());
        for id in pending {
            let found = storage_compile::find_source(db, caller.account_id, id).await?;
            let Some(source) = found else { continue };
            match self.start_compiling(caller, &source, CompileGoal::Make).await {
                Ok(started) => {
                    data.push(render::progress_json(&started, self.chunks_total(&started)));
                }
                // What fits is made; the first that does not says so.
                Err(failure) if data.is_empty() => return Err(failure),
                Err(_) => break,
            }
        }
        let status = if data.is_empty() { "synced" } else { "syncing" };
        Ok(json!({
            "id": face.username, "model": face.username, "alias": face.username,
            "username": face.username, "status": status, "sync_status": status, "data": data,
        }))
    }

    async fn start_compiling(
        &self,
        caller: &Caller,
        source: &SourceRow,
        goal: CompileGoal,
    ) -> Result<SourceRow, Failure> {
        if source.token_count == 0 {
            return Err(Failure::new(
                ErrorCode::InvalidRequest,
                "There is nothing to compile yet: no text and no answer of the person.",
            ));
        }
        self.refuse_beyond_quota(source).await?;
        self.apply(caller, source, CompileEvent::Start(goal)).await
    }

    async fn apply(
        &self,
        caller: &Caller,
        source: &SourceRow,
        event: CompileEvent,
    ) -> Result<SourceRow, Failure> {
        let platform = &self.inner.platform.inner;
        let (account, id) = (caller.account_id, source.id);
        let applied =
            storage_compile::apply_event(&platform.db, account, id, event, caller.key_id).await;
        match applied {
            Ok(Transition::Done(source)) => {
                platform.compile_wake.notify_one();
                Ok(*source)
            }
            Ok(Transition::NotNow(state)) => Err(Failure::new(
                ErrorCode::Conflict,
                format!("This {} is {state}: nothing runs that could rest.", noun(source.kind)),
            )),
            Err(StorageError::Missing { .. }) => Err(no_source(source.kind)),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes a source out of its face, and the source itself away when it is to be deleted.
    async fn withdraw(
        &self,
        caller: &Caller,
        source: SourceRow,
        delete: bool,
    ) -> Result<Option<SourceRow>, Failure> {
        let platform = &self.inner.platform.inner;
        let (db, kind, account) = (&platform.db, source.kind, caller.account_id);
        let mut source = source;
        for _ in 0..FACE_TRIES {
            let face = storage_faces::find_face(db, account, &source.face).await?;
            let face = personas::face_from_row(face.ok_or_else(|| no_source(kind))?)?;
            let mut facts = face.facts.clone();
            let own = SourceFacts::from_stored(source.facts.as_deref());
            own.take_back(&mut facts, &self.facts_of_others(&source).await?);
            let withdrawal = Withdrawal {
                source_id: source.id,
                face_id: face.id,
                face_version: face.version,
                face_facts: facts.to_stored(),
                delete,
            };
            match storage_compile::withdraw_source(db, account, withdrawal).await {
                Ok(after) => {
                    platform.directory.forget_face(account, &face.username);
                    return Ok(after);
                }
                Err(StorageError::Stale { .. }) => {}
                Err(StorageError::Missing { .. }) => return Err(no_source(kind)),
                Err(error) => return Err(error.into()),
            }
            let again = storage_compile::find_source(db, account, source.id).await?;
            source = again.ok_or_else(|| no_source(kind))?;
        }
        Err(Failure::new(
            ErrorCode::Conflict,
            "What this was compiled into is being changed by other requests at the same time. Try \
             again.",
        ))
    }

    /// The facts that the other sources of a source's face tell.
    pub(super) async fn facts_of_others(
        &self,
        source: &SourceRow,
    ) -> Result<Vec<SourceFacts>, Failure> {
        let db = &self.inner.platform.inner.db;
        let (face, id): (_, SourceId) = (source.face_id, source.id);
        let stored = storage_compile::facts_of_others(db, face, id).await?;
        Ok(stored.iter().map(|one| SourceFacts::from_stored(Some(one))).collect())
    }

    /// The pieces of a source: an estimate until it was cut.
    fn chunks_total(&self, source: &SourceRow) -> i64 {
        if source.chunks_total > 0 {
            return source.chunks_total;
        }
        let tokens = i64::from(self.inner.platform.inner.limits.compile_chunk_tokens);
        // Positive numbers, rounded up.
        (source.token_count / tokens + i64::from(source.token_count % tokens > 0)).max(1)
    }
}
