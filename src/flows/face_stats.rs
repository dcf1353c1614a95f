//! `GET /v1/faces/stats`: what each face is made of, and what was spent on it.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value, json};

use super::{Caller, Failure, Platform, personas::face_from_row};
use crate::{
    domain::{AccountId, FaceId, FaceName, clock::UnixMicros},
    faces::Face,
    storage::{
        compile::{FaceQuota, read_face_quotas},
        faces as storage_faces,
        ledger::usage::{GROUPS_MAX, GroupKey, UsageFilter, UsageGroup, UsageSums, read_usage},
    },
};

/// Rows that are read at once.
const PAGE_ROWS: u32 = 1_000;
/// Accounts with more faces get no `profile_token_count`: it is known when a face was prepared to
/// speak, and preparing that many would push those that do speak out of memory.
const PROFILES_MAX: usize = 100;

impl Platform {
    /// An object by username of the caller's faces (for a key with a list, of those): counts and
    /// tokens of what was compiled, and all use since the face was made.
    ///
    /// # Errors
    /// 503 when the database can't be asked.
    pub async fn face_stats(&self, caller: &Caller) -> Result<Value, Failure> {
        let faces = self.all_faces(caller).await?;
        let used = self.use_by_face(caller.account_id).await?;
        let most = self.inner.limits.faces_per_account_max;
        let quotas =
            read_face_quotas(&self.inner.db, caller.account_id, UnixMicros(0), most).await?;
        let mut compiled: BTreeMap<FaceName, FaceQuota> =
            quotas.into_iter().map(|quota| (quota.face.clone(), quota)).collect();
        let shows_profiles = faces.len() <= PROFILES_MAX;
        let mut stats = Map::with_capacity(faces.len());
        for face in faces {
            let (face, profile_tokens) =
                if shows_profiles { self.with_profile(face).await? } else { (face, None) };
            let sums = used.get(&face.id).copied().unwrap_or_default();
            let quota = compiled.remove(&face.username);
            let username = face.username.as_str().to_owned();
            stats.insert(username, stats_json(&face, profile_tokens, quota.as_ref(), &sums));
        }
        Ok(Value::Object(stats))
    }

    async fn all_faces(&self, caller: &Caller) -> Result<Vec<Face>, Failure> {
        let (db, account_id) = (&self.inner.db, caller.account_id);
        let mut faces = Vec::new();
        loop {
            let after = faces.last().map(|face: &Face| face.id);
            let rows = match caller.allowed_faces.clone() {
                None => storage_faces::list_faces(db, account_id, after, PAGE_ROWS).await?,
                Some(names) => {
                    storage_faces::list_named_faces(db, account_id, names, after, PAGE_ROWS).await?
                }
            };
            if rows.is_empty() {
                return Ok(faces);
            }
            for row in rows {
                faces.push(face_from_row(row)?);
            }
        }
    }

    async fn use_by_face(
        &self,
        account_id: AccountId,
    ) -> Result<HashMap<FaceId, UsageSums>, Failure> {
        let mut used = HashMap::new();
        let mut after = None;
        loop {
            let filter = UsageFilter::all(account_id);
            let page =
                read_usage(&self.inner.db, filter, UsageGroup::Face, after, GROUPS_MAX).await?;
            after = page.rows.last().map(|row| row.key.clone());
            for row in page.rows {
                if let GroupKey::Face(Some(face)) = row.key {
                    used.insert(face, row.sums);
                }
            }
            if !page.has_more {
                return Ok(used);
            }
        }
    }
}

fn stats_json(
    face: &Face,
    profile_tokens: Option<u64>,
    compiled: Option<&FaceQuota>,
    used: &UsageSums,
) -> Value {
    let username = &face.username;
    json!({
        "id": username,
        "username": username,
        "alias": username,
        "uid": face.id,
        "component_counts": face.component_counts,
        "profile_token_count": face.component_counts.and(profile_tokens),
        "tokens_compiled_current": compiled.map_or(0, |quota| quota.tokens_in_face),
        "tokens_compiled_alltime": compiled.map_or(0, |quota| quota.tokens_alltime),
        "last_synced_at": compiled.and_then(|quota| quota.synced_at).map(UnixMicros::seconds),
        "request_count": used.requests,
        "input_tokens": used.input_tokens,
        "output_tokens": used.output_tokens,
        "provider_cost_usd": used.provider_cost.to_json_number(),
        "markup_usd": used.markup().to_json_number(),
        "total_cost_usd": used.cost.to_json_number(),
        "total_tokens_saved": null,
    })
}
