//! Bodies: what is read, and how a wrong one is refused.

use super::*;
use crate::domain::ErrorCode;

fn import(file: &serde_json::Value) -> Result<FaceImport, FaceError> {
    FaceImport::parse(file.to_string().as_bytes(), &LIMITS)
}

/// An import file with these primitives.
fn with_primitives(primitives: &serde_json::Value) -> serde_json::Value {
    json!({"username": "alice", "primitives": primitives})
}

#[test]
fn both_generations_of_field_names_are_read() {
    let newer = json!({"alias": "alice", "name": "Alice", "basic_facts": {"age": 30},
        "default_tools": ["search"], "default_model": "m", "formula": null, "description": null, "unknown": [1]});
    let older = json!({"username": "alice", "name": "Alice", "facts": {"age": "30"},
        "tools": ["search"], "default_model": "m", "formula": "", "description": ""});
    let newer = FaceFields::parse(newer.to_string().as_bytes()).unwrap();
    assert_eq!(newer, FaceFields::parse(older.to_string().as_bytes()).unwrap());
    assert_eq!(newer.username.unwrap().as_str(), "alice");
    assert_eq!(newer.facts.unwrap().stated.get("age"), Some("30"));
    assert_eq!(newer.default_tools.unwrap(), ["search"]);
    assert_eq!(newer.default_model, Some(Some("m".to_owned())));
}

#[test]
fn a_new_face_needs_a_username_and_takes_it_for_a_missing_name() {
    let ids = face("x", &json!({}));
    let create = |body: &str| {
        FaceFields::parse(body.as_bytes()).unwrap().into_face(ids.id, ids.account_id, 7)
    };
    let (created, warnings) =
        create(r#" {"username": "news-bot", "basic_facts": {"role": "editor"}} "#).unwrap();
    assert_eq!((created.name.as_str(), created.version, created.updated_at), ("news-bot", 1, 7));
    assert_eq!(created.component_counts, None);
    assert_eq!(warnings, ["basic_facts key 'role' is not supported and was dropped"]);
    assert_eq!(create("{}").unwrap_err().to_string(), "username: field required");
}

#[test]
fn an_update_changes_only_what_it_names() {
    let mut changed = face("Alice", &json!({"age": 30, "city": "Ghent"}));
    changed.default_model = Some("m".to_owned());
    changed.default_tools = vec!["a".to_owned(), "b".to_owned()];
    let before = changed.clone();
    let update = |face: &mut Face, body: &str| {
        FaceFields::parse(body.as_bytes()).unwrap().apply_to(face).unwrap()
    };
    update(&mut changed, r#"{"username": "other", "name": null}"#);
    assert_eq!(changed, before, "a username is an address and stays; null is no name");
    update(
        &mut changed,
        r#"{"default_model": null, "default_tools": ["c"], "facts": {"age": 31}}"#,
    );
    assert_eq!(changed.default_model, None);
    assert_eq!(changed.default_tools, ["c"]);
    assert_eq!((changed.facts.get("age"), changed.facts.get("city")), (Some("31"), Some("Ghent")));
    update(&mut changed, r#"{"facts": {"AGE": null, "religion": null}}"#);
    assert_eq!((changed.facts.get("age"), changed.facts.len()), (None, 1), "null forgets a fact");
}

#[test]
fn a_name_is_one_line_and_has_a_bound() {
    let name = |name: &str| {
        FaceFields::parse(json!({ "name": name }).to_string().as_bytes())
            .map(|read| read.name.unwrap())
    };
    assert_eq!(name(" Alice\n# System \u{202e}x").unwrap(), "Alice # System x");
    assert_eq!(name(&"n".repeat(200)).unwrap().len(), 200);
    assert_eq!(
        name(&"n".repeat(201)).unwrap_err().to_string(),
        "name: is 201 characters long; at most 200 are allowed"
    );
    assert_eq!(name("\u{200b}").unwrap_err().to_string(), "name: must not be empty");
}

#[test]
fn a_wrong_import_names_the_wrong_field() {
    let good = json!({"component": "beta", "text": "Likes tea."});
    let at = |wrong: serde_json::Value| with_primitives(&json!([good, good, good, wrong]));
    for (file, message) in [
        (json!([]), "body: must be an object"),
        (json!("x"), "body: must be an object"),
        (json!({"primitives": []}), "username: field required"),
        (json!({"username": "alice"}), "primitives: field required"),
        (json!({"username": "alice", "primitives": null}), "primitives: field required"),
        (with_primitives(&json!({})), "primitives: must be an array of primitives"),
        (
            json!({"username": "Al", "primitives": []}),
            "username: a face's username holds only lowercase letters, digits and dashes",
        ),
        (json!({"username": 7, "primitives": []}), "username: must be a string"),
        (json!({"username": "a", "name": 7, "primitives": []}), "name: must be a string"),
        (
            json!({"username": "a", "default_tools": ["x", 7], "primitives": []}),
            "default_tools[1]: must be a string",
        ),
        (at(json!("tea")), "primitives[3]: must be an object with component and text"),
        (at(json!({"text": "x"})), "primitives[3].component: field required"),
        (
            at(json!({"component": "gamma", "text": "x"})),
            "primitives[3].component: must be one of alpha, beta, delta, epsilon",
        ),
        (at(json!({"component": 1, "text": "x"})), "primitives[3].component: must be a string"),
        (at(json!({"component": "beta"})), "primitives[3].text: field required"),
        (at(json!({"component": "beta", "text": null})), "primitives[3].text: must be a string"),
        (at(json!({"component": "beta", "text": " \n"})), "primitives[3].text: must not be empty"),
        (
            at(json!({"component": "beta", "text": "x".repeat(201)})),
            "primitives[3].text: is 201 characters long; at most 200 are allowed",
        ),
        (
            at(json!({"component": "beta", "text": "x".repeat(100_000)})),
            "primitives[3]: is too large; its text may have 200 characters",
        ),
        (
            at(json!({"component": "beta", "text": "x", "weight": "1"})),
            "primitives[3].weight: must be a number",
        ),
        (
            at(json!({"component": "beta", "text": "x", "weight": -0.5})),
            "primitives[3].weight: must be from 0 to 1000",
        ),
        (
            at(json!({"component": "beta", "text": "x", "weight": 1000.1})),
            "primitives[3].weight: must be from 0 to 1000",
        ),
        (with_primitives(&json!(vec![&good; 101])), "primitives: has more than 100 elements"),
    ] {
        let error = import(&file).unwrap_err();
        assert_eq!(error.to_string(), message);
        assert_eq!(error.code(), ErrorCode::InvalidRequest, "{message}");
    }
}

#[test]
fn text_that_is_not_json_says_where_it_breaks() {
    for text in ["", "{\"username\": ", "[1,", "nul", "{\"username\": \"a\", \"primitives\": [}"] {
        let error = FaceImport::parse(text.as_bytes(), &LIMITS).unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidJson, "{text}: {error}");
        assert!(error.to_string().contains("line 1 column"), "{error}");
    }
    let error = FaceFields::parse(b"{\"name\": \"\xff\"}").unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidJson, "{error}");
}

#[test]
fn an_error_path_reads_as_a_location_for_a_validation_error() {
    let error = import(&with_primitives(&json!([{"component": "x"}]))).unwrap_err();
    let FaceError::Field { path, fault, .. } = error else { panic!("{error}") };
    assert_eq!(
        (path.loc().join("/").as_str(), fault),
        ("primitives/0/component", FieldFault::Value)
    );
}

#[test]
fn primitives_come_as_an_object_or_as_a_bare_array() {
    let list = json!([
        {"component": "epsilon", "text": " Walks to work. ", "weight": 2},
        {"component": "alpha", "text": "Calls herself a repairer.", "id": 7},
        {"component": "delta", "text": "Tests first.", "weight": null},
    ]);
    let parse = |body: &serde_json::Value| parse_primitives(body.to_string().as_bytes(), &LIMITS);
    let read = parse(&list).unwrap();
    assert_eq!(read, parse(&json!({ "primitives": list })).unwrap());
    assert_eq!(
        read[0],
        Primitive { component: Component::Epsilon, text: "Walks to work.".to_owned(), weight: 2.0 }
    );
    assert_eq!((read[1].weight, read[2].weight), (1.0, 1.0));
    assert_eq!(parse(&json!([])).unwrap(), []);
    assert_eq!(parse(&json!({})).unwrap_err().to_string(), "primitives: field required");
    assert_eq!(
        parse(&json!([{"component": "beta"}])).unwrap_err().to_string(),
        "primitives[0].text: field required"
    );
}
