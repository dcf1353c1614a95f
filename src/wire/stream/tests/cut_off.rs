//! How a stream ends whose credit ran out.

use super::*;

fn exhausted() -> ErrorBody<'static> {
    ErrorBody::new(ErrorCode::CreditExhausted, "Top up.")
}

/// The stream of a client that did not get what the last of `input`'s records made.
fn cut_off(format: UpstreamFormat, input: &str) -> Vec<Value> {
    let mut stream = ChatStream::new(format, options(true));
    let mut out = VecDeque::new();
    for record in records(input) {
        out.clear();
        assert_eq!(stream.push(&record, &mut out), StreamStep::Continue);
    }
    out.clear();
    stream.cut_off(&exhausted(), &mut out);
    out.iter().map(|chunk| serde_json::from_slice(chunk).unwrap()).collect()
}

#[test]
fn a_cut_off_answer_ends_as_length_with_the_error_where_sdks_let_it_pass() {
    let text = |index: u64, finish: &str| {
        format!(
            r#"data: {{"id":"c-1","created":5,"choices":[{{"index":{index},"delta":{{"content":"x"}},"finish_reason":{finish}}}]}}"#
        ) + "\n\n"
    };
    let begun = text(0, "null");
    let ended = cut_off(UpstreamFormat::OpenAiChat, &(begun.clone() + &begun));
    let [chunk] = &ended[..] else { panic!("{ended:?}") };
    assert_eq!((&chunk["id"], &chunk["model"]), (&json!("c-1"), &json!("alice@m")));
    assert_eq!(chunk.get("error"), None, "the official SDKs raise on it");
    let choice = &chunk["choices"][0];
    assert_eq!((&choice["delta"], &choice["finish_reason"]), (&json!({}), &json!("length")));
    assert_eq!(choice["error"]["code"], "credit_exhausted");
    assert_eq!(chunk["usage"], Value::Null);
    // Each choice that the client has seen begin and not finish, and no other.
    let three = text(0, "null") + &text(2, "null") + &text(1, "null") + &text(0, "\"stop\"");
    let ended = cut_off(UpstreamFormat::OpenAiChat, &(three + &text(2, "\"stop\"")));
    let indexes: Vec<_> = ended.iter().map(|it| it["choices"][0]["index"].as_u64()).collect();
    assert_eq!(indexes, [Some(1), Some(2)]);
    let unseen = cut_off(UpstreamFormat::OpenAiChat, &begun);
    assert_eq!(unseen[0]["choices"][0]["index"], 0);

    let anthropic = anthropic_stream();
    let upto = anthropic.find("event: content_block_stop").unwrap();
    let ended = cut_off(UpstreamFormat::AnthropicMessages, &anthropic[..upto]);
    let [chunk] = &ended[..] else { panic!("{ended:?}") };
    let choice = &chunk["choices"][0];
    assert_eq!(choice["finish_reason"], "length", "{chunk}");
    assert_eq!(choice["error"]["code"], "credit_exhausted", "{chunk}");
}

#[test]
fn a_cut_off_native_stream_ends_in_its_own_format() {
    let cut = |format, hide_usage, input: &str| {
        let mut proxy =
            ProxyStream::new(format, ProxyStreamOptions { hide_usage, context_tokens_max: 0 });
        records(input).iter().for_each(|record| drop(proxy.push(record)));
        let usage = Usage { input_uncached: 7, output_text: 9, ..Usage::default() };
        let ended = proxy.cut_off(&usage, &exhausted());
        records(std::str::from_utf8(&ended).unwrap())
    };
    let data = |record: &SseRecord| -> Value {
        serde_json::from_slice(record.data.as_ref().unwrap()).unwrap()
    };
    let chunk = openai_chunk(&json!({"content": "x"}), &Value::Null, "");
    for hide_usage in [false, true] {
        let ended = cut(UpstreamFormat::OpenAiChat, hide_usage, &(chunk.clone() + &chunk));
        let finish = data(&ended[0]);
        assert_eq!((&finish["id"], &finish["model"]), (&json!("c-1"), &json!("gpt")));
        assert_eq!(finish["choices"][0]["finish_reason"], "length");
        assert_eq!(finish["choices"][0]["error"]["type"], "insufficient_quota");
        if !hide_usage {
            assert_eq!(data(&ended[1])["usage"]["completion_tokens"], 9);
        }
        assert_eq!(ended.len(), if hide_usage { 2 } else { 3 });
        assert_eq!(ended.last().unwrap().data.as_deref(), Some(&b"[DONE]"[..]));
    }
    let anthropic = anthropic_stream();
    let names = |ended: &[SseRecord]| -> Vec<String> {
        let name = |it: &SseRecord| String::from_utf8(it.event.as_ref().unwrap().to_vec()).unwrap();
        ended.iter().map(name).collect()
    };
    let first_delta = anthropic.find("event: content_block_delta").unwrap();
    let second = first_delta + anthropic[first_delta..].find("\n\n").unwrap() + 2;
    let ended = cut(UpstreamFormat::AnthropicMessages, false, &anthropic[..second]);
    assert_eq!(names(&ended), ["content_block_stop", "message_delta", "message_stop"]);
    let delta = data(&ended[1]);
    assert_eq!(delta["delta"]["stop_reason"], "max_tokens");
    assert_eq!(
        (&delta["usage"]["input_tokens"], &delta["usage"]["output_tokens"]),
        (&json!(7), &json!(9))
    );
    assert_eq!(delta["error"]["details"]["error_code"], "credit_exhausted");
    // A block whose beginning was withheld is not closed.
    let ping = anthropic.find("event: ping").unwrap();
    let ended = cut(UpstreamFormat::AnthropicMessages, false, &anthropic[..ping]);
    assert_eq!(names(&ended), ["message_delta", "message_stop"]);
}
