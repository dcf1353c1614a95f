//! Rows 1 to 4: the persona, the override, the default model, the platform's keys.

use serde_json::json;

use crate::{
    driver::{self, Call},
    install,
    stage::{self, INPUT, OUTPUT, Stage, reply},
    support::{
        models::{ANTHROPIC_MODEL, ANTHROPIC_UPSTREAM_ID, OPENAI_MODEL, OPENAI_UPSTREAM_ID},
        replies::{anthropic, openai},
        server::{TestServer, alice},
    },
};

#[test]
fn row_01_chat_completions_is_openai_compatible_and_injects_the_persona() {
    let Some(sdks) = install::openai() else { return };
    let stage = Stage::new();
    let mut params = stage::chat_with_system("alice", "Answer in English.");
    params["temperature"] = json!(0.5);
    params["extra_body"] = json!({"x_unknown": {"kept": [1, 2.50]}});
    let calls = [
        Call::chat("json", params.clone()),
        Call::chat("stream", params.clone()).streamed(),
        Call::chat("usage", stage::with_usage(params.clone())).streamed(),
        Call::chat("async", params).asynchronous(),
    ];
    let reports = driver::run(sdks, &stage.openai_url(), &stage.account.key, &calls);
    for report in &reports {
        for name in ["json", "stream", "usage", "async"] {
            report.assert(name, "/content", reply());
            report.assert(name, "/finish_reason", "stop");
            report.assert(name, "/model", "alice");
        }
        report.assert("json", "/object", "chat.completion");
        report.assert("json", "/role", "assistant");
        report.assert("stream", "/object", "chat.completion.chunk");
        report.assert("stream", "/usage", json!(null));
        for name in ["json", "usage", "async"] {
            report.assert(name, "/usage/prompt_tokens", INPUT);
            report.assert(name, "/usage/completion_tokens", OUTPUT);
            report.assert(name, "/usage/total_tokens", INPUT + OUTPUT);
        }
        let ids = report.success("stream")["ids"].as_array().map(Vec::len);
        assert_eq!(ids, Some(1), "{}: one id in all chunks", report.sdk);
        assert!(report.success("json")["request_id"].is_string(), "{}", report.sdk);
    }
    let requests = stage.upstream.requests();
    assert_eq!(requests.len(), calls.len() * sdks.len());
    for request in &requests {
        stage::assert_persona(&stage::system_of(request), Some("Answer in English."));
        let body = request.json();
        assert_eq!(body["model"], OPENAI_UPSTREAM_ID);
        assert_eq!(body["messages"][1]["content"], stage::prompt());
        assert_eq!(body["messages"].as_array().map(Vec::len), Some(2));
        assert_eq!(body["temperature"], 0.5);
        assert_eq!(body["x_unknown"], json!({"kept": [1, 2.50]}));
        stage.assert_platform_key(request, "SCRIPTED_OPENAI_KEY");
    }
    stage.assert_charged(requests.len());
}

#[test]
fn row_02_face_at_model_overrides_the_model_and_keeps_the_persona() {
    let Some(sdks) = install::openai() else { return };
    let stage = Stage::new();
    let fireworks = "accounts/fireworks/models/llama-v3p1-8b-instruct";
    let overrides = [
        ("gpt-4o-mini", "OPENAI_API_KEY", openai::PATH),
        ("claude-sonnet-4-6", "ANTHROPIC_API_KEY", anthropic::PATH),
        (fireworks, "FIREWORKS_API_KEY", openai::PATH),
    ];
    let mut calls = vec![Call::chat("unknown", stage::chat("alice@no-such-model"))];
    for (model, _, _) in overrides {
        let params = stage::chat(&format!("alice@{model}"));
        calls.push(Call::chat(model, params.clone()));
        calls.push(Call::chat(&format!("{model} streamed"), stage::with_usage(params)).streamed());
    }
    for report in driver::run(sdks, &stage.openai_url(), &stage.account.key, &calls) {
        for (model, _, _) in overrides {
            for name in [model.to_owned(), format!("{model} streamed")] {
                report.assert(&name, "/content", reply());
                report.assert(&name, "/finish_reason", "stop");
                report.assert(&name, "/model", format!("alice@{model}"));
                report.assert(&name, "/usage/prompt_tokens", INPUT);
                report.assert(&name, "/usage/completion_tokens", OUTPUT);
            }
        }
        let error = report.failure("unknown");
        assert_eq!(error["class"], "UnprocessableEntityError", "{error}");
        assert_eq!(error["code"], "unsupported_model", "{error}");
        let message = error["message"].as_str().unwrap_or_default();
        assert!(message.contains("GET /v1/models"), "the message names the list: {error}");
    }
    for (model, variable, path) in overrides {
        let requests = stage.upstream.requests();
        let key = crate::support::models::provider_key(variable);
        let mine: Vec<_> = requests.iter().filter(|request| request.has(&key)).collect();
        assert_eq!(mine.len(), 2 * sdks.len(), "requests with the key of {model}");
        for request in mine {
            assert_eq!(request.path, path);
            assert_eq!(request.json()["model"], model);
            stage::assert_persona(&stage::system_of(request), None);
            stage.assert_platform_key(request, variable);
        }
    }
}

#[test]
fn row_03_without_an_override_the_default_model_of_the_face_or_of_the_system_answers() {
    let Some(sdks) = install::openai() else { return };
    let builder = TestServer::builder().env("FACES_DEFAULT_MODEL", OPENAI_MODEL);
    let stage = Stage::with(stage::text_exchanges(), builder);
    let mut own = alice(Some(ANTHROPIC_MODEL));
    own["username"] = json!("with-default");
    let mut none = alice(None);
    none["username"] = json!("without-default");
    stage.server.face(&stage.account, &own);
    stage.server.face(&stage.account, &none);
    let mut calls = Vec::new();
    for face in ["with-default", "without-default"] {
        calls.push(Call::chat(face, stage::chat(face)));
        calls.push(Call::chat(&format!("{face} streamed"), stage::chat(face)).streamed());
    }
    for report in driver::run(sdks, &stage.openai_url(), &stage.account.key, &calls) {
        for face in ["with-default", "without-default"] {
            for name in [face.to_owned(), format!("{face} streamed")] {
                report.assert(&name, "/content", reply());
                report.assert(&name, "/finish_reason", "stop");
                report.assert(&name, "/model", face);
            }
        }
    }
    let requests = stage.upstream.requests();
    for (path, model) in
        [(anthropic::PATH, ANTHROPIC_UPSTREAM_ID), (openai::PATH, OPENAI_UPSTREAM_ID)]
    {
        let mine: Vec<_> = requests.iter().filter(|request| request.path == path).collect();
        assert_eq!(mine.len(), 2 * sdks.len(), "{path}");
        for request in mine {
            assert_eq!(request.json()["model"], model);
            stage::assert_persona(&stage::system_of(request), None);
        }
    }
    stage.assert_charged(requests.len());
}

#[test]
fn row_04_overrides_use_the_platforms_key_and_never_the_clients() {
    let Some(sdks) = install::openai() else { return };
    let stage = Stage::new();
    let with_header = |model: &str| {
        let mut params = stage::chat(model);
        // A credential for another service that the client happens to send along.
        params["extra_headers"] = json!({"x-goog-api-key": "client-credential-0d1e"});
        params
    };
    let models = [("openai", OPENAI_MODEL), ("anthropic", ANTHROPIC_MODEL)];
    let mut calls = Vec::new();
    for (name, model) in models {
        let params = with_header(&format!("alice@{model}"));
        calls.push(Call::chat(name, params.clone()));
        calls.push(Call::chat(&format!("{name} streamed"), params).streamed());
    }
    for report in driver::run(sdks, &stage.openai_url(), &stage.account.key, &calls) {
        for (name, _) in models {
            report.assert(name, "/content", reply());
            report.assert(&format!("{name} streamed"), "/content", reply());
        }
    }
    let requests = stage.upstream.requests();
    assert_eq!(requests.len(), calls.len() * sdks.len());
    for request in &requests {
        let variable = match request.path.as_str() {
            anthropic::PATH => "SCRIPTED_ANTHROPIC_KEY",
            _ => "SCRIPTED_OPENAI_KEY",
        };
        stage.assert_platform_key(request, variable);
        assert!(!request.has("client-credential-0d1e"), "a client's credential went upstream");
    }
    stage.assert_charged(requests.len());
}
