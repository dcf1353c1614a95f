//! What one account has is to another exactly like what nobody has.

use serde_json::{Value, json};

use crate::{
    document::{Document, comparable, hand_in},
    kit::{Stage, json_request},
    support::{http::Request, models::OPENAI_MODEL},
};

/// An id of the first account and one of the same form that nobody has, by the name of the path's
/// parameter.
#[derive(Debug)]
struct Pair {
    name: &'static str,
    theirs: String,
    nobodys: String,
}

fn pairs(stage: &Stage) -> Vec<Pair> {
    let uid = stage.get("/v1/faces/alice").json()["uid"].as_str().unwrap().to_owned();
    let document = hand_in(&stage.server, &stage.account.key);
    let pair = |name, theirs: &str, nobodys: &str| Pair {
        name,
        theirs: theirs.to_owned(),
        nobodys: nobodys.to_owned(),
    };
    vec![
        pair("face", "alice", "nobod"),
        pair("id", &document, "01990000-0000-7000-8000-00000000dead"),
        pair("face", &uid, "01990000-0000-7000-8000-00000000dead"),
        pair("face", "alice@sandbox", "nobod@sandbox"),
    ]
}

#[test]
fn an_id_of_another_account_is_answered_like_one_that_nobody_has() {
    let stage = Stage::new([]);
    let thief = stage.server.account();
    let document = Document::of(&stage.server);
    let pairs = pairs(&stage);
    let before = everything(&stage);
    let mut tried = 0;
    for pair in pairs {
        for operation in document.operations() {
            if !operation.path.contains(&format!("{{{}}}", pair.name)) {
                continue;
            }
            let ask = |id: &str| {
                let ids = [
                    (pair.name, id),
                    ("id", "01990000-0000-7000-8000-00000000beef"),
                    ("face", "alice"),
                ];
                let request = document.request(&operation, &ids).bearer(&thief.key);
                comparable(&request.fetch(stage.server.address()), id)
            };
            let (foreign, absent) = (ask(&pair.theirs), ask(&pair.nobodys));
            assert_eq!(foreign, absent, "{} {pair:?}", operation.name());
            assert!((400..500).contains(&foreign.0), "{} {foreign:?}", operation.name());
            tried += 1;
        }
    }
    assert!(tried >= 12, "{tried}");
    assert_eq!(everything(&stage), before, "nothing of the owner changed");
}

#[test]
fn a_foreign_face_can_not_be_asked_by_any_route_of_inference() {
    let stage = Stage::new([]);
    let thief = stage.server.account();
    let document = Document::of(&stage.server);
    let mut tried = 0;
    for operation in document.operations().into_iter().filter(|one| one.access == "chat") {
        for tail in ["", "@sandbox", &format!("@{OPENAI_MODEL}")] {
            let ask = |name: &str| {
                let mut body = document.example(&operation).expect("a body");
                body["model"] = json!(format!("{name}{tail}"));
                let request = json_request(&operation.method, &operation.path, &body);
                comparable(&request.bearer(&thief.key).fetch(stage.server.address()), name)
            };
            let (foreign, absent) = (ask("alice"), ask("nobod"));
            assert_eq!(foreign, absent, "{} {tail}", operation.name());
            assert!((400..500).contains(&foreign.0), "{} {foreign:?}", operation.name());
            tried += 1;
        }
    }
    assert!(tried >= 9, "{tried}");
}

#[test]
fn no_list_and_no_filter_shows_what_another_account_has() {
    let stage = Stage::new([]);
    let answered = stage.post(
        "/v1/chat/completions",
        &json!({"model": "alice@sandbox", "messages": [{"role": "user", "content": "hi"}]}),
    );
    assert_eq!(answered.status, 200, "{}", answered.text());
    let thief = stage.server.account();
    let document = Document::of(&stage.server);
    let face = stage.get("/v1/faces/alice").json();
    let keys = stage.server.admin(&["key", "list", "--account", &stage.account.id]);
    let key = keys["data"][0]["id"].as_str().unwrap().to_owned();
    let uid = face["uid"].as_str().unwrap();
    let document_id = hand_in(&stage.server, &stage.account.key);
    let theirs = ["alice", uid, &document_id, &key, &stage.account.id];
    let get = |path: &str| Request::get(path).bearer(&thief.key).fetch(stage.server.address());
    for operation in document.operations() {
        let is_read = operation.method == "GET" && operation.access == "read";
        if !is_read || operation.path.contains('{') {
            continue;
        }
        let answer = get(&operation.path);
        let text = answer.text();
        // A refusal may show a face of its own as an example.
        for secret in theirs.iter().filter(|_| answer.status == 200) {
            assert!(!text.contains(secret), "{} shows {secret}: {text}", operation.name());
        }
        for filter in operation.query_names() {
            for (their, nobodys) in [
                ("alice", "nobod"),
                (uid, "01990000-0000-7000-8000-00000000dead"),
                (key.as_str(), "01990000-0000-7000-8000-00000000dead"),
            ] {
                let ask =
                    |id: &str| comparable(&get(&format!("{}?{filter}={id}", operation.path)), id);
                assert_eq!(ask(their), ask(nobodys), "{} by {filter}", operation.name());
            }
        }
    }
}

/// What the owner sees of the things that others tried to reach.
fn everything(stage: &Stage) -> Vec<Value> {
    [
        "/v1/faces",
        "/v1/faces/alice",
        "/v1/compile/documents",
        "/v1/billing/balance",
        "/v1/billing/usage",
    ]
    .map(|path| stage.get(path).json())
    .to_vec()
}
