//! Faces as their owners see them: create, read, change, delete, import.

use serde_json::{Value, json};

use super::{Caller, Failure, Platform};
use crate::{
    domain::{AccountId, ErrorCode, FaceId, FaceName, clock},
    faces::{
        self, Component, ComponentCounts, Face, FaceError, FaceFields, FaceImport, FaceRendering,
        Facts, FieldFault, ImportLimits, Primitive,
    },
    storage::{
        StorageError, compile as storage_compile,
        faces::{
            self as storage_faces, FaceContent, FacePrimitives, FaceRow, NewFace, PrimitiveRow,
        },
    },
};

/// Faces in one page of a list when the caller does not say.
pub const PAGE_DEFAULT: u32 = 100;
/// Most faces in one page of a list.
pub const PAGE_MAX: u32 = 1_000;
/// Why a combined face takes no primitives.
const COMBINED_MESSAGE: &str =
    "primitives: this face is made by its formula and has none of its own";
/// How often an update is tried again when another one came in between.
const UPDATE_TRIES: u32 = 5;

/// `GET /v1/faces/attributes`: the accepted `basic_facts` keys by category.
#[must_use]
pub fn attributes() -> Value {
    faces::attributes_json()
}

impl Platform {
    /// `POST /v1/faces`.
    ///
    /// # Errors
    /// 422 with the path of a wrong field, 409 when the username is taken, 422 at the limit of
    /// faces per account; 403 when the key does not allow an operand of the formula.
    pub async fn create_face(&self, caller: &Caller, body: &[u8]) -> Result<Value, Failure> {
        let fields = FaceFields::parse(body)?;
        let (face, warnings) =
            fields.into_face(FaceId::generate(), caller.account_id, clock::now().0)?;
        super::resolve::permit_face(caller, &face.username)?;
        self.room_for_one_more(caller.account_id).await?;
        self.check_default_model(&face)?;
        self.check_formula(caller, &face).await?;
        let face =
            self.keep(face, FacePrimitives { rows: Vec::new(), component_counts: None }).await?;
        self.render(caller.account_id, &face, &warnings).await
    }

    /// `GET /v1/faces`, oldest first, with a cursor; for a key with a list of faces those only.
    ///
    /// # Errors
    /// 422 for a cursor or limit that is none.
    pub async fn list_faces(
        &self,
        caller: &Caller,
        after: Option<FaceId>,
        limit: Option<u32>,
    ) -> Result<Value, Failure> {
        self.faces_of(caller.account_id, caller.allowed_faces.clone(), after, limit).await
    }

    pub(super) async fn faces_of(
        &self,
        account_id: AccountId,
        usernames: Option<Vec<String>>,
        after: Option<FaceId>,
        limit: Option<u32>,
    ) -> Result<Value, Failure> {
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
        let db = &self.inner.db;
        let rows = match usernames {
            None => storage_faces::list_faces(db, account_id, after, limit + 1).await?,
            Some(names) => {
                storage_faces::list_named_faces(db, account_id, names, after, limit + 1).await?
            }
        };
        let page = usize::try_from(limit).unwrap_or(usize::MAX);
        let has_more = rows.len() > page;
        let mut data = Vec::with_capacity(rows.len().min(page));
        let mut last = None;
        for row in rows.into_iter().take(page) {
            last = Some(row.id);
            let face = face_from_row(row)?;
            data.push(face.to_json(FaceRendering {
                owned_by: &account_id.to_string(),
                profile_tokens: None,
                warnings: &[],
            }));
        }
        let next = if has_more { last } else { None };
        Ok(json!({"object": "list", "data": data, "has_more": has_more, "next_cursor": next}))
    }

    /// `GET /v1/faces/{face}`; `sync_status` tells whether something of it is being compiled.
    ///
    /// # Errors
    /// 404 when it is not the caller's.
    pub async fn read_face(&self, caller: &Caller, username: &str) -> Result<Value, Failure> {
        let face = self.stored_face(caller, username).await?;
        let db = &self.inner.db;
        let is_compiling = storage_compile::is_compiling(db, caller.account_id, face.id).await?;
        let mut shown = self.render(caller.account_id, &face, &[]).await?;
        shown["sync_status"] = json!(if is_compiling { "syncing" } else { "synced" });
        Ok(shown)
    }

    /// `PATCH /v1/faces/{face}`: facts are merged key by key, the rest is replaced.
    ///
    /// # Errors
    /// 404, 422; 403 when the key does not allow an operand of a new formula; 409 when others keep changing the face at the same time.
    pub async fn update_face(
        &self,
        caller: &Caller,
        username: &str,
        body: &[u8],
    ) -> Result<Value, Failure> {
        for _ in 0..UPDATE_TRIES {
            let fields = FaceFields::parse(body)?;
            let mut face = self.stored_face(caller, username).await?;
            let formula = face.formula.clone();
            let warnings = fields.apply_to(&mut face)?;
            self.check_default_model(&face)?;
            if face.formula != formula {
                self.check_formula(caller, &face).await?;
            }
            let (account_id, id, version) = (face.account_id, face.id, face.version);
            let content = content_of(face);
            match storage_faces::update_face(&self.inner.db, account_id, id, version, content).await
            {
                Ok(row) => {
                    let face = face_from_row(row)?;
                    self.inner.directory.forget_face(account_id, &face.username);
                    return self.render(account_id, &face, &warnings).await;
                }
                Err(StorageError::Stale { .. }) => {}
                Err(StorageError::Missing { .. }) => return Err(not_found(username)),
                Err(error) => return Err(error.into()),
            }
        }
        Err(Failure::new(
            ErrorCode::Conflict,
            "This face is being changed by other requests at the same time. Try again.",
        ))
    }

    /// `DELETE /v1/faces/{face}`: with its primitives.
    ///
    /// # Errors
    /// 404 when it is not the caller's.
    pub async fn delete_face(&self, caller: &Caller, username: &str) -> Result<Value, Failure> {
        let face = self.stored_face(caller, username).await?;
        let deleted =
            storage_faces::delete_face(&self.inner.db, caller.account_id, &face.username).await?;
        self.inner.directory.forget_face(caller.account_id, &face.username);
        if !deleted {
            return Err(not_found(username));
        }
        Ok(json!({"deleted": true, "id": face.username, "object": "face"}))
    }

    /// `PUT /v1/faces/{face}/primitives`: replaces the compiled persona.
    ///
    /// # Errors
    /// 404; 422 with the path of the first wrong primitive, and nothing is changed.
    pub async fn replace_primitives(
        &self,
        caller: &Caller,
        username: &str,
        body: &[u8],
    ) -> Result<Value, Failure> {
        let primitives = faces::parse_primitives(body, &self.import_limits())?;
        let face = self.stored_face(caller, username).await?;
        if face.formula.is_some() {
            return Err(Failure::invalid("primitives", COMBINED_MESSAGE));
        }
        let rows = stored_primitives(&primitives);
        let replaced =
            storage_faces::replace_primitives(&self.inner.db, caller.account_id, face.id, rows)
                .await;
        let face = match replaced {
            Ok(row) => face_from_row(row)?,
            Err(StorageError::Missing { .. }) => return Err(not_found(username)),
            Err(error) => return Err(error.into()),
        };
        self.inner.directory.forget_face(caller.account_id, &face.username);
        self.render(caller.account_id, &face, &[]).await
    }

    /// Imports a whole face, replacing what one of the same username says and keeping its id.
    ///
    /// # Errors
    /// 422 with the path of the first wrong field, and for a face that is made by a formula;
    /// nothing is changed then.
    pub async fn import_face(&self, account_id: AccountId, file: &[u8]) -> Result<Value, Failure> {
        let import = FaceImport::parse(file, &self.import_limits())?;
        let (face, primitives, warnings) =
            import.into_face(FaceId::generate(), account_id, clock::now().0)?;
        let rows = stored_primitives(&primitives);
        let known = storage_faces::find_face(&self.inner.db, account_id, &face.username).await?;
        let face = match known {
            Some(known) if known.formula.is_some() => {
                return Err(Failure::invalid("primitives", COMBINED_MESSAGE));
            }
            Some(known) => {
                let content = content_of(face);
                let replaced = storage_faces::replace_face(
                    &self.inner.db,
                    account_id,
                    known.id,
                    content,
                    rows,
                );
                face_from_row(replaced.await?)?
            }
            None => {
                self.room_for_one_more(account_id).await?;
                self.keep(face, rows).await?
            }
        };
        self.inner.directory.forget_face(account_id, &face.username);
        self.render(account_id, &face, &warnings).await
    }

    async fn keep(&self, face: Face, primitives: FacePrimitives) -> Result<Face, Failure> {
        let username = face.username.clone();
        let new = NewFace { id: face.id, account_id: face.account_id, content: content_of(face) };
        match storage_faces::insert_face(&self.inner.db, new, primitives).await {
            Ok(row) => face_from_row(row),
            Err(StorageError::Conflict { .. }) => Err(taken(&username)),
            Err(error) => Err(error.into()),
        }
    }

    fn import_limits(&self) -> ImportLimits {
        let limits = &self.inner.limits;
        ImportLimits {
            primitives_max: limits.primitives_max,
            primitive_chars_max: limits.primitive_chars_max,
        }
    }

    /// The caller's face of that username.
    ///
    /// # Errors
    /// 404 when it is not the caller's, 403 when the key does not allow it.
    pub(super) async fn stored_face(
        &self,
        caller: &Caller,
        username: &str,
    ) -> Result<Face, Failure> {
        let Ok(name) = FaceName::parse(username) else { return Err(not_found(username)) };
        super::resolve::permit_face(caller, &name)?;
        let row = storage_faces::find_face(&self.inner.db, caller.account_id, &name).await?;
        face_from_row(row.ok_or_else(|| not_found(username))?)
    }

    async fn room_for_one_more(&self, account_id: AccountId) -> Result<(), Failure> {
        let most = u64::from(self.inner.limits.faces_per_account_max);
        let count = storage_faces::count_faces(&self.inner.db, account_id).await?;
        if let Some(limit) = self.plan_of(account_id).await?.face_limit.map(u64::from)
            && count >= limit
        {
            // Clients sort 403s by the words `budget`, `face` and `model`: none may stand here.
            let message = format!(
                "Plan limit reached ({count}/{limit}). Delete one first, or ask this server's \
                 operator for another plan."
            );
            return Err(Failure::new(ErrorCode::Forbidden, message));
        }
        if count >= most {
            return Err(Failure::new(
                ErrorCode::InvalidRequest,
                format!("This account has {most} faces, which is the most. Delete one first."),
            ));
        }
        Ok(())
    }

    fn check_default_model(&self, face: &Face) -> Result<(), Failure> {
        match &face.default_model {
            Some(model) if self.inner.catalog.find(model).is_none() => Err(Failure {
                code: ErrorCode::UnsupportedModel,
                ..Failure::invalid(
                    "default_model",
                    "default_model is not a model of this server. GET /v1/models lists them.",
                )
            }),
            _ => Ok(()),
        }
    }

    async fn render(
        &self,
        account_id: AccountId,
        face: &Face,
        warnings: &[String],
    ) -> Result<Value, Failure> {
        let (face, profile_tokens) = self.with_profile(face.clone()).await?;
        Ok(face.to_json(FaceRendering {
            owned_by: &account_id.to_string(),
            profile_tokens,
            warnings,
        }))
    }

    /// A face as it is shown, with the size of its profile: what a formula makes is counted now.
    pub(super) async fn with_profile(&self, face: Face) -> Result<(Face, Option<u64>), Failure> {
        let directory = &self.inner.directory;
        let loaded = match (&face.formula, face.component_counts) {
            (None, None) => None,
            (None, Some(_)) => directory.face(face.account_id, &face.username).await?,
            // A formula whose operand is gone makes nothing; its face can still be read.
            (Some(_), _) => match directory.face(face.account_id, &face.username).await {
                Ok(loaded) => loaded,
                Err(failure) if failure.code == ErrorCode::InvalidRequest => None,
                Err(failure) => return Err(failure),
            },
        };
        let Some(loaded) = loaded else { return Ok((face, None)) };
        let component_counts = match face.formula {
            None => face.component_counts,
            Some(_) => loaded.persona.face().component_counts,
        };
        Ok((Face { component_counts, ..face }, Some(loaded.persona.profile_tokens())))
    }
}

fn not_found(username: &str) -> Failure {
    super::resolve::face_not_found(username)
}

fn taken(username: &FaceName) -> Failure {
    Failure {
        loc: vec!["body".to_owned(), "username".to_owned()],
        ..Failure::new(
            ErrorCode::Conflict,
            format!(
                "You already have a face `{username}`. Choose another username or change that face."
            ),
        )
    }
}

impl From<FaceError> for Failure {
    fn from(error: FaceError) -> Self {
        let mut failure = Self::new(error.code(), error.to_string());
        failure.loc = vec!["body".to_owned()];
        match &error {
            FaceError::Json { .. } => failure.validation = "json_invalid",
            FaceError::Field { path, fault, .. } => {
                failure.loc.extend(path.loc());
                failure.validation = match fault {
                    FieldFault::Missing => "missing",
                    FieldFault::Type => "type_error",
                    FieldFault::Value => "value_error",
                };
            }
        }
        failure
    }
}

/// A stored row as a face.
///
/// # Errors
/// 500 when the row can't be read: it was written by this program, so that is a bug.
pub(super) fn face_from_row(row: FaceRow) -> Result<Face, Failure> {
    let broken = |what: &str| {
        log::error!(target: "faces::flows", "the stored face {} has an unreadable {what}", row.id);
        Failure::new(ErrorCode::Internal, super::failure::INTERNAL_MESSAGE)
    };
    let facts = Facts::from_stored(&row.facts).map_err(|_| broken("facts"))?;
    let counts =
        row.component_counts.as_deref().map(serde_json::from_str::<ComponentCounts>).transpose();
    Ok(Face {
        id: row.id,
        account_id: row.account_id,
        component_counts: counts.map_err(|_| broken("component_counts"))?,
        username: row.username,
        name: row.name,
        facts,
        default_model: row.default_model,
        default_tools: row.default_tools,
        formula: row.formula,
        description: row.description,
        profile_addendum: row.profile_addendum,
        version: row.version,
        created_at: row.created_at.0,
        updated_at: row.updated_at.0,
    })
}

fn content_of(face: Face) -> FaceContent {
    FaceContent {
        username: face.username,
        name: face.name,
        facts: face.facts.to_stored(),
        default_model: face.default_model,
        default_tools: face.default_tools,
        formula: face.formula,
        description: face.description,
        profile_addendum: face.profile_addendum,
    }
}

/// A stored row as a primitive; one with an unknown component (of a newer version) is left out.
pub(super) fn primitive_from_row(row: PrimitiveRow) -> Option<Primitive> {
    let component = Component::parse(&row.component)?;
    Some(Primitive { component, text: row.text, weight: row.weight })
}

pub(super) fn stored_primitives(primitives: &[Primitive]) -> FacePrimitives {
    let rows = primitives
        .iter()
        .map(|primitive| PrimitiveRow {
            component: primitive.component.as_str().to_owned(),
            text: primitive.text.clone(),
            weight: primitive.weight,
        })
        .collect();
    FacePrimitives {
        rows,
        component_counts: Some(json!(ComponentCounts::of(primitives)).to_string()),
    }
}
