//! Rates per minute: a bucket that fills evenly, as one number.
//!
//! The number is the time at which the bucket is full again (generic cell rate algorithm), so
//! there is nothing to be refilled and nothing to be rounded twice. Times are nanoseconds of any clock
//! that only goes forward.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The time in which an empty bucket is full again, ns.
const MINUTE_NS: u64 = 60_000_000_000;

/// What of a minute's allowance is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RateBucket {
    full_at_ns: u64,
}

/// What a bucket has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateState {
    /// A minute's allowance.
    pub limit: u64,
    /// What can be taken now.
    pub remaining: u64,
    /// Until it is full again, ns.
    pub reset_ns: u64,
}

impl RateBucket {
    /// What can be taken of `limit` per minute.
    #[must_use]
    pub fn state(self, limit: u64, now_ns: u64) -> RateState {
        let reset_ns = self.full_at_ns.saturating_sub(now_ns);
        let free_ns = u128::from(MINUTE_NS.saturating_sub(reset_ns));
        let remaining = free_ns * u128::from(limit) / u128::from(MINUTE_NS);
        RateState { limit, remaining: u64::try_from(remaining).unwrap_or(limit), reset_ns }
    }

    /// How long to wait until `count` fit, ns; `None`: they fit now. More than a minute's allowance
    /// is let in when the bucket is full.
    #[must_use]
    pub fn wait_ns(self, count: u64, limit: u64, now_ns: u64) -> Option<u64> {
        let used = self.full_at_ns.saturating_sub(now_ns);
        let most = MINUTE_NS.saturating_sub(cost_ns(count, limit).min(MINUTE_NS));
        used.checked_sub(most).filter(|wait| *wait > 0)
    }

    /// Takes `count`, whether they fit or not: what is used is used.
    pub fn take(&mut self, count: u64, limit: u64, now_ns: u64) {
        self.full_at_ns = self.full_at_ns.max(now_ns).saturating_add(cost_ns(count, limit));
    }
}

/// What an administrator sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RateSetting {
    /// What the server says.
    Default,
    /// So many in a minute; 0: any number.
    PerMinute(u64),
}

impl RateSetting {
    /// The number, when there is one.
    #[must_use]
    pub const fn number(self) -> Option<u64> {
        match self {
            Self::Default => None,
            Self::PerMinute(number) => Some(number),
        }
    }
}

/// A text is neither a number nor `default`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it must be a whole number up to 1000000000000 (0: any number), or the word default")]
pub struct ParseRateError;

/// Highest rate that can be set.
const RATE_MAX: u64 = 1_000_000_000_000;

impl FromStr for RateSetting {
    type Err = ParseRateError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "default" {
            return Ok(Self::Default);
        }
        let number = text.parse().ok().filter(|number| *number <= RATE_MAX);
        number.map(Self::PerMinute).ok_or(ParseRateError)
    }
}

/// The time in which `count` come anew, rounded up.
fn cost_ns(count: u64, limit: u64) -> u64 {
    let cost = (u128::from(count) * u128::from(MINUTE_NS)).div_ceil(u128::from(limit.max(1)));
    u64::try_from(cost).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_minutes_allowance_may_be_taken_at_once_and_comes_back_evenly() {
        let (mut bucket, mut now) = (RateBucket::default(), 5 * SECOND);
        for taken in 0..60 {
            assert_eq!(bucket.state(60, now).remaining, 60 - taken);
            assert_eq!(bucket.wait_ns(1, 60, now), None, "{taken}");
            bucket.take(1, 60, now);
        }
        assert_eq!(bucket.wait_ns(1, 60, now), Some(SECOND));
        assert_eq!(
            bucket.state(60, now),
            RateState { limit: 60, remaining: 0, reset_ns: 60 * SECOND }
        );
        now += SECOND;
        assert_eq!(bucket.wait_ns(1, 60, now), None);
        assert_eq!(bucket.wait_ns(2, 60, now), Some(SECOND));
        now += 10 * SECOND;
        assert_eq!(bucket.state(60, now).remaining, 11);
        now += 100 * SECOND;
        assert_eq!(bucket.state(60, now), RateState { limit: 60, remaining: 60, reset_ns: 0 });
    }

    #[test]
    fn what_was_used_beyond_the_allowance_is_waited_for() {
        let mut bucket = RateBucket::default();
        bucket.take(250, 100, 0);
        assert_eq!(bucket.state(100, 0).remaining, 0);
        assert_eq!(bucket.wait_ns(1, 100, 0), Some(90 * SECOND + 600_000_000));
        assert_eq!(bucket.wait_ns(1, 100, 91 * SECOND), None);
    }

    #[test]
    fn more_than_the_allowance_is_let_in_by_a_full_bucket_only() {
        let mut bucket = RateBucket::default();
        assert_eq!(bucket.wait_ns(500, 100, 7), None);
        bucket.take(1, 100, 7);
        assert_eq!(bucket.wait_ns(500, 100, 7), Some(600_000_000));
    }

    proptest! {
        #[test]
        fn no_sequence_lets_in_more_than_the_allowance_and_what_came_anew(
            limit in 1_u64..100_000,
            steps in proptest::collection::vec((0_u64..2 * SECOND, 1_u64..50), 1..200),
        ) {
            let (mut bucket, mut now, mut taken) = (RateBucket::default(), 0, 0_u128);
            for (pause, count) in steps {
                now += pause;
                if bucket.wait_ns(count, limit, now).is_none() && count <= limit {
                    bucket.take(count, limit, now);
                    taken += u128::from(count);
                }
                let anew = u128::from(now) * u128::from(limit) / u128::from(MINUTE_NS);
                prop_assert!(taken <= u128::from(limit) + anew + 1);
            }
        }

        #[test]
        fn any_numbers_are_taken_without_a_panic(
            count in any::<u64>(), limit in any::<u64>(), now in any::<u64>(), full in any::<u64>(),
        ) {
            let mut bucket = RateBucket { full_at_ns: full };
            let _ = bucket.wait_ns(count, limit, now);
            let _ = bucket.state(limit, now);
            bucket.take(count, limit, now);
        }
    }
}
