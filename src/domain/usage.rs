//! Token usage in disjoint buckets, and the basis on which it was learned.

use serde::{Deserialize, Serialize};

/// Tokens of one request, each counted in exactly one bucket.
///
/// Providers report overlapping figures (OpenAI's `prompt_tokens` includes cached tokens,
/// Anthropic's `input_tokens` excludes them; both include reasoning in output). `wire` normalises
/// them to this form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Input that was neither read from nor written to a cache.
    pub input_uncached: u64,
    /// Input read from the provider's prompt cache.
    pub cache_read: u64,
    /// Input written to a cache that lives 5 minutes (or the provider's only kind of cache).
    pub cache_write_5m: u64,
    /// Input written to a cache that lives an hour.
    pub cache_write_1h: u64,
    /// Visible output: text and tool calls.
    pub output_text: u64,
    /// Hidden reasoning, billed as output.
    pub reasoning: u64,
}

impl Usage {
    /// All input tokens (saturating; the buckets come from an upstream that may lie).
    #[must_use]
    pub const fn input_total(&self) -> u64 {
        self.input_uncached
            .saturating_add(self.cache_read)
            .saturating_add(self.cache_write_5m)
            .saturating_add(self.cache_write_1h)
    }

    /// All output tokens (saturating).
    #[must_use]
    pub const fn output_total(&self) -> u64 {
        self.output_text.saturating_add(self.reasoning)
    }

    /// Whether no token was counted at all.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.input_total() == 0 && self.output_total() == 0
    }
}

/// How a charge's usage was learned. Stands on every usage row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UsageBasis {
    /// The provider's final usage.
    Provider,
    /// The provider's cumulative usage so far, of a response that did not reach its end.
    Partial,
    /// Counted by us: the provider told nothing (or something implausible).
    Counted,
}

impl UsageBasis {
    /// The number kept in `ledger_usage.usage_source` (1, 2 and 4; 3 is kept free for a later
    /// look-up at the provider).
    #[must_use]
    pub const fn db_code(self) -> i16 {
        match self {
            Self::Provider => 1,
            Self::Partial => 2,
            Self::Counted => 4,
        }
    }

    /// Inverse of [`Self::db_code`].
    #[must_use]
    pub const fn from_db_code(code: i16) -> Option<Self> {
        match code {
            1 => Some(Self::Provider),
            2 => Some(Self::Partial),
            4 => Some(Self::Counted),
            _ => None,
        }
    }

    /// The word used in logs and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Provider => "provider",
            Self::Partial => "partial",
            Self::Counted => "counted",
        }
    }
}
