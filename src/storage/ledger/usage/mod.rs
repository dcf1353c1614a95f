//! What accounts used, added up by day, key, face and model.
//!
//! Owns `usage_daily`, the sums of settled holds below a mark; `usage_margin`, which has the same by
//! key, face or model alone, because an account with a thousand of each has a row in `usage_daily`
//! for nearly each of its charges; and `usage_mark`, the id of the first hold that is in neither.
//! What is asked for is always the sums plus the holds from the mark on (the *tail*), in one
//! snapshot: so it is exact and of now, whether the sums are a minute or a month behind.
//!
//! **Exactly once.** [`roll()`] adds holds up to the cut (`cut.rs`), below which no hold is
//! open and none can appear, and moves the mark in the same transaction, by compare-and-set: of
//! several instances one wins, and the others have done nothing. Nothing of it stands in the way of
//! a request: the flush knows no usage and has no index for it.
//!
//! A day is that of the settlement (`resolved_at`), UTC, as on the transfer. The cost is the charge
//! of the books. Provider cost is what the price that the hold pinned makes of the tokens, rounded
//! down, at most the charge (where the operator paid the rest); the difference is the markup.
//!
//! How it fails: [`crate::storage::StorageError`]. Limits: a step of `rows_max` holds;
//! [`GROUPS_MAX`] groups of a page, [`LINES_MAX`] lines of a statement. Tested by
//! `tests/store_suite`, on both databases.

mod read;
mod roll;
mod statement;

use sea_orm::{DbBackend, DbErr, QueryResult};
use uuid::Uuid;

pub use read::read_usage;
pub use roll::{Rolled, roll};
pub use statement::{
    AccountDay, Incoming, LINES_MAX, Statement, StatementCharge, read_days, read_statement,
};

use crate::domain::{AccountId, Day, FaceId, KeyId, NanoUsd};

/// The noun of this room's error messages.
const WHAT: &str = "usage";
/// Groups in one page.
pub const GROUPS_MAX: u32 = 1_000;

/// What settled holds add up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UsageSums {
    /// How many there are.
    pub requests: i64,
    /// Input tokens, cached ones included.
    pub input_tokens: i64,
    /// Input tokens that were read from a cache.
    pub cached_tokens: i64,
    /// Output tokens, reasoning included.
    pub output_tokens: i64,
    /// The provider's part of `cost`.
    pub provider_cost: NanoUsd,
    /// What was charged.
    pub cost: NanoUsd,
}

impl UsageSums {
    /// What was charged beyond the provider's part.
    #[must_use]
    pub const fn markup(&self) -> NanoUsd {
        NanoUsd(self.cost.0.saturating_sub(self.provider_cost.0))
    }

    /// Reads six columns from `column` on.
    fn read(row: &QueryResult, column: usize) -> Result<Self, DbErr> {
        Ok(Self {
            requests: row.try_get_by_index(column)?,
            input_tokens: row.try_get_by_index(column + 1)?,
            cached_tokens: row.try_get_by_index(column + 2)?,
            output_tokens: row.try_get_by_index(column + 3)?,
            provider_cost: NanoUsd(row.try_get_by_index(column + 4)?),
            cost: NanoUsd(row.try_get_by_index(column + 5)?),
        })
    }
}

/// What rows are grouped by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UsageGroup {
    /// API keys.
    Key,
    /// Faces.
    Face,
    /// Models of the catalog.
    Model,
    /// Days, UTC.
    Day,
}

/// Which sums have all that is asked for, in the fewest rows. The numbers are kept in
/// `usage_margin.kind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Sums {
    ByKey,
    ByFace,
    ByModel,
    /// `usage_daily`.
    Whole,
}

impl Sums {
    const MARGINS: [Self; 3] = [Self::ByKey, Self::ByFace, Self::ByModel];

    /// Those that can tell lines apart as the filter does, and in these groups.
    fn of(filter: &UsageFilter, group: Option<UsageGroup>) -> Self {
        let needs = |is_filtered: bool, by| is_filtered || group == Some(by);
        let key = needs(filter.key_id.is_some(), UsageGroup::Key);
        let face = needs(filter.face_id.is_some(), UsageGroup::Face);
        let model = needs(filter.model.is_some(), UsageGroup::Model);
        match (key, face, model) {
            (true, false, false) => Self::ByKey,
            (false, true, false) => Self::ByFace,
            // There are fewer models than anything else.
            (false, false, _) => Self::ByModel,
            _ => Self::Whole,
        }
    }

    /// The kind of the margin; `None` of the whole.
    const fn kind(self) -> Option<i16> {
        match self {
            Self::ByKey => Some(1),
            Self::ByFace => Some(2),
            Self::ByModel => Some(3),
            Self::Whole => None,
        }
    }
}

/// The value of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupKey {
    /// An API key; `None`: no key was used.
    Key(Option<KeyId>),
    /// A face; `None`: a bare model was asked.
    Face(Option<FaceId>),
    /// A model of the catalog.
    Model(String),
    /// A day.
    Day(Day),
}

/// A group with its sums.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageRow {
    /// Which group.
    pub key: GroupKey,
    /// The key's name, or the face's username, while there is one.
    pub label: Option<String>,
    /// The face's name for people.
    pub name: Option<String>,
    /// Its sums.
    pub sums: UsageSums,
}

/// Which usage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageFilter {
    /// Whose.
    pub account_id: AccountId,
    /// First day.
    pub from: Option<Day>,
    /// Last day, inclusive.
    pub to: Option<Day>,
    /// Of this key only.
    pub key_id: Option<KeyId>,
    /// Of this face only.
    pub face_id: Option<FaceId>,
    /// Of this model only.
    pub model: Option<String>,
}

impl UsageFilter {
    /// All that an account used.
    #[must_use]
    pub const fn all(account_id: AccountId) -> Self {
        Self { account_id, from: None, to: None, key_id: None, face_id: None, model: None }
    }
}

/// A page of groups, and the sums of all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsagePage {
    /// In the order of their keys.
    pub rows: Vec<UsageRow>,
    /// Whether there are more after the last one.
    pub has_more: bool,
    /// Over all groups, not only the page's.
    pub totals: UsageSums,
}

/// One line for each hold that counts: settled, or charged by recovery. Words as in [`words`].
const LINES: &str = "SELECT h.account_id, h.resolved_at / 86400000000 AS day,
        COALESCE(h.key_id, {nil}) AS key_id, COALESCE(h.face_id, {nil}) AS face_id, h.model,
        1 AS requests,
        COALESCE(u.in_uncached + u.in_cache_read + u.in_cache_write_5m + u.in_cache_write_1h, 0)
            AS input_tokens,
        COALESCE(u.in_cache_read, 0) AS cached_tokens,
        COALESCE(u.out_text + u.out_reasoning, 0) AS output_tokens,
        {provider_cost} AS provider_cost, h.cost
    FROM ledger_hold AS h LEFT JOIN ledger_usage AS u ON u.hold_id = h.id
        LEFT JOIN ledger_price AS p ON p.id = h.price_id
    WHERE (h.state = 2 OR (h.state = 4 AND h.cost > 0))";

/// Six sums over lines.
const SUMS: &str = "CAST(COALESCE(SUM(requests), 0) AS BIGINT),
    CAST(COALESCE(SUM(input_tokens), 0) AS BIGINT),
    CAST(COALESCE(SUM(cached_tokens), 0) AS BIGINT),
    CAST(COALESCE(SUM(output_tokens), 0) AS BIGINT),
    CAST(COALESCE(SUM(provider_cost), 0) AS BIGINT), CAST(COALESCE(SUM(cost), 0) AS BIGINT)";

/// Pico-USD of one hold's tokens. `{wide}` is what keeps a product from leaving 64 bits.
const PICO: &str = "u.in_uncached * {wide}p.input_pico + u.in_cache_read * {wide}p.cache_read_pico
    + u.in_cache_write_5m * {wide}p.cache_write_5m_pico
    + u.in_cache_write_1h * {wide}p.cache_write_1h_pico
    + (u.out_text + u.out_reasoning) * {wide}p.output_pico";

/// Fills in `{lines}`, `{sums}` and the words in them. On SQLite a product beyond 64 bits becomes a
/// float, which is above every charge, so the charge is taken.
fn words(backend: DbBackend, text: &str) -> String {
    let sqlite = backend == DbBackend::Sqlite;
    let (nil, provider_cost, wide) = if sqlite {
        let cost = "CAST(MIN(h.cost, COALESCE(({pico}) / 1000, 0)) AS INTEGER)";
        ("zeroblob(16)", cost, "")
    } else {
        let cost = "CAST(LEAST(h.cost, COALESCE(DIV({pico}, 1000), 0)) AS BIGINT)";
        ("'00000000-0000-0000-0000-000000000000'::uuid", cost, "1.0 * ")
    };
    text.replace("{lines}", LINES)
        .replace("{sums}", SUMS)
        .replace("{provider_cost}", provider_cost)
        .replace("{pico}", PICO)
        .replace("{wide}", wide)
        .replace("{nil}", nil)
}

/// An id that stands for none.
const fn some_id(id: Uuid) -> Option<Uuid> {
    if id.is_nil() { None } else { Some(id) }
}
