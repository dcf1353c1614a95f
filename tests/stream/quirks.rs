//! Whatever spelling of a stream an upstream chooses, the client gets the same stream; what can't
//! be understood is an explicit failure.

use serde_json::json;

use crate::{
    route::{INPUT, OUTPUT, Outcome, PIECES, Route, Stage},
    support::{
        ledger::{BASIS_PROVIDER, FINISH_COMPLETE, SETTLED},
        models, sse_text,
        upstream::{Exchange, Framing, Step, sse_head},
    },
};

/// Spellings that mean the same stream: a name and the chunks.
fn spellings(records: &[String]) -> Vec<(&'static str, Vec<Step>)> {
    let whole = |records: Vec<String>| sse_text::joined(&records);
    let chunks = |records: Vec<String>| {
        records.into_iter().map(|record| Step::Write(record.into_bytes())).collect::<Vec<_>>()
    };
    let pieces = |records: &[String], size: usize| {
        let bytes = sse_text::joined(records);
        sse_text::in_pieces(&bytes, size).into_iter().map(Step::Write).collect::<Vec<_>>()
    };
    vec![
        ("spelled-plain", chunks(records.to_vec())),
        ("spelled-in-one-chunk", vec![Step::Write(whole(records.to_vec()))]),
        ("spelled-in-pieces-of-7", pieces(records, 7)),
        ("spelled-in-pieces-of-61", pieces(records, 61)),
        ("spelled-bytewise", vec![Step::OneByOne(whole(records.to_vec()))]),
        ("spelled-crlf", chunks(sse_text::crlf(records))),
        ("spelled-crlf-bytewise", vec![Step::OneByOne(whole(sse_text::crlf(records)))]),
        ("spelled-cr", chunks(sse_text::cr(records))),
        ("spelled-cr-bytewise", vec![Step::OneByOne(whole(sse_text::cr(records)))]),
        ("spelled-bom", chunks(sse_text::bom(records))),
        ("spelled-comments", chunks(sse_text::comments(records))),
        ("spelled-ids", chunks(sse_text::ids(records))),
        ("spelled-retry", chunks(sse_text::retry(records))),
        ("spelled-no-space", chunks(sse_text::no_space(records))),
        ("spelled-two-data-lines", chunks(sse_text::multi_line_data(records))),
    ]
}

#[track_caller]
fn every_spelling_gives_the_same_stream(route: Route) {
    let spellings = spellings(&route.records());
    let names: Vec<&str> = spellings.iter().map(|(name, _)| *name).collect();
    let script = spellings.into_iter().map(|(name, writes)| {
        Exchange::new([vec![sse_head()], writes].concat()).containing(&format!("{name}."))
    });
    let stage = Stage::new(script.collect::<Vec<_>>());
    for name in &names {
        let outcome = stage.stream(route, &format!("{name}."));
        outcome.assert_whole(&format!("{route:?} {name}"));
    }
    let rows = stage.assert_books(names.len(), |_| true);
    let cost = models::charge_nanousd(INPUT.cast_signed(), OUTPUT.cast_signed());
    for (row, name) in rows.iter().zip(names) {
        assert_eq!((row.state, row.cost), (SETTLED, Some(cost)), "{route:?} {name}: {row:?}");
        let how = (row.basis, row.finish);
        assert_eq!(how, (Some(BASIS_PROVIDER), Some(FINISH_COMPLETE)), "{name}: {row:?}");
    }
}

#[test]
fn every_spelling_gives_the_same_stream_chat_openai() {
    every_spelling_gives_the_same_stream(Route::ChatOpenAi);
}

#[test]
fn every_spelling_gives_the_same_stream_chat_anthropic() {
    every_spelling_gives_the_same_stream(Route::ChatAnthropic);
}

#[test]
fn every_spelling_gives_the_same_stream_proxy_openai() {
    every_spelling_gives_the_same_stream(Route::ProxyOpenAi);
}

#[test]
fn every_spelling_gives_the_same_stream_proxy_anthropic() {
    every_spelling_gives_the_same_stream(Route::ProxyAnthropic);
}

#[test]
fn every_spelling_gives_the_same_stream_messages() {
    every_spelling_gives_the_same_stream(Route::MessagesOpenAi);
    every_spelling_gives_the_same_stream(Route::MessagesAnthropic);
}

#[test]
fn every_spelling_gives_the_same_stream_responses() {
    every_spelling_gives_the_same_stream(Route::ResponsesOpenAi);
    every_spelling_gives_the_same_stream(Route::ResponsesAnthropic);
}

/// A proxy adds only its own heartbeats and takes nothing away, whatever the spelling.
#[test]
fn a_proxy_relays_every_byte_of_every_spelling() {
    for route in [Route::ProxyOpenAi, Route::ProxyAnthropic] {
        let spellings = spellings(&route.records());
        let script = spellings.iter().map(|(name, writes)| {
            Exchange::new([vec![sse_head()], writes.clone()].concat())
                .containing(&format!("{name}."))
        });
        let stage = Stage::new(script.collect::<Vec<_>>());
        for (name, writes) in &spellings {
            let sent = writes.iter().flat_map(|step| match step {
                Step::Write(bytes) | Step::OneByOne(bytes) => bytes.clone(),
                _ => Vec::new(),
            });
            let sent = String::from_utf8(sent.collect()).expect("text");
            let body = stage.open(route, &format!("{name}."), true).fetch().text();
            assert_eq!(body.replace(": keep-alive\n\n", ""), sent, "{route:?} {name}");
        }
    }
}

/// The chat route never passes on what breaks openai-python: `id`, `retry`, `event`, empty data.
#[test]
fn the_chat_stream_has_only_data_and_comments_whatever_the_upstream_sends() {
    for route in [Route::ChatOpenAi, Route::ChatAnthropic] {
        let records = sse_text::comments(&sse_text::retry(&sse_text::ids(&route.records())));
        let stage = Stage::new([Exchange::sse(records)]);
        let answer = stage.open(route, "odd", true);
        assert_eq!(answer.header("cache-control").map(|v| v.contains("no-cache")), Some(true));
        assert_eq!(answer.header("x-accel-buffering"), Some("no"), "{route:?}");
        let text = answer.fetch().text();
        for line in text.lines().filter(|line| !line.is_empty()) {
            let legal = line.starts_with("data: ") || line.starts_with(':');
            assert!(legal, "{route:?}: {line}");
        }
        assert!(text.ends_with("data: [DONE]\n\n"), "{route:?}: {text}");
    }
}

#[test]
fn a_stream_without_done_after_its_finish_is_whole() {
    for route in [Route::ChatOpenAi, Route::ProxyOpenAi] {
        let mut records = route.records();
        records.pop();
        let stage = Stage::new([Exchange::sse(records)]);
        let outcome = stage.stream(route, "no-done");
        outcome.assert_ended_well(&format!("{route:?}"));
        assert_eq!(outcome.text, PIECES.concat(), "{route:?}");
        assert_eq!(outcome.done, !route.is_proxy(), "{route:?}: a proxy adds nothing");
        stage.assert_books(1, |_| true);
    }
}

#[test]
fn an_error_event_in_mid_stream_is_an_error_for_the_client_and_costs_nothing() {
    for route in Route::ALL {
        let mut records = route.opening();
        records.push(route.error_record("overloaded_error"));
        let stage = Stage::new([Exchange::sse(records)]);
        let outcome = stage.stream(route, "error-event");
        let what = format!("{route:?} {outcome:?}");
        outcome.assert_failed(&what);
        assert_eq!((outcome.status, outcome.error.is_some()), (200, true), "{what}");
        assert_eq!(outcome.finish, None, "{what}");
        stage.assert_books(1, |_| false);
    }
}

#[test]
fn an_error_event_before_any_output_is_a_real_status() {
    for route in [Route::ChatOpenAi, Route::ChatAnthropic] {
        let stage = Stage::new([Exchange::sse([route.error_record("overloaded_error")])]);
        let outcome = stage.stream(route, "error-first");
        assert!(outcome.status >= 500, "{route:?} {outcome:?}");
        stage.assert_books(1, |_| false);
    }
}

/// An upstream that compresses unasked: the client gets the right text or an explicit failure,
/// never garbage that looks like a success.
#[test]
fn an_upstream_that_compresses_unasked_never_gives_garbage() {
    for route in Route::ALL {
        let zipped = sse_text::gzip(&sse_text::joined(&route.records()));
        let zipped_json = sse_text::gzip(route.completion("whole").to_string().as_bytes());
        let stage = Stage::new([
            Exchange::sse([zipped.clone()]).header("content-encoding", "gzip").streaming(true),
            Exchange::bytes(200, "application/json", zipped_json.clone())
                .header("content-encoding", "gzip")
                .streaming(false),
        ]);
        let answer = stage.open(route, "gzip", true);
        if answer.header("content-encoding") == Some("gzip") {
            assert!(route.is_proxy(), "{route:?}: a translated stream is not compressed");
            assert_eq!(answer.fetch().body, zipped, "{route:?}");
        } else {
            let outcome = Outcome::read(answer);
            if outcome.done {
                outcome.assert_whole(&format!("{route:?}"));
            } else {
                outcome.assert_failed(&format!("{route:?}"));
            }
        }
        let whole = stage.open(route, "gzip", false).fetch();
        if whole.header("content-encoding") == Some("gzip") {
            assert_eq!(whole.body, zipped_json, "{route:?}");
        } else if whole.status == 200 {
            assert!(whole.json().to_string().contains("whole"), "{route:?}: {}", whole.text());
        } else {
            assert!(whole.status >= 500, "{route:?}: {}", whole.text());
        }
    }
}

/// A body that only the connection's end delimits is legal HTTP/1.1 and reads as empty in some
/// clients: whole or failed, never silently empty.
#[test]
fn a_body_that_ends_with_its_connection_is_whole_or_an_explicit_failure() {
    for route in Route::ALL {
        let json = route.completion("whole").to_string().into_bytes();
        let stage = Stage::new([
            Exchange::sse(route.records()).framed(Framing::Close).may_be_left().streaming(true),
            Exchange::bytes(200, "application/json", json)
                .framed(Framing::Close)
                .may_be_left()
                .streaming(false),
        ]);
        let outcome = stage.stream(route, "close-delimited");
        if outcome.done {
            outcome.assert_whole(&format!("{route:?}"));
        } else {
            outcome.assert_failed(&format!("{route:?}"));
        }
        let whole = stage.open(route, "close-delimited", false).fetch();
        let text = whole.text();
        assert!(whole.status >= 500 || text.contains("whole"), "{route:?}: {text}");
    }
}

#[test]
fn what_is_no_event_stream_is_an_error_and_never_an_empty_success() {
    for route in Route::ALL {
        let page = b"<html>Bad gateway</html>".to_vec();
        let stage = Stage::new([
            Exchange::bytes(200, "text/html", page.clone()).containing("html."),
            Exchange::sse(["data: {not json\n\n"]).containing("malformed."),
            Exchange::bytes(503, "text/html", page).containing("status."),
            Exchange::json(200, &json!({"choices": 3})).streaming(false).containing("shape."),
        ]);
        for marker in ["html.", "malformed.", "status."] {
            stage.stream(route, marker).assert_failed(&format!("{route:?} {marker}"));
        }
        if !route.is_proxy() {
            let answer = stage.open(route, "shape.", false).fetch();
            assert_eq!(answer.status, 502, "{route:?}: {}", answer.text());
        } else {
            let _relayed = stage.open(route, "shape.", false).fetch();
        }
    }
}
