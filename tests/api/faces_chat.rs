//! Which face and which model answer, with what prompt, and what a key may use.

use serde_json::{Value, json};

use crate::{
    kit::{Dialect, Stage, chat, error_of, json_request, with},
    support::{
        PERSONA_CANARY,
        http::{Fetched, Request},
        models::{
            ANTHROPIC_MODEL, ANTHROPIC_UPSTREAM_ID, FREE_INPUT_MODEL, OPENAI_MODEL,
            OPENAI_UPSTREAM_ID,
        },
        replies::{anthropic, openai},
        server::TestServer,
        upstream::Exchange,
    },
};

fn replies() -> [Exchange; 2] {
    [
        openai::json_exchange("ok", 1, 1).any_times(),
        anthropic::json_exchange("ok", 1, 1).any_times(),
    ]
}

/// The upstream model of the request that `model` leads to.
#[track_caller]
fn sent_to(stage: &Stage, model: &str) -> String {
    let before = stage.upstream.requests().len();
    let answer = stage.post("/v1/chat/completions", &chat(model));
    assert_eq!(answer.status, 200, "{model}: {}", answer.text());
    assert_eq!(answer.json()["model"], model, "the client's own string comes back");
    let requests = stage.upstream.requests();
    assert_eq!(requests.len(), before + 1);
    requests[before].json()["model"].as_str().unwrap().to_owned()
}

#[test]
fn an_override_wins_over_the_faces_model_and_that_over_the_servers() {
    let builder = TestServer::builder().env("FACES_DEFAULT_MODEL", FREE_INPUT_MODEL);
    let stage = Stage::with(replies(), builder, "10");
    assert_eq!(sent_to(&stage, "alice"), OPENAI_UPSTREAM_ID, "the face's own");
    assert_eq!(sent_to(&stage, &format!("alice@{ANTHROPIC_MODEL}")), ANTHROPIC_UPSTREAM_ID);
    assert_eq!(stage.post("/v1/faces", &json!({"username": "plain"})).status, 201);
    assert_eq!(sent_to(&stage, "plain"), "scripted-free-input-upstream", "the server's");
    let changed =
        stage.send("PATCH", "/v1/faces/plain", &json!({"default_model": ANTHROPIC_MODEL}));
    assert_eq!(changed.status, 200);
    assert_eq!(sent_to(&stage, "plain"), ANTHROPIC_UPSTREAM_ID, "at once");
    assert_eq!(sent_to(&stage, OPENAI_MODEL), OPENAI_UPSTREAM_ID, "a bare model");
    // An id with slashes and an @ in what follows the first one.
    let fireworks = "accounts/fireworks/models/llama-v3p1-8b-instruct";
    assert_eq!(sent_to(&stage, &format!("alice@{fireworks}")), fireworks);
    for wrong in ["alice@", "alice@@gpt-4o", "alice@gpt-4o@x", "@gpt-4o", "@"] {
        let answer = stage.post("/v1/chat/completions", &chat(wrong));
        assert!(matches!(answer.status, 404 | 422), "{wrong}: {}", answer.text());
        error_of(&answer, Dialect::OpenAi);
    }
}

#[test]
fn a_face_shadows_a_model_of_the_same_name_for_its_owner_only() {
    let stage = Stage::new(replies());
    let made = stage
        .post("/v1/faces", &json!({"username": OPENAI_MODEL, "default_model": ANTHROPIC_MODEL}));
    assert_eq!(made.status, 201, "{}", made.text());
    assert_eq!(sent_to(&stage, OPENAI_MODEL), ANTHROPIC_UPSTREAM_ID);
    let other = stage.server.account();
    let answer = json_request("POST", "/v1/chat/completions", &chat(OPENAI_MODEL))
        .bearer(&other.key)
        .fetch(stage.server.address());
    assert_eq!(answer.header("x-faces-model"), Some(OPENAI_MODEL));
}

/// The system text that went upstream with the last request.
#[track_caller]
fn last_system(stage: &Stage) -> String {
    let request = stage.upstream.requests().pop().expect("a request");
    let body = request.json();
    let system = if request.path == anthropic::PATH {
        &body["system"]
    } else {
        &body["messages"][0]["content"]
    };
    match system {
        Value::Array(blocks) => {
            let texts: Vec<&str> =
                blocks.iter().filter_map(|block| block["text"].as_str()).collect();
            texts.join("\n\n")
        }
        other => other.as_str().unwrap_or_else(|| panic!("no system text: {body}")).to_owned(),
    }
}

#[test]
fn the_persona_stands_before_the_callers_system_text_in_both_formats() {
    let stage = Stage::new(replies());
    for model in ["alice".to_owned(), format!("alice@{ANTHROPIC_MODEL}")] {
        let caller = "Answer in rhymes.";
        let mut body = chat(&model);
        body["messages"] =
            json!([{"role": "system", "content": caller}, {"role": "user", "content": "hi"}]);
        let answer = stage.post("/v1/chat/completions", &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let system = last_system(&stage);
        let persona = system.strip_suffix(&format!("\n\n{caller}"));
        let persona = persona.unwrap_or_else(|| panic!("the caller's text is not last: {system}"));
        for part in ["Alice Example", PERSONA_CANARY, "Alice counts ships"] {
            assert!(persona.contains(part), "{part}: {persona}");
        }
        assert!(!answer.text().contains(PERSONA_CANARY), "the persona is not told to the client");
    }
}

#[test]
fn a_change_is_seen_by_the_very_next_request() {
    let stage = Stage::new(replies());
    for number in 0..10 {
        let job = format!("job-{number}");
        let answer =
            stage.send("PATCH", "/v1/faces/alice", &json!({"basic_facts": {"occupation": job}}));
        assert_eq!(answer.status, 200);
        let text = format!("Alice likes thing-{number}.");
        let put = json!({"primitives": [{"component": "beta", "text": text}]});
        assert_eq!(stage.send("PUT", "/v1/faces/alice/primitives", &put).status, 200);
        assert_eq!(stage.post("/v1/chat/completions", &chat("alice")).status, 200);
        let system = last_system(&stage);
        assert!(system.contains(&job) && system.contains(&text), "{number}: {system}");
        assert!(!system.contains(&format!("job-{}", number + 100)));
        if number > 0 {
            assert!(
                !system.contains(&format!("thing-{}.", number - 1)),
                "the old is gone: {system}"
            );
        }
    }
    let deleted = stage.fetch(&Request::new("DELETE", "/v1/faces/alice"));
    assert_eq!(deleted.status, 200);
    assert_eq!(stage.post("/v1/chat/completions", &chat("alice")).status, 404);
}

#[test]
fn updates_at_the_same_time_lose_nothing() {
    let stage = Stage::new([]);
    let keys = ["age", "occupation", "religion", "nationality"];
    let statuses: Vec<(String, u16)> = std::thread::scope(|scope| {
        let running: Vec<_> = keys
            .iter()
            .map(|key| {
                let stage = &stage;
                scope.spawn(move || {
                    let body = json!({"basic_facts": {*key: "changed"}});
                    ((*key).to_owned(), stage.send("PATCH", "/v1/faces/alice", &body).status)
                })
            })
            .collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let face = stage.get("/v1/faces/alice").json();
    for (key, status) in statuses {
        assert!(matches!(status, 200 | 409), "{key}: {status}");
        if status == 200 {
            assert_eq!(face["basic_facts"][&key]["value"], "changed", "{key}: {face}");
        }
    }
}

#[track_caller]
fn assert_403(answer: &Fetched, dialect: Dialect, code: &str, word: &str, never: &str) {
    assert_eq!(answer.status, 403, "{}", answer.text());
    let error = error_of(answer, dialect);
    assert_eq!(error.code, code, "{}", error.whole);
    assert!(error.message.contains(word), "{}", error.message);
    let rest = error.message.replace('`', "");
    assert!(!rest.contains(never), "clients sort by these words: {rest}");
}

#[test]
fn a_key_uses_only_the_faces_and_models_that_it_allows() {
    let stage = Stage::new(replies());
    assert_eq!(stage.post("/v1/faces", &json!({"username": "bob"})).status, 201);
    let id = &stage.account.id;
    let faces_key = stage.server.key(id, &["--allow-face", "bob"]);
    let models_key = stage.server.key(id, &["--allow-model", ANTHROPIC_MODEL]);
    let ask = |key: &str, method: &str, path: &str, body: &Value| {
        json_request(method, path, body).bearer(key).fetch(stage.server.address())
    };
    let post = |key: &str, path: &str, body: &Value| ask(key, "POST", path, body);
    let completions = "/v1/chat/completions";
    for model in ["alice".to_owned(), format!("alice@{ANTHROPIC_MODEL}")] {
        let answer = post(&faces_key, completions, &chat(&model));
        assert_403(&answer, Dialect::OpenAi, "face_not_allowed", "face", "model");
    }
    for (method, path) in
        [("GET", "/v1/faces/alice"), ("PATCH", "/v1/faces/alice"), ("DELETE", "/v1/faces/alice")]
    {
        let answer = ask(&faces_key, method, path, &json!({}));
        assert_403(&answer, Dialect::Faces, "face_not_allowed", "face", "model");
    }
    let primitives =
        ask(&faces_key, "PUT", "/v1/faces/alice/primitives", &json!({"primitives": []}));
    assert_403(&primitives, Dialect::Faces, "face_not_allowed", "face", "model");
    assert_eq!(post(&faces_key, completions, &chat(&format!("bob@{OPENAI_MODEL}"))).status, 200);
    let made = ask(&faces_key, "POST", "/v1/faces", &json!({"username": "carol"}));
    assert_403(&made, Dialect::Faces, "face_not_allowed", "face", "model");
    let shown = ask(&faces_key, "GET", "/v1/faces", &json!({})).json();
    let names: Vec<&Value> =
        shown["data"].as_array().unwrap().iter().map(|face| &face["username"]).collect();
    assert_eq!(names, [&json!("bob")], "a list shows what the key may use");

    let native = with(chat(ANTHROPIC_MODEL), &json!({"max_tokens": 8}));
    let refused = [
        post(&models_key, completions, &chat("alice")),
        post(&models_key, completions, &chat(&format!("alice@{OPENAI_MODEL}"))),
        post(&models_key, completions, &chat(OPENAI_MODEL)),
        post(&models_key, "/v1/openai/chat/completions", &chat(OPENAI_MODEL)),
    ];
    for answer in &refused {
        assert_403(answer, Dialect::OpenAi, "model_not_allowed", "model", "face");
    }
    assert_eq!(
        post(&models_key, completions, &chat(&format!("alice@{ANTHROPIC_MODEL}"))).status,
        200
    );
    assert_eq!(post(&models_key, "/v1/anthropic/v1/messages", &native).status, 200);
    let listed = ask(&models_key, "GET", "/v1/models", &json!({})).json();
    assert_eq!(listed["data"].as_array().unwrap().len(), 1, "{listed}");
    assert_eq!(
        ask(&models_key, "GET", &format!("/v1/models/{OPENAI_MODEL}"), &json!({})).status,
        404
    );
}

#[test]
fn the_list_has_exactly_the_usable_models_in_either_shape() {
    let server = TestServer::builder().start();
    let account = server.account();
    let get = |path: &str, version: Option<&str>| {
        let mut request = Request::get(path).bearer(&account.key);
        if let Some(version) = version {
            request = request.header("anthropic-version", version);
        }
        request.fetch(server.address())
    };
    let only = get("/v1/models", None).json();
    assert_eq!(only["object"], "list");
    let ids = |list: &Value| -> Vec<String> {
        list["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|model| model["id"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(ids(&only), ["sandbox"], "without a provider's key only the sandbox");
    let unusable = json_request("POST", "/v1/chat/completions", &chat("gpt-4o"))
        .bearer(&account.key)
        .fetch(server.address());
    assert_eq!(unusable.status, 404, "{}", unusable.text());
    assert!(!unusable.text().contains("OPENAI_API_KEY"), "what is missing stands in the log only");
    assert!(server.log().contains("OPENAI_API_KEY"));
    drop(server);

    let stage = Stage::new(replies());
    let listed = stage.get("/v1/models").json();
    let expected = [
        "gpt-4o",
        "gpt-4o-mini",
        "gpt-5.4",
        "gpt-5-nano",
        "claude-sonnet-4-6",
        "claude-haiku-4-5",
        "accounts/fireworks/models/llama-v3p1-8b-instruct",
        "sandbox",
        OPENAI_MODEL,
        ANTHROPIC_MODEL,
    ];
    for id in expected {
        assert!(ids(&listed).iter().any(|listed| listed == id), "{id}: {listed}");
        let single = stage.get(&format!("/v1/models/{id}"));
        assert_eq!((single.status, single.json()["object"].clone()), (200, json!("model")), "{id}");
    }
    let anthropic = Request::get("/v1/models").header("anthropic-version", "2023-06-01");
    let shape = stage.fetch(&anthropic).json();
    assert_eq!((ids(&shape), &shape["has_more"]), (ids(&listed), &json!(false)));
    assert_eq!(shape["data"][0]["type"], "model");
    assert_eq!(shape["first_id"], shape["data"][0]["id"]);
    let missing = stage.fetch(&Request::get("/v1/models/none").header("anthropic-version", "1"));
    assert_eq!(missing.status, 404);
    assert_eq!(error_of(&missing, Dialect::Anthropic).whole["error"]["type"], "not_found_error");
}
