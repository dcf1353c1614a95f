//! Credit that runs out in mid-answer: the official SDKs see an answer that reached its limit and a
//! normal end, and keep all that was streamed.

use std::time::Duration;

use serde_json::json;

use crate::{
    driver::{self, Call, Report},
    install::{self, Sdk},
    stage,
    support::{
        http::Request,
        ledger::{FINISH_CREDIT_EXHAUSTED, SETTLED},
        models,
        replies::{anthropic, openai},
        server::TestServer,
        upstream::{Exchange, Step, Upstream},
        wait_for,
    },
};

/// Three interpreters import their SDK at the same time, on a busy machine.
const SDKS_WITHIN: Duration = Duration::from_secs(120);
/// Output tokens that a stream holds at a time.
const SLICE: usize = 256;
/// What else the account can afford, tokens of output.
const REST: usize = 744;
/// One token of text, however it is counted.
const TOKEN: &str = "x ";
/// Input is free, so a hold is nothing but output.
const MODELS: &str = r#"
[model."free-gpt"]
provider = "scripted-openai"
context_tokens_max = 100_000
output_tokens_max = 2_000
input_usd_per_mtok = "0"
output_usd_per_mtok = "10.00"

[model."free-claude"]
provider = "scripted-anthropic"
context_tokens_max = 100_000
output_tokens_max = 2_000
output_tokens_default = 2_000
input_usd_per_mtok = "0"
output_usd_per_mtok = "10.00"
"#;

fn price(tokens: usize) -> i64 {
    models::with_markup(i64::try_from(tokens).expect("a small number") * 10_000)
}

/// An upstream that has begun its answer, and then writes until it is left.
fn endless(is_anthropic: bool) -> Exchange {
    let (mut records, opening, token) = if is_anthropic {
        (anthropic::stream(&[], 20, 1), 3, anthropic::text_delta(TOKEN))
    } else {
        (openai::stream(&[], 20, 1), 1, openai::text_delta(TOKEN))
    };
    records.truncate(opening);
    let begun = Exchange::sse(records).streaming(true).then_wait("go");
    begun.then_write(token.repeat(SLICE - 4)).then(Step::Repeat(token.into()))
}

/// Every version streams at once; when each has its first slice, a request takes all that is left.
#[track_caller]
fn cut_off(sdks: &[Sdk], is_anthropic: bool, base: &str, call: &Call) -> Vec<Report> {
    let count = sdks.len();
    let body = openai::completion("taken", 20, REST as u64);
    let (first, rest) = (String::from("{"), body.to_string().split_off(1));
    let taker = Exchange::bytes(200, "application/json", first.into())
        .streaming(false)
        .then_wait("free")
        .then_write(rest);
    let upstream = Upstream::start([endless(is_anthropic).times(count), taker]);
    let server = TestServer::builder()
        .env("FACES_HOLD_SLICE_TOKENS", &SLICE.to_string())
        .with_upstream(&upstream)
        .models(MODELS)
        .start();
    let credit = price(count * SLICE + REST);
    let account = server.account_with_usd(&models::usd(credit));
    let base_url = format!("{}{base}", server.url());
    let reports = std::thread::scope(|scope| {
        let calls = [call.clone()];
        let key = account.key.clone();
        let running = scope.spawn(move || driver::run(sdks, &base_url, &key, &calls));
        wait_for("every SDK's request", SDKS_WITHIN, || {
            (upstream.requests().len() == count).then_some(())
        });
        let mut take = stage::chat("free-gpt");
        take["max_tokens"] = json!(REST);
        let request = Request::post("/v1/chat/completions", &take).bearer(&account.key);
        let taken = request.send(server.address());
        upstream.wait_requests(count + 1);
        upstream.open("go");
        let reports = running.join().expect("the drivers report");
        upstream.open("free");
        assert_eq!(taken.answer().fetch().status, 200);
        reports
    });
    let ledger = server.ledger();
    let rows = ledger.wait_resolved(&account, count + 1);
    let cut: Vec<_> =
        rows.iter().filter(|row| row.finish == Some(FINISH_CREDIT_EXHAUSTED)).collect();
    assert_eq!(cut.len(), count, "{rows:#?}");
    for row in cut {
        assert_eq!((row.state, row.cost), (SETTLED, Some(price(SLICE))), "{row:?}");
    }
    assert_eq!(ledger.wallet(&account).balance(), 0);
    reports
}

#[test]
fn an_openai_client_sees_finish_reason_length() {
    let Some(sdks) = install::openai() else { return };
    for (model, is_anthropic) in [("free-gpt", false), ("free-claude", true)] {
        let call = Call::chat("cut", stage::with_usage(stage::chat(model))).streamed();
        let call = if is_anthropic { call.asynchronous() } else { call };
        for report in cut_off(sdks, is_anthropic, "/v1", &call) {
            report.assert("cut", "/finish_reason", "length");
            report.assert("cut", "/content", TOKEN.repeat(SLICE));
            let usage = &report.success("cut")["usage"]["completion_tokens"];
            assert!(usage.as_u64() >= Some(SLICE as u64), "{}: {usage}", report.sdk);
        }
    }
}

#[test]
fn an_anthropic_client_sees_stop_reason_max_tokens() {
    let Some(sdks) = install::anthropic() else { return };
    let mut params = stage::chat("free-claude");
    params["max_tokens"] = json!(REST);
    let call = Call::message("cut", params).streamed();
    for report in cut_off(sdks, true, "/v1/anthropic", &call) {
        report.assert("cut", "/stop_reason", "max_tokens");
        report.assert("cut", "/content", TOKEN.repeat(SLICE));
        report.assert("cut", "/streamed", TOKEN.repeat(SLICE));
    }
}
