//! Native Anthropic requests.

use serde_json::{Value, json};

use super::*;

fn parse(body: &Value) -> Result<MessagesRequest, RequestError> {
    MessagesRequest::parse(Bytes::from(body.to_string()))
}

#[test]
fn what_billing_needs_is_read() {
    let body = json!({"model": "claude", "max_tokens": 9, "stream": true, "system": [{"type": "text", "text": "abc"}],
        "metadata": {"user_id": "not input"}, "tools": [1], "messages": [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "n", "input": {}}]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "t", "content": [
                {"type": "text", "text": "four"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}]},
            {"type": "document", "source": {"data": "x"}}]},
    ]});
    let request = parse(&body).unwrap();
    assert_eq!((request.model(), request.stream(), request.max_tokens()), ("claude", true, 9));
    let bound = request.input_bound();
    assert_eq!((bound.message_count, bound.image_count), (3, 1));
    // system: "text" 4 + "abc" 3; [1] 3; "hello" 5; tool_use 8 + 1 + 1 + 2; tool_result 11 + 1;
    // "text" 4 + "four" 4
    assert_eq!(bound.text_bytes, 7 + 3 + 5 + 12 + 12 + 8);
    assert!(bound.file_bytes > 0 && !request.may_write_cache());
}

#[test]
fn mistakes_are_named() {
    let message = json!([{"role": "user", "content": "x"}]);
    for (body, param) in [
        (json!({}), "model"),
        (json!({"model": "m"}), "messages"),
        (json!({"model": "m", "messages": []}), "messages"),
        (json!({"model": "m", "messages": message}), "max_tokens"),
        (json!({"model": "m", "messages": message, "max_tokens": "9"}), "max_tokens"),
        (json!({"model": "m", "messages": [1], "max_tokens": 9}), "messages[0]"),
        (json!({"model": "m", "messages": [{}], "max_tokens": 9}), "messages[0].role"),
        (json!({"model": "m", "messages": message, "max_tokens": 9, "stream": 1}), "stream"),
    ] {
        assert_eq!(parse(&body).unwrap_err().param().as_deref(), Some(param), "{body}");
    }
    let warm_up = json!({"model": "m", "messages": message, "max_tokens": 0});
    assert_eq!(parse(&warm_up).unwrap().max_tokens(), 0);
    let count = Bytes::from(json!({"model": "m", "messages": message}).to_string());
    assert!(MessagesRequest::parse_count_tokens(count).is_ok());
}

#[test]
fn only_the_model_and_the_limit_change() {
    let body = r#"{ "max_tokens":50, "x":1.50, "model" : "alias","messages":[{"role":"user","content":"x"}]}"#;
    let request = MessagesRequest::parse(Bytes::from(body)).unwrap();
    assert_eq!(request.with_model("claude"), body.replace("alias", "claude"));
    let expected = body.replace("alias", "claude").replacen("50", "7", 1);
    assert_eq!(request.with("claude", Some(7)), expected);
}
