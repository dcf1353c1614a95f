//! `${username}` in messages, and what faces were used for.

use serde_json::{Value, json};

use crate::{
    kit::{Dialect, Stage, error_of, json_request},
    support::{
        models::{ANTHROPIC_MODEL, OPENAI_MODEL},
        replies::{anthropic, openai},
    },
};

const COMPLETIONS: &str = "/v1/chat/completions";

/// A stage with `ann` and `bob`, who differ in what they like.
fn stage() -> Stage {
    let stage = Stage::new([
        openai::json_exchange("ok", 10, 5).any_times(),
        anthropic::json_exchange("ok", 10, 5).any_times(),
    ]);
    for (username, name, text) in
        [("ann", "Ann Ables", "Plays chess."), ("bob", "Bob ${ann}", "Sings in a choir.")]
    {
        let body = json!({"username": username, "name": name, "default_model": OPENAI_MODEL});
        assert_eq!(stage.post("/v1/faces", &body).status, 201);
        let put = json!({"primitives": [{"component": "beta", "text": text}]});
        let path = format!("/v1/faces/{username}/primitives");
        assert_eq!(stage.send("PUT", &path, &put).status, 200);
    }
    stage
}

fn ask(model: &str, text: &str) -> Value {
    json!({"model": model, "max_tokens": 50, "messages": [{"role": "user", "content": text}]})
}

/// The system text and the user's text that go upstream.
#[track_caller]
fn sent(stage: &Stage, body: &Value) -> (Option<String>, String) {
    let answer = stage.post(COMPLETIONS, body);
    assert_eq!(answer.status, 200, "{body}: {}", answer.text());
    let sent = stage.upstream.requests().pop().expect("a request").json();
    let messages = sent["messages"].as_array().unwrap();
    let text = |value: &Value| match value {
        Value::Array(parts) => parts[0]["text"].as_str().unwrap().to_owned(),
        other => other.as_str().unwrap().to_owned(),
    };
    let system = messages.iter().find(|message| message["role"] == "system");
    let system = system.map(|message| text(&message["content"]));
    let own = sent["system"][0]["text"].as_str().map(str::to_owned);
    (own.or(system), text(&messages.last().unwrap()["content"]))
}

#[test]
fn a_mentioned_face_is_named_in_the_text_and_told_once_beside_the_persona() {
    let stage = stage();
    for model in ["ann".to_owned(), format!("ann@{ANTHROPIC_MODEL}")] {
        let body = ask(&model, "What would ${bob} say? ${bob}, ${ann}: \\${bob} costs ${X}");
        let (system, user) = sent(&stage, &body);
        let system = system.unwrap();
        assert_eq!(user, "What would Bob ${ann} say? Bob ${ann}, Ann Ables: ${bob} costs ${X}");
        assert!(system.starts_with("You are Ann Ables."), "{system}");
        assert_eq!(system.matches("Sings in a choir.").count(), 1, "{system}");
        assert_eq!(system.matches("Plays chess.").count(), 1, "her own is no second one: {system}");
        let (persona, background) = system.split_once("background on Bob").unwrap();
        assert!(persona.contains("Plays chess.") && background.contains("Sings in a choir."));
    }
    let (system, user) = sent(&stage, &ask(OPENAI_MODEL, "Who is ${ann}?"));
    assert_eq!(user, "Who is Ann Ables?");
    assert!(system.unwrap().contains("Plays chess."), "a bare model gets the profile too");
    let mix = json!({"username": "mix", "name": "Mix", "formula": "ann | bob"});
    assert_eq!(stage.post("/v1/faces", &mix).status, 201);
    let (system, user) = sent(&stage, &ask(OPENAI_MODEL, "${mix}"));
    assert_eq!(user, "Mix");
    let system = system.unwrap();
    assert!(system.contains("Plays chess.") && system.contains("Sings in a choir."), "{system}");
}

#[test]
fn a_request_without_placeholders_passes_byte_by_byte() {
    let stage = stage();
    let body = r#"{ "model":"MODEL", "messages":[ {"role":"user","content":"$ {x} ${X} \u00e9"} ],"y":1.50}"#
        .replace("MODEL", OPENAI_MODEL);
    let request = crate::support::http::Request::new("POST", COMPLETIONS)
        .header("content-type", "application/json")
        .body(body.clone().into_bytes());
    assert_eq!(stage.fetch(&request).status, 200);
    let sent = stage.upstream.requests().pop().unwrap();
    let expected = body.replace(OPENAI_MODEL, sent.json()["model"].as_str().unwrap());
    assert_eq!(String::from_utf8_lossy(&sent.body), expected);
}

#[test]
fn unknown_faces_are_listed_and_a_key_must_allow_the_others() {
    let stage = stage();
    let text = "${bob} ${nobody} ${stats} ${nobody}";
    let answer = stage.post(COMPLETIONS, &ask("ann", text));
    assert_eq!(answer.status, 422, "{}", answer.text());
    let message = error_of(&answer, Dialect::OpenAi).message;
    assert!(message.contains("`nobody`, `stats`.") && !message.contains("bob"), "{message}");
    let many: String = (0..17).map(|number| format!("${{f{number}}}")).collect();
    let answer = stage.post(COMPLETIONS, &ask("ann", &many));
    assert_eq!(answer.status, 422, "{}", answer.text());
    let mut body = ask("ann", "Go on.");
    body["messages"] = json!([{"role": "assistant", "content": "`${i}` of ${bob}"},
        {"role": "user", "content": "Go on."}]);
    let (system, _) = sent(&stage, &body);
    assert!(system.unwrap().contains("choir"), "a model's own code stops nothing");

    let key = stage.server.key(&stage.account.id, &["--allow-face", "ann"]);
    let refused = json_request("POST", COMPLETIONS, &ask("ann", "${bob}"))
        .bearer(&key)
        .fetch(stage.server.address());
    assert_eq!(refused.status, 403, "{}", refused.text());
    let error = error_of(&refused, Dialect::OpenAi);
    assert!(error.code == "face_not_allowed" && error.message.contains("bob"), "{}", error.message);
    let thief = stage.server.account();
    let foreign = json_request("POST", COMPLETIONS, &ask(OPENAI_MODEL, "${bob}"))
        .bearer(&thief.key)
        .fetch(stage.server.address());
    assert_eq!(foreign.status, 422, "{}", foreign.text());
}

#[test]
fn stats_tell_what_each_face_has_and_was_used_for() {
    let stage = stage();
    for model in ["ann".to_owned(), format!("(bob | ann)@{OPENAI_MODEL}"), OPENAI_MODEL.to_owned()]
    {
        assert_eq!(stage.post(COMPLETIONS, &ask(&model, "Hi")).status, 200);
    }
    let answer = stage.get("/v1/faces/stats");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let stats = answer.json();
    let names: Vec<&String> = stats.as_object().unwrap().keys().collect();
    assert_eq!(names, ["alice", "ann", "bob"]);
    for face in ["ann", "bob"] {
        let one = &stats[face];
        assert_eq!((&one["alias"], &one["request_count"]), (&json!(face), &json!(1)), "{one}");
        assert_eq!((&one["input_tokens"], &one["output_tokens"]), (&json!(10), &json!(5)), "{one}");
        assert_eq!(
            (&one["tokens_compiled_current"], &one["last_synced_at"]),
            (&json!(0), &Value::Null)
        );
        assert_eq!(one["component_counts"]["beta"], 1);
        assert!(one["profile_token_count"].as_u64().is_some_and(|tokens| tokens > 0), "{one}");
        let nanousd = |field: &str| (one[field].as_f64().unwrap() * 1e9).round();
        let parts = nanousd("provider_cost_usd") + nanousd("markup_usd");
        let whole = nanousd("total_cost_usd");
        assert!(whole > 0.0 && (whole - parts).abs() < 0.5, "{one}");
    }
    assert_eq!(stats["alice"]["request_count"], 0);
    let key = stage.server.key(&stage.account.id, &["--allow-face", "bob"]);
    let shown = json_request("GET", "/v1/faces/stats", &json!({}))
        .bearer(&key)
        .fetch(stage.server.address())
        .json();
    assert_eq!(shown.as_object().unwrap().keys().collect::<Vec<_>>(), ["bob"]);
    let other = stage.server.account();
    let theirs = json_request("GET", "/v1/faces/stats", &json!({}))
        .bearer(&other.key)
        .fetch(stage.server.address());
    assert_eq!(theirs.json(), json!({}));
}
