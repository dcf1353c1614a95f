//! SIGTERM in the midst of live streams: each ends with its terminal event or an error event, all
//! holds are settled, and the exit code is 0.

use std::time::Duration;

use crate::{
    route::{Outcome, Route, Stage},
    support::{
        BOUND,
        ledger::{FINISH_COMPLETE, FINISH_SHUTDOWN, SETTLED},
        server::TestServer,
        upstream::{Exchange, Step},
    },
};

/// Live streams at SIGTERM; half of them finish in time.
const STREAMS: usize = 50;

#[track_caller]
fn sigterm_ends_every_stream_and_settles_every_hold(route: Route) {
    let finishing = Exchange::sse(route.opening()).then_wait("go on").containing("finishing.");
    let finishing = route.closing().into_iter().fold(finishing, Exchange::then_write);
    let stalling = Exchange::sse(route.opening()).then(Step::Stall).containing("stalling.");
    let builder = TestServer::builder().env("FACES_SHUTDOWN_GRACE_MS", "3000");
    let script = [finishing.times(STREAMS / 2), stalling.times(STREAMS / 2)];
    let mut stage = Stage::with(script, builder);
    let open = |number: usize| {
        let marker = if number.is_multiple_of(2) { "finishing." } else { "stalling." };
        let mut events = stage.open(route, marker, true).events();
        let mut outcome = Outcome { status: 200, ..Outcome::default() };
        while outcome.text.is_empty() {
            let event = events.next_event().expect("a first delta");
            outcome.take(&event);
        }
        (events, outcome)
    };
    let streams: Vec<_> = (0..STREAMS).map(open).collect();
    stage.server.signal("TERM");
    stage.upstream.open("go on");
    let readers: Vec<_> = streams
        .into_iter()
        .map(|(mut events, mut outcome)| {
            std::thread::spawn(move || {
                while let Some(event) = events.next_event() {
                    outcome.take(&event);
                }
                outcome.end = events.end();
                outcome
            })
        })
        .collect();
    for (number, reader) in readers.into_iter().enumerate() {
        let outcome = reader.join().expect("the reader ends");
        let what = format!("{route:?} stream {number}: {outcome:?}");
        if number.is_multiple_of(2) {
            outcome.assert_whole(&what);
        } else {
            outcome.assert_failed(&what);
            assert!(outcome.error.is_some(), "an error event ends it: {what}");
        }
    }
    let status = stage.server.wait_exit(BOUND);
    assert_eq!(status.code(), Some(0), "{}", stage.server.log());
    let rows = stage.assert_books(STREAMS, |_| true);
    for row in &rows {
        assert_eq!(row.state, SETTLED, "{row:?}");
        match row.finish {
            Some(FINISH_COMPLETE) => assert!(row.cost > Some(0), "{row:?}"),
            // The server broke it off: the operator pays.
            Some(FINISH_SHUTDOWN) => assert_eq!(row.cost, Some(0), "{row:?}"),
            _ => panic!("another end: {row:?}"),
        }
    }
    let complete = rows.iter().filter(|row| row.finish == Some(FINISH_COMPLETE)).count();
    assert_eq!(complete, STREAMS / 2);
    let wallet = stage.server.ledger().wallet(&stage.account);
    assert_eq!(wallet.leased, 0, "nothing stays held: {wallet:?}");
}

#[test]
fn sigterm_ends_every_stream_and_settles_every_hold_chat_openai() {
    sigterm_ends_every_stream_and_settles_every_hold(Route::ChatOpenAi);
}

#[test]
fn sigterm_ends_every_stream_and_settles_every_hold_chat_anthropic() {
    sigterm_ends_every_stream_and_settles_every_hold(Route::ChatAnthropic);
}

#[test]
fn sigterm_ends_every_stream_and_settles_every_hold_proxy_anthropic() {
    sigterm_ends_every_stream_and_settles_every_hold(Route::ProxyAnthropic);
}

#[test]
fn an_idle_server_stops_at_once() {
    for signal in ["TERM", "INT"] {
        let mut server = TestServer::builder().start();
        server.signal(signal);
        let status = server.wait_exit(Duration::from_secs(10));
        assert_eq!(status.code(), Some(0), "SIG{signal}: {}", server.log());
    }
}
