//! The OpenAPI document against the routes, its own examples and real answers.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use serde_json::{Value, json};

use crate::{
    document::{Document, OFFLINE, Operation, Owner, dialect_of},
    kit::{error_of, json_request, with},
    support::{
        http::Request,
        login::PASSWORD,
        models::{ANTHROPIC_MODEL, OPENAI_MODEL},
        replies::{anthropic, openai},
        server::TestServer,
        upstream::{Exchange, Upstream},
    },
};

const ADMIN_KEY: &str = "operator-key-of-the-document-0123456789";

/// Every path literal of the functions that make the table of routes (`configure`, `routes`).
fn paths_of_the_sources() -> BTreeSet<String> {
    let mut files = Vec::new();
    rust_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http"), &mut files);
    let mut paths = BTreeSet::new();
    for text in files {
        let mut in_table = false;
        for line in text.lines() {
            // rustfmt: an item begins and ends at the first column.
            if line.contains("fn routes(") || line.contains("fn configure(") {
                in_table = true;
            } else if line == "}" {
                in_table = false;
            }
            if !in_table {
                continue;
            }
            let literals = line.split('"').skip(1).step_by(2);
            paths.extend(literals.filter(|one| one.starts_with('/')).map(documented));
        }
    }
    paths
}

/// `/v1/models/{model:.+}` as the document writes it.
fn documented(path: &str) -> String {
    let parts = path.split('/').map(|part| match part.split_once(':') {
        Some((name, _)) if part.starts_with('{') => format!("{name}}}"),
        _ => part.to_owned(),
    });
    parts.collect::<Vec<_>>().join("/")
}

fn rust_files(folder: &Path, files: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn every_route_is_in_the_document_with_its_methods_and_nothing_else_is() {
    let server = TestServer::builder().start();
    let document = Document::of(&server);
    let mut methods: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for operation in document.operations() {
        methods.entry(operation.path).or_default().insert(operation.method);
    }
    let sources = paths_of_the_sources();
    assert!(sources.len() > 20, "the table of routes was not found: {sources:?}");
    let written: BTreeSet<String> = methods.keys().cloned().collect();
    let missing: Vec<_> = sources.difference(&written).collect();
    assert!(missing.is_empty(), "no #[utoipa::path] in src/http/openapi/mod.rs for {missing:?}");
    let unknown: Vec<_> = written.difference(&sources).collect();
    assert!(unknown.is_empty(), "documented, but no route: {unknown:?}");
    for operation in document.operations() {
        let path = operation.path_with(|_| "x".to_owned());
        let refused = Request::new("TRACE", &path).fetch(server.address());
        assert_eq!(refused.status, 405, "{path}: {}", refused.text());
        let allowed = refused.header("allow").expect("allow").split(", ").map(str::to_owned);
        assert_eq!(allowed.collect::<BTreeSet<_>>(), methods[&operation.path], "{path}");
    }
}

#[test]
fn the_document_is_whole() {
    let server = TestServer::builder().start();
    let document = Document::of(&server);
    assert_eq!(document.0["openapi"], "3.1.0");
    assert_eq!(document.0["info"]["version"], env!("CARGO_PKG_VERSION"));
    let (mut ids, tags) = (BTreeSet::new(), document.0["tags"].as_array().unwrap());
    for operation in document.operations() {
        let (name, whole) = (operation.name(), &operation.whole);
        let id = whole["operationId"].as_str().unwrap_or_default().to_owned();
        assert!(
            !id.is_empty() && ids.insert(id),
            "{name}: its operationId is missing or not its own"
        );
        assert!(whole["summary"].as_str().is_some_and(|text| !text.is_empty()), "{name}");
        let tag = &whole["tags"][0];
        assert!(tags.iter().any(|one| one["name"] == *tag), "{name}: unknown tag {tag}");
        assert!(whole["security"].is_array(), "{name}");
        for (status, response) in whole["responses"].as_object().unwrap() {
            let response = document.resolve(response);
            assert!(response["description"].is_string(), "{name} {status}");
            let content = response["content"].as_object();
            let count = content.map_or(0, |content| content.len());
            assert!(count > 0, "{name} {status}: an answer without a body");
            for media in content.into_iter().flat_map(|content| content.values()) {
                document.resolve(&media["schema"]);
            }
        }
        let in_path = whole["parameters"].as_array().into_iter().flatten();
        let in_path: BTreeSet<_> = in_path
            .filter(|one| one["in"] == "path")
            .map(|one| one["name"].as_str().unwrap_or_default().to_owned())
            .collect();
        let mut wanted = BTreeSet::new();
        operation.path_with(|name| {
            wanted.insert(name.to_owned());
            String::new()
        });
        assert_eq!(in_path, wanted, "{name}");
    }
    for (name, schema) in document.0["components"]["schemas"].as_object().unwrap() {
        let Some(example) = schema.get("example") else { continue };
        let fault = document.fault(schema, example);
        assert_eq!(fault, None, "the example of {name}");
    }
}

#[test]
fn real_answers_are_as_the_document_says() {
    let upstream = Upstream::start([
        openai::json_exchange("ok", 1, 1).streaming(false).any_times(),
        anthropic::json_exchange("ok", 1, 1).streaming(false).any_times(),
        Exchange::json(200, &json!({"input_tokens": 1})).any_times(),
    ]);
    let server = TestServer::builder()
        .with_upstream(&upstream)
        .env(OFFLINE.0, OFFLINE.1)
        .env("FACES_ADMIN_KEY", ADMIN_KEY)
        .env("FACES_TOPUP", "trusted")
        .start();
    let document = Document::of(&server);
    let closed = document.closed();
    let mut owner = Owner::new(&server, "grace");
    let (mut seen, mut faults) = (BTreeSet::new(), Vec::new());
    // What is read comes before what is deleted.
    let mut operations = document.operations();
    operations.sort_by_key(|operation| (operation.method == "DELETE", operation.path.len()));
    for operation in operations {
        owner.make_again(&server);
        let request = request(&document, &operation, &owner);
        let secret =
            if operation.access == "operator" { ADMIN_KEY } else { owner.person.token.as_str() };
        let answer = request.bearer(secret).fetch(server.address());
        let (name, status) = (operation.name(), answer.status.to_string());
        let said = &operation.whole["responses"][&status];
        assert!(
            said.is_object(),
            "{name} answers {status}, which is not documented: {}",
            answer.text()
        );
        let schema = document.resolve(said).pointer("/content/application~1json/schema");
        if let Some(schema) = schema.filter(|schema| **schema != Value::Null) {
            let fault = closed.fault(schema, &answer.json());
            faults
                .extend(fault.map(|fault| format!("{name} {status}: {fault}: {}", answer.text())));
        }
        if answer.status >= 400 {
            error_of(&answer, dialect_of(&operation.path));
        } else {
            if operation.path.ends_with("/auth/password") {
                // The token that asked is over.
                owner.person.token = answer.json()["token"].as_str().expect("a token").to_owned();
                server.plant_secret(&owner.person.token);
            }
            seen.insert(name);
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    let all = document.operations();
    // Whether there is something to pause is a matter of time.
    let silent = all.iter().filter(|one| !one.path.ends_with("/pause")).map(Operation::name);
    let silent = silent.filter(|name| !seen.contains(name));
    assert_eq!(silent.collect::<Vec<_>>(), NEVER_WELL, "never answered well");
}

/// Operations that this server refuses whatever it is asked, and the one that needs a signature.
const NEVER_WELL: [&str; 4] = [
    "POST /v1/billing/checkout",
    "POST /v1/billing/card-setup",
    "POST /v1/billing/subscription/cancel",
    "POST /v1/billing/webhook",
];

/// A request that must be answered well: the example, with what only this test knows.
fn request(document: &Document, operation: &Operation, owner: &Owner) -> Request {
    let fields = match operation.path.as_str() {
        path if path.starts_with("/v1/anthropic") => json!({"model": ANTHROPIC_MODEL}),
        "/v1/messages/count_tokens" => json!({"model": ANTHROPIC_MODEL}),
        "/v1/openai/chat/completions" => json!({"model": OPENAI_MODEL}),
        "/auth/register-email" => json!({"email": "other@example.org"}),
        path if path.ends_with("/auth/login") => {
            json!({"email": owner.person.email, "password": PASSWORD})
        }
        path if path.ends_with("/auth/password") => {
            json!({"current_password": PASSWORD, "new_password": PASSWORD})
        }
        _ => return document.request(operation, &owner.ids()),
    };
    match document.example(operation) {
        Some(example) => json_request(&operation.method, &operation.path, &with(example, &fields)),
        None => document.request(operation, &owner.ids()),
    }
}

#[test]
fn the_page_for_people_loads_nothing_from_elsewhere() {
    let server = TestServer::builder().start();
    let get = |path: &str| Request::get(path).fetch(server.address());
    let moved = get("/docs");
    assert_eq!((moved.status, moved.header("location")), (308, Some("/docs/")));
    let page = get("/docs/");
    assert_eq!(page.status, 200);
    assert_eq!(page.header("content-type"), Some("text/html"));
    let policy = page.header("content-security-policy").expect("a policy");
    assert!(policy.starts_with("default-src 'self'"), "{policy}");
    let text = page.text();
    assert!(text.contains("swagger-ui") && !text.contains("://"), "{text}");
    let mut loaded = 0;
    for file in text.split(['"', '\'']).filter_map(|one| one.strip_prefix("./")) {
        let answer = get(&format!("/docs/{file}"));
        assert_eq!(answer.status, 200, "{file}");
        loaded += usize::from(!answer.body.is_empty());
    }
    assert!(loaded >= 4, "{text}");
    let settings = get("/docs/swagger-initializer.js").text();
    assert!(settings.contains("/openapi.json") && settings.contains("none"), "{settings}");
    let missing = get("/docs/..%2f..%2fCargo.toml");
    assert_eq!(missing.status, 404, "{}", missing.text());
}
