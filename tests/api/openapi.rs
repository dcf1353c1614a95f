//! The OpenAPI document against the routes, its own examples and real answers.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use serde_json::Value;

use crate::{
    document::{Document, dialect_of, hand_in},
    kit::{Stage, error_of},
    support::{
        http::Request,
        replies::{anthropic, openai},
        server::TestServer,
        upstream::Exchange,
    },
};

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
    let stage = Stage::with(
        [
            openai::json_exchange("ok", 1, 1).streaming(false).any_times(),
            anthropic::json_exchange("ok", 1, 1).streaming(false).any_times(),
            Exchange::json(200, &serde_json::json!({"input_tokens": 1})).any_times(),
        ],
        TestServer::builder(),
        "10",
    );
    let document = Document::of(&stage.server);
    let mut seen = BTreeSet::new();
    let id = hand_in(&stage.server, &stage.account.key);
    let ids = [
        ("face", "alice"),
        ("model", "sandbox"),
        ("month", "2026-11"),
        ("file", "index.html"),
        ("id", id.as_str()),
        ("key", "01990000-0000-7000-8000-00000000dead"),
    ];
    // What is read comes before what is deleted.
    let mut operations = document.operations();
    operations.sort_by_key(|operation| (operation.method == "DELETE", operation.path.len()));
    for operation in operations {
        if operation.access == "operator" || operation.access == "signed" {
            continue;
        }
        let answer = stage.fetch(&document.request(&operation, &ids));
        let (name, status) = (operation.name(), answer.status.to_string());
        let said = &operation.whole["responses"][&status];
        assert!(
            said.is_object(),
            "{name} answers {status}, which is not documented: {}",
            answer.text()
        );
        let schema = document.resolve(said).pointer("/content/application~1json/schema");
        if let Some(schema) = schema.filter(|schema| **schema != Value::Null) {
            let fault = document.fault(schema, &answer.json());
            assert_eq!(fault, None, "{name} {status}: {}", answer.text());
            seen.insert(operation.whole["operationId"].to_string());
        }
        if answer.status >= 400 {
            error_of(&answer, dialect_of(&operation.path));
        }
    }
    assert!(seen.len() > 20, "{seen:?}");
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
