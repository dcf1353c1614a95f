//! What a text was cut into, and what came out of each piece.

use sea_orm::{DbErr, QueryResult, Value};

use super::{
    super::{Db, StorageError},
    Job, WHAT, all, execute, jobs,
};
use crate::domain::{NanoUsd, SourceId, clock};

const GENERATION: &str = "the extraction of a source";

/// A chunk that is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkRow {
    /// Its place in the text, from 0.
    pub n: i64,
    /// Its text.
    pub content: String,
    /// How many idempotency keys of it were used up without an answer.
    pub rekeyed: i64,
}

/// Keeps the chunks of a source, once per generation: a repeat changes nothing.
///
/// # Errors
/// [`StorageError::Stale`] when the lease is lost or the text became another one.
pub async fn plan_chunks(
    db: &Db,
    job: &Job,
    generation: i64,
    chunks: Vec<String>,
) -> Result<(), StorageError> {
    let job = job.clone();
    db.in_transaction(WHAT, move |tx| {
        let (job, chunks) = (job.clone(), chunks.clone());
        Box::pin(async move {
            let (source, _) = jobs::lock_leased(tx, &job).await?;
            if source.generation != generation {
                return Err(StorageError::Stale { what: GENERATION });
            }
            if source.chunks_total > 0 {
                return Ok(());
            }
            let mut total = 0_i64;
            for content in chunks {
                let sql = "INSERT INTO compile_chunk (source_id, generation, n, content, rekeyed)
                    VALUES ($1, $2, $3, $4, 0)";
                let values: [Value; 4] =
                    [source.id.0.into(), generation.into(), total.into(), content.into()];
                execute(tx, sql, values).await?;
                total += 1;
            }
            let sql = "UPDATE compile_source SET chunks_total = $2 WHERE id = $1";
            execute(tx, sql, [source.id.0.into(), total.into()]).await.map(drop)
        })
    })
    .await
}

/// The chunks of a source that are to be done, in their order.
///
/// # Errors
/// [`StorageError::Unavailable`].
pub async fn open_chunks(
    db: &Db,
    id: SourceId,
    generation: i64,
) -> Result<Vec<ChunkRow>, StorageError> {
    db.read(WHAT, move |db| async move {
        let sql = "SELECT n, content, rekeyed FROM compile_chunk
            WHERE source_id = $1 AND generation = $2 AND extraction IS NULL ORDER BY n";
        let rows = all(db.reader(), sql, [id.0.into(), generation.into()]).await?;
        rows.iter().map(chunk_of).collect::<Result<_, _>>().map_err(StorageError::on(WHAT))
    })
    .await
}

/// Keeps what came out of a chunk and what that cost. A repeat changes nothing.
///
/// # Errors
/// [`StorageError::Stale`] when the lease is lost or the text became another one.
pub async fn finish_chunk(
    db: &Db,
    job: &Job,
    generation: i64,
    n: i64,
    extraction: String,
    cost: NanoUsd,
) -> Result<(), StorageError> {
    let now = clock::now();
    let job = job.clone();
    db.in_transaction(WHAT, move |tx| {
        let (job, extraction) = (job.clone(), extraction.clone());
        Box::pin(async move {
            let (source, _) = jobs::lock_leased(tx, &job).await?;
            if source.generation != generation {
                return Err(StorageError::Stale { what: GENERATION });
            }
            let sql = "UPDATE compile_chunk SET extraction = $4, cost = $5, completed_at = $6
                WHERE source_id = $1 AND generation = $2 AND n = $3 AND extraction IS NULL";
            let values: [Value; 6] = [
                source.id.0.into(),
                generation.into(),
                n.into(),
                extraction.into(),
                cost.0.into(),
                now.0.into(),
            ];
            let done = execute(tx, sql, values).await?.rows_affected();
            let sql = "UPDATE compile_source
                SET chunks_completed = chunks_completed + $2, updated_at = $3 WHERE id = $1";
            let done = i64::try_from(done).unwrap_or_default();
            execute(tx, sql, [source.id.0.into(), done.into(), now.0.into()]).await?;
            // A step forward: the tries begin anew.
            let sql = "UPDATE compile_job SET attempts = 1 WHERE source_id = $1";
            execute(tx, sql, [source.id.0.into()]).await.map(drop)
        })
    })
    .await
}

/// Gives a chunk another idempotency key: the answer to the last one is lost.
///
/// # Errors
/// [`StorageError::Stale`] when the lease is lost.
pub async fn rekey_chunk(db: &Db, job: &Job, generation: i64, n: i64) -> Result<(), StorageError> {
    let job = job.clone();
    db.in_transaction(WHAT, move |tx| {
        let job = job.clone();
        Box::pin(async move {
            let (source, _) = jobs::lock_leased(tx, &job).await?;
            let sql = "UPDATE compile_chunk SET rekeyed = rekeyed + 1
                WHERE source_id = $1 AND generation = $2 AND n = $3 AND extraction IS NULL";
            let values = [source.id.0.into(), generation.into(), n.into()];
            execute(tx, sql, values).await.map(drop)
        })
    })
    .await
}

/// What came out of the chunks that are done, in their order.
///
/// # Errors
/// [`StorageError::Unavailable`].
pub async fn extractions(
    db: &Db,
    id: SourceId,
    generation: i64,
) -> Result<Vec<String>, StorageError> {
    db.read(WHAT, move |db| async move {
        let sql = "SELECT extraction FROM compile_chunk
            WHERE source_id = $1 AND generation = $2 AND extraction IS NOT NULL ORDER BY n";
        let rows = all(db.reader(), sql, [id.0.into(), generation.into()]).await?;
        let text = |row: &QueryResult| row.try_get::<String>("", "extraction");
        rows.iter().map(text).collect::<Result<_, _>>().map_err(StorageError::on(WHAT))
    })
    .await
}

fn chunk_of(row: &QueryResult) -> Result<ChunkRow, DbErr> {
    Ok(ChunkRow {
        n: row.try_get("", "n")?,
        content: row.try_get("", "content")?,
        rekeyed: row.try_get("", "rekeyed")?,
    })
}
