//! A client that leaves a provider which bills a cancelled call to its end: the call goes on
//! without it and the real usage is charged; what bounds that; and what the bounds cost.

use std::time::{Duration, Instant};

use crate::{
    route::{CREDIT_NANOUSD, INPUT, OUTPUT, Route, Stage},
    support::{
        BOUND,
        http::Events,
        ledger::{BASIS_COUNTED, BASIS_PARTIAL, BASIS_PROVIDER, FINISH_CLIENT_GONE, Row, SETTLED},
        models,
        server::{Builder, TestServer},
        upstream::{Exchange, Framing, Step, Upstream},
        wait_for,
    },
};

/// A script on a server whose providers bill to the end.
#[track_caller]
fn stage(script: impl IntoIterator<Item = Exchange>, builder: Builder) -> Stage {
    let upstream = Upstream::start(script);
    let server = builder.with_upstream(&upstream).billed_to_the_end().start();
    let account = server.account();
    server.alice(&account);
    Stage { server, account, upstream }
}

/// A stream that goes on when `gate` opens.
fn paused(route: Route, gate: &str) -> Exchange {
    let opened = Exchange::sse(route.opening()).then_wait(gate);
    route.closing().into_iter().fold(opened, Exchange::then_write)
}

/// Opens a stream and reads its first delta.
#[track_caller]
fn opened(stage: &Stage, route: Route, marker: &str) -> Events {
    let mut events = stage.open(route, marker, true).events();
    while let Some(event) = events.next_message() {
        if event.json().is_some_and(|value| value.to_string().contains("Grüße")) {
            return events;
        }
    }
    panic!("{route:?}: the stream ended before its first delta: {:?}", events.end());
}

/// Waits until the server has noticed that `count` clients left and goes on without them.
#[track_caller]
fn wait_draining(stage: &Stage, count: usize) {
    wait_for("the server to go on without its clients", BOUND, || {
        let log = stage.server.log();
        (log.matches("goes on without its client").count() >= count).then_some(())
    });
}

#[track_caller]
fn assert_real_usage(row: &Row, what: &str) {
    let what = format!("{what}: {row:?}");
    assert_eq!((row.state, row.finish), (SETTLED, Some(FINISH_CLIENT_GONE)), "{what}");
    assert_eq!(row.basis, Some(BASIS_PROVIDER), "{what}");
    let (input, output) = (INPUT.cast_signed(), OUTPUT.cast_signed());
    assert_eq!((row.input, row.output), (input, output), "{what}");
    assert_eq!(row.cost, Some(models::charge_nanousd(input, output)), "{what}");
}

#[track_caller]
fn assert_what_was_seen(route: Route, row: &Row, what: &str) {
    let what = format!("{what}: {row:?}");
    let basis = if route.upstream_is_anthropic() { BASIS_PARTIAL } else { BASIS_COUNTED };
    assert_eq!((row.state, row.finish), (SETTLED, Some(FINISH_CLIENT_GONE)), "{what}");
    assert_eq!(row.basis, Some(basis), "{what}");
    assert!(row.input >= 1 && row.output >= 1, "{what}");
    assert_eq!(row.cost, Some(models::charge_nanousd(row.input, row.output)), "{what}");
}

#[test]
fn a_stream_is_read_to_its_end_without_its_client_and_its_real_usage_is_charged() {
    for route in Route::ALL {
        let stage = stage([paused(route, "go on").times(2)], TestServer::builder());
        opened(&stage, route, "fin").close_fin();
        opened(&stage, route, "rst").close_rst();
        wait_draining(&stage, 2);
        assert_eq!(stage.server.ledger().wallet(&stage.account).balance(), CREDIT_NANOUSD);
        stage.upstream.open("go on");
        for row in stage.assert_books(2, |_| true) {
            assert_real_usage(&row, &format!("{route:?}"));
        }
        stage.upstream.wait_answered(0);
        stage.upstream.wait_answered(1);
    }
}

#[test]
fn leaving_before_the_answer_lets_it_come_and_charges_its_real_usage() {
    for route in Route::ALL {
        for stream in [false, true] {
            let body = if stream {
                route.records().concat()
            } else {
                route.completion("for nobody").to_string()
            };
            let kind = if stream { "text/event-stream" } else { "application/json" };
            let headers = vec![("content-type".to_owned(), kind.to_owned())];
            let head = Step::Head { status: 200, headers, framing: Framing::Chunked };
            let late = vec![Step::Wait("go on".to_owned()), head, Step::Write(body.into())];
            let stage = stage([Exchange::new(late)], TestServer::builder());
            let request = route.request(&stage.account.key, "late", stream);
            let sent = request.send(stage.server.address());
            stage.upstream.wait_requests(1);
            sent.close_fin();
            wait_draining(&stage, 1);
            stage.upstream.open("go on");
            let rows = stage.assert_books(1, |_| true);
            assert_real_usage(&rows[0], &format!("{route:?} stream={stream}"));
        }
    }
}

#[test]
fn more_clients_than_drains_are_cancelled_and_charged_for_what_was_seen() {
    for route in Route::ALL {
        let builder = TestServer::builder().env("FACES_DRAINS_MAX", "1");
        let script = [
            paused(route, "go on").containing("first."),
            Exchange::sse(route.opening()).then(Step::Stall).containing("second."),
        ];
        let stage = stage(script, builder);
        opened(&stage, route, "first.").close_fin();
        wait_draining(&stage, 1);
        let events = opened(&stage, route, "second.");
        let left_at = Instant::now();
        events.close_fin();
        stage.upstream.wait_left(1, left_at);
        stage.upstream.open("go on");
        let rows = stage.assert_books(2, |_| true);
        assert_real_usage(&rows[0], &format!("{route:?} first"));
        assert_what_was_seen(route, &rows[1], &format!("{route:?} second"));
        assert!(stage.server.log().contains("FACES_DRAINS_MAX"), "the operator must see it");
    }
}

#[test]
fn a_drain_that_takes_too_long_is_cancelled_and_charged_for_what_was_seen() {
    for route in Route::ALL {
        let builder = TestServer::builder().env("FACES_DRAIN_TIMEOUT_MS", "200");
        let script = [
            Exchange::sse(route.opening()).then(Step::Stall).containing("stream."),
            Exchange::never().containing("silent."),
        ];
        let stage = stage(script, builder);
        let events = opened(&stage, route, "stream.");
        let left_at = Instant::now();
        events.close_fin();
        let (_, after) = stage.upstream.wait_left(0, left_at);
        assert!(after >= Duration::from_millis(200), "{route:?}: cancelled after {after:?}");
        let request = route.request(&stage.account.key, "silent.", false);
        let sent = request.send(stage.server.address());
        stage.upstream.wait_requests(2);
        let left_at = Instant::now();
        sent.close_fin();
        stage.upstream.wait_left(1, left_at);
        let rows = stage.assert_books(2, |_| true);
        assert_what_was_seen(route, &rows[0], &format!("{route:?} stream"));
        let silent = (rows[1].state, rows[1].basis, rows[1].finish);
        let expected = (SETTLED, Some(BASIS_COUNTED), Some(FINISH_CLIENT_GONE));
        assert_eq!(silent, expected, "{route:?}: {:?}", rows[1]);
        assert!(rows[1].input >= 1 && rows[1].output == 0, "{route:?}: {:?}", rows[1]);
    }
}

#[test]
fn a_stop_waits_for_a_drain_and_charges_one_that_it_must_cut() {
    let route = Route::ChatOpenAi;
    let builder = TestServer::builder().env("FACES_SHUTDOWN_GRACE_MS", "1500");
    let script = [
        paused(route, "go on").containing("ends."),
        Exchange::sse(route.opening()).then(Step::Stall).containing("stalls."),
    ];
    let mut stage = stage(script, builder);
    opened(&stage, route, "ends.").close_fin();
    opened(&stage, route, "stalls.").close_fin();
    wait_draining(&stage, 2);
    stage.server.signal("TERM");
    stage.upstream.open("go on");
    let status = stage.server.wait_exit(BOUND);
    assert_eq!(status.code(), Some(0));
    let rows = stage.assert_books(2, |_| true);
    assert_real_usage(&rows[0], "it ended in the grace");
    assert_what_was_seen(route, &rows[1], "it was cut");
}
