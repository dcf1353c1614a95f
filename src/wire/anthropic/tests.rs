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

#[test]
fn the_persona_stands_first_in_system_and_nothing_else_changes() {
    let rest = r#""max_tokens":9, "x":1.50,"messages":[{"role":"user","content":"x"}]}"#;
    for (system, expected) in [
        ("", r#""system":"You are \"A\".","#),
        (r#""system": null ,"#, r#""system": "You are \"A\"." ,"#),
        (r#""system": "" ,"#, r#""system": "You are \"A\"." ,"#),
        (r#""system": "Be \n brief." ,"#, r#""system": "You are \"A\".\n\nBe \n brief." ,"#),
        (r#""system": [] ,"#, r#""system": [{"type":"text","text":"You are \"A\"."}] ,"#),
        (
            r#""system": [ {"type":"text","text":"x"} ] ,"#,
            r#""system": [{"type":"text","text":"You are \"A\"."}, {"type":"text","text":"x"} ] ,"#,
        ),
    ] {
        let body = format!(r#"{{{system}"model":"a",{rest}"#);
        let request = MessagesRequest::parse_lenient(Bytes::from(body.clone())).unwrap();
        let sent = request.with_persona("claude", Some("You are \"A\"."));
        assert_eq!(sent, format!(r#"{{{expected}"model":"claude",{rest}"#));
        let bare = request.with_persona("claude", None);
        assert_eq!(bare, body.replace("\"a\"", "\"claude\""));
    }
    for system in [r#"1"#, r#"{}"#, r#""x","System":"y""#] {
        let body = format!(r#"{{"system":{system},"model":"a",{rest}"#);
        let error = MessagesRequest::parse_lenient(Bytes::from(body)).unwrap_err();
        assert_eq!(error.param().as_deref(), Some("system"));
    }
}

#[test]
fn an_omitted_limit_is_written_into_the_request() {
    for limit in ["", r#","max_tokens":null"#] {
        let body =
            format!(r#"{{"model":"a","messages":[{{"role":"user","content":"x"}}]{limit}}}"#);
        let request = MessagesRequest::parse_lenient(Bytes::from(body)).unwrap();
        assert_eq!(request.max_tokens(), MAX_TOKENS_DEFAULT);
        let sent: Value = serde_json::from_slice(request.body()).unwrap();
        assert_eq!(sent["max_tokens"], MAX_TOKENS_DEFAULT);
    }
}

#[test]
fn the_answer_repeats_the_model_that_was_asked_for() {
    let body = Bytes::from_static(br#"{"id":"m", "model" : "claude-9","content":[{"model":1}]}"#);
    let echoed = echo_model(&body, "alice@\"c\"");
    assert_eq!(echoed, r#"{"id":"m", "model" : "alice@\"c\"","content":[{"model":1}]}"#);
    assert_eq!(echo_model(&Bytes::from_static(b"no json"), "a"), "no json");
    let mut decoder = crate::wire::SseDecoder::new(1_000);
    decoder.push(Bytes::from_static(
        b"event: ping\ndata: {\"type\":\"ping\"}\n\nevent: message_start\ndata: \
          {\"type\":\"message_start\",\ndata: \"message\":{\"model\":\"c\",\"x\":1.50}}\n\n",
    ));
    let ping = decoder.next().unwrap().unwrap();
    assert_eq!(echo_model_at_start(&ping, "a"), None);
    let start = echo_model_at_start(&decoder.next().unwrap().unwrap(), "a").unwrap();
    let expected = "event: message_start\ndata: {\"type\":\"message_start\", \
                    \"message\":{\"model\":\"a\",\"x\":1.50}}\n\n";
    assert_eq!(start, expected);
}
