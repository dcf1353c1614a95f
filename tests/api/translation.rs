//! A face on a Claude model: tools, images and structured output through the translation. What
//! arrives at the provider is a snapshot; the persona is checked and then cut out of it.

use serde_json::{Value, json};

use crate::{
    kit::Stage,
    support::{
        PERSONA_CANARY, PROMPT_CANARY,
        replies::{anthropic, openai},
        upstream::Exchange,
    },
};

const MODEL: &str = "alice@claude-sonnet-4-6";
const PIXEL: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

fn ask(mut fields: Value) -> Value {
    fields["model"] = json!(MODEL);
    fields
}

/// The one request that arrived, with the persona (which must stand first) replaced by a word.
#[track_caller]
fn arrived(stage: &Stage) -> Value {
    let request = stage.upstream.only_request();
    assert_eq!(request.path, anthropic::PATH);
    let mut body = request.json();
    let persona = match &mut body["system"] {
        Value::Array(blocks) => &mut blocks[0]["text"],
        text => text,
    };
    let text = persona.as_str().expect("a system text");
    assert!(text.contains("Alice Example") && text.contains(PERSONA_CANARY), "{text}");
    *persona = json!("[persona]");
    body
}

#[track_caller]
fn answer(stage: &Stage, body: &Value) -> Value {
    let answer = stage.post(openai::PATH, body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

#[test]
fn an_image_reaches_claude_as_an_image() {
    let stage = Stage::new([anthropic::json_exchange("A red dot.", 40, 5)]);
    let body = ask(json!({"messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [
            {"type": "text", "text": format!("What is this? {PROMPT_CANARY}")},
            {"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{PIXEL}")}},
            {"type": "image_url", "image_url": {"url": "https://example.com/cat.jpg", "detail": "low"}},
        ]},
    ]}));
    let answered = answer(&stage, &body);
    assert_eq!(answered["choices"][0]["message"]["content"], "A red dot.");
    assert_eq!(answered["model"], MODEL);
    assert_eq!(answered["usage"]["total_tokens"], 45);
    insta::assert_json_snapshot!(arrived(&stage));
}

#[test]
fn tools_and_their_results_reach_claude_in_its_own_form() {
    let call = anthropic::tool_completion("tide", &json!({"harbour": "Kiel"}), 60, 9);
    let stage = Stage::new([Exchange::json(200, &call)]);
    let tide = |id: &str, harbour: &str| {
        json!({"id": id, "type": "function",
            "function": {"name": "tide", "arguments": json!({"harbour": harbour}).to_string()}})
    };
    let body = ask(json!({
        "messages": [
            {"role": "user", "content": format!("When is high tide? {PROMPT_CANARY}")},
            {"role": "assistant", "content": null, "tool_calls": [tide("call_1", "Husum"), tide("call_2", "Emden")]},
            {"role": "tool", "tool_call_id": "call_1", "content": "14:10"},
            {"role": "tool", "tool_call_id": "call_2", "content": "15:25"},
            {"role": "user", "content": "And in Kiel?"},
        ],
        "tools": [{"type": "function", "function": {"name": "tide", "description": "High tide of a harbour",
            "parameters": {"type": "object", "properties": {"harbour": {"type": "string"}}, "required": ["harbour"]}}}],
        "tool_choice": "required",
        "parallel_tool_calls": false,
    }));
    let answered = answer(&stage, &body);
    assert_eq!(answered["choices"][0]["finish_reason"], "tool_calls");
    let called = &answered["choices"][0]["message"]["tool_calls"][0]["function"];
    assert_eq!(called["name"], "tide");
    assert_eq!(
        serde_json::from_str::<Value>(called["arguments"].as_str().unwrap()).unwrap(),
        json!({"harbour": "Kiel"})
    );
    insta::assert_json_snapshot!(arrived(&stage));
}

#[test]
fn structured_output_is_asked_of_claude_and_comes_back_as_content() {
    let json_text = "{\"ship\":\"Gorch Fock\",\"masts\":3}";
    let stage = Stage::new([anthropic::json_exchange(json_text, 50, 12)]);
    let body = ask(json!({
        "messages": [{"role": "user", "content": format!("Name a ship. {PROMPT_CANARY}")}],
        "max_tokens": 200,
        "response_format": {"type": "json_schema", "json_schema": {"name": "ship", "strict": true,
            "schema": {"type": "object", "additionalProperties": false, "required": ["ship", "masts"],
                "properties": {"ship": {"type": "string"}, "masts": {"type": "integer"}}}}},
    }));
    let answered = answer(&stage, &body);
    assert_eq!(answered["choices"][0]["message"]["content"], json_text);
    insta::assert_json_snapshot!(arrived(&stage));
}
