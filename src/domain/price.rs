//! Prices and the one rounding of a charge.

use serde::{Deserialize, Serialize};

use super::{money::NanoUsd, usage::Usage};

/// Basis points in the whole: 10,000 bp = 100 %.
pub const BPS_ONE: i128 = 10_000;
/// Pico-USD in one nano-USD.
const PICO_PER_NANO: i128 = 1_000;

/// Provider prices in pico-USD (10⁻¹² USD) per token. $0.0375 per million tokens is 37,500.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct TokenPrices {
    /// Per uncached input token.
    pub input_pico: i64,
    /// Per input token read from a cache.
    pub cache_read_pico: i64,
    /// Per input token written to a 5-minute cache.
    pub cache_write_5m_pico: i64,
    /// Per input token written to a 1-hour cache.
    pub cache_write_1h_pico: i64,
    /// Per output token, reasoning included.
    pub output_pico: i64,
}

impl TokenPrices {
    /// Whether every bucket is free (then no hold is taken).
    #[must_use]
    pub const fn is_free(&self) -> bool {
        self.input_pico == 0
            && self.cache_read_pico == 0
            && self.cache_write_5m_pico == 0
            && self.cache_write_1h_pico == 0
            && self.output_pico == 0
    }

    /// The dearest price that an input token of this request can have. Cache writes only happen
    /// where the request can ask for them.
    #[must_use]
    pub fn dearest_input_pico(&self, may_write_cache: bool) -> i64 {
        let base = self.input_pico.max(self.cache_read_pico);
        if may_write_cache {
            base.max(self.cache_write_5m_pico).max(self.cache_write_1h_pico)
        } else {
            base
        }
    }
}

/// What a customer pays: provider prices and our markup, rounded together, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ChargeRate {
    /// Provider prices.
    pub prices: TokenPrices,
    /// Markup in basis points of the provider's cost (500 = 5 %).
    pub markup_bps: i64,
}

impl ChargeRate {
    /// Cost of `usage` with markup, in nano-USD, rounded up once.
    ///
    /// `None` when the cost leaves `i64` nano-USD (such usage is implausible).
    ///
    /// # Examples
    /// ```
    /// use faces::domain::{ChargeRate, NanoUsd, TokenPrices, Usage};
    /// let rate = ChargeRate {
    ///     prices: TokenPrices { input_pico: 150_000, output_pico: 600_000, ..Default::default() },
    ///     markup_bps: 500,
    /// };
    /// let usage = Usage { input_uncached: 512, output_text: 128, ..Default::default() };
    /// // (512 × 0.15 + 128 × 0.60) / 1,000,000 × 1.05 = 0.00016128 USD
    /// assert_eq!(rate.charge_rounding_up(&usage), Some(NanoUsd(161_280)));
    /// ```
    #[must_use]
    pub fn charge_rounding_up(&self, usage: &Usage) -> Option<NanoUsd> {
        let prices = &self.prices;
        let buckets = [
            (usage.input_uncached, prices.input_pico),
            (usage.cache_read, prices.cache_read_pico),
            (usage.cache_write_5m, prices.cache_write_5m_pico),
            (usage.cache_write_1h, prices.cache_write_1h_pico),
            (usage.output_text, prices.output_pico),
            (usage.reasoning, prices.output_pico),
        ];
        let mut provider_pico: i128 = 0;
        for (tokens, price) in buckets {
            let cost = i128::from(tokens).checked_mul(i128::from(price))?;
            provider_pico = provider_pico.checked_add(cost)?;
        }
        self.with_markup_rounding_up(provider_pico)
    }

    /// The most that `input_tokens_max` input and `output_tokens_max` output tokens can cost.
    ///
    /// Keeps I8: for every usage within the two bounds, [`Self::charge_rounding_up`] is at most
    /// this amount. `None` as there.
    #[must_use]
    pub fn hold_rounding_up(
        &self,
        input_tokens_max: u64,
        output_tokens_max: u64,
        may_write_cache: bool,
    ) -> Option<NanoUsd> {
        let input = i128::from(input_tokens_max)
            .checked_mul(i128::from(self.prices.dearest_input_pico(may_write_cache)))?;
        let output =
            i128::from(output_tokens_max).checked_mul(i128::from(self.prices.output_pico))?;
        self.with_markup_rounding_up(input.checked_add(output)?)
    }

    /// How many output tokens `available` pays for beside `input_tokens_max` of input, rounded
    /// down; `u64::MAX` when output is free and the input fits.
    #[must_use]
    pub fn affordable_output_tokens_rounding_down(
        &self,
        available: NanoUsd,
        input_tokens_max: u64,
        may_write_cache: bool,
    ) -> u64 {
        let fits = |output: u64| {
            self.hold_rounding_up(input_tokens_max, output, may_write_cache)
                .is_some_and(|hold| hold <= available)
        };
        if !fits(0) {
            return 0;
        }
        if self.prices.output_pico == 0 {
            return u64::MAX;
        }
        let (mut low, mut high) = (0_u64, 1_u64 << 40);
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            if fits(middle) {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        low
    }

    fn with_markup_rounding_up(&self, provider_pico: i128) -> Option<NanoUsd> {
        let scaled = provider_pico.checked_mul(BPS_ONE + i128::from(self.markup_bps))?;
        let divisor = BPS_ONE * PICO_PER_NANO;
        let nano = scaled.checked_add(divisor - 1)?.div_euclid(divisor);
        i64::try_from(nano).ok().map(NanoUsd)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rate() -> impl Strategy<Value = ChargeRate> {
        (proptest::array::uniform5(0_i64..200_000_000), 0_i64..20_000).prop_map(
            |(price, markup_bps)| ChargeRate {
                prices: TokenPrices {
                    input_pico: price[0],
                    cache_read_pico: price[1],
                    cache_write_5m_pico: price[2],
                    cache_write_1h_pico: price[3],
                    output_pico: price[4],
                },
                markup_bps,
            },
        )
    }

    proptest! {
        #[test]
        fn no_usage_within_the_bounds_costs_more_than_the_hold(
            rate in rate(),
            buckets in proptest::array::uniform6(0_u64..300_000),
            slack in 0_u64..1_000,
        ) {
            let usage = Usage {
                input_uncached: buckets[0], cache_read: buckets[1], cache_write_5m: buckets[2],
                cache_write_1h: buckets[3], output_text: buckets[4], reasoning: buckets[5],
            };
            let hold = rate
                .hold_rounding_up(usage.input_total() + slack, usage.output_total() + slack, true)
                .unwrap();
            prop_assert!(rate.charge_rounding_up(&usage).unwrap() <= hold);
        }

        #[test]
        fn affordable_output_is_the_largest_that_fits(
            rate in rate(), available in 0_i64..50_000_000_000, input in 0_u64..10_000,
        ) {
            let available = NanoUsd(available);
            let tokens = rate.affordable_output_tokens_rounding_down(available, input, false);
            prop_assume!(tokens != u64::MAX && tokens > 0);
            prop_assert!(rate.hold_rounding_up(input, tokens, false).unwrap() <= available);
            if tokens < 1 << 40 {
                prop_assert!(rate.hold_rounding_up(input, tokens + 1, false).unwrap() > available);
            }
        }
    }

    #[test]
    fn a_fraction_of_a_nano_is_rounded_up_and_only_once() {
        let rate = ChargeRate {
            prices: TokenPrices { input_pico: 1, output_pico: 1, ..Default::default() },
            markup_bps: 500,
        };
        let one = Usage { input_uncached: 1, ..Default::default() };
        let both = Usage { input_uncached: 1, output_text: 1, ..Default::default() };
        assert_eq!(rate.charge_rounding_up(&one), Some(NanoUsd(1)));
        assert_eq!(rate.charge_rounding_up(&both), Some(NanoUsd(1)));
        assert_eq!(rate.charge_rounding_up(&Usage::default()), Some(NanoUsd(0)));
    }

    #[test]
    fn a_cost_beyond_i64_is_none_and_never_wraps() {
        let rate = ChargeRate {
            prices: TokenPrices { input_pico: i64::MAX, ..Default::default() },
            markup_bps: 0,
        };
        let usage = Usage { input_uncached: u64::MAX, ..Default::default() };
        assert_eq!(rate.charge_rounding_up(&usage), None);
    }
}
