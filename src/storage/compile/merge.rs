//! Primitives and the sources that they came from: writing a source into its face, and taking it
//! out again.

use std::collections::BTreeMap;

use sea_orm::{DatabaseTransaction, DbErr, QueryResult, Value};
use uuid::Uuid;

use super::{
    super::{Db, StorageError, faces::PrimitiveRow},
    Job, Quota, SourceRow, WHAT, all, execute, flag, jobs, one, quota, sources, unreadable,
};
use crate::domain::{
    AccountId, FaceId, SourceId,
    clock::{self, UnixMicros},
    compile::{CompileEvent, SourceKind},
};

/// Rows of one `INSERT`: at most 6 values each, below SQLite's 32,766 and PostgreSQL's 65,535 of a
/// statement.
const ROWS_PER_INSERT: usize = 1_000;
const FACE: &str = "face";

/// A primitive with what gave it.
#[derive(Debug, Clone, PartialEq)]
pub struct SourcedPrimitive {
    /// Its place in the face; it stays as long as the primitive does.
    pub position: i64,
    /// What it says.
    pub row: PrimitiveRow,
    /// Whether it was handed in by hand, so that it stays without a source.
    pub imported: bool,
    /// The sources that gave it.
    pub sources: Vec<SourceId>,
}

/// What a sync writes.
#[derive(Debug, Clone, PartialEq)]
pub struct SyncPlan {
    /// The face.
    pub face_id: FaceId,
    /// The version that the plan was made from.
    pub face_version: i64,
    /// JSON object of the face's facts afterwards.
    pub face_facts: String,
    /// Primitives that only this source gave and gives no more.
    pub removed: Vec<i64>,
    /// Primitives of the face that this source gives, too.
    pub linked: Vec<i64>,
    /// Primitives that are new to the face.
    pub added: Vec<PrimitiveRow>,
    /// JSON object of the source's primitives by component.
    pub counts: String,
    /// JSON object of the facts that the source tells.
    pub source_facts: String,
    /// What is charged for it.
    pub quota: Quota,
}

/// What became of a sync.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SyncVerdict {
    /// It was written; the source afterwards, and the tokens that were charged now.
    Written(Box<SourceRow>, i64),
    /// The account's quota is used up; nothing was written.
    QuotaSpent {
        /// What the period has used.
        tokens_used: i64,
    },
}

/// Taking a source out of its face.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Withdrawal {
    /// The source.
    pub source_id: SourceId,
    /// Its face.
    pub face_id: FaceId,
    /// The version of the face that `face_facts` was made from.
    pub face_version: i64,
    /// JSON object of the face's facts without this source.
    pub face_facts: String,
    /// Whether the source itself is deleted; otherwise its text is kept.
    pub delete: bool,
}

/// A face's primitives with their sources, by position.
///
/// # Errors
/// [`StorageError::Unavailable`].
pub async fn load_sourced_primitives(
    db: &Db,
    face_id: FaceId,
) -> Result<Vec<SourcedPrimitive>, StorageError> {
    db.read(WHAT, move |db| async move {
        let sql = "SELECT p.position, p.component, p.text, p.weight, p.imported, s.source_id
            FROM face_primitive AS p LEFT JOIN face_primitive_source AS s
                ON s.face_id = p.face_id AND s.position = p.position
            WHERE p.face_id = $1 ORDER BY p.position, s.source_id";
        let rows = all(db.reader(), sql, [face_id.0.into()]).await?;
        let mut primitives: Vec<SourcedPrimitive> = Vec::new();
        for row in &rows {
            let (primitive, source) = sourced_of(row).map_err(StorageError::on(WHAT))?;
            match primitives.last_mut() {
                Some(last) if last.position == primitive.position => last.sources.extend(source),
                _ => primitives
                    .push(SourcedPrimitive { sources: source.into_iter().collect(), ..primitive }),
            }
        }
        Ok(primitives)
    })
    .await
}

/// Writes what came out of a claimed job's source into its face, charges it to the quota and ends
/// the job, in one transaction. A version of a text is charged once.
///
/// # Errors
/// [`StorageError::Stale`] when the lease is lost or the face was changed in between.
pub async fn write_sync(db: &Db, job: &Job, plan: SyncPlan) -> Result<SyncVerdict, StorageError> {
    let now = clock::now();
    let job = job.clone();
    db.in_transaction(WHAT, move |tx| {
        let (job, plan) = (job.clone(), plan.clone());
        Box::pin(async move {
            lock_face(tx, job.account_id, plan.face_id, plan.face_version).await?;
            let (source, _) = jobs::lock_leased(tx, &job).await?;
            let event = CompileEvent::Written;
            source.state.after(event).map_err(|_| StorageError::Stale { what: WHAT })?;
            let mut charged = (0, source.overflow_billed);
            if source.charged_version != Some(source.version) {
                let tokens = source.token_count;
                let charge = quota::charge(tx, job.account_id, source.id, plan.quota, tokens);
                match charge.await? {
                    quota::Charged::Done { overflow } => charged = (tokens, overflow),
                    quota::Charged::Refused { tokens_used } => {
                        return Ok(SyncVerdict::QuotaSpent { tokens_used });
                    }
                }
            }
            write_primitives(tx, &source, &plan).await?;
            write_face(tx, plan.face_id, plan.face_facts, now).await?;
            finish_source(tx, &source, (plan.counts, plan.source_facts), charged, now).await?;
            jobs::remove_job(tx, source.id).await?;
            let after = sources::existing(tx, source.account_id, source.id).await?;
            Ok(SyncVerdict::Written(Box::new(after), charged.0))
        })
    })
    .await
}

async fn write_primitives(
    tx: &DatabaseTransaction,
    source: &SourceRow,
    plan: &SyncPlan,
) -> Result<(), StorageError> {
    let face: Value = plan.face_id.0.into();
    let sql = "SELECT COALESCE(MAX(position), -1) + 1 AS next FROM face_primitive
        WHERE face_id = $1";
    // Before any is deleted: a position is not given away again at once.
    let next = one(tx, sql, [face.clone()]).await?.map(|row| row.try_get::<i64>("", "next"));
    let next = next.transpose().map_err(StorageError::on(WHAT))?.unwrap_or_default();
    let sql = "DELETE FROM face_primitive_source WHERE source_id = $1";
    execute(tx, sql, [source.id.0.into()]).await?;
    for position in &plan.removed {
        let sql = "DELETE FROM face_primitive WHERE face_id = $1 AND position = $2";
        execute(tx, sql, [face.clone(), (*position).into()]).await?;
    }
    let added: Vec<(i64, &PrimitiveRow)> = (next..).zip(&plan.added).collect();
    let rows = added.iter().map(|(position, row)| {
        vec![
            face.clone(),
            (*position).into(),
            row.component.clone().into(),
            row.text.clone().into(),
            row.weight.into(),
            0_i16.into(),
        ]
    });
    let into = "face_primitive (face_id, position, component, text, weight, imported)";
    insert_rows(tx, into, rows.collect()).await?;
    let positions = plan.linked.iter().copied().chain(added.iter().map(|(position, _)| *position));
    let links = positions.map(|position| vec![face.clone(), position.into(), source.id.0.into()]);
    insert_rows(tx, "face_primitive_source (face_id, position, source_id)", links.collect()).await
}

async fn insert_rows(
    tx: &DatabaseTransaction,
    into: &str,
    rows: Vec<Vec<Value>>,
) -> Result<(), StorageError> {
    for chunk in rows.chunks(ROWS_PER_INSERT) {
        let mut place = 0;
        let tuples: Vec<String> = chunk
            .iter()
            .map(|row| {
                let places: Vec<String> = row
                    .iter()
                    .map(|_| {
                        place += 1;
                        format!("${place}")
                    })
                    .collect();
                format!("({})", places.join(", "))
            })
            .collect();
        let sql = format!("INSERT INTO {into} VALUES {}", tuples.join(", "));
        execute(tx, &sql, chunk.iter().flatten().cloned()).await?;
    }
    Ok(())
}

async fn finish_source(
    tx: &DatabaseTransaction,
    source: &SourceRow,
    (counts, facts): (String, String),
    (tokens, overflow): (i64, bool),
    now: UnixMicros,
) -> Result<(), StorageError> {
    let sql = "UPDATE compile_source SET state = 'synced', failure = NULL, counts = $2, facts = $3,
        synced_at = $4, updated_at = $4, charged_version = version,
        tokens_charged = tokens_charged + $5, overflow_billed = $6 WHERE id = $1";
    let values: [Value; 6] = [
        source.id.0.into(),
        counts.into(),
        facts.into(),
        now.0.into(),
        tokens.into(),
        i16::from(overflow).into(),
    ];
    execute(tx, sql, values).await?;
    if source.kind == SourceKind::Thread {
        let sql = "UPDATE compile_message SET archived = 1 WHERE source_id = $1";
        execute(tx, sql, [source.id.0.into()]).await?;
    }
    Ok(())
}

/// Takes a source out of its face: what only it gave is deleted, what others gave too stays. The
/// source is deleted, or goes back to its text.
///
/// # Errors
/// [`StorageError::Missing`] when the account has no such source, [`StorageError::Stale`] when the
/// face was changed in between.
pub async fn withdraw_source(
    db: &Db,
    account_id: AccountId,
    withdrawal: Withdrawal,
) -> Result<Option<SourceRow>, StorageError> {
    let now = clock::now();
    db.in_transaction(WHAT, move |tx| {
        let withdrawal = withdrawal.clone();
        Box::pin(async move {
            let Withdrawal { source_id, face_id, face_version, face_facts, delete } = withdrawal;
            lock_face(tx, account_id, face_id, face_version).await?;
            let source = sources::lock(tx, account_id, source_id).await?;
            let own: [Value; 2] = [face_id.0.into(), source_id.0.into()];
            let sql = "DELETE FROM face_primitive WHERE face_id = $1 AND imported = 0
                AND position IN (SELECT s.position FROM face_primitive_source AS s
                    WHERE s.source_id = $2 AND s.face_id = $1)
                AND NOT EXISTS (SELECT 1 FROM face_primitive_source AS o
                    WHERE o.face_id = face_primitive.face_id
                    AND o.position = face_primitive.position AND o.source_id <> $2)";
            let deleted = execute(tx, sql, own).await?.rows_affected();
            let sql = if delete {
                "DELETE FROM compile_source WHERE id = $1"
            } else {
                "DELETE FROM face_primitive_source WHERE source_id = $1"
            };
            execute(tx, sql, [source_id.0.into()]).await?;
            if deleted > 0 || source.synced_at.is_some() {
                write_face(tx, face_id, face_facts, now).await?;
            }
            if delete {
                return Ok(None);
            }
            sources::forget_extraction(tx, &source, CompileEvent::Reset, now).await?;
            let sql = "UPDATE compile_source SET counts = NULL, facts = NULL, synced_at = NULL
                WHERE id = $1";
            execute(tx, sql, [source_id.0.into()]).await?;
            sources::existing(tx, account_id, source_id).await.map(Some)
        })
    })
    .await
}

/// Locks a face that still has this version.
async fn lock_face(
    tx: &DatabaseTransaction,
    account_id: AccountId,
    face_id: FaceId,
    version: i64,
) -> Result<(), StorageError> {
    let sql = "SELECT version FROM face WHERE id = $1 AND account_id = $2{lock}";
    let row = one(tx, sql, [face_id.0.into(), account_id.0.into()]).await?;
    let row = row.ok_or(StorageError::Missing { what: FACE })?;
    match row.try_get::<i64>("", "version").map_err(StorageError::on(WHAT))? {
        now if now == version => Ok(()),
        _ => Err(StorageError::Stale { what: FACE }),
    }
}

/// Gives a locked face its next version, with the facts given and its primitives counted.
async fn write_face(
    tx: &DatabaseTransaction,
    face_id: FaceId,
    facts: String,
    now: UnixMicros,
) -> Result<(), StorageError> {
    let sql = "SELECT component, COUNT(*) AS n FROM face_primitive WHERE face_id = $1
        GROUP BY component";
    let rows = all(tx, sql, [face_id.0.into()]).await?;
    let known = ["alpha", "beta", "delta", "epsilon"].map(|component| (component.to_owned(), 0));
    let mut counts: BTreeMap<String, i64> = known.into();
    for row in &rows {
        let read = || Ok::<_, DbErr>((row.try_get("", "component")?, row.try_get("", "n")?));
        let (component, count): (String, i64) = read().map_err(StorageError::on(WHAT))?;
        counts.insert(component, count);
    }
    let counts = serde_json::to_string(&counts).map_err(|_| unreadable("component counts"))?;
    let sql = "UPDATE face SET version = version + 1, updated_at = $2, facts = $3,
        component_counts = $4 WHERE id = $1";
    let values: [Value; 4] = [face_id.0.into(), now.0.into(), facts.into(), counts.into()];
    execute(tx, sql, values).await.map(drop)
}

fn sourced_of(row: &QueryResult) -> Result<(SourcedPrimitive, Option<SourceId>), DbErr> {
    let primitive = SourcedPrimitive {
        position: row.try_get("", "position")?,
        row: PrimitiveRow {
            component: row.try_get("", "component")?,
            text: row.try_get("", "text")?,
            weight: row.try_get("", "weight")?,
        },
        imported: flag(row, "imported")?,
        sources: Vec::new(),
    };
    Ok((primitive, row.try_get::<Option<Uuid>>("", "source_id")?.map(SourceId)))
}
