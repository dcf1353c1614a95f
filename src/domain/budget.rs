//! Budgets of keys: a limit, and the window of time that it counts in.

use serde::{Deserialize, Serialize};
use time::{Date, Duration};

use super::{
    clock::{MICROS_PER_SECOND, UnixMicros},
    money::NanoUsd,
};

const DAYS_PER_WEEK: i64 = 7;

/// How much a key may spend, and in which time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyBudget {
    /// The most that a window's requests may cost, nano-USD, not below 0.
    pub limit: NanoUsd,
    /// When it begins anew.
    pub window: BudgetWindow,
}

/// When a budget begins anew, always at midnight UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BudgetWindow {
    /// Never: one window for ever.
    #[serde(rename = "none")]
    Forever,
    /// Each day.
    Daily,
    /// Each Monday.
    Weekly,
    /// On the first of each month.
    Monthly,
}

/// One window of a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowBounds {
    /// Its first moment; 0 for [`BudgetWindow::Forever`].
    pub start: UnixMicros,
    /// The first moment after it; `None` when it never ends.
    pub end: Option<UnixMicros>,
}

impl BudgetWindow {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Forever, Self::Daily, Self::Weekly, Self::Monthly];

    /// The word used on the command line and in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Forever => "none",
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
        }
    }

    /// Inverse of [`Self::as_str`].
    ///
    /// # Errors
    /// A text that names the words.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let found = Self::ALL.into_iter().find(|window| window.as_str() == text);
        found.ok_or("it must be none, daily, weekly or monthly")
    }

    /// The number kept in `api_key.budget_window` and `ledger_account.cap_window`.
    #[must_use]
    pub const fn db_code(self) -> i16 {
        match self {
            Self::Forever => 1,
            Self::Daily => 2,
            Self::Weekly => 3,
            Self::Monthly => 4,
        }
    }

    /// Inverse of [`Self::db_code`].
    #[must_use]
    pub fn from_db_code(code: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|window| window.db_code() == code)
    }

    /// The window that `at` is in. A time beyond the year 9999 counts as that year's last day.
    ///
    /// # Examples
    /// ```
    /// use faces::domain::{BudgetWindow, clock::UnixMicros};
    /// // 2026-11-26 14:00 UTC, a Thursday.
    /// let bounds = BudgetWindow::Weekly.bounds(UnixMicros(1_795_701_600_000_000));
    /// assert_eq!(bounds.start.to_string(), "2026-11-23 00:00 UTC");
    /// assert_eq!(bounds.end.unwrap().to_string(), "2026-11-30 00:00 UTC");
    /// ```
    #[must_use]
    pub fn bounds(self, at: UnixMicros) -> WindowBounds {
        let day = at.date();
        let (first, days) = match self {
            Self::Forever => return WindowBounds { start: UnixMicros(0), end: None },
            Self::Daily => (day, 1),
            Self::Weekly => {
                let since_monday = i64::from(day.weekday().number_days_from_monday());
                (day.saturating_sub(Duration::days(since_monday)), DAYS_PER_WEEK)
            }
            Self::Monthly => {
                let before = Duration::days(i64::from(day.day()) - 1);
                (day.saturating_sub(before), i64::from(day.month().length(day.year())))
            }
        };
        let end = midnight(first.saturating_add(Duration::days(days)));
        WindowBounds { start: midnight(first), end: Some(end) }
    }
}

fn midnight(date: Date) -> UnixMicros {
    UnixMicros(date.midnight().assume_utc().unix_timestamp().saturating_mul(MICROS_PER_SECOND))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::{OffsetDateTime, format_description::well_known::Rfc3339};

    use super::*;

    /// A time given as `2026-11-26T14:00:00Z`.
    fn at(text: &str) -> UnixMicros {
        let seconds = OffsetDateTime::parse(text, &Rfc3339).unwrap().unix_timestamp();
        UnixMicros(seconds * MICROS_PER_SECOND)
    }

    #[track_caller]
    fn check(window: BudgetWindow, now: &str, start: &str, end: &str) {
        let bounds = window.bounds(at(now));
        let told = (bounds.start.to_string(), bounds.end.map(|end| end.to_string()));
        let expected = |day: &str| format!("{day} 00:00 UTC");
        assert_eq!(told, (expected(start), Some(expected(end))), "{window:?} at {now}");
        let last = UnixMicros(bounds.end.unwrap().0 - 1);
        assert_eq!(window.bounds(last), bounds, "the last microsecond belongs to it");
        assert_eq!(window.bounds(bounds.start), bounds, "so does the first");
        assert_eq!(window.bounds(bounds.end.unwrap()).start, bounds.end.unwrap());
    }

    #[test]
    fn a_day_begins_at_midnight_utc() {
        let daily = BudgetWindow::Daily;
        check(daily, "2026-11-26T14:13:17Z", "2026-11-26", "2026-11-27");
        check(daily, "2026-11-26T23:59:59Z", "2026-11-26", "2026-11-27");
        check(daily, "2026-11-27T01:30:00+02:00", "2026-11-26", "2026-11-27");
        check(daily, "2026-12-31T12:00:00Z", "2026-12-31", "2027-01-01");
        check(daily, "2028-02-28T12:00:00Z", "2028-02-28", "2028-02-29");
        check(daily, "2027-02-28T12:00:00Z", "2027-02-28", "2027-03-01");
    }

    #[test]
    fn a_week_begins_on_monday() {
        let weekly = BudgetWindow::Weekly;
        check(weekly, "2026-11-23T00:00:00Z", "2026-11-23", "2026-11-30");
        check(weekly, "2026-11-29T23:59:59Z", "2026-11-23", "2026-11-30");
        check(weekly, "2026-12-31T08:00:00Z", "2026-12-28", "2027-01-04");
        check(weekly, "2028-03-01T08:00:00Z", "2028-02-28", "2028-03-06");
        check(weekly, "1970-01-01T00:00:00Z", "1969-12-29", "1970-01-05");
    }

    #[test]
    fn a_month_begins_on_the_first_whatever_its_length() {
        let monthly = BudgetWindow::Monthly;
        check(monthly, "2026-11-26T14:13:17Z", "2026-11-01", "2026-12-01");
        check(monthly, "2026-12-31T23:59:59Z", "2026-12-01", "2027-01-01");
        check(monthly, "2027-01-31T00:00:00Z", "2027-01-01", "2027-02-01");
        check(monthly, "2027-02-28T23:59:59Z", "2027-02-01", "2027-03-01");
        check(monthly, "2028-02-29T23:59:59Z", "2028-02-01", "2028-03-01");
        check(monthly, "2100-02-28T23:59:59Z", "2100-02-01", "2100-03-01");
        check(monthly, "2000-02-29T00:00:00Z", "2000-02-01", "2000-03-01");
    }

    #[test]
    fn a_budget_without_a_window_has_one_for_ever() {
        let bounds = BudgetWindow::Forever.bounds(at("2026-11-26T14:13:17Z"));
        assert_eq!(bounds, WindowBounds { start: UnixMicros(0), end: None });
    }

    #[test]
    fn each_word_and_each_code_reads_back() {
        for window in BudgetWindow::ALL {
            assert_eq!(BudgetWindow::parse(window.as_str()), Ok(window));
            assert_eq!(BudgetWindow::from_db_code(window.db_code()), Some(window));
            let json = serde_json::to_string(&window).unwrap();
            assert_eq!(json, format!("\"{}\"", window.as_str()));
            assert_eq!(serde_json::from_str::<BudgetWindow>(&json).unwrap(), window);
        }
        assert!(BudgetWindow::parse("hourly").is_err());
        assert_eq!(BudgetWindow::from_db_code(0), None);
    }

    proptest! {
        #[test]
        fn every_moment_is_in_exactly_one_window(micros in any::<i64>(), which in 1_usize..4) {
            let window = BudgetWindow::ALL[which];
            // Years 1 to 9998.
            let micros = micros.rem_euclid(315_000_000_000_000_000) - 62_000_000_000_000_000;
            let bounds = window.bounds(UnixMicros(micros));
            let end = bounds.end.unwrap();
            prop_assert!(bounds.start.0 <= micros && micros < end.0);
            prop_assert_eq!(window.bounds(UnixMicros(bounds.start.0 - 1)).end, Some(bounds.start));
            prop_assert_eq!(window.bounds(end).start, end);
        }

        #[test]
        fn no_clock_is_too_wrong(micros in any::<i64>()) {
            for window in BudgetWindow::ALL {
                let bounds = window.bounds(UnixMicros(micros));
                prop_assert!(bounds.end.is_none_or(|end| bounds.start <= end));
            }
        }
    }
}
