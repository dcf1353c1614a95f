//! Credentials, request ids, and the limit of requests in flight.

use serde_json::json;

use crate::{
    kit::{BODY_ROUTES, Dialect, Stage, billed_requests, chat, error_of, with},
    support::{
        BOUND,
        http::{Fetched, Request},
        models::ANTHROPIC_MODEL,
        replies::{anthropic, openai},
        server::TestServer,
        wait_for,
    },
};

/// Routes without a body that need a credential.
const READS: [(&str, Dialect); 15] = [
    ("/v1/models", Dialect::OpenAi),
    ("/v1/models/sandbox", Dialect::OpenAi),
    ("/v1/account/state", Dialect::Faces),
    ("/v1/billing/balance", Dialect::Faces),
    ("/v1/billing/usage", Dialect::Faces),
    ("/v1/billing/llm-costs", Dialect::Faces),
    ("/v1/billing/invoices", Dialect::Faces),
    ("/v1/billing/invoices/2026-11", Dialect::Faces),
    ("/v1/billing/subscription", Dialect::Faces),
    ("/v1/faces", Dialect::Faces),
    ("/v1/faces/alice", Dialect::Faces),
    ("/v1/user/preferences", Dialect::Faces),
    ("/v1/auth/me", Dialect::Faces),
    ("/v1/auth/api-keys", Dialect::Faces),
    ("/v1/api-keys", Dialect::Faces),
];

/// A well-formed key (its checksum is right) that no server has made.
fn unknown_key(known: &str) -> String {
    let other = TestServer::builder().start();
    let key = other.account().key;
    assert_ne!(key, known);
    key
}

#[test]
fn every_unusable_key_gets_the_same_401_on_every_route() {
    let stage = Stage::new([]);
    let revoked = stage.server.admin(&["key", "create", "--account", &stage.account.id]);
    let revoked_key = revoked["key"].as_str().unwrap().to_owned();
    stage.server.plant_secret(&revoked_key);
    stage.server.admin(&["key", "revoke", "--key", revoked["id"].as_str().unwrap()]);
    let malformed = format!("{}x", &stage.account.key[..stage.account.key.len() - 1]);
    let bad = [
        revoked_key,
        unknown_key(&stage.account.key),
        malformed,
        "sk-faces-".to_owned(),
        "sk-proj-abcdef".to_owned(),
        stage.account.key.to_uppercase(),
        format!("{}/../x", stage.account.key),
        "é".to_owned(),
    ];
    let routes = BODY_ROUTES.iter().map(|route| (route.method, route.path, route.dialect));
    let reads = READS.iter().map(|(path, dialect)| ("GET", *path, *dialect));
    for (method, path, dialect) in routes.chain(reads) {
        let request =
            || Request::new(method, path).header("content-type", "application/json").body("{}");
        let mut seen: Option<String> = None;
        for key in &bad {
            for sent in [request().bearer(key), request().header("x-api-key", key)] {
                let message = assert_401(&sent.fetch(stage.server.address()), dialect);
                assert_eq!(
                    *seen.get_or_insert_with(|| message.clone()),
                    message,
                    "{path}: all the same"
                );
            }
        }
        assert_401(&request().fetch(stage.server.address()), dialect);
        for header in ["", "Bearer", "Bearer ", "Basic abc"] {
            let sent = request().header("authorization", header);
            assert_401(&sent.fetch(stage.server.address()), dialect);
        }
    }
}

#[track_caller]
fn assert_401(answer: &Fetched, dialect: Dialect) -> String {
    assert_eq!(answer.status, 401, "{}", answer.text());
    let error = error_of(answer, dialect);
    assert_eq!(error.code, "invalid_api_key");
    assert!(answer.header("www-authenticate").is_some(), "RFC 9110 wants it with 401");
    assert!(!error.message.contains("revoked at") && !error.message.contains("frozen"));
    error.message
}

#[test]
fn an_expired_key_is_401_like_any_other() {
    let stage = Stage::new([]);
    let key = stage.server.key(&stage.account.id, &["--expires-in-days", "1"]);
    let models = || Request::get("/v1/models").bearer(&key).fetch(stage.server.address());
    assert_eq!(models().status, 200);
    let unknown = Request::get("/v1/models").bearer("sk-faces-x").fetch(stage.server.address());
    crate::program::edit_database(
        &stage.server,
        "UPDATE api_key SET expires_at = 1 WHERE expires_at IS NOT NULL",
    );
    // Edited behind the server's back: believed for at most FACES_CACHE_TTL_MS.
    let expired = wait_for("the key's expiry", BOUND, || {
        let answer = models();
        (answer.status != 200).then_some(answer)
    });
    let told = |answer: &Fetched| error_of(answer, Dialect::OpenAi).message;
    assert_eq!((expired.status, told(&expired)), (401, told(&unknown)));
}

#[test]
fn both_headers_work_on_both_families_and_the_scheme_has_any_case() {
    let stage = Stage::new([
        openai::json_exchange("ok", 1, 1).any_times(),
        anthropic::json_exchange("ok", 1, 1).any_times(),
    ]);
    let key = &stage.account.key;
    let native = with(chat(ANTHROPIC_MODEL), &json!({"max_tokens": 16}));
    for (path, body) in
        [("/v1/chat/completions", chat("alice")), ("/v1/anthropic/v1/messages", native)]
    {
        let request = || Request::post(path, &body);
        let sent = [
            request().bearer(key),
            request().header("x-api-key", key),
            request().header("authorization", &format!("bearer {key}")),
            request().header("Authorization", &format!("BEARER   {key}")),
            // Anthropic's SDK may send both.
            request().header("x-api-key", key).bearer(key),
        ];
        for request in sent {
            let answer = request.fetch(stage.server.address());
            assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        }
    }
}

#[test]
fn every_answer_carries_its_request_id_and_no_two_are_alike() {
    let stage = Stage::new([
        openai::json_exchange("ok", 1, 1).streaming(false).any_times(),
        openai::stream_exchange(&["ok"], 1, 1).streaming(true).any_times(),
        anthropic::json_exchange("ok", 1, 1).streaming(false).any_times(),
        anthropic::stream_exchange(&["ok"], 1, 1).streaming(true).any_times(),
    ]);
    let mut ids = Vec::new();
    let mut take = |answer: &Fetched, anthropic: bool| {
        let id = answer.header("x-request-id").expect("x-request-id").to_owned();
        if anthropic {
            assert_eq!(answer.header("request-id"), Some(id.as_str()));
        } else {
            assert_eq!(answer.header("request-id"), None);
        }
        ids.push(id);
    };
    for (path, body) in billed_requests() {
        let answer = stage.post(path, &body);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        take(&answer, path.contains("/messages"));
    }
    for (path, _) in READS {
        take(&stage.get(path), false);
    }
    for path in ["/healthz", "/readyz", "/nowhere", "/v1/faces/attributes"] {
        take(&Request::get(path).fetch(stage.server.address()), false);
    }
    // What the client calls its request is not ours to repeat: ids must not be forged.
    let forged = stage.fetch(&Request::get("/v1/models").header("x-request-id", "mine"));
    assert_ne!(forged.header("x-request-id"), Some("mine"));
    take(&forged, false);
    let count = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), count);
    // The log tells the same id.
    let last = ids.last().unwrap().clone();
    wait_for("the access line", BOUND, || stage.server.log().contains(&last).then_some(()));
}

#[test]
fn over_the_limit_in_flight_is_503_with_retry_after_and_then_there_is_room_again() {
    let records = openai::stream(&["held"], 1, 1);
    let (first, rest) = records.split_at(2);
    let held = rest.iter().cloned().fold(
        crate::support::upstream::Exchange::sse(first.to_vec()).then_wait("go").path(openai::PATH),
        crate::support::upstream::Exchange::then_write,
    );
    let builder = TestServer::builder().env("FACES_INFLIGHT_REQUESTS_MAX", "1");
    let stage = Stage::with([held], builder, "10");
    let body = with(chat("alice"), &json!({"stream": true}));
    let answer = Request::post("/v1/chat/completions", &body)
        .bearer(&stage.account.key)
        .send(stage.server.address())
        .answer();
    assert_eq!(answer.status, 200);
    for route in &BODY_ROUTES {
        let refused = stage.send(route.method, route.path, &json!({}));
        assert_eq!(refused.status, 503, "{}: {}", route.path, refused.text());
        assert_eq!(error_of(&refused, route.dialect).code, "overloaded");
        let wait = refused.header("retry-after").expect("retry-after");
        assert!(wait.parse::<u64>().is_ok_and(|seconds| seconds >= 1), "{wait}");
    }
    // Probes and the command line work in a full server.
    let healthy = Request::get("/healthz").fetch(stage.server.address());
    assert_eq!(healthy.status, 200);
    stage.server.admin(&["account", "list"]);
    stage.upstream.open("go");
    assert!(answer.fetch().text().ends_with("data: [DONE]\n\n"));
    wait_for("room", BOUND, || (stage.get("/v1/models").status == 200).then_some(()));
}
