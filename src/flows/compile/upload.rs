//! `POST /v1/faces/{face}/upload`: the text of a file becomes a document or a thread.

use bytes::Bytes;
use serde_json::{Value, json};

use super::{label_of, missing, threads};
use crate::{
    domain::compile::{Perspective, SourceKind},
    faces::{
        Face,
        source::{FileKind, SpeakerError, Transcript},
    },
    flows::{Caller, Failure, Flows},
    storage::compile::MessageRow,
};

/// What a form holds.
#[derive(Clone, Default)]
pub struct Upload {
    /// The file.
    pub file: Option<Bytes>,
    /// Its name.
    pub file_name: Option<String>,
    /// Its content type.
    pub content_type: Option<String>,
    /// `document` (the default) or `thread`.
    pub kind: Option<String>,
    /// `first-person` (the default) or `third-person`, of a document.
    pub perspective: Option<String>,
    /// Who in a transcript is the face.
    pub face_speaker: Option<String>,
    /// For people; the file's name otherwise.
    pub label: Option<String>,
}

/// Shows no text.
impl std::fmt::Debug for Upload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bytes = self.file.as_ref().map(Bytes::len);
        f.debug_struct("Upload")
            .field("bytes", &bytes)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

impl Flows {
    /// Keeps the text of a file as a document, or its transcript as a thread.
    ///
    /// # Errors
    /// 404 and 403 for the face; 422 for a wrong field, for a file without text, for audio and
    /// video, and for a transcript without speakers; 400 for another kind of file, 413 for one that
    /// unpacks to too much, 503 when too many files are read at once.
    ///
    /// # Cancel safety
    /// Dropped before its end, nothing is kept, or all of it.
    pub async fn upload(
        &self,
        caller: &Caller,
        username: &str,
        upload: Upload,
    ) -> Result<Value, Failure> {
        let face = self.face_to_compile(caller, username).await?;
        let kind = match upload.kind.as_deref().map(str::trim) {
            None | Some("" | "document") => SourceKind::Document,
            Some("thread") => SourceKind::Thread,
            Some(_) => return Err(Failure::invalid("type", "type must be document or thread")),
        };
        let perspective = match upload.perspective.as_deref().map(str::trim) {
            None | Some("") => Perspective::FirstPerson,
            Some(word) => Perspective::parse(word).ok_or_else(|| {
                let message = "perspective must be first-person or third-person";
                Failure::invalid("perspective", message)
            })?,
        };
        let bytes = upload.file.clone().ok_or_else(|| missing("file"))?;
        let (name, content_type) = (upload.file_name.as_deref(), upload.content_type.as_deref());
        let file_kind = FileKind::of(name, content_type, &bytes)?;
        self.room_for_a_source(&face, kind).await?;
        let text = self.inner.files.text(file_kind, bytes).await?;
        let text = self.checked_text("file", &text)?;
        let label =
            upload.label.as_deref().or(name).map(label_of).filter(|label| !label.is_empty());
        let (mut shown, id) = match kind {
            SourceKind::Document => {
                let kept = self.keep_document(caller, &face, label, &text, perspective, "upload");
                (kept.await?, "document_id")
            }
            SourceKind::Thread => {
                let speaker = upload.face_speaker.as_deref();
                (self.keep_transcript(caller, &face, label, &text, speaker).await?, "thread_id")
            }
        };
        shown["type"] = json!(upload.kind.as_deref().unwrap_or("document"));
        let mut data = json!({});
        data[id] = shown[id].clone();
        shown["data"] = data;
        Ok(shown)
    }

    async fn keep_transcript(
        &self,
        caller: &Caller,
        face: &Face,
        label: Option<String>,
        text: &str,
        face_speaker: Option<&str>,
    ) -> Result<Value, Failure> {
        let wanted = face_speaker.map(str::trim).filter(|speaker| !speaker.is_empty());
        let transcript = Transcript::read(text, wanted, &[&face.name, face.username.as_str()])?;
        let messages: Vec<MessageRow> = transcript
            .turns
            .into_iter()
            .map(|turn| {
                threads::message(turn.is_face, turn.utterance.text, Some(turn.utterance.speaker))
            })
            .collect();
        self.check_messages(&messages)?;
        let new = threads::NewThread {
            label: label.unwrap_or_else(|| label_of(text)),
            messages,
            source: "upload",
            face_speaker: Some(transcript.face_speaker),
            payer: None,
        };
        let (thread, messages) = self.keep_thread(caller, face, new).await?;
        self.whole_thread(caller, &thread, &messages).await
    }
}

impl From<SpeakerError> for Failure {
    fn from(error: SpeakerError) -> Self {
        let field = match error {
            SpeakerError::NoSpeakers => "file",
            SpeakerError::NoSuchSpeaker { .. } => "face_speaker",
        };
        Self::invalid(field, format!("{field}: {error}"))
    }
}
