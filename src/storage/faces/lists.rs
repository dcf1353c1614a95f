//! Reading several faces at once.

use entity::face;
use sea_orm::{Condition, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect};

use super::{FACE, FaceRow, parse_username, row_of};
use crate::{
    domain::{AccountId, FaceId, FaceName},
    storage::{Db, StorageError},
};

/// Which state of an operand a combined face was made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperandVersion {
    /// Its username.
    pub username: FaceName,
    /// Its id.
    pub id: FaceId,
    /// Its version.
    pub version: i64,
}

/// The versions of those of the account's faces of these usernames that there are, oldest first:
/// the cheap question of a cache.
///
/// # Errors
/// [`StorageError::Unavailable`].
pub async fn operand_versions(
    db: &Db,
    account_id: AccountId,
    usernames: &[FaceName],
) -> Result<Vec<OperandVersion>, StorageError> {
    let names: Vec<String> = usernames.iter().map(|name| name.as_str().to_owned()).collect();
    db.read(FACE, move |db| async move {
        let found: Vec<(uuid::Uuid, String, i64)> = face::Entity::find()
            .select_only()
            .column(face::Column::Id)
            .column(face::Column::Username)
            .column(face::Column::Version)
            .filter(face::COLUMN.account_id.eq(account_id.0))
            .filter(face::COLUMN.username.is_in(names))
            .order_by_asc(face::COLUMN.id)
            .into_tuple()
            .all(db.reader())
            .await
            .map_err(StorageError::on(FACE))?;
        let versions = found.into_iter().map(|(id, username, version)| {
            Ok(OperandVersion { username: parse_username(&username)?, id: FaceId(id), version })
        });
        versions.collect()
    })
    .await
}

/// Those of the account's faces of these usernames that there are, oldest first.
///
/// # Errors
/// [`StorageError::Unavailable`].
pub async fn find_faces(
    db: &Db,
    account_id: AccountId,
    usernames: &[FaceName],
) -> Result<Vec<FaceRow>, StorageError> {
    let names: Vec<String> = usernames.iter().map(|name| name.as_str().to_owned()).collect();
    let most = u32::try_from(names.len()).unwrap_or(u32::MAX);
    list_named_faces(db, account_id, names, None, most).await
}

/// An account's faces in the order of their making, after `after`, at most `limit`.
///
/// # Errors
/// [`StorageError::Unavailable`].
pub async fn list_faces(
    db: &Db,
    account_id: AccountId,
    after: Option<FaceId>,
    limit: u32,
) -> Result<Vec<FaceRow>, StorageError> {
    db.read(
        FACE,
        move |db| async move { page(&db, account_id, Condition::all(), after, limit).await },
    )
    .await
}

/// As [`list_faces`], of the given usernames only.
///
/// # Errors
/// [`StorageError::Unavailable`].
pub async fn list_named_faces(
    db: &Db,
    account_id: AccountId,
    usernames: Vec<String>,
    after: Option<FaceId>,
    limit: u32,
) -> Result<Vec<FaceRow>, StorageError> {
    db.read(FACE, move |db| async move {
        let named = Condition::all().add(face::COLUMN.username.is_in(usernames));
        page(&db, account_id, named, after, limit).await
    })
    .await
}

async fn page(
    db: &Db,
    account_id: AccountId,
    wanted: Condition,
    after: Option<FaceId>,
    limit: u32,
) -> Result<Vec<FaceRow>, StorageError> {
    let mut query =
        face::Entity::find().filter(face::COLUMN.account_id.eq(account_id.0)).filter(wanted);
    if let Some(after) = after {
        query = query.filter(face::COLUMN.id.gt(after.0));
    }
    let faces = query
        .order_by_asc(face::COLUMN.id)
        .limit(u64::from(limit))
        .all(db.reader())
        .await
        .map_err(StorageError::on(FACE))?;
    faces.into_iter().map(row_of).collect()
}

/// The account whose face of that username is the oldest: for an administrator who names a face
/// and no account.
///
/// # Errors
/// [`StorageError::Unavailable`].
pub async fn first_owner_of(
    db: &Db,
    username: &FaceName,
) -> Result<Option<AccountId>, StorageError> {
    let username = username.as_str().to_owned();
    db.read(FACE, move |db| async move {
        let found = face::Entity::find()
            .filter(face::COLUMN.username.eq(username))
            .order_by_asc(face::COLUMN.id)
            .one(db.reader())
            .await
            .map_err(StorageError::on(FACE))?;
        Ok(found.map(|face| AccountId(face.account_id)))
    })
    .await
}

/// How many faces the account has.
///
/// # Errors
/// [`StorageError::Unavailable`].
pub async fn count_faces(db: &Db, account_id: AccountId) -> Result<u64, StorageError> {
    db.read(FACE, move |db| async move {
        face::Entity::find()
            .filter(face::COLUMN.account_id.eq(account_id.0))
            .count(db.reader())
            .await
            .map_err(StorageError::on(FACE))
    })
    .await
}
