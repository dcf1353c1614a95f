//! A client that leaves, in whichever way and at whichever moment: the upstream is cancelled within
//! a second, and the account pays for the input and what was produced: never a full refund, never the whole hold.

use std::{
    fs,
    net::TcpListener,
    path::PathBuf,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{
    route::{CREDIT_NANOUSD, INPUT, Route, Stage},
    support::{
        BOUND, PROMPT_CANARY,
        http::{Events, Request, Sent},
        ledger::{BASIS_COUNTED, BASIS_PARTIAL, FINISH_CLIENT_GONE, Row, SETTLED, VOIDED},
        models,
        server::TestServer,
        upstream::{Exchange, Framing, Step, Upstream, sse_head},
        wait_for,
    },
};

/// The upstream must see that its answer is unwanted within this time.
const CANCELLED_WITHIN: Duration = Duration::from_secs(1);

/// How a client leaves.
#[derive(Debug, Clone, Copy)]
enum Leave {
    Fin,
    Rst,
}

const LEAVES: [Leave; 2] = [Leave::Fin, Leave::Rst];

impl Leave {
    fn before_the_answer(self, sent: Sent) -> Instant {
        let at = Instant::now();
        match self {
            Self::Fin => sent.close_fin(),
            Self::Rst => sent.close_rst(),
        }
        at
    }

    fn in_the_stream(self, events: Events) -> Instant {
        let at = Instant::now();
        match self {
            Self::Fin => events.close_fin(),
            Self::Rst => events.close_rst(),
        }
        at
    }
}

/// Reads until the first delta of text has arrived.
#[track_caller]
fn read_first_delta(events: &mut Events) {
    while let Some(event) = events.next_message() {
        if event.json().is_some_and(|value| value.to_string().contains("Grüße")) {
            return;
        }
    }
    panic!("the stream ended before its first delta: {:?}", events.end());
}

#[track_caller]
fn assert_cancelled(stage: &Stage, index: usize, left_at: Instant, what: &str) {
    let (_, after) = stage.upstream.wait_left(index, left_at);
    assert!(after < CANCELLED_WITHIN, "{what}: the upstream was cancelled after {after:?}");
}

/// The row of a client that left in mid-stream: input and what was produced, and how we know.
#[track_caller]
fn assert_charged_for_what_was_produced(route: Route, row: &Row, what: &str) {
    let what = format!("{what}: {row:?}");
    assert_eq!((row.state, row.finish), (SETTLED, Some(FINISH_CLIENT_GONE)), "{what}");
    assert!(row.output >= 1, "{what}: what was produced is charged");
    if route.upstream_is_anthropic() {
        assert_eq!(row.basis, Some(BASIS_PARTIAL), "{what}");
        assert_eq!(row.input, INPUT.cast_signed(), "{what}: message_start told the input");
    } else {
        assert_eq!(row.basis, Some(BASIS_COUNTED), "{what}");
        assert!(row.input >= 1, "{what}");
    }
    let cost = models::charge_nanousd(row.input, row.output);
    assert_eq!(row.cost, Some(cost), "{what}");
    assert!(cost < row.amount, "{what}: never the whole hold");
}

#[track_caller]
fn leaving_mid_stream_cancels_and_charges(route: Route) {
    let opening = || Exchange::sse(route.opening());
    let more = route.text_delta("more ").into_bytes();
    let stage = Stage::new([
        opening().then(Step::Stall).containing("idle.").times(2),
        opening().then(Step::Repeat(more)).containing("busy.").times(2),
    ]);
    let mut cases = Vec::new();
    for pace in ["idle", "busy"] {
        for leave in LEAVES {
            let what = format!("{route:?} {pace} {leave:?}");
            let mut events = stage.open(route, &format!("{pace}."), true).events();
            read_first_delta(&mut events);
            let left_at = leave.in_the_stream(events);
            assert_cancelled(&stage, cases.len(), left_at, &what);
            cases.push(what);
        }
    }
    let rows = stage.assert_books(cases.len(), |_| true);
    for (row, what) in rows.iter().zip(&cases) {
        assert_charged_for_what_was_produced(route, row, what);
    }
}

#[test]
fn leaving_mid_stream_cancels_and_charges_chat_openai() {
    leaving_mid_stream_cancels_and_charges(Route::ChatOpenAi);
}

#[test]
fn leaving_mid_stream_cancels_and_charges_chat_anthropic() {
    leaving_mid_stream_cancels_and_charges(Route::ChatAnthropic);
}

#[test]
fn leaving_mid_stream_cancels_and_charges_proxy_openai() {
    leaving_mid_stream_cancels_and_charges(Route::ProxyOpenAi);
}

#[test]
fn leaving_mid_stream_cancels_and_charges_proxy_anthropic() {
    leaving_mid_stream_cancels_and_charges(Route::ProxyAnthropic);
}

#[test]
fn leaving_mid_stream_cancels_and_charges_messages() {
    leaving_mid_stream_cancels_and_charges(Route::MessagesOpenAi);
    leaving_mid_stream_cancels_and_charges(Route::MessagesAnthropic);
}

#[test]
fn leaving_mid_stream_cancels_and_charges_responses() {
    leaving_mid_stream_cancels_and_charges(Route::ResponsesOpenAi);
}

#[test]
fn leaving_before_the_first_byte_cancels_and_costs_the_input_alone() {
    for route in Route::ALL {
        let stage = Stage::new([
            Exchange::never().containing("silent.").times(4),
            Exchange::new(vec![sse_head(), Step::Stall]).containing("head.").times(2),
        ]);
        let mut count = 0;
        for (marker, stream) in [("silent.", true), ("silent.", false), ("head.", true)] {
            for leave in LEAVES {
                let request = route.request(&stage.account.key, marker, stream);
                let sent = request.send(stage.server.address());
                stage.upstream.wait_requests(count + 1);
                let left_at = leave.before_the_answer(sent);
                let what = format!("{route:?} {marker} stream={stream} {leave:?}");
                assert_cancelled(&stage, count, left_at, &what);
                count += 1;
            }
        }
        // The provider has the prompt and may bill it, whoever leaves.
        for row in stage.assert_books(count, |_| true) {
            let how = (row.state, row.basis, row.finish);
            let expected = (SETTLED, Some(BASIS_COUNTED), Some(FINISH_CLIENT_GONE));
            assert_eq!(how, expected, "{route:?}: {row:?}");
            assert!(row.input >= 1 && row.output == 0, "{route:?}: {row:?}");
            let cost = models::charge_nanousd(row.input, 0);
            assert_eq!(row.cost, Some(cost), "{route:?}: {row:?}");
            assert!(cost < row.amount, "{route:?}: {row:?}");
        }
    }
}

/// Its connection is never ready (nobody answers its TLS), so the provider has nothing to bill.
#[test]
fn leaving_before_the_request_goes_out_costs_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.set_nonblocking(true).expect("a listener that can be asked");
    let address = listener.local_addr().expect("its address");
    let upstream = Upstream::start([]);
    let server = TestServer::builder()
        .with_upstream(&upstream)
        .models(&format!(
            "[provider.mute]\nbase_url = \"https://{address}/v1\"\n\n\
             [model.mute]\nprovider = \"mute\"\ncontext_tokens_max = 1_000\n\
             output_tokens_max = 100\ninput_usd_per_mtok = \"1\"\noutput_usd_per_mtok = \"1\"\n"
        ))
        .start();
    let account = server.account();
    let mut connections = Vec::new();
    for stream in [true, false] {
        for leave in LEAVES {
            let body = json!({"model": "mute", "stream": stream,
                "messages": [{"role": "user", "content": PROMPT_CANARY}]});
            let request = Request::post("/v1/chat/completions", &body).bearer(&account.key);
            let sent = request.send(server.address());
            connections.push(wait_for("a connection", BOUND, || listener.accept().ok()));
            leave.before_the_answer(sent);
            let rows = server.ledger().wait_resolved(&account, connections.len());
            let row = rows.last().expect("a row");
            assert_eq!((row.state, row.input), (VOIDED, 0), "{stream} {leave:?}: {row:?}");
        }
    }
    assert_eq!(server.ledger().wallet(&account).balance(), CREDIT_NANOUSD);
}

/// A refusal costs nothing from its status on, though its words are still to come: whoever leaves
/// meanwhile must not pay for input that the provider refused.
#[test]
fn a_refusal_releases_the_credit_before_its_body_is_read() {
    for route in Route::ALL {
        let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        let head = Step::Head { status: 429, headers, framing: Framing::Chunked };
        let refusal = vec![head, Step::Write(b"{\"error\":".to_vec()), Step::Stall];
        let stage = Stage::new([Exchange::new(refusal).times(2)]);
        for (index, stream) in [true, false].into_iter().enumerate() {
            let request = route.request(&stage.account.key, "refused", stream);
            let sent = request.send(stage.server.address());
            let rows = stage.assert_books(index + 1, |_| true);
            let left_at = Leave::Fin.before_the_answer(sent);
            let what = format!("{route:?} stream={stream}");
            assert_cancelled(&stage, index, left_at, &what);
            assert!(rows.iter().all(|row| row.state == VOIDED), "{what}: {rows:?}");
        }
    }
}

#[test]
fn leaving_during_a_json_answer_cancels_the_upstream() {
    for route in Route::ALL {
        let text = route.completion("never read").to_string();
        let (half, _) = text.split_at(text.len() / 2);
        let json = Exchange::bytes(200, "application/json", half.into());
        let stalled = json.framed(Framing::Length { missing: 500 }).then(Step::Stall).times(2);
        let stage = Stage::new([stalled]);
        for (index, leave) in LEAVES.into_iter().enumerate() {
            let request = route.request(&stage.account.key, "json", false);
            let sent = request.send(stage.server.address());
            stage.upstream.wait_requests(index + 1);
            let left_at = leave.before_the_answer(sent);
            assert_cancelled(&stage, index, left_at, &format!("{route:?} {leave:?}"));
        }
        stage.server.ledger().wait_resolved(&stage.account, LEAVES.len());
    }
}

/// Cycles of opening a stream and leaving it.
const CYCLES: usize = 1_000;
/// Clients that do so at once.
const CLIENTS: usize = 8;
/// Descriptors that may be open later than before: pooled connections and the database's own.
const DESCRIPTORS_SLACK: usize = 40;

#[test]
fn a_thousand_clients_that_leave_leak_nothing() {
    let route = Route::ChatOpenAi;
    let stage = Stage::new([Exchange::sse(route.opening()).then(Step::Stall).times(CYCLES)]);
    let before = descriptor_count(&stage);
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let stage = &stage;
            scope.spawn(move || {
                for cycle in 0..CYCLES / CLIENTS {
                    let mut events = stage.open(route, "cycle", true).events();
                    read_first_delta(&mut events);
                    LEAVES[(client + cycle) % 2].in_the_stream(events);
                }
            });
        }
    });
    let requests = stage.upstream.wait_requests(CYCLES);
    assert_eq!(requests.len(), CYCLES);
    wait_for("all upstream requests to be cancelled", BOUND, || {
        stage.upstream.requests().iter().all(|request| request.left.is_some()).then_some(())
    });
    let rows = stage.assert_books(CYCLES, |_| true);
    assert!(rows.iter().all(|row| row.finish == Some(FINISH_CLIENT_GONE)));
    if let Some(before) = before {
        wait_for("the server's descriptors to be closed", BOUND, || {
            (descriptor_count(&stage)? <= before + DESCRIPTORS_SLACK).then_some(())
        });
    }
}

/// Open descriptors of the server, where the system tells (Linux).
fn descriptor_count(stage: &Stage) -> Option<usize> {
    let directory = PathBuf::from(format!("/proc/{}/fd", stage.server.pid()));
    Some(fs::read_dir(directory).ok()?.count())
}
