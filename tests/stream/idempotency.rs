//! `Idempotency-Key`: of all requests with the same key one is run and billed, whatever happens to
//! it, to its client, to its server; and the key never stands in the log.

use serde_json::{Value, json};

use crate::{
    postgres,
    route::{INPUT, OUTPUT, Outcome, Route, Stage},
    support::{
        BOUND, PROMPT_CANARY,
        http::{Fetched, Request},
        ledger::{SETTLED, VOIDED},
        models::{self, FREE_INPUT_MODEL, FREE_INPUT_OUTPUT_NANOUSD, FREE_MODEL},
        replies::openai,
        server::{Builder, TestServer},
        upstream::{Exchange, Step, Upstream},
        wait_for,
    },
};

const KEY: &str = "IDEMPOTENCY-CANARY-\"e41d\"";

fn with_key(request: Request) -> Request {
    request.header("Idempotency-Key", KEY)
}

#[track_caller]
fn stage(script: impl IntoIterator<Item = Exchange>, builder: Builder) -> Stage {
    let stage = Stage::with(script, builder);
    stage.server.plant_secret(KEY);
    stage
}

/// Sends a request with the key and reads its answer.
#[track_caller]
fn ask(stage: &Stage, route: Route, marker: &str, stream: bool) -> Fetched {
    let request = with_key(route.request(&stage.account.key, marker, stream));
    request.fetch(stage.server.address())
}

fn answer(route: Route) -> Exchange {
    Exchange::json(200, &route.completion("said once"))
}

/// The code of an error in the route's dialect, and where its further fields stand.
fn error_of(route: Route, answer: &Fetched) -> (String, Value) {
    let error = answer.json()["error"].clone();
    let (code, details) = match route {
        route if route.tells_anthropic() => {
            (error["details"]["error_code"].clone(), error["details"].clone())
        }
        _ => (error["code"].clone(), error.clone()),
    };
    (code.as_str().unwrap_or_default().to_owned(), details)
}

#[track_caller]
fn assert_in_progress(route: Route, answer: &Fetched) {
    let code = error_of(route, answer).0;
    assert_eq!((answer.status, code.as_str()), (409, "idempotency_in_progress"), "{route:?}");
    assert!(answer.header("retry-after").is_some(), "{route:?}: {}", answer.text());
    assert_eq!(answer.header("x-should-retry"), Some("true"), "{route:?}");
}

/// Asserts the 409 of a finished request whose answer was not kept; its usage and cost.
#[track_caller]
fn assert_completed(route: Route, answer: &Fetched) -> (u64, u64, f64) {
    let (code, details) = error_of(route, answer);
    assert_eq!((answer.status, code.as_str()), (409, "already_completed"), "{}", answer.text());
    assert_eq!(answer.header("x-should-retry"), Some("false"), "{route:?}");
    let usage = &details["usage"];
    let names = match route {
        route if route.tells_anthropic() => ["input_tokens", "output_tokens"],
        _ => ["prompt_tokens", "completion_tokens"],
    };
    let tokens = names.map(|name| usage[name].as_u64().expect("a count of tokens"));
    (tokens[0], tokens[1], details["cost_usd"].as_f64().expect("a cost"))
}

#[test]
fn a_json_answer_is_given_again_byte_by_byte_and_charged_once() {
    for route in Route::ALL {
        let stage = stage([answer(route)], TestServer::builder());
        let first = ask(&stage, route, "same", false);
        assert_eq!((first.status, first.header("idempotency-replayed")), (200, None));
        let again = ask(&stage, route, "same", false);
        assert_eq!((again.status, &again.body), (200, &first.body), "{route:?}");
        assert_eq!(again.header("idempotency-replayed"), Some("true"), "{route:?}");
        assert_eq!(again.header("content-type"), first.header("content-type"), "{route:?}");
        // The scope is the account, not the API key.
        let other_key = stage.server.key(&stage.account.id, &[]);
        let request = with_key(route.request(&other_key, "same", false));
        assert_eq!(request.fetch(stage.server.address()).body, first.body, "{route:?}");
        let rows = stage.assert_books(1, |_| true);
        assert_eq!(rows[0].state, SETTLED, "{rows:?}");
    }
}

#[test]
fn the_same_key_with_another_body_or_path_is_refused() {
    for route in Route::ALL {
        let stage = stage([answer(route)], TestServer::builder());
        assert_eq!(ask(&stage, route, "first", false).status, 200);
        let other = ask(&stage, route, "second", false);
        let code = error_of(route, &other).0;
        assert_eq!((other.status, code.as_str()), (422, "idempotency_key_reused"), "{route:?}");
        assert!(other.text().contains("new key"), "{}", other.text());
        if route == Route::ProxyOpenAi {
            let (key, model) = (&stage.account.key, models::OPENAI_MODEL);
            let body = json!({"model": model, "messages": []});
            for path in ["/v1/openai/chat/completions", "/v1/chat/completions"] {
                let moved = with_key(Request::post(path, &body).bearer(key));
                assert_eq!(moved.fetch(stage.server.address()).status, 422, "{path}");
            }
        }
        stage.assert_books(1, |_| true);
    }
}

#[test]
fn a_key_of_one_account_means_nothing_to_another() {
    let route = Route::ProxyOpenAi;
    let stage = stage([answer(route).times(2)], TestServer::builder());
    assert_eq!(ask(&stage, route, "same", false).status, 200);
    let other = stage.server.account();
    let request = with_key(route.request(&other.key, "same", false));
    let answer = request.fetch(stage.server.address());
    assert_eq!((answer.status, answer.header("idempotency-replayed")), (200, None));
    stage.assert_books(1, |_| true);
}

#[test]
fn a_running_stream_is_in_progress_and_a_finished_one_tells_what_it_cost() {
    for route in Route::ALL {
        let opened = Exchange::sse(route.opening()).then_wait("go on");
        let script = route.closing().into_iter().fold(opened, Exchange::then_write);
        let stage = stage([script], TestServer::builder());
        let request = with_key(route.request(&stage.account.key, "slow", true));
        let mut events = request.send(stage.server.address()).answer().events();
        let mut seen = Outcome { status: 200, ..Outcome::default() };
        while seen.text.is_empty() {
            seen.take(&events.next_event().expect("a first delta"));
        }
        assert_in_progress(route, &ask(&stage, route, "slow", true));
        stage.upstream.open("go on");
        while let Some(event) = events.next_event() {
            seen.take(&event);
        }
        seen.end = events.end();
        seen.assert_whole(&format!("{route:?}"));
        let (input, output, cost) = assert_completed(route, &ask(&stage, route, "slow", true));
        let rows = stage.assert_books(1, |_| true);
        assert_eq!((input, output), (INPUT, OUTPUT), "{route:?}");
        let charged = rows[0].cost.expect("a charge");
        assert_eq!((cost * 1e9).round() as i64, charged, "{route:?}");
    }
}

#[test]
fn a_client_that_left_is_told_later_what_it_paid() {
    for route in Route::ALL {
        let script = Exchange::sse(route.opening()).then(Step::Stall).may_be_left();
        let stage = stage([script], TestServer::builder());
        let request = with_key(route.request(&stage.account.key, "left", true));
        let mut events = request.send(stage.server.address()).answer().events();
        let mut seen = Outcome::default();
        while seen.text.is_empty() {
            seen.take(&events.next_event().expect("a first delta"));
        }
        events.close_fin();
        let rows = stage.assert_books(1, |_| true);
        let (input, output, _) = assert_completed(route, &ask(&stage, route, "left", true));
        let billed = (rows[0].input.unsigned_abs(), rows[0].output.unsigned_abs());
        assert_eq!((input, output), billed, "{route:?}");
    }
}

#[test]
fn what_the_provider_refused_or_broke_off_may_be_tried_again_with_the_key() {
    for route in Route::ALL {
        let refused = Exchange::json(429, &route.error_body("rate_limit_error"));
        let broken = Exchange::sse(route.opening()).then(Step::Fin);
        let script = [refused, broken.streaming(true), answer(route)];
        let stage = stage(script, TestServer::builder());
        let refused = ask(&stage, route, "json", false);
        assert_eq!(refused.status, 429, "{route:?}: {}", refused.text());
        let request = with_key(route.request(&stage.account.key, "stream", true));
        Outcome::read(request.send(stage.server.address()).answer()).assert_failed("broken");
        let served = ask(&stage, route, "json", false);
        assert_eq!(served.status, 200, "{route:?}: {}", served.text());
        let rows = stage.assert_books(3, |_| true);
        assert_eq!((rows[0].state, rows[2].state), (VOIDED, SETTLED), "{rows:?}");
    }
}

#[test]
fn an_answer_over_the_limit_is_billed_and_not_kept() {
    let builder = TestServer::builder().env("FACES_IDEMPOTENCY_BODY_BYTES_MAX", "20");
    let stage = stage([answer(Route::ChatOpenAi)], builder);
    assert_eq!(ask(&stage, Route::ChatOpenAi, "large", false).status, 200);
    let again = ask(&stage, Route::ChatOpenAi, "large", false);
    let (input, output, _) = assert_completed(Route::ChatOpenAi, &again);
    assert_eq!((input, output), (INPUT, OUTPUT));
    stage.assert_books(1, |_| true);
}

#[test]
fn a_repetition_needs_no_credit_and_what_was_not_affordable_keeps_no_key() {
    let upstream = Upstream::start([openai::json_exchange("paid", 10, 100)]);
    let server = TestServer::with_upstream(&upstream);
    server.plant_secret(KEY);
    let price = models::with_markup(100 * FREE_INPUT_OUTPUT_NANOUSD);
    let account = server.account_with_usd(&format!("0.{price:09}"));
    let ask = |key: &str, max_tokens: u64| {
        let body = json!({"model": FREE_INPUT_MODEL, "max_tokens": max_tokens,
            "messages": [{"role": "user", "content": PROMPT_CANARY}]});
        let request = Request::post("/v1/chat/completions", &body).bearer(&account.key);
        request.header("idempotency-key", key).fetch(server.address())
    };
    assert_eq!(ask(KEY, 101).status, 402);
    let first = ask(KEY, 100);
    assert_eq!(first.status, 200, "another body: the key was not taken: {}", first.text());
    assert_eq!(ask("new", 100).status, 402, "nothing is left");
    let again = ask(KEY, 100);
    assert_eq!((again.status, again.body), (200, first.body));
}

#[test]
fn a_free_model_answers_a_key_once_too() {
    let upstream = Upstream::start([openai::json_exchange("free", 10, 100)]);
    let server = TestServer::with_upstream(&upstream);
    server.plant_secret(KEY);
    let account = server.account_with_usd("0");
    let body = json!({"model": FREE_MODEL, "messages": [{"role": "user", "content": "hello"}]});
    let request = with_key(Request::post("/v1/chat/completions", &body).bearer(&account.key));
    let first = request.fetch(server.address());
    assert_eq!(first.status, 200, "{}", first.text());
    let again = request.fetch(server.address());
    assert_eq!(again.header("idempotency-replayed"), Some("true"), "{}", again.text());
    assert_eq!(again.body, first.body);
    let rows = server.ledger().wait_resolved(&account, 1);
    assert_eq!((rows[0].state, rows[0].amount, rows[0].cost), (SETTLED, 0, Some(0)));
}

#[test]
fn a_header_that_is_no_key_is_refused_with_the_fix_in_every_dialect() {
    let stage = stage([], TestServer::builder());
    let too_long = "x".repeat(256);
    for route in Route::ALL {
        for bad in [vec![""], vec!["two words"], vec!["é"], vec![&too_long], vec!["a", "b"]] {
            let mut request = route.request(&stage.account.key, "bad", false);
            for value in &bad {
                request = request.header("Idempotency-Key", value);
            }
            let refused = request.fetch(stage.server.address());
            assert_eq!(refused.status, 422, "{route:?} {bad:?}: {}", refused.text());
            let message = refused.json()["error"]["message"].to_string();
            assert!(message.contains("Idempotency-Key") && message.contains("255"), "{message}");
        }
    }
    assert!(stage.server.ledger().holds(&stage.account).is_empty());
}

#[track_caller]
fn one_of_sixty_four_is_run(builder: Builder) {
    const CLIENTS: usize = 64;
    let body = Route::ChatOpenAi.completion("said once").to_string();
    let (first, rest) = body.split_at(1);
    let script = Exchange::bytes(200, "application/json", first.into())
        .then_wait("decided")
        .then_write(rest);
    let stage = stage([script], builder);
    let request = with_key(Route::ChatOpenAi.request(&stage.account.key, "same", false));
    let answers: Vec<Fetched> = std::thread::scope(|scope| {
        let ask = || request.fetch(stage.server.address());
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(ask)).collect();
        wait_for("63 refusals", BOUND, || {
            let ended = clients.iter().filter(|client| client.is_finished()).count();
            (ended == CLIENTS - 1).then_some(())
        });
        stage.upstream.open("decided");
        clients.into_iter().map(|client| client.join().expect("the client ends")).collect()
    });
    let served = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!(served, 1);
    for refused in answers.iter().filter(|answer| answer.status != 200) {
        assert_in_progress(Route::ChatOpenAi, refused);
    }
    let again = request.fetch(stage.server.address());
    assert_eq!(again.header("idempotency-replayed"), Some("true"), "{}", again.text());
    stage.assert_books(1, |_| true);
}

#[test]
fn of_sixty_four_at_once_one_is_run_and_charged_on_sqlite() {
    one_of_sixty_four_is_run(TestServer::builder());
}

#[test]
fn of_sixty_four_at_once_one_is_run_and_charged_on_postgresql() {
    match postgres::cluster() {
        Ok(cluster) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let database = runtime.expect("a runtime").block_on(cluster.create_database());
            one_of_sixty_four_is_run(TestServer::builder().with_postgres(&database.url));
        }
        Err(why) => postgres::skipped(why),
    }
}

#[test]
fn after_a_crash_a_finished_answer_is_given_again_and_an_open_request_runs_or_tells_its_cost() {
    let route = Route::ChatOpenAi;
    let finished = answer(route).containing("finished.");
    let silent = Exchange::never().may_be_left().containing("silent.");
    let mut stage = stage([finished, silent], TestServer::builder());
    let first = ask(&stage, route, "finished.", false);
    assert_eq!(first.status, 200);
    let request = route.request(&stage.account.key, "silent.", false);
    let silent = request.header("Idempotency-Key", "of-the-silent-one");
    let waiting = silent.send(stage.server.address());
    stage.upstream.wait_requests(2);
    stage.server.ledger().wait_open(&stage.account, 1);
    stage.server.kill();
    drop(waiting);
    stage.server.start_again();
    let again = ask(&stage, route, "finished.", false);
    assert_eq!((again.status, again.body), (200, first.body));
    let rows = stage.server.ledger().wait_resolved(&stage.account, 2);
    if rows[1].cost == Some(0) {
        stage.upstream.expect(answer(route));
        assert_eq!(silent.fetch(stage.server.address()).status, 200, "nothing was charged");
    } else {
        assert_completed(route, &silent.fetch(stage.server.address()));
    }
}
