//! The operator's routes.

use serde_json::Value;

use crate::{
    kit::{Dialect, Stage, chat, error_of},
    program::edit_database,
    support::{KEY_CANARY, http::Request, ledger::SETTLED, replies::openai, server::TestServer},
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
