//! How large a hold must be, and what to tell the provider.

use super::Failure;
use crate::{
    domain::{ChargeRate, ErrorCode, NanoUsd},
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
}

/// A hold to ask for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ask {
    /// Worst case.
    pub(super) amount: NanoUsd,
    /// The least that is worth starting with.
    pub(super) amount_min: NanoUsd,
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
        }
    }

    /// The hold to ask for at `rate`.
    ///
    /// # Errors
    /// 422 when the worst case is beyond any amount of money (`n` or `max_tokens` is absurd).
    pub(super) fn ask(&self, rate: &ChargeRate) -> Result<Ask, Failure> {
        let hold =
            |output| rate.hold_rounding_up(self.input_tokens_max, output, self.may_write_cache);
        let too_much = || {
            Failure::new(
                ErrorCode::InvalidRequest,
                "This request could cost more than any account can hold.",
            )
        };
        let amount = hold(self.output_tokens_max).ok_or_else(too_much)?;
        let least = CLAMP_OUTPUT_TOKENS_MIN.saturating_mul(self.choices);
        let amount_min = if self.output_is_given || least >= self.output_tokens_max {
            amount
        } else {
            hold(least).ok_or_else(too_much)?
        };
        Ok(Ask { amount, amount_min })
    }

    /// `max_tokens` to send upstream when the granted hold is smaller than the one asked for.
    pub(super) fn clamp(&self, rate: &ChargeRate, asked: NanoUsd, granted: NanoUsd) -> Option<u64> {
        (granted < asked).then(|| self.affordable(rate, granted))
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
