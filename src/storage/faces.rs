//! Faces and their primitives. Every function names the account: a foreign face is a missing one.

mod lists;

use entity::{account, face, face_primitive};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, DatabaseTransaction, EntityTrait, ExprTrait, JoinType,
    PaginatorTrait, QueryFilter, QueryOrder, QuerySelect, RelationTrait, sea_query::Expr,
};

pub use lists::{
    OperandVersion, count_faces, find_faces, first_owner_of, list_faces, list_named_faces,
    operand_versions,
};

use super::{
    Db, StorageError,
    keys::{json_list, read_json_list},
};
use crate::domain::{
    AccountId, FaceId, FaceName,
    clock::{self, UnixMicros},
};

const FACE: &str = "face";
/// Rows of one `INSERT`: 5 values each, below SQLite's 32,766 and PostgreSQL's 65,535 of a
/// statement.
const PRIMITIVES_PER_INSERT: usize = 1_000;

/// A face as it is kept: JSON stays text here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaceRow {
    /// Its id.
    pub id: FaceId,
    /// Whose.
    pub account_id: AccountId,
    /// Unique within the account.
    pub username: FaceName,
    /// For people.
    pub name: String,
    /// JSON object of normalised facts.
    pub facts: String,
    /// Model that answers when a request names none.
    pub default_model: Option<String>,
    /// Names of tools.
    pub default_tools: Vec<String>,
    /// Boolean formula of a composed face.
    pub formula: Option<String>,
    /// For people.
    pub description: Option<String>,
    /// Text that follows the profile in prompts.
    pub profile_addendum: Option<String>,
    /// 1 at first; grows by one with each change of the face or its primitives.
    pub version: i64,
    /// JSON object of primitives by component.
    pub component_counts: Option<String>,
    /// When it was made.
    pub created_at: UnixMicros,
    /// When it was changed last.
    pub updated_at: UnixMicros,
}

/// What the caller decides about a new face; the rest is filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewFace {
    /// Its id.
    pub id: FaceId,
    /// Whose.
    pub account_id: AccountId,
    /// Everything that can be changed later.
    pub content: FaceContent,
}

/// The part of a face that its owner changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaceContent {
    /// Unique within the account.
    pub username: FaceName,
    /// For people.
    pub name: String,
    /// JSON object of normalised facts.
    pub facts: String,
    /// Model that answers when a request names none.
    pub default_model: Option<String>,
    /// Names of tools.
    pub default_tools: Vec<String>,
    /// Boolean formula of a composed face.
    pub formula: Option<String>,
    /// For people.
    pub description: Option<String>,
    /// Text that follows the profile in prompts.
    pub profile_addendum: Option<String>,
}

/// A face's primitives, all of them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FacePrimitives {
    /// In the order of the import.
    pub rows: Vec<PrimitiveRow>,
    /// JSON object of their number by component.
    pub component_counts: Option<String>,
}

/// One primitive.
#[derive(Debug, Clone, PartialEq)]
pub struct PrimitiveRow {
    /// `alpha`, `beta`, `delta` or `epsilon`.
    pub component: String,
    /// The statement.
    pub text: String,
    /// Weight in the ranking; finite.
    pub weight: f64,
}

/// What a cached face is compared with. A face that was deleted and made again has another id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaceVersion {
    /// Its id.
    pub id: FaceId,
    /// Its version.
    pub version: i64,
    /// The model that its account prefers, which has no part in the version.
    pub account_model: Option<String>,
}

/// Makes a face with its primitives (none is fine), in one transaction.
///
/// # Errors
/// [`StorageError::Conflict`] when the account has a face of that username,
/// [`StorageError::Missing`] without such an account.
pub async fn insert_face(
    db: &Db,
    new: NewFace,
    primitives: FacePrimitives,
) -> Result<FaceRow, StorageError> {
    let now = clock::now();
    db.in_transaction(FACE, move |tx| {
        let (new, primitives) = (new.clone(), primitives.clone());
        Box::pin(async move {
            let model = face::ActiveModel {
                id: Set(new.id.0),
                account_id: Set(new.account_id.0),
                username: Set(new.content.username.as_str().to_owned()),
                name: Set(new.content.name),
                facts: Set(new.content.facts),
                default_model: Set(new.content.default_model),
                default_tools: Set(json_list(new.content.default_tools)),
                formula: Set(new.content.formula),
                description: Set(new.content.description),
                profile_addendum: Set(new.content.profile_addendum),
                version: Set(1),
                component_counts: Set(primitives.component_counts),
                created_at: Set(now.0),
                updated_at: Set(now.0),
            };
            let inserted =
                model.insert(tx).await.map_err(|error| match StorageError::on(FACE)(error) {
                    StorageError::Missing { .. } => StorageError::Missing { what: "account" },
                    other => other,
                })?;
            insert_primitives(tx, new.id, primitives.rows).await?;
            row_of(inserted)
        })
    })
    .await
}

/// The account's face of that username.
///
/// # Errors
/// [`StorageError::Unavailable`].
pub async fn find_face(
    db: &Db,
    account_id: AccountId,
    username: &FaceName,
) -> Result<Option<FaceRow>, StorageError> {
    let username = username.as_str().to_owned();
    db.read(FACE, move |db| async move {
        let found = face::Entity::find()
            .filter(face::COLUMN.account_id.eq(account_id.0))
            .filter(face::COLUMN.username.eq(username))
            .one(db.reader())
            .await
            .map_err(StorageError::on(FACE))?;
        found.map(row_of).transpose()
    })
    .await
}

/// Id and version of the account's face of that username: the cheap question of a cache.
///
/// # Errors
/// [`StorageError::Unavailable`].
pub async fn face_version(
    db: &Db,
    account_id: AccountId,
    username: &FaceName,
) -> Result<Option<FaceVersion>, StorageError> {
    let username = username.as_str().to_owned();
    db.read(FACE, move |db| async move {
        let found: Option<(uuid::Uuid, i64, Option<String>)> = face::Entity::find()
            .select_only()
            .column(face::Column::Id)
            .column(face::Column::Version)
            .column(account::Column::DefaultModel)
            .join(JoinType::InnerJoin, face::Relation::Account.def())
            .filter(face::COLUMN.account_id.eq(account_id.0))
            .filter(face::COLUMN.username.eq(username))
            .into_tuple()
            .one(db.reader())
            .await
            .map_err(StorageError::on(FACE))?;
        Ok(found.map(|(id, version, account_model)| FaceVersion {
            id: FaceId(id),
            version,
            account_model,
        }))
    })
    .await
}

/// Writes a face's content if it still has `version_expected`; answers the new row.
///
/// # Errors
/// [`StorageError::Stale`] when it was changed in between, [`StorageError::Missing`] when the
/// account has no such face, [`StorageError::Conflict`] when the new username is taken.
pub async fn update_face(
    db: &Db,
    account_id: AccountId,
    id: FaceId,
    version_expected: i64,
    content: FaceContent,
) -> Result<FaceRow, StorageError> {
    let now = clock::now();
    db.in_transaction(FACE, move |tx| {
        let content = content.clone();
        Box::pin(async move {
            let updated = touch(account_id, id, now)
                .set(change_of(content))
                .filter(face::COLUMN.version.eq(version_expected))
                .exec_with_returning(tx)
                .await
                .map_err(StorageError::on("face of that username"))?;
            if let Some(updated) = updated.into_iter().next() {
                return row_of(updated);
            }
            let exists = face::Entity::find_by_id(id.0)
                .filter(face::COLUMN.account_id.eq(account_id.0))
                .count(tx)
                .await
                .map_err(StorageError::on(FACE))?;
            Err(match exists {
                0 => StorageError::Missing { what: FACE },
                _ => StorageError::Stale { what: FACE },
            })
        })
    })
    .await
}

/// Deletes the account's face of that username with its primitives. Answers whether there was one.
///
/// # Errors
/// [`StorageError::Unavailable`].
pub async fn delete_face(
    db: &Db,
    account_id: AccountId,
    username: &FaceName,
) -> Result<bool, StorageError> {
    let username = username.as_str().to_owned();
    db.run(FACE, move |db| async move {
        let deleted = face::Entity::delete_many()
            .filter(face::COLUMN.account_id.eq(account_id.0))
            .filter(face::COLUMN.username.eq(username))
            .exec(db.writer(FACE)?)
            .await
            .map_err(StorageError::on(FACE))?;
        Ok(deleted.rows_affected > 0)
    })
    .await
}

/// Replaces all primitives of a face, in one transaction; answers the face's new row.
///
/// # Errors
/// [`StorageError::Missing`] when the account has no such face.
pub async fn replace_primitives(
    db: &Db,
    account_id: AccountId,
    id: FaceId,
    primitives: FacePrimitives,
) -> Result<FaceRow, StorageError> {
    replace(db, account_id, id, None, primitives).await
}

/// Replaces a face's content and primitives, in one transaction; answers its new row. Its id and
/// time of making stay.
///
/// # Errors
/// As [`replace_primitives`]; [`StorageError::Conflict`] when the new username is taken.
pub async fn replace_face(
    db: &Db,
    account_id: AccountId,
    id: FaceId,
    content: FaceContent,
    primitives: FacePrimitives,
) -> Result<FaceRow, StorageError> {
    replace(db, account_id, id, Some(content), primitives).await
}

async fn replace(
    db: &Db,
    account_id: AccountId,
    id: FaceId,
    content: Option<FaceContent>,
    primitives: FacePrimitives,
) -> Result<FaceRow, StorageError> {
    let now = clock::now();
    db.in_transaction("face primitives", move |tx| {
        let (content, primitives) = (content.clone(), primitives.clone());
        Box::pin(async move {
            let counts = Expr::value(primitives.component_counts);
            // First, so that the row's lock orders concurrent replacements.
            let updated = touch(account_id, id, now)
                .set(content.map(change_of).unwrap_or_default())
                .col_expr(face::Column::ComponentCounts, counts)
                .exec_with_returning(tx)
                .await
                .map_err(StorageError::on(FACE))?;
            let updated = updated.into_iter().next().ok_or(StorageError::Missing { what: FACE })?;
            face_primitive::Entity::delete_many()
                .filter(face_primitive::COLUMN.face_id.eq(id.0))
                .exec(tx)
                .await
                .map_err(StorageError::on(FACE))?;
            insert_primitives(tx, id, primitives.rows).await?;
            row_of(updated)
        })
    })
    .await
}

/// A face's primitives in the order of the import; none when there is no such face.
///
/// Read the face's row before: if both change in between, the version that was read is the older
/// one, and a cache that compares versions reads again.
///
/// # Errors
/// [`StorageError::Unavailable`].
pub async fn load_primitives(db: &Db, id: FaceId) -> Result<Vec<PrimitiveRow>, StorageError> {
    db.read("face primitives", move |db| async move {
        let rows = face_primitive::Entity::find()
            .filter(face_primitive::COLUMN.face_id.eq(id.0))
            .order_by_asc(face_primitive::COLUMN.position)
            .all(db.reader())
            .await
            .map_err(StorageError::on("face primitives"))?;
        let primitive = |row: face_primitive::Model| PrimitiveRow {
            component: row.component,
            text: row.text,
            weight: row.weight,
        };
        Ok(rows.into_iter().map(primitive).collect())
    })
    .await
}

fn change_of(content: FaceContent) -> face::ActiveModel {
    face::ActiveModel {
        username: Set(content.username.as_str().to_owned()),
        name: Set(content.name),
        facts: Set(content.facts),
        default_model: Set(content.default_model),
        default_tools: Set(json_list(content.default_tools)),
        formula: Set(content.formula),
        description: Set(content.description),
        profile_addendum: Set(content.profile_addendum),
        ..Default::default()
    }
}

/// `UPDATE` of one face of this account that gives it its next version.
fn touch(account_id: AccountId, id: FaceId, now: UnixMicros) -> sea_orm::UpdateMany<face::Entity> {
    face::Entity::update_many()
        .col_expr(face::Column::Version, Expr::col(face::Column::Version).add(1_i64))
        .col_expr(face::Column::UpdatedAt, Expr::value(now.0))
        .filter(face::COLUMN.id.eq(id.0))
        .filter(face::COLUMN.account_id.eq(account_id.0))
}

async fn insert_primitives(
    tx: &DatabaseTransaction,
    face_id: FaceId,
    rows: Vec<PrimitiveRow>,
) -> Result<(), StorageError> {
    let mut models =
        rows.into_iter().zip(0_i64..).map(|(row, position)| face_primitive::ActiveModel {
            face_id: Set(face_id.0),
            position: Set(position),
            component: Set(row.component),
            text: Set(row.text),
            weight: Set(row.weight),
        });
    loop {
        let chunk: Vec<_> = models.by_ref().take(PRIMITIVES_PER_INSERT).collect();
        if chunk.is_empty() {
            return Ok(());
        }
        face_primitive::Entity::insert_many(chunk)
            .exec_without_returning(tx)
            .await
            .map_err(StorageError::on("face primitives"))?;
    }
}

fn row_of(model: face::Model) -> Result<FaceRow, StorageError> {
    let username = parse_username(&model.username)?;
    Ok(FaceRow {
        id: FaceId(model.id),
        account_id: AccountId(model.account_id),
        username,
        name: model.name,
        facts: model.facts,
        default_model: model.default_model,
        default_tools: read_json_list(&model.default_tools)?,
        formula: model.formula,
        description: model.description,
        profile_addendum: model.profile_addendum,
        version: model.version,
        component_counts: model.component_counts,
        created_at: UnixMicros(model.created_at),
        updated_at: UnixMicros(model.updated_at),
    })
}

fn parse_username(username: &str) -> Result<FaceName, StorageError> {
    FaceName::parse(username)
        .map_err(|_| StorageError::Bug { what: "a username in the database", source: None })
}
