//! Documents and threads as their owners see them.

use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr, QueryResult, Value};
use uuid::Uuid;

use super::{
    super::{Db, StorageError},
    MessageRow, WHAT, all, execute, flag, messages, one, unreadable,
};
use crate::domain::{
    AccountId, FaceId, FaceName, SourceId,
    clock::{self, UnixMicros},
    compile::{CompileEvent, CompileState, Perspective, SourceKind},
};

/// A source as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceRow {
    /// Its id.
    pub id: SourceId,
    /// Whose.
    pub account_id: AccountId,
    /// Of which face.
    pub face_id: FaceId,
    /// That face's username.
    pub face: FaceName,
    /// Document or thread.
    pub kind: SourceKind,
    /// For people.
    pub label: String,
    /// The text of a document; empty for a thread, and in lists.
    pub content: String,
    /// Who speaks in a document.
    pub perspective: Option<Perspective>,
    /// Where it came from: `api`, `upload`, `interview`.
    pub source: String,
    /// Who in a transcript is the face.
    pub face_speaker: Option<String>,
    /// What a caller said about who pays a thread's interviewer.
    pub interviewer_payer: Option<String>,
    /// Counts its contents, from 1.
    pub version: i64,
    /// Counts the extractions that were begun anew, from 1.
    pub generation: i64,
    /// Estimated tokens of the text that is compiled.
    pub token_count: i64,
    /// How far the work has come.
    pub state: CompileState,
    /// Why it stalled or failed, for its owner.
    pub failure: Option<String>,
    /// Chunks that the text was cut into; 0 before.
    pub chunks_total: i64,
    /// Chunks that are done.
    pub chunks_completed: i64,
    /// JSON object of primitives by component that the last sync wrote.
    pub counts: Option<String>,
    /// JSON object of the facts that the last sync found.
    pub facts: Option<String>,
    /// When it was written to the face last.
    pub synced_at: Option<UnixMicros>,
    /// The version that was charged to the quota last.
    pub charged_version: Option<i64>,
    /// Tokens that were charged to the quota, over all versions.
    pub tokens_charged: i64,
    /// Whether the last charge went beyond the quota.
    pub overflow_billed: bool,
    /// When it was made.
    pub created_at: UnixMicros,
    /// When its owner or the worker changed it last.
    pub updated_at: UnixMicros,
}

/// A source to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSource {
    /// Its id.
    pub id: SourceId,
    /// Whose.
    pub account_id: AccountId,
    /// Of which face.
    pub face_id: FaceId,
    /// Document or thread.
    pub kind: SourceKind,
    /// For people.
    pub label: String,
    /// The text of a document; empty for a thread.
    pub content: String,
    /// The messages of a thread, in their order.
    pub messages: Vec<MessageRow>,
    /// Who speaks in a document.
    pub perspective: Option<Perspective>,
    /// Where it came from.
    pub source: String,
    /// Who in a transcript is the face.
    pub face_speaker: Option<String>,
    /// What the caller said about who pays the interviewer.
    pub interviewer_payer: Option<String>,
    /// Estimated tokens of the text that is compiled.
    pub token_count: i64,
}

/// What of a source becomes another; what is `None` stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceEdit {
    /// The version that the edit was made from; `None` for whatever there is.
    pub of_version: Option<i64>,
    /// For people.
    pub label: Option<String>,
    /// A document's text with its estimated tokens.
    pub content: Option<(String, i64)>,
    /// All messages of a thread, with the estimated tokens of what is compiled.
    pub messages: Option<(Vec<MessageRow>, i64)>,
    /// Who speaks in a document.
    pub perspective: Option<Option<Perspective>>,
    /// Who in a transcript is the face.
    pub face_speaker: Option<Option<String>>,
}

impl SourceEdit {
    /// Whether what was extracted so far is of another text.
    const fn changes_the_text(&self) -> bool {
        self.content.is_some()
            || self.messages.is_some()
            || self.perspective.is_some()
            || self.face_speaker.is_some()
    }
}

/// Which sources to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFilter {
    /// Documents or threads.
    pub kind: SourceKind,
    /// Of one face only.
    pub face_id: Option<FaceId>,
    /// Of faces with these usernames only.
    pub usernames: Option<Vec<String>>,
}

/// The columns of [`source_of`]; `{content}` is the text, or nothing in its place.
const SELECT: &str = "SELECT s.id, s.account_id, s.face_id, f.username, s.kind, s.label,
        {content} AS content, s.perspective, s.source, s.face_speaker, s.interviewer_payer,
        s.version, s.generation, s.token_count, s.state, s.failure, s.chunks_total,
        s.chunks_completed, s.counts, s.facts, s.synced_at, s.charged_version, s.tokens_charged,
        s.overflow_billed, s.created_at, s.updated_at
    FROM compile_source AS s JOIN face AS f ON f.id = s.face_id";

/// Keeps a new source with its messages.
///
/// # Errors
/// [`StorageError::Missing`] without such a face or account, [`StorageError::Conflict`] when the
/// id exists.
pub async fn insert_source(db: &Db, new: NewSource) -> Result<SourceRow, StorageError> {
    let now = clock::now();
    db.in_transaction(WHAT, move |tx| {
        let new = new.clone();
        Box::pin(async move {
            let values: [Value; 13] = [
                new.id.0.into(),
                new.account_id.0.into(),
                new.face_id.0.into(),
                new.kind.db_code().into(),
                new.label.into(),
                new.content.into(),
                new.perspective.map(|one| one.as_str().to_owned()).into(),
                new.source.into(),
                new.face_speaker.into(),
                new.interviewer_payer.into(),
                new.token_count.into(),
                CompileState::Idle.as_str().into(),
                now.0.into(),
            ];
            let sql = "INSERT INTO compile_source (id, account_id, face_id, kind, label, content,
                    perspective, source, face_speaker, interviewer_payer, token_count, state,
                    version, generation, chunks_total, chunks_completed, tokens_charged,
                    overflow_billed, created_at, updated_at)
                SELECT $1, $2, f.id, $4, $5, $6, $7, $8, $9, $10, $11, $12, 1, 1, 0, 0, 0, 0,
                    $13, $13
                FROM face AS f WHERE f.id = $3 AND f.account_id = $2";
            if execute(tx, sql, values).await?.rows_affected() == 0 {
                return Err(StorageError::Missing { what: "face" });
            }
            messages::insert(tx, new.id, 0, new.messages, now).await?;
            existing(tx, new.account_id, new.id).await
        })
    })
    .await
}

/// The account's source of that id.
///
/// # Errors
/// [`StorageError::Unavailable`].
pub async fn find_source(
    db: &Db,
    account_id: AccountId,
    id: SourceId,
) -> Result<Option<SourceRow>, StorageError> {
    db.read(WHAT, move |db| async move { find(db.reader(), account_id, id).await }).await
}

/// An account's sources in the order of their making, after `after`, at most `limit`, without
/// their contents.
///
/// # Errors
/// [`StorageError::Unavailable`].
pub async fn list_sources(
    db: &Db,
    account_id: AccountId,
    filter: SourceFilter,
    after: Option<SourceId>,
    limit: u32,
) -> Result<Vec<SourceRow>, StorageError> {
    db.read(WHAT, move |db| async move {
        let mut sql = SELECT.replace("{content}", "''");
        let mut values: Vec<Value> = vec![
            account_id.0.into(),
            filter.kind.db_code().into(),
            after.map_or(Uuid::nil(), |after| after.0).into(),
            i64::from(limit).into(),
        ];
        sql.push_str(" WHERE s.account_id = $1 AND s.kind = $2 AND s.id > $3");
        if let Some(face_id) = filter.face_id {
            values.push(face_id.0.into());
            sql.push_str(" AND s.face_id = $5");
        }
        if let Some(usernames) = filter.usernames {
            let names: Vec<String> = usernames
                .into_iter()
                .map(|name| {
                    values.push(name.into());
                    format!("${}", values.len())
                })
                .collect();
            // A list of nothing allows nothing.
            let names = if names.is_empty() { "NULL".to_owned() } else { names.join(", ") };
            sql.push_str(&format!(" AND f.username IN ({names})"));
        }
        sql.push_str(" ORDER BY s.id LIMIT $4");
        let rows = all(db.reader(), &sql, values).await?;
        rows.iter().map(source_of).collect()
    })
    .await
}

/// The ids of a face's sources of both kinds whose text is not in the face yet, oldest first. One
/// without a text (an interview that nobody has answered) is left out.
///
/// # Errors
/// [`StorageError::Unavailable`].
pub async fn pending_sources(
    db: &Db,
    account_id: AccountId,
    face_id: FaceId,
) -> Result<Vec<SourceId>, StorageError> {
    db.read(WHAT, move |db| async move {
        let sql = "SELECT id FROM compile_source
            WHERE face_id = $1 AND account_id = $2 AND state <> 'synced' AND token_count > 0
            ORDER BY id";
        let rows = all(db.reader(), sql, [face_id.0.into(), account_id.0.into()]).await?;
        let id = |row: &QueryResult| row.try_get::<Uuid>("", "id").map(SourceId);
        rows.iter().map(id).collect::<Result<_, DbErr>>().map_err(StorageError::on(WHAT))
    })
    .await
}

/// Whether something of a face is being compiled.
///
/// # Errors
/// [`StorageError::Unavailable`].
pub async fn is_compiling(
    db: &Db,
    account_id: AccountId,
    face_id: FaceId,
) -> Result<bool, StorageError> {
    db.read(WHAT, move |db| async move {
        let sql = "SELECT s.id FROM compile_source AS s
            WHERE s.face_id = $1 AND s.account_id = $2
                AND EXISTS (SELECT 1 FROM compile_job AS j WHERE j.source_id = s.id)
            LIMIT 1";
        let rows = all(db.reader(), sql, [face_id.0.into(), account_id.0.into()]).await?;
        Ok(!rows.is_empty())
    })
    .await
}

/// What the other sources of a face have told as facts.
///
/// # Errors
/// [`StorageError::Unavailable`].
pub async fn facts_of_others(
    db: &Db,
    face_id: FaceId,
    id: SourceId,
) -> Result<Vec<String>, StorageError> {
    db.read(WHAT, move |db| async move {
        let sql = "SELECT facts FROM compile_source
            WHERE face_id = $1 AND id <> $2 AND facts IS NOT NULL ORDER BY id";
        let rows = all(db.reader(), sql, [face_id.0.into(), id.0.into()]).await?;
        let text = |row: &QueryResult| row.try_get::<String>("", "facts");
        rows.iter().map(text).collect::<Result<_, DbErr>>().map_err(StorageError::on(WHAT))
    })
    .await
}

/// How many sources of a kind a face has.
///
/// # Errors
/// [`StorageError::Unavailable`].
pub async fn count_sources(
    db: &Db,
    face_id: FaceId,
    kind: SourceKind,
) -> Result<u64, StorageError> {
    db.read(WHAT, move |db| async move {
        let sql = "SELECT COUNT(*) AS n FROM compile_source WHERE face_id = $1 AND kind = $2";
        let row = one(db.reader(), sql, [face_id.0.into(), kind.db_code().into()]).await?;
        let count = row.map(|row| row.try_get::<i64>("", "n")).transpose();
        let count = count.map_err(StorageError::on(WHAT))?.unwrap_or_default();
        Ok(u64::try_from(count).unwrap_or_default())
    })
    .await
}

/// Changes a source. Another text drops what was extracted and ends the work on it; what is in the
/// face stays until the next sync.
///
/// # Errors
/// [`StorageError::Missing`] when the account has no such source, [`StorageError::Stale`] when the
/// edit was made from another version.
pub async fn edit_source(
    db: &Db,
    account_id: AccountId,
    id: SourceId,
    edit: SourceEdit,
) -> Result<SourceRow, StorageError> {
    let now = clock::now();
    db.in_transaction(WHAT, move |tx| {
        let edit = edit.clone();
        Box::pin(async move {
            let source = lock(tx, account_id, id).await?;
            if edit.of_version.is_some_and(|version| version != source.version) {
                return Err(StorageError::Stale { what: WHAT });
            }
            if edit.changes_the_text() {
                forget_extraction(tx, &source, CompileEvent::Edit, now).await?;
            }
            write_edit(tx, source, edit, now).await?;
            existing(tx, account_id, id).await
        })
    })
    .await
}

async fn write_edit(
    tx: &DatabaseTransaction,
    source: SourceRow,
    edit: SourceEdit,
    now: UnixMicros,
) -> Result<(), StorageError> {
    let mut tokens = source.token_count;
    let mut content = source.content;
    if let Some((text, count)) = edit.content {
        (content, tokens) = (text, count);
    }
    if let Some((rows, count)) = edit.messages {
        tokens = count;
        let sql = "DELETE FROM compile_message WHERE source_id = $1";
        execute(tx, sql, [source.id.0.into()]).await?;
        messages::insert(tx, source.id, 0, rows, now).await?;
    }
    let perspective = edit.perspective.unwrap_or(source.perspective);
    let values: [Value; 7] = [
        source.id.0.into(),
        edit.label.unwrap_or(source.label).into(),
        content.into(),
        perspective.map(|one| one.as_str().to_owned()).into(),
        edit.face_speaker.unwrap_or(source.face_speaker).into(),
        tokens.into(),
        now.0.into(),
    ];
    let sql = "UPDATE compile_source SET label = $2, content = $3, perspective = $4,
        face_speaker = $5, token_count = $6, updated_at = $7 WHERE id = $1";
    execute(tx, sql, values).await.map(drop)
}

/// Drops what was extracted of a locked source and ends the work on it. An edit makes a new
/// version.
pub(super) async fn forget_extraction(
    tx: &DatabaseTransaction,
    source: &SourceRow,
    event: CompileEvent,
    now: UnixMicros,
) -> Result<(), StorageError> {
    let state = source.state.after(event).map_err(|_| unreadable("a state that can't be left"))?;
    for sql in [
        "DELETE FROM compile_job WHERE source_id = $1",
        "DELETE FROM compile_chunk WHERE source_id = $1",
    ] {
        execute(tx, sql, [source.id.0.into()]).await?;
    }
    let versions = i64::from(event == CompileEvent::Edit);
    let sql = "UPDATE compile_source SET state = $2, version = version + $3,
        generation = generation + 1, failure = NULL, chunks_total = 0, chunks_completed = 0,
        updated_at = $4 WHERE id = $1";
    let values: [Value; 4] =
        [source.id.0.into(), state.as_str().into(), versions.into(), now.0.into()];
    execute(tx, sql, values).await.map(drop)
}

async fn find<C: ConnectionTrait>(
    connection: &C,
    account_id: AccountId,
    id: SourceId,
) -> Result<Option<SourceRow>, StorageError> {
    let mut sql = SELECT.replace("{content}", "s.content");
    sql.push_str(" WHERE s.id = $1 AND s.account_id = $2");
    let row = one(connection, &sql, [id.0.into(), account_id.0.into()]).await?;
    row.as_ref().map(source_of).transpose()
}

pub(super) async fn existing(
    tx: &DatabaseTransaction,
    account_id: AccountId,
    id: SourceId,
) -> Result<SourceRow, StorageError> {
    find(tx, account_id, id).await?.ok_or(StorageError::Missing { what: WHAT })
}

/// Locks a source and reads it.
pub(super) async fn lock(
    tx: &DatabaseTransaction,
    account_id: AccountId,
    id: SourceId,
) -> Result<SourceRow, StorageError> {
    let sql = "SELECT id FROM compile_source WHERE id = $1 AND account_id = $2{lock}";
    let locked = one(tx, sql, [id.0.into(), account_id.0.into()]).await?;
    locked.ok_or(StorageError::Missing { what: WHAT })?;
    existing(tx, account_id, id).await
}

fn source_of(row: &QueryResult) -> Result<SourceRow, StorageError> {
    let text = |column| row.try_get::<String>("", column).map_err(StorageError::on(WHAT));
    let username = FaceName::parse(&text("username")?).map_err(|_| unreadable("a username"))?;
    let state = CompileState::parse(&text("state")?).ok_or_else(|| unreadable("a state"))?;
    read(row, username, state).map_err(StorageError::on(WHAT))
}

fn read(row: &QueryResult, face: FaceName, state: CompileState) -> Result<SourceRow, DbErr> {
    let number = |column| row.try_get::<i64>("", column);
    let kind = SourceKind::from_db_code(row.try_get("", "kind")?);
    let perspective: Option<String> = row.try_get("", "perspective")?;
    Ok(SourceRow {
        id: SourceId(row.try_get("", "id")?),
        account_id: AccountId(row.try_get("", "account_id")?),
        face_id: FaceId(row.try_get("", "face_id")?),
        face,
        kind: kind.ok_or_else(|| DbErr::Type("a kind of source".to_owned()))?,
        label: row.try_get("", "label")?,
        content: row.try_get("", "content")?,
        perspective: perspective.as_deref().and_then(Perspective::parse),
        source: row.try_get("", "source")?,
        face_speaker: row.try_get("", "face_speaker")?,
        interviewer_payer: row.try_get("", "interviewer_payer")?,
        version: number("version")?,
        generation: number("generation")?,
        token_count: number("token_count")?,
        state,
        failure: row.try_get("", "failure")?,
        chunks_total: number("chunks_total")?,
        chunks_completed: number("chunks_completed")?,
        counts: row.try_get("", "counts")?,
        facts: row.try_get("", "facts")?,
        synced_at: row.try_get::<Option<i64>>("", "synced_at")?.map(UnixMicros),
        charged_version: row.try_get("", "charged_version")?,
        tokens_charged: number("tokens_charged")?,
        overflow_billed: flag(row, "overflow_billed")?,
        created_at: UnixMicros(number("created_at")?),
        updated_at: UnixMicros(number("updated_at")?),
    })
}
