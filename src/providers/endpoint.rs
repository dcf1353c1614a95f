//! Where a call goes: base URL, path and query of a provider.

use awc::http::Uri;

use crate::wire::UpstreamFormat;

/// What is called at a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// OpenAI's `POST …/chat/completions`.
    ChatCompletions,
    /// OpenAI's `POST …/embeddings`.
    Embeddings,
    /// Anthropic's `POST …/v1/messages`.
    Messages,
    /// Anthropic's `POST …/v1/messages/count_tokens`.
    CountTokens,
}

impl Endpoint {
    /// The format that this endpoint belongs to.
    #[must_use]
    pub const fn format(self) -> UpstreamFormat {
        match self {
            Self::ChatCompletions | Self::Embeddings => UpstreamFormat::OpenAiChat,
            Self::Messages | Self::CountTokens => UpstreamFormat::AnthropicMessages,
        }
    }

    const fn path(self) -> &'static str {
        match self {
            Self::ChatCompletions => "/chat/completions",
            Self::Embeddings => "/embeddings",
            Self::Messages => "/v1/messages",
            Self::CountTokens => "/v1/messages/count_tokens",
        }
    }
}

/// Joins base URL, endpoint and query. An OpenAI base ends in its version (`…/v1`), an Anthropic
/// base does not; trailing slashes and a superfluous `/v1` of an Anthropic base are tolerated.
///
/// `None` when the query holds what a URL can't.
#[must_use]
pub(super) fn endpoint_url(base_url: &str, endpoint: Endpoint, query: Option<&str>) -> Option<Uri> {
    let mut base = base_url.trim_end_matches('/');
    if endpoint.format() == UpstreamFormat::AnthropicMessages {
        base = base.strip_suffix("/v1").unwrap_or(base).trim_end_matches('/');
    }
    let path = endpoint.path();
    let url = match query {
        Some(query) if !query.is_empty() => format!("{base}{path}?{query}"),
        _ => format!("{base}{path}"),
    };
    url.parse().ok()
}

/// Checks a base URL: `http` or `https`, a host, no user, query or fragment.
///
/// # Errors
/// The rule that was broken, with an example.
pub(super) fn check_base_url(text: &str) -> Result<(), String> {
    let wrong = |why: &str| Err(format!("{why}; write it like \"http://127.0.0.1:11434/v1\""));
    if text.contains(['?', '#']) {
        return wrong("a base URL has no query and no fragment");
    }
    let Ok(uri) = text.parse::<Uri>() else {
        return wrong("this is not a URL");
    };
    match uri.scheme_str() {
        Some("http" | "https") => {}
        _ => return wrong("a base URL starts with http:// or https://"),
    }
    match uri.authority() {
        Some(authority) if authority.as_str().contains('@') => {
            wrong("a base URL holds no user and no password (use key_env)")
        }
        Some(authority) if !authority.host().is_empty() => Ok(()),
        _ => wrong("a base URL names a host"),
    }
}
