//! API keys as their owners make, change and revoke them.

use serde_json::{Value, json};

use crate::{
    kit::{Dialect, chat, error_of, json_request, nanousd, usd, with},
    postgres,
    support::{
        BOUND,
        http::{Fetched, Request},
        login::Person,
        models::{self, FREE_INPUT_MODEL, OPENAI_MODEL},
        replies::openai,
        server::TestServer,
        upstream::Upstream,
        wait_for,
    },
};

const PATHS: [&str; 2] = ["/v1/auth/api-keys", "/v1/api-keys"];

fn start() -> (TestServer, Person) {
    let server = TestServer::builder().start();
    let ada = Person::register(&server, "ada");
    (server, ada)
}

fn key_of(made: &Value) -> &str {
    made["key"].as_str().expect("the key")
}

fn status(server: &TestServer, key: &str) -> u16 {
    Request::get("/v1/models").bearer(key).fetch(server.address()).status
}

#[test]
fn a_key_is_made_changed_and_revoked_on_both_paths_with_both_sets_of_names() {
    let (server, ada) = start();
    let names = [
        ["expires_in_days", "budget_usd", "allowed_face_ids", "allowed_llm_models"],
        ["expires_days", "budget", "allowed_faces", "allowed_models"],
    ];
    for (path, [days, budget, faces, models]) in PATHS.into_iter().zip(names) {
        let body = json!({"name": "prod", days: 30, budget: 50.0, faces: ["alice"],
            models: ["sandbox", "gpt-4o"], "unknown": 1});
        let answer = ada.send(&server, "POST", path, &body);
        assert_eq!(answer.status, 201, "{}", answer.text());
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        let made = answer.json();
        server.plant_secret(key_of(&made));
        let mut shown = made.clone();
        shown.as_object_mut().unwrap().remove("key");
        let id = made["id"].as_str().unwrap();
        let prefix: String = key_of(&made).chars().take("sk-faces-".len() + 8).collect();
        let expected = json!({"name": "prod", "key_prefix": prefix, "budget_usd": 50,
            "budget_window": "none", "spent_usd": 0, "total_spent_usd": 0, "resets_at": null,
            "allowed_face_ids": ["alice"], "allowed_llm_models": ["sandbox", "gpt-4o"],
            "scopes": ["v1:*"], "revoked": false, "revoked_at": null, "last_used_at": null});
        for (field, value) in expected.as_object().unwrap() {
            assert_eq!(shown[field], *value, "{field}: {shown}");
        }
        for field in ["created_at", "expires_at"] {
            let at = shown[field].as_str().unwrap();
            assert!(at.len() == 20 && at.ends_with('Z') && &at[10..11] == "T", "{field}: {at}");
        }
        let one = format!("{path}/{id}");
        assert_eq!(ada.get(&server, &one).json(), shown, "the secret is told once");
        assert_eq!(ada.get(&server, path).json()["data"][0], shown);
        assert_eq!(status(&server, key_of(&made)), 200);
        let change =
            json!({"name": "new", budget: 2, "clear_iam_allowlist": true, models: ["sandbox"]});
        let changed = ada.send(&server, "PATCH", &one, &change);
        assert_eq!(changed.status, 200, "{}", changed.text());
        let changed = changed.json();
        let told = [&changed["name"], &changed["budget_usd"], &changed["allowed_face_ids"]];
        assert_eq!(told, [&json!("new"), &json!(2), &Value::Null]);
        assert_eq!(changed["allowed_llm_models"], json!(["sandbox"]));
        assert_eq!(ada.send(&server, "PATCH", &one, &json!({"name": null})).json(), changed);
        let listed = Request::get("/v1/models").bearer(key_of(&made)).fetch(server.address());
        assert_eq!(listed.json()["data"].as_array().unwrap().len(), 1, "at once on this server");
        for _ in 0..2 {
            let revoked = ada.fetch(&server, Request::new("DELETE", &one));
            assert_eq!(revoked.status, 200, "{}", revoked.text());
            let told = (revoked.json()["revoked"].clone(), revoked.json()["key_id"].clone());
            assert_eq!(told, (json!(true), json!(id)));
        }
        assert_eq!(status(&server, key_of(&made)), 401);
        let listed = ada.get(&server, path).json()["data"][0].clone();
        assert_eq!((&listed["id"], &listed["revoked"]), (&json!(id), &json!(true)));
        assert!(listed["revoked_at"].is_string(), "{listed}");
    }
}

#[test]
fn an_empty_body_makes_a_key_without_limits() {
    let (server, ada) = start();
    let made = ada.key(&server, &json!({}));
    let told = ["name", "expires_at", "budget_usd", "allowed_face_ids", "allowed_llm_models"];
    let told = told.map(|field| made[field].clone());
    assert_eq!(told, [json!("default"), json!(null), json!(null), json!(null), json!(null)]);
}

#[test]
fn a_wrong_field_is_named_and_nothing_is_made_or_changed() {
    let (server, ada) = start();
    let made = ada.key(&server, &json!({"name": "one"}));
    let path = format!("/v1/api-keys/{}", made["id"].as_str().unwrap());
    let before = ada.get(&server, &path).json();
    let both = [
        (json!({"name": ""}), json!(["body", "name"])),
        (json!({"name": "x".repeat(101)}), json!(["body", "name"])),
        (json!({"name": "a\u{0}"}), json!(["body", "name"])),
        (json!({"budget": -1}), json!(["body", "budget"])),
        (json!({"budget_usd": "5"}), json!(["body", "budget_usd"])),
        (json!({"budget_usd": 1e300}), json!(["body", "budget_usd"])),
        (json!({"budget_usd": 0.000_000_000_1}), json!(["body", "budget_usd"])),
        (json!({"budget_window": "daily"}), json!(["body", "budget_window"])),
        (json!({"budget": 1, "budget_window": "hourly"}), json!(["body", "budget_window"])),
        (json!({"allowed_faces": "alice"}), json!(["body", "allowed_faces"])),
        (json!({"allowed_face_ids": ["a", 1]}), json!(["body", "allowed_face_ids", 1])),
        (json!({"allowed_face_ids": ["Not One"]}), json!(["body", "allowed_face_ids", 0])),
        (json!({"allowed_models": [""]}), json!(["body", "allowed_models", 0])),
        (json!({"allowed_models": vec!["m"; 1_001]}), json!(["body", "allowed_models"])),
        (json!({"scopes": ["v1:everything"]}), json!(["body", "scopes"])),
    ];
    let created = [
        (json!({"expires_days": 0}), json!(["body", "expires_days"])),
        (json!({"expires_in_days": 1.5}), json!(["body", "expires_in_days"])),
        (json!({"expires_in_days": 36_501}), json!(["body", "expires_in_days"])),
    ];
    let patched = [
        (json!({"clear_budget": "yes"}), json!(["body", "clear_budget"])),
        (json!({"clear_budget": true, "budget": 1}), json!(["body", "clear_budget"])),
        (
            json!({"clear_llm_allowlist": true, "allowed_models": []}),
            json!(["body", "clear_llm_allowlist"]),
        ),
        (json!({"reset_spent": 1}), json!(["body", "reset_spent"])),
    ];
    let posts = both.iter().chain(&created).map(|case| ("POST", "/v1/api-keys", case));
    let patches = both.iter().chain(&patched).map(|case| ("PATCH", path.as_str(), case));
    for (method, path, (body, loc)) in posts.chain(patches) {
        let refused = ada.send(&server, method, path, body);
        assert_eq!(refused.status, 422, "{method} {body}: {}", refused.text());
        assert_eq!(error_of(&refused, Dialect::Faces).details["loc"], *loc, "{method} {body}");
    }
    assert_eq!(ada.get(&server, &path).json(), before);
    assert_eq!(ada.get(&server, "/v1/api-keys").json()["data"].as_array().unwrap().len(), 1);
}

#[test]
fn a_foreign_key_is_the_same_404_as_a_missing_one() {
    let (server, ada) = start();
    let eve = Person::register(&server, "eve");
    let made = ada.key(&server, &json!({}));
    let id = made["id"].as_str().unwrap();
    let missing = "0192f0c1-2d3e-7a4b-8c5d-6e7f8091a2b3";
    for base in PATHS {
        for (method, body) in
            [("GET", json!({})), ("PATCH", json!({"name": "x"})), ("DELETE", json!({}))]
        {
            let told = |id: &str| {
                let answer = eve.send(&server, method, &format!("{base}/{id}"), &body);
                assert_eq!(answer.status, 404, "{method} {id}: {}", answer.text());
                answer.text()
            };
            let foreign = told(id);
            assert!(foreign.contains(r#""detail":"API key not found""#), "{foreign}");
            assert_eq!([told(missing), told("x"), told("%00")], [(); 3].map(|()| foreign.clone()));
        }
    }
    assert_eq!(eve.get(&server, "/v1/api-keys").json()["data"], json!([]));
    assert_eq!(status(&server, key_of(&made)), 200);
}

#[test]
fn a_key_may_what_its_scopes_say() {
    let (server, ada) = start();
    ada.credit(&server, "1");
    let face = json!({"username": "bo", "default_model": "sandbox"});
    assert_eq!(ada.send(&server, "POST", "/v1/faces", &face).status, 201);
    let routes = [
        ("GET", "/v1/models", json!({}), "any"),
        ("POST", "/v1/chat/completions", chat("bo"), "v1:chat"),
        ("GET", "/v1/faces", json!({}), "v1:read"),
        ("GET", "/v1/account/state", json!({}), "v1:read"),
        ("GET", "/v1/user/preferences", json!({}), "v1:read"),
        ("PATCH", "/v1/user/preferences", json!({}), "v1:admin"),
        ("PATCH", "/v1/faces/bo", json!({"name": "Bo"}), "v1:admin"),
    ];
    for scopes in [vec!["v1:chat"], vec!["v1:read"], vec!["v1:read", "v1:admin"], vec![]] {
        let made = ada.key(&server, &json!({"scopes": scopes}));
        assert_eq!(made["scopes"], json!(scopes));
        for (method, path, body, needed) in &routes {
            let request = json_request(method, path, body).bearer(key_of(&made));
            let answer = request.fetch(server.address());
            let may = scopes.contains(needed) || (*needed == "any" && !scopes.is_empty());
            let expected = if may { 200 } else { 403 };
            assert_eq!(answer.status, expected, "{scopes:?} {path}: {}", answer.text());
        }
        let id = made["id"].as_str().unwrap();
        let all = json!({"scopes": ["v1:*"]});
        ada.send(&server, "PATCH", &format!("/v1/auth/api-keys/{id}"), &all);
        let request = json_request("POST", "/v1/chat/completions", &chat("bo"));
        let answer = request.bearer(key_of(&made)).fetch(server.address());
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

/// A server whose model costs [`price`] for each answer, and somebody with credit.
fn priced() -> (Upstream, TestServer, Person) {
    let upstream = Upstream::start([openai::json_exchange("ok", 10, 100).any_times()]);
    let server = TestServer::with_upstream(&upstream);
    let ada = Person::register(&server, "ada");
    ada.credit(&server, "10");
    (upstream, server, ada)
}

fn price() -> i64 {
    models::with_markup(100 * models::FREE_INPUT_OUTPUT_NANOUSD)
}

fn ask(server: &TestServer, key: &str) -> Fetched {
    let body = with(chat(FREE_INPUT_MODEL), &json!({"max_tokens": 100}));
    Request::post("/v1/chat/completions", &body).bearer(key).fetch(server.address())
}

#[test]
fn a_spent_budget_is_reset_raised_and_removed() {
    let (_upstream, server, ada) = priced();
    for window in ["none", "daily"] {
        let limit: Value = serde_json::from_str(&usd(2 * price())).unwrap();
        let made = ada.key(&server, &json!({"budget": limit, "budget_window": window}));
        let path = format!("/v1/api-keys/{}", made["id"].as_str().unwrap());
        let spend = |answers: [u16; 3]| {
            let told = [(); 3].map(|()| ask(&server, key_of(&made)).status);
            assert_eq!(told, answers, "{window}");
        };
        let spent = |key: &Value| {
            (nanousd(&key["spent_usd"]) / price(), nanousd(&key["total_spent_usd"]) / price())
        };
        spend([200, 200, 402]);
        assert_eq!(spent(&ada.get(&server, &path).json()), (2, 2));
        let reset = ada.send(&server, "PATCH", &path, &json!({"reset_spent": true}));
        assert_eq!(reset.status, 200, "{}", reset.text());
        assert_eq!(spent(&reset.json()), (0, 2));
        spend([200, 200, 402]);
        assert_eq!(spent(&ada.get(&server, &path).json()), (2, 4));
        let limit: Value = serde_json::from_str(&usd(3 * price())).unwrap();
        let raised = ada.send(&server, "PATCH", &path, &json!({"budget_usd": limit})).json();
        assert_eq!((spent(&raised), &raised["budget_window"]), ((2, 4), &json!(window)));
        spend([200, 402, 402]);
        let removed = ada.send(&server, "PATCH", &path, &json!({"clear_budget": true})).json();
        assert_eq!(removed["budget_usd"], Value::Null);
        assert_eq!(spent(&removed), (3, 5), "since the reset, and ever");
        spend([200, 200, 200]);
        let reset = ada.send(&server, "PATCH", &path, &json!({"reset_spent": true})).json();
        assert_eq!(spent(&reset), (0, 8));
    }
}

#[test]
fn lists_of_faces_and_models_are_enforced_and_cleared() {
    let (_upstream, server, ada) = priced();
    for name in ["bo", "cy"] {
        let face = json!({"username": name, "default_model": OPENAI_MODEL});
        assert_eq!(ada.send(&server, "POST", "/v1/faces", &face).status, 201);
    }
    let made =
        ada.key(&server, &json!({"allowed_faces": ["bo"], "allowed_models": [OPENAI_MODEL]}));
    let path = format!("/v1/api-keys/{}", made["id"].as_str().unwrap());
    let status = |model: &str| {
        let request = Request::post("/v1/chat/completions", &chat(model)).bearer(key_of(&made));
        request.fetch(server.address()).status
    };
    assert_eq!(["bo", "cy", "bo@sandbox"].map(status), [200, 403, 403]);
    let nothing = json!({"allowed_face_ids": []});
    ada.send(&server, "PATCH", &path, &nothing);
    assert_eq!(["bo", "cy", OPENAI_MODEL].map(status), [403, 403, 200], "an empty list is none");
    let clear = json!({"clear_iam_allowlist": true, "clear_llm_allowlist": true});
    ada.send(&server, "PATCH", &path, &clear);
    assert_eq!(["bo", "cy", "bo@sandbox"].map(status), [200, 200, 200]);
}

#[test]
fn the_last_use_is_written_in_the_background_and_at_the_stop() {
    let builder = || TestServer::builder().env("FACES_KEY_USES_FLUSH_MS", "100");
    let server = builder().start();
    let ada = Person::register(&server, "ada");
    let made = ada.key(&server, &json!({}));
    let path = format!("/v1/api-keys/{}", made["id"].as_str().unwrap());
    assert_eq!(ada.get(&server, &path).json()["last_used_at"], Value::Null);
    assert_eq!(status(&server, key_of(&made)), 200);
    let used = wait_for("the last use", BOUND, || {
        ada.get(&server, &path).json()["last_used_at"].as_str().map(str::to_owned)
    });
    assert!(used.ends_with('Z'), "{used}");
    let mut slow = TestServer::builder().env("FACES_KEY_USES_FLUSH_MS", "3600000").start();
    let bob = Person::register(&slow, "bob");
    let made = bob.key(&slow, &json!({}));
    let path = format!("/v1/api-keys/{}", made["id"].as_str().unwrap());
    assert_eq!(status(&slow, key_of(&made)), 200);
    assert!(slow.terminate().success());
    slow.start_again();
    assert!(bob.get(&slow, &path).json()["last_used_at"].is_string());
}

#[test]
fn a_list_has_pages_newest_first() {
    let (server, ada) = start();
    let mut ids: Vec<String> =
        (0..7).map(|_| ada.key(&server, &json!({}))["id"].as_str().unwrap().to_owned()).collect();
    ids.reverse();
    let (mut found, mut path) = (Vec::new(), "/v1/api-keys?limit=3".to_owned());
    for page_number in 0..3 {
        let page = ada.get(&server, &path).json();
        let keys = page["data"].as_array().unwrap();
        found.extend(keys.iter().map(|key| key["id"].as_str().unwrap().to_owned()));
        assert_eq!((&page["object"], &page["has_more"]), (&json!("list"), &json!(page_number < 2)));
        let cursor = page["next_cursor"].as_str().unwrap_or_default();
        path = format!("/v1/api-keys?limit=3&cursor={cursor}");
    }
    assert_eq!(found, ids);
    for query in ["limit=0", "limit=1001", "limit=x", "cursor=x", "cursor="] {
        let refused = ada.get(&server, &format!("/v1/api-keys?{query}"));
        assert_eq!(refused.status, 422, "{query}: {}", refused.text());
        assert_eq!(error_of(&refused, Dialect::Faces).details["loc"][0], "query", "{query}");
    }
}

#[test]
fn the_number_of_keys_is_bounded_and_revoked_ones_do_not_count() {
    let server = TestServer::builder().env("FACES_KEYS_PER_ACCOUNT_MAX", "2").start();
    let ada = Person::register(&server, "ada");
    let first = ada.key(&server, &json!({}));
    ada.key(&server, &json!({}));
    let third = ada.send(&server, "POST", "/v1/api-keys", &json!({}));
    assert_eq!(third.status, 422, "{}", third.text());
    assert!(error_of(&third, Dialect::Faces).message.contains('2'));
    let path = format!("/v1/api-keys/{}", first["id"].as_str().unwrap());
    assert_eq!(ada.fetch(&server, Request::new("DELETE", &path)).status, 200);
    ada.key(&server, &json!({}));
}

#[test]
fn what_is_changed_on_one_server_holds_on_another_within_two_seconds() {
    let cluster = match postgres::cluster() {
        Ok(cluster) => cluster,
        Err(why) => return postgres::skipped(why),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let database = runtime.expect("a runtime").block_on(cluster.create_database());
    let one = TestServer::builder().with_postgres(&database.url).start();
    let two = TestServer::builder().with_postgres(&database.url).start();
    let ada = Person::register(&one, "ada");
    assert_eq!(ada.get(&two, "/v1/auth/me").status, 200, "they share the secret of tokens");
    let made = ada.key(&one, &json!({"scopes": ["v1:read"]}));
    let path = format!("/v1/api-keys/{}", made["id"].as_str().unwrap());
    let faces = || Request::get("/v1/faces").bearer(key_of(&made)).fetch(two.address()).status;
    assert_eq!(faces(), 200);
    let seen_within = std::time::Duration::from_secs(2);
    ada.send(&one, "PATCH", &path, &json!({"scopes": ["v1:chat"]}));
    wait_for("the scopes", seen_within, || (faces() == 403).then_some(()));
    ada.fetch(&one, Request::new("DELETE", &path));
    wait_for("the end of the key", seen_within, || (faces() == 401).then_some(()));
    drop((one, two));
}
