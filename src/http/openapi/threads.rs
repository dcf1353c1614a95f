//! Bodies of threads and uploads.

use std::collections::BTreeMap;

use utoipa::ToSchema;

/// An interview to begin.
#[derive(Debug, ToSchema)]
#[schema(example = json!({"alias": "alice", "label": "Interview"}))]
pub struct NewThread {
    /// The face; `model`, `username` and `face` are other names. Not asked for below a face's path.
    pub alias: Option<String>,
    /// A name for people.
    pub label: Option<String>,
}

/// Changes of a thread. What is left out stays.
#[derive(Debug, ToSchema)]
#[schema(example = json!({"label": "Interview of May"}))]
pub struct ThreadChange {
    /// A name for people.
    pub label: Option<String>,
    /// Whose messages are the face's.
    pub face_speaker: Option<String>,
}

/// What a person answers.
#[derive(Debug, ToSchema)]
#[schema(example = json!({"message": "I walk every morning."}))]
pub struct ThreadAnswer {
    /// The answer; `content` is another name.
    pub message: String,
}

/// All messages of a thread.
#[derive(Debug, ToSchema)]
#[schema(example = json!({"messages": [{"role": "user", "content": "I count everything.", "from": "Alice"}]}))]
pub struct ThreadMessages {
    /// In their order.
    pub messages: Vec<NewMessage>,
}

/// A message to keep.
#[derive(Debug, ToSchema)]
pub struct NewMessage {
    /// `user` for the face, `assistant` for everybody else.
    pub role: String,
    /// What was said.
    pub content: String,
    /// Who said it.
    pub from: Option<String>,
}

/// A message of a thread.
#[derive(Debug, ToSchema)]
pub struct ThreadMessage {
    /// `user` for the face, `assistant` for everybody else.
    pub role: String,
    /// What was said.
    pub content: String,
    /// Who said it.
    pub name: Option<String>,
}

/// A thread with the question that waits for an answer.
#[derive(Debug, ToSchema)]
pub struct Turn {
    /// Its id.
    pub id: String,
    /// The same.
    pub thread_id: String,
    /// The face's handle.
    pub alias: String,
    /// The same.
    pub model: String,
    /// The same.
    pub username: String,
    /// A name for people.
    #[schema(required = true)]
    pub label: Option<String>,
    /// `compile.thread`.
    pub object: String,
    /// Where it came from: `interview` or `upload`.
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
    /// Its messages.
    pub message_count: u64,
    /// Those that are in the face already and stay as they are.
    pub messages_archived: u64,
    /// Tokens of what the face said.
    pub user_token_count: u64,
    /// Whose lines of a transcript are the face's.
    #[schema(required = true)]
    pub face_speaker: Option<String>,
    /// Who pays for the interviewer.
    #[schema(required = true)]
    pub interviewer_billing_source: Option<String>,
    /// The question.
    pub message: ThreadMessage,
    /// What the question cost.
    pub cost_usd: f64,
}

/// A thread.
#[derive(Debug, ToSchema)]
pub struct Thread {
    /// Its id.
    pub id: String,
    /// The same.
    pub thread_id: String,
    /// The face's handle.
    pub alias: String,
    /// The same.
    pub model: String,
    /// The same.
    pub username: String,
    /// A name for people.
    #[schema(required = true)]
    pub label: Option<String>,
    /// `compile.thread`.
    pub object: String,
    /// Where it came from: `interview` or `upload`.
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
    /// Its messages.
    pub message_count: u64,
    /// Those that are in the face already and stay as they are.
    pub messages_archived: u64,
    /// Tokens of what the face said.
    pub user_token_count: u64,
    /// Whose lines of a transcript are the face's.
    #[schema(required = true)]
    pub face_speaker: Option<String>,
    /// Who pays for the interviewer.
    #[schema(required = true)]
    pub interviewer_billing_source: Option<String>,
    /// Its messages; absent in lists.
    #[schema(nullable = false)]
    pub messages: Option<Vec<ThreadMessage>>,
}

/// A page of threads, newest first.
#[derive(Debug, ToSchema)]
pub struct ThreadPage {
    /// `list`.
    pub object: String,
    /// The threads.
    pub data: Vec<Thread>,
    /// Whether there are more.
    pub has_more: bool,
    /// What the next request sends as `cursor`.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
}

/// That a thread was deleted, with the primitives that came from it.
#[derive(Debug, ToSchema)]
pub struct ThreadDeleted {
    /// `true`.
    pub deleted: bool,
    /// Its id.
    pub id: String,
    /// The same.
    pub thread_id: String,
    /// `compile.thread`.
    pub object: String,
}

/// A form with a file. The parts may come in any order.
#[derive(Debug, ToSchema)]
pub struct UploadForm {
    /// `.txt`, `.md`, `.pdf` or `.docx`.
    #[schema(format = Binary)]
    pub file: String,
    /// `document` or `thread`.
    pub r#type: Option<String>,
    /// `first-person` or `third-person`, of a document.
    pub perspective: Option<String>,
    /// Whose lines of a transcript are the face's.
    pub face_speaker: Option<String>,
    /// A name for people.
    pub label: Option<String>,
}

/// The document or thread that a file became. What only one of them has is absent in the other.
#[derive(Debug, ToSchema)]
pub struct Uploaded {
    /// `document` or `thread`.
    #[schema(rename = "type")]
    pub r#type: String,
    /// Its id again, as `document_id` or `thread_id`.
    pub data: BTreeMap<String, String>,
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
    /// `compile.document` or `compile.thread`.
    pub object: String,
    /// Where it came from: `upload`.
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
    /// Its messages.
    #[schema(nullable = false)]
    pub message_count: Option<u64>,
    /// Those that are in the face already and stay as they are.
    #[schema(nullable = false)]
    pub messages_archived: Option<u64>,
    /// Tokens of what the face said.
    #[schema(nullable = false)]
    pub user_token_count: Option<u64>,
    /// Whose lines of a transcript are the face's.
    pub face_speaker: Option<String>,
    /// Who pays for the interviewer.
    pub interviewer_billing_source: Option<String>,
    /// The thread's messages.
    #[schema(nullable = false)]
    pub messages: Option<Vec<ThreadMessage>>,
    /// Who speaks in a document.
    pub perspective: Option<String>,
    /// The document's text.
    pub content: Option<String>,
}
