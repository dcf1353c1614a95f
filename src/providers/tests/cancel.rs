//! Whoever leaves takes the upstream call along, at once.

use std::time::Duration;

use super::{
    super::{
        ProviderError,
        test_upstream::{Step, Upstream, chunk, stream_head, wait_until},
    },
    chat, pool,
};

#[actix::test]
async fn dropping_a_dispatch_before_the_head_closes_the_connection() {
    let upstream = Upstream::start(vec![vec![Step::Silence]]).await;
    let providers = pool(&upstream.url(), |_| {});
    tokio::select! {
        _ = providers.dispatch(chat(&providers)) => panic!("a silent upstream answered"),
        () = upstream.wait_for_requests(1) => {}
    }
    upstream.wait_for_closed(1).await;
    let calls = providers.observe().providers;
    let up = calls.iter().find(|it| it.name == "up").unwrap();
    assert_eq!((up.inflight, up.cancelled), (0, 1));
}

#[actix::test]
async fn a_request_counts_as_sent_once_its_connection_is_ready_and_not_before() {
    let upstream = Upstream::start(vec![vec![Step::Silence]]).await;
    // Over TLS the connection never gets ready: this upstream takes the handshake for a request.
    for (url, is_sent) in
        [(upstream.url().replace("http:", "https:"), false), (upstream.url(), true)]
    {
        let providers = pool(&url, |_| {});
        let call = chat(&providers);
        let mark = call.sent.clone();
        let has_arrived = || match is_sent {
            true => upstream.requests().len() == 1,
            false => upstream.connections() == 1,
        };
        tokio::select! {
            _ = providers.dispatch(call) => panic!("a silent upstream answered"),
            () = wait_until("a connection or a request", has_arrived) => {}
        }
        assert_eq!(mark.is_set(), is_sent, "{url}");
    }
}

#[actix::test]
async fn dropping_a_body_closes_the_connection_while_the_upstream_is_silent() {
    let script = vec![Step::Send(stream_head()), Step::Send(chunk("data: 1\n\n")), Step::Silence];
    let upstream = Upstream::start(vec![script]).await;
    let providers = pool(&upstream.url(), |_| {});
    let mut response = providers.dispatch(chat(&providers)).await.unwrap();
    assert_eq!(response.body.next().await.unwrap().unwrap(), "data: 1\n\n");
    drop(response);
    upstream.wait_for_closed(1).await;
}

#[actix::test]
async fn dropping_a_body_closes_the_connection_while_the_upstream_talks() {
    let talk = Step::Repeat(chunk("data: 1\n\n"), Duration::from_millis(1));
    let upstream = Upstream::start(vec![vec![Step::Send(stream_head()), talk]]).await;
    let providers = pool(&upstream.url(), |_| {});
    let mut response = providers.dispatch(chat(&providers)).await.unwrap();
    assert!(response.body.next().await.unwrap().is_ok());
    drop(response);
    upstream.wait_for_closed(1).await;
}

#[actix::test]
async fn a_slow_reader_slows_the_upstream_and_leaving_still_works() {
    let flood = Step::Repeat(chunk(&"x".repeat(60_000)), Duration::ZERO);
    let upstream = Upstream::start(vec![vec![Step::Send(stream_head()), flood]]).await;
    let providers = pool(&upstream.url(), |limits| limits.stream_channel_chunks = 2);
    let response = providers.dispatch(chat(&providers)).await.unwrap();
    let reader = response.body;
    // Nobody reads: the upstream can't go on once the channel and the sockets are full.
    tokio::time::timeout(Duration::from_millis(100), upstream.wait_for_closed(1))
        .await
        .unwrap_err();
    drop(reader);
    upstream.wait_for_closed(1).await;
}

#[actix::test]
async fn a_drain_refuses_new_calls_and_waits_for_the_running_ones() {
    let script = vec![Step::Send(stream_head()), Step::Silence];
    let upstream = Upstream::start(vec![script]).await;
    let providers = pool(&upstream.url(), |_| {});
    let response = providers.dispatch(chat(&providers)).await.unwrap();
    assert_eq!(providers.drain(Duration::from_millis(20)).await, 1);
    let refused = providers.dispatch(chat(&providers)).await.unwrap_err();
    assert_eq!(refused, ProviderError::ShuttingDown);
    let (running, ()) = tokio::join!(providers.drain(Duration::from_secs(5)), async {
        tokio::task::yield_now().await;
        drop(response);
    });
    assert_eq!(running, 0);
    assert!(providers.observe().draining);
}

#[actix::test]
async fn the_bound_on_calls_in_flight_is_an_early_refusal() {
    let script = vec![Step::Send(stream_head()), Step::Silence];
    let upstream = Upstream::start(vec![script]).await;
    let providers = pool(&upstream.url(), |limits| limits.upstream_inflight_max = 1);
    let first = providers.dispatch(chat(&providers)).await.unwrap();
    let refused = providers.dispatch(chat(&providers)).await.unwrap_err();
    assert!(matches!(refused, ProviderError::QueueFull { retry_after_ms: 1.. }), "{refused:?}");
    drop(first);
    let free = || providers.observe().providers.iter().all(|it| it.inflight == 0);
    wait_until("free place", free).await;
    assert!(providers.dispatch(chat(&providers)).await.is_ok());
}
