//! Compiling: documents and threads become primitives of a face.
//!
//! Owns what an owner may ask of a source (`documents`, `control`), the worker that does it
//! (`worker`, `job`, `write`), and the quota of a plan (`quota`). The state machine is
//! [`crate::domain::compile`]; how a text is cut, what a model is asked and how duplicates are
//! merged is `faces`.
//!
//! **Once per piece.** Each piece of a text is one billed call with a name made of its source, its
//! extraction and its number, so that a call that was paid for and not written down is answered
//! from the books and not asked again ([`Flows::complete`]). What came out is kept with the piece;
//! a job that is taken up again begins at the first piece without.
//!
//! **One queue.** Jobs are rows that any instance claims with a lease and a heartbeat. A worker
//! that lost its lease can't write, and finishes the calls that it has begun, because their answers
//! wait in the books for the next one.
//!
//! How it fails: what may pass is tried again with growing pauses and then `stalled`; what needs its
//! owner (no credit, no quota, a revoked key) is `stalled` at once, what won't pass is `failed`.
//! `make` goes on where it was in both cases.
//!
//! Limits: `compile_…` and `sources_per_face_max` of `config::Limits`.

mod control;
mod documents;
mod files;
mod interview;
mod job;
mod quota;
mod render;
mod threads;
mod upload;
mod worker;
mod write;

use serde_json::{Map, Value};

pub(super) use files::FileReader;
pub use upload::Upload;
pub use worker::Compiler;

use super::{Caller, Failure, Flows, resolve};
use crate::{
    domain::{
        ErrorCode, SourceId,
        compile::{Perspective, SourceKind},
    },
    faces::{Face, estimate_tokens},
    storage::compile::{self as storage_compile, SourceRow},
};

/// Most characters of a label.
const LABEL_CHARS_MAX: usize = 200;
/// Characters of a label that is made from the text.
const LABEL_CHARS_DEFAULT: usize = 60;
/// How often a change of a face is tried again when another one came in between.
pub(super) const FACE_TRIES: u32 = 8;

impl Flows {
    /// The caller's source of that id and kind.
    ///
    /// # Errors
    /// 404 when there is none, 403 when the key does not allow its face.
    pub(super) async fn source(
        &self,
        caller: &Caller,
        kind: SourceKind,
        id: &str,
    ) -> Result<SourceRow, Failure> {
        let Ok(id) = id.parse::<SourceId>() else { return Err(no_source(kind)) };
        let db = &self.inner.platform.inner.db;
        let found = storage_compile::find_source(db, caller.account_id, id).await?;
        let source = found.filter(|one| one.kind == kind).ok_or_else(|| no_source(kind))?;
        resolve::permit_face(caller, &source.face)?;
        Ok(source)
    }

    /// The caller's face, when texts can be compiled into it.
    ///
    /// # Errors
    /// 404, 403; 422 for a face that is made of others.
    pub(super) async fn face_to_compile(
        &self,
        caller: &Caller,
        username: &str,
    ) -> Result<Face, Failure> {
        let face = self.inner.platform.stored_face(caller, username).await?;
        if face.formula.is_some() {
            return Err(Failure::invalid(
                "model",
                "This face is made of others by a formula: compile into those.",
            ));
        }
        Ok(face)
    }

    /// Refuses one more source of a face at the limit.
    ///
    /// # Errors
    /// 422.
    pub(super) async fn room_for_a_source(
        &self,
        face: &Face,
        kind: SourceKind,
    ) -> Result<(), Failure> {
        let platform = &self.inner.platform.inner;
        let most = u64::from(platform.limits.sources_per_face_max);
        if storage_compile::count_sources(&platform.db, face.id, kind).await? >= most {
            let message = format!("This face has {most} of these, which is the most. Delete one.");
            return Err(Failure::new(ErrorCode::InvalidRequest, message));
        }
        Ok(())
    }

    /// Checks a text that is to be compiled and gives it back as it is kept: lines end with `\n`,
    /// and there are no control characters but those.
    ///
    /// # Errors
    /// 422 when it is empty or too large.
    pub(super) fn checked_text(&self, field: &str, text: &str) -> Result<String, Failure> {
        let most = self.inner.platform.inner.limits.compile_content_bytes_max;
        let text: String = text
            .replace("\r\n", "\n")
            .replace('\r', "\n")
            .chars()
            .filter(|character| !character.is_control() || matches!(character, '\n' | '\t'))
            .collect();
        if text.trim().is_empty() {
            return Err(Failure::invalid(field, format!("{field} must not be empty")));
        }
        if u64::try_from(text.len()).is_ok_and(|bytes| bytes > most) {
            let message = format!(
                "{field} has {} bytes; at most {most} are accepted. Split the text.",
                text.len()
            );
            return Err(Failure::invalid(field, message));
        }
        Ok(text)
    }
}

/// 404 that does not tell a foreign source from a missing one.
fn no_source(kind: SourceKind) -> Failure {
    let noun = noun(kind);
    Failure::new(ErrorCode::NotFound, format!("The {noun} was not found or is not owned by you."))
}

const fn noun(kind: SourceKind) -> &'static str {
    match kind {
        SourceKind::Document => "document",
        SourceKind::Thread => "thread",
    }
}

/// Estimated tokens of a text, as a column.
pub(super) fn tokens_of(text: &str) -> i64 {
    i64::try_from(estimate_tokens(text)).unwrap_or(i64::MAX)
}

/// Reads a JSON object.
///
/// # Errors
/// 422.
pub(super) fn read_object(body: &[u8]) -> Result<Map<String, Value>, Failure> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(Failure {
            loc: vec!["body".to_owned()],
            validation: "type_error",
            ..Failure::new(ErrorCode::InvalidRequest, "The request body must be a JSON object.")
        }),
        Err(error) => Err(Failure {
            loc: vec!["body".to_owned()],
            validation: "json_invalid",
            ..Failure::new(ErrorCode::InvalidJson, format!("not valid JSON: {error}"))
        }),
    }
}

/// The first of these fields that is a text; null counts as left out.
///
/// # Errors
/// 422 when it is something else.
pub(super) fn text_field<'a>(
    fields: &'a Map<String, Value>,
    names: &[&str],
) -> Result<Option<&'a str>, Failure> {
    for name in names {
        match fields.get(*name) {
            None | Some(Value::Null) => {}
            Some(Value::String(text)) => return Ok(Some(text)),
            Some(_) => {
                return Err(Failure {
                    validation: "type_error",
                    ..Failure::invalid(name, format!("{name} must be a string"))
                });
            }
        }
    }
    Ok(None)
}

/// A field that must be there.
pub(super) fn missing(name: &str) -> Failure {
    Failure { validation: "missing", ..Failure::invalid(name, format!("{name}: field required")) }
}

/// Reads a label, on one line.
///
/// # Errors
/// 422 when it is too long.
pub(super) fn label_field(fields: &Map<String, Value>) -> Result<Option<String>, Failure> {
    let Some(label) = text_field(fields, &["label"])? else { return Ok(None) };
    let label = one_line(label);
    if label.chars().count() > LABEL_CHARS_MAX {
        let message = format!("label must have at most {LABEL_CHARS_MAX} characters");
        return Err(Failure::invalid("label", message));
    }
    Ok((!label.is_empty()).then_some(label))
}

/// A label for a text without one: its first line.
pub(super) fn label_of(text: &str) -> String {
    let line = text.lines().map(one_line).find(|line| !line.is_empty()).unwrap_or_default();
    match line.chars().count() {
        0..=LABEL_CHARS_DEFAULT => line,
        _ => line.chars().take(LABEL_CHARS_DEFAULT - 1).chain(['…']).collect(),
    }
}

fn one_line(text: &str) -> String {
    let visible: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    visible.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Reads who speaks.
///
/// # Errors
/// 422 for another word.
pub(super) fn perspective_field(
    fields: &Map<String, Value>,
) -> Result<Option<Perspective>, Failure> {
    let Some(word) = text_field(fields, &["perspective"])? else { return Ok(None) };
    Perspective::parse(word).map(Some).ok_or_else(|| {
        Failure::invalid("perspective", "perspective must be first-person or third-person")
    })
}
