//! Bodies of compiling texts.

use std::collections::BTreeMap;

use utoipa::ToSchema;

/// A text to compile a face from.
#[derive(Debug, ToSchema)]
#[schema(example = json!({"alias": "alice", "label": "Diary", "content": "I keep the light. I count the ships.",
    "perspective": "first-person"}))]
pub struct NewDocument {
    /// The face; `model`, `username` and `face` are other names. Not asked for below a face's path.
    pub alias: Option<String>,
    /// The text; `text` is another name.
    pub content: String,
    /// A name for people.
    pub label: Option<String>,
    /// Who speaks: `first-person` or `third-person`.
    pub perspective: Option<String>,
}

/// Changes of a document. What is left out stays.
#[derive(Debug, ToSchema)]
#[schema(example = json!({"label": "Diary of May"}))]
pub struct DocumentChange {
    /// A name for people.
    pub label: Option<String>,
    /// The text.
    pub content: Option<String>,
    /// Who speaks: `first-person` or `third-person`.
    pub perspective: Option<String>,
}

/// A text with all that is known of it.
#[derive(Debug, ToSchema)]
pub struct Document {
    /// Its id.
    pub id: String,
    /// The same.
    pub document_id: String,
    /// The face's handle.
    pub alias: String,
    /// The same.
    pub model: String,
    /// The same.
    pub username: String,
    /// A name for people.
    #[schema(required = true)]
    pub label: Option<String>,
    /// `compile.document`.
    pub object: String,
    /// Where it came from: `api` or `upload`.
    pub source: String,
    /// Grows with each change of its text.
    pub version: u64,
    /// Tokens of its text.
    pub token_count: u64,
    /// Primitives that came from it, by component; `null` until it was extracted.
    #[schema(required = true)]
    pub current_counts: Option<BTreeMap<String, u64>>,
    /// When it was made.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// When it was last changed.
    #[schema(format = DateTime)]
    pub updated_at: String,
    /// Where it stands: `new`, `preparing`, `pausing`, `paused`, `ready`, `syncing`, `synced`,
    /// `stalled` (may pass, see `failure`), `failed`.
    pub status: String,
    /// Where its extraction stands; `null` before it began.
    #[schema(required = true)]
    pub prepare_status: Option<String>,
    /// Why it failed.
    #[schema(required = true)]
    pub failure: Option<String>,
    /// Chunks that it is cut into.
    pub chunks_total: u64,
    /// Chunks that are done.
    pub chunks_completed: u64,
    /// Whether its primitives are in the face.
    pub synced: bool,
    /// When they came there, seconds since 1970.
    #[schema(required = true)]
    pub synced_at: Option<i64>,
    /// Tokens of its text that were counted against the plan's quota.
    pub tokens_charged: u64,
    /// Tokens of the quota that the account has used.
    pub tokens_used: u64,
    /// Tokens of the quota; `null` for any number.
    #[schema(required = true)]
    pub tokens_limit: Option<u64>,
    /// Whether credits paid for what was beyond the quota.
    pub overflow_billed: bool,
    /// Who speaks: `first-person` or `third-person`.
    #[schema(required = true)]
    pub perspective: Option<String>,
    /// The text; absent in lists.
    #[schema(nullable = false)]
    pub content: Option<String>,
}

/// Primitives that were taken, by component.
#[derive(Debug, ToSchema)]
pub struct SyncStats {
    /// Habits, behaviour.
    pub epsilons_processed: u64,
    /// Values, preferences.
    pub betas_processed: u64,
    /// Patterns of thought.
    pub deltas_processed: u64,
    /// Self-concept, identity.
    pub alphas_processed: u64,
}

/// A page of documents, newest first.
#[derive(Debug, ToSchema)]
pub struct DocumentPage {
    /// `list`.
    pub object: String,
    /// The documents.
    pub data: Vec<Document>,
    /// Whether there are more.
    pub has_more: bool,
    /// What the next request sends as `cursor`.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
}

/// That a document was deleted, with the primitives that came from it.
#[derive(Debug, ToSchema)]
pub struct DocumentDeleted {
    /// `true`.
    pub deleted: bool,
    /// Its id.
    pub id: String,
    /// The same.
    pub document_id: String,
    /// `compile.document`.
    pub object: String,
}

/// What is being made of a face's documents and threads.
#[derive(Debug, ToSchema)]
pub struct FaceSync {
    /// The face's handle.
    pub id: String,
    /// The face's handle.
    pub alias: String,
    /// The same.
    pub model: String,
    /// The same.
    pub username: String,
    /// `syncing`, or `synced` when there was nothing to do.
    pub status: String,
    /// The same.
    pub sync_status: String,
    /// What was begun.
    pub data: Vec<SourceProgress>,
}

/// How far a document or a thread is. It has one of `document_id` and `thread_id`; what follows
/// `chunks_completed` is told by `sync` alone.
#[derive(Debug, ToSchema)]
pub struct SourceProgress {
    /// Its id.
    pub id: String,
    /// The same, of a document.
    #[schema(nullable = false)]
    pub document_id: Option<String>,
    /// The same, of a thread.
    #[schema(nullable = false)]
    pub thread_id: Option<String>,
    /// The face's handle.
    pub alias: String,
    /// The same.
    pub model: String,
    /// The same.
    pub username: String,
    /// A name for people.
    #[schema(required = true)]
    pub label: Option<String>,
    /// Where it stands: `new`, `preparing`, `pausing`, `paused`, `ready`, `syncing`, `synced`,
    /// `stalled` (may pass, see `failure`), `failed`.
    pub status: String,
    /// Where its extraction stands; `null` before it began.
    #[schema(required = true)]
    pub prepare_status: Option<String>,
    /// Why it failed.
    #[schema(required = true)]
    pub failure: Option<String>,
    /// Chunks that it is cut into.
    pub chunks_total: u64,
    /// Chunks that are done.
    pub chunks_completed: u64,
    /// Whether its primitives are in the face.
    #[schema(nullable = false)]
    pub synced: Option<bool>,
    /// When they came there, seconds since 1970.
    pub synced_at: Option<i64>,
    /// Tokens of its text that were counted against the plan's quota.
    #[schema(nullable = false)]
    pub tokens_charged: Option<u64>,
    /// Tokens of the quota that the account has used.
    #[schema(nullable = false)]
    pub tokens_used: Option<u64>,
    /// Tokens of the quota; `null` for any number.
    pub tokens_limit: Option<u64>,
    /// Whether credits paid for what was beyond the quota.
    #[schema(nullable = false)]
    pub overflow_billed: Option<bool>,
    /// Primitives that were taken, by component.
    #[schema(nullable = false)]
    pub stats: Option<SyncStats>,
}

/// How much may be compiled.
#[derive(Debug, ToSchema)]
pub struct CompileQuota {
    /// The account's plan.
    pub plan: String,
    /// Tokens that were compiled in this period.
    pub tokens_used: u64,
    /// Tokens that may be compiled in it; `null` for any number.
    #[schema(required = true)]
    pub tokens_limit: Option<u64>,
    /// What is left of them.
    #[schema(required = true)]
    pub tokens_remaining: Option<u64>,
    /// When the period ends; `null` when it does not.
    #[schema(required = true, format = DateTime)]
    pub quota_reset_at: Option<String>,
    /// Whether credits pay for more.
    pub allow_compile_overflow: bool,
    /// By face.
    pub faces: Vec<FaceTokens>,
}

/// What of a face was compiled.
#[derive(Debug, ToSchema)]
pub struct FaceTokens {
    /// The face's handle.
    pub face_id: String,
    /// The same.
    pub username: String,
    /// The same.
    pub alias: String,
    /// Tokens of the texts that it is made of now.
    pub tokens_in_graph: u64,
    /// Tokens that were counted in this period.
    pub tokens_charged_period: u64,
    /// Tokens that were ever counted.
    pub tokens_charged_alltime: u64,
    /// Size of its whole profile, tokens; `null` until it was prepared to speak.
    #[schema(required = true)]
    pub profile_token_count: Option<u64>,
    /// When primitives last came into it.
    #[schema(required = true, format = DateTime)]
    pub last_synced_at: Option<String>,
}

/// The switch of the overflow.
#[derive(Debug, ToSchema)]
#[schema(example = json!({"allow_compile_overflow": true}))]
pub struct CompileQuotaChange {
    /// Whether credits pay for what the quota does not.
    pub allow_compile_overflow: bool,
}
