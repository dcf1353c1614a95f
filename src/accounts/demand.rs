//! How much credit an account's lease should keep, where instances share the books. Pure, integers.

/// Length of a window, ms.
const WINDOW_MS: u64 = 1_000;
/// Windows that a slice should last (R§8.3: T = 10 s).
const WINDOWS_KEPT: i64 = 10;
/// Windows that a quiet time counts at most: after that nothing of the past is left.
const WINDOWS_MAX: u64 = 40;
/// Holds per second from which an account is hot, and below which it is cold again.
const HOT_HOLDS: u64 = 10;
/// See [`HOT_HOLDS`].
const COLD_HOLDS: u64 = 1;
/// A hold that waits this long for its verdict is worth avoiding, ms.
const SLOW_VERDICT_MS: u64 = 5;
/// Averages are kept in this fraction.
const SCALE: u64 = 256;

/// What an account has asked for lately.
#[derive(Debug, Clone, Default)]
pub(super) struct Demand {
    window: u64,
    /// Of this window.
    holds: u64,
    charged: i64,
    held_peak: i64,
    /// Averages over windows, those of the holds in 1/[`SCALE`].
    holds_average: u64,
    charged_average: i64,
    /// Of the windows before, fading.
    held_before: i64,
    verdict_ms: u64,
    is_hot: bool,
}

impl Demand {
    /// A hold was asked for; `held` is reserved with it.
    pub(super) fn opened(&mut self, now_ms: u64, held: i64) {
        self.roll(now_ms);
        self.holds += 1;
        self.held_peak = self.held_peak.max(held);
    }

    /// A hold ended with this charge.
    pub(super) fn charged(&mut self, now_ms: u64, charge: i64) {
        self.roll(now_ms);
        self.charged = self.charged.saturating_add(charge);
    }

    /// A hold waited this long for its verdict.
    pub(super) fn waited(&mut self, waited_ms: u64) {
        self.verdict_ms = (self.verdict_ms * 3 + waited_ms).div_ceil(4);
    }

    /// Whether the account is worth a slice: it is busy, and either other instances have leases on
    /// it or a verdict takes long.
    pub(super) fn is_hot(&mut self, now_ms: u64, leases: i64) -> bool {
        self.roll(now_ms);
        let holds = (self.holds_average / SCALE).max(self.holds);
        let gains = leases > 1 || self.verdict_ms >= SLOW_VERDICT_MS;
        self.is_hot = if self.is_hot { holds >= COLD_HOLDS } else { holds >= HOT_HOLDS && gains };
        self.is_hot
    }

    /// What a slice should have: what is usually reserved, and what is charged in ten seconds.
    pub(super) fn want(&self) -> i64 {
        let reserved = self.held_peak.max(self.held_before);
        self.charged_average.saturating_mul(WINDOWS_KEPT).saturating_add(reserved)
    }

    fn roll(&mut self, now_ms: u64) {
        let window = now_ms / WINDOW_MS;
        for _ in 0..window.saturating_sub(self.window).min(WINDOWS_MAX) {
            self.holds_average = (self.holds_average * 3 + self.holds * SCALE) / 4;
            self.charged_average = self.charged_average / 4 * 3 + self.charged / 4;
            self.held_before = self.held_peak.max(self.held_before / 4 * 3);
            (self.holds, self.charged, self.held_peak) = (0, 0, 0);
        }
        self.window = window;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_account_gets_a_slice_when_others_want_it_too() {
        let mut demand = Demand::default();
        for hold in 0..HOT_HOLDS {
            demand.opened(hold, 50);
        }
        assert!(!demand.is_hot(10, 1), "nothing is gained");
        assert!(demand.is_hot(10, 2));
        assert!(demand.is_hot(2_000, 1), "it does not flicker");
        assert!(!demand.is_hot(60_000, 2), "and cools down");
    }

    #[test]
    fn slow_verdicts_make_a_busy_account_hot() {
        let mut demand = Demand::default();
        for hold in 0..HOT_HOLDS {
            demand.opened(hold, 50);
            demand.waited(20);
        }
        assert!(demand.is_hot(10, 1));
    }

    #[test]
    fn a_slice_has_what_is_reserved_and_ten_seconds_of_charges() {
        let mut demand = Demand::default();
        for second in 0..40 {
            demand.opened(second * WINDOW_MS, 700);
            demand.charged(second * WINDOW_MS, 100);
        }
        let want = demand.want();
        assert!((1_500..=1_700).contains(&want), "{want}");
        let mut full = Demand::default();
        full.opened(0, i64::MAX);
        full.charged(0, i64::MAX);
        full.opened(WINDOW_MS, 0);
        assert_eq!(full.want(), i64::MAX);
    }
}
