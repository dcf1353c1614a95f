//! The operator's routes.

use serde_json::{Value, json};

use crate::{
    kit::{Dialect, Stage, chat, error_of, with},
    program::edit_database,
    support::{
        BOUND, KEY_CANARY,
        http::Request,
        ledger::SETTLED,
        replies::openai,
        server::TestServer,
        upstream::{Exchange, Step, Upstream},
        wait_for,
    },
};

fn audit(stage: &Stage, key: &str) -> crate::support::http::Fetched {
    Request::get("/v1/admin/audit").bearer(key).fetch(stage.server.address())
}

fn audit_in_mode(stage: &Stage, key: &str, mode: &str) -> crate::support::http::Fetched {
    let path = format!("/v1/admin/audit?mode={mode}");
    Request::get(&path).bearer(key).fetch(stage.server.address())
}

fn metrics(stage: &Stage, key: &str) -> crate::support::http::Fetched {
    Request::get("/metrics").bearer(key).fetch(stage.server.address())
}

#[test]
fn the_ledgers_numbers_are_told_to_who_has_the_operators_key() {
    let key = format!("{KEY_CANARY}-operator");
    let builder = TestServer::builder().env("FACES_ADMIN_KEY", &key);
    let stage = Stage::with([openai::json_exchange("ok", 10, 5)], builder, "1");
    assert_eq!(metrics(&stage, &key[1..]).status, 401);
    let none = Request::get("/metrics").fetch(stage.server.address());
    assert_eq!(none.status, 401);
    assert_eq!(stage.post("/v1/chat/completions", &chat("alice")).status, 200);
    let rows = stage.server.ledger().wait_resolved(&stage.account, 1);
    assert_eq!(rows[0].state, SETTLED);
    let told = metrics(&stage, &key);
    assert_eq!(told.status, 200);
    let kind = told.header("content-type").unwrap();
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
    let text = told.text();
    for line in [
        "faces_ledger_settlements_total{basis=\"provider\"} 1",
        "faces_ledger_holds_open 0",
        "faces_ledger_overruns_total 0",
    ] {
        assert!(text.lines().any(|told| told == line), "{line} is missing in\n{text}");
    }
    assert!(text.ends_with("# EOF\n"), "{text}");
}

/// Waits until the metrics have all these lines.
#[track_caller]
fn wait_told(stage: &Stage, key: &str, lines: &[&str]) -> String {
    wait_for(&format!("the metrics to tell {lines:#?}"), BOUND, || {
        let text = metrics(stage, key).text();
        lines.iter().all(|line| text.lines().any(|told| told == *line)).then_some(text)
    })
}

#[test]
fn requests_are_counted_by_route_and_calls_by_provider() {
    let key = format!("{KEY_CANARY}-operator");
    // One worker, so that the second call takes the connection that the first one left.
    let builder = TestServer::builder().env("FACES_ADMIN_KEY", &key).env("FACES_WORKERS", "1");
    let close = Exchange::new(vec![Step::Fin]);
    let failure = Exchange::json(500, &json!({"error": {"message": "broken"}}));
    let stage = Stage::with([openai::json_exchange("ok", 10, 5), close, failure], builder, "1");
    assert_eq!(stage.post("/v1/chat/completions", &chat("alice")).status, 200);
    assert_eq!(stage.post("/v1/chat/completions", &chat("alice")).status, 502);
    assert_eq!(stage.get("/v1/no-such-path").status, 404);
    assert_eq!(stage.fetch(&Request::new("BREW", "/v1/models")).status, 405);
    let provider = |end: &str, count: u64| {
        format!(
            "faces_upstream_attempts_total{{provider=\"scripted-openai\",end=\"{end}\"}} {count}"
        )
    };
    let (ok, stale, failed) = (provider("2xx", 1), provider("stale", 1), provider("5xx", 1));
    let text = wait_told(
        &stage,
        &key,
        &[
            "faces_http_requests_total{route=\"/v1/chat/completions\",method=\"POST\",status=\"2xx\"} 1",
            "faces_http_requests_total{route=\"/v1/chat/completions\",method=\"POST\",status=\"5xx\"} 1",
            "faces_http_requests_total{route=\"unmatched\",method=\"GET\",status=\"4xx\"} 1",
            "faces_http_requests_total{route=\"/v1/models\",method=\"other\",status=\"4xx\"} 1",
            "faces_http_request_seconds_count{route=\"/v1/chat/completions\"} 2",
            "faces_http_head_seconds_count{route=\"/v1/chat/completions\"} 2",
            "faces_http_errors_total{code=\"upstream_error\"} 1",
            "faces_http_errors_total{code=\"route_not_found\"} 1",
            "faces_http_replays_total 0",
            // The one that asks.
            "faces_http_requests_in_flight 1",
            "faces_http_streams_running 0",
            "faces_upstream_first_byte_seconds_count{provider=\"scripted-openai\"} 2",
            &ok,
            &stale,
            &failed,
            &provider("timeout", 0),
            "faces_ledger_stopped 0",
        ],
    );
    assert!(!text.contains("no-such-path") && !text.contains("BREW"), "{text}");
}

#[test]
fn streams_and_calls_without_a_client_are_counted_while_they_run() {
    let key = format!("{KEY_CANARY}-operator");
    let records = openai::stream(&["a", "b"], 10, 5);
    let (opening, closing) = records.split_at(2);
    let opened = Exchange::sse(opening.to_vec()).then_wait("go on");
    let paused = closing.iter().fold(opened, |exchange, next| exchange.then_write(next.as_str()));
    let upstream = Upstream::start([paused]);
    let builder = TestServer::builder().env("FACES_ADMIN_KEY", &key).with_upstream(&upstream);
    let server = builder.billed_to_the_end().start();
    let account = server.account_with_usd("1");
    server.alice(&account);
    let stage = Stage { server, account, upstream };
    let body = with(chat("alice"), &json!({"stream": true}));
    let request = Request::post("/v1/chat/completions", &body).bearer(&stage.account.key);
    let mut events = request.send(stage.server.address()).answer().events();
    assert!(events.next_message().is_some());
    wait_told(
        &stage,
        &key,
        &[
            "faces_http_streams_running 1",
            "faces_drains_running 0",
            "faces_http_requests_in_flight 2",
        ],
    );
    events.close_fin();
    wait_told(&stage, &key, &["faces_http_streams_running 0", "faces_drains_running 1"]);
    stage.upstream.open("go on");
    wait_told(
        &stage,
        &key,
        &[
            "faces_drains_running 0",
            "faces_drains_refused_total 0",
            "faces_http_requests_in_flight 1",
            "faces_http_requests_total{route=\"/v1/chat/completions\",method=\"POST\",status=\"2xx\"} 1",
            "faces_upstream_attempts_total{provider=\"scripted-openai\",end=\"2xx\"} 1",
        ],
    );
    assert_eq!(stage.server.ledger().wait_resolved(&stage.account, 1)[0].state, SETTLED);
}

#[test]
fn the_audit_answers_200_only_when_the_books_are_right() {
    let key = format!("{KEY_CANARY}-operator");
    let builder = TestServer::builder().env("FACES_ADMIN_KEY", &key);
    let stage = Stage::with([openai::json_exchange("ok", 10, 5)], builder, "1");
    assert_eq!(stage.post("/v1/chat/completions", &chat("alice")).status, 200);
    stage.server.ledger().wait_resolved(&stage.account, 1);
    for wrong in [&key[1..], stage.account.key.as_str(), ""] {
        let refused = audit(&stage, wrong);
        assert_eq!(error_of(&refused, Dialect::Faces).code, "invalid_api_key");
        assert_eq!(refused.status, 401);
    }
    let right = audit(&stage, &key);
    assert_eq!(right.status, 200, "{}", right.text());
    let report = right.json();
    assert_eq!(report["clean"], true, "{report}");
    assert_eq!(report["counts"]["holds_settled"], 1, "{report}");
    edit_database(&stage.server, "UPDATE ledger_account SET credits = credits + 7 WHERE kind = 1");
    let wrong = audit(&stage, &key);
    edit_database(&stage.server, "UPDATE ledger_account SET credits = credits - 7 WHERE kind = 1");
    assert_eq!(wrong.status, 500, "{}", wrong.text());
    let report = wrong.json();
    assert_eq!(report["clean"], false, "{report}");
    assert_eq!(report["differences"][0]["id"], stage.account.id.as_str(), "{report}");
    assert_eq!(audit(&stage, &key).status, 200);
}

#[test]
fn an_incremental_audit_moves_the_seal_and_a_full_one_tells_where_it_is() {
    let key = format!("{KEY_CANARY}-operator");
    let builder = TestServer::builder().env("FACES_ADMIN_KEY", &key);
    let stage = Stage::with([openai::json_exchange("ok", 10, 5)], builder, "1");
    assert_eq!(stage.post("/v1/chat/completions", &chat("alice")).status, 200);
    stage.server.ledger().wait_resolved(&stage.account, 1);
    let full = audit_in_mode(&stage, &key, "full").json();
    assert_eq!((&full["mode"], &full["sealed_to"]), (&"full".into(), &Value::Null), "{full}");
    let quick = audit_in_mode(&stage, &key, "incremental");
    assert_eq!(quick.status, 200, "{}", quick.text());
    let quick = quick.json();
    assert_eq!(quick["mode"], "incremental", "{quick}");
    assert_eq!((&quick["counts"], &quick["totals"]), (&full["counts"], &full["totals"]));
    assert!(quick["sealed_to"].as_str().is_some_and(|time| time.ends_with('Z')), "{quick}");
    assert_eq!(audit(&stage, &key).json()["sealed_to"], quick["sealed_to"]);
    edit_database(&stage.server, "UPDATE ledger_account SET credits = credits + 7 WHERE kind = 1");
    assert_eq!(audit_in_mode(&stage, &key, "incremental").status, 500);
    edit_database(&stage.server, "UPDATE ledger_account SET credits = credits - 7 WHERE kind = 1");
    for wrong in ["daily", "", "full&mode=full"] {
        let refused = audit_in_mode(&stage, &key, wrong);
        assert_eq!(refused.status, 422, "{wrong}: {}", refused.text());
        assert!(refused.text().contains("incremental"), "{}", refused.text());
    }
    assert_eq!(audit_in_mode(&stage, &key[1..], "daily").status, 401);
}

#[test]
fn without_a_key_the_routes_are_closed() {
    let stage = Stage::with([], TestServer::builder(), "1");
    let closed = metrics(&stage, "anything");
    assert_eq!(closed.status, 404);
    assert!(closed.text().contains("FACES_ADMIN_KEY"), "{}", closed.text());
    assert_eq!(audit(&stage, "anything").status, 404);
}
