//! How large a hold must be, and what to tell the provider.

use super::Failure;
use crate::{
    domain::{ChargeRate, ErrorCode, NanoUsd, TokenPrices, Usage},
    providers::Model,
    wire::InputBound,
};

/// Tokens that a chat template adds to each message (role, separators). OpenAI's own counting
/// guide has 3–4; doubled, because other templates are wordier.
const MESSAGE_OVERHEAD_TOKENS: u64 = 8;
/// Tokens that a template adds to the whole conversation.
const REQUEST_OVERHEAD_TOKENS: u64 = 64;
/// The least that a clamped answer may have: below it a reply is not worth paying for.
pub(super) const CLAMP_OUTPUT_TOKENS_MIN: u64 = 256;
/// Bytes of text per token when a usage must be estimated (not bounded): the usual English rate.
const BYTES_PER_TOKEN_ESTIMATE: u64 = 4;

/// What one request can cost at most.
#[derive(Debug, Clone, Copy)]
pub(super) struct Estimate {
    /// No tokenizer yields more tokens than this for the input: a token covers at least one byte.
    pub(super) input_tokens_max: u64,
    /// What the input probably has, for a usage that the provider never told.
    pub(super) input_tokens_estimate: u64,
    /// Most output tokens, over all choices.
    pub(super) output_tokens_max: u64,
    /// Whether the client asked for a number.
    pub(super) output_is_given: bool,
    /// Choices asked for.
    pub(super) choices: u64,
    /// Whether the request can write to a prompt cache.
    pub(super) may_write_cache: bool,
    /// Output tokens that are held at a time; `None`: all of them, from the beginning.
    pub(super) slice_tokens: Option<u64>,
}

/// A hold to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ask {
    /// What is reserved at first: the input and a slice of output, or the worst case.
    pub(super) amount: NanoUsd,
    /// Worst case.
    pub(super) amount_max: NanoUsd,
    /// What the account must be able to afford for the request to start: the worst case of what
    /// the client asked for, or the least that is worth starting with.
    pub(super) funds_min: NanoUsd,
    /// Price of a slice of output.
    pub(super) slice: NanoUsd,
}

/// An answer that was made shorter, because the account can't afford the model's longest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Clamp {
    /// `max_tokens` to send upstream: of one choice.
    pub(super) max_tokens: u64,
    /// What the request can cost with it.
    pub(super) amount_max: NanoUsd,
}

impl Estimate {
    /// Bounds a request to `model`: `persona_bytes` are added to the input.
    pub(super) fn new(
        model: &Model,
        bound: &InputBound,
        persona_bytes: usize,
        max_tokens: Option<u64>,
        choices: u64,
        may_write_cache: bool,
    ) -> Self {
        let persona_bytes = u64::try_from(persona_bytes).unwrap_or(u64::MAX);
        let text = bound.text_bytes.saturating_add(persona_bytes);
        let images = bound.image_count.saturating_mul(model.image_tokens_max);
        let overhead = bound
            .message_count
            .saturating_mul(MESSAGE_OVERHEAD_TOKENS)
            .saturating_add(REQUEST_OVERHEAD_TOKENS);
        let bounded =
            text.saturating_add(images).saturating_add(bound.file_bytes).saturating_add(overhead);
        let estimate =
            (text / BYTES_PER_TOKEN_ESTIMATE).saturating_add(images).saturating_add(overhead);
        let choices = choices.max(1);
        let per_choice = max_tokens.unwrap_or(model.output_tokens_max).min(model.output_tokens_max);
        Self {
            input_tokens_max: bounded.min(model.context_tokens_max),
            input_tokens_estimate: estimate.min(model.context_tokens_max),
            output_tokens_max: per_choice.saturating_mul(choices),
            output_is_given: max_tokens.is_some(),
            choices,
            may_write_cache,
            slice_tokens: None,
        }
    }

    /// The input's bound, in the bucket that would cost most.
    pub(super) fn input_max(&self, prices: &TokenPrices) -> Usage {
        let tokens = self.input_tokens_max;
        let dearest = prices.dearest_input_pico(self.may_write_cache);
        let mut usage = Usage::default();
        let buckets = [
            (&mut usage.input_uncached, prices.input_pico),
            (&mut usage.cache_read, prices.cache_read_pico),
            (&mut usage.cache_write_5m, prices.cache_write_5m_pico),
            (&mut usage.cache_write_1h, prices.cache_write_1h_pico),
        ];
        if let Some((bucket, _)) = buckets.into_iter().find(|(_, price)| *price == dearest) {
            *bucket = tokens;
        }
        usage
    }

    /// The hold to ask for at `rate`.
    ///
    /// # Errors
    /// 422 when the worst case is beyond any amount of money (`n` or `max_tokens` is absurd).
    pub(super) fn ask(&self, rate: &ChargeRate) -> Result<Ask, Failure> {
        let hold = |output| self.cost_max(rate, output);
        let too_much = || {
            Failure::new(
                ErrorCode::InvalidRequest,
                "This request could cost more than any account can hold.",
            )
        };
        let amount_max = hold(self.output_tokens_max).ok_or_else(too_much)?;
        let slice_tokens = self.slice_tokens.unwrap_or(u64::MAX).min(self.output_tokens_max);
        let amount = hold(slice_tokens).ok_or_else(too_much)?;
        let slice = rate.hold_rounding_up(0, slice_tokens, false).ok_or_else(too_much)?;
        let least = CLAMP_OUTPUT_TOKENS_MIN.saturating_mul(self.choices);
        let funds_min = if self.output_is_given || least >= self.output_tokens_max {
            amount_max
        } else {
            hold(least).ok_or_else(too_much)?
        };
        Ok(Ask { amount, amount_max, funds_min, slice })
    }

    /// The shorter answer to ask for when the account can't afford the whole of `ask`.
    pub(super) fn clamp(&self, rate: &ChargeRate, ask: &Ask, affordable: NanoUsd) -> Option<Clamp> {
        if affordable >= ask.amount_max {
            return None;
        }
        let max_tokens = self.affordable(rate, affordable);
        let amount_max = self.cost_max(rate, max_tokens.saturating_mul(self.choices))?;
        Some(Clamp { max_tokens, amount_max })
    }

    fn cost_max(&self, rate: &ChargeRate, output_tokens: u64) -> Option<NanoUsd> {
        rate.hold_rounding_up(self.input_tokens_max, output_tokens, self.may_write_cache)
    }

    /// Output tokens per choice that `amount` pays for.
    pub(super) fn affordable(&self, rate: &ChargeRate, amount: NanoUsd) -> u64 {
        rate.affordable_output_tokens_rounding_down(
            amount,
            self.input_tokens_max,
            self.may_write_cache,
        )
        .min(self.output_tokens_max)
            / self.choices
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: ChargeRate = ChargeRate {
        prices: TokenPrices {
            input_pico: 1_000_000,
            cache_read_pico: 100_000,
            cache_write_5m_pico: 1_250_000,
            cache_write_1h_pico: 2_000_000,
            output_pico: 10_000_000,
        },
        markup_bps: 0,
    };

    /// 100 tokens of input; costs are nano-USD: 1,000 per token of input, 10,000 of output.
    fn estimate(output: u64, is_given: bool, slice_tokens: Option<u64>) -> Estimate {
        Estimate {
            input_tokens_max: 100,
            input_tokens_estimate: 25,
            output_tokens_max: output,
            output_is_given: is_given,
            choices: 1,
            may_write_cache: false,
            slice_tokens,
        }
    }

    fn ask(estimate: &Estimate) -> (i64, i64, i64, i64) {
        let ask = estimate.ask(&RATE).unwrap();
        (ask.amount.0, ask.amount_max.0, ask.funds_min.0, ask.slice.0)
    }

    #[test]
    fn a_stream_reserves_the_input_and_a_slice_and_must_afford_what_was_asked_for() {
        let whole = 100_000 + 128_000 * 10_000;
        let first = 100_000 + 4_096 * 10_000;
        let slice = 4_096 * 10_000;
        let omitted = estimate(128_000, false, Some(4_096));
        assert_eq!(ask(&omitted), (first, whole, 100_000 + 256 * 10_000, slice));
        let given = estimate(128_000, true, Some(4_096));
        assert_eq!(ask(&given), (first, whole, whole, slice));
        // What is not longer than a slice is held whole, as is what is not sliced.
        let small = 100_000 + 200 * 10_000;
        for slice_tokens in [Some(4_096), Some(200), None] {
            let short = estimate(200, false, slice_tokens);
            assert_eq!(ask(&short), (small, small, small, 200 * 10_000));
        }
        let json = estimate(128_000, false, None);
        assert_eq!(ask(&json), (whole, whole, 100_000 + 256 * 10_000, 128_000 * 10_000));
    }

    #[test]
    fn an_answer_is_made_as_short_as_the_account_can_afford_and_no_shorter() {
        let omitted = estimate(128_000, false, Some(4_096));
        let ask = omitted.ask(&RATE).unwrap();
        assert_eq!(omitted.clamp(&RATE, &ask, ask.amount_max), None);
        // The slice alone fits many times over: what counts is what the account can afford.
        let clamp = omitted.clamp(&RATE, &ask, NanoUsd(100_000 + 50_000 * 10_000 + 9_999));
        let amount_max = NanoUsd(100_000 + 50_000 * 10_000);
        assert_eq!(clamp, Some(Clamp { max_tokens: 50_000, amount_max }));
        let two = Estimate { choices: 2, ..omitted };
        let clamp = two.clamp(&RATE, &ask, NanoUsd(100_000 + 1_001 * 10_000));
        let amount_max = NanoUsd(100_000 + 1_000 * 10_000);
        assert_eq!(clamp, Some(Clamp { max_tokens: 500, amount_max }));
    }

    #[test]
    fn the_inputs_bound_lies_in_its_dearest_bucket() {
        for may_write_cache in [false, true] {
            let estimate = Estimate { may_write_cache, ..estimate(10, true, None) };
            let usage = estimate.input_max(&RATE.prices);
            assert_eq!((usage.cache_write_1h > 0, usage.input_total()), (may_write_cache, 100));
            let held = RATE.hold_rounding_up(100, 0, may_write_cache);
            assert_eq!(RATE.charge_rounding_up(&usage), held);
        }
    }
}
