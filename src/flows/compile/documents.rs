//! Documents as their owners see them: create, list, read, change.

use serde_json::{Value, json};

use super::{
    label_field, label_of, missing, perspective_field, read_object, render, text_field, tokens_of,
};
use crate::{
    domain::{
        ErrorCode, SourceId,
        compile::{Perspective, SourceKind},
    },
    faces::Face,
    flows::{
        Caller, Failure, Flows,
        personas::{PAGE_DEFAULT, PAGE_MAX},
    },
    storage::{
        StorageError,
        compile::{self as storage_compile, NewSource, SourceEdit, SourceFilter},
    },
};

/// The names of the field that says which face.
pub(in crate::flows) const FACE_FIELDS: [&str; 4] = ["model", "alias", "username", "face"];

impl Flows {
    /// `POST /v1/compile/documents`, or `POST /v1/faces/{face}/compile/documents` with the face of
    /// the path.
    ///
    /// # Errors
    /// 404 and 403 for the face, 422 with the path of a wrong field, 422 at the limit of documents.
    pub async fn create_document(
        &self,
        caller: &Caller,
        face: Option<&str>,
        body: &[u8],
    ) -> Result<Value, Failure> {
        let fields = read_object(body)?;
        let username = match face {
            Some(username) => username,
            None => text_field(&fields, &FACE_FIELDS)?.ok_or_else(|| missing("model"))?,
        };
        let content = text_field(&fields, &["content", "text", "message"])?;
        let content = content.ok_or_else(|| missing("content"))?;
        let label = label_field(&fields)?;
        let perspective = perspective_field(&fields)?.unwrap_or(Perspective::FirstPerson);
        let face = self.face_to_compile(caller, username).await?;
        self.keep_document(caller, &face, label, content, perspective, "api").await
    }

    /// Keeps a text as a document of a face; `source` says where it came from.
    ///
    /// # Errors
    /// 422 when the text is empty or too large, and at the limit of documents.
    pub(in crate::flows) async fn keep_document(
        &self,
        caller: &Caller,
        face: &Face,
        label: Option<String>,
        content: &str,
        perspective: Perspective,
        source: &str,
    ) -> Result<Value, Failure> {
        let content = self.checked_text("content", content)?;
        self.room_for_a_source(face, SourceKind::Document).await?;
        let new = NewSource {
            id: SourceId::generate(),
            account_id: caller.account_id,
            face_id: face.id,
            kind: SourceKind::Document,
            label: label.unwrap_or_else(|| label_of(&content)),
            token_count: tokens_of(&content),
            content,
            messages: Vec::new(),
            perspective: Some(perspective),
            source: source.to_owned(),
            face_speaker: None,
            interviewer_payer: None,
        };
        let kept = storage_compile::insert_source(&self.inner.platform.inner.db, new).await;
        let kept = match kept {
            Ok(kept) => kept,
            Err(StorageError::Missing { .. }) => {
                return Err(super::resolve::face_not_found(face.username.as_str()));
            }
            Err(error) => return Err(error.into()),
        };
        Ok(render::source_json(&kept, &self.quota_of(caller.account_id).await?))
    }

    /// `GET /v1/compile/documents` and its like under a face: oldest first, with a cursor, without
    /// the texts.
    ///
    /// # Errors
    /// 404 and 403 for the face, 422 for a limit that is none.
    pub async fn list_documents(
        &self,
        caller: &Caller,
        face: Option<&str>,
        after: Option<SourceId>,
        limit: Option<u32>,
    ) -> Result<Value, Failure> {
        let kind = SourceKind::Document;
        let (rows, next) = self.source_page(caller, kind, face, after, limit).await?;
        let quota = self.quota_of(caller.account_id).await?;
        let shown = rows.iter().map(|row| {
            let mut shown = render::source_json(row, &quota);
            if let Some(fields) = shown.as_object_mut() {
                fields.remove("content");
            }
            shown
        });
        let data: Vec<Value> = shown.collect();
        let has_more = next.is_some();
        Ok(json!({"object": "list", "data": data, "has_more": has_more, "next_cursor": next}))
    }

    /// One page of sources, and the cursor of the next.
    ///
    /// # Errors
    /// As [`Flows::list_documents`].
    pub(in crate::flows) async fn source_page(
        &self,
        caller: &Caller,
        kind: SourceKind,
        face: Option<&str>,
        after: Option<SourceId>,
        limit: Option<u32>,
    ) -> Result<(Vec<storage_compile::SourceRow>, Option<SourceId>), Failure> {
        let limit = limit.unwrap_or(PAGE_DEFAULT);
        if !(1..=PAGE_MAX).contains(&limit) {
            return Err(Failure {
                loc: vec!["query".to_owned(), "limit".to_owned()],
                ..Failure::new(
                    ErrorCode::InvalidRequest,
                    format!("limit must be from 1 to {PAGE_MAX}"),
                )
            });
        }
        let face_id = match face {
            None => None,
            Some(username) => Some(self.inner.platform.stored_face(caller, username).await?.id),
        };
        let filter = SourceFilter { kind, face_id, usernames: caller.allowed_faces.clone() };
        let db = &self.inner.platform.inner.db;
        let mut rows =
            storage_compile::list_sources(db, caller.account_id, filter, after, limit + 1).await?;
        let page = usize::try_from(limit).unwrap_or(usize::MAX);
        let has_more = rows.len() > page;
        rows.truncate(page);
        let next = rows.last().map(|row| row.id).filter(|_| has_more);
        Ok((rows, next))
    }

    /// `GET /v1/compile/documents/{id}`; with a face, that face's only.
    ///
    /// # Errors
    /// 404, 403.
    pub async fn read_document(
        &self,
        caller: &Caller,
        face: Option<&str>,
        id: &str,
    ) -> Result<Value, Failure> {
        let source = self.source(caller, SourceKind::Document, id).await?;
        if face.is_some_and(|face| face != source.face.as_str()) {
            return Err(super::no_source(SourceKind::Document));
        }
        Ok(render::source_json(&source, &self.quota_of(caller.account_id).await?))
    }

    /// `PATCH /v1/compile/documents/{id}`: another text or perspective makes a new version, drops
    /// what was extracted and ends the work on it; the face keeps the old version until the next
    /// sync.
    ///
    /// # Errors
    /// 404, 403, 422.
    pub async fn update_document(
        &self,
        caller: &Caller,
        id: &str,
        body: &[u8],
    ) -> Result<Value, Failure> {
        let fields = read_object(body)?;
        let source = self.source(caller, SourceKind::Document, id).await?;
        let content = match text_field(&fields, &["content", "text", "message"])? {
            Some(text) => Some(self.checked_text("content", text)?),
            None => None,
        };
        let perspective = perspective_field(&fields)?;
        let edit = SourceEdit {
            label: label_field(&fields)?,
            content: content.filter(|text| *text != source.content).map(|text| {
                let tokens = tokens_of(&text);
                (text, tokens)
            }),
            perspective: perspective.filter(|_| perspective != source.perspective).map(Some),
            ..SourceEdit::default()
        };
        let db = &self.inner.platform.inner.db;
        let edited = storage_compile::edit_source(db, caller.account_id, source.id, edit).await;
        let edited = match edited {
            Ok(edited) => edited,
            Err(StorageError::Missing { .. }) => {
                return Err(super::no_source(SourceKind::Document));
            }
            Err(error) => return Err(error.into()),
        };
        Ok(render::source_json(&edited, &self.quota_of(caller.account_id).await?))
    }
}
