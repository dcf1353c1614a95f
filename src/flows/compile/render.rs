//! Sources as the API shows them, with the names of both generations.

use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{noun, quota::QuotaState};
use crate::{
    domain::{
        clock::UnixMicros,
        compile::{CompileState, SourceKind},
    },
    storage::compile::SourceRow,
};

/// The whole object of a document; the fields that a thread shares with it.
pub(in crate::flows) fn source_json(source: &SourceRow, quota: &QuotaState) -> Value {
    let counts = source.counts.as_deref().and_then(|text| serde_json::from_str(text).ok());
    let counts: Value = counts.unwrap_or(Value::Null);
    let mut shown = json!({
        "id": source.id,
        "object": format!("compile.{}", noun(source.kind)),
        "label": source.label,
        "source": source.source,
        "version": source.version,
        "token_count": source.token_count,
        "tokens_charged": source.tokens_charged,
        "tokens_used": quota.tokens_used,
        "tokens_limit": quota.tokens_limit,
        "overflow_billed": source.overflow_billed,
        "synced": source.state == CompileState::Synced,
        "synced_at": source.synced_at.map(UnixMicros::seconds),
        "status": source.state.status(),
        "prepare_status": source.state.prepare_status(),
        "failure": source.failure,
        "chunks_total": source.chunks_total,
        "chunks_completed": source.chunks_completed,
        "current_counts": counts,
        "created_at": rfc3339(source.created_at),
        "updated_at": rfc3339(source.updated_at),
    });
    name_source(&mut shown, source);
    if source.kind == SourceKind::Document {
        shown["content"] = json!(source.content);
        shown["perspective"] = json!(source.perspective.map(|one| one.as_str()));
    }
    shown
}

/// What `prepare`, `make`, `pause` and the like answer.
pub(super) fn progress_json(source: &SourceRow, chunks_total: i64) -> Value {
    let mut shown = json!({
        "id": source.id,
        "label": source.label,
        "status": source.state.status(),
        "prepare_status": source.state.prepare_status(),
        "failure": source.failure,
        "chunks_total": chunks_total,
        "chunks_completed": source.chunks_completed,
    });
    name_source(&mut shown, source);
    shown
}

/// What `sync` answers.
pub(super) fn sync_json(
    source: &SourceRow,
    quota: &QuotaState,
    tokens_charged: i64,
    chunks_total: i64,
) -> Value {
    let mut shown = progress_json(source, chunks_total);
    let counts = source.counts.as_deref().and_then(|text| serde_json::from_str(text).ok());
    let counts: Value = counts.unwrap_or_default();
    let count = |component: &str| counts[component].as_u64().unwrap_or_default();
    shown["synced"] = json!(source.state == CompileState::Synced);
    shown["synced_at"] = json!(source.synced_at.map(UnixMicros::seconds));
    shown["tokens_charged"] = json!(tokens_charged);
    shown["tokens_used"] = json!(quota.tokens_used);
    shown["tokens_limit"] = json!(quota.tokens_limit);
    shown["overflow_billed"] = json!(source.overflow_billed);
    shown["stats"] = json!({
        "epsilons_processed": count("epsilon"),
        "betas_processed": count("beta"),
        "deltas_processed": count("delta"),
        "alphas_processed": count("alpha"),
    });
    shown
}

fn name_source(shown: &mut Value, source: &SourceRow) {
    shown[format!("{}_id", noun(source.kind))] = json!(source.id);
    for name in ["model", "alias", "username"] {
        shown[name] = json!(source.face.as_str());
    }
}

pub(in crate::flows) fn rfc3339(at: UnixMicros) -> String {
    let time = OffsetDateTime::from_unix_timestamp(at.seconds()).ok();
    time.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_default()
}
