//! Faces as their owners keep them.

use serde_json::{Value, json};

use crate::{
    document::Document,
    kit::{Dialect, Stage, error_of, json_request},
    support::{
        http::Request,
        models::{ANTHROPIC_MODEL, OPENAI_MODEL},
        server::{Account, TestServer},
    },
};

#[test]
fn a_face_is_made_read_changed_and_deleted_with_either_set_of_names() {
    let stage = Stage::new([]);
    let generations = [
        ("username", "basic_facts", "default_tools", "newer"),
        ("alias", "facts", "tools", "older"),
        ("model", "facts", "default_tools", "mixed"),
    ];
    for (username, facts, tools, name) in generations {
        let body = json!({username: name, "name": "Bo Beispiel", facts: {"Age": 41, "city": "Kiel"},
            tools: ["web"], "default_model": OPENAI_MODEL, "some_unknown_field": 1});
        let made = stage.post("/v1/faces", &body);
        assert_eq!(made.status, 201, "{body}: {}", made.text());
        let face = made.json();
        for field in ["id", "username", "alias"] {
            assert_eq!(face[field], name, "{face}");
        }
        assert_eq!(face["object"], "face");
        assert_eq!(face["basic_facts"]["age"]["value"], "41", "{face}");
        assert_eq!(
            (&face["default_tools"], &face["default_model"]),
            (&json!(["web"]), &json!(OPENAI_MODEL))
        );
        let path = format!("/v1/faces/{name}");
        let read = stage.get(&path);
        assert_eq!((read.status, read.json()["uid"].clone()), (200, face["uid"].clone()));
        let change = json!({facts: {"age": 42}, tools: []});
        let changed = stage.send("PATCH", &path, &change);
        assert_eq!(changed.status, 200, "{}", changed.text());
        let changed = changed.json();
        assert_eq!(changed["basic_facts"]["age"]["value"], "42");
        assert_eq!(changed["default_tools"], json!([]), "a list is replaced");
        assert_eq!(changed["name"], "Bo Beispiel", "what was left out stays");
        let deleted = stage.fetch(&Request::new("DELETE", &path));
        assert_eq!((deleted.status, deleted.json()["deleted"].clone()), (200, json!(true)));
        for method in ["GET", "DELETE"] {
            let gone = stage.fetch(&Request::new(method, &path));
            assert_eq!(gone.status, 404, "{}", gone.text());
            assert_eq!(error_of(&gone, Dialect::Faces).code, "face_not_found");
        }
    }
}

#[test]
fn facts_are_merged_key_by_key_and_null_clears_a_model() {
    let stage = Stage::new([]);
    let facts = |answer: &Value| {
        let facts = answer["basic_facts"].as_object().unwrap();
        facts
            .iter()
            .map(|(key, fact)| format!("{key}={}", fact["value"].as_str().unwrap()))
            .collect::<Vec<_>>()
            .join(" ")
    };
    let body = json!({"username": "bo", "basic_facts": {"age": "40", "religion": "none"}, "default_model": OPENAI_MODEL});
    assert_eq!(facts(&stage.post("/v1/faces", &body).json()), "age=40 religion=none");
    let patch = |body: Value| stage.send("PATCH", "/v1/faces/bo", &body).json();
    let merged = patch(json!({"basic_facts": {"AGE": {"value": 41}, "occupation": "pilot"}}));
    let shown = facts(&merged);
    for fact in ["age=41", "religion=none", "occupation=pilot"] {
        assert!(shown.contains(fact), "{shown}");
    }
    let unchanged = patch(json!({}));
    assert_eq!((facts(&unchanged), &unchanged["default_model"]), (shown, &json!(OPENAI_MODEL)));
    assert_eq!(patch(json!({"default_model": null}))["default_model"], Value::Null);
    // The username is the address; it is not changed by a PATCH.
    let renamed = patch(json!({"username": "other"}));
    assert_eq!(renamed["username"], "bo");
}

#[test]
fn what_is_dropped_is_told_in_warnings_and_nothing_else_is() {
    let stage = Stage::new([]);
    let body = json!({"username": "bo", "basic_facts":
        {"shoe size of the cat": 3, "age": "", "occupation": "pilot", "Occupation": "cook"}});
    let made = stage.post("/v1/faces", &body).json();
    let warnings: Vec<&str> =
        made["warnings"].as_array().unwrap().iter().map(|w| w.as_str().unwrap()).collect();
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    for (warning, word) in warnings.iter().zip(["shoe size of the cat", "age", "ccupation"]) {
        assert!(warning.contains(word), "{warning}");
    }
    assert_eq!(made["basic_facts"]["occupation"]["value"], "cook");
    assert_eq!(stage.get("/v1/faces/bo").json()["warnings"], json!([]));
}

#[test]
fn primitives_are_replaced_whole_or_not_at_all() {
    let builder = TestServer::builder()
        .env("FACES_PRIMITIVES_MAX", "3")
        .env("FACES_PRIMITIVE_CHARS_MAX", "50");
    let stage = Stage::with([], builder, "10");
    let path = "/v1/faces/alice/primitives";
    let one = |component: &str, text: &str| json!({"component": component, "text": text});
    let good = json!({"primitives": [one("alpha", "a"), one("beta", "b"), one("epsilon", "e")]});
    let put = stage.send("PUT", path, &good);
    assert_eq!(put.status, 200, "{}", put.text());
    let counts = put.json()["component_counts"].clone();
    assert_eq!(
        (&counts["alpha"], &counts["beta"], &counts["epsilon"]),
        (&json!(1), &json!(1), &json!(1))
    );
    assert!(put.json()["profile_token_count"].as_u64().is_some_and(|count| count > 0));
    let long = "x".repeat(51);
    let wrong: [(Value, Value); 12] = [
        (json!({}), json!(["body", "primitives"])),
        (json!({"primitives": 1}), json!(["body", "primitives"])),
        (json!({"primitives": [one("a", "b"), 1]}), json!(["body", "primitives", 0, "component"])),
        (json!({"primitives": [one("alpha", "b"), 1]}), json!(["body", "primitives", 1])),
        (json!({"primitives": [one("gamma", "b")]}), json!(["body", "primitives", 0, "component"])),
        (json!({"primitives": [{"component": "alpha"}]}), json!(["body", "primitives", 0, "text"])),
        (json!({"primitives": [one("alpha", " \n")]}), json!(["body", "primitives", 0, "text"])),
        (json!({"primitives": [one("alpha", &long)]}), json!(["body", "primitives", 0, "text"])),
        (
            json!({"primitives": [{"component": "alpha", "text": 1}]}),
            json!(["body", "primitives", 0, "text"]),
        ),
        (
            json!({"primitives": [{"component": "alpha", "text": "t", "weight": -1}]}),
            json!(["body", "primitives", 0, "weight"]),
        ),
        (
            json!({"primitives": [{"component": "alpha", "text": "t", "weight": 1001}]}),
            json!(["body", "primitives", 0, "weight"]),
        ),
        (json!({"primitives": vec![one("alpha", "a"); 4]}), json!(["body", "primitives"])),
    ];
    for (body, loc) in wrong {
        let answer = stage.send("PUT", path, &body);
        assert_eq!(answer.status, 422, "{body}: {}", answer.text());
        assert_eq!(error_of(&answer, Dialect::Faces).details["loc"], loc, "{body}");
    }
    assert_eq!(stage.get("/v1/faces/alice").json()["component_counts"], counts, "nothing changed");
    let bare = stage.send("PUT", path, &json!([one("delta", "d")]));
    assert_eq!(
        bare.json()["component_counts"]["delta"],
        1,
        "the bare array works: {}",
        bare.text()
    );
    let emptied = stage.send("PUT", path, &json!({"primitives": []}));
    assert_eq!(
        (emptied.status, emptied.json()["component_counts"]["delta"].clone()),
        (200, json!(0))
    );
    let missing = stage.send("PUT", "/v1/faces/nobody/primitives", &good);
    assert_eq!(missing.status, 404);
}

#[test]
fn a_list_has_pages_in_a_stable_order() {
    let stage = Stage::new([]);
    let mut names = vec!["alice".to_owned()];
    for number in 0..7 {
        let name = format!("face-{}", 9 - number);
        assert_eq!(stage.post("/v1/faces", &json!({"username": name})).status, 201);
        names.push(name);
    }
    let whole = stage.get("/v1/faces").json();
    assert_eq!((&whole["has_more"], &whole["next_cursor"]), (&json!(false), &Value::Null));
    let listed = |page: &Value| -> Vec<String> {
        let faces = page["data"].as_array().unwrap();
        faces.iter().map(|face| face["username"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(listed(&whole), names, "oldest first");
    let (mut found, mut path) = (Vec::new(), "/v1/faces?limit=3".to_owned());
    for page_number in 0..3 {
        let page = stage.get(&path).json();
        found.extend(listed(&page));
        assert_eq!(page["has_more"], page_number < 2, "{page}");
        path = format!(
            "/v1/faces?limit=3&cursor={}",
            page["next_cursor"].as_str().unwrap_or_default()
        );
    }
    assert_eq!(found, names);
    for query in ["limit=0", "limit=1001", "limit=x", "limit=-1", "cursor=x", "cursor="] {
        let answer = stage.get(&format!("/v1/faces?{query}"));
        assert_eq!(answer.status, 422, "{query}: {}", answer.text());
        assert_eq!(error_of(&answer, Dialect::Faces).details["loc"][0], "query", "{query}");
    }
}

#[test]
fn a_username_is_unique_and_words_of_the_path_are_reserved() {
    let stage = Stage::new([]);
    let taken = stage.post("/v1/faces", &json!({"username": "alice"}));
    assert_eq!(taken.status, 409, "{}", taken.text());
    let error = error_of(&taken, Dialect::Faces);
    assert_eq!(error.code, "conflict");
    assert!(error.message.contains("alice"), "{}", error.message);
    let operations = Document::of(&stage.server).operations();
    let after = operations.iter().filter_map(|one| one.path.strip_prefix("/v1/faces/"));
    let mut words: Vec<&str> = after.filter(|rest| !rest.starts_with('{')).collect();
    words.sort_unstable();
    assert_eq!(words, ["attributes", "diff", "stats"], "of every path, also a new one");
    for word in words {
        let answer = stage.post("/v1/faces", &json!({"username": word}));
        assert_eq!(answer.status, 422, "{}", answer.text());
        let message = error_of(&answer, Dialect::Faces).message;
        assert!(message.contains(&format!("`{word}` is a word of the API's paths")), "{message}");
        let file = tempfile::NamedTempFile::new().unwrap();
        let face = json!({"username": word, "name": "A", "primitives": []});
        std::fs::write(file.path(), face.to_string()).unwrap();
        let path = file.path().display().to_string();
        let import = ["admin", "face", "import", "--account", &stage.account.id, &path];
        let refused = stage.server.command(&import);
        let told = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && told.contains("a word of the API's paths"), "{told}");
    }
    // Another account has names of its own.
    let other = stage.server.account();
    let made = json_request("POST", "/v1/faces", &json!({"username": "alice"}))
        .bearer(&other.key)
        .fetch(stage.server.address());
    assert_eq!(made.status, 201, "{}", made.text());
}

#[test]
fn the_number_of_faces_is_bounded() {
    let stage = Stage::with([], TestServer::builder().env("FACES_FACES_PER_ACCOUNT_MAX", "2"), "1");
    assert_eq!(stage.post("/v1/faces", &json!({"username": "second"})).status, 201);
    let third = stage.post("/v1/faces", &json!({"username": "third"}));
    assert_eq!(third.status, 422, "{}", third.text());
    assert!(error_of(&third, Dialect::Faces).message.contains('2'));
    // Replacing one by an import is no third.
    stage.server.alice(&stage.account);
}

#[test]
fn a_foreign_face_is_the_same_404_as_a_missing_one_wherever_it_is_named() {
    let stage = Stage::new([]);
    let thief = stage.server.account();
    let uid = stage.get("/v1/faces/alice").json()["uid"].as_str().unwrap().to_owned();
    let ask = |key: &str, method: &str, path: &str, body: &Value| {
        json_request(method, path, body).bearer(key).fetch(stage.server.address())
    };
    let face = json!({"name": "stolen"});
    let primitives = json!({"primitives": []});
    for guess in ["alice", uid.as_str(), "ALICE", "alice%00", "al%69ce", "'%20OR%20'1'='1"] {
        for (method, tail, body) in [
            ("GET", "", &face),
            ("PATCH", "", &face),
            ("DELETE", "", &face),
            ("PUT", "/primitives", &primitives),
        ] {
            let foreign = ask(&thief.key, method, &format!("/v1/faces/{guess}{tail}"), body);
            assert_eq!(foreign.status, 404, "{method} {guess}: {}", foreign.text());
            assert_eq!(error_of(&foreign, Dialect::Faces).code, "face_not_found");
        }
    }
    let chat = |account: &Account, model: &str| {
        let body = json!({"model": model, "messages": [{"role": "user", "content": "hi"}]});
        ask(&account.key, "POST", "/v1/chat/completions", &body)
    };
    let same = |name: &str, missing: &str| {
        let foreign = chat(&thief, name);
        let absent = chat(&thief, missing);
        assert_eq!((foreign.status, absent.status), (404, 404), "{name}: {}", foreign.text());
        assert_eq!(foreign.text().replace("alice", "*"), absent.text().replace("nobod", "*"));
    };
    same("alice", "nobod");
    same("alice@sandbox", "nobod@sandbox");
    same(&format!("alice@{ANTHROPIC_MODEL}"), &format!("nobod@{ANTHROPIC_MODEL}"));
    assert_eq!(ask(&thief.key, "GET", "/v1/faces", &json!({})).json()["data"], json!([]));
    assert_eq!(stage.get("/v1/faces/alice").json()["name"], "Alice Example", "untouched");
}

#[test]
fn attributes_need_no_credential_and_list_what_is_accepted() {
    let stage = Stage::new([]);
    let answer = Request::get("/v1/faces/attributes").fetch(stage.server.address());
    assert_eq!(answer.status, 200);
    let text = answer.text();
    for key in ["age", "occupation", "religion"] {
        assert!(text.contains(&format!("\"{key}\"")), "{text}");
    }
}
