//! Bodies of compiling, and of comparing faces.

use std::collections::BTreeMap;

use serde_json::Value;
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

/// A text, or how far it is.
#[derive(Debug, ToSchema)]
pub struct Document {
    /// Its id.
    pub id: String,
    /// The face's handle; also in `model` and `username`.
    pub alias: String,
    /// A name for people.
    pub label: Option<String>,
    /// Where it stands.
    pub status: Option<String>,
    /// Where its extraction stands.
    pub prepare_status: Option<String>,
    /// Why it failed.
    pub failure: Option<String>,
    /// Chunks that it is cut into.
    pub chunks_total: i64,
    /// Chunks that are done.
    pub chunks_completed: i64,
    /// Whether its primitives are in the face.
    #[schema(nullable = false)]
    pub synced: Option<bool>,
    /// Its size.
    #[schema(nullable = false)]
    pub token_count: Option<i64>,
    /// What was charged to the quota.
    #[schema(nullable = false)]
    pub tokens_charged: Option<i64>,
    /// The text, where the whole document is asked for.
    pub content: Option<String>,
}

/// A page of documents.
#[derive(Debug, ToSchema)]
pub struct DocumentPage {
    /// `list`.
    pub object: String,
    /// The documents, without their texts.
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
}

/// What is being made of a face's documents.
#[derive(Debug, ToSchema)]
pub struct FaceSync {
    /// The face's handle.
    pub alias: String,
    /// `syncing`, or `synced` when there was nothing to do.
    pub status: String,
    /// The documents that were begun.
    pub data: Vec<Document>,
}

/// How much may be compiled.
#[derive(Debug, ToSchema)]
pub struct CompileQuota {
    /// The account's plan.
    pub plan: String,
    /// Tokens that were compiled in this period.
    pub tokens_used: i64,
    /// Tokens that may be compiled in it; `null` for any number.
    pub tokens_limit: Option<i64>,
    /// What is left of them.
    pub tokens_remaining: Option<i64>,
    /// Whether credits pay for more.
    pub allow_compile_overflow: bool,
    /// By face.
    pub faces: Vec<BTreeMap<String, Value>>,
}

/// The switch of the overflow.
#[derive(Debug, ToSchema)]
#[schema(example = json!({"allow_compile_overflow": true}))]
pub struct CompileQuotaChange {
    /// Whether credits pay for what the quota does not.
    pub allow_compile_overflow: bool,
}

/// What `data` holds: `pairs` of faces with their similarity, or the `neighbors` of one.
#[derive(Debug, ToSchema)]
pub struct Comparison {
    /// The result.
    pub data: BTreeMap<String, Value>,
}
