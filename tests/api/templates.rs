//! `${username}` in messages, and what faces were used for.

use serde_json::{Value, json};

use crate::{
    kit::{Dialect, Stage, error_of, json_request},
    support::{
        http::Request,
        models::{self, ANTHROPIC_MODEL, ANTHROPIC_UPSTREAM_ID, OPENAI_MODEL, OPENAI_UPSTREAM_ID},
        replies::{anthropic, openai},
        upstream::Exchange,
    },
};

const COMPLETIONS: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";
const COUNT: &str = "/v1/messages/count_tokens";

/// A stage with `ann` and `bob`, who differ in what they like.
fn stage() -> Stage {
    let stage = Stage::new([
        openai::json_exchange("ok", 10, 5).any_times(),
        anthropic::json_exchange("ok", 10, 5).any_times(),
        Exchange::json(200, &json!({"input_tokens": 11})).path(COUNT).any_times(),
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
    let request = Request::new("POST", COMPLETIONS)
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

/// Sends these bytes; what arrived upstream.
#[track_caller]
fn relayed(stage: &Stage, path: &str, body: &str) -> String {
    let request = Request::new("POST", path)
        .header("content-type", "application/json")
        .body(body.as_bytes().to_vec());
    let answer = stage.fetch(&request);
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    String::from_utf8(stage.upstream.requests().pop().expect("a request").body).unwrap()
}

/// A native request with placeholders in every place where a client can write one.
fn native(model: &str) -> String {
    r#"{ "x":[1.0 ,"${bob}"],"max_tokens":50, "model":"MODEL",
  "system": [ {"type":"text" ,"text":"Like ${bob}.","cache_control":{"type":"ephemeral"} } ],
  "messages":[ {"role":"user","content":"Is \\${ann} ${bob}?"},
    {"role":"assistant","content":[{"type":"text","text":"`${i}` of ${ann}"},
      {"type":"tool_use","id":"t1","name":"n","input":{"who":"${bob}"}}]},
    {"role":"user","content":[{"type":"tool_result","tool_use_id":"t1","content":"${bob}"},
      {"type":"document","source":{"type":"text","media_type":"text/plain","data":"${bob}"}},
      {"text":"${bob} \u00e9","type":"text"}]} ] }"#
        .replace("MODEL", model)
}

/// What of [`native`] is to arrive, with this in front of its system blocks.
fn expanded(model: &str, prompt: &str) -> String {
    native(model)
        .replace(
            r#"[ {"type":"text" ,"text":"Like ${bob}.""#,
            r#"[PROMPT {"type":"text" ,"text":"Like Bob ${ann}.""#,
        )
        .replace("PROMPT", prompt)
        .replace(r#""Is \\${ann} ${bob}?""#, r#""Is ${ann} Bob ${ann}?""#)
        .replace("`${i}` of ${ann}", "`${i}` of Ann Ables")
        .replace(r#""${bob} \u00e9""#, r#""Bob ${ann} é""#)
}

#[test]
fn in_a_native_message_texts_are_replaced_once_and_every_other_byte_is_the_clients() {
    let stage = stage();
    for path in [MESSAGES, COUNT] {
        for (model, persona) in
            [(format!("ann@{ANTHROPIC_MODEL}"), true), (ANTHROPIC_MODEL.to_owned(), false)]
        {
            let arrived = relayed(&stage, path, &native(&model));
            let sent: Value = serde_json::from_str(&arrived).unwrap();
            assert_eq!(sent["system"].as_array().map(Vec::len), Some(2), "{arrived}");
            let prompt = sent["system"][0]["text"].as_str().unwrap();
            assert_eq!(prompt.starts_with("You are Ann Ables."), persona, "{path}: {prompt}");
            assert_eq!(prompt.matches("Sings in a choir.").count(), 1, "{path}: {prompt}");
            // Her own profile is the persona; without one, her mention brings it.
            assert_eq!(prompt.matches("Plays chess.").count(), 1, "{path}: {prompt}");
            let block = format!("{{\"type\":\"text\",\"text\":{}}},", json!(prompt));
            assert_eq!(arrived, expanded(ANTHROPIC_UPSTREAM_ID, &block), "{path} {model}");
        }
    }
    let rows = stage.server.ledger().wait_resolved(&stage.account, 2);
    assert_eq!(rows.len(), 2, "counting costs nothing");
}

#[test]
fn a_message_that_another_model_answers_is_read_by_the_same_rules() {
    let stage = stage();
    let body = native(&format!("ann@{OPENAI_MODEL}")).replace(r#""x":[1.0 ,"${bob}"],"#, "");
    let sent: Value = serde_json::from_str(&relayed(&stage, MESSAGES, &body)).unwrap();
    let messages = sent["messages"].as_array().unwrap();
    let system = messages[0]["content"].as_str().unwrap();
    assert!(system.starts_with("You are Ann Ables."), "{system}");
    assert!(
        system.contains("Sings in a choir.") && system.ends_with("Like Bob ${ann}."),
        "{system}"
    );
    assert_eq!(messages[1]["content"], "Is ${ann} Bob ${ann}?");
    assert_eq!(messages[2]["content"], "`${i}` of Ann Ables");
    assert_eq!(messages[3]["content"], "${bob}", "a result is data");
    let parts = &messages[4]["content"];
    assert_eq!((&parts[0]["text"], &parts[1]["text"]), (&json!("${bob}"), &json!("Bob ${ann} é")));
}

#[test]
fn the_proxies_replace_nothing() {
    let stage = stage();
    for path in [
        "/v1/anthropic/messages",
        "/v1/anthropic/v1/messages",
        "/v1/anthropic/messages/count_tokens",
    ] {
        let arrived = relayed(&stage, path, &native(ANTHROPIC_MODEL));
        assert_eq!(arrived, native(ANTHROPIC_UPSTREAM_ID), "{path}");
    }
    let body = ask(OPENAI_MODEL, "${bob} ${nobody} \\${ann}").to_string();
    let arrived = relayed(&stage, "/v1/openai/chat/completions", &body);
    assert_eq!(arrived, body.replace(OPENAI_MODEL, OPENAI_UPSTREAM_ID));
}

#[test]
fn native_mentions_of_unknown_and_forbidden_faces_are_refused_in_anthropics_shape() {
    let stage = stage();
    let key = stage.server.key(&stage.account.id, &["--allow-face", "ann"]);
    let thief = stage.server.account();
    let model = format!("ann@{ANTHROPIC_MODEL}");
    for path in [MESSAGES, COUNT] {
        let refused = |key: &str, model: &str, text: &str| {
            let answer = json_request("POST", path, &ask(model, text))
                .bearer(key)
                .fetch(stage.server.address());
            let error = error_of(&answer, Dialect::Anthropic);
            (answer.status, error.code, error.message, error.whole["error"]["type"].clone())
        };
        let own = &stage.account.key;
        let (status, code, message, kind) = refused(own, &model, "${bob} ${nobody} ${x}");
        assert_eq!((status, code.as_str()), (422, "invalid_request_body"), "{path}: {message}");
        assert_eq!(kind, "invalid_request_error");
        assert!(message.contains("`nobody`, `x`.") && !message.contains("bob"), "{message}");
        let (status, code, message, _) = refused(&key, &model, "${bob}");
        assert_eq!((status, code.as_str()), (403, "face_not_allowed"), "{path}: {message}");
        assert!(message.contains("bob"), "{message}");
        let (status, _, message, _) = refused(&thief.key, ANTHROPIC_MODEL, "${bob}");
        assert_eq!(status, 422, "a foreign face is a missing one: {message}");
        let allowed = json_request("POST", path, &ask(&model, "Who is ${ann}?"))
            .bearer(&key)
            .fetch(stage.server.address());
        assert_eq!(allowed.status, 200, "{}", allowed.text());
    }
    assert_eq!(stage.server.ledger().wait_resolved(&stage.account, 1).len(), 1);
    assert!(stage.server.ledger().holds(&thief).is_empty());
}

#[test]
fn a_repeated_native_message_gets_its_answer_though_its_mention_is_gone() {
    let stage = stage();
    let ask = json_request("POST", MESSAGES, &ask(ANTHROPIC_MODEL, "Who is ${bob}?"))
        .header("idempotency-key", "who-is-bob");
    let first = stage.fetch(&ask);
    assert_eq!(first.status, 200, "{}", first.text());
    assert_eq!(stage.send("DELETE", "/v1/faces/bob", &json!({})).status, 200);
    let again = stage.fetch(&ask);
    assert_eq!((again.status, again.text()), (200, first.text()));
    assert_eq!(stage.server.ledger().wait_resolved(&stage.account, 1).len(), 1);
}

#[test]
fn the_hold_of_a_native_message_covers_what_its_mentions_bring() {
    let stage = stage();
    let held = |text: &str, count: usize| {
        let answer = stage.post(MESSAGES, &ask(ANTHROPIC_MODEL, text));
        assert_eq!(answer.status, 200, "{}", answer.text());
        let arrived = stage.upstream.requests().pop().unwrap().body.len();
        let mut rows = stage.server.ledger().wait_resolved(&stage.account, count);
        (rows.remove(count - 1).amount, i64::try_from(arrived).unwrap())
    };
    let (plain, plain_bytes) = held("Who is $ {bob}, and who is he?", 1);
    let (with_bob, bob_bytes) = held("Who is ${bob}, and who is he?", 2);
    let brought = bob_bytes - plain_bytes - 100;
    assert!(brought > 0, "the profile is no small part: {plain_bytes} {bob_bytes}");
    // At most a token of a byte, so at least this much for what was brought.
    assert!(
        with_bob - plain >= models::with_markup(brought * models::INPUT_NANOUSD),
        "{plain} {with_bob}"
    );
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
