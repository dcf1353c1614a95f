//! Many streams at once, streams that wait long, and bodies that are large.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::{
    route::{INPUT, OUTPUT, Outcome, Route, Stage},
    support::{
        BOUND, PROMPT_CANARY,
        http::{Event, Request},
        models::{self, OPENAI_MODEL},
        replies::openai,
        server::TestServer,
        upstream::Exchange,
    },
};

/// Streams at once: above the 100 connections that the HTTP client's pool has by default.
const STREAMS: usize = 150;

#[track_caller]
fn many_streams_run_at_once(route: Route) {
    let exchange = Exchange::sse(route.opening()).then_wait("all are open");
    let exchange = route.closing().into_iter().fold(exchange, Exchange::then_write);
    // One worker: the bound of a pool is a bound per worker.
    let builder = TestServer::builder().env("FACES_WORKERS", "1");
    let stage = Stage::with([exchange.times(STREAMS)], builder);
    let started = Instant::now();
    std::thread::scope(|scope| {
        let streams: Vec<_> = (0..STREAMS)
            .map(|_| {
                let stage = &stage;
                scope.spawn(move || stage.stream(route, "many"))
            })
            .collect();
        stage.upstream.wait_requests(STREAMS);
        let opened = started.elapsed();
        stage.upstream.open("all are open");
        for stream in streams {
            let outcome = stream.join().expect("the client ends");
            outcome.assert_whole(&format!("{route:?}, all open after {opened:?}"));
        }
    });
    let rows = stage.assert_books(STREAMS, |_| true);
    let cost = models::charge_nanousd(INPUT.cast_signed(), OUTPUT.cast_signed());
    assert!(rows.iter().all(|row| row.cost == Some(cost)), "{route:?}");
}

#[test]
fn many_streams_run_at_once_on_one_worker_chat_openai() {
    many_streams_run_at_once(Route::ChatOpenAi);
}

#[test]
fn many_streams_run_at_once_on_one_worker_chat_anthropic() {
    many_streams_run_at_once(Route::ChatAnthropic);
}

#[test]
fn many_streams_run_at_once_on_one_worker_proxy_anthropic() {
    many_streams_run_at_once(Route::ProxyAnthropic);
}

#[test]
fn a_silent_upstream_is_bridged_by_comments() {
    for route in [Route::ChatOpenAi, Route::ChatAnthropic] {
        let exchange = Exchange::sse(route.opening()).then_wait("enough heartbeats");
        let exchange = route.closing().into_iter().fold(exchange, Exchange::then_write);
        let builder = TestServer::builder().env("FACES_SSE_HEARTBEAT_MS", "100");
        let stage = Stage::with([exchange], builder);
        let mut events = stage.open(route, "silence", true).events();
        let mut outcome = Outcome { status: 200, ..Outcome::default() };
        let mut bridged = 0;
        while let Some(event) = events.next_event() {
            outcome.take(&event);
            bridged += usize::from(!outcome.text.is_empty() && matches!(event, Event::Comment(_)));
            if bridged == 3 {
                stage.upstream.open("enough heartbeats");
            }
        }
        outcome.end = events.end();
        outcome.assert_whole(&format!("{route:?}"));
        assert!(bridged >= 3, "{route:?}: {outcome:?}");
    }
}

/// A delta must reach the client while the upstream is still talking.
#[test]
fn every_delta_arrives_before_the_next_is_sent() {
    for route in Route::ALL {
        let mut exchange = Exchange::sse(route.opening());
        for (number, record) in route.closing().into_iter().enumerate() {
            exchange = exchange.then_wait(&format!("step {number}")).then_write(record);
        }
        let steps = route.closing().len();
        let stage = Stage::new([exchange]);
        let mut events = stage.open(route, "steps", true).events();
        let mut outcome = Outcome { status: 200, ..Outcome::default() };
        let (mut opened, mut seen) = (0, String::new());
        while let Some(event) = events.next_event() {
            outcome.take(&event);
            let news = outcome.text != seen;
            seen.clone_from(&outcome.text);
            // After the last text the upstream may go on to its end without being watched.
            let rest = outcome.text.ends_with(" end");
            let until = if rest { steps } else { (opened + usize::from(news)).min(steps) };
            for number in opened..until {
                stage.upstream.open(&format!("step {number}"));
            }
            opened = until;
        }
        outcome.end = events.end();
        outcome.assert_whole(&format!("{route:?}"));
    }
}

#[test]
fn a_body_of_twenty_megabytes_with_an_image_is_relayed() {
    const BYTES: usize = 20 * 1024 * 1024;
    let stage = Stage::new([openai::json_exchange("seen", INPUT, OUTPUT)]);
    let image = format!("data:image/png;base64,{}", "A".repeat(BYTES));
    let body = json!({"model": format!("alice@{OPENAI_MODEL}"), "max_tokens": 16, "messages": [
        {"role": "user", "content": [
            {"type": "text", "text": PROMPT_CANARY},
            {"type": "image_url", "image_url": {"url": image}}]}]});
    let request = Request::post("/v1/chat/completions", &body).bearer(&stage.account.key);
    let answer = request.fetch(stage.server.address());
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(stage.upstream.only_request().body.len() > BYTES);
    stage.assert_books(1, |_| true);
}

#[test]
fn a_body_over_the_limit_is_413_in_the_routes_dialect() {
    let builder = TestServer::builder().env("FACES_BODY_BYTES_MAX", "4096");
    let stage = Stage::with([], builder);
    for route in Route::ALL {
        let request = route.request(&stage.account.key, &"x".repeat(8_192), true);
        let answer = request.fetch(stage.server.address());
        assert_eq!(answer.status, 413, "{route:?}: {}", answer.text());
        assert!(answer.json()["error"]["message"].is_string(), "{route:?}: {}", answer.text());
    }
}

/// Three timeouts, each of its own limit, each an error that says so.
#[test]
fn a_stalled_upstream_ends_in_a_timeout_and_costs_nothing() {
    for route in Route::ALL {
        let builder = TestServer::builder()
            .env("FACES_UPSTREAM_CONNECT_TIMEOUT_MS", "300")
            .env("FACES_UPSTREAM_FIRST_BYTE_TIMEOUT_MS", "300")
            .env("FACES_UPSTREAM_IDLE_TIMEOUT_MS", "300");
        let script = [
            Exchange::never().containing("silent.").times(2),
            Exchange::sse(route.opening()).then_wait("never").may_be_left().containing("stall."),
        ];
        let stage = Stage::with(script, builder);
        let started = Instant::now();
        let json = stage.open(route, "silent.", false).fetch();
        assert_eq!(json.status, 504, "{route:?}: {}", json.text());
        let stream = stage.stream(route, "silent.");
        assert_eq!(stream.status, 504, "{route:?}: {stream:?}");
        let stalled = stage.stream(route, "stall.");
        stalled.assert_failed(&format!("{route:?}"));
        assert!(stalled.error.is_some(), "{route:?}: {stalled:?}");
        assert!(started.elapsed() < BOUND / 2 + Duration::from_secs(1), "{route:?}");
        stage.assert_books(3, |_| false);
    }
}
