//! Behaviour of the room as its users see it. Whole prompts are in `snapshots/`.

mod compose;
mod extract;
mod fields;
mod formula;
mod properties;

use serde_json::json;

use super::*;
use crate::domain::{AccountId, FaceId, FaceName};

const LIMITS: ImportLimits = ImportLimits { primitives_max: 100, primitive_chars_max: 200 };

/// A face of fixed ids and times.
fn face(name: &str, facts: &serde_json::Value) -> Face {
    let id = "0197a000-0000-7000-8000-000000000001";
    Face {
        id: id.parse::<FaceId>().unwrap(),
        account_id: id.parse::<AccountId>().unwrap(),
        username: FaceName::parse("alice").unwrap(),
        name: name.to_owned(),
        facts: Facts::normalise(facts).unwrap().0,
        default_model: None,
        default_tools: Vec::new(),
        formula: None,
        description: None,
        profile_addendum: None,
        version: 1,
        created_at: 1_770_972_080_999_999,
        updated_at: 1_770_972_080_999_999,
        component_counts: None,
    }
}

#[test]
fn the_table_has_90_different_keys_in_12_categories() {
    let keys: Vec<&str> = ATTRIBUTES.iter().flat_map(|(_, keys)| keys.iter().copied()).collect();
    let different: std::collections::BTreeSet<&str> = keys.iter().copied().collect();
    assert_eq!((ATTRIBUTES.len(), keys.len(), different.len()), (12, 90, 90));
    for key in keys {
        let (facts, warnings) = Facts::normalise(&json!({ key: "x" })).unwrap();
        assert_eq!(
            (facts.get(key), warnings.len()),
            (Some("x"), 0),
            "{key} is its own normal form"
        );
    }
}

#[test]
fn the_attributes_endpoint_shows_the_table() {
    let shown = attributes_json();
    assert_eq!(shown["object"], "list");
    assert_eq!(shown["data"][0]["name"], "Age & Birth");
    assert_eq!(shown["data"][0]["facts"][0], "age");
    assert_eq!(shown["data"].as_array().unwrap().len(), 12);
}

#[test]
fn facts_are_kept_under_normalised_keys_and_the_rest_is_named_in_warnings() {
    let (facts, warnings) = Facts::normalise(&json!({
        "Marital Status": " married ",
        "AGE": 30,
        "number-of-children": {"value": 2, "status": "inferred"},
        "  home   ownership ": true,
        "shoe_size": 38,
        "role": {"deep": ["not", "read"]},
        "city": "  ",
        "country": "\u{200b}\n",
        "marital_status": "divorced",
    }))
    .unwrap();
    let kept: Vec<(&str, &str)> = facts.iter().collect();
    assert_eq!(
        kept,
        [
            ("age", "30"),
            ("marital_status", "divorced"),
            ("number_of_children", "2"),
            ("home_ownership", "true"),
        ]
    );
    assert_eq!(
        warnings,
        [
            "basic_facts key 'shoe_size' is not supported and was dropped",
            "basic_facts key 'role' is not supported and was dropped",
            "basic_facts key 'city' has an empty value and was dropped",
            "basic_facts key 'country' has an empty value and was dropped",
            "basic_facts key 'marital_status' is given more than once; the last value was kept",
        ]
    );
}

#[test]
fn a_fact_has_at_most_500_characters_of_any_script() {
    let longest = "é".repeat(500);
    assert_eq!(Facts::normalise(&json!({"age": longest})).unwrap().0.get("age"), Some(&*longest));
    let error = Facts::normalise(&json!({"age": format!("{longest}!")})).unwrap_err();
    assert_eq!(
        error.to_string(),
        "basic_facts.age: is 501 characters long; at most 500 are allowed"
    );
}

#[test]
fn a_fact_of_a_wrong_type_is_refused_at_its_path() {
    for (facts, message) in [
        (json!("thirty"), "basic_facts: must be an object of facts by key"),
        (json!([1]), "basic_facts: must be an object of facts by key"),
        (json!({"Age": [30]}), "basic_facts.age: must be a string, a number or a boolean"),
        (json!({"age": {"status": "stated"}}), "basic_facts.age.value: field required"),
        (
            json!({"age": {"value": {"value": 1}}}),
            "basic_facts.age.value: must be a string, a number or a boolean",
        ),
    ] {
        assert_eq!(Facts::normalise(&facts).unwrap_err().to_string(), message);
    }
}

#[test]
fn a_flood_of_unknown_keys_gives_a_bounded_number_of_short_warnings() {
    let flood: serde_json::Map<String, serde_json::Value> =
        (0..5_000).map(|i| (format!("{i}{}", "x\n".repeat(500)), json!(1))).collect();
    let (facts, warnings) = Facts::normalise(&flood.into()).unwrap();
    assert!(facts.is_empty());
    assert_eq!(warnings.len(), 101);
    assert_eq!(warnings[100], "basic_facts: 4900 more keys gave a warning");
    assert!(warnings.iter().all(|warning| warning.len() < 200 && !warning.contains('\n')));
}

#[test]
fn facts_merge_key_by_key_and_survive_the_database() {
    let read = |facts| Facts::normalise(&facts).unwrap().0;
    let mut facts = read(json!({"age": 30, "city": "Ghent"}));
    facts.merge(read(json!({"age": 31, "country": "Belgium"})));
    assert_eq!(facts, read(json!({"age": 31, "city": "Ghent", "country": "Belgium"})));
    assert_eq!(facts.to_stored(), r#"{"age":"31","city":"Ghent","country":"Belgium"}"#);
    assert_eq!(Facts::from_stored(&facts.to_stored()), Ok(facts.clone()));
    assert_eq!(
        facts.to_json()["age"],
        json!({"value": "31", "status": "stated", "identification": "user-provided"})
    );
    let (again, warnings) = Facts::normalise(&facts.to_json()).unwrap();
    assert_eq!((again, warnings.len()), (facts, 0), "what is shown can be sent back");
    assert!(Facts::from_stored("[]").is_err());
    let old = Facts::from_stored(r#"{"retired_key":"x","age":"1"}"#).unwrap();
    assert_eq!(old.iter().collect::<Vec<_>>(), [("age", "1"), ("retired_key", "x")]);
}

#[test]
fn tokens_are_counted_by_script_and_rounded_up() {
    for (text, tokens) in
        [("", 0), ("a", 1), ("abcd", 1), ("abcde", 2), ("éé", 1), ("早安早安", 4), ("🎻", 2)]
    {
        assert_eq!(estimate_tokens(text), tokens, "{text}");
    }
}

#[test]
fn the_face_object_has_the_names_of_both_generations() {
    let mut face = face("Alice", &json!({"age": 30}));
    face.default_model = Some("gpt-4o-mini".to_owned());
    let warnings = ["basic_facts key 'shoe_size' is not supported and was dropped".to_owned()];
    let rendering =
        FaceRendering { owned_by: "alice-account", profile_tokens: Some(400), warnings: &warnings };
    insta::assert_json_snapshot!("face_object_without_primitives", face.to_json(rendering));
    face.component_counts = Some(ComponentCounts { alpha: 1, beta: 2, delta: 3, epsilon: 4 });
    insta::assert_json_snapshot!("face_object_compiled", face.to_json(rendering));
}

#[test]
fn the_demo_face_is_whole() {
    let alice = demo::alice().unwrap();
    let counts = ComponentCounts::of(&alice.primitives);
    assert!([counts.alpha, counts.beta, counts.delta, counts.epsilon].iter().all(|n| *n >= 8));
    let facts = alice.fields.facts.as_ref().unwrap();
    assert_eq!(facts.warnings, [""; 0]);
    assert!(facts.stated.len() >= 15);
    let ids = face("x", &json!({}));
    let (face, primitives, warnings) =
        alice.into_face(ids.id, ids.account_id, 1_770_972_080_000_000).unwrap();
    assert_eq!((face.username.as_str(), face.component_counts), ("alice", Some(counts)));
    assert_eq!((primitives.len(), warnings.len()), (41, 0));
}
