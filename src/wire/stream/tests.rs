//! Streams of both formats: chunks, ends, truncation at every boundary, the fast path.

use std::fmt::Write as _;

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{
    domain::{ErrorCode, UsageBasis},
    wire::{FinishReason, SseDecoder},
};

use super::*;

mod cut_off;

fn options(include_usage: bool) -> ChatStreamOptions<'static> {
    ChatStreamOptions {
        model_echo: "alice@m",
        include_usage,
        created: 1_700_000_000,
        fallback_id: "chatcmpl-fallback".to_owned(),
        context_tokens_max: 100_000,
        unwrap_tool: false,
    }
}

fn records(stream: &str) -> Vec<SseRecord> {
    let mut decoder = SseDecoder::new(1 << 20);
    decoder.push(Bytes::copy_from_slice(stream.as_bytes()));
    std::iter::from_fn(|| decoder.next().unwrap()).collect()
}

struct Outcome {
    chunks: Vec<Value>,
    step: StreamStep,
    end: Result<(), UpstreamFault>,
    stream: ChatStream,
}

fn run_with(format: UpstreamFormat, options: ChatStreamOptions<'_>, input: &str) -> Outcome {
    let mut stream = ChatStream::new(format, options);
    let mut out = VecDeque::new();
    let mut step = StreamStep::Continue;
    for record in records(input) {
        step = stream.push(&record, &mut out);
        if step != StreamStep::Continue {
            break;
        }
    }
    let end = stream.end_of_body(&mut out);
    let chunks = out.iter().map(|it| serde_json::from_slice(it).unwrap()).collect();
    Outcome { chunks, step, end, stream }
}

fn run(format: UpstreamFormat, include_usage: bool, input: &str) -> Outcome {
    run_with(format, options(include_usage), input)
}

fn openai_chunk(delta: &Value, finish: &Value, rest: &str) -> String {
    format!(
        r#"data: {{"id":"c-1","object":"chat.completion.chunk","created":5,"model":"gpt","choices":[{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{finish}}}]{rest}}}"#
    ) + "\n\n"
}

fn openai_stream() -> String {
    let null = Value::Null;
    let mut out =
        openai_chunk(&json!({"role": "assistant", "content": ""}), &null, r#","usage":null"#);
    for word in ["Hel", "lo \"you\"", "é\n", "!"] {
        out += &openai_chunk(
            &json!({ "content": word }),
            &null,
            r#","usage":null,"obfuscation":"xyz""#,
        );
    }
    out += &openai_chunk(&json!({}), &json!("stop"), r#","usage":null"#);
    out += r#"data: {"id":"c-1","object":"chat.completion.chunk","created":5,"model":"gpt","choices":[],"usage":{"prompt_tokens":10,"completion_tokens":6,"total_tokens":16,"prompt_tokens_details":{"cached_tokens":4},"completion_tokens_details":{"reasoning_tokens":2}}}"#;
    out + "\n\ndata: [DONE]\n\n"
}

fn anthropic_event(data: &Value) -> String {
    format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap())
}

fn anthropic_stream() -> String {
    [
        json!({"type": "message_start", "message": {"id": "msg_01", "type": "message", "role": "assistant",
            "content": [], "model": "claude", "stop_reason": null,
            "usage": {"input_tokens": 10, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 3,
                "cache_creation": {"ephemeral_1h_input_tokens": 1}, "output_tokens": 1}}}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "hm"}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "s"}}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "ping"}),
        json!({"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "Hello"}}),
        json!({"type": "content_block_stop", "index": 1}),
        json!({"type": "content_block_start", "index": 2, "content_block": {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}}),
        json!({"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": ""}}),
        json!({"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": "{\"a\":"}}),
        json!({"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": "1}"}}),
        json!({"type": "content_block_stop", "index": 2}),
        json!({"type": "content_block_start", "index": 3, "content_block": {"type": "tool_use", "id": "toolu_2", "name": "g", "input": {}}}),
        json!({"type": "content_block_stop", "index": 3}),
        json!({"type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": null},
            "usage": {"output_tokens": 20, "output_tokens_details": {"thinking_tokens": 5}}}),
        json!({"type": "brand_new_event", "message": "m", "delta": 1}),
        json!({"type": "message_stop"}),
    ]
    .iter()
    .map(anthropic_event)
    .collect()
}

#[test]
fn openai_chunks_keep_everything_but_the_model_and_the_usage() {
    let outcome = run(UpstreamFormat::OpenAiChat, false, &openai_stream());
    assert_eq!((outcome.step, outcome.end), (StreamStep::Ended, Ok(())));
    assert_eq!(outcome.chunks.len(), 6);
    let text: String = outcome
        .chunks
        .iter()
        .filter_map(|it| it["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert_eq!(text, "Hello \"you\"é\n!");
    for chunk in &outcome.chunks {
        assert_eq!(chunk["model"], "alice@m");
        assert_eq!(chunk["id"], "c-1");
        assert!(chunk.get("usage").is_none(), "{chunk}");
    }
    assert_eq!(outcome.chunks[1]["obfuscation"], "xyz");
    let (usage, basis) = outcome.stream.meter().usage_reading(99);
    assert_eq!(basis, UsageBasis::Provider);
    assert_eq!(
        (usage.input_uncached, usage.cache_read, usage.output_text, usage.reasoning),
        (6, 4, 4, 2)
    );
    assert_eq!(outcome.stream.meter().upstream_id(), Some("c-1"));
}

#[test]
fn a_client_that_asked_gets_the_upstreams_usage_with_the_cost() {
    let outcome = run(UpstreamFormat::OpenAiChat, true, &openai_stream());
    assert!(outcome.chunks.iter().all(|chunk| chunk["usage"].is_null()));
    let cost = RawValue::from_string("0.5".to_owned()).unwrap();
    let chunk = outcome.stream.usage_chunk(&Usage::default(), &[("cost_usd", &cost)]);
    insta::assert_snapshot!(std::str::from_utf8(&chunk).unwrap(), @r#"{"id":"c-1","object":"chat.completion.chunk","created":5,"model":"alice@m","choices":[],"usage":{"prompt_tokens":10,"completion_tokens":6,"total_tokens":16,"prompt_tokens_details":{"cached_tokens":4},"completion_tokens_details":{"reasoning_tokens":2},"cost_usd":0.5}}"#);
}

#[test]
fn an_anthropic_stream_becomes_legal_openai_chunks() {
    let outcome = run(UpstreamFormat::AnthropicMessages, true, &anthropic_stream());
    assert_eq!((&outcome.step, &outcome.end), (&StreamStep::Ended, &Ok(())));
    let mut lines = String::new();
    for chunk in &outcome.chunks {
        writeln!(
            lines,
            "{} {}",
            chunk["choices"][0]["delta"], chunk["choices"][0]["finish_reason"]
        )
        .unwrap();
    }
    insta::assert_snapshot!(lines, @r#"
    {"role":"assistant","content":"","refusal":null} null
    {"reasoning_content":"hm"} null
    {"content":"Hello"} null
    {"tool_calls":[{"index":0,"id":"toolu_1","type":"function","function":{"name":"f","arguments":""}}]} null
    {"tool_calls":[{"index":0,"function":{"arguments":"{\"a\":"}}]} null
    {"tool_calls":[{"index":0,"function":{"arguments":"1}"}}]} null
    {"tool_calls":[{"index":1,"id":"toolu_2","type":"function","function":{"name":"g","arguments":""}}]} null
    {"tool_calls":[{"index":1,"function":{"arguments":"{}"}}]} null
    {} "tool_calls"
    "#);
    for chunk in &outcome.chunks {
        assert_eq!((&chunk["id"], &chunk["model"]), (&json!("chatcmpl-01"), &json!("alice@m")));
        assert_eq!((&chunk["created"], &chunk["usage"]), (&json!(1_700_000_000), &Value::Null));
    }
    let (usage, basis) = outcome.stream.meter().usage_reading(0);
    assert_eq!(basis, UsageBasis::Provider);
    let expected = Usage {
        input_uncached: 10,
        cache_read: 4,
        cache_write_5m: 2,
        cache_write_1h: 1,
        output_text: 15,
        reasoning: 5,
    };
    assert_eq!(usage, expected);
    let chunk: Value = serde_json::from_slice(&outcome.stream.usage_chunk(&usage, &[])).unwrap();
    assert_eq!(chunk["choices"], json!([]));
    assert_eq!(chunk["usage"]["prompt_tokens"], 17);
    assert_eq!(chunk["usage"]["completion_tokens_details"]["reasoning_tokens"], 5);
}

#[test]
fn a_cut_at_any_event_is_truncation_until_the_end_was_told() {
    for (format, stream, told) in [
        (UpstreamFormat::OpenAiChat, openai_stream(), r#""finish_reason":"stop""#),
        (UpstreamFormat::AnthropicMessages, anthropic_stream(), "event: message_stop"),
    ] {
        let ends: Vec<usize> = stream.match_indices("\n\n").map(|(at, _)| at + 2).collect();
        for end in [0].into_iter().chain(ends) {
            let cut = &stream[..end];
            let outcome = run(format, false, cut);
            let complete = cut.contains(told);
            assert_eq!(outcome.end.is_ok(), complete, "cut at byte {end}");
            let finished =
                outcome.chunks.iter().any(|it| !it["choices"][0]["finish_reason"].is_null());
            assert_eq!(finished, complete, "no finish is made up, cut at byte {end}");
            let mut proxy = ProxyStream::new(
                format,
                ProxyStreamOptions { hide_usage: true, context_tokens_max: 0 },
            );
            for record in records(cut) {
                proxy.push(&record);
            }
            assert_eq!(proxy.end_of_body().is_ok(), complete, "proxy, cut at byte {end}");
        }
    }
}

#[test]
fn a_partial_stream_reads_as_partial_or_counted_usage() {
    let anthropic = anthropic_stream();
    let cut = &anthropic[..anthropic.find("event: message_delta").unwrap()];
    let outcome = run(UpstreamFormat::AnthropicMessages, false, cut);
    let (usage, basis) = outcome.stream.meter().usage_reading(999);
    assert_eq!((basis, usage.input_uncached), (UsageBasis::Partial, 10));
    // Told 1 at the start; seen since then: 6 deltas of text, thinking, names and arguments.
    assert_eq!(usage.output_total(), 6);

    let openai = openai_stream();
    let cut = &openai[..openai.find(r#"data: {"id":"c-1","object":"chat.completion.chunk","created":5,"model":"gpt","choices":[],"#).unwrap()];
    let (usage, basis) =
        run(UpstreamFormat::OpenAiChat, false, cut).stream.meter().usage_reading(33);
    assert_eq!((basis, usage.input_uncached), (UsageBasis::Counted, 33));
    // 4 deltas of 15 bytes in all: the larger of 4 and ceil(15 / 4).
    assert_eq!(usage.output_text, 4);
}

#[test]
fn upstream_errors_and_nonsense_are_faults_and_stay_faults() {
    let start = openai_chunk(&json!({"content": "x"}), &Value::Null, "");
    let error = |code| move |fault: &UpstreamFault| matches!(fault, UpstreamFault::ErrorEvent { code: it, .. } if *it == code);
    let malformed: fn(&UpstreamFault) -> bool =
        |fault| matches!(fault, UpstreamFault::Malformed { .. });
    type Judge = Box<dyn Fn(&UpstreamFault) -> bool>;
    let cases: Vec<(UpstreamFormat, String, Judge)> = vec![
        (UpstreamFormat::OpenAiChat, start.clone() + "data: {\"error\":{\"message\":\"m\",\"type\":\"server_error\",\"code\":null}}\n\n", Box::new(error(ErrorCode::UpstreamFailed))),
        (UpstreamFormat::OpenAiChat, start.clone() + "data: {\"error\":\"out of memory\"}\n\n", Box::new(error(ErrorCode::UpstreamFailed))),
        (UpstreamFormat::OpenAiChat, start.clone() + "data: {\"object\":\"error\",\"message\":\"m\",\"code\":429}\n\n", Box::new(error(ErrorCode::UpstreamRateLimited))),
        (UpstreamFormat::OpenAiChat, start.clone() + "event: error\ndata: {\"message\":\"m\"}\n\n", Box::new(error(ErrorCode::UpstreamFailed))),
        (UpstreamFormat::OpenAiChat, start.clone() + "data: {\"choices\":[\n\n", Box::new(malformed)),
        (UpstreamFormat::OpenAiChat, start.clone() + "data: {\"choices\":{}}\n\n", Box::new(malformed)),
        (UpstreamFormat::OpenAiChat, start.replace(r#""x""#, r#""x\q""#), Box::new(malformed)),
        (UpstreamFormat::OpenAiChat, start.clone() + &start.replace(r#""x""#, r#""x\q""#), Box::new(malformed)),
        (UpstreamFormat::OpenAiChat, start.clone() + &openai_chunk(&json!({}), &json!("error"), ""), Box::new(error(ErrorCode::UpstreamFailed))),
        (UpstreamFormat::OpenAiChat, start.clone() + "data: pong\n\n", Box::new(malformed)),
        (UpstreamFormat::AnthropicMessages, "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n".to_owned(), Box::new(error(ErrorCode::UpstreamOverloaded))),
        (UpstreamFormat::AnthropicMessages, "data: {\"type\":\n\n".to_owned(), Box::new(malformed)),
        (UpstreamFormat::AnthropicMessages, "data: {}\n\n".to_owned(), Box::new(malformed)),
    ];
    for (format, input, expected) in cases {
        let mut stream = ChatStream::new(format, options(false));
        let mut out = VecDeque::new();
        let faults: Vec<UpstreamFault> = records(&(input.clone() + "data: [DONE]\n\n"))
            .iter()
            .filter_map(|record| match stream.push(record, &mut out) {
                StreamStep::Failed(fault) => Some(fault),
                StreamStep::Continue | StreamStep::Ended => None,
            })
            .collect();
        assert_eq!(faults.len(), 2, "the fault and its repetition: {input}");
        assert!(faults.iter().all(&*expected), "{faults:?}: {input}");
        assert!(stream.end_of_body(&mut out).is_err(), "{input}");
    }
}

#[test]
fn quirks_of_openai_upstreams_are_borne() {
    let body = openai_stream();
    for input in [
        body.replace('\n', "\r\n"),
        body.replace('\n', "\r"),
        body.replace("data: ", "data:"),
        format!("\u{feff}{body}"),
        body.replace("\n\n", "\nid: 7\nretry: 3\n\n: ping\n\nevent: ping\n\n"),
        body.replace("data: [DONE]\n\n", ""),
        format!("{body}data: [DONE]\n\n"),
        body.replace(r#"data: {"id":"c-1","#, "data: {\"id\":\"c-1\",\ndata: "),
    ] {
        let outcome = run(UpstreamFormat::OpenAiChat, false, &input);
        assert_eq!(outcome.end, Ok(()), "{input}");
        let text: String = outcome
            .chunks
            .iter()
            .filter_map(|it| it["choices"][0]["delta"]["content"].as_str())
            .collect();
        assert_eq!(text, "Hello \"you\"é\n!", "{input}");
        assert_eq!(outcome.stream.meter().usage_reading(0).1, UsageBasis::Provider, "{input}");
        assert_eq!(outcome.stream.meter().finish_reason(), Some(FinishReason::Stop), "{input}");
    }
}

#[test]
fn usage_on_the_finish_chunk_is_final_and_hidden() {
    let input = openai_chunk(
        &json!({"content": "x"}),
        &json!("length"),
        r#","usage":{"prompt_tokens":3,"completion_tokens":1}"#,
    );
    let outcome = run(UpstreamFormat::OpenAiChat, false, &input);
    assert!(outcome.chunks[0].get("usage").is_none());
    assert_eq!(outcome.stream.meter().usage_reading(0).1, UsageBasis::Provider);
    assert_eq!(run(UpstreamFormat::OpenAiChat, true, &input).chunks[0]["usage"], Value::Null);
}

#[test]
fn every_choice_must_finish() {
    let chunk = |index: u64, finish: &str| {
        format!(
            r#"data: {{"choices":[{{"index":{index},"delta":{{"content":"x"}},"finish_reason":{finish}}}]}}"#
        ) + "\n\n"
    };
    let half = chunk(0, "null") + &chunk(1, "null") + &chunk(0, "\"stop\"");
    assert_eq!(run(UpstreamFormat::OpenAiChat, false, &half).end, Err(UpstreamFault::Truncated));
    let whole = run(UpstreamFormat::OpenAiChat, false, &(half + &chunk(1, "\"stop\"")));
    assert_eq!(whole.end, Ok(()));
    assert_eq!(
        (&whole.chunks[0]["id"], &whole.chunks[0]["model"]),
        (&json!("chatcmpl-fallback"), &json!("alice@m"))
    );
}

#[test]
fn structured_output_by_a_tool_is_unwrapped_into_content() {
    let input: String = [
        json!({"type": "message_start", "message": {"id": "msg_1"}}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "id": "t", "name": "structured_output", "input": {}}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": "{\"a\":1}"}}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 2}}),
        json!({"type": "message_stop"}),
    ].iter().map(anthropic_event).collect();
    let outcome = run_with(
        UpstreamFormat::AnthropicMessages,
        ChatStreamOptions { unwrap_tool: true, ..options(false) },
        &input,
    );
    assert_eq!(outcome.chunks[1]["choices"][0]["delta"], json!({"content": "{\"a\":1}"}));
    assert_eq!(outcome.chunks[2]["choices"][0]["finish_reason"], "stop");
}

#[test]
fn a_refusal_ends_as_content_filter_with_its_explanation() {
    let input: String = [
        json!({"type": "message_start", "message": {"id": "msg_1"}}),
        json!({"type": "message_delta", "delta": {"stop_reason": "refusal", "stop_details": {"type": "refusal", "explanation": "No."}}, "usage": {"output_tokens": 0}}),
        json!({"type": "message_stop"}),
    ].iter().map(anthropic_event).collect();
    let outcome = run(UpstreamFormat::AnthropicMessages, false, &input);
    assert_eq!(outcome.chunks[1]["choices"][0]["delta"], json!({"refusal": "No."}));
    assert_eq!(outcome.chunks[2]["choices"][0]["finish_reason"], "content_filter");
}

#[test]
fn the_proxy_hides_only_the_usage_chunk_and_holds_the_end_back() {
    let steps = |format, hide_usage, input: &str| -> Vec<ProxyStep> {
        let mut proxy =
            ProxyStream::new(format, ProxyStreamOptions { hide_usage, context_tokens_max: 0 });
        records(input).iter().map(|record| proxy.push(record)).collect()
    };
    let hidden = steps(UpstreamFormat::OpenAiChat, true, &openai_stream());
    assert_eq!(hidden[6..], [ProxyStep::Hide, ProxyStep::Terminal]);
    assert!(hidden[..6].iter().all(|step| *step == ProxyStep::Relay));
    let shown = steps(UpstreamFormat::OpenAiChat, false, &openai_stream());
    assert_eq!(shown[6..], [ProxyStep::Relay, ProxyStep::Terminal]);
    let native = steps(UpstreamFormat::AnthropicMessages, true, &anthropic_stream());
    assert_eq!(native.last(), Some(&ProxyStep::Terminal));
    assert!(native[..native.len() - 1].iter().all(|step| *step == ProxyStep::Relay));
    let error = steps(
        UpstreamFormat::AnthropicMessages,
        true,
        "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"api_error\",\"message\":\"m\"}}\n\n",
    );
    assert!(matches!(error[..], [ProxyStep::ErrorEvent(_)]));
    assert!(matches!(
        steps(UpstreamFormat::OpenAiChat, true, "data: {\n\n")[..],
        [ProxyStep::Failed(_)]
    ));
}

proptest! {
    /// The fast path may only ever save time: a stream read by templates gives what a reader
    /// without a template gives of each chunk alone.
    #[test]
    fn the_fast_path_writes_what_the_full_path_writes(
        words in proptest::collection::vec("[a-z\"\\\\é\u{1F600}\n]{0,8}", 1..12),
        usage in prop_oneof![Just(""), Just(r#","usage":null"#)],
        padded in any::<bool>(), include_usage in any::<bool>(), ascii in any::<bool>(),
    ) {
        let mut whole = ChatStream::new(UpstreamFormat::OpenAiChat, options(include_usage));
        for word in &words {
            let rest = if padded { format!(r#"{usage},"obfuscation":{}"#, json!(word)) } else { usage.to_owned() };
            let mut chunk = openai_chunk(&json!({ "content": word }), &Value::Null, &rest);
            if ascii {
                chunk = chunk.replace('é', "\\u00e9").replace('\u{1F600}', "\\ud83d\\ude00");
            }
            let record = records(&chunk).remove(0);
            let (mut fast, mut full) = (VecDeque::new(), VecDeque::new());
            let mut alone = ChatStream::new(UpstreamFormat::OpenAiChat, options(include_usage));
            prop_assert_eq!(whole.push(&record, &mut fast), StreamStep::Continue);
            prop_assert_eq!(alone.push(&record, &mut full), StreamStep::Continue);
            prop_assert_eq!(fast, full);
        }
        let bytes: usize = words.iter().map(String::len).sum();
        let deltas = words.iter().filter(|word| !word.is_empty()).count();
        let counted = whole.meter().usage_reading(0).0.output_text;
        prop_assert_eq!(counted, deltas.max(bytes.div_ceil(4)) as u64);
    }

    #[test]
    fn no_data_panics(data in proptest::collection::vec(any::<u8>(), 0..80), json in "[\\[\\]{}\":,a-z0-9 ]{0,60}") {
        for format in [UpstreamFormat::OpenAiChat, UpstreamFormat::AnthropicMessages] {
            for bytes in [data.clone(), json.clone().into_bytes()] {
                let record = SseRecord { raw: Bytes::new(), event: None, data: Some(Bytes::from(bytes)) };
                let _ = ChatStream::new(format, options(true)).push(&record, &mut VecDeque::new());
            }
        }
    }
}
