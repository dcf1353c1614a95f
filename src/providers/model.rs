//! Models and providers as the rest of the server sees them.

use std::sync::Arc;

use secrecy::SecretString;

use crate::{
    domain::{ChargeRate, TokenPrices},
    wire::{UpstreamFormat, openai_chat::TokensField},
};

/// Where the answers of a provider come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProviderKind {
    /// A server that is spoken to over HTTP.
    Http,
    /// The built-in rule (see [`super::sandbox`]).
    Sandbox,
}

/// A server that answers requests, or the sandbox.
#[derive(Debug)]
pub struct Provider {
    /// Its name in the catalog.
    pub name: String,
    /// The format it speaks.
    pub format: UpstreamFormat,
    /// What its URLs start with; empty for the sandbox.
    pub base_url: String,
    /// Whether dropping a call ends its costs (else a cancelled call may be billed to its end).
    pub cancel_stops_billing: bool,
    /// HTTP or built in.
    pub kind: ProviderKind,
    /// The variable that its key is read from; `None`: it needs no key.
    pub key_env: Option<String>,
    pub(super) key: Option<SecretString>,
}

impl Provider {
    /// Whether it can be called: it has its key, or needs none.
    #[must_use]
    pub const fn has_key(&self) -> bool {
        self.key_env.is_none() || self.key.is_some()
    }
}

/// Whether a model produces output that is billed and not shown, so that a running stream does not
/// tell what it costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum HiddenReasoning {
    /// All that is billed is seen in the stream.
    #[default]
    Never,
    /// When the request asks it to reason.
    WhenAsked,
    /// In any answer.
    Always,
}

/// What a model is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ModelKind {
    /// Answers messages.
    Chat,
    /// Makes vectors of texts, of this many values each. Nobody can chat with it.
    Embeddings {
        /// Values of each of its vectors.
        dimensions: u32,
    },
}

/// A model of the catalog.
#[derive(Debug)]
pub struct Model {
    /// The name that clients use.
    pub id: String,
    /// Other names for it.
    pub aliases: Vec<String>,
    /// A name for people.
    pub display_name: String,
    /// What it is for.
    pub kind: ModelKind,
    /// Who answers.
    pub provider: Arc<Provider>,
    /// The name that the provider uses.
    pub upstream_id: String,
    /// Input and output together, tokens; of one text, where vectors are made.
    pub context_tokens_max: u64,
    /// Output of one request, tokens.
    pub output_tokens_max: u64,
    /// Output that is asked for when the client names no bound, tokens.
    pub output_tokens_default: u64,
    /// The most that one image counts as input, tokens.
    pub image_tokens_max: u64,
    /// List prices.
    pub prices: TokenPrices,
    /// Birth of the model, Unix seconds.
    pub created_at: i64,
    /// Whether `temperature`, `top_p` and `top_k` may be sent.
    pub accepts_sampling: bool,
    /// Whether reasoning is asked for by effort (`thinking: adaptive`) and not by a budget.
    pub adaptive_thinking: bool,
    /// Whether a JSON schema can be asked for natively.
    pub native_structured_output: bool,
    /// Whether a tool may be forced.
    pub accepts_forced_tool_choice: bool,
    /// Whether a system message may stand between turns.
    pub accepts_mid_system: bool,
    /// The field that bounds its output.
    pub tokens_field: TokensField,
    /// Whether it is billed for output that it does not show.
    pub hidden_reasoning: HiddenReasoning,
}

impl Model {
    /// Whether it can be named in a chat: it answers messages, and its provider has its key.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.kind == ModelKind::Chat && self.provider.has_key()
    }

    /// Whether its answer may hold billed output that is not shown, to a request that asks for
    /// reasoning or does not.
    #[must_use]
    pub fn hides_output(&self, asks_for_reasoning: bool) -> bool {
        match self.hidden_reasoning {
            HiddenReasoning::Never => false,
            HiddenReasoning::WhenAsked => asks_for_reasoning,
            HiddenReasoning::Always => true,
        }
    }

    /// What customers pay for this model with a markup in basis points.
    #[must_use]
    pub const fn rate(&self, markup_bps: i64) -> ChargeRate {
        ChargeRate { prices: self.prices, markup_bps }
    }
}
