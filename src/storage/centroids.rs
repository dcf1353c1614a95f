//! Centroids of faces, as bytes: what they mean is the business of `faces::centroid`.

use sea_orm::{ConnectionTrait, Value};

use super::{Db, StorageError};
use crate::domain::{AccountId, FaceId, FaceName};

const CENTROID: &str = "face centroid";
/// Faces of one transaction: on SQLite nobody else writes meanwhile.
const FACES_PER_TRANSACTION: usize = 100;

/// A face that may have a centroid (it is made of statements and not by a formula), with one of its
/// stored centroids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CentroidRow {
    /// The face.
    pub face_id: FaceId,
    /// Its username.
    pub username: FaceName,
    /// Its version now.
    pub version: i64,
    /// `None` while none was stored for it.
    pub stored: Option<StoredCentroid>,
}

/// A stored centroid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredCentroid {
    /// Which.
    pub component: String,
    /// Who made it.
    pub embedder: String,
    /// The version of the face that it was made for.
    pub face_version: i64,
    /// Digest of the statements that it was made of.
    pub source: Vec<u8>,
    /// `None` when the face has no statement of that component.
    pub vector: Option<Vec<u8>>,
}

/// All centroids of a face, to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaceCentroids {
    /// The face.
    pub face_id: FaceId,
    /// Its version when its statements were read, or an older one.
    pub face_version: i64,
    /// Who made them.
    pub embedder: String,
    /// Digest of the statements.
    pub source: Vec<u8>,
    /// One of each component.
    pub vectors: Vec<ComponentVector>,
}

/// A centroid of one component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComponentVector {
    /// Which.
    pub component: &'static str,
    /// Number of values; 0 without a vector.
    pub dimensions: u32,
    /// The values.
    pub vector: Option<Vec<u8>>,
}

/// The account's faces that may have centroids, in the order of their making, each with its stored
/// centroids of these components: a row for each of them, or one without; with `usernames` of those
/// faces only.
///
/// # Errors
/// [`StorageError::Unavailable`].
pub async fn list_centroids(
    db: &Db,
    account_id: AccountId,
    components: &[&'static str],
    usernames: Option<Vec<String>>,
) -> Result<Vec<CentroidRow>, StorageError> {
    let mut values: Vec<Value> = vec![account_id.0.into()];
    let mut placed = |value: Value| {
        values.push(value);
        format!("${}", values.len())
    };
    let components: Vec<String> =
        components.iter().map(|component| placed((*component).into())).collect();
    let named = usernames.map(|names| {
        let names: Vec<String> = names.into_iter().map(|name| placed(name.into())).collect();
        // An empty list is no SQL.
        if names.is_empty() {
            "AND FALSE".to_owned()
        } else {
            format!("AND face.username IN ({})", names.join(", "))
        }
    });
    let sql = format!(
        "SELECT face.id, face.username, face.version, stored.component, stored.embedder, \
         stored.face_version, stored.source, stored.vector \
         FROM face LEFT JOIN face_centroid AS stored \
         ON stored.face_id = face.id AND stored.component IN ({}) \
         WHERE face.account_id = $1 AND face.formula IS NULL {} \
         ORDER BY face.id, stored.component",
        components.join(", "),
        named.unwrap_or_default()
    );
    db.read(CENTROID, move |db| async move {
        let rows = db.reader().query_all_raw(db.statement(&sql, values)).await;
        rows.map_err(StorageError::on(CENTROID))?.iter().map(row_of).collect()
    })
    .await
}

/// Stores centroids, replacing what the faces had; those of a face that is gone meanwhile are left
/// out.
///
/// # Errors
/// [`StorageError::Missing`] when a face was deleted at that very moment: nothing of its hundred is
/// stored then.
pub async fn store_centroids(db: &Db, faces: Vec<FaceCentroids>) -> Result<(), StorageError> {
    for faces in faces.chunks(FACES_PER_TRANSACTION) {
        let (faces, dialect) = (faces.to_vec(), db.clone());
        db.in_transaction(CENTROID, move |tx| {
            let (faces, dialect) = (faces.clone(), dialect.clone());
            Box::pin(async move {
                for face in faces {
                    for part in face.vectors {
                        let dimensions = i32::try_from(part.dimensions).unwrap_or(i32::MAX);
                        let values: [Value; 7] = [
                            face.face_id.0.into(),
                            part.component.into(),
                            face.embedder.clone().into(),
                            dimensions.into(),
                            part.vector.into(),
                            face.face_version.into(),
                            face.source.clone().into(),
                        ];
                        tx.execute_raw(dialect.statement(UPSERT, values))
                            .await
                            .map_err(StorageError::on(CENTROID))?;
                    }
                }
                Ok(())
            })
        })
        .await?;
    }
    Ok(())
}

const UPSERT: &str = "INSERT INTO face_centroid \
     (face_id, component, embedder, dimensions, vector, face_version, source) \
     SELECT $1, $2, $3, $4, $5, $6, $7 FROM face WHERE face.id = $1 \
     ON CONFLICT (face_id, component) DO UPDATE SET embedder = excluded.embedder, \
     dimensions = excluded.dimensions, vector = excluded.vector, \
     face_version = excluded.face_version, source = excluded.source";

/// Says of stored centroids that they hold for these versions of their faces too: what changed was
/// no statement.
///
/// # Errors
/// [`StorageError::Unavailable`].
pub async fn confirm_centroids(db: &Db, faces: Vec<(FaceId, i64)>) -> Result<(), StorageError> {
    let dialect = db.clone();
    db.in_transaction(CENTROID, move |tx| {
        let (faces, dialect) = (faces.clone(), dialect.clone());
        Box::pin(async move {
            for (face_id, version) in faces {
                let sql = "UPDATE face_centroid SET face_version = $2 \
                           WHERE face_id = $1 AND face_version < $2";
                let values: [Value; 2] = [face_id.0.into(), version.into()];
                tx.execute_raw(dialect.statement(sql, values))
                    .await
                    .map_err(StorageError::on(CENTROID))?;
            }
            Ok(())
        })
    })
    .await
}

fn row_of(row: &sea_orm::QueryResult) -> Result<CentroidRow, StorageError> {
    let failed = StorageError::on(CENTROID);
    let username: String = row.try_get("", "username").map_err(&failed)?;
    let component: Option<String> = row.try_get("", "component").map_err(&failed)?;
    let stored = match component {
        None => None,
        Some(component) => Some(StoredCentroid {
            component,
            embedder: row.try_get("", "embedder").map_err(&failed)?,
            face_version: row.try_get("", "face_version").map_err(&failed)?,
            source: row.try_get("", "source").map_err(&failed)?,
            vector: row.try_get("", "vector").map_err(&failed)?,
        }),
    };
    Ok(CentroidRow {
        face_id: FaceId(row.try_get("", "id").map_err(&failed)?),
        username: FaceName::parse(&username)
            .map_err(|_| StorageError::Bug { what: CENTROID, source: None })?,
        version: row.try_get("", "version").map_err(&failed)?,
        stored,
    })
}
