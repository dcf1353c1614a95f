//! The ledger's statements: one text for both databases, with the few words that differ filled in.
//!
//! A batch travels as one JSON parameter (`$1`: an array of arrays), so a flush has a fixed number
//! of statements whatever its size, and each is prepared once per connection. Integers in JSON are
//! exact in both databases (SQLite keeps `i64`, PostgreSQL's `jsonb` keeps numerics); ids are
//! 32 hexadecimal digits. SQLite's own flush runs the same texts once per row instead, with the
//! row's values as parameters ([`by_row`]).
//!
//! Words: `{id:3}`, `{int:3}`, `{text:3}`, `{bytes:3}` read column 3 of a batch row; `{batch}` is
//! the batch as a table; `{now}` is the database's clock in microseconds, `{standing}` what keeps
//! the cut back; `{lock}` is `FOR UPDATE` where rows can be locked, `{lock_or_skip}` leaves out rows
//! that somebody else has locked; `{me}` is the instance (`$3`; `{me2}`: `$2`), on SQLite in a form
//! that can only be looked up after the batch: its planner would otherwise walk everything of the
//! instance and the batch for each row.

use std::sync::LazyLock;

use sea_orm::DbBackend;

use super::{cut, idem};

/// Every statement of the ledger, filled in for one database.
#[derive(Debug)]
pub(super) struct Statements {
    pub(super) fence: String,
    pub(super) read_instance: String,
    pub(super) read_accounts: String,
    pub(super) read_leases: String,
    pub(super) read_rows: String,
    pub(super) update_accounts: String,
    pub(super) update_leases: String,
    pub(super) insert_leases: String,
    pub(super) insert_holds: String,
    pub(super) extend_holds: String,
    pub(super) checkpoint_holds: String,
    pub(super) resolve_holds: String,
    pub(super) insert_transfers: String,
    pub(super) write_usage: String,
    pub(super) insert_attempts: String,
    pub(super) read_holds: String,
    pub(super) register: String,
    pub(super) fence_expired: String,
    pub(super) fence_all: String,
    pub(super) fenced: String,
    pub(super) lock_instance: String,
    pub(super) open_holds: String,
    pub(super) recover_holds: String,
    pub(super) recover_usage: String,
    pub(super) open_leases: String,
    pub(super) close_leases: String,
    pub(super) set_instance_state: String,
    pub(super) read_caps: String,
    pub(super) insert_cap: String,
    pub(super) move_cap: String,
    pub(super) read_spent: String,
    pub(super) read_claims: String,
    pub(super) claim_keys: String,
    pub(super) finish_keys: String,
    pub(super) free_keys: String,
    pub(super) find_key: String,
    pub(super) purge_keys: String,
}

/// Step 1 of a flush: the fence, the sequence number and the heartbeat in one row.
const FENCE: &str = "UPDATE ledger_instance
    SET flush_seq = $1, flush_digest = $2, expires_at = {now} + $3
    WHERE id = $4 AND state IN (1, 2) AND flush_seq = $1 - 1";

const READ_INSTANCE: &str =
    "SELECT state, flush_seq, flush_digest FROM ledger_instance WHERE id = $1";

/// Batch: `[account]`. Sorted lock order keeps concurrent flushes free of deadlocks.
const READ_ACCOUNTS: &str =
    "SELECT a.id, a.credits, a.debits, a.leased, a.overdraft_limit, a.flags,
    a.recall_seq FROM ledger_account AS a WHERE a.id IN (SELECT {id:0} FROM {batch})
    ORDER BY a.id{lock}";

/// Batch: `[account]`, `$2` this instance. Read after the accounts are locked: a fold moves
/// between both tables under that lock.
const READ_LEASES: &str = "SELECT l.account_id, CAST(SUM(l.posted - l.folded) AS BIGINT),
        CAST(SUM(CASE WHEN l.granted > l.folded THEN 1 ELSE 0 END) AS BIGINT),
        CAST(SUM(CASE WHEN l.instance_id = $2 THEN l.granted ELSE 0 END) AS BIGINT),
        CAST(SUM(CASE WHEN l.instance_id = $2 THEN l.posted ELSE 0 END) AS BIGINT),
        CAST(SUM(CASE WHEN l.instance_id = $2 THEN l.folded ELSE 0 END) AS BIGINT)
    FROM ledger_lease AS l
    WHERE l.account_id IN (SELECT {id:0} FROM {batch}) AND l.state = 1
    GROUP BY l.account_id";

/// Batch: `[account]`. A row with what its leases and its open holds say, in one statement and
/// without a lock.
const READ_ROWS: &str = "SELECT a.id, a.credits, a.debits, a.leased, a.overdraft_limit, a.flags,
        a.recall_seq,
        CAST(COALESCE((SELECT SUM(l.posted - l.folded) FROM ledger_lease AS l
            WHERE l.account_id = a.id AND l.state = 1), 0) AS BIGINT),
        (SELECT COUNT(*) FROM ledger_lease AS l
            WHERE l.account_id = a.id AND l.state = 1 AND l.granted > l.folded),
        CAST(COALESCE((SELECT SUM(h.amount) FROM ledger_lease AS l
            JOIN ledger_hold AS h ON h.instance_id = l.instance_id
                AND h.account_id = l.account_id AND h.state = 1
            WHERE l.account_id = a.id AND l.state = 1), 0) AS BIGINT)
    FROM ledger_account AS a
    WHERE a.id IN (SELECT {id:0} FROM {batch}) AND a.kind < 100";

/// Batch: `[account, grant, give back, fold, recall]`, one row per account. The `WHERE` repeats
/// the decision (I1, not frozen) as an assertion: the caller compares the row count.
const UPDATE_ACCOUNTS: &str = "UPDATE ledger_account
    SET leased = leased + {int:1} - {int:2} - {int:3}, debits = debits + {int:3},
        recall_seq = recall_seq + {int:4}
    FROM {batch} WHERE ledger_account.id = {id:0}
    AND leased >= {int:2} + {int:3}
    AND ({int:1} = 0 OR (flags & 3 = 0
        AND credits - debits - leased + {int:2} - {int:1} >= -overdraft_limit))";

/// Batch: `[account, granted delta, posted delta, folded delta]`.
const UPDATE_LEASES: &str = "UPDATE ledger_lease
    SET granted = granted + {int:1}, posted = posted + {int:2}, folded = folded + {int:3},
        last_seq = $2
    FROM {batch} WHERE ledger_lease.instance_id = {me} AND ledger_lease.account_id = {id:0}
    AND ledger_lease.state = 1";

/// The leases that `UPDATE_LEASES` did not find.
const INSERT_LEASES: &str = "INSERT INTO ledger_lease
    (instance_id, account_id, state, granted, posted, folded, last_seq, opened_at)
    SELECT $3, {id:0}, 1, {int:1}, {int:2}, {int:3}, $2, $4 FROM {batch}
    WHERE NOT EXISTS (SELECT 1 FROM ledger_lease AS l
        WHERE l.instance_id = $3 AND l.account_id = {id:0})";

/// Batch: `[hold, account, key, face, price, model, amount, state, cap, cost, resolved_at]`.
const INSERT_HOLDS: &str = "INSERT INTO ledger_hold
    (id, account_id, instance_id, key_id, face_id, price_id, model, amount, state, cost,
     cap_account_id, flush_seq, opened_at, resolved_at)
    SELECT {id:0}, {id:1}, $2, {id:2}, {id:3}, {int:4}, {text:5}, {int:6}, {int:7}, {int:9},
        {id:8}, $3, $4, {int:10}
    FROM {batch}";

/// Batch: `[hold, amount before, amount]`.
const EXTEND_HOLDS: &str = "UPDATE ledger_hold SET amount = {int:2}
    FROM {batch} WHERE ledger_hold.id = {id:0} AND ledger_hold.state = 1
    AND ledger_hold.instance_id = {me2} AND ledger_hold.amount = {int:1}";

/// Batch: `[hold, cost so far]`.
const CHECKPOINT_HOLDS: &str = "UPDATE ledger_hold SET checkpoint = {int:1}
    FROM {batch} WHERE ledger_hold.id = {id:0} AND ledger_hold.state = 1
    AND ledger_hold.instance_id = {me2} AND ledger_hold.amount >= {int:1}";

/// Batch: `[hold, state, cost, account]`. Compare-and-set on `open` (I2), with I8. (The
/// amount is not compared: a request whose account's actor is gone does not hear of an extension.)
const RESOLVE_HOLDS: &str = "UPDATE ledger_hold
    SET state = {int:1}, cost = {int:2}, resolved_at = $2
    FROM {batch} WHERE ledger_hold.id = {id:0} AND ledger_hold.state = 1
    AND ledger_hold.instance_id = {me} AND ledger_hold.amount >= {int:2}
    AND ledger_hold.account_id = {id:3}";

/// Batch: `[id, kind, debit account, credit account, amount]`.
const INSERT_TRANSFERS: &str = "INSERT INTO ledger_transfer
    (id, kind, debit_account, credit_account, amount, hold_id, instance_id, flush_seq, created_at)
    SELECT {id:0}, {int:1}, {id:2}, {id:3}, {int:4}, {id:0}, $2, $3, $4 FROM {batch}";

/// Batch: `[hold, six buckets, source, finish]`. A checkpoint's row is replaced by the next one and
/// at last by the settlement's. (`WHERE true` tells SQLite that no join follows.)
const WRITE_USAGE: &str = "INSERT INTO ledger_usage
    (hold_id, in_uncached, in_cache_read, in_cache_write_5m, in_cache_write_1h, out_text,
     out_reasoning, usage_source, finish)
    SELECT {id:0}, {int:1}, {int:2}, {int:3}, {int:4}, {int:5}, {int:6}, {int:7}, {int:8}
    FROM {batch} WHERE true
    ON CONFLICT (hold_id) DO UPDATE SET in_uncached = excluded.in_uncached,
        in_cache_read = excluded.in_cache_read, in_cache_write_5m = excluded.in_cache_write_5m,
        in_cache_write_1h = excluded.in_cache_write_1h, out_text = excluded.out_text,
        out_reasoning = excluded.out_reasoning, usage_source = excluded.usage_source,
        finish = excluded.finish";

/// Batch: `[hold, n, provider, model, upstream id, status, started, ended]`.
const INSERT_ATTEMPTS: &str = "INSERT INTO ledger_attempt
    (hold_id, n, provider, upstream_model, upstream_id, status, started_at, ended_at)
    SELECT {id:0}, {int:1}, {text:2}, {text:3}, {text:4}, {int:5}, {int:6}, {int:7}
    FROM {batch}";

/// Batch: `[hold]`. What an earlier attempt at the same flush granted.
const READ_HOLDS: &str = "SELECT h.id, h.amount FROM ledger_hold AS h
    WHERE h.id IN (SELECT {id:0} FROM {batch})";

const REGISTER: &str = "INSERT INTO ledger_instance
    (id, node, state, flush_seq, flush_digest, expires_at, started_at)
    VALUES ($1, $2, 1, 0, 0, {now} + $3, {now})";

const FENCE_EXPIRED: &str = "UPDATE ledger_instance SET state = 3
    WHERE id <> $1 AND state IN (1, 2) AND expires_at < {now}";

/// SQLite has one owner (its lock file): whatever else is live here is dead.
const FENCE_ALL: &str = "UPDATE ledger_instance SET state = 3 WHERE id <> $1 AND state IN (1, 2)";

const FENCED: &str = "SELECT id FROM ledger_instance WHERE state = 3 ORDER BY id";

/// No row when another instance is recovering it at this moment.
const LOCK_INSTANCE: &str = "SELECT state FROM ledger_instance WHERE id = $1{lock_or_skip}";

const OPEN_HOLDS: &str =
    "SELECT id, account_id, amount, checkpoint, cap_account_id FROM ledger_hold
    WHERE instance_id = $1 AND state = 1 ORDER BY id LIMIT $2";

/// Batch: `[hold, cost]`.
const RECOVER_HOLDS: &str = "UPDATE ledger_hold
    SET state = 4, cost = {int:1}, resolved_at = $2
    FROM {batch} WHERE ledger_hold.id = {id:0} AND ledger_hold.state = 1";

/// Batch: `[hold, cost]`. The usage of the checkpoint is what was billed.
const RECOVER_USAGE: &str = "UPDATE ledger_usage SET finish = 6
    FROM {batch} WHERE ledger_usage.hold_id = {id:0}";

const OPEN_LEASES: &str = "SELECT account_id, granted, posted, folded FROM ledger_lease
    WHERE instance_id = $1 AND state = 1 ORDER BY account_id";

const CLOSE_LEASES: &str = "UPDATE ledger_lease
    SET state = 2, granted = posted, folded = posted WHERE instance_id = $1 AND state = 1";

const SET_INSTANCE_STATE: &str =
    "UPDATE ledger_instance SET state = $1 WHERE id = $2 AND state IN (1, 2, 3)";

/// Batch: `[key, window, start]`. As [`READ_ROWS`], with the key at the end.
const READ_CAPS: &str = "SELECT a.id, a.credits, a.debits, a.leased, a.overdraft_limit, a.flags,
        a.recall_seq,
        CAST(COALESCE((SELECT SUM(l.posted - l.folded) FROM ledger_lease AS l
            WHERE l.account_id = a.id AND l.state = 1), 0) AS BIGINT),
        (SELECT COUNT(*) FROM ledger_lease AS l
            WHERE l.account_id = a.id AND l.state = 1 AND l.granted > l.folded),
        a.owner_id
    FROM {batch} JOIN ledger_account AS a ON a.kind = 2 AND a.owner_id = {id:0}
        AND a.cap_window = {int:1} AND a.window_start = {int:2}";

const INSERT_CAP: &str = "INSERT INTO ledger_account
    (id, kind, owner_id, parent_id, cap_window, window_start, credits)
    VALUES ($1, 2, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING";

/// Moves a budget as far as I1 lets it. While that is not all the way, the account is blocked (1, as
/// a frozen one): what comes back must not be granted again. `{clip}` is `debits + leased > $2`.
const MOVE_CAP: &str = "UPDATE ledger_account
    SET credits = CASE WHEN {clip} THEN debits + leased ELSE $2 END,
        flags = CASE WHEN {clip} THEN flags | 1 ELSE flags & ~1 END,
        recall_seq = recall_seq + CASE WHEN {clip} AND flags & 1 = 0 THEN 1 ELSE 0 END,
        version = version + 1
    WHERE id = $1 AND kind = 2 AND (credits <> CASE WHEN {clip} THEN debits + leased ELSE $2 END
        OR flags & 1 <> CASE WHEN {clip} THEN 1 ELSE 0 END)";

/// Batch: `[key]`. The sum of all that its holds cost.
const READ_SPENT: &str = "SELECT {id:0}, CAST(COALESCE((SELECT SUM(h.cost) FROM ledger_hold AS h
        WHERE h.key_id = {id:0} AND h.cost > 0), 0) AS BIGINT) FROM {batch}";

/// The statements for a database.
pub(super) fn statements(backend: DbBackend) -> &'static Statements {
    static SQLITE: LazyLock<Statements> =
        LazyLock::new(|| Statements::new(|text| fill(DbBackend::Sqlite, text)));
    static POSTGRES: LazyLock<Statements> =
        LazyLock::new(|| Statements::new(|text| fill(DbBackend::Postgres, text)));
    if backend == DbBackend::Sqlite { &SQLITE } else { &POSTGRES }
}

/// The statements of a flush for SQLite, each for one row of its batch. (Those of nothing but reads and
/// recovery are in it, too, and not for use.)
pub(super) fn by_row() -> &'static Statements {
    static BY_ROW: LazyLock<Statements> = LazyLock::new(|| Statements::new(fill_by_row));
    &BY_ROW
}

impl Statements {
    fn new(fill: impl Fn(&str) -> String) -> Self {
        Self {
            fence: fill(FENCE),
            read_instance: fill(READ_INSTANCE),
            read_accounts: fill(READ_ACCOUNTS),
            read_leases: fill(READ_LEASES),
            read_rows: fill(READ_ROWS),
            update_accounts: fill(UPDATE_ACCOUNTS),
            update_leases: fill(UPDATE_LEASES),
            insert_leases: fill(INSERT_LEASES),
            insert_holds: fill(INSERT_HOLDS),
            extend_holds: fill(EXTEND_HOLDS),
            checkpoint_holds: fill(CHECKPOINT_HOLDS),
            resolve_holds: fill(RESOLVE_HOLDS),
            insert_transfers: fill(INSERT_TRANSFERS),
            write_usage: fill(WRITE_USAGE),
            insert_attempts: fill(INSERT_ATTEMPTS),
            read_holds: fill(READ_HOLDS),
            register: fill(REGISTER),
            fence_expired: fill(FENCE_EXPIRED),
            fence_all: fill(FENCE_ALL),
            fenced: fill(FENCED),
            lock_instance: fill(LOCK_INSTANCE),
            open_holds: fill(OPEN_HOLDS),
            recover_holds: fill(RECOVER_HOLDS),
            recover_usage: fill(RECOVER_USAGE),
            open_leases: fill(OPEN_LEASES),
            close_leases: fill(CLOSE_LEASES),
            set_instance_state: fill(SET_INSTANCE_STATE),
            read_caps: fill(READ_CAPS),
            insert_cap: fill(INSERT_CAP),
            move_cap: fill(&MOVE_CAP.replace("{clip}", "debits + leased > $2")),
            read_spent: fill(READ_SPENT),
            read_claims: fill(idem::READ_CLAIMS),
            claim_keys: fill(idem::CLAIM_KEYS),
            finish_keys: fill(idem::FINISH_KEYS),
            free_keys: fill(idem::FREE_KEYS),
            find_key: fill(idem::FIND_KEY),
            purge_keys: fill(idem::PURGE_KEYS),
        }
    }
}

/// Most columns of a batch row.
const COLUMNS_MAX: usize = 12;

/// Fills the words in for a database.
pub(in crate::storage) fn fill(backend: DbBackend, text: &str) -> String {
    let sqlite = backend == DbBackend::Sqlite;
    let text = text.replace("{standing}", cut::STANDING);
    let mut sql = if sqlite {
        // `$1` would be a name to SQLite, `?1` is the first parameter to every driver.
        text.replace("{batch}", "json_each($1) AS b")
            .replace("{lock}", "")
            .replace("{lock_or_skip}", "")
            .replace("{me}", "iif(b.id >= 0, $3, NULL)")
            .replace("{me2}", "iif(b.id >= 0, $2, NULL)")
            .replace('$', "?")
            .replace("{now}", "CAST(unixepoch('subsec') * 1000000 AS INTEGER)")
    } else {
        text.replace("{batch}", "jsonb_array_elements($1::jsonb) AS b(value)")
            .replace("{lock}", " FOR UPDATE")
            .replace("{lock_or_skip}", " FOR UPDATE SKIP LOCKED")
            .replace("{me}", "$3")
            .replace("{me2}", "$2")
            .replace("{now}", "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint")
    };
    for column in 0..COLUMNS_MAX {
        let text = format!("(b.value->>{column})");
        let unhex = format!("unhex(b.value->>{column})");
        let (id, int, bytes) = if sqlite {
            (unhex.clone(), text.clone(), unhex)
        } else {
            (format!("{text}::uuid"), format!("{text}::bigint"), format!("decode({text}, 'hex')"))
        };
        sql = sql
            .replace(&format!("{{id:{column}}}"), &id)
            .replace(&format!("{{int:{column}}}"), &int)
            .replace(&format!("{{text:{column}}}"), &text)
            .replace(&format!("{{bytes:{column}}}"), &bytes);
    }
    sql
}

/// Number of the parameter that holds the first column of a row. Those before are the statement's own.
pub(super) const ROW_PARAMETERS_FROM: usize = 10;

/// Fills the words in for SQLite, with the columns of one batch row as parameters.
fn fill_by_row(text: &str) -> String {
    let mut sql = text
        .replace("IN (SELECT {id:0} FROM {batch})", "= {id:0}")
        .replace("{batch} CROSS JOIN ", "")
        .replace("FROM {batch}", "")
        .replace("{me}", "$3")
        .replace("{me2}", "$2");
    for column in 0..COLUMNS_MAX {
        let parameter = format!("${}", ROW_PARAMETERS_FROM + column);
        for word in ["id", "int", "text", "bytes"] {
            sql = sql.replace(&format!("{{{word}:{column}}}"), &parameter);
        }
    }
    fill(DbBackend::Sqlite, &sql)
}

#[cfg(test)]
#[path = "sql_tests.rs"]
mod tests;
