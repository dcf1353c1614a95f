//! Embeddings that are not made: the provider's answer can't be used, nobody pays, or nobody may.

use serde_json::{Value, json};

use super::{
    BOATS, MODEL, TEA, TEA_BOATS, answer, answering, bill, builder, face, face_of, similarity,
    spent, stage, stored, tea_and_boats, tokens,
};
use crate::{
    kit::{Dialect, chat, error_of},
    support::{
        http::Request,
        ledger::BASIS_COUNTED,
        login::Person,
        models::{OPENAI_MODEL, usd},
        replies::openai,
        upstream::{Exchange, Upstream},
    },
};

#[test]
fn an_answer_that_can_not_be_used_is_an_error_that_costs_and_stores_nothing() {
    let usage = json!({"prompt_tokens": 5, "total_tokens": 5});
    let of = |data: Value| Exchange::json(200, &json!({"data": data, "usage": usage}));
    let one = |vector: Value| of(json!([{"index": 0, "embedding": vector}]));
    let words = "the provider's own words";
    let refused = openai::error("invalid_request_error", words, None);
    let cases = [
        (one(json!([1, 0])), 502, "upstream_error"),
        (one(json!([1, 0, 0, 0])), 502, "upstream_error"),
        (one(json!([])), 502, "upstream_error"),
        (one(json!([1, 0, "x"])), 502, "upstream_error"),
        (one(json!([1e300, 1e300, 0])), 502, "upstream_error"),
        (of(json!([])), 502, "upstream_error"),
        (Exchange::bytes(200, "application/json", b"{\"data\":[".to_vec()), 502, "upstream_error"),
        (Exchange::json(200, &refused), 502, "upstream_error"),
        // The caller wrote none of this request: it is not told that it is wrong.
        (Exchange::json(400, &refused), 502, "upstream_error"),
        (Exchange::json(404, &refused), 502, "upstream_error"),
        (Exchange::json(413, &refused), 502, "upstream_error"),
        (Exchange::json(401, &refused), 502, "upstream_auth_failed"),
        (Exchange::json(429, &refused).header("retry-after", "7"), 429, "rate_limit_exceeded"),
        (Exchange::json(503, &refused), 503, "upstream_overloaded"),
    ];
    let expected: Vec<(u16, &str)> =
        cases.iter().map(|(_, status, code)| (*status, *code)).collect();
    let mut script: Vec<Exchange> = cases.into_iter().map(|(exchange, _, _)| exchange).collect();
    script.push(Exchange::json(200, &answer(&[TEA])));
    let stage = stage(Upstream::start(script), builder());
    face(&stage, "tea", &[("beta", TEA)]);
    face(&stage, "boats", &[]);
    for (at, (status, code)) in expected.iter().enumerate() {
        let failed = stage.get(TEA_BOATS);
        let error = error_of(&failed, Dialect::Faces);
        assert_eq!((failed.status, error.code.as_str()), (*status, *code), "{at}: {}", error.whole);
        assert_eq!(failed.header("retry-after"), (*status == 429).then_some("7"), "{at}");
        assert_eq!((spent(&stage), stored(&stage)), (0, 0), "{at}");
    }
    assert!(stage.server.log().contains("the model's `dimensions` say"), "the operator sees why");
    similarity(&stage, "tea", "boats");
    assert_eq!(spent(&stage), bill(tokens(&[TEA])));
}

#[test]
fn a_usage_that_is_absent_or_can_not_be_true_is_counted() {
    let mut without = answer(&[TEA]);
    without.as_object_mut().unwrap().remove("usage");
    let mut absurd = answer(&[BOATS]);
    absurd["usage"]["prompt_tokens"] = json!(1_000_000);
    let script = [
        Exchange::json(200, &without).containing(TEA),
        Exchange::json(200, &absurd).containing(BOATS),
    ];
    let stage = stage(Upstream::start(script), builder());
    face(&stage, "tea", &[("beta", TEA)]);
    face(&stage, "boats", &[("beta", BOATS)]);
    similarity(&stage, "tea", "boats");
    let counted = |text: &str| bill((text.len() as u64).div_ceil(4));
    assert_eq!(spent(&stage), counted(TEA) + counted(BOATS));
    let rows = stage.server.ledger().wait_resolved(&stage.account, 2);
    assert!(rows.iter().all(|row| row.basis == Some(BASIS_COUNTED)), "{rows:?}");
    assert_eq!(stage.server.log().matches("told a usage that can't be true").count(), 1);
}

#[test]
fn without_credit_nothing_is_asked_for() {
    let stage = stage(Upstream::start([]), builder());
    let poor = stage.server.account_with_usd(&usd(1));
    face_of(&stage, &poor.key, "tea", &[("beta", TEA)]);
    face_of(&stage, &poor.key, "boats", &[("beta", BOATS)]);
    for path in [TEA_BOATS, "/v1/faces/tea/neighbors"] {
        let refused = Request::get(path).bearer(&poor.key).fetch(stage.server.address());
        assert_eq!(refused.status, 402, "{}", refused.text());
        assert_eq!(error_of(&refused, Dialect::Faces).code, "insufficient_credits");
    }
    assert_eq!(stage.server.ledger().wallet(&poor).balance(), 1);
    let key = stage.server.key(&stage.account.id, &["--budget-usd", "0.000000001"]);
    tea_and_boats(&stage);
    let refused = Request::get(TEA_BOATS).bearer(&key).fetch(stage.server.address());
    assert_eq!(refused.status, 402, "{}", refused.text());
    assert_eq!((spent(&stage), stored(&stage)), (0, 0));
}

#[test]
fn a_key_that_may_only_read_sees_what_was_made_and_makes_nothing() {
    let builder = builder().env("FACES_WELCOME_CREDIT_USD", "1");
    let stage = stage(Upstream::answering(answering), builder);
    let login = Person::register(&stage.server, "grace").token;
    let key = |terms: Value| {
        let made =
            Request::post("/v1/auth/api-keys", &terms).bearer(&login).fetch(stage.server.address());
        assert_eq!(made.status, 201, "{}", made.text());
        let key = made.json()["key"].as_str().unwrap().to_owned();
        stage.server.plant_secret(&key);
        key
    };
    let reader = key(json!({"name": "reader", "scopes": ["v1:read"]}));
    let other = key(json!({"name": "other", "allowed_llm_models": [OPENAI_MODEL]}));
    let allowed = key(json!({"name": "allowed", "allowed_llm_models": [format!("{MODEL}-alias")]}));
    face_of(&stage, &login, "tea", &[("beta", TEA)]);
    face_of(&stage, &login, "boats", &[("beta", BOATS)]);
    let get = |key: &str, path: &str| Request::get(path).bearer(key).fetch(stage.server.address());
    for path in [TEA_BOATS, "/v1/faces/tea/neighbors"] {
        let refused = get(&reader, path);
        let error = error_of(&refused, Dialect::Faces);
        assert_eq!((refused.status, error.code.as_str()), (403, "forbidden"), "{}", error.whole);
        assert!(error.message.contains("`v1:chat`") && error.message.contains("login"));
        // Clients sort 403s by these words.
        for word in ["budget", "face", "model"] {
            assert!(!error.message.contains(word), "{}", error.message);
        }
        let refused = get(&other, path);
        let error = error_of(&refused, Dialect::Faces);
        assert_eq!((refused.status, error.code.as_str()), (403, "model_not_allowed"));
        assert!(error.message.contains(MODEL), "{}", error.message);
    }
    assert!(stage.upstream.requests().is_empty());
    assert_eq!(get(&allowed, TEA_BOATS).status, 200);
    for key in [&reader, &other] {
        for path in [TEA_BOATS, "/v1/faces/tea/neighbors"] {
            assert_eq!(get(key, path).status, 200, "what is there can be read");
        }
    }
    assert_eq!(stage.upstream.requests().len(), 2);
}

#[test]
fn nobody_can_chat_with_an_embeddings_model_and_no_chat_waits_for_one() {
    let script = [openai::json_exchange("ok", 1, 1)];
    let stage = stage(Upstream::start(script), builder());
    tea_and_boats(&stage);
    let chats = "/v1/chat/completions";
    for name in [MODEL.to_owned(), format!("{MODEL}-alias")] {
        for (path, model, status, code) in [
            (chats, name.clone(), 404, "model_not_found"),
            (chats, format!("tea@{name}"), 422, "unsupported_model"),
            (chats, format!("(tea | boats)@{name}"), 422, "unsupported_model"),
            ("/v1/openai/chat/completions", name.clone(), 404, "model_not_found"),
            ("/v1/messages", name.clone(), 404, "model_not_found"),
        ] {
            let mut body = chat(&model);
            body["max_tokens"] = json!(16);
            let refused = stage.post(path, &body);
            assert_eq!(refused.status, status, "{path} {model}: {}", refused.text());
            assert!(refused.text().contains(code), "{path} {model}: {}", refused.text());
        }
        assert_eq!(stage.get(&format!("/v1/models/{name}")).status, 404);
        let made = stage.post("/v1/faces", &json!({"username": "bo", "default_model": name}));
        assert_eq!(made.status, 422, "{}", made.text());
    }
    let listed = stage.get("/v1/models").text();
    assert!(listed.contains(OPENAI_MODEL) && !listed.contains(MODEL), "{listed}");
    // A formula's rule of membership is lexical: the one request that goes out is the chat.
    let answered = stage.post(chats, &chat(&format!("(tea & boats)@{OPENAI_MODEL}")));
    assert_eq!(answered.status, 200, "{}", answered.text());
    assert_eq!(stage.upstream.only_request().path, openai::PATH);
}
