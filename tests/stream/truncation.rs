//! A stream that was cut anywhere, in any way, is never a success for the client.

use crate::{
    route::{Route, Stage},
    support::{
        http::End,
        upstream::{Exchange, Framing, Step},
    },
};

/// The ways in which an upstream's response can break off after whole records.
const CUTS: [&str; 6] = ["terminator", "half-record", "fin", "mid-chunk", "reset", "length"];

/// Cuts the stream after `count` records.
fn cut(records: &[String], count: usize, how: &str) -> Exchange {
    let exchange = Exchange::sse(records[..count].to_vec());
    let next = records.get(count).map_or("data: {\"x\":", String::as_str);
    let half: String = next.chars().take(next.chars().count() / 2).collect();
    match how {
        "terminator" => exchange,
        "half-record" => exchange.then_write(half),
        "fin" => exchange.then(Step::Fin),
        "mid-chunk" => exchange.then(Step::CutMidChunk(half.into_bytes())),
        "reset" => exchange.then(Step::Reset),
        "length" => exchange.framed(Framing::Length { missing: 40 }),
        _ => unreachable!("{how}"),
    }
}

#[track_caller]
fn every_cut_at_every_boundary_is_told(route: Route) {
    let records = route.records();
    let cases: Vec<(usize, &str)> =
        (0..records.len()).flat_map(|count| CUTS.map(|how| (count, how))).collect();
    let script = cases
        .iter()
        .map(|(count, how)| cut(&records, *count, how).containing(&format!("cut-{count}-{how}.")));
    let stage = Stage::new(script.collect::<Vec<_>>());
    let mut whole = Vec::new();
    for (count, how) in &cases {
        let what = format!("{route:?} cut after {count} records by {how}");
        let outcome = stage.stream(route, &format!("cut-{count}-{how}."));
        if *count >= route.complete_at() {
            // All that matters had arrived: whole or failed, as long as it is told.
            if outcome.error.is_none() && outcome.end == Some(End::Clean) {
                outcome.assert_ended_well(&what);
                whole.push(true);
                continue;
            }
        } else if *count == 0 && !route.is_proxy() {
            assert!(outcome.status >= 500, "{what}: {outcome:?}");
        }
        outcome.assert_failed(&what);
        let finish_was_sent = records[..*count].iter().any(|record| {
            record.contains("\"finish_reason\":\"stop\"") || record.contains("\"end_turn\"")
        });
        assert!(finish_was_sent || outcome.finish.is_none(), "{what}: {outcome:?}");
        if !route.is_proxy() && *count < route.complete_at() {
            assert_eq!(outcome.finish, None, "{what}: an invented finish");
        }
        whole.push(false);
    }
    assert!(whole.contains(&false));
    // What failed costs the customer nothing.
    stage.assert_books(cases.len(), |number| whole[number]);
}

#[test]
fn every_cut_at_every_boundary_is_told_chat_openai() {
    every_cut_at_every_boundary_is_told(Route::ChatOpenAi);
}

#[test]
fn every_cut_at_every_boundary_is_told_chat_anthropic() {
    every_cut_at_every_boundary_is_told(Route::ChatAnthropic);
}

#[test]
fn every_cut_at_every_boundary_is_told_proxy_openai() {
    every_cut_at_every_boundary_is_told(Route::ProxyOpenAi);
}

#[test]
fn every_cut_at_every_boundary_is_told_proxy_anthropic() {
    every_cut_at_every_boundary_is_told(Route::ProxyAnthropic);
}

#[test]
fn every_cut_at_every_boundary_is_told_messages_openai() {
    every_cut_at_every_boundary_is_told(Route::MessagesOpenAi);
}

#[test]
fn every_cut_at_every_boundary_is_told_messages_anthropic() {
    every_cut_at_every_boundary_is_told(Route::MessagesAnthropic);
}

#[test]
fn every_cut_at_every_boundary_is_told_responses_openai() {
    every_cut_at_every_boundary_is_told(Route::ResponsesOpenAi);
}

#[test]
fn every_cut_at_every_boundary_is_told_responses_anthropic() {
    every_cut_at_every_boundary_is_told(Route::ResponsesAnthropic);
}

#[test]
fn a_json_answer_that_breaks_off_is_an_error_and_costs_nothing() {
    for route in Route::ALL {
        let text = route.completion("never whole").to_string();
        let (half, _) = text.split_at(text.len() / 2);
        let json = |bytes: &str| Exchange::bytes(200, "application/json", bytes.into());
        let chunked = |bytes: &str| json(bytes).framed(Framing::Chunked);
        let script = [
            json(half).framed(Framing::Length { missing: text.len() - half.len() }),
            json(half),
            json(""),
            chunked(half).then(Step::Fin),
            chunked("").then(Step::CutMidChunk(half.into())),
            json(half).framed(Framing::Length { missing: 9 }).then(Step::Reset),
        ];
        let count = script.len();
        let numbered = script.into_iter().enumerate();
        let script = numbered.map(|(number, cut)| cut.containing(&format!("json-{number}.")));
        let stage = Stage::new(script.collect::<Vec<_>>());
        for number in 0..count {
            let answer = stage.open(route, &format!("json-{number}."), false).fetch();
            let what = format!("{route:?} cut {number}: {} {}", answer.status, answer.text());
            assert!(answer.status >= 500 || answer.end != End::Clean, "{what}");
            assert!(!answer.text().contains("never whole"), "{what}");
        }
        stage.assert_books(count, |_| false);
    }
}
