//! The request and response formats that upstream providers speak.

/// The wire format of a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UpstreamFormat {
    /// OpenAI chat completions (and everything compatible with it).
    OpenAiChat,
    /// Anthropic Messages.
    AnthropicMessages,
}
