//! Which headers cross between client and provider: pure functions over names and values.

use secrecy::{ExposeSecret, SecretString};

use crate::wire::UpstreamFormat;

/// The API version that is sent to Anthropic when the client names none.
/// Source: Anthropic API reference, "Versions", read 2026-11-23.
pub const ANTHROPIC_VERSION_DEFAULT: &str = "2023-06-01";

/// Most headers that are forwarded in either direction, and the longest value in bytes; the rest
/// is left out (a provider sends about 40 short ones).
const HEADERS_MAX: usize = 64;
const HEADER_VALUE_BYTES_MAX: usize = 4_096;

/// Headers of a client's request that a native proxy passes on: those that choose a version or a
/// beta of the format. Everything else stays here: credentials (the platform's own key is used),
/// `openai-organization` and `openai-project` (they belong to the key), `idempotency-key` (the
/// platform's key is shared, so two customers' keys could meet), `accept-encoding` (identity is
/// asked for: usage is read from the bytes) and `x-stainless-*` (the client's machine is nobody's
/// business).
///
/// # Examples
/// ```
/// use faces::{providers::forward_request_headers, wire::UpstreamFormat};
/// let client = [("Anthropic-Beta", "a,b"), ("x-api-key", "secret"), ("cookie", "c")];
/// let kept = forward_request_headers(UpstreamFormat::AnthropicMessages, client);
/// assert_eq!(kept, vec![("anthropic-beta".to_owned(), "a,b".to_owned())]);
/// ```
pub fn forward_request_headers<'a>(
    format: UpstreamFormat,
    headers: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Vec<(String, String)> {
    let allowed: &[&str] = match format {
        UpstreamFormat::OpenAiChat => &["openai-beta"],
        UpstreamFormat::AnthropicMessages => &["anthropic-version", "anthropic-beta"],
    };
    keep(headers, |name| allowed.contains(&name))
}

/// Headers of a provider's response that the client may see: end-to-end ones that mean something
/// to an SDK (retry hints, rate limits, request ids, processing time).
///
/// Never `set-cookie`, `cf-*`, `server`, hop-by-hop headers, or those that describe bytes which
/// are framed anew here (`content-length`, `content-encoding`, `date`). `content-type` is among
/// the kept. The rule is a list of what is allowed, so a provider's new header stays here until
/// someone decides.
///
/// # Examples
/// ```
/// use faces::providers::forward_response_headers;
/// let upstream = [("Retry-After", "3"), ("Set-Cookie", "x"), ("cf-ray", "1")];
/// assert_eq!(forward_response_headers(upstream), vec![("retry-after".to_owned(), "3".to_owned())]);
/// ```
pub fn forward_response_headers<'a>(
    headers: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Vec<(String, String)> {
    const NAMES: &[&str] = &[
        "content-type",
        "retry-after",
        "retry-after-ms",
        "x-should-retry",
        "request-id",
        "x-request-id",
        "openai-model",
        "openai-processing-ms",
        "openai-version",
        "anthropic-version",
    ];
    const PREFIXES: &[&str] = &["x-ratelimit-", "anthropic-ratelimit-"];
    keep(headers, |name| {
        NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
    })
}

/// The platform's credentials in the format's own place, and the format's version header.
///
/// `None` key: a provider that needs none (a local server).
#[must_use]
pub(super) fn auth_headers(
    format: UpstreamFormat,
    key: Option<&SecretString>,
    forwarded: &[(String, String)],
) -> Vec<(&'static str, String)> {
    let mut headers = Vec::with_capacity(2);
    match format {
        UpstreamFormat::OpenAiChat => {
            if let Some(key) = key {
                headers.push(("authorization", format!("Bearer {}", key.expose_secret())));
            }
        }
        UpstreamFormat::AnthropicMessages => {
            if let Some(key) = key {
                headers.push(("x-api-key", key.expose_secret().to_owned()));
            }
            let versioned =
                forwarded.iter().any(|(name, _)| name.eq_ignore_ascii_case("anthropic-version"));
            if !versioned {
                headers.push(("anthropic-version", ANTHROPIC_VERSION_DEFAULT.to_owned()));
            }
        }
    }
    headers
}

fn keep<'a>(
    headers: impl IntoIterator<Item = (&'a str, &'a str)>,
    allowed: impl Fn(&str) -> bool,
) -> Vec<(String, String)> {
    headers
        .into_iter()
        .filter(|(_, value)| value.len() <= HEADER_VALUE_BYTES_MAX)
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .filter(|(name, _)| allowed(name))
        .take(HEADERS_MAX)
        .collect()
}
