//! Usage of an account by key, face, model or day.

use sea_orm::{DbBackend, DbErr, QueryResult, Value};
use uuid::Uuid;

use super::{
    super::{
        super::{Db, StorageError},
        snapshot::Snapshot,
        sql,
    },
    GROUPS_MAX, GroupKey, Sums, UsageFilter, UsageGroup, UsagePage, UsageRow, UsageSums, WHAT,
    some_id, words,
};
use crate::domain::{Day, FaceId, KeyId};

const MARK: &str = "SELECT cut_id FROM usage_mark WHERE id = 1";

/// A statement over sums and tail of one account, with what its parameters are.
pub(super) struct Lines {
    backend: DbBackend,
    pub(super) values: Vec<Value>,
    /// `SELECT … UNION ALL SELECT …`, to be put into brackets.
    pub(super) sql: String,
}

impl Lines {
    /// The lines that `filter` lets through; `mark` is where the tail begins. What tells groups other
    /// than `group` apart (and days, which are always told apart) may be missing in them.
    pub(super) fn new(
        backend: DbBackend,
        filter: &UsageFilter,
        group: Option<UsageGroup>,
        mark: Uuid,
    ) -> Self {
        let mut lines = Self { backend, values: Vec::new(), sql: String::new() };
        let (account, mark) = (lines.bind(filter.account_id.0.into()), lines.bind(mark.into()));
        let from = match Sums::of(filter, group).kind() {
            Some(kind) => format!("usage_margin WHERE kind = {kind} AND"),
            None => "usage_daily WHERE".to_owned(),
        };
        let mut sums = format!(
            "SELECT account_id, day, key_id, face_id, model, requests,
            input_tokens, cached_tokens, output_tokens, provider_cost, cost
            FROM {from} account_id = {account}"
        );
        let mut tail = format!("{{lines}} AND h.id >= {mark} AND h.account_id = {account}");
        let mut both = |summed: &str, held: &str, parameter: String| {
            sums.push_str(&format!(" AND {summed} {parameter}"));
            tail.push_str(&format!(" AND {held} {parameter}"));
        };
        let day = "h.resolved_at / 86400000000";
        if let Some(Day(from)) = filter.from {
            both("day >=", &format!("{day} >="), lines.bind(from.into()));
        }
        if let Some(Day(to)) = filter.to {
            both("day <=", &format!("{day} <="), lines.bind(to.into()));
        }
        if let Some(KeyId(key)) = filter.key_id {
            both("key_id =", "h.key_id =", lines.bind(key.into()));
        }
        if let Some(FaceId(face)) = filter.face_id {
            both("face_id =", "h.face_id =", lines.bind(face.into()));
        }
        if let Some(model) = &filter.model {
            both("model =", "h.model =", lines.bind(model.as_str().into()));
        }
        lines.sql = format!("{sums} UNION ALL {tail}");
        lines
    }

    /// Adds a parameter; how it is written in the statement.
    pub(super) fn bind(&mut self, value: Value) -> String {
        self.values.push(value);
        format!("${}", self.values.len())
    }

    /// The statement for this database.
    pub(super) fn fill(&self, text: &str) -> String {
        let text = text.replace("{all}", &self.sql);
        sql::fill(self.backend, &words(self.backend, &text))
    }
}

/// The mark: where the tail begins.
pub(super) async fn mark(snapshot: &Snapshot) -> Result<Uuid, DbErr> {
    let rows = snapshot.query(MARK, []).await?;
    rows.first().map_or(Ok(Uuid::nil()), |row| row.try_get_by_index(0))
}

/// A page of groups from after `after` on, at most `limit` (and [`GROUPS_MAX`]), and the sums of
/// all groups.
///
/// # Errors
/// [`StorageError::Unavailable`].
///
/// # Cancel safety
/// It only reads; dropping the future lets it end in the background.
pub async fn read_usage(
    db: &Db,
    filter: UsageFilter,
    group: UsageGroup,
    after: Option<GroupKey>,
    limit: u32,
) -> Result<UsagePage, StorageError> {
    db.read(WHAT, move |db| async move {
        let snapshot = Snapshot::begin(&db).await.map_err(StorageError::on(WHAT))?;
        let page = page(&snapshot, db.backend(), &filter, group, after, limit).await;
        snapshot.end().await;
        page.map_err(StorageError::on(WHAT))
    })
    .await
}

async fn page(
    snapshot: &Snapshot,
    backend: DbBackend,
    filter: &UsageFilter,
    group: UsageGroup,
    after: Option<GroupKey>,
    limit: u32,
) -> Result<UsagePage, DbErr> {
    let mark = mark(snapshot).await?;
    let all = Lines::new(backend, filter, None, mark);
    let sums = all.fill("SELECT {sums} FROM ({all}) AS lines");
    let all = snapshot.query(&sums, all.values).await?;
    let totals = all.first().map_or(Ok(UsageSums::default()), |row| UsageSums::read(row, 0))?;
    let (column, label, name) = match group {
        UsageGroup::Key => {
            ("key_id", "(SELECT k.name FROM api_key AS k WHERE k.id = grouped.key_id)", "NULL")
        }
        UsageGroup::Face => (
            "face_id",
            "(SELECT f.username FROM face AS f WHERE f.id = grouped.face_id)",
            "(SELECT f.name FROM face AS f WHERE f.id = grouped.face_id)",
        ),
        UsageGroup::Model => ("model", "NULL", "NULL"),
        UsageGroup::Day => ("day", "NULL", "NULL"),
    };
    let mut lines = Lines::new(backend, filter, Some(group), mark);
    let rest = match after {
        None => String::new(),
        Some(key) => format!("WHERE {column} > {}", lines.bind(value_of(key))),
    };
    let limit = limit.min(GROUPS_MAX);
    let more = lines.bind(i64::from(limit + 1).into());
    let text = format!(
        "SELECT grouped.*, CAST({label} AS TEXT), CAST({name} AS TEXT) FROM (
            SELECT {column}, {{sums}} FROM ({{all}}) AS lines {rest}
            GROUP BY {column} ORDER BY {column} LIMIT {more}) AS grouped ORDER BY {column}"
    );
    let found = snapshot.query(&lines.fill(&text), lines.values.clone()).await?;
    let shown = usize::try_from(limit).unwrap_or(usize::MAX);
    let rows =
        found.iter().take(shown).map(|row| group_row(row, group)).collect::<Result<_, _>>()?;
    Ok(UsagePage { rows, has_more: found.len() > shown, totals })
}

fn value_of(key: GroupKey) -> Value {
    match key {
        GroupKey::Key(id) => id.map_or(Uuid::nil(), |id| id.0).into(),
        GroupKey::Face(id) => id.map_or(Uuid::nil(), |id| id.0).into(),
        GroupKey::Model(model) => model.into(),
        GroupKey::Day(Day(day)) => day.into(),
    }
}

fn group_row(row: &QueryResult, group: UsageGroup) -> Result<UsageRow, DbErr> {
    let key = match group {
        UsageGroup::Key => GroupKey::Key(some_id(row.try_get_by_index(0)?).map(KeyId)),
        UsageGroup::Face => GroupKey::Face(some_id(row.try_get_by_index(0)?).map(FaceId)),
        UsageGroup::Model => GroupKey::Model(row.try_get_by_index(0)?),
        UsageGroup::Day => GroupKey::Day(Day(row.try_get_by_index(0)?)),
    };
    Ok(UsageRow {
        key,
        sums: UsageSums::read(row, 1)?,
        label: row.try_get_by_index(7)?,
        name: row.try_get_by_index(8)?,
    })
}
