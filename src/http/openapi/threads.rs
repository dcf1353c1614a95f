//! Bodies of threads and uploads.

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
    /// Its id; also in `id`.
    pub thread_id: String,
    /// The face's handle.
    pub alias: String,
    /// A name for people.
    pub label: Option<String>,
    /// The question.
    pub message: ThreadMessage,
}

/// A thread.
#[derive(Debug, ToSchema)]
pub struct Thread {
    /// Its id; also in `id`.
    pub thread_id: String,
    /// The face's handle; also in `model` and `username`.
    pub alias: String,
    /// A name for people.
    pub label: Option<String>,
    /// Its messages, where the whole thread is asked for.
    #[schema(nullable = false)]
    pub messages: Option<Vec<ThreadMessage>>,
}

/// How far a thread is.
#[derive(Debug, ToSchema)]
pub struct ThreadProgress {
    /// Its id; also in `id`.
    pub thread_id: String,
    /// Where it stands.
    pub status: Option<String>,
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

/// What a file became.
#[derive(Debug, ToSchema)]
pub struct Uploaded {
    /// The document's or thread's id.
    pub id: String,
    /// The same, of a document.
    #[schema(nullable = false)]
    pub document_id: Option<String>,
    /// The same, of a thread.
    #[schema(nullable = false)]
    pub thread_id: Option<String>,
}
