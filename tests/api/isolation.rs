//! What one account has is to another exactly like what nobody has.

use serde_json::{Value, json};

use crate::{
    document::{Document, OFFLINE, Operation, Owner, comparable},
    kit::json_request,
    support::{
        http::{Fetched, Request},
        models::OPENAI_MODEL,
        server::TestServer,
        upstream::Upstream,
    },
};

/// An id of the form that all ids have, and that nobody has.
const NOBODYS: &str = "01990000-0000-7000-8000-00000000dead";

/// An id of the owner and one of the same form that nobody has, by what the path's parameter stands
/// for.
#[derive(Debug)]
struct Pair {
    thing: &'static str,
    theirs: String,
    nobodys: &'static str,
}

fn pairs(owner: &Owner) -> Vec<Pair> {
    let pair = |thing, theirs: &str, nobodys| Pair { thing, theirs: theirs.to_owned(), nobodys };
    vec![
        pair("face", "alice", "nobod"),
        pair("face", &owner.face, NOBODYS),
        pair("face", "alice@sandbox", "nobod@sandbox"),
        pair("document", &owner.document, NOBODYS),
        pair("thread", &owner.thread, NOBODYS),
        pair("key", &owner.key, NOBODYS),
        // An id of one kind is none of another.
        pair("document", &owner.thread, NOBODYS),
        pair("thread", &owner.document, NOBODYS),
        pair("key", &owner.person.id, NOBODYS),
    ]
}

/// Somebody else with everything of their own but a face `alice`.
struct Thief(Owner);

impl Thief {
    fn new(server: &TestServer) -> Self {
        let owner = Owner::new(server, "thief");
        assert_eq!(owner.person.send(server, "DELETE", "/v1/faces/alice", &json!({})).status, 200);
        Self(owner)
    }

    /// With the login where only that is taken, else with the key.
    #[track_caller]
    fn fetch(&self, server: &TestServer, operation: &Operation, request: Request) -> Fetched {
        let secret =
            if operation.access == "user" { &self.0.person.token } else { &self.0.account.key };
        request.bearer(secret).fetch(server.address())
    }
}

/// A server whose upstream must not be asked.
fn start() -> (Upstream, TestServer, Owner) {
    let upstream = Upstream::start([]);
    let builder = TestServer::builder().with_upstream(&upstream).env(OFFLINE.0, OFFLINE.1);
    let server = builder.start();
    let owner = Owner::new(&server, "owner");
    (upstream, server, owner)
}

#[test]
fn an_id_of_another_account_is_answered_like_one_that_nobody_has() {
    let (_upstream, server, owner) = start();
    let thief = Thief::new(&server);
    let document = Document::of(&server);
    let before = everything(&server, &owner);
    let mut tried = 0;
    for pair in pairs(&owner) {
        for operation in document.operations() {
            if !operation.things().contains(&pair.thing) {
                continue;
            }
            let ask = |id: &str| {
                let ids = [(pair.thing, id), ("document", NOBODYS), ("face", "alice")];
                let request = document.request(&operation, &ids);
                comparable(&thief.fetch(&server, &operation, request), id)
            };
            let (foreign, absent) = (ask(&pair.theirs), ask(pair.nobodys));
            assert_eq!(foreign, absent, "{} {pair:?}", operation.name());
            assert!((400..500).contains(&foreign.0), "{} {foreign:?}", operation.name());
            tried += 1;
        }
    }
    assert!(tried >= 60, "{tried}");
    assert_eq!(everything(&server, &owner), before, "nothing of the owner changed");
}

#[test]
fn a_foreign_face_can_not_be_named_in_any_body() {
    let (_upstream, server, owner) = start();
    let thief = Thief::new(&server);
    let document = Document::of(&server);
    let before = everything(&server, &owner);
    let mut tried = 0;
    for operation in document.operations() {
        let Some(example) = document.example(&operation) else { continue };
        let field = if example.get("alias").is_some() { "alias" } else { "model" };
        if example.get(field).is_none() {
            continue;
        }
        // Below its path the face of the path counts.
        if operation.things().contains(&"face") {
            continue;
        }
        for tail in ["", "@sandbox", &format!("@{OPENAI_MODEL}")] {
            let ask = |name: &str| {
                let mut body = example.clone();
                body[field] = json!(format!("{name}{tail}"));
                let request = json_request(&operation.method, &operation.path, &body);
                comparable(&thief.fetch(&server, &operation, request), name)
            };
            for id in ["alice", &owner.face] {
                let (foreign, absent) =
                    (ask(id), ask(if id == "alice" { "nobod" } else { NOBODYS }));
                assert_eq!(foreign, absent, "{} {id}{tail}", operation.name());
                assert!((400..500).contains(&foreign.0), "{} {foreign:?}", operation.name());
                tried += 1;
            }
        }
    }
    assert!(tried >= 50, "{tried}");
    assert_eq!(everything(&server, &owner), before, "nothing of the owner changed");
}

#[test]
fn no_list_and_no_filter_shows_what_another_account_has() {
    let (_upstream, server, owner) = start();
    let body = json!({"model": "alice@sandbox", "messages": [{"role": "user", "content": "hi"}]});
    let answered = owner.person.send(&server, "POST", "/v1/chat/completions", &body);
    assert_eq!(answered.status, 200, "{}", answered.text());
    let thief = Thief::new(&server);
    let document = Document::of(&server);
    let (id, email) = (owner.person.id.as_str(), owner.person.email.as_str());
    let theirs = ["alice", &owner.face, &owner.document, &owner.thread, &owner.key, id, email];
    let mut tried = 0;
    for operation in document.operations() {
        let is_read =
            operation.method == "GET" && ["read", "user"].contains(&operation.access.as_str());
        if !is_read || operation.path.contains('{') {
            continue;
        }
        let get = |path: &str| thief.fetch(&server, &operation, Request::get(path));
        let answer = get(&operation.path);
        let text = answer.text();
        // A refusal may show a face of its own as an example.
        for secret in theirs.iter().filter(|_| answer.status == 200) {
            assert!(!text.contains(secret), "{} shows {secret}: {text}", operation.name());
        }
        for filter in operation.query_names() {
            for their in theirs {
                let nobodys = if their == "alice" { "nobod" } else { NOBODYS };
                let ask =
                    |id: &str| comparable(&get(&format!("{}?{filter}={id}", operation.path)), id);
                let nobodys = if their == email { "nobody@example.com" } else { nobodys };
                assert_eq!(ask(their), ask(nobodys), "{} by {filter}", operation.name());
                tried += 1;
            }
        }
    }
    assert!(tried >= 100, "{tried}");
}

/// What the owner sees of the things that others tried to reach.
fn everything(server: &TestServer, owner: &Owner) -> Vec<Value> {
    let of_things = [
        format!("/v1/faces/{}", owner.face),
        format!("/v1/compile/documents/{}", owner.document),
        format!("/v1/compile/threads/{}", owner.thread),
        format!("/v1/auth/api-keys/{}", owner.key),
    ];
    let of_lists = [
        "/v1/faces",
        "/v1/compile/documents",
        "/v1/compile/threads",
        "/v1/auth/api-keys",
        "/v1/billing/balance",
        "/v1/billing/usage",
        "/v1/billing/invoices",
    ];
    let paths = of_things.iter().map(String::as_str).chain(of_lists);
    paths.map(|path| owner.person.get(server, path).json()).collect()
}
