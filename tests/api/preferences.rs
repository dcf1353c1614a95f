//! What an account prefers, and what it means for its faces.

use serde_json::{Value, json};

use crate::{
    kit::{Dialect, chat, error_of},
    support::{
        http::Request,
        login::Person,
        models::{ANTHROPIC_MODEL, FREE_MODEL, OPENAI_MODEL},
        replies::{anthropic, openai},
        server::TestServer,
        upstream::Upstream,
    },
};

#[test]
fn the_model_is_the_requests_else_the_faces_else_the_accounts_else_the_servers() {
    let upstream = Upstream::start([
        openai::json_exchange("ok", 1, 1).any_times(),
        anthropic::json_exchange("ok", 1, 1).any_times(),
    ]);
    let builder = TestServer::builder().env("FACES_DEFAULT_MODEL", FREE_MODEL);
    let server = builder.with_upstream(&upstream).start();
    let (ada, bob) = (Person::register(&server, "ada"), Person::register(&server, "bob"));
    for person in [&ada, &bob] {
        person.credit(&server, "1");
        let face = json!({"username": "plain"});
        assert_eq!(person.send(&server, "POST", "/v1/faces", &face).status, 201);
    }
    let own = json!({"username": "own", "default_model": ANTHROPIC_MODEL});
    assert_eq!(ada.send(&server, "POST", "/v1/faces", &own).status, 201);
    let answered_by = |person: &Person, model: &str| {
        let answer = person.send(&server, "POST", "/v1/chat/completions", &chat(model));
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.header("x-faces-model").expect("x-faces-model").to_owned()
    };
    assert_eq!(answered_by(&ada, "plain"), FREE_MODEL, "the server's");
    let prefer = |model: Value| {
        let change = json!({"default_model": model});
        let answer = ada.send(&server, "PATCH", "/v1/user/preferences", &change);
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["default_model"].clone()
    };
    assert_eq!(prefer(json!(OPENAI_MODEL)), json!(OPENAI_MODEL));
    assert_eq!(answered_by(&ada, "plain"), OPENAI_MODEL, "the account's, at once");
    assert_eq!(answered_by(&ada, "own"), ANTHROPIC_MODEL, "the face's");
    assert_eq!(answered_by(&ada, "plain@sandbox"), "sandbox", "the request's");
    assert_eq!(answered_by(&bob, "plain"), FREE_MODEL, "nobody else's");
    assert_eq!(prefer(Value::Null), json!(OPENAI_MODEL), "null changes nothing");
    assert_eq!(prefer(json!("")), json!(FREE_MODEL), "the server's again");
    assert_eq!(answered_by(&ada, "plain"), FREE_MODEL);
}

#[test]
fn preferences_are_read_and_changed_one_by_one() {
    let server = TestServer::builder().start();
    let ada = Person::register(&server, "ada");
    let path = "/v1/user/preferences";
    let key = ada.key(&server, &json!({}))["key"].as_str().unwrap().to_owned();
    let read = || {
        let with_key = Request::get(path).bearer(&key).fetch(server.address()).json();
        assert_eq!(ada.get(&server, path).json(), with_key);
        with_key
    };
    assert_eq!(read(), json!({"api_fallback": false, "default_model": "sandbox"}));
    let changed = ada.send(&server, "PATCH", path, &json!({"api_fallback": true}));
    assert_eq!(changed.json(), json!({"api_fallback": true, "default_model": "sandbox"}));
    assert_eq!(ada.send(&server, "PATCH", path, &json!({})).json(), read());
    for (body, code) in [
        (json!({"default_model": "no-such-model"}), "unsupported_model"),
        (json!({"default_model": 1}), "invalid_request_body"),
        (json!({"api_fallback": "yes"}), "invalid_request_body"),
        (json!({"api_fallback": false, "default_model": "a\u{0}"}), "unsupported_model"),
    ] {
        let refused = ada.send(&server, "PATCH", path, &body);
        assert_eq!(refused.status, 422, "{body}: {}", refused.text());
        assert_eq!(error_of(&refused, Dialect::Faces).code, code, "{body}");
    }
    assert_eq!(read()["api_fallback"], true, "nothing changed");
}
