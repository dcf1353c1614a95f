//! No log line holds a secret or what people say, however much is logged. The server's own end
//! checks the usual canaries and keys; here everything that could carry one does, at `trace`.

use serde_json::{Value, json};

use crate::{
    kit::{Stage, chat, with},
    postgres,
    support::{
        KEY_CANARY, PERSONA_CANARY, PROMPT_CANARY, REPLY_CANARY,
        http::Request,
        models::{ANTHROPIC_MODEL, OPENAI_MODEL},
        replies::{anthropic, openai},
        server::{Builder, TestServer},
        upstream::{Exchange, Step},
    },
};

/// Text of every kind that a user or a provider may send, each with a canary of its own.
const SYSTEM: &str = "SYSTEM-CANARY-1";
const TOOL_RESULT: &str = "TOOLRESULT-CANARY-2";
const TOOL_ARGUMENTS: &str = "TOOLARGS-CANARY-3";
const FACT: &str = "FACT-CANARY-4";
const QUERY: &str = "QUERY-CANARY-5";
const COOKIE: &str = "COOKIE-CANARY-6";
const BAD_BODY: &str = "BADBODY-CANARY-7";
const UPSTREAM_ERROR: &str = "UPSTREAMERROR-CANARY-8";
const BAD_KEY: &str = "sk-faces-BADKEY-CANARY-9";
const IMPORT: &str = "IMPORT-CANARY-10";

const PLANTED: [&str; 10] = [
    SYSTEM,
    TOOL_RESULT,
    TOOL_ARGUMENTS,
    FACT,
    QUERY,
    COOKIE,
    BAD_BODY,
    UPSTREAM_ERROR,
    BAD_KEY,
    IMPORT,
];

fn conversation(model: &str) -> Value {
    let mut body = chat(model);
    body["messages"] = json!([
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": PROMPT_CANARY},
        {"role": "assistant", "content": null, "tool_calls": [{"id": "call_1", "type": "function",
            "function": {"name": "look", "arguments": format!("{{\"x\":\"{TOOL_ARGUMENTS}\"}}")}}]},
        {"role": "tool", "tool_call_id": "call_1", "content": TOOL_RESULT},
    ]);
    body["tools"] = json!([{"type": "function", "function": {"name": "look",
        "description": PROMPT_CANARY, "parameters": {"type": "object", "properties": {}}}}]);
    body
}

fn script() -> Vec<Exchange> {
    let both = |name: &str, make: &dyn Fn(&str) -> Exchange| -> Vec<Exchange> {
        [openai::PATH, anthropic::PATH]
            .iter()
            .map(|path| make(path).path(path).containing(name))
            .collect()
    };
    let mut script = Vec::new();
    for (name, status) in [("refuse-400.", 400), ("refuse-401.", 401), ("refuse-500.", 500)] {
        script.extend(both(name, &|_| {
            Exchange::json(status, &json!({"error": {"message": UPSTREAM_ERROR, "type": "t"}}))
                .any_times()
        }));
    }
    script.extend(both("cut.", &|path| {
        let first = if path == openai::PATH {
            openai::text_delta(REPLY_CANARY)
        } else {
            anthropic::stream(&[REPLY_CANARY], 1, 1)[0].clone()
        };
        Exchange::sse([first]).then(Step::Reset).any_times()
    }));
    script.extend(both("nonsense.", &|_| {
        Exchange::bytes(200, "application/json", format!("<{REPLY_CANARY}>").into_bytes())
            .any_times()
    }));
    script.extend(both("left.", &|path| {
        let records = if path == openai::PATH {
            openai::stream(&[REPLY_CANARY], 1, 1)
        } else {
            anthropic::stream(&[REPLY_CANARY], 1, 1)
        };
        Exchange::sse(records).may_be_left().any_times()
    }));
    script.extend([
        openai::json_exchange(REPLY_CANARY, 1, 1).streaming(false).any_times(),
        openai::stream_exchange(&[REPLY_CANARY], 1, 1).streaming(true).any_times(),
        anthropic::json_exchange(REPLY_CANARY, 1, 1).streaming(false).any_times(),
        anthropic::stream_exchange(&[REPLY_CANARY], 1, 1).streaming(true).any_times(),
    ]);
    script
}

#[track_caller]
fn everything_happens_and_nothing_is_told(builder: Builder, database_password: Option<&str>) {
    let stage = Stage::with(script(), builder.env("RUST_LOG", "trace"), "10");
    for secret in PLANTED.iter().chain(database_password.iter()) {
        stage.server.plant_secret(secret);
    }
    let models = ["alice".to_owned(), format!("alice@{ANTHROPIC_MODEL}"), OPENAI_MODEL.to_owned()];
    for model in &models {
        for stream in [false, true] {
            for name in ["", "refuse-400.", "refuse-401.", "refuse-500.", "cut.", "nonsense."] {
                let mut body = with(conversation(model), &json!({"stream": stream, "user": name}));
                body["messages"][1]["content"] = json!(format!("{PROMPT_CANARY} {name}"));
                let path = format!("/v1/chat/completions?key={QUERY}");
                let request = Request::post(&path, &body).header("cookie", COOKIE);
                stage.fetch(&request);
            }
        }
    }
    native_routes(&stage);
    faces_and_mistakes(&stage);
    // A client that leaves, and a command that carries a persona.
    let body = with(conversation("alice"), &json!({"stream": true, "user": "left."}));
    let request = Request::post("/v1/chat/completions", &body).bearer(&stage.account.key);
    request.send(stage.server.address()).close_rst();
    stage.server.face(
        &stage.account,
        &json!({"username": "carol", "name": IMPORT, "primitives": [
        {"component": "beta", "text": format!("{IMPORT} {PERSONA_CANARY}")}]}),
    );
    let log = stage.server.log();
    assert!(log.contains("faces::access") && log.len() > 10_000, "it was logged at all");
    // What dependencies tell below `info` is nobody's promise to keep secrets out of.
    let foreign = log.lines().find(|line| {
        [" TRACE ", " DEBUG "].iter().any(|level| line.contains(level)) && !line.contains(" faces")
    });
    assert_eq!(foreign, None);
    for canary in [KEY_CANARY, &stage.account.key] {
        assert!(!log.contains(canary), "{canary}");
    }
    // Dropping the server looks for everything planted, after its last line.
}

fn native_routes(stage: &Stage) {
    let native = json!({"model": ANTHROPIC_MODEL, "max_tokens": 8, "system": SYSTEM,
        "messages": [{"role": "user", "content": PROMPT_CANARY}]});
    for stream in [false, true] {
        for name in ["", "refuse-400.", "cut.", "nonsense."] {
            let fields = json!({"stream": stream, "metadata": {"user_id": name}});
            stage.post(
                &format!("/v1/anthropic/v1/messages?q={QUERY}"),
                &with(native.clone(), &fields),
            );
            let fields = json!({"stream": stream, "user": name});
            stage.post("/v1/openai/chat/completions", &with(conversation(OPENAI_MODEL), &fields));
        }
    }
}

fn faces_and_mistakes(stage: &Stage) {
    let face =
        json!({"username": "bob", "name": FACT, "basic_facts": {"occupation": FACT}, FACT: FACT});
    stage.post("/v1/faces", &face);
    stage.send("PATCH", "/v1/faces/bob", &json!({"basic_facts": {FACT: FACT}}));
    stage.send(
        "PUT",
        "/v1/faces/bob/primitives",
        &json!({"primitives": [
        {"component": "beta", "text": FACT}]}),
    );
    stage.get(&format!("/v1/faces/{QUERY}?cursor={QUERY}"));
    stage.get(&format!("/{QUERY}/{QUERY}"));
    let address = stage.server.address();
    let bodies = [
        format!("{{\"{BAD_BODY}"),
        format!("{{\"model\":\"{BAD_BODY}\"}}"),
        format!("[\"{BAD_BODY}\"]"),
    ];
    for body in bodies {
        for path in ["/v1/chat/completions", "/v1/anthropic/v1/messages", "/v1/faces"] {
            let request = Request::new("POST", path)
                .header("content-type", "application/json")
                .body(body.clone().into_bytes());
            stage.fetch(&request);
            request.bearer(BAD_KEY).fetch(address);
        }
    }
    for model in [BAD_BODY.to_owned(), format!("alice@{BAD_BODY}"), format!("{BAD_BODY}@sandbox")] {
        stage.post("/v1/chat/completions", &chat(&model));
    }
}

#[test]
fn no_line_of_a_trace_log_holds_a_secret_or_a_prompt() {
    everything_happens_and_nothing_is_told(TestServer::builder(), None);
}

#[test]
fn no_line_of_a_trace_log_holds_a_secret_or_a_prompt_on_postgresql() {
    let cluster = match postgres::cluster() {
        Ok(cluster) => cluster,
        Err(why) => return postgres::skipped(why),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let database = runtime.block_on(cluster.create_database());
    let password = "DBPASSWORD-CANARY-11";
    // The throw-away cluster trusts its users, so any password opens it.
    let url = database.url.replacen("faces@", &format!("faces:{password}@"), 1);
    assert!(url.contains(password) || !database.url.contains("faces@"), "{url}");
    everything_happens_and_nothing_is_told(
        TestServer::builder().with_postgres(&url),
        Some(password),
    );
}
