//! What a provider sees of us, and what a client may see of a provider.

use bytes::Bytes;
use secrecy::SecretString;

use super::{
    super::{
        Dispatch, Endpoint, ProviderError, SentMark, forward_request_headers,
        forward_response_headers,
        headers::auth_headers,
        test_upstream::{Step, Upstream, chunk, stream_head, wait_until, with_length},
    },
    chat, pool, provider,
};
use crate::wire::UpstreamFormat;

#[actix::test]
async fn a_chat_completion_goes_to_the_base_url_with_json_and_the_body_untouched() {
    let upstream = Upstream::answering(with_length("200 OK", "", b"{}")).await;
    let providers = pool(&upstream.url(), |_| {});
    providers.dispatch(chat(&providers)).await.unwrap().body.collect(10).await.unwrap();
    let request = upstream.requests().remove(0);
    assert!(request.head.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"), "{}", request.head);
    assert_eq!(request.body, b"{\"model\":\"m\"}");
    assert_eq!(request.header("content-type"), Some("application/json"));
    assert_eq!(request.header("accept"), Some("text/event-stream"));
    assert_eq!(request.header("authorization"), None, "the provider needs no key");
}

#[actix::test]
async fn anthropic_calls_keep_the_query_and_get_a_version() {
    let upstream = Upstream::answering(with_length("200 OK", "", b"{}")).await;
    let providers = pool(&upstream.url(), |_| {});
    let call = |endpoint, query: Option<&str>, headers: &[(&str, &str)]| {
        providers.dispatch(Dispatch {
            provider: provider(&providers, "ant"),
            endpoint,
            query: query.map(str::to_owned),
            headers: headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
            body: Bytes::from_static(b"{}"),
            stream: false,
            sent: SentMark::default(),
        })
    };
    let version = [("anthropic-version", "2026-10-21")];
    for response in [
        call(Endpoint::Messages, Some("beta=true"), &version).await,
        call(Endpoint::CountTokens, None, &[]).await,
    ] {
        response.unwrap().body.collect(10).await.unwrap();
    }
    let requests = upstream.requests();
    assert!(requests[0].head.starts_with("POST /v1/messages?beta=true HTTP/1.1\r\n"));
    assert_eq!(requests[0].header("anthropic-version"), Some("2026-10-21"));
    assert!(requests[1].head.starts_with("POST /v1/messages/count_tokens HTTP/1.1\r\n"));
    assert_eq!(requests[1].header("anthropic-version"), Some("2023-06-01"));
}

#[actix::test]
async fn a_connection_is_used_again_after_a_body_was_read_to_its_end() {
    let upstream = Upstream::answering(with_length("200 OK", "", b"{}")).await;
    let providers = pool(&upstream.url(), |_| {});
    for _ in 0..3 {
        let mut body = providers.dispatch(chat(&providers)).await.unwrap().body;
        while let Some(chunk) = body.next().await {
            chunk.unwrap();
        }
    }
    assert_eq!((upstream.requests().len(), upstream.connections()), (3, 1));
}

#[actix::test]
async fn a_released_body_gives_its_connection_back_and_a_dropped_one_does_not() {
    let done = [stream_head(), chunk("data: [DONE]\n\n")].concat();
    let script = vec![Step::Send(done), Step::Send(b"0\r\n\r\n".to_vec())];
    let upstream = Upstream::start(vec![script]).await;
    let providers = pool(&upstream.url(), |_| {});
    let idle = || providers.observe().providers.iter().all(|it| it.inflight == 0);
    for connections in [1, 1, 1] {
        let mut body = providers.dispatch(chat(&providers)).await.unwrap().body;
        assert_eq!(body.next().await, Some(Ok("data: [DONE]\n\n".into())));
        body.release();
        wait_until("end of the call", idle).await;
        assert_eq!(upstream.connections(), connections);
    }
    let silent = Upstream::start(vec![vec![Step::Send(stream_head()), Step::Silence]]).await;
    let providers = pool(&silent.url(), |_| {});
    providers.dispatch(chat(&providers)).await.unwrap().body.release();
    silent.wait_for_closed(1).await;
}

#[actix::test]
async fn each_dispatching_thread_has_a_worker_of_its_own() {
    let providers = pool("http://127.0.0.1:9", |_| {});
    let elsewhere = actix::Arbiter::new();
    for _ in 0..2 {
        let moved = providers.clone();
        let (done, wait) = tokio::sync::oneshot::channel();
        elsewhere.spawn(async move {
            let _ = done.send(moved.dispatch(chat(&moved)).await.is_err());
        });
        assert!(wait.await.unwrap());
        assert!(providers.dispatch(chat(&providers)).await.is_err());
    }
    assert_eq!(providers.observe().workers_started, 2);
    elsewhere.stop();
    elsewhere.join().unwrap();
}

#[actix::test]
async fn the_response_carries_only_headers_that_a_client_may_see() {
    let headers = "Content-Type: application/json\r\nSet-Cookie: a=b\r\nCF-Ray: 1\r\n\
                   Retry-After: 7\r\nx-ratelimit-remaining-tokens: 5\r\nServer: x\r\n";
    let upstream = Upstream::answering(with_length("429 Too Many Requests", headers, b"{}")).await;
    let providers = pool(&upstream.url(), |_| {});
    let response = providers.dispatch(chat(&providers)).await.unwrap();
    assert_eq!(response.status, 429);
    let mut names: Vec<&str> = response.headers.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["content-type", "retry-after", "x-ratelimit-remaining-tokens"]);
    assert_eq!(response.header("retry-after"), Some("7"));
}

#[test]
fn a_dispatch_outside_an_arbiter_is_an_error_and_no_panic() {
    let providers = pool("http://127.0.0.1:9", |_| {});
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let result = runtime.block_on(providers.dispatch(chat(&providers)));
    assert!(matches!(result, Err(ProviderError::Bug { .. })), "{result:?}");
    assert!(providers.observe().providers.iter().all(|it| it.inflight == 0));
}

#[test]
fn credentials_stand_where_the_format_wants_them() {
    let key = SecretString::from("sk-1");
    let of = |format, key| auth_headers(format, key, &[]);
    assert_eq!(
        of(UpstreamFormat::OpenAiChat, Some(&key)),
        [("authorization", "Bearer sk-1".to_owned())]
    );
    assert_eq!(
        of(UpstreamFormat::AnthropicMessages, Some(&key)),
        [("x-api-key", "sk-1".to_owned()), ("anthropic-version", "2023-06-01".to_owned())]
    );
    assert!(of(UpstreamFormat::OpenAiChat, None).is_empty());
}

#[test]
fn a_clients_credentials_never_reach_a_provider() {
    let client = [
        ("authorization", "Bearer sk-faces-x"),
        ("x-api-key", "sk-faces-x"),
        ("cookie", "a=b"),
        ("openai-organization", "org"),
        ("idempotency-key", "1"),
        ("accept-encoding", "gzip"),
        ("x-stainless-os", "Linux"),
        ("OpenAI-Beta", "assistants=v2"),
        ("Anthropic-Beta", "context-1m"),
        ("anthropic-version", "2026-10-21"),
    ];
    let names = |format| {
        let kept = forward_request_headers(format, client);
        kept.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
    };
    assert_eq!(names(UpstreamFormat::OpenAiChat), ["openai-beta"]);
    assert_eq!(names(UpstreamFormat::AnthropicMessages), ["anthropic-beta", "anthropic-version"]);
}

#[test]
fn an_oversized_header_is_left_out() {
    let long = "x".repeat(4_097);
    assert!(forward_response_headers([("x-request-id", long.as_str())]).is_empty());
}
