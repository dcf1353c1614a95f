//! How long threads are, without reading them.

use sea_orm::{DbErr, QueryResult, Value};
use uuid::Uuid;

use super::{
    super::{Db, StorageError},
    WHAT, all,
};
use crate::domain::SourceId;

/// How many messages a thread has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThreadLength {
    /// The thread.
    pub id: SourceId,
    /// All its messages.
    pub messages: i64,
    /// Those that were written to the face.
    pub archived: i64,
}

/// The lengths of threads; one without messages is left out.
///
/// # Errors
/// [`StorageError::Unavailable`].
pub async fn thread_lengths(
    db: &Db,
    ids: Vec<SourceId>,
) -> Result<Vec<ThreadLength>, StorageError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    db.read(WHAT, move |db| async move {
        let places: Vec<String> = (1..=ids.len()).map(|place| format!("${place}")).collect();
        let sql = format!(
            "SELECT source_id, COUNT(*) AS n, SUM(archived) AS archived FROM compile_message
             WHERE source_id IN ({}) GROUP BY source_id",
            places.join(", ")
        );
        let values = ids.iter().map(|id| Value::from(id.0));
        let rows = all(db.reader(), &sql, values).await?;
        rows.iter().map(length_of).collect::<Result<_, _>>().map_err(StorageError::on(WHAT))
    })
    .await
}

fn length_of(row: &QueryResult) -> Result<ThreadLength, DbErr> {
    Ok(ThreadLength {
        id: SourceId(row.try_get::<Uuid>("", "source_id")?),
        messages: row.try_get("", "n")?,
        archived: row.try_get("", "archived")?,
    })
}
