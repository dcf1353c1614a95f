//! The kit itself: what it plays is what arrives.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{
    http::{End, Event, Request},
    replies::openai,
    sse_text,
    upstream::{Exchange, Framing, Left, Step, Upstream, sse_head},
};

fn address(upstream: &Upstream) -> std::net::SocketAddr {
    upstream.url().strip_prefix("http://").unwrap().parse().unwrap()
}

#[test]
fn a_json_answer_arrives_whole_and_the_request_is_recorded() {
    let upstream = Upstream::start([openai::json_exchange("hello", 3, 4)]);
    let body = json!({"model": "m", "messages": []});
    let request = Request::post("/v1/chat/completions?beta=true", &body).bearer("k");
    let answer = request.fetch(address(&upstream));
    assert_eq!((answer.status, answer.end), (200, End::Clean));
    assert_eq!(answer.json()["choices"][0]["message"]["content"], "hello");
    let recorded = upstream.only_request();
    assert_eq!(recorded.header("authorization"), Some("Bearer k"));
    assert_eq!(recorded.query.as_deref(), Some("beta=true"));
    assert_eq!(recorded.json(), body);
    upstream.finish();
}

#[test]
fn a_stream_arrives_in_every_spelling() {
    let plain = openai::stream(&["a", "b"], 1, 2);
    let spellings: [(&str, Vec<String>); 8] = [
        ("plain", plain.clone()),
        ("crlf", sse_text::crlf(&plain)),
        ("cr", sse_text::cr(&plain)),
        ("bom", sse_text::bom(&plain)),
        ("comments", sse_text::comments(&plain)),
        ("ids", sse_text::ids(&plain)),
        ("retry", sse_text::retry(&plain)),
        ("two lines", sse_text::multi_line_data(&plain)),
    ];
    let messages = |records: Vec<String>| {
        let upstream = Upstream::start([Exchange::sse(records)]);
        let mut events = Request::get("/").send(address(&upstream)).answer().events();
        let mut found = Vec::new();
        while let Some(event) = events.next_message() {
            found.push(event.json());
        }
        assert_eq!(events.end(), Some(End::Clean));
        found
    };
    let expected = messages(plain);
    assert_eq!(expected.len(), 6, "role, two deltas, finish, usage, [DONE]");
    for (name, records) in spellings {
        assert_eq!(messages(records), expected, "{name}");
    }
}

#[test]
fn every_cut_is_told_from_a_clean_end() {
    let open = || Exchange::new(vec![sse_head()]).then_write("data: 1\n\n");
    let cuts = [
        (open(), End::Clean),
        (open().then(Step::Fin), End::Truncated),
        (open().then(Step::CutMidChunk(b"data: 2".to_vec())), End::Truncated),
        (open().then_wait("read").then(Step::Reset), End::Reset),
        (open().framed(Framing::Length { missing: 5 }), End::Truncated),
        (open().framed(Framing::Close), End::Clean),
    ];
    for (number, (exchange, end)) in cuts.into_iter().enumerate() {
        let upstream = Upstream::start([exchange]);
        let mut events = Request::get("/").send(address(&upstream)).answer().events();
        let first = Event::Message { event: String::new(), data: "1".to_owned() };
        assert_eq!(events.next_message(), Some(first), "cut {number}");
        upstream.open("read");
        while events.next_message().is_some() {}
        assert_eq!(events.end(), Some(end), "cut {number}");
        upstream.wait_answered(0);
    }
}

#[test]
fn a_peer_that_leaves_is_seen_at_once_and_how() {
    for (rst, expected) in [(false, Left::Fin), (true, Left::Reset)] {
        let upstream = Upstream::start([Exchange::never()]);
        let sent = Request::get("/").send(address(&upstream));
        upstream.wait_requests(1);
        let since = Instant::now();
        if rst {
            sent.close_rst()
        } else {
            sent.close_fin()
        }
        let (left, after) = upstream.wait_left(0, since);
        assert_eq!(left, expected);
        assert!(after < Duration::from_secs(1), "{after:?}");
    }
}

#[test]
fn connections_are_kept_alive_between_exchanges() {
    let upstream = Upstream::start([openai::json_exchange("x", 1, 1).times(3)]);
    let agent = ureq::Agent::new_with_defaults();
    for _ in 0..3 {
        let url = format!("{}/v1/chat/completions", upstream.url());
        let text = agent.post(url).send("{}").unwrap().body_mut().read_to_string().unwrap();
        assert!(text.contains("chat.completion"));
    }
    assert_eq!(upstream.connection_count(), 1);
}

#[test]
fn a_script_that_is_not_kept_fails_the_test() {
    let unasked = Upstream::start([openai::json_exchange("x", 1, 1)]);
    assert_eq!(unasked.into_problems().len(), 1);
    let unexpected = Upstream::start([]);
    assert_eq!(Request::get("/").fetch(address(&unexpected)).status, 599);
    assert_eq!(unexpected.into_problems().len(), 1);
    let left_early = Upstream::start([Exchange::sse(["data: 1\n\n"]).then_wait("never opened")]);
    let sent = Request::get("/").send(address(&left_early));
    left_early.wait_requests(1);
    let since = Instant::now();
    sent.close_fin();
    left_early.wait_left(0, since);
    assert_eq!(left_early.into_problems().len(), 1);
}

#[test]
fn gzip_of_the_kit_is_gzip() {
    let expected = b"data: 1\n\n".repeat(10_000);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("text.gz");
    std::fs::write(&path, sse_text::gzip(&expected)).unwrap();
    let output = std::process::Command::new("gzip").arg("-dc").arg(&path).output().unwrap();
    assert!(output.status.success() && output.stdout == expected);
}
