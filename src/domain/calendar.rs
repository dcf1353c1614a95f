//! Days and months in UTC, as reports and statements count them.

use std::{fmt, str::FromStr};

use time::{
    Date, Month as MonthName, OffsetDateTime, PrimitiveDateTime, UtcOffset,
    format_description::well_known::{Iso8601, Rfc3339},
};

use super::clock::{MICROS_PER_SECOND, UnixMicros};

const SECONDS_PER_DAY: i64 = 86_400;
/// Characters of `2026-11-26`.
const DATE_CHARS: usize = 10;
/// The Julian day of 1970-01-01.
const EPOCH_JULIAN: i64 = 2_440_588;

/// A day in UTC, counted from 1970-01-01.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Day(pub i64);

impl Day {
    /// The day of a moment.
    #[must_use]
    pub const fn of(at: UnixMicros) -> Self {
        Self(at.seconds().div_euclid(SECONDS_PER_DAY))
    }

    /// Its first moment.
    #[must_use]
    pub const fn start(self) -> UnixMicros {
        UnixMicros(self.0.saturating_mul(SECONDS_PER_DAY * MICROS_PER_SECOND))
    }

    /// Reads `2026-11-26`, or a moment of that day: `2026-11-26T14:00:00Z`, with another offset (its
    /// day in UTC counts), or without one (UTC).
    ///
    /// # Examples
    /// ```
    /// use faces::domain::Day;
    /// assert_eq!(Day::parse("2026-11-26").unwrap().to_string(), "2026-11-26");
    /// assert_eq!(Day::parse("2026-11-26T23:30:00-02:00"), Day::parse("2026-11-27"));
    /// assert_eq!(Day::parse("26.11.2026"), None);
    /// ```
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let date = if text.len() == DATE_CHARS {
            Date::parse(text, &Iso8601::DATE).ok()
        } else if let Ok(moment) = OffsetDateTime::parse(text, &Rfc3339) {
            moment.checked_to_offset(UtcOffset::UTC).map(OffsetDateTime::date)
        } else {
            PrimitiveDateTime::parse(text, &Iso8601::DATE_TIME).ok().map(PrimitiveDateTime::date)
        };
        date.map(Self::from)
    }

    fn date(self) -> Date {
        let julian = i32::try_from(self.0.saturating_add(EPOCH_JULIAN)).unwrap_or(i32::MAX);
        Date::from_julian_day(julian).unwrap_or(Date::MAX)
    }
}

impl From<Date> for Day {
    fn from(date: Date) -> Self {
        Self(i64::from(date.to_julian_day()) - EPOCH_JULIAN)
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.date().fmt(f)
    }
}

/// A month in UTC, counted from year 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Month(i32);

impl Month {
    /// The month of a day.
    #[must_use]
    pub fn of(day: Day) -> Self {
        let date = day.date();
        Self(date.year() * 12 + i32::from(u8::from(date.month())) - 1)
    }

    /// Its first day.
    #[must_use]
    pub fn first(self) -> Day {
        let number = u8::try_from(self.0.rem_euclid(12) + 1).unwrap_or(1);
        let month = MonthName::try_from(number).unwrap_or(MonthName::January);
        Date::from_calendar_date(self.0.div_euclid(12), month, 1).unwrap_or(Date::MAX).into()
    }

    /// Its last day.
    #[must_use]
    pub fn last(self) -> Day {
        Day(self.next().first().0 - 1)
    }

    /// The month after it.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The month before it.
    #[must_use]
    pub const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Month {
    /// `2026-11`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.0.div_euclid(12), self.0.rem_euclid(12) + 1)
    }
}

/// A text is not a month such as `2026-11`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a month is written like 2026-11")]
pub struct ParseMonthError;

impl FromStr for Month {
    type Err = ParseMonthError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_month = text.len() == 7 && text.is_ascii();
        let first = is_month.then(|| Date::parse(&format!("{text}-01"), &Iso8601::DATE).ok());
        first.flatten().map(|date| Self::of(date.into())).ok_or(ParseMonthError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_begins_at_midnight_and_ends_before_the_next_one() {
        let day = Day::parse("2026-11-26").unwrap();
        assert_eq!(Day::of(day.start()), day);
        assert_eq!(Day::of(UnixMicros(day.start().0 - 1)), Day(day.0 - 1));
        assert_eq!(Day(day.0 + 1).start().0 - day.start().0, 86_400_000_000);
        assert_eq!(Day::of(UnixMicros(0)).to_string(), "1970-01-01");
    }

    #[test]
    fn days_are_read_as_dates_and_as_moments() {
        let day = Day::parse("2026-11-26");
        for text in ["2026-11-26T00:00:00Z", "2026-11-26T23:59:59.999Z", "2026-11-26T23:59:59"] {
            assert_eq!(Day::parse(text), day, "{text}");
        }
        assert_eq!(Day::parse("2026-11-27T00:30:00+01:00"), day);
        for text in ["", "2026", "2026-13-01", "2026-02-30", "yesterday", "2026-11-26 ", "1"] {
            assert_eq!(Day::parse(text), None, "{text}");
        }
    }

    #[test]
    fn months_follow_each_other_without_a_gap() {
        let mut month: Month = "2023-11".parse().unwrap();
        for _ in 0..30 {
            assert_eq!(month.next().first().0, month.last().0 + 1, "{month}");
            assert_eq!((Month::of(month.first()), Month::of(month.last())), (month, month));
            assert_eq!(month.to_string().parse(), Ok(month));
            assert_eq!(month.next().previous(), month);
            month = month.next();
        }
        let leap: Month = "2024-02".parse().unwrap();
        assert_eq!(leap.last().to_string(), "2024-02-29");
        for text in ["", "2026", "2026-13", "2026-00", "2026-1", "2026-11-01", "20é6-1"] {
            assert_eq!(text.parse::<Month>(), Err(ParseMonthError), "{text}");
        }
    }
}
