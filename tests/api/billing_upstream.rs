//! Refusals of a provider: the client's status and words in its dialect, nothing charged, and what
//! the provider says about waiting kept.

use serde_json::{Value, json};

use crate::{
    kit::{CREDIT_NANOUSD, Dialect, Stage, chat, error_of, with},
    support::{
        ledger::VOIDED,
        models::{ANTHROPIC_MODEL, OPENAI_MODEL},
        replies::{anthropic, openai},
        upstream::Exchange,
    },
};

/// A provider's status, and what the client gets: status, code, `type` for OpenAI and Anthropic.
struct Case {
    upstream: u16,
    status: u16,
    code: &'static str,
    openai: &'static str,
    anthropic: &'static str,
    /// Whether the provider's words reach the client.
    keeps_message: bool,
}

const fn case(
    upstream: u16,
    status: u16,
    code: &'static str,
    openai: &'static str,
    anthropic: &'static str,
) -> Case {
    Case {
        upstream,
        status,
        code,
        openai,
        anthropic,
        keeps_message: status != 502 || upstream >= 500,
    }
}

const INVALID: &str = "invalid_request_error";

/// Section 2.4 of the wire formats.
const CASES: [Case; 12] = [
    case(400, 400, "upstream_invalid_request", INVALID, INVALID),
    case(401, 502, "upstream_auth_failed", "server_error", "api_error"),
    case(402, 429, "rate_limit_exceeded", "rate_limit_error", "rate_limit_error"),
    case(403, 502, "upstream_auth_failed", "server_error", "api_error"),
    case(404, 404, "model_not_found", INVALID, "not_found_error"),
    case(408, 504, "upstream_timeout", "server_error", "timeout_error"),
    case(413, 413, "request_too_large", INVALID, "request_too_large"),
    case(422, 400, "upstream_invalid_request", INVALID, INVALID),
    case(429, 429, "rate_limit_exceeded", "rate_limit_error", "rate_limit_error"),
    case(500, 502, "upstream_error", "server_error", "api_error"),
    case(503, 503, "upstream_overloaded", "server_error", "overloaded_error"),
    case(529, 503, "upstream_overloaded", "server_error", "overloaded_error"),
];

fn ways() -> [(&'static str, Value, Dialect); 4] {
    let native = with(chat(ANTHROPIC_MODEL), &json!({"max_tokens": 64}));
    [
        ("/v1/chat/completions", chat("alice"), Dialect::OpenAi),
        ("/v1/chat/completions", chat(&format!("alice@{ANTHROPIC_MODEL}")), Dialect::OpenAi),
        ("/v1/openai/chat/completions", chat(OPENAI_MODEL), Dialect::OpenAi),
        ("/v1/anthropic/v1/messages", native, Dialect::Anthropic),
    ]
}

/// What the provider says; it must come through, or not at all.
const WORDS: &str = "the provider's own words about key sk-prov-123";

fn refusals(case: &Case) -> [Exchange; 2] {
    let body = openai::error("some_error", WORDS, None);
    let other = anthropic::error("some_error", WORDS);
    [
        Exchange::json(case.upstream, &body).path(openai::PATH),
        Exchange::json(case.upstream, &other).path(anthropic::PATH),
    ]
    .map(|exchange| {
        exchange
            .header("retry-after", "7")
            .header("retry-after-ms", "7000")
            .header("x-should-retry", "true")
            .header("set-cookie", "provider=secret")
            .header("openai-organization", "the-platforms-own")
            .any_times()
    })
}

#[test]
fn a_providers_refusal_is_mapped_told_and_not_charged() {
    for case in &CASES {
        let stage = Stage::new(refusals(case));
        let mut count = 0;
        for (path, body, dialect) in ways() {
            for stream in [false, true] {
                let answer = stage.post(path, &with(body.clone(), &json!({"stream": stream})));
                let shown = format!("{} {path} stream={stream}: {}", case.upstream, answer.text());
                assert_eq!(answer.status, case.status, "{shown}");
                let error = error_of(&answer, dialect);
                assert_eq!(error.code, case.code, "{shown}");
                let kind = match dialect {
                    Dialect::Anthropic => case.anthropic,
                    Dialect::OpenAi | Dialect::Faces => case.openai,
                };
                assert_eq!(error.whole["error"]["type"], kind, "{shown}");
                assert_eq!(error.message.contains(WORDS), case.keeps_message, "{shown}");
                assert_eq!(answer.header("retry-after"), Some("7"), "{shown}");
                assert_eq!(answer.header("retry-after-ms"), Some("7000"), "{shown}");
                assert_eq!(answer.header("set-cookie"), None, "{shown}");
                assert_eq!(answer.header("openai-organization"), None, "{shown}");
                count += 1;
            }
        }
        let rows = stage.server.ledger().wait_resolved(&stage.account, count);
        assert!(rows.iter().all(|row| row.state == VOIDED), "{}: {rows:?}", case.upstream);
        assert_eq!(stage.balance(), CREDIT_NANOUSD, "{}", case.upstream);
    }
}

#[test]
fn the_platforms_bad_key_is_never_blamed_on_the_client() {
    let bodies = [
        openai::error(
            "invalid_request_error",
            "Incorrect API key provided",
            Some("invalid_api_key"),
        ),
        anthropic::error("authentication_error", "invalid x-api-key"),
    ];
    let exchanges = bodies.iter().map(|body| Exchange::json(401, body).any_times());
    let stage = Stage::new(exchanges.collect::<Vec<_>>());
    for (path, body, dialect) in ways() {
        let answer = stage.post(path, &body);
        let error = error_of(&answer, dialect);
        assert_eq!(answer.status, 502);
        assert_ne!(error.code, "invalid_api_key", "{}", error.whole);
        assert!(!answer.text().contains("x-api-key"), "{}", answer.text());
        assert!(!answer.text().contains("Incorrect API key"), "{}", answer.text());
    }
    assert!(stage.server.log().contains("ERROR"), "the operator must see it");
}

#[test]
fn a_context_that_is_too_long_has_its_own_code_in_both_formats() {
    let stage = Stage::new([
        Exchange::json(
            400,
            &openai::error(
                "invalid_request_error",
                "This model's maximum context length is 100 tokens.",
                Some("context_length_exceeded"),
            ),
        )
        .path(openai::PATH)
        .any_times(),
        Exchange::json(
            400,
            &anthropic::error(
                "invalid_request_error",
                "prompt is too long: 200 tokens > 100 maximum",
            ),
        )
        .path(anthropic::PATH)
        .any_times(),
    ]);
    for (path, body, dialect) in ways() {
        let answer = stage.post(path, &body);
        let error = error_of(&answer, dialect);
        assert_eq!(
            (answer.status, error.code.as_str()),
            (400, "context_length_exceeded"),
            "{path}"
        );
        assert_eq!(error.whole["error"]["type"], "invalid_request_error");
    }
}

#[test]
fn an_error_body_of_any_kind_still_has_its_status_and_a_message() {
    let bodies: [(&str, &[u8]); 6] = [
        ("text/html", b"<html><h1>502 Bad Gateway</h1></html>"),
        ("application/json", b""),
        ("application/json", b"{\"error\":"),
        ("application/json", b"[1,2]"),
        ("application/json", b"{\"error\":null}"),
        ("application/octet-stream", b"\xff\xfe\x00"),
    ];
    for (content_type, body) in bodies {
        let stage = Stage::new([Exchange::bytes(502, content_type, body.to_vec()).any_times()]);
        for (path, request, dialect) in ways() {
            let answer = stage.post(path, &request);
            assert_eq!(answer.status, 502, "{body:?}: {}", answer.text());
            assert_eq!(error_of(&answer, dialect).code, "upstream_error");
        }
        assert_eq!(stage.balance(), CREDIT_NANOUSD);
    }
}

#[test]
fn an_error_inside_a_200_is_an_error() {
    let stage = Stage::new([
        Exchange::json(200, &openai::error("server_error", "it broke", None))
            .path(openai::PATH)
            .streaming(false)
            .any_times(),
        Exchange::sse([openai::error_record("server_error", "it broke")])
            .path(openai::PATH)
            .streaming(true)
            .any_times(),
        Exchange::json(200, &anthropic::error("overloaded_error", "it broke"))
            .path(anthropic::PATH)
            .streaming(false)
            .any_times(),
        Exchange::sse([anthropic::error_record("overloaded_error", "it broke")])
            .path(anthropic::PATH)
            .streaming(true)
            .any_times(),
    ]);
    for (path, body, dialect) in ways() {
        for stream in [false, true] {
            let answer = stage.post(path, &with(body.clone(), &json!({"stream": stream})));
            let shown = format!("{path} stream={stream}: {}", answer.text());
            assert!(matches!(answer.status, 502 | 503), "{shown}");
            assert!(error_of(&answer, dialect).message.contains("it broke"), "{shown}");
        }
    }
    assert_eq!(stage.balance(), CREDIT_NANOUSD);
}

#[test]
fn the_platforms_spent_quota_is_not_worth_a_retry() {
    let bodies = [
        (402, openai::error("some_error", "pay first", None)),
        (429, openai::error("insufficient_quota", "no quota left", Some("insufficient_quota"))),
        (400, anthropic::error("billing_error", "credit balance too low")),
    ];
    for (status, body) in bodies {
        let stage = Stage::new([Exchange::json(status, &body).any_times()]);
        for (path, request, dialect) in ways() {
            let answer = stage.post(path, &request);
            assert_eq!(answer.status, 429, "{status} {path}: {}", answer.text());
            assert_eq!(error_of(&answer, dialect).code, "rate_limit_exceeded");
            // SDKs try a 429 again unless they are told not to.
            assert_eq!(answer.header("x-should-retry"), Some("false"), "{status} {path}");
        }
    }
    let busy = openai::error("rate_limit_error", "slow down", None);
    let stage = Stage::new([Exchange::json(429, &busy).any_times()]);
    let answer = stage.post("/v1/chat/completions", &chat("alice"));
    assert_eq!(answer.header("x-should-retry"), None, "an ordinary 429 may be tried again");
}
