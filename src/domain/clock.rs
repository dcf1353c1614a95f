//! The only place that reads the clocks.
//!
//! Wall time is for people and rows (`…_at`, microseconds since the Unix epoch, UTC); durations
//! and deadlines use [`std::time::Instant`], which never goes backwards.

use std::{
    fmt,
    time::{SystemTime, UNIX_EPOCH},
};

use time::{Date, OffsetDateTime};

/// Microseconds in a second.
pub const MICROS_PER_SECOND: i64 = 1_000_000;

/// Microseconds since the Unix epoch, UTC. The unit of every `…_at` column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UnixMicros(pub i64);

impl UnixMicros {
    /// Whole seconds since the Unix epoch, rounded towards the past.
    #[must_use]
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(MICROS_PER_SECOND)
    }

    /// As JSON shows it: `2026-11-27T00:00:00Z`. A time beyond the year 9999 is shown as its last
    /// second.
    #[must_use]
    pub fn rfc3339(self) -> String {
        let seconds = self.seconds().rem_euclid(86_400);
        let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
        format!("{}T{hour:02}:{minute:02}:{second:02}Z", self.date())
    }

    /// Its day, UTC. A time beyond the year 9999 counts as that year's last day.
    pub(super) fn date(self) -> Date {
        OffsetDateTime::from_unix_timestamp(self.seconds()).map_or(Date::MAX, OffsetDateTime::date)
    }
}

impl fmt::Display for UnixMicros {
    /// To the minute, for messages: `2026-11-27 00:00 UTC`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let minutes = self.seconds().div_euclid(60);
        let (hour, minute) = (minutes.div_euclid(60).rem_euclid(24), minutes.rem_euclid(60));
        write!(f, "{} {hour:02}:{minute:02} UTC", self.date())
    }
}

/// Reads the wall clock. A clock set before 1970 reads as 0.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one reader of the wall clock")]
pub fn now() -> UnixMicros {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMicros(i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX))
}
