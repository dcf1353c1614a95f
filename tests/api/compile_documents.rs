//! Documents as their owners see them: what is refused, quotas, lists, and whose they are.

use serde_json::json;

use crate::{
    compile::{DOCUMENTS, Desk},
    kit::json_request,
    support::{http::Request, server::TestServer},
};

#[test]
fn what_is_wrong_with_a_document_is_told_by_its_field() {
    let desk = Desk::offline();
    let cases = [
        (json!({"model": "eliza"}), "content", "missing"),
        (json!({"content": "I am."}), "model", "missing"),
        (json!({"model": "eliza", "content": 7}), "content", "type_error"),
        (json!({"model": "eliza", "content": " \u{0}\n "}), "content", "value_error"),
        (
            json!({"model": "eliza", "content": "x", "perspective": "my"}),
            "perspective",
            "value_error",
        ),
        (
            json!({"model": "eliza", "content": "x", "label": "l".repeat(201)}),
            "label",
            "value_error",
        ),
        (json!({"model": "eliza", "content": "x".repeat(4_194_305)}), "content", "value_error"),
    ];
    for (body, field, kind) in cases {
        let answer = desk.post(DOCUMENTS, &body);
        let detail = answer.json()["detail"][0].clone();
        assert_eq!((answer.status, &detail["loc"][1]), (422, &json!(field)), "{detail}");
        assert_eq!(detail["type"], kind, "{detail}");
    }
    let nobody = desk.post(DOCUMENTS, &json!({"model": "nobody", "content": "I am."}));
    assert_eq!(nobody.status, 404);
    let id = desk.document("\r\nI am\u{0} here.\r\nI am old.");
    assert_eq!(desk.read(&id)["content"], "\nI am here.\nI am old.");
    assert_eq!(desk.read(&id)["label"], "I am here.");
    let overflow =
        desk.send("PATCH", "/v1/billing/compile-quota", &json!({"allow_compile_overflow": 1}));
    assert_eq!(overflow.status, 422);
    let overflow =
        desk.send("PATCH", "/v1/billing/compile-quota", &json!({"allow_compile_overflow": true}));
    assert_eq!((overflow.status, &overflow.json()["allow_compile_overflow"]), (200, &json!(true)));
}

#[test]
fn a_quota_is_a_402_until_it_may_be_left_behind() {
    let plans = tempfile::NamedTempFile::new().unwrap();
    let text = "[[plan]]\nname = \"small\"\ncompile_tokens = 10\nperiod_days = 30\n";
    std::fs::write(plans.path(), text).unwrap();
    let path = plans.path().display().to_string();
    let desk = Desk::open(TestServer::builder().env("FACES_PLANS_FILE", &path), "10");
    let first = desk.document("I love tea and long walks, too.");
    let second = desk.document("I hate rain.");
    desk.make(&first);
    let refused = desk.step(&second, "make");
    assert_eq!(refused.status, 402, "{}", refused.text());
    let body = refused.json();
    let detail = body["detail"].as_str().unwrap();
    assert!(
        detail.contains("8 of 10 tokens") && detail.contains("allow_compile_overflow"),
        "{detail}"
    );
    assert_eq!(body["reason"], "compile_quota_exceeded", "{body}");
    let quota = desk.get("/v1/billing/compile-quota");
    assert_eq!((&quota["plan"], &quota["tokens_remaining"]), (&json!("small"), &json!(2)));
    assert!(quota["quota_reset_at"].is_string(), "{quota}");
    let change = json!({"allow_compile_overflow": true});
    assert_eq!(desk.send("PATCH", "/v1/billing/compile-quota", &change).status, 200);
    let made = desk.make(&second);
    assert_eq!((&made["overflow_billed"], &made["tokens_used"]), (&json!(true), &json!(11)));
    // The same text again is free of the quota.
    desk.step(&first, "reset");
    assert_eq!(desk.step(&first, "sync").json()["tokens_charged"], 0);
}

#[test]
fn lists_have_pages_and_no_texts() {
    let desk = Desk::offline();
    desk.face("jane", "Jane Bennet");
    let ids: Vec<String> = (0..3).map(|n| desk.document(&format!("I am number {n}."))).collect();
    let of_jane = desk.get("/v1/compile/documents?alias=jane");
    assert_eq!((&of_jane["data"], &of_jane["has_more"]), (&json!([]), &json!(false)));
    let page = desk.get("/v1/faces/eliza/compile/documents?limit=2");
    assert_eq!(page["object"], "list");
    assert_eq!((&page["data"][1]["id"], &page["has_more"]), (&json!(ids[1]), &json!(true)));
    assert!(page["data"][0].get("content").is_none(), "{page}");
    let next = page["next_cursor"].as_str().unwrap();
    let rest = desk.get(&format!("/v1/faces/eliza/documents?limit=2&cursor={next}"));
    assert_eq!(
        (&rest["data"][0]["id"], rest["data"].as_array().unwrap().len()),
        (&json!(ids[2]), 1)
    );
    let wrong = Request::get("/v1/compile/documents?limit=0").bearer(&desk.account.key);
    assert_eq!(wrong.fetch(desk.server.address()).status, 422);
}

#[test]
fn a_document_is_its_owners_and_a_missing_one_to_everybody_else() {
    let desk = Desk::offline();
    let id = desk.document("I love tea.");
    let other = desk.server.account();
    let none = "0197a000-0000-7000-8000-000000000001";
    let routes = [
        ("GET", ""),
        ("PATCH", ""),
        ("DELETE", ""),
        ("POST", "/prepare"),
        ("POST", "/make"),
        ("POST", "/sync"),
        ("POST", "/pause"),
        ("POST", "/reset"),
    ];
    for (method, step) in routes {
        let ask = |id: &str, key: &str| {
            let request = json_request(method, &format!("{DOCUMENTS}/{id}{step}"), &json!({}));
            request.bearer(key).fetch(desk.server.address())
        };
        let (foreign, missing) = (ask(&id, &other.key), ask(none, &desk.account.key));
        assert_eq!((foreign.status, missing.status), (404, 404), "{method} {step}");
        assert_eq!(foreign.json()["detail"], missing.json()["detail"]);
        assert_eq!(ask("x", &desk.account.key).status, 404);
        assert_eq!(ask(&id, "sk-faces-nonsense").status, 401);
    }
    let limited = desk.server.key(&desk.account.id, &["--allow-face", "jane"]);
    let read = Request::get(&format!("{DOCUMENTS}/{id}")).bearer(&limited);
    assert_eq!(read.fetch(desk.server.address()).status, 403);
    let list = Request::get(DOCUMENTS).bearer(&limited).fetch(desk.server.address());
    assert_eq!(list.json()["data"], json!([]));
}
