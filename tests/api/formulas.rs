//! Faces made of others: stored ones with a formula, and `(a | b)@model`.

use serde_json::{Value, json};

use crate::{
    kit::{Dialect, Stage, chat, error_of, json_request},
    support::{
        http::{Fetched, Request},
        models::{ANTHROPIC_MODEL, OPENAI_MODEL},
        replies::{anthropic, openai},
        upstream::Exchange,
    },
};

const COMPLETIONS: &str = "/v1/chat/completions";

fn replies() -> [Exchange; 2] {
    [
        openai::json_exchange("ok", 1, 1).any_times(),
        anthropic::json_exchange("ok", 1, 1).any_times(),
    ]
}

/// A stage with `ann` (city Ghent; likes tea, walks to work, plays chess) and `bob` (city Oslo, age
/// 50; likes tea in other words, sings).
fn stage() -> Stage {
    let stage = Stage::new(replies());
    for (username, name, facts) in [
        ("ann", "Ann Ables", json!({"city": "Ghent"})),
        ("bob", "Bob Bakes", json!({"city": "Oslo", "age": 50})),
    ] {
        let body = json!({"username": username, "name": name, "basic_facts": facts});
        assert_eq!(stage.post("/v1/faces", &body).status, 201);
    }
    put(&stage, "ann", &["Likes green tea in the morning.", "Walks to work.", "Plays chess."]);
    put(&stage, "bob", &["In the morning, likes green tea", "Sings in a choir."]);
    stage
}

#[track_caller]
fn put(stage: &Stage, face: &str, texts: &[&str]) {
    let all: Vec<Value> =
        texts.iter().map(|text| json!({"component": "beta", "text": text})).collect();
    let answer =
        stage.send("PUT", &format!("/v1/faces/{face}/primitives"), &json!({"primitives": all}));
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// The system text that goes upstream when `model` is asked.
#[track_caller]
fn system_of(stage: &Stage, model: &str) -> String {
    let answer = stage.post(COMPLETIONS, &chat(model));
    assert_eq!(answer.status, 200, "{model}: {}", answer.text());
    assert_eq!(answer.json()["model"], model);
    let sent = stage.upstream.requests().pop().expect("a request").json();
    let system = sent["system"][0]["text"].as_str();
    let system = system.or_else(|| sent["messages"][0]["content"].as_str());
    system.unwrap_or_else(|| panic!("no system text: {sent}")).to_owned()
}

/// The profile's statements and facts.
fn lines(system: &str) -> Vec<&str> {
    let (_, profile) = system.split_once("a human is answering,").unwrap_or(("", system));
    profile.lines().filter_map(|line| line.strip_prefix("- ")).collect()
}

#[track_caller]
fn make(stage: &Stage, username: &str, formula: &str) -> Value {
    let body = json!({"username": username, "name": "Mix", "formula": formula});
    let made = stage.post("/v1/faces", &body);
    assert_eq!(made.status, 201, "{}", made.text());
    made.json()
}

#[test]
fn a_formula_is_evaluated_over_what_its_operands_have_now() {
    let stage = stage();
    let made = make(&stage, "mix", "ann|bob");
    assert_eq!(made["formula"], "ann | bob", "its canonical form");
    assert_eq!(made["basic_facts"], json!({}), "facts come from the operands");
    assert_eq!(made["component_counts"]["beta"], 4, "{made}");
    assert!(made["profile_token_count"].as_u64().is_some_and(|tokens| tokens > 0));
    let system = system_of(&stage, "mix");
    assert!(system.starts_with("You are Mix."), "{system}");
    let union = [
        "Age: 50",
        "City: Ghent",
        "Likes green tea in the morning.",
        "Walks to work.",
        "Plays chess.",
        "Sings in a choir.",
    ];
    assert_eq!(lines(&system), union, "the left one wins");
    let on_anthropic = system_of(&stage, &format!("mix@{ANTHROPIC_MODEL}"));
    assert_eq!(lines(&on_anthropic), union);

    put(&stage, "bob", &["Plays chess."]);
    assert_eq!(
        lines(&system_of(&stage, "mix")),
        &union[..5],
        "a change is seen by the next request"
    );
    let facts = json!({"basic_facts": {"city": null}});
    assert_eq!(stage.send("PATCH", "/v1/faces/ann", &facts).status, 200);
    assert_eq!(lines(&system_of(&stage, "mix"))[1], "City: Oslo");

    for (formula, expected) in [
        ("bob & ann", &["Age: 50", "City: Oslo", "Plays chess."][..]),
        ("ann - bob", &["Likes green tea in the morning.", "Walks to work."]),
        ("(ann ^ bob) - ann", &[]),
    ] {
        let changed = stage.send("PATCH", "/v1/faces/mix", &json!({"formula": formula}));
        assert_eq!((changed.status, &changed.json()["formula"]), (200, &json!(formula)));
        let system = system_of(&stage, "mix");
        if !expected.is_empty() {
            assert_eq!(lines(&system), expected, "{formula}: {system}");
        }
        assert!(!system.contains("choir"), "{system}");
    }
}

#[track_caller]
fn assert_refused(answer: &Fetched, loc: &str, words: &[&str]) {
    assert_eq!(answer.status, 422, "{}", answer.text());
    let error = error_of(answer, Dialect::Faces);
    assert_eq!(error.details["loc"], json!(["body", loc]), "{}", error.whole);
    for word in words {
        assert!(error.message.contains(word), "{word}: {}", error.message);
    }
}

#[test]
fn a_wrong_formula_is_refused_with_what_is_wrong_and_where() {
    let stage = stage();
    make(&stage, "mix", "ann - bob");
    let other = stage.server.account();
    let foreign = json_request("POST", "/v1/faces", &json!({"username": "theirs"}))
        .bearer(&other.key)
        .fetch(stage.server.address());
    assert_eq!(foreign.status, 201);
    let asks = |formula: &str| json!({"username": "new", "formula": formula});
    for (formula, words) in [
        ("ann |", &["column 6"][..]),
        ("ann bob", &["column 5", "must stand here"]),
        ("ann | (bob", &["column 7", "never closed"]),
        ("ann | nobody", &["`nobody`", "not found or is not owned by you"]),
        ("ann | theirs", &["`theirs`", "not found or is not owned by you"]),
        ("ann | new", &["`new`", "not found"]),
        ("ann | mix", &["`mix`", "made by a formula itself"]),
        ("ann-bob", &["`ann-bob`", "not found"]),
    ] {
        assert_refused(&stage.post("/v1/faces", &asks(formula)), "formula", words);
        let patch = stage.send("PATCH", "/v1/faces/mix", &json!({"formula": formula}));
        if formula != "ann | new" {
            assert_refused(&patch, "formula", words);
        }
    }
    assert_eq!(stage.get("/v1/faces/mix").json()["formula"], "ann - bob", "nothing changed");
    let facts = json!({"basic_facts": {"age": 3}});
    assert_refused(&stage.send("PATCH", "/v1/faces/mix", &facts), "basic_facts", &["formula"]);
    let to_concrete = stage.send("PATCH", "/v1/faces/ann", &json!({"formula": "bob"}));
    assert_refused(&to_concrete, "formula", &["of its own"]);
    let primitives = json!({"primitives": [{"component": "beta", "text": "Likes rain."}]});
    let put = stage.send("PUT", "/v1/faces/mix/primitives", &primitives);
    assert_refused(&put, "primitives", &["formula"]);
    // What was read can be sent back.
    for face in ["mix", "ann"] {
        let read = stage.get(&format!("/v1/faces/{face}")).json();
        let same = stage.send("PATCH", &format!("/v1/faces/{face}"), &read);
        assert_eq!(same.status, 200, "{}", same.text());
    }
}

#[test]
fn a_formula_whose_operand_is_gone_says_so_and_its_face_can_still_be_read() {
    let stage = stage();
    make(&stage, "mix", "ann | bob");
    system_of(&stage, "mix");
    assert_eq!(stage.fetch(&Request::new("DELETE", "/v1/faces/bob")).status, 200);
    let asked = stage.post(COMPLETIONS, &chat("mix"));
    assert_eq!(asked.status, 422, "{}", asked.text());
    let message = error_of(&asked, Dialect::OpenAi).message;
    assert!(message.contains("`mix`") && message.contains("`bob`"), "{message}");
    let read = stage.get("/v1/faces/mix");
    assert_eq!((read.status, read.json()["component_counts"].clone()), (200, Value::Null));
    assert_eq!(stage.get("/v1/faces").status, 200);
    let mended = stage.send("PATCH", "/v1/faces/mix", &json!({"formula": "ann"}));
    assert_eq!(mended.status, 200, "{}", mended.text());
    assert!(system_of(&stage, "mix").contains("Plays chess."));
}

#[test]
fn a_request_combines_faces_by_a_formula_of_its_own() {
    let stage = stage();
    let model = format!("(ann | bob)@{OPENAI_MODEL}");
    let system = system_of(&stage, &model);
    assert!(system.starts_with("You are Ann Ables."), "the first operand's name: {system}");
    assert!(lines(&system).contains(&"Sings in a choir."), "{system}");
    let swapped = system_of(&stage, &format!("(bob - ann)@{OPENAI_MODEL}"));
    assert!(swapped.starts_with("You are Bob Bakes."), "{swapped}");
    assert_eq!(lines(&swapped), ["Age: 50", "City: Oslo", "Sings in a choir."]);
    put(&stage, "bob", &["Swims."]);
    assert!(lines(&system_of(&stage, &model)).contains(&"Swims."), "at once");
    let on_anthropic = system_of(&stage, &format!("(ann & (ann | bob))@{ANTHROPIC_MODEL}"));
    assert!(!on_anthropic.contains("Swims."), "{on_anthropic}");

    make(&stage, "mix", "ann | bob");
    for (model, status, words) in [
        ("(ann | bob)".to_owned(), 422, &["an @"][..]),
        (format!("(ann | nobody)@{OPENAI_MODEL}"), 404, &["`nobody`"]),
        (format!("(ann | mix)@{OPENAI_MODEL}"), 422, &["`mix`", "made by a formula"]),
        (format!("(ann | )@{OPENAI_MODEL}"), 422, &["column 8"]),
        (format!("(ann@{OPENAI_MODEL}"), 422, &["column 1", "never closed"]),
        ("(ann | bob)@no-such-model".to_owned(), 422, &["no-such-model"]),
        ("(ann | bob)@".to_owned(), 422, &["GET /v1/models"]),
    ] {
        let answer = stage.post(COMPLETIONS, &chat(&model));
        assert_eq!(answer.status, status, "{model}: {}", answer.text());
        let message = error_of(&answer, Dialect::OpenAi).message;
        for word in words {
            assert!(message.contains(word), "{model} {word}: {message}");
        }
    }
    let thief = stage.server.account();
    let body = chat(&model);
    let foreign =
        json_request("POST", COMPLETIONS, &body).bearer(&thief.key).fetch(stage.server.address());
    assert_eq!(foreign.status, 404, "{}", foreign.text());
}

#[test]
fn a_key_must_allow_every_operand() {
    let stage = stage();
    let key = stage.server.key(&stage.account.id, &["--allow-face", "ann", "--allow-face", "mix"]);
    let ask = |method: &str, path: &str, body: &Value| {
        json_request(method, path, body).bearer(&key).fetch(stage.server.address())
    };
    for other in ["bob", "nobody"] {
        let body = chat(&format!("(ann | {other})@{OPENAI_MODEL}"));
        let answer = ask("POST", COMPLETIONS, &body);
        assert_eq!(answer.status, 403, "{}", answer.text());
        let error = error_of(&answer, Dialect::OpenAi);
        assert_eq!(error.code, "face_not_allowed");
        assert!(
            error.message.contains(other) && !error.message.contains("model"),
            "{}",
            error.message
        );
    }
    let allowed = ask("POST", COMPLETIONS, &chat(&format!("(ann | ann)@{OPENAI_MODEL}")));
    assert_eq!(allowed.status, 200, "{}", allowed.text());
    let body = json!({"username": "mix", "formula": "ann | bob"});
    let made = ask("POST", "/v1/faces", &body);
    assert_eq!(made.status, 403, "{}", made.text());
    // A stored face is its own: what it is made of was allowed to who made it.
    assert_eq!(stage.post("/v1/faces", &body).status, 201);
    assert_eq!(ask("POST", COMPLETIONS, &chat("mix")).status, 200);
    let changed = ask("PATCH", "/v1/faces/mix", &json!({"formula": "bob"}));
    assert_eq!(changed.status, 403, "{}", changed.text());
}

#[test]
fn texts_of_a_face_are_kept_shown_and_cleared() {
    let stage = stage();
    let path = "/v1/faces/ann";
    let patch = |body: Value| {
        let answer = stage.send("PATCH", path, &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    };
    let texts =
        json!({"description": " A friend.\nOf mine. ", "profile_addendum": "Says `indeed` a lot."});
    let set = patch(texts);
    assert_eq!(set["description"], "A friend.\nOf mine.");
    assert_eq!(patch(json!({"name": "Ann"}))["profile_addendum"], "Says `indeed` a lot.");
    let system = system_of(&stage, &format!("ann@{OPENAI_MODEL}"));
    assert!(system.contains("Says `indeed` a lot."), "{system}");
    assert!(!system.contains("A friend."), "a description is for people: {system}");
    let cleared = patch(json!({"description": null, "profile_addendum": ""}));
    assert_eq!(
        (&cleared["description"], &cleared["profile_addendum"]),
        (&Value::Null, &Value::Null)
    );
    assert!(!system_of(&stage, &format!("ann@{OPENAI_MODEL}")).contains("indeed"));
    let forgotten = patch(json!({"basic_facts": {"City": null, "age": 3}}));
    let facts: Vec<&String> = forgotten["basic_facts"].as_object().unwrap().keys().collect();
    assert_eq!(facts, ["age"], "null forgets a fact");
}

#[test]
fn the_bill_counts_a_formula_for_its_face_and_a_composite_for_its_first_operand() {
    let stage = stage();
    make(&stage, "mix", "ann | bob");
    let asked = ["mix".to_owned(), format!("(bob | ann)@{OPENAI_MODEL}"), OPENAI_MODEL.to_owned()];
    for model in asked {
        assert_eq!(stage.post(COMPLETIONS, &chat(&model)).status, 200);
    }
    let usage = stage.get("/v1/billing/usage?group_by=model_iam_id").json();
    let rows = usage["rows"].as_array().unwrap().iter();
    let mut rows: Vec<(Value, Value)> =
        rows.map(|row| (row["group_label"].clone(), row["group_key"].clone())).collect();
    rows.sort_by_key(|(label, _)| label.to_string());
    let uid = |face: &str| stage.get(&format!("/v1/faces/{face}")).json()["uid"].clone();
    let expected = [
        (json!("bob"), uid("bob")),
        (json!("mix"), uid("mix")),
        // A bare model is nobody's.
        (Value::Null, Value::Null),
    ];
    assert_eq!(rows, expected, "{usage}");
}
