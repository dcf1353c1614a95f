//! Credit that a stream takes while it runs: invisible while there is some, and where it ends the
//! answer ends, as an answer that reached its limit, charged exactly.

use std::time::Instant;

use serde_json::{Value, json};

use crate::{
    postgres,
    route::{Outcome, Route},
    support::{
        BOUND, PROMPT_CANARY,
        http::{Answer, End, Event, Events, Request},
        ledger::{
            FINISH_COMPLETE, FINISH_CREDIT_EXHAUSTED, FINISH_RECOVERED, OPEN, RECOVERED, Row,
            SETTLED,
        },
        models,
        replies::{anthropic, openai},
        server::{Account, Builder, TestServer},
        upstream::{Exchange, Recorded, Step, Upstream},
        wait_for,
    },
};

/// A small slice, so that a short stream has several.
const SLICE: i64 = 256;
/// One token of text: a delta of two bytes, so that no way of counting it gives more.
const TOKEN: &str = "x ";
/// Free input and long answers, in both formats; the third hides a part of what it bills.
const MODELS: &str = r#"
[model."long-gpt"]
provider = "scripted-openai"
context_tokens_max = 400_000
output_tokens_max = 128_000
output_tokens_default = 128_000
input_usd_per_mtok = "0"
output_usd_per_mtok = "10.00"

[model."long-claude"]
provider = "scripted-anthropic"
context_tokens_max = 400_000
output_tokens_max = 128_000
output_tokens_default = 128_000
input_usd_per_mtok = "0"
output_usd_per_mtok = "10.00"

[model."long-thinker"]
provider = "scripted-openai"
context_tokens_max = 400_000
output_tokens_max = 128_000
input_usd_per_mtok = "0"
output_usd_per_mtok = "10.00"
hidden_reasoning = "always"
"#;

/// Price of output, nano-USD.
fn price(tokens: i64) -> i64 {
    models::with_markup(tokens * 10_000)
}

/// A server of these models, and an account with credit for so many tokens. Dropped in this order.
struct Stage {
    server: TestServer,
    account: Account,
    upstream: Upstream,
}

impl Stage {
    #[track_caller]
    fn with(
        script: impl IntoIterator<Item = Exchange>,
        builder: Builder,
        credit_nanousd: i64,
    ) -> Self {
        let upstream = Upstream::start(script);
        let server = builder.with_upstream(&upstream).models(MODELS).start();
        let account = server.account_with_usd(&models::usd(credit_nanousd));
        server.alice(&account);
        Self { server, account, upstream }
    }

    /// The same with a small slice.
    #[track_caller]
    fn sliced(script: impl IntoIterator<Item = Exchange>, builder: Builder, tokens: i64) -> Self {
        let slice = SLICE.to_string();
        Self::with(script, builder.env("FACES_HOLD_SLICE_TOKENS", &slice), price(tokens))
    }

    #[track_caller]
    fn open(&self, route: Route, fields: &Value) -> Answer {
        request(route, &self.account, fields).send(self.server.address()).answer()
    }

    #[track_caller]
    fn rows(&self, count: usize) -> Vec<Row> {
        self.server.ledger().wait_resolved(&self.account, count)
    }

    #[track_caller]
    fn only_hold(&self) -> Row {
        let rows = self.server.ledger().holds(&self.account);
        assert_eq!(rows.len(), 1, "{rows:#?}");
        rows[0].clone()
    }
}

fn model(route: Route) -> &'static str {
    match route {
        Route::ChatOpenAi | Route::MessagesOpenAi | Route::ResponsesOpenAi => "alice@long-gpt",
        Route::ChatAnthropic | Route::MessagesAnthropic | Route::ResponsesAnthropic => {
            "alice@long-claude"
        }
        Route::ProxyOpenAi => "long-gpt",
        Route::ProxyAnthropic => "long-claude",
    }
}

/// A streaming request, with further fields.
fn request(route: Route, account: &Account, fields: &Value) -> Request {
    let mut body = json!({"model": model(route), "stream": true,
        "messages": [{"role": "user", "content": PROMPT_CANARY}]});
    for (name, value) in fields.as_object().expect("fields") {
        body[name] = value.clone();
    }
    route.sign(Request::post(route.path(), &route.adapt(body)), &account.key)
}

/// The records before the first token of text, and those after the last.
fn around(route: Route, output: i64) -> (Vec<String>, Vec<String>) {
    let output = output.unsigned_abs();
    let (mut opening, before_text) = if route.upstream_is_anthropic() {
        (anthropic::stream(&[], 20, output), 3)
    } else {
        (openai::stream(&[], 20, output), 1)
    };
    let closing = opening.split_off(before_text);
    (opening, closing)
}

/// An upstream that has begun its answer and waits for `gate` before its first token.
fn opened(route: Route, gate: &str) -> Exchange {
    Exchange::sse(around(route, 0).0).streaming(true).then_wait(gate)
}

/// Appends so many tokens, some of them in one write.
fn then_tokens(mut exchange: Exchange, route: Route, tokens: i64) -> Exchange {
    let mut left = usize::try_from(tokens).expect("a count");
    while left > 0 {
        let now = left.min(10);
        exchange = exchange.then_write(route.text_delta(TOKEN).repeat(now));
        left -= now;
    }
    exchange
}

/// Appends the answer's end with its usage.
fn then_end(exchange: Exchange, route: Route, output: i64) -> Exchange {
    around(route, output).1.into_iter().fold(exchange, Exchange::then_write)
}

fn tokens_of(text: &str) -> i64 {
    i64::try_from(text.matches(TOKEN).count()).expect("a count")
}

/// Reads until so many tokens have come.
#[track_caller]
fn read_tokens(events: &mut Events, outcome: &mut Outcome, tokens: i64) {
    while tokens_of(&outcome.text) < tokens {
        let event = events.next_event();
        let event = event.unwrap_or_else(|| panic!("it ended: {:?} {outcome:?}", events.end()));
        outcome.take(&event);
    }
}

#[track_caller]
fn read_rest(mut events: Events, mut outcome: Outcome) -> Outcome {
    while let Some(event) = events.next_event() {
        outcome.take(&event);
    }
    outcome.end = events.end();
    outcome
}

/// A stream of more than four slices that stands still before its last tokens: all that came has
/// been shown, and is held.
#[track_caller]
fn is_extended(route: Route, builder: Builder) {
    let (before, all) = (4 * SLICE, 4 * SLICE + 100);
    let script = then_tokens(opened(route, "go"), route, before).then_wait("end");
    let script = then_end(then_tokens(script, route, 100), route, all);
    let stage = Stage::sliced([script], builder, 10_000);
    let answer = stage.open(route, &json!({"max_tokens": 5_000}));
    let mut outcome = Outcome { status: answer.status, ..Outcome::default() };
    let mut events = answer.events();
    assert_eq!(stage.only_hold().amount, price(SLICE), "{route:?}: a slice is held at first");
    stage.upstream.open("go");
    read_tokens(&mut events, &mut outcome, before);
    // An extension is decided in memory; its row follows with a later flush.
    wait_for("the extended hold", BOUND, || {
        let hold = stage.only_hold();
        (hold.state == OPEN && hold.amount >= price(before)).then_some(())
    });
    stage.upstream.open("end");
    let outcome = read_rest(events, outcome);
    outcome.assert_ended_well(&format!("{route:?}"));
    assert!(outcome.done && tokens_of(&outcome.text) == all, "{route:?}: {outcome:?}");
    let row = stage.rows(1).remove(0);
    assert_eq!((row.state, row.finish), (SETTLED, Some(FINISH_COMPLETE)), "{route:?}: {row:?}");
    assert_eq!((row.output, row.cost), (all, Some(price(all))), "{route:?}: {row:?}");
    let wallet = stage.server.ledger().wallet(&stage.account);
    assert_eq!(wallet.balance(), price(10_000 - all), "{route:?}: {wallet:?}");
}

#[test]
fn a_long_stream_takes_more_credit_as_it_goes_and_nobody_sees_it() {
    for route in Route::ALL {
        is_extended(route, TestServer::builder());
    }
}

#[test]
fn a_long_stream_takes_more_credit_as_it_goes_on_postgresql() {
    on_postgres(|builder| is_extended(Route::ChatOpenAi, builder));
}

#[test]
fn two_dollars_run_several_streams_of_a_model_with_long_answers_at_once() {
    // 128,000 tokens cost 1.344 USD: the whole of one such hold, and no second one.
    for route in [Route::ChatOpenAi, Route::ChatAnthropic, Route::ProxyOpenAi] {
        let script = then_end(then_tokens(opened(route, "go"), route, 5), route, 5).times(3);
        let stage = Stage::with([script], TestServer::builder(), 2_000_000_000);
        let answers: Vec<Answer> = (0..3).map(|_| stage.open(route, &json!({}))).collect();
        let told: Vec<Option<u64>> = answers
            .iter()
            .map(|answer| Some(answer.header("x-faces-max-tokens")?.parse().expect("a number")))
            .collect();
        let sent: Vec<Option<u64>> = stage.upstream.wait_requests(3).iter().map(limit).collect();
        // The credit pays for the first whole, and for the others once the slices are set aside.
        assert_eq!(told, [None; 3], "{route:?}: nothing had to be made shorter");
        let default = route.upstream_is_anthropic().then_some(128_000);
        assert_eq!(sent, [default; 3], "{route:?}");
        stage.upstream.open("go");
        for answer in answers {
            Outcome::read(answer).assert_ended_well(&format!("{route:?}"));
        }
        assert!(stage.rows(3).iter().all(|row| row.cost == Some(price(5))), "{route:?}");
    }
}

/// The output limit that the upstream was told.
fn limit(request: &Recorded) -> Option<u64> {
    request.json()["max_tokens"].as_u64()
}

#[test]
fn a_limit_is_made_as_long_as_the_account_can_afford_although_less_is_held() {
    let route = Route::ChatOpenAi;
    let script = then_end(then_tokens(opened(route, "go"), route, 5), route, 5).times(2);
    let stage = Stage::sliced([script], TestServer::builder(), 1_000);
    let answers: Vec<Answer> = (0..2).map(|_| stage.open(route, &json!({}))).collect();
    let told: Vec<_> = answers.iter().map(|it| it.header("x-faces-max-tokens")).collect();
    assert_eq!(told, [Some("1000"), Some("744")], "the second beside a slice of the first");
    let sent: Vec<Option<u64>> = stage.upstream.wait_requests(2).iter().map(limit).collect();
    assert_eq!(sent, [Some(1_000), Some(744)]);
    let ledger = stage.server.ledger();
    let amounts = ledger.holds(&stage.account).into_iter().map(|row| row.amount);
    assert_eq!(amounts.collect::<Vec<_>>(), [price(SLICE); 2]);
    stage.upstream.open("go");
    for answer in answers {
        Outcome::read(answer).assert_ended_well("clamped");
    }
    stage.rows(2);
}

#[test]
fn an_answer_that_ends_at_the_limit_that_was_paid_for_is_whole() {
    for route in Route::ALL {
        // Four bytes each: the provider may have counted twice as many tokens, and did not.
        let words = route.text_delta("xyz ").repeat(100);
        let script =
            (0..10).fold(opened(route, "go"), |script, _| script.then_write(words.clone()));
        let stage = Stage::sliced([then_end(script, route, 1_000)], TestServer::builder(), 1_000);
        let answer = stage.open(route, &json!({"max_tokens": 1_000}));
        stage.upstream.open("go");
        let outcome = Outcome::read(answer);
        outcome.assert_ended_well(&format!("{route:?}"));
        assert_eq!(outcome.text.len(), 4_000, "{route:?}");
        let row = stage.rows(1).remove(0);
        assert_eq!((row.finish, row.cost), (Some(FINISH_COMPLETE), Some(price(1_000))), "{row:?}");
        assert_eq!(stage.server.ledger().wallet(&stage.account).balance(), 0, "{route:?}");
    }
}

#[test]
fn a_stream_that_asks_for_more_than_the_account_can_afford_is_refused_at_once() {
    let script = then_end(
        then_tokens(opened(Route::ChatOpenAi, "go"), Route::ChatOpenAi, 5),
        Route::ChatOpenAi,
        5,
    );
    let stage = Stage::sliced([script], TestServer::builder(), 1_000);
    let refused = stage.open(Route::ChatOpenAi, &json!({"max_tokens": 1_001})).fetch();
    assert_eq!(refused.status, 402, "{}", refused.text());
    let error = &refused.json()["error"];
    assert_eq!(error["reason"], "hold_exceeds_balance", "{error}");
    assert_eq!(error["max_affordable_tokens"], 1_000, "{error}");
    assert_eq!(stage.upstream.requests().len(), 0);
    let served = stage.open(Route::ChatOpenAi, &json!({"max_tokens": 1_000}));
    stage.upstream.open("go");
    Outcome::read(served).assert_ended_well("what is affordable is served");
}

#[test]
fn what_a_stream_does_not_show_is_held_from_its_beginning() {
    let route = Route::ProxyOpenAi;
    let script = then_end(opened(route, "go"), route, 900);
    let stage = Stage::sliced([script], TestServer::builder(), 10_000);
    let fields = json!({"model": "long-thinker", "max_tokens": 1_000});
    let answer = stage.open(route, &fields);
    assert_eq!(stage.only_hold().amount, price(1_000), "not in slices");
    stage.upstream.open("go");
    Outcome::read(answer).assert_ended_well("reasoned without a word");
    assert_eq!(stage.rows(1)[0].cost, Some(price(900)));
}

/// What a client saw of an answer that was cut off.
#[derive(Debug, Default)]
struct Cut {
    tokens: i64,
    /// Data of the records after the last token of text.
    last: Vec<Value>,
    done: bool,
    end: Option<End>,
}

#[track_caller]
fn read_cut(answer: Answer) -> Cut {
    let mut cut = Cut::default();
    let mut events = answer.events();
    while let Some(event) = events.next_message() {
        let Event::Message { data, .. } = &event else { continue };
        if data == "[DONE]" || data.contains("message_stop") {
            cut.done = true;
            continue;
        }
        if data.contains("\"response.incomplete\"") {
            cut.last.push(event.json().expect("JSON"));
            cut.done = true;
            continue;
        }
        let value = event.json().expect("JSON");
        let text = value["choices"][0]["delta"]["content"].as_str();
        let text = text.or_else(|| value["delta"]["text"].as_str());
        match text.or_else(|| value["delta"].as_str()) {
            Some(text) if text == TOKEN => cut.tokens += 1,
            Some(_) => {}
            None if cut.tokens > 0 => cut.last.push(value),
            None => {}
        }
    }
    cut.end = events.end();
    cut
}

impl Cut {
    /// Asserts the last words in the route's format: a limit was reached, because of the credit.
    #[track_caller]
    fn assert_told(&self, route: Route) {
        let what = format!("{route:?}: {self:#?}");
        assert!(self.done && self.end == Some(End::Clean), "{what}");
        assert_eq!(self.tokens, SLICE, "all that was held for is shown: {what}");
        if route.tells_responses() {
            let names: Vec<&str> = self.last.iter().filter_map(|it| it["type"].as_str()).collect();
            let ends = ["output_text.done", "content_part.done", "output_item.done", "incomplete"];
            assert_eq!(names, ends.map(|name| format!("response.{name}")), "{what}");
            let response = &self.last[3]["response"];
            assert_eq!(response["status"], "incomplete", "{what}");
            let details = &response["incomplete_details"];
            assert_eq!(details["reason"], "max_output_tokens", "{what}");
            assert_eq!(details["error"]["code"], "credit_exhausted", "{what}");
            assert!(response["usage"]["output_tokens"].as_i64() >= Some(SLICE), "{what}");
            return;
        }
        if route.tells_anthropic() {
            let [stop, delta] = &self.last[..] else { panic!("{what}") };
            assert_eq!(stop["type"], "content_block_stop", "{what}");
            assert_eq!(delta["delta"]["stop_reason"], "max_tokens", "{what}");
            assert!(delta["usage"]["output_tokens"].as_i64() >= Some(SLICE), "{what}");
            assert_eq!(delta["error"]["details"]["error_code"], "credit_exhausted", "{what}");
            return;
        }
        let [finish, usage] = &self.last[..] else { panic!("{what}") };
        let choice = &finish["choices"][0];
        assert_eq!(choice["finish_reason"], "length", "{what}");
        assert_eq!(choice["error"]["code"], "credit_exhausted", "{what}");
        assert_eq!(finish.get("error"), None, "SDKs would raise: {what}");
        assert!(usage["usage"]["completion_tokens"].as_i64() >= Some(SLICE), "{what}");
    }
}

/// A stream has taken its first slice when another request takes all that is left.
#[track_caller]
fn is_cut_off(route: Route, builder: Builder) {
    let left = 1_000 - SLICE;
    let script = then_tokens(opened(route, "go"), route, SLICE - 6);
    let script = script.then(Step::Repeat(route.text_delta(TOKEN).into()));
    let body = openai::completion("taken", 20, left.unsigned_abs()).to_string();
    let (first, rest) = body.split_at(1);
    let taker = Exchange::bytes(200, "application/json", first.into())
        .streaming(false)
        .then_wait("free")
        .then_write(rest);
    let stage = Stage::sliced([script, taker], builder, 1_000);
    let mut fields = json!({"max_tokens": 1_000});
    if !route.tells_anthropic() && !route.tells_responses() {
        fields["stream_options"] = json!({"include_usage": true});
    }
    let answer = stage.open(route, &fields);
    assert_eq!(answer.status, 200, "{route:?}");
    let taken = json!({"stream": false, "max_tokens": left});
    let taken = request(Route::ProxyOpenAi, &stage.account, &taken).send(stage.server.address());
    stage.upstream.wait_requests(2);
    let since = Instant::now();
    stage.upstream.open("go");
    read_cut(answer).assert_told(route);
    stage.upstream.wait_left(0, since);
    let rows = stage.server.ledger().holds(&stage.account);
    let row = rows.iter().find(|row| row.state != OPEN).expect("the settlement is written");
    let how = (row.state, row.finish, row.amount, row.cost);
    let expected = (SETTLED, Some(FINISH_CREDIT_EXHAUSTED), price(SLICE), Some(price(SLICE)));
    assert_eq!(how, expected, "{route:?}: {row:?}");
    stage.upstream.open("free");
    assert_eq!(taken.answer().fetch().status, 200, "{route:?}");
    stage.rows(2);
    let wallet = stage.server.ledger().wallet(&stage.account);
    assert_eq!((wallet.balance(), wallet.leased), (0, 0), "{route:?}: {wallet:?}");
    wait_for("the access line", BOUND, || {
        stage.server.log().contains("finish=credit_exhausted").then_some(())
    });
}

#[test]
fn a_stream_whose_credit_runs_out_ends_as_one_that_reached_its_limit() {
    for route in Route::ALL {
        is_cut_off(route, TestServer::builder());
    }
}

#[test]
fn a_stream_whose_credit_runs_out_ends_the_same_way_on_postgresql() {
    on_postgres(|builder| is_cut_off(Route::ProxyAnthropic, builder));
}

#[test]
fn a_crash_in_mid_stream_charges_what_had_been_written_down() {
    let route = Route::ChatOpenAi;
    let script = then_tokens(opened(route, "go"), route, 600).then(Step::Stall);
    let mut stage = Stage::sliced([script], TestServer::builder(), 10_000);
    let mut events = stage.open(route, &json!({})).events();
    stage.upstream.open("go");
    read_tokens(&mut events, &mut Outcome::default(), 600);
    wait_for("a checkpoint", BOUND, || (stage.only_hold().checkpoint > 0).then_some(()));
    stage.server.kill();
    stage.server.start_again();
    let row = stage.rows(1).remove(0);
    let how = (row.state, row.finish);
    assert_eq!(how, (RECOVERED, Some(FINISH_RECOVERED)), "{row:?}");
    let cost = row.cost.expect("a charge");
    assert!(cost > 0 && cost <= price(600), "no more than was sent: {row:?}");
    let wallet = stage.server.ledger().wallet(&stage.account);
    assert_eq!(wallet.balance(), price(10_000) - cost, "{wallet:?}");
}

fn on_postgres(test: impl Fn(Builder)) {
    match postgres::cluster() {
        Ok(cluster) => {
            let database = cluster.database();
            test(TestServer::builder().with_postgres(&database.url));
        }
        Err(why) => postgres::skipped(why),
    }
}
