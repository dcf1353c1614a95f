//! What a response used, as far as it is known at any moment.

use serde_json::value::RawValue;

use crate::domain::{Usage, UsageBasis};

use super::usage::{self, AnthropicUsage, Implausible};

/// Bytes of output text per token where nobody counted: the usual figure for English text.
const BYTES_PER_TOKEN: u64 = 4;
/// Bytes of output text per token where a provider must not have counted more: code and Chinese or
/// Japanese text have two to three. One byte per token, the true bound, would let a stream of plain
/// English end at a quarter of what it is worth.
const BYTES_PER_TOKEN_BOUND: u64 = 2;

/// Why a response ended, in OpenAI's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FinishReason {
    /// A natural end or a stop sequence.
    Stop,
    /// The output limit or the context's end.
    Length,
    /// The model calls tools.
    ToolCalls,
    /// Refused or filtered.
    ContentFilter,
    /// The deprecated form of a tool call.
    FunctionCall,
    /// A word that OpenAI's format does not know (passed on as it came).
    Other,
}

impl FinishReason {
    /// The word in OpenAI's format.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
            Self::ContentFilter => "content_filter",
            Self::FunctionCall => "function_call",
            Self::Other => "other",
        }
    }

    pub(crate) fn from_openai(word: &str) -> Self {
        match word {
            "stop" => Self::Stop,
            "length" => Self::Length,
            "tool_calls" => Self::ToolCalls,
            "content_filter" => Self::ContentFilter,
            "function_call" => Self::FunctionCall,
            _ => Self::Other,
        }
    }

    /// Maps Anthropic's `stop_reason` (`pause_turn` and unknown ones read as a stop).
    pub(crate) fn from_anthropic(word: &str) -> Self {
        match word {
            "max_tokens" | "model_context_window_exceeded" => Self::Length,
            "tool_use" => Self::ToolCalls,
            "refusal" => Self::ContentFilter,
            _ => Self::Stop,
        }
    }
}

/// Counts one response while it passes.
///
/// The reading is, in this order: the provider's final usage; its cumulative usage so far, with
/// our count where that is higher; our own count. **Counting rule** for output nobody counted:
/// the larger of the number of deltas that carried content and a quarter of the output's bytes,
/// rounded up. Reasoning text counts as `reasoning`, everything else as `output_text`.
#[derive(Debug, Clone)]
pub struct Meter {
    context_tokens_max: u64,
    reported: Option<Usage>,
    is_final: bool,
    anthropic: AnthropicUsage,
    implausible: bool,
    text: Count,
    reasoning: Count,
    upstream_id: Option<String>,
    finish_reason: Option<FinishReason>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Count {
    deltas: u64,
    bytes: u64,
}

impl Count {
    fn tokens(self) -> u64 {
        self.deltas.max(self.bytes.div_ceil(BYTES_PER_TOKEN))
    }

    fn tokens_max(self) -> u64 {
        self.deltas.max(self.bytes.div_ceil(BYTES_PER_TOKEN_BOUND))
    }
}

impl Meter {
    /// A meter for a model whose context holds `context_tokens_max` tokens (0: unknown).
    #[must_use]
    pub fn new(context_tokens_max: u64) -> Self {
        Self {
            context_tokens_max: if context_tokens_max == 0 { u64::MAX } else { context_tokens_max },
            reported: None,
            is_final: false,
            anthropic: AnthropicUsage::default(),
            implausible: false,
            text: Count::default(),
            reasoning: Count::default(),
            upstream_id: None,
            finish_reason: None,
        }
    }

    /// The usage to bill now, and on what basis. `input_tokens_estimate` stands in for input that
    /// the provider has not told.
    #[must_use]
    pub fn usage_reading(&self, input_tokens_estimate: u64) -> (Usage, UsageBasis) {
        match self.reported {
            Some(usage) if self.is_final => (usage, UsageBasis::Provider),
            Some(usage) => {
                let counted = self.text.tokens().saturating_add(self.reasoning.tokens());
                let missing = counted.saturating_sub(usage.output_total());
                let output_text = usage.output_text.saturating_add(missing);
                (Usage { output_text, ..usage }, UsageBasis::Partial)
            }
            None => {
                let usage = Usage {
                    input_uncached: input_tokens_estimate,
                    output_text: self.text.tokens(),
                    reasoning: self.reasoning.tokens(),
                    ..Usage::default()
                };
                (usage, UsageBasis::Counted)
            }
        }
    }

    /// What the provider may have counted by now: never less than [`Self::usage_reading`].
    ///
    /// The bill of a running stream is only known at its end, so credit for more than our own count
    /// must be there while it runs. Input is what the provider told, else `input_max`; output that
    /// nobody counted is the larger of the number of deltas (a delta carries a token at least) and
    /// half of its bytes. A final usage is its own bound.
    #[must_use]
    pub fn usage_bound(&self, input_max: &Usage) -> Usage {
        let told = match self.reported {
            Some(usage) if self.is_final => return usage,
            Some(usage) => usage,
            None => *input_max,
        };
        let counted = self.text.tokens_max().saturating_add(self.reasoning.tokens_max());
        let missing = counted.saturating_sub(told.output_total());
        Usage { output_text: told.output_text.saturating_add(missing), ..told }
    }

    /// Bytes of text and reasoning so far: what a client would see of the response.
    #[must_use]
    pub const fn content_bytes(&self) -> u64 {
        self.text.bytes.saturating_add(self.reasoning.bytes)
    }

    /// Whether the upstream has produced any output.
    #[must_use]
    pub fn output_seen(&self) -> bool {
        self.text.deltas > 0
            || self.reasoning.deltas > 0
            || self.reported.is_some_and(|usage| self.is_final && usage.output_total() > 0)
    }

    /// The provider's id of the response.
    #[must_use]
    pub fn upstream_id(&self) -> Option<&str> {
        self.upstream_id.as_deref()
    }

    /// Whether the provider told a usage that can't be true (it counts as absent).
    #[must_use]
    pub const fn implausible(&self) -> bool {
        self.implausible
    }

    /// Why the response ended, once it has told.
    #[must_use]
    pub const fn finish_reason(&self) -> Option<FinishReason> {
        self.finish_reason
    }

    pub(crate) fn note_id(&mut self, id: &str) {
        if self.upstream_id.is_none() && !id.is_empty() && id.len() <= 256 {
            self.upstream_id = Some(id.to_owned());
        }
    }

    pub(crate) fn note_finish(&mut self, reason: FinishReason) {
        self.finish_reason = Some(reason);
    }

    /// Counts a delta of visible output: `bytes` of text or of a tool call's arguments.
    pub(crate) fn note_text(&mut self, bytes: u64) {
        if bytes > 0 {
            self.text.deltas += 1;
            self.text.bytes += bytes;
        }
    }

    /// Counts a delta of reasoning text.
    pub(crate) fn note_reasoning(&mut self, bytes: u64) {
        if bytes > 0 {
            self.reasoning.deltas += 1;
            self.reasoning.bytes += bytes;
        }
    }

    /// Takes an OpenAI usage object; says whether it was plausible.
    pub(crate) fn note_openai_usage(&mut self, usage: &RawValue, is_final: bool) -> bool {
        let reading = usage::read_openai(usage, self.context_tokens_max);
        self.take(reading.map(Some), is_final)
    }

    /// Takes an Anthropic usage object; says whether it was plausible.
    pub(crate) fn note_anthropic_usage(&mut self, usage: &RawValue, is_final: bool) -> bool {
        let mut merged = self.anthropic;
        let reading = merged.merge(usage).and_then(|()| merged.normalised(self.context_tokens_max));
        if reading.is_ok() {
            self.anthropic = merged;
        }
        self.take(reading, is_final)
    }

    fn take(&mut self, reading: Result<Option<Usage>, Implausible>, is_final: bool) -> bool {
        match reading {
            Ok(None) => false,
            Ok(Some(usage)) => {
                self.reported = Some(usage);
                self.is_final |= is_final;
                true
            }
            Err(Implausible) => {
                self.implausible = true;
                false
            }
        }
    }
}

#[cfg(test)]
mod tests;
