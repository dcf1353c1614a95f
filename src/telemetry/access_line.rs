//! One line per request, in logfmt.

use std::{
    fmt::{self, Write},
    time::Duration,
};

use crate::domain::{AccountId, ErrorCode, KeyId, NanoUsd, UsageBasis};

/// The log target of access lines: `RUST_LOG=info,faces::access=off` drops them.
pub const ACCESS_TARGET: &str = "faces::access";

/// Longest value, characters: face, model and request id may come from a client.
const VALUE_CHARS_MAX: usize = 128;

/// What is told about one request when it has ended, for good or ill.
///
/// There is no field for a prompt, a key or a body, and none may be added. What is `None` is left
/// out of the line.
///
/// # Examples
/// ```
/// use faces::telemetry::AccessLine;
/// let line = AccessLine {
///     request_id: "req-1".into(),
///     method: "POST".into(),
///     route: "/v1/chat/completions".into(),
///     status: 200,
///     model: Some("gpt-4o mini".into()),
///     ..AccessLine::default()
/// };
/// assert_eq!(
///     line.to_string(),
///     r#"request_id=req-1 method=POST route=/v1/chat/completions status=200 model="gpt-4o mini" duration_ms=0.000"#,
/// );
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccessLine {
    /// The `x-request-id` of the response.
    pub request_id: String,
    /// HTTP method.
    pub method: String,
    /// The matched route pattern (`/v1/faces/{face}`), never the raw path or query.
    pub route: String,
    /// HTTP status as it was sent.
    pub status: u16,
    /// Why not: the code that the client got, also when it came as an event after a 200.
    pub error: Option<ErrorCode>,
    /// Who paid.
    pub account: Option<AccountId>,
    /// Public id of the key, never the key.
    pub key: Option<KeyId>,
    /// The face's username.
    pub face: Option<String>,
    /// The model of the catalog that answered.
    pub model: Option<String>,
    /// Input tokens, cached ones included.
    pub input_tokens: Option<u64>,
    /// Output tokens, reasoning included.
    pub output_tokens: Option<u64>,
    /// What was charged.
    pub cost: Option<NanoUsd>,
    /// How the tokens were learned.
    pub basis: Option<UsageBasis>,
    /// How the request ended, a word of the ledger (`complete`, `client_gone`, …).
    pub finish: Option<&'static str>,
    /// From the arrival of the request's head to the first byte of the response's body.
    pub first_byte: Option<Duration>,
    /// From the arrival of the request's head to the end of the response.
    pub duration: Duration,
}

impl fmt::Display for AccessLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "request_id={}", Value(&self.request_id))?;
        write!(f, " method={}", Value(&self.method))?;
        write!(f, " route={}", Value(&self.route))?;
        write!(f, " status={}", self.status)?;
        field(f, "error", self.error.map(ErrorCode::as_str))?;
        field(f, "account", self.account)?;
        field(f, "key_id", self.key)?;
        field(f, "face", self.face.as_deref().map(Value))?;
        field(f, "model", self.model.as_deref().map(Value))?;
        field(f, "input_tokens", self.input_tokens)?;
        field(f, "output_tokens", self.output_tokens)?;
        field(f, "cost_usd", self.cost)?;
        field(f, "basis", self.basis.map(UsageBasis::as_str))?;
        field(f, "finish", self.finish)?;
        field(f, "first_byte_ms", self.first_byte.map(Milliseconds))?;
        field(f, "duration_ms", Some(Milliseconds(self.duration)))
    }
}

/// Writes one access line at `info`. Costs one comparison when the level is off.
pub fn log_access(line: &AccessLine) {
    log::info!(target: ACCESS_TARGET, "{line}");
}

fn field(f: &mut fmt::Formatter<'_>, name: &str, value: Option<impl fmt::Display>) -> fmt::Result {
    match value {
        Some(value) => write!(f, " {name}={value}"),
        None => Ok(()),
    }
}

/// Milliseconds with microsecond digits.
struct Milliseconds(Duration);

impl fmt::Display for Milliseconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0.as_millis(), self.0.subsec_micros() % 1_000)
    }
}

/// A logfmt value: bare when it is one plain word, else quoted and escaped; cut when too long.
pub(super) struct Value<'a>(pub(super) &'a str);

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cut = match self.0.char_indices().nth(VALUE_CHARS_MAX) {
            Some((end, _)) => &self.0[..end],
            None => self.0,
        };
        let is_bare = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'=' | b'\\');
        let was_cut = cut.len() < self.0.len();
        if !cut.is_empty() && !was_cut && cut.bytes().all(is_bare) {
            return f.write_str(cut);
        }
        f.write_char('"')?;
        for character in cut.chars() {
            match character {
                '"' | '\\' => write!(f, "\\{character}")?,
                _ if is_unprintable(character) => write!(f, "{}", character.escape_default())?,
                _ => f.write_char(character)?,
            }
        }
        f.write_str(if was_cut { "…\"" } else { "\"" })
    }
}

/// Whether a character could break a line or turn the terminal around: controls, Unicode line
/// separators and bidirectional marks.
pub(super) fn is_unprintable(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> String {
        Value(text).to_string()
    }

    #[test]
    fn a_whole_line_is_logfmt_in_a_fixed_order() {
        let id = "0192f0c1-2d3e-7a4b-8c5d-6e7f8091a2b3";
        let line = AccessLine {
            request_id: "req-7".into(),
            method: "POST".into(),
            route: "/v1/chat/completions".into(),
            status: 200,
            error: Some(ErrorCode::UpstreamFailed),
            account: Some(id.parse().unwrap()),
            key: Some(id.parse().unwrap()),
            face: Some("alice".into()),
            model: Some("accounts/fireworks/models/llama-v3p1-8b-instruct".into()),
            input_tokens: Some(812),
            output_tokens: Some(64),
            cost: Some(NanoUsd(1_234_567)),
            basis: Some(UsageBasis::Partial),
            finish: Some("client_gone"),
            first_byte: Some(Duration::from_micros(412_007)),
            duration: Duration::from_micros(3_000_250),
        };
        assert_eq!(
            line.to_string(),
            "request_id=req-7 method=POST route=/v1/chat/completions status=200 \
             error=upstream_error account=0192f0c1-2d3e-7a4b-8c5d-6e7f8091a2b3 \
             key_id=0192f0c1-2d3e-7a4b-8c5d-6e7f8091a2b3 face=alice \
             model=accounts/fireworks/models/llama-v3p1-8b-instruct input_tokens=812 \
             output_tokens=64 cost_usd=0.001234567 basis=partial finish=client_gone \
             first_byte_ms=412.007 duration_ms=3000.250"
        );
    }

    #[test]
    fn no_value_can_forge_a_field_or_a_line() {
        assert_eq!(value("alice"), "alice");
        assert_eq!(value(""), r#""""#);
        assert_eq!(value("a status=500"), r#""a status=500""#);
        assert_eq!(value("a=b"), r#""a=b""#);
        assert_eq!(value("a\n2026 INFO x"), r#""a\n2026 INFO x""#);
        assert_eq!(value("\" status=500 x=\""), r#""\" status=500 x=\"""#);
        assert_eq!(value("\u{1b}[31m"), r#""\u{1b}[31m""#);
        assert_eq!(value("é\u{202e}"), r#""é\u{202e}""#);
        assert_eq!(value(&"x".repeat(129)), format!("\"{}…\"", "x".repeat(128)));
        assert_eq!(value(&"x".repeat(128)), "x".repeat(128));
    }
}
