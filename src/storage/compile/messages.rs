//! The messages of a thread.

use sea_orm::{DatabaseTransaction, DbErr, QueryResult, Value};

use super::{
    super::{Db, StorageError},
    SourceRow, WHAT, all, execute, flag, one, sources,
};
use crate::domain::{
    AccountId, SourceId,
    clock::{self, UnixMicros},
    compile::CompileEvent,
};

/// Rows of one `INSERT`: 7 values each, below SQLite's 32,766 and PostgreSQL's 65,535 of a
/// statement.
const MESSAGES_PER_INSERT: usize = 1_000;

/// One message of a thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageRow {
    /// `user` (the person) or `assistant`.
    pub role: String,
    /// What was said.
    pub content: String,
    /// Who said it.
    pub name: Option<String>,
    /// Whether it was written to the face.
    pub archived: bool,
}

/// A thread's messages in their order; none when there is no such thread.
///
/// # Errors
/// [`StorageError::Unavailable`].
pub async fn list_messages(db: &Db, id: SourceId) -> Result<Vec<MessageRow>, StorageError> {
    db.read(WHAT, move |db| async move {
        let sql = "SELECT role, content, name, archived FROM compile_message
            WHERE source_id = $1 ORDER BY position";
        let rows = all(db.reader(), sql, [id.0.into()]).await?;
        rows.iter().map(message_of).collect::<Result<_, _>>().map_err(StorageError::on(WHAT))
    })
    .await
}

/// Adds messages to a thread that has `count_expected` in this version, and sets the tokens of what
/// is compiled now. The thread's text is another one then: what was extracted is dropped.
///
/// # Errors
/// [`StorageError::Missing`] when the account has no such thread, [`StorageError::Stale`] when
/// others have added or replaced messages in between.
pub async fn append_messages(
    db: &Db,
    account_id: AccountId,
    id: SourceId,
    (version, count_expected): (i64, i64),
    messages: Vec<MessageRow>,
    token_count: i64,
) -> Result<SourceRow, StorageError> {
    let now = clock::now();
    db.in_transaction(WHAT, move |tx| {
        let messages = messages.clone();
        Box::pin(async move {
            let source = sources::lock(tx, account_id, id).await?;
            let sql = "SELECT COUNT(*) AS n FROM compile_message WHERE source_id = $1";
            let counted = one(tx, sql, [id.0.into()]).await?;
            let count = counted.map(|row| row.try_get::<i64>("", "n")).transpose();
            let count = count.map_err(StorageError::on(WHAT))?;
            if source.version != version || count != Some(count_expected) {
                return Err(StorageError::Stale { what: "thread" });
            }
            sources::forget_extraction(tx, &source, CompileEvent::Edit, now).await?;
            insert(tx, id, count_expected, messages, now).await?;
            let sql = "UPDATE compile_source SET token_count = $2 WHERE id = $1";
            execute(tx, sql, [id.0.into(), token_count.into()]).await?;
            sources::existing(tx, account_id, id).await
        })
    })
    .await
}

/// Writes messages from a position on.
pub(super) async fn insert(
    tx: &DatabaseTransaction,
    id: SourceId,
    first: i64,
    messages: Vec<MessageRow>,
    now: UnixMicros,
) -> Result<(), StorageError> {
    let mut numbered = messages.into_iter().zip(first..).peekable();
    while numbered.peek().is_some() {
        let mut values: Vec<Value> = Vec::new();
        let mut rows: Vec<String> = Vec::new();
        for (message, position) in numbered.by_ref().take(MESSAGES_PER_INSERT) {
            let at = values.len();
            let places: Vec<String> = (at + 1..=at + 7).map(|place| format!("${place}")).collect();
            rows.push(format!("({})", places.join(", ")));
            values.extend([
                Value::from(id.0),
                position.into(),
                message.role.into(),
                message.content.into(),
                message.name.into(),
                i16::from(message.archived).into(),
                now.0.into(),
            ]);
        }
        let sql = format!(
            "INSERT INTO compile_message
             (source_id, position, role, content, name, archived, created_at) VALUES {}",
            rows.join(", ")
        );
        execute(tx, &sql, values).await?;
    }
    Ok(())
}

fn message_of(row: &QueryResult) -> Result<MessageRow, DbErr> {
    Ok(MessageRow {
        role: row.try_get("", "role")?,
        content: row.try_get("", "content")?,
        name: row.try_get("", "name")?,
        archived: flag(row, "archived")?,
    })
}
