//! The cut: an id below which every hold is resolved and nothing is written any more.
//!
//! Ids of holds and of transfers are UUIDv7, made just before the row.

use sea_orm::{DbErr, QueryResult};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

/// The cut stays this far behind the database's clock, and behind an instance that gives no sign of
/// life: a row can become durable 10 minutes after its id was made (`ledger_wait_ms` is at most
/// 600 s), and 5 more are for instances whose clocks differ.
const BEHIND_MS: i64 = 15 * 60 * 1_000;
/// The low bits of a UUIDv7, below its milliseconds.
const BELOW_MS: u32 = 80;
const MICROS_PER_MS: i64 = 1_000;
const NANOS_PER_MS: i128 = 1_000_000;

/// What keeps the cut back, as three columns (`{standing}` of a statement). The open holds come from
/// their index whatever the planner thinks of the order of the primary key.
pub(super) const STANDING: &str = "{now},
    (SELECT MIN(expires_at) FROM ledger_instance WHERE state IN (1, 2)),
    (WITH open AS MATERIALIZED (SELECT id FROM ledger_hold WHERE state = 1)
        SELECT id FROM open ORDER BY id LIMIT 1)";

/// The highest cut, from the columns of [`STANDING`], of which `column` is the first.
pub(super) fn highest(row: &QueryResult, column: usize) -> Result<Uuid, DbErr> {
    let now: i64 = row.try_get_by_index(column)?;
    let expires_first: Option<i64> = row.try_get_by_index(column + 1)?;
    let alive_until = expires_first.map_or(now, |expires| expires.min(now));
    let highest = first_id_at(alive_until / MICROS_PER_MS - BEHIND_MS);
    let open_first: Option<Uuid> = row.try_get_by_index(column + 2)?;
    Ok(open_first.map_or(highest, |open| open.min(highest)))
}

/// The lowest id that a UUIDv7 of this moment can have, Unix milliseconds.
fn first_id_at(unix_ms: i64) -> Uuid {
    Uuid::from_u128(u128::from(unix_ms.max(0).cast_unsigned()) << BELOW_MS)
}

/// The moment of a UUIDv7 as RFC 3339; `None` beyond the calendar.
pub(super) fn moment(id: Uuid) -> Option<String> {
    let unix_ms = i128::try_from(id.as_u128() >> BELOW_MS).ok()?;
    let moment = OffsetDateTime::from_unix_timestamp_nanos(unix_ms * NANOS_PER_MS).ok()?;
    moment.format(&Rfc3339).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cut_of_a_moment_is_below_every_id_of_it_and_above_all_before() {
        let unix_ms = 1_764_000_000_123_u64;
        let lowest = uuid::Builder::from_unix_timestamp_millis(unix_ms, &[0; 10]).into_uuid();
        let before = uuid::Builder::from_unix_timestamp_millis(unix_ms - 1, &[255; 10]).into_uuid();
        let cut = first_id_at(unix_ms.cast_signed());
        assert!(before < cut && cut < lowest);
        assert_eq!(moment(cut).as_deref(), Some("2025-11-24T16:00:00.123Z"));
        assert_eq!(moment(lowest), moment(cut));
        assert_eq!(first_id_at(-1), Uuid::nil());
    }
}
