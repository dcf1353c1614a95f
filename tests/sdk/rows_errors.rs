//! Row 10: the three errors of the Chat page, as the SDKs raise them, and what else callers see.

use serde_json::{Value, json};

use crate::{
    driver::{self, Call, Report},
    install,
    stage::{self, Stage},
    support::{
        REPLY_CANARY,
        http::Request,
        models::{ANTHROPIC_MODEL, OPENAI_MODEL},
        replies::{anthropic, openai},
        server::{TestServer, alice},
        upstream::Exchange,
    },
};

#[track_caller]
fn assert_error(report: &Report, name: &str, status: u16, class: &str, code: Option<&str>) {
    let error = report.failure(name);
    let what = format!("{} {name}: {error}", report.sdk);
    assert_eq!(error["status"], status, "{what}");
    assert_eq!(error["class"], class, "{what}");
    assert_eq!(error["is_status_error"], true, "{what}");
    assert!(error["request_id"].is_string(), "{what}");
    if let Some(code) = code {
        assert_eq!(error["code"], code, "{what}");
    }
}

/// A stage where nothing may reach the upstream, with a second account that owns `carol`.
fn stage_with_strangers() -> (Stage, String) {
    let stage = Stage::with([], TestServer::builder());
    let stranger = stage.server.account();
    let mut carol = alice(Some(OPENAI_MODEL));
    carol["username"] = json!("carol");
    stage.server.face(&stranger, &carol);
    let poor = stage.server.account_with_usd("0");
    stage.server.alice(&poor);
    (stage, poor.key)
}

#[test]
fn row_10_402_404_422() {
    let Some(sdks) = install::openai() else { return };
    let (stage, poor) = stage_with_strangers();
    let with_messages = |messages: Value| json!({"model": "alice", "messages": messages});
    let calls = [
        Call::chat("poor", stage::chat("alice")).key(&poor),
        Call::chat("poor streamed", stage::chat("alice")).streamed().key(&poor),
        Call::chat("missing", stage::chat("nobody")),
        Call::chat("missing with model", stage::chat(&format!("nobody@{OPENAI_MODEL}"))),
        Call::chat("foreign", stage::chat("carol")),
        Call::chat("foreign with model", stage::chat(&format!("carol@{OPENAI_MODEL}"))),
        Call::chat("empty", with_messages(json!([]))),
        Call::chat("empty streamed", with_messages(json!([]))).streamed(),
        Call::chat("no list", with_messages(json!("hello"))),
        Call::chat("no role", with_messages(json!([{"content": "hello"}]))),
        Call::chat(
            "no model",
            json!({"model": "", "messages": [{"role": "user", "content": "x"}]}),
        ),
        Call::chat("bad key", stage::chat("alice")).key("sk-faces-wrong"),
    ];
    for report in driver::run(sdks, &stage.openai_url(), &stage.account.key, &calls) {
        for name in ["poor", "poor streamed"] {
            assert_error(&report, name, 402, "APIStatusError", Some("insufficient_credits"));
        }
        for name in ["missing", "foreign"] {
            assert_error(&report, name, 404, "NotFoundError", Some("model_not_found"));
        }
        for name in ["missing with model", "foreign with model"] {
            assert_error(&report, name, 404, "NotFoundError", Some("face_not_found"));
        }
        for name in ["empty", "empty streamed", "no list", "no role", "no model"] {
            let code = Some("invalid_request_body");
            assert_error(&report, name, 422, "UnprocessableEntityError", code);
        }
        assert_error(&report, "bad key", 401, "AuthenticationError", Some("invalid_api_key"));
        let texts = ["missing", "foreign"].map(|name| {
            let message = report.failure(name)["message"].as_str().unwrap_or_default();
            message.replace("nobody", "NAME").replace("carol", "NAME")
        });
        assert_eq!(texts[0], texts[1], "a foreign face can't be told from a missing one");
    }
    stage.assert_charged(0);
}

#[test]
fn row_10_402_404_422_in_anthropics_dialect() {
    let Some(sdks) = install::anthropic() else { return };
    let (stage, poor) = stage_with_strangers();
    let params = |model: &str, messages: Value| json!({"model": model, "max_tokens": 64, "messages": messages});
    let hello = json!([{"role": "user", "content": stage::prompt()}]);
    let calls = [
        Call::message("poor", params(ANTHROPIC_MODEL, hello.clone())).key(&poor),
        Call::message("poor streamed", params(ANTHROPIC_MODEL, hello.clone()))
            .streamed()
            .key(&poor),
        Call::message("missing", params("no-such-model", hello.clone())),
        Call::message("invalid", params(ANTHROPIC_MODEL, json!("hello"))),
        Call::message("bad key", params(ANTHROPIC_MODEL, hello)).key("sk-faces-wrong"),
    ];
    for report in driver::run(sdks, &stage.anthropic_url(), &stage.account.key, &calls) {
        let payment = if report.major >= 2 { "PaymentRequiredError" } else { "APIStatusError" };
        let rows = [
            ("poor", 402, payment, "billing_error"),
            ("poor streamed", 402, payment, "billing_error"),
            ("missing", 404, "NotFoundError", "not_found_error"),
            ("invalid", 422, "UnprocessableEntityError", "invalid_request_error"),
            ("bad key", 401, "AuthenticationError", "authentication_error"),
        ];
        for (name, status, class, kind) in rows {
            assert_error(&report, name, status, class, None);
            assert_eq!(report.failure(name)["type"], kind, "{} {name}", report.sdk);
        }
    }
    stage.assert_charged(0);
}

#[test]
fn row_10_raw_bodies_that_no_sdk_sends_are_refused_in_the_routes_dialect() {
    let (stage, _) = stage_with_strangers();
    let bodies = ["", "{", "[]", "null", "{\"model\":\"alice\"}", "{\"messages\":[]}", "\u{0}"];
    for path in ["/v1/chat/completions", "/v1/openai/chat/completions", "/v1/anthropic/messages"] {
        for body in bodies {
            let answer = Request::new("POST", path)
                .header("content-type", "application/json")
                .bearer(&stage.account.key)
                .body(body)
                .fetch(stage.server.address());
            let what = format!("{path} {body:?}: {}", answer.text());
            assert_eq!(answer.status, 422, "{what}");
            assert_eq!(answer.header("content-type"), Some("application/json"), "{what}");
            assert!(answer.header("x-request-id").is_some(), "{what}");
            let json = answer.json();
            assert!(json["error"]["message"].is_string(), "{what}");
            match path {
                "/v1/anthropic/messages" => assert_eq!(json["type"], "error", "{what}"),
                _ => assert!(json["error"]["code"].is_string(), "{what}"),
            }
            if path == "/v1/chat/completions" {
                assert!(!json["detail"].is_null(), "{what}");
            }
        }
    }
    stage.assert_charged(0);
}

#[test]
fn a_frozen_account_gets_402_until_it_is_unfrozen() {
    let Some(sdks) = install::openai() else { return };
    let stage = Stage::new();
    let call = [Call::chat("chat", stage::chat("alice"))];
    let id = stage.account.id.clone();
    stage.server.admin(&["account", "freeze", "--account", &id]);
    for report in driver::run(&sdks[2..], &stage.openai_url(), &stage.account.key, &call) {
        assert_error(&report, "chat", 402, "APIStatusError", Some("insufficient_credits"));
        let text = report.failure("chat")["message"].as_str().unwrap_or_default().to_owned();
        assert!(text.contains("frozen"), "{text}");
    }
    stage.server.admin(&["account", "unfreeze", "--account", &id]);
    for report in driver::run(&sdks[2..], &stage.openai_url(), &stage.account.key, &call) {
        report.assert("chat", "/finish_reason", "stop");
    }
    stage.assert_charged(1);
}

#[test]
fn errors_of_the_upstream_reach_the_sdks_as_their_own_classes() {
    let Some(sdks) = install::openai() else { return };
    let rows = [
        ("limited", 429, "RateLimitError", 429, "rate_limit_exceeded"),
        ("broken", 500, "InternalServerError", 502, "upstream_error"),
        ("refused", 400, "BadRequestError", 400, "upstream_invalid_request"),
        ("keyless", 401, "InternalServerError", 502, "upstream_auth_failed"),
    ];
    let script = rows.iter().flat_map(|(name, status, ..)| {
        let marked = |exchange: Exchange| exchange.containing(&format!("case-{name}")).any_times();
        let openai = openai::error("some_error", &format!("{name} {REPLY_CANARY}"), None);
        let claude = anthropic::error("some_error", &format!("{name} {REPLY_CANARY}"));
        [
            marked(Exchange::json(*status, &openai).path(openai::PATH)),
            marked(Exchange::json(*status, &claude).path(anthropic::PATH)),
        ]
    });
    let stage = Stage::with(script.collect::<Vec<_>>(), TestServer::builder());
    let mut calls = Vec::new();
    for (name, ..) in rows {
        for model in [OPENAI_MODEL, ANTHROPIC_MODEL] {
            let mut params = stage::chat(&format!("alice@{model}"));
            params["messages"][0]["content"] = json!(format!("case-{name} {}", stage::prompt()));
            calls.push(Call::chat(&format!("{name} {model}"), params.clone()));
            calls.push(Call::chat(&format!("{name} {model} streamed"), params).streamed());
        }
    }
    for report in driver::run(sdks, &stage.openai_url(), &stage.account.key, &calls) {
        for (name, _, class, status, code) in rows {
            for model in [OPENAI_MODEL, ANTHROPIC_MODEL] {
                for suffix in ["", " streamed"] {
                    let call = format!("{name} {model}{suffix}");
                    assert_error(&report, &call, status, class, Some(code));
                }
            }
        }
    }
    let wallet = stage.server.ledger().wallet(&stage.account);
    assert_eq!(wallet.balance(), stage::CREDIT_NANOUSD, "nothing was delivered");
}
