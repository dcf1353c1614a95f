//! Each trap of awc, and what becomes of it.

use std::time::{Duration, Instant};

use super::{
    super::{
        ProviderError,
        test_upstream::{Step, Upstream, chunk, stream_head, with_length},
    },
    chat, exchange, pool,
};

fn unreadable(result: Result<(u16, bytes::Bytes), ProviderError>) -> &'static str {
    match result {
        Err(ProviderError::Unreadable { why }) => why,
        other => panic!("expected an unreadable response, got {other:?}"),
    }
}

#[actix::test]
async fn a_hundred_and_fifty_streams_run_at_once_on_one_thread() {
    let script = vec![Step::Send(stream_head()), Step::Send(chunk("data: 1\n\n")), Step::Silence];
    let upstream = Upstream::start(vec![script]).await;
    let providers = pool(&upstream.url(), |_| {});
    let calls = (0..150).map(|_| async {
        let mut response = providers.dispatch(chat(&providers)).await.unwrap();
        assert_eq!(response.body.next().await.unwrap().unwrap(), "data: 1\n\n");
        response
    });
    let open = futures_util::future::join_all(calls).await;
    let snapshot = providers.observe();
    let up = snapshot.providers.iter().find(|it| it.name == "up").unwrap();
    assert_eq!((up.inflight, snapshot.workers_started), (150, 1));
    drop(open);
    upstream.wait_for_closed(150).await;
}

#[actix::test]
async fn a_silent_upstream_outlives_awcs_five_seconds_and_ends_at_our_limit() {
    let upstream = Upstream::start(vec![vec![Step::Silence]]).await;
    let start = Instant::now();
    let result = exchange(&upstream, |limits| limits.upstream_first_byte_timeout_ms = 5_400).await;
    assert_eq!(result, Err(ProviderError::FirstByteTimeout));
    assert!(start.elapsed() >= Duration::from_millis(5_400), "{:?}", start.elapsed());
    assert_eq!(upstream.requests().len(), 1, "a timeout is never repeated");
}

#[actix::test]
async fn a_body_shorter_than_its_length_is_truncated() {
    let response = b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n{\"half\":".to_vec();
    let upstream = Upstream::start(vec![vec![Step::Send(response), Step::Close]]).await;
    assert_eq!(exchange(&upstream, |_| {}).await, Err(ProviderError::Truncated));
}

#[actix::test]
async fn a_response_with_a_length_is_a_failure_wherever_it_is_cut() {
    let whole = with_length("200 OK", "content-type: application/json\r\n", b"{\"a\":[1,2,3]}");
    let head = memchr::memmem::find(&whole, b"\r\n\r\n").unwrap() + 4;
    for end in 0..whole.len() {
        let script = vec![Step::Send(whole[..end].to_vec()), Step::Close];
        let upstream = Upstream::start(vec![script]).await;
        let error = exchange(&upstream, |_| {}).await.unwrap_err();
        if end < head {
            assert!(matches!(error, ProviderError::Reset { .. }), "cut at {end}: {error:?}");
        } else {
            assert_eq!(error, ProviderError::Truncated, "cut at {end}");
        }
        assert_eq!(upstream.requests().len(), 1, "cut at {end}");
    }
}

/// awc does not tell a cut chunked body from a whole one: what comes is at least never more than
/// a beginning of it, so that the format's own end is missing.
#[actix::test]
async fn a_chunked_body_that_is_cut_gives_a_beginning_without_its_end() {
    let body = [chunk("data: 1\n\n"), chunk("data: [DONE]\n\n")].concat();
    let end_of_done = body.len() - 2;
    for end in 0..end_of_done {
        let script = vec![Step::Send(stream_head()), Step::Send(body[..end].to_vec()), Step::Close];
        let upstream = Upstream::start(vec![script]).await;
        if let Ok((_, received)) = exchange(&upstream, |_| {}).await {
            assert!(b"data: 1\n\ndata: [DONE]\n\n".starts_with(&received), "cut at {end}");
            assert!(!received.ends_with(b"[DONE]\n\n"), "cut at {end}");
        }
    }
}

#[actix::test]
async fn a_body_that_is_delimited_by_close_is_an_error_and_no_empty_success() {
    let response = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{\"a\":1}".to_vec();
    let upstream = Upstream::start(vec![vec![Step::Send(response), Step::Close]]).await;
    assert_eq!(unreadable(exchange(&upstream, |_| {}).await), "it has neither a length nor chunks");
}

#[actix::test]
async fn a_redirect_is_not_followed() {
    let response = with_length("307 Temporary Redirect", "location: /elsewhere\r\n", b"");
    let upstream = Upstream::answering(response).await;
    assert_eq!(exchange(&upstream, |_| {}).await.unwrap(), (307, "".into()));
    assert_eq!(upstream.requests().len(), 1);
}

#[actix::test]
async fn a_compressed_success_is_an_error_and_a_compressed_failure_keeps_its_status() {
    let gzip = "content-encoding: gzip\r\n";
    let upstream = Upstream::answering(with_length("200 OK", gzip, b"\x1f\x8b\x08")).await;
    let why = unreadable(exchange(&upstream, |_| {}).await);
    assert_eq!(why, "it is compressed although identity was asked for");
    assert_eq!(upstream.requests()[0].header("accept-encoding"), Some("identity"));

    let upstream = Upstream::answering(with_length("429 Too Many", gzip, b"\x1f\x8b\x08")).await;
    assert_eq!(exchange(&upstream, |_| {}).await.unwrap(), (429, "".into()));
}

#[actix::test]
async fn a_json_body_over_two_mebibytes_arrives_whole() {
    let body = vec![b'x'; 5 << 20];
    let upstream = Upstream::answering(with_length("200 OK", "", &body)).await;
    let (status, received) = exchange(&upstream, |_| {}).await.unwrap();
    assert_eq!((status, received.len()), (200, 5 << 20));
}

#[actix::test]
async fn a_body_over_the_readers_limit_is_too_large() {
    let upstream = Upstream::answering(with_length("200 OK", "", &[b'x'; 2_000])).await;
    let providers = pool(&upstream.url(), |_| {});
    let response = providers.dispatch(chat(&providers)).await.unwrap();
    let result = response.body.collect(1_999).await;
    assert_eq!(result, Err(ProviderError::TooLarge { bytes_max: 1_999 }));
    let response = providers.dispatch(chat(&providers)).await.unwrap();
    assert_eq!(response.body.collect(2_000).await.unwrap().len(), 2_000);
}

#[actix::test]
async fn a_reset_in_the_body_is_an_error_after_what_came() {
    let script = vec![Step::Send(stream_head()), Step::Send(chunk("data: 1\n\n")), Step::Reset];
    let upstream = Upstream::start(vec![script]).await;
    let result = exchange(&upstream, |_| {}).await;
    assert!(matches!(result, Err(ProviderError::Reset { .. })), "{result:?}");
}

#[actix::test]
async fn a_stream_that_falls_silent_ends_at_the_idle_limit() {
    let script = vec![Step::Send(stream_head()), Step::Send(chunk("data: 1\n\n")), Step::Silence];
    let upstream = Upstream::start(vec![script]).await;
    let providers = pool(&upstream.url(), |limits| limits.upstream_idle_timeout_ms = 50);
    let mut body = providers.dispatch(chat(&providers)).await.unwrap().body;
    assert_eq!(body.next().await, Some(Ok("data: 1\n\n".into())));
    assert_eq!(body.next().await, Some(Err(ProviderError::IdleTimeout)));
    assert_eq!(body.next().await, None);
    upstream.wait_for_closed(1).await;
}

#[actix::test]
async fn a_stream_that_never_ends_ends_at_the_total_limit() {
    let ping = Step::Repeat(chunk(": ping\n\n"), Duration::from_millis(10));
    let upstream = Upstream::start(vec![vec![Step::Send(stream_head()), ping]]).await;
    let result = exchange(&upstream, |limits| limits.upstream_total_timeout_ms = 100).await;
    assert_eq!(result, Err(ProviderError::TotalTimeout));
    upstream.wait_for_closed(1).await;
}

#[actix::test]
async fn an_upstream_that_does_not_speak_http_is_an_error() {
    let upstream = Upstream::answering("SSH-2.0-OpenSSH_9.6\r\n\r\n").await;
    let result = exchange(&upstream, |_| {}).await;
    assert_eq!(unreadable(result), "its head can't be parsed");
}

#[actix::test]
async fn an_upstream_that_is_not_there_is_a_connect_error_that_billed_nothing() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let providers = pool(&url, |_| {});
    let error = providers.dispatch(chat(&providers)).await.unwrap_err();
    assert!(matches!(error, ProviderError::Connect { .. }), "{error:?}");
    assert!(!error.may_have_been_billed());
}

#[actix::test]
async fn a_stale_pooled_connection_is_replaced_once() {
    let answer = |text: &str| vec![Step::Send(with_length("200 OK", "", text.as_bytes()))];
    let scripts = vec![answer("first"), vec![Step::Close], answer("second")];
    let upstream = Upstream::start(scripts).await;
    let providers = pool(&upstream.url(), |_| {});
    for expected in ["first", "second"] {
        let response = providers.dispatch(chat(&providers)).await.unwrap();
        assert_eq!(response.body.collect(100).await.unwrap(), expected);
    }
    assert_eq!((upstream.requests().len(), upstream.connections()), (3, 2));
    let retried: u64 = providers.observe().providers.iter().map(|it| it.retried).sum();
    assert_eq!(retried, 1);
}

#[actix::test]
async fn a_new_connection_that_closes_without_an_answer_is_not_repeated() {
    let upstream = Upstream::start(vec![vec![Step::Close]]).await;
    let error = exchange(&upstream, |_| {}).await.unwrap_err();
    assert!(matches!(error, ProviderError::Reset { .. }), "{error:?}");
    assert!(error.may_have_been_billed());
    assert_eq!(upstream.requests().len(), 1);
}

#[actix::test]
async fn a_pooled_connection_that_closes_within_the_head_is_not_repeated() {
    let first = vec![Step::Send(with_length("200 OK", "", b"first"))];
    let half = vec![Step::Send(b"HTTP/1.1 200 OK\r\ncontent-".to_vec()), Step::Close];
    let upstream = Upstream::start(vec![first, half]).await;
    let providers = pool(&upstream.url(), |_| {});
    let response = providers.dispatch(chat(&providers)).await.unwrap();
    assert_eq!(response.body.collect(100).await.unwrap(), "first");
    let error = providers.dispatch(chat(&providers)).await.unwrap_err();
    assert!(matches!(error, ProviderError::Reset { .. }), "{error:?}");
    assert_eq!((upstream.requests().len(), upstream.connections()), (2, 1));
}

#[actix::test]
async fn an_http_1_0_body_that_is_delimited_by_close_arrives() {
    let response = b"HTTP/1.0 200 OK\r\n\r\n{\"a\":1}".to_vec();
    let upstream = Upstream::start(vec![vec![Step::Send(response), Step::Close]]).await;
    assert_eq!(exchange(&upstream, |_| {}).await.unwrap(), (200, "{\"a\":1}".into()));
}

#[actix::test]
async fn an_answer_without_a_body_is_no_error() {
    let upstream = Upstream::answering("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(exchange(&upstream, |_| {}).await.unwrap(), (204, "".into()));
}

#[actix::test]
async fn an_interim_status_is_not_taken_for_the_answer() {
    let both = [b"HTTP/1.1 103 Early Hints\r\n\r\n".to_vec(), with_length("200 OK", "", b"{}")];
    let upstream = Upstream::answering(both.concat()).await;
    let why = unreadable(exchange(&upstream, |_| {}).await);
    assert_eq!(why, "an interim status in place of an answer");
}

/// Else the late bytes would be read as the answer to the next request: somebody else's.
#[actix::test]
async fn a_connection_with_an_answer_to_come_is_never_used_again() {
    for unframed in ["HTTP/1.1 103 Early Hints\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"] {
        let late = vec![
            Step::Send(unframed.into()),
            Step::Pause(Duration::from_millis(50)),
            Step::Send(with_length("200 OK", "", b"somebody else's")),
        ];
        let own = vec![Step::Send(with_length("200 OK", "", b"own"))];
        let upstream = Upstream::start(vec![late, own]).await;
        let providers = pool(&upstream.url(), |_| {});
        assert!(providers.dispatch(chat(&providers)).await.is_err());
        let response = providers.dispatch(chat(&providers)).await.unwrap();
        assert_eq!(response.body.collect(100).await.unwrap(), "own");
        assert_eq!(upstream.connections(), 2);
    }
}

#[actix::test]
async fn a_failure_whose_body_is_delimited_by_close_keeps_its_status() {
    let response = b"HTTP/1.1 502 Bad Gateway\r\nconnection: close\r\n\r\n<html>".to_vec();
    let upstream = Upstream::start(vec![vec![Step::Send(response), Step::Close]]).await;
    assert_eq!(exchange(&upstream, |_| {}).await.unwrap(), (502, "".into()));
}

#[actix::test]
async fn a_connection_that_never_gets_to_tls_is_a_connect_error_in_time() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let providers = pool(&url, |limits| limits.upstream_connect_timeout_ms = 50);
    let error = providers.dispatch(chat(&providers)).await.unwrap_err();
    assert!(matches!(error, ProviderError::Connect { .. }), "{error:?}");
}

#[actix::test]
async fn a_whole_body_that_comes_in_single_bytes_is_whole() {
    let mut script = vec![Step::Send(stream_head())];
    script.extend("data: 1\n\n".chars().map(|c| Step::Send(chunk(&c.to_string()))));
    script.push(Step::Send(b"0\r\n\r\n".to_vec()));
    let upstream = Upstream::start(vec![script]).await;
    assert_eq!(exchange(&upstream, |_| {}).await.unwrap(), (200, "data: 1\n\n".into()));
}
