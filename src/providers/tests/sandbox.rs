//! The sandbox: an honest rule, in the same shape as any provider.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::{
    Catalog, CatalogOptions, Dispatch, Endpoint, Providers, SentMark,
    sandbox::{answer, count_tokens, tokens},
};
use crate::config::Limits;

const PERSONA: &str = "You are Alice, a gardener.\n- She grows roses in Kent. She has two cats.\n\
                       - Her greenhouse was built in 1931! Tea is her drink.";

fn ask(fields: Value) -> Value {
    let mut request = json!({"model": "sandbox", "messages": [
        {"role": "system", "content": PERSONA},
        {"role": "user", "content": "Tell me of your cats and the ROSES"},
    ]});
    for (name, value) in fields.as_object().unwrap() {
        request[name] = value.clone();
    }
    let answer = answer(request.to_string().as_bytes(), Endpoint::ChatCompletions);
    assert_eq!((answer.status, answer.chunks.len()), (200, 1));
    serde_json::from_slice(&answer.chunks[0]).unwrap()
}

fn said(answer: &Value) -> &str {
    answer["choices"][0]["message"]["content"].as_str().unwrap()
}

#[test]
fn it_says_what_it_is_names_the_face_and_repeats_what_was_asked_for() {
    let answer = ask(json!({}));
    assert_eq!(
        said(&answer),
        "This is the built-in sandbox speaking for Alice: no model ran. The persona says: \
         She grows roses in Kent. She has two cats."
    );
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    assert_eq!(answer["object"], "chat.completion");
    let usage = &answer["usage"];
    assert_eq!(usage["completion_tokens"], count_tokens(said(&answer)));
    assert!(usage["prompt_tokens"].as_u64().unwrap() > 20);
    let total = usage["prompt_tokens"].as_u64().unwrap() + count_tokens(said(&answer));
    assert_eq!(usage["total_tokens"], total);
}

#[test]
fn without_a_match_it_repeats_the_first_statements_and_without_a_persona_the_user() {
    let unmatched = ask(json!({"messages": [
        {"role": "developer", "content": [{"type": "text", "text": PERSONA}]},
        {"role": "user", "content": "xyzzy"},
    ]}));
    assert!(
        said(&unmatched).ends_with(
            "She grows roses in Kent. She has two cats. Her greenhouse was built in 1931! Tea is \
             her drink."
        ),
        "{}",
        said(&unmatched)
    );
    let bare = ask(json!({"messages": [{"role": "user", "content": "hello"}]}));
    assert_eq!(
        said(&bare),
        "This is the built-in sandbox: no model ran. There is no persona; you said: hello"
    );
}

#[test]
fn the_common_words_of_a_question_do_not_choose_the_statement() {
    let persona = "You are Alice.\n- Do what you are asked to do, when you are asked.\n\
                   - Tell what you do and how you are.\n- When stuck on a repair I sweep the floor.";
    let answer = ask(json!({"messages": [
        {"role": "system", "content": persona},
        {"role": "user", "content": "What do you do when you are stuck?"},
    ]}));
    assert!(
        said(&answer).ends_with("The persona says: When stuck on a repair I sweep the floor."),
        "{}",
        said(&answer)
    );
}

#[test]
fn max_tokens_cuts_and_says_so() {
    for field in ["max_tokens", "max_completion_tokens"] {
        let answer = ask(json!({field: 5}));
        assert_eq!(answer["usage"]["completion_tokens"], 5, "{field}");
        assert_eq!(answer["choices"][0]["finish_reason"], "length");
        assert_eq!(count_tokens(said(&answer)), 5);
    }
}

#[test]
fn offered_tools_are_declined_in_words() {
    let answer = ask(json!({"tools": [{"type": "function", "function": {"name": "f"}}]}));
    assert!(said(&answer).ends_with("Tools were offered; the sandbox calls none."));
}

#[test]
fn what_it_cannot_answer_is_an_openai_error() {
    for (body, endpoint, status) in [
        ("{", Endpoint::ChatCompletions, 400),
        ("{}", Endpoint::ChatCompletions, 400),
        ("{}", Endpoint::Messages, 404),
    ] {
        let answer = answer(body.as_bytes(), endpoint);
        let error: Value = serde_json::from_slice(&answer.chunks[0]).unwrap();
        assert_eq!(answer.status, status);
        assert_eq!(error["error"]["type"], "invalid_request_error");
    }
}

fn sandbox_call(providers: &Providers, include_usage: bool) -> Dispatch {
    let request = json!({
        "model": "sandbox", "stream": true, "stream_options": {"include_usage": include_usage},
        "messages": [{"role": "system", "content": PERSONA}, {"role": "user", "content": "cats"}],
    });
    Dispatch {
        provider: Arc::clone(&providers.catalog().find("sandbox").unwrap().provider),
        endpoint: Endpoint::ChatCompletions,
        query: None,
        headers: Vec::new(),
        body: Bytes::from(request.to_string()),
        stream: true,
        sent: SentMark::default(),
    }
}

fn sandbox_pool(delta_interval_ms: u64) -> Providers {
    let catalog = Arc::new(Catalog::load(CatalogOptions::default()).unwrap());
    let limits = Limits { sandbox_delta_interval_ms: delta_interval_ms, ..Limits::default() };
    Providers::start(catalog, &limits, None).unwrap()
}

#[actix::test]
async fn a_stream_is_small_deltas_a_finish_the_usage_and_done() {
    let providers = sandbox_pool(0);
    for include_usage in [true, false] {
        let response = providers.dispatch(sandbox_call(&providers, include_usage)).await.unwrap();
        assert_eq!(response.header("content-type"), Some("text/event-stream"));
        let body = response.body.collect(1 << 20).await.unwrap();
        let body = std::str::from_utf8(&body).unwrap();
        let events: Vec<&str> = body
            .split_terminator("\n\n")
            .map(|event| event.strip_prefix("data: ").unwrap())
            .collect();
        let (done, chunks) = events.split_last().unwrap();
        assert_eq!(*done, "[DONE]");
        let chunks: Vec<Value> =
            chunks.iter().map(|chunk| serde_json::from_str(chunk).unwrap()).collect();
        let text: String = chunks
            .iter()
            .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str())
            .collect();
        assert!(text.ends_with("She has two cats."), "{text}");
        assert!(chunks.len() > 5, "one delta is a few words");
        let usage = chunks.last().unwrap()["usage"]["completion_tokens"].as_u64();
        assert_eq!(usage, include_usage.then(|| count_tokens(&text)));
        let finishes = chunks.iter().filter(|it| it["choices"][0]["finish_reason"] == "stop");
        assert_eq!(finishes.count(), 1);
    }
}

#[actix::test]
async fn a_stream_is_paced_and_ends_with_its_reader() {
    let providers = sandbox_pool(60_000);
    let mut response = providers.dispatch(sandbox_call(&providers, true)).await.unwrap();
    assert!(response.body.next().await.unwrap().is_ok());
    let second = tokio::time::timeout(Duration::from_millis(50), response.body.next()).await;
    assert!(second.is_err(), "the second delta waits for its turn");
    drop(response);
    let sandbox = || providers.observe().providers.into_iter().find(|it| it.name == "sandbox");
    let ended = || sandbox().is_some_and(|it| it.inflight == 0 && it.cancelled == 1);
    super::super::test_upstream::wait_until("cancelled call", ended).await;
}

proptest! {
    #[test]
    fn tokens_are_a_partition_of_the_text(text in "\\PC{0,80}|[ a-z\n]{0,80}") {
        prop_assert_eq!(tokens(&text).collect::<String>(), text.clone());
        prop_assert!(tokens(&text).all(|token| !token.is_empty()));
    }

    #[test]
    fn no_bytes_make_it_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = answer(&body, Endpoint::ChatCompletions);
    }

    #[test]
    fn no_text_makes_it_panic_and_the_bound_holds(
        system in "(You are )?\\PC{0,60}[.!?\n]{0,3}\\PC{0,60}", user in "\\PC{0,40}",
        max in 0_u64..40, stream in any::<bool>(),
    ) {
        let request = json!({"model": "m", "max_tokens": max, "stream": stream, "messages": [
            {"role": "system", "content": system}, {"role": "user", "content": user},
        ]});
        let answer = answer(request.to_string().as_bytes(), Endpoint::ChatCompletions);
        prop_assert_eq!(answer.status, 200);
        if !stream {
            let body: Value = serde_json::from_slice(&answer.chunks[0]).unwrap();
            prop_assert!(body["usage"]["completion_tokens"].as_u64().unwrap() <= max);
        }
    }
}
