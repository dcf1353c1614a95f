//! Whatever is sent to an operation of the OpenAPI document, the answer is no 5xx and has the
//! dialect of its route. Bodies come from the document's schemas, whole and damaged.

use proptest::{
    prelude::*,
    strategy::Union,
    test_runner::{Config, TestRunner},
};
use serde_json::{Map, Value, json};

use crate::{
    document::{Document, Operation, Owner, dialect_of},
    kit::error_of,
    mutations::{mutate, nasty, places},
    support::{
        http::{End, Request},
        server::TestServer,
    },
};

const ADMIN_KEY: &str = "operator-key-of-hostile-0123456789abc";
/// Requests of the test, spread over all operations: some ten seconds on a slow core.
const CASES: u32 = 2_500;
/// Deepest value that is made from a schema.
const DEPTH_MAX: u32 = 5;

/// What is sent.
#[derive(Debug, Clone)]
struct Hostile {
    operation: usize,
    segments: Vec<String>,
    query: String,
    body: Option<Vec<u8>>,
}

/// A value as the schema says.
fn valid(document: &Document, schema: &Value, depth: u32) -> BoxedStrategy<Value> {
    let schema = document.resolve(schema);
    if depth > DEPTH_MAX {
        return Just(Value::Null).boxed();
    }
    for word in ["oneOf", "anyOf"] {
        if let Some(one_of) = schema[word].as_array() {
            return Union::new(one_of.iter().map(|one| valid(document, one, depth + 1))).boxed();
        }
    }
    if let Some(values) = schema["enum"].as_array() {
        return proptest::sample::select(values.clone()).boxed();
    }
    let kinds: Vec<&str> = match &schema["type"] {
        Value::String(kind) => vec![kind],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => return prop_oneof![nasty(), Just(json!("text")), Just(json!([]))].boxed(),
    };
    let made = Union::new(kinds.iter().map(|kind| of_kind(document, schema, kind, depth))).boxed();
    match schema.get("example") {
        Some(example) => prop_oneof![Just(example.clone()), made].boxed(),
        None => made,
    }
}

fn of_kind(document: &Document, schema: &Value, kind: &str, depth: u32) -> BoxedStrategy<Value> {
    match kind {
        "object" => object(document, schema, depth),
        "array" => proptest::collection::vec(valid(document, &schema["items"], depth + 1), 0..3)
            .prop_map(Value::from)
            .boxed(),
        "string" => prop_oneof![
            "[a-z]{1,12}",
            ".{0,12}",
            Just("sandbox".to_owned()),
            Just("alice".to_owned())
        ]
        .prop_map(Value::from)
        .boxed(),
        "integer" => (0..2_000_u64).prop_map(Value::from).boxed(),
        "number" => (0.0..1_000.0).prop_map(|number: f64| json!(number)).boxed(),
        "boolean" => any::<bool>().prop_map(Value::from).boxed(),
        _ => Just(Value::Null).boxed(),
    }
}

fn object(document: &Document, schema: &Value, depth: u32) -> BoxedStrategy<Value> {
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    let fields: Vec<BoxedStrategy<Option<(String, Value)>>> = schema["properties"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, field)| {
            let value = valid(document, field, depth + 1);
            let (name, is_required) = (name.clone(), required.contains(&json!(name)));
            let pair = value.prop_map(move |value| (name.clone(), value));
            if is_required {
                pair.prop_map(Some).boxed()
            } else {
                proptest::option::weighted(0.4, pair).boxed()
            }
        })
        .collect();
    let more = match &schema["additionalProperties"] {
        any @ Value::Object(_) => {
            let value = valid(document, any, depth + 1);
            proptest::collection::vec((prop_oneof!["age", "[a-z_]{1,8}", ".{0,4}"], value), 0..3)
                .boxed()
        }
        _ => Just(Vec::new()).boxed(),
    };
    (fields, more)
        .prop_map(|(fields, more)| {
            Value::Object(fields.into_iter().flatten().chain(more).collect::<Map<_, _>>())
        })
        .boxed()
}

/// Values that break readers and databases.
fn hostile() -> BoxedStrategy<Value> {
    let deep = |depth| (0..depth).fold(json!(1), |inner, _| json!([inner]));
    prop_oneof![
        4 => nasty(),
        1 => Just(json!("a\u{0}b")),
        1 => Just(json!({"a\u{0}b": "\u{0}"})),
        1 => Just(json!("\u{d7ff}\u{e000}\u{10ffff}\u{fffe}")),
        1 => Just(json!(1e308)),
        1 => Just(json!(-1e308)),
        1 => Just(json!(0.000_000_000_001)),
        1 => Just(json!(i64::MIN)),
        1 => Just(deep(100)),
        1 => Just(json!("' OR 1=1; --")),
    ]
    .boxed()
}

fn bodies(document: &Document, schema: &Value) -> BoxedStrategy<Vec<u8>> {
    let whole = valid(document, schema, 0).boxed();
    let changes =
        proptest::collection::vec((any::<usize>(), proptest::option::of(hostile())), 1..4);
    let damaged = (whole.clone(), changes).prop_map(|(mut body, changes)| {
        for (at, new) in changes {
            let mut at = at % places(&body);
            mutate(&mut body, &mut at, new.as_ref());
        }
        body
    });
    let text = |value: Value| value.to_string().into_bytes();
    prop_oneof![
        3 => whole.clone().prop_map(text),
        5 => damaged.prop_map(text),
        1 => hostile().prop_map(text),
        1 => proptest::collection::vec(any::<u8>(), 0..60),
        1 => Just(Vec::new()),
        1 => (whole, any::<usize>()).prop_map(move |(body, at)| {
            let mut bytes = text(body);
            bytes.truncate(at % (bytes.len() + 1));
            bytes
        }),
    ]
    .boxed()
}

/// A part of a path or a query: what is there, or something odd.
fn segment(real: Option<&str>) -> BoxedStrategy<String> {
    const ODD: [&str; 14] = [
        "alice",
        "alice%00",
        "%00",
        "%ff%fe",
        "..%2f..",
        "%F0%9F%A6%84",
        "'%20OR%20'1'='1",
        "-1",
        "2026-13",
        "9999999999999999999999",
        "01990000-0000-7000-8000-000000000000",
        "0000-00",
        "%25",
        "a%0d%0ab",
    ];
    let real = Just(real.unwrap_or("alice").to_owned());
    prop_oneof![
        8 => real,
        6 => proptest::sample::select(&ODD[..]).prop_map(str::to_owned),
        1 => Just("x".repeat(3_000)),
        2 => "[a-z0-9@%-]{1,20}",
    ]
    .boxed()
}

fn requests(
    document: &Document,
    owner: &Owner,
    index: usize,
    operation: &Operation,
) -> BoxedStrategy<Hostile> {
    let ids = owner.ids();
    let real = |thing: &str| ids.iter().find(|(name, _)| *name == thing).map(|(_, id)| *id);
    let segments: Vec<_> =
        operation.things().into_iter().map(|thing| segment(real(thing))).collect();
    let names = operation.query_names();
    let query = match names.is_empty() {
        true => Just(String::new()).boxed(),
        false => proptest::collection::vec((proptest::sample::select(names), segment(None)), 0..4)
            .prop_map(|pairs| {
                let pairs: Vec<_> =
                    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
                format!("?{}", pairs.join("&"))
            })
            .boxed(),
    };
    let body = match document.body_schema(operation) {
        Some(schema) => bodies(document, schema).prop_map(Some).boxed(),
        None => Just(None).boxed(),
    };
    (segments, query, body)
        .prop_map(move |(segments, query, body)| Hostile {
            operation: index,
            segments,
            query,
            body,
        })
        .boxed()
}

#[test]
fn nothing_that_is_sent_is_the_servers_fault() {
    let server = TestServer::builder().env("FACES_ADMIN_KEY", ADMIN_KEY).start();
    // No provider can fail here: all that is asked is the sandbox.
    let owner = Owner::new(&server, "grace");
    let document = Document::of(&server);
    let operations = document.operations();
    let all = operations.iter().enumerate();
    let strategy = Union::new(all.map(|(index, one)| requests(&document, &owner, index, one)));
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    let checked = TestRunner::new(config).run(&strategy, |hostile| {
        let operation = &operations[hostile.operation];
        let mut segments = hostile.segments.iter();
        let path = operation.path_with(|_| segments.next().cloned().unwrap_or_default());
        let mut request = Request::new(&operation.method, &format!("{path}{}", hostile.query));
        if let Some(body) = hostile.body {
            request = request.header("content-type", "application/json").body(body);
        }
        let is_operators = operation.access == "operator";
        let secret = if is_operators { ADMIN_KEY } else { &owner.person.token };
        let answer = request.bearer(secret).fetch(server.address());
        let (name, status) = (operation.name(), answer.status);
        prop_assert!(status < 500, "{}: {} {}", name, status, answer.text());
        prop_assert_eq!(answer.end, End::Clean);
        if status >= 400 {
            error_of(&answer, dialect_of(&operation.path));
        }
        Ok(())
    });
    if let Err(error) = checked {
        panic!("{error}");
    }
    let models = owner.person.get(&server, "/v1/models");
    assert_eq!(models.status, 200, "it still serves");
}
