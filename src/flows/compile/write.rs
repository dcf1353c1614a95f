//! The last step of a job: what the pieces say is merged into the face.

use super::{
    FACE_TRIES,
    job::{Trouble, trouble_of, trouble_of_call},
    quota::quota_spent,
};
use crate::{
    faces::{
        Component, ComponentCounts, Primitive,
        extract::Extraction,
        merge::{self, Known, Merge, SourceFacts},
    },
    flows::{Flows, personas},
    storage::{
        StorageError,
        compile::{self as storage_compile, Job, Quota, SourceRow, SyncPlan, SyncVerdict},
        faces as storage_faces,
    },
};

impl Flows {
    /// Merges what the pieces say into the face.
    pub(super) async fn write_to_face(&self, job: &Job, source: &SourceRow) -> Result<(), Trouble> {
        let platform = &self.inner.platform.inner;
        let quota = self.compile_quota_bounds(job.account_id).await.map_err(trouble_of_call)?;
        for _ in 0..FACE_TRIES {
            let (plan, limit) = (self.plan_sync(source, quota).await?, quota.tokens_limit);
            match storage_compile::write_sync(&platform.db, job, plan).await {
                Ok(SyncVerdict::Written(source, _)) => {
                    platform.directory.forget_face(job.account_id, &source.face);
                    return Ok(());
                }
                Ok(SyncVerdict::QuotaSpent { tokens_used }) => {
                    let limit = limit.unwrap_or(i64::MAX);
                    let reason = quota_spent(tokens_used, limit, source.token_count);
                    return Err(Trouble::Owner(reason));
                }
                // The face was changed in between: plan again.
                Err(StorageError::Stale { what: "face" }) => {}
                Err(error) => return Err(trouble_of(error)),
            }
        }
        Err(Trouble::Passing("The face is being changed all the time.".to_owned()))
    }

    async fn plan_sync(&self, source: &SourceRow, quota: Quota) -> Result<SyncPlan, Trouble> {
        let platform = &self.inner.platform.inner;
        let db = &platform.db;
        // The face first: if it changes after that, its version tells.
        let face = storage_faces::find_face(db, source.account_id, &source.face).await;
        let face = face.map_err(trouble_of)?.ok_or(Trouble::Lost)?;
        let face = personas::face_from_row(face).map_err(trouble_of_call)?;
        let stored = storage_compile::extractions(db, source.id, source.generation).await;
        let mut said = Extraction::default();
        for one in stored.map_err(trouble_of)? {
            said.add_stored(&one).map_err(|error| Trouble::Fatal(error.to_string()))?;
        }
        let others = self.facts_of_others(source).await.map_err(trouble_of_call)?;
        let mut facts = face.facts.clone();
        SourceFacts::from_stored(source.facts.as_deref()).take_back(&mut facts, &others);
        let told = SourceFacts::give(&said.facts, &mut facts, &others);
        let primitives = storage_compile::load_sourced_primitives(db, face.id).await;
        let known: Vec<Known> = primitives
            .map_err(trouble_of)?
            .into_iter()
            .filter_map(|one| {
                Some(Known {
                    position: one.position,
                    component: Component::parse(&one.row.component)?,
                    is_own: !one.imported && one.sources == [source.id],
                    text: one.row.text,
                })
            })
            .collect();
        let count = known.len();
        let merged = tokio::task::spawn_blocking(move || {
            let merged = merge::merge(&known, said.primitives);
            let counts = counts_of(&known, &merged);
            (merged, counts)
        });
        let (merged, counts) =
            merged.await.map_err(|_| Trouble::Passing("The work was lost.".to_owned()))?;
        let most = platform.limits.primitives_max;
        let after = count + merged.added.len() - merged.removed.len();
        if after > usize::try_from(most).unwrap_or(usize::MAX) {
            let reason = format!("The face would have {after} primitives; at most {most} fit.");
            return Err(Trouble::Owner(reason));
        }
        Ok(SyncPlan {
            face_id: face.id,
            face_version: face.version,
            face_facts: facts.to_stored(),
            removed: merged.removed,
            linked: merged.linked,
            added: personas::stored_primitives(&merged.added).rows,
            counts: serde_json::json!(counts).to_string(),
            source_facts: told.to_stored(),
            quota,
        })
    }
}

/// How many primitives of each component a source gives.
fn counts_of(known: &[Known], merged: &Merge) -> ComponentCounts {
    let linked = known.iter().filter(|one| merged.linked.binary_search(&one.position).is_ok());
    let mut primitives = merged.added.clone();
    primitives.extend(linked.map(|one| Primitive::new(one.component, one.text.clone())));
    ComponentCounts::of(&primitives)
}
