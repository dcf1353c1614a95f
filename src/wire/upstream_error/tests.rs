//! The table of upstream errors.

use crate::wire::UpstreamFault;

use super::*;

#[test]
fn statuses_and_words_find_their_code() {
    let openai = |kind: &str, code: &str, message: &str| {
        format!(
            r#"{{"error":{{"message":"{message}","type":"{kind}","param":"p","code":"{code}"}}}}"#
        )
    };
    let anthropic = |kind: &str, message: &str| {
        format!(r#"{{"type":"error","error":{{"type":"{kind}","message":"{message}"}}}}"#)
    };
    for (status, body, code) in [
        (400, openai("invalid_request_error", "x", "m"), ErrorCode::UpstreamInvalidRequest),
        (
            400,
            openai("invalid_request_error", "context_length_exceeded", "m"),
            ErrorCode::ContextLengthExceeded,
        ),
        (
            400,
            anthropic("invalid_request_error", "prompt is too long: 9 tokens > 8 maximum"),
            ErrorCode::ContextLengthExceeded,
        ),
        (401, openai("invalid_request_error", "invalid_api_key", "m"), ErrorCode::UpstreamAuth),
        (403, anthropic("permission_error", "m"), ErrorCode::UpstreamAuth),
        (402, anthropic("billing_error", "m"), ErrorCode::UpstreamRateLimited),
        (404, openai("invalid_request_error", "model_not_found", "m"), ErrorCode::ModelNotFound),
        (408, String::new(), ErrorCode::UpstreamTimeout),
        (413, anthropic("request_too_large", "m"), ErrorCode::BodyTooLarge),
        (422, r#"{"detail":"bad"}"#.to_owned(), ErrorCode::UpstreamInvalidRequest),
        (
            429,
            openai("insufficient_quota", "insufficient_quota", "m"),
            ErrorCode::UpstreamRateLimited,
        ),
        (429, openai("requests", "rate_limit_exceeded", "m"), ErrorCode::UpstreamRateLimited),
        (500, "<html>oops</html>".to_owned(), ErrorCode::UpstreamFailed),
        (503, String::new(), ErrorCode::UpstreamOverloaded),
        (504, String::new(), ErrorCode::UpstreamTimeout),
        (529, anthropic("overloaded_error", "m"), ErrorCode::UpstreamOverloaded),
        (302, String::new(), ErrorCode::UpstreamFailed),
    ] {
        let info = read_upstream_error(UpstreamFormat::OpenAiChat, status, body.as_bytes());
        assert_eq!(info.code, code, "{status} {body}");
        assert!(!info.message.is_empty(), "{status} {body}");
    }
}

#[test]
fn the_message_is_kept_but_bounded_and_never_about_our_key() {
    let long =
        format!(r#"{{"error":{{"message":"a\n{}","param":"temperature"}}}}"#, "é".repeat(5_000));
    let info = read_upstream_error(UpstreamFormat::OpenAiChat, 400, long.as_bytes());
    assert_eq!(info.message.chars().count(), UPSTREAM_MESSAGE_CHARS_MAX);
    assert!(info.message.starts_with("a é"));
    assert_eq!(info.param.as_deref(), Some("temperature"));
    let key =
        r#"{"error":{"message":"Incorrect API key provided: sk-abc","code":"invalid_api_key"}}"#;
    let info = read_upstream_error(UpstreamFormat::OpenAiChat, 401, key.as_bytes());
    assert!(!info.message.contains("sk-abc"));
    assert_eq!(info.upstream_code.as_deref(), Some("invalid_api_key"));
}

#[test]
fn an_event_tells_the_status_that_it_stands_for() {
    let fault = read_error_event(
        UpstreamFormat::AnthropicMessages,
        r#"{"type":"overloaded_error","message":"Overloaded"}"#,
    );
    let expected = UpstreamFault::ErrorEvent {
        code: ErrorCode::UpstreamOverloaded,
        message: "Overloaded".to_owned(),
        status_hint: Some(529),
    };
    assert_eq!(fault, expected);
}
