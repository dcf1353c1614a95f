//! What the credit does not pay for: the kinds of 402, the clamp, overruns, usage that can't be.

use serde_json::{Value, json};

use crate::{
    kit::{
        CREDIT_NANOUSD, Dialect, Stage, balance, billed_requests, chat, error_of, json_request,
        usd, with,
    },
    support::{
        BOUND,
        http::{Fetched, Request},
        ledger::{BASIS_COUNTED, BASIS_PROVIDER, SETTLED},
        models::{self, ANTHROPIC_MODEL, FREE_INPUT_MODEL, OPENAI_MODEL},
        replies::{anthropic, openai},
        server::TestServer,
        upstream::Exchange,
        wait_for,
    },
};

fn dialect(path: &str) -> Dialect {
    if path.contains("messages") { Dialect::Anthropic } else { Dialect::OpenAi }
}

/// Checks a 402 and gives its details.
#[track_caller]
fn funds(answer: &Fetched, dialect: Dialect, reason: &str, limit: &str) -> Value {
    assert_eq!(answer.status, 402, "{}", answer.text());
    let error = error_of(answer, dialect);
    assert_eq!(error.code, "insufficient_credits", "{}", error.whole);
    let told = (&error.details["reason"], &error.details["limit"]);
    assert_eq!(told, (&json!(reason), &json!(limit)), "{}", error.whole);
    let waits = answer.header("retry-after").is_some();
    assert_eq!(waits, reason == "credit_reserved", "retry-after only where waiting helps");
    let retry = if waits { "true" } else { "false" };
    assert_eq!(answer.header("x-should-retry"), Some(retry), "SDKs must know");
    assert!(error.message.contains("nsufficient credits"), "the page's words: {}", error.message);
    error.details
}

fn replies() -> [Exchange; 4] {
    [
        openai::json_exchange("ok", 10, 5).streaming(false).any_times(),
        openai::stream_exchange(&["ok"], 10, 5).streaming(true).any_times(),
        anthropic::json_exchange("ok", 10, 5).streaming(false).any_times(),
        anthropic::stream_exchange(&["ok"], 10, 5).streaming(true).any_times(),
    ]
}

#[test]
fn an_account_without_credit_gets_402_on_every_billed_route_and_nothing_is_sent() {
    let stage = Stage::with([], TestServer::builder(), "0");
    for (path, body) in billed_requests() {
        let details =
            funds(&stage.post(path, &body), dialect(path), "insufficient_credits", "credits");
        assert_eq!(details.get("max_affordable_tokens"), None);
    }
    assert!(stage.upstream.requests().is_empty());
    assert!(stage.server.ledger().holds(&stage.account).is_empty());
}

#[test]
fn a_frozen_account_gets_402_on_every_billed_route_until_it_is_unfrozen() {
    let stage = Stage::new(replies());
    let frozen = |on: bool| {
        let word = if on { "freeze" } else { "unfreeze" };
        let told = stage.server.admin(&["account", word, "--account", &stage.account.id]);
        assert_eq!(told["frozen"], on);
    };
    // The account is warm: what was remembered of it must not outlive the freeze.
    assert_eq!(stage.post("/v1/chat/completions", &chat("alice")).status, 200);
    frozen(true);
    for (path, body) in billed_requests() {
        funds(&stage.post(path, &body), dialect(path), "account_frozen", "frozen");
    }
    // It can still be looked at.
    let state = stage.get("/v1/account/state").json();
    assert_eq!((&state["frozen"], &state["is_frozen"]), (&json!(true), &json!(true)));
    assert_eq!(stage.get("/v1/models").status, 200);
    frozen(false);
    for (path, body) in billed_requests() {
        wait_for("the account to be thawed", BOUND, || {
            (stage.post(path, &body).status == 200).then_some(())
        });
    }
}

#[test]
fn a_request_that_asks_for_more_than_the_balance_pays_is_told_how_much_it_pays() {
    // 1,000 output tokens at 10 USD per million and 5 %.
    let credit = models::with_markup(1_000 * models::FREE_INPUT_OUTPUT_NANOUSD);
    let stage = Stage::with(replies(), TestServer::builder(), &usd(credit));
    let ask = |tokens: u64| {
        let body = with(chat(FREE_INPUT_MODEL), &json!({"max_tokens": tokens}));
        stage.post("/v1/chat/completions", &body)
    };
    let refused = ask(1_001);
    let details = funds(&refused, Dialect::OpenAi, "hold_exceeds_balance", "credits");
    assert_eq!(details["max_affordable_tokens"], 1_000);
    assert!(refused.text().contains("max_tokens=1000"), "{}", refused.text());
    let served = ask(1_000);
    assert_eq!(served.status, 200, "what is affordable is served: {}", served.text());
    // A top-up counts at once, while the server runs.
    stage.server.admin(&["topup", "--account", &stage.account.id, "--usd", "1", "--ref", "t1"]);
    assert_eq!(ask(1_001).status, 200);
}

#[test]
fn credit_that_running_requests_hold_is_402_with_retry_after() {
    let credit = models::with_markup(100 * models::FREE_INPUT_OUTPUT_NANOUSD);
    let records = openai::stream(&["held"], 10, 100);
    let (first, rest) = records.split_at(2);
    let held = rest
        .iter()
        .cloned()
        .fold(Exchange::sse(first.to_vec()).then_wait("go").streaming(true), Exchange::then_write);
    let stage = Stage::with([held], TestServer::builder(), &usd(credit));
    let body = with(chat(FREE_INPUT_MODEL), &json!({"max_tokens": 100, "stream": true}));
    let running = Request::post("/v1/chat/completions", &body)
        .bearer(&stage.account.key)
        .send(stage.server.address())
        .answer();
    let refused = stage.post("/v1/chat/completions", &body);
    funds(&refused, Dialect::OpenAi, "credit_reserved", "in_flight");
    let told = stage.get("/v1/billing/balance").json();
    assert_eq!(crate::kit::nanousd(&told["reserved_usd"]), credit, "{told}");
    assert_eq!(crate::kit::nanousd(&told["available_usd"]), 0, "{told}");
    assert_eq!(crate::kit::nanousd(&told["balance_usd"]), credit, "nothing is charged yet");
    stage.server.audit();
    stage.upstream.open("go");
    assert!(running.fetch().text().contains("[DONE]"));
    assert_eq!(stage.balance(), 0);
}

#[test]
fn an_omitted_max_tokens_is_lowered_to_what_the_balance_pays() {
    // 300 of the 4,096 output tokens of the model.
    let credit = models::with_markup(300 * models::FREE_INPUT_OUTPUT_NANOUSD);
    for stream in [false, true] {
        for path in ["/v1/chat/completions", "/v1/openai/chat/completions"] {
            let stage = Stage::with(replies(), TestServer::builder(), &usd(credit));
            let body = with(chat(FREE_INPUT_MODEL), &json!({"stream": stream}));
            let answer = stage.post(path, &body);
            assert_eq!(answer.status, 200, "{path}: {}", answer.text());
            assert_eq!(answer.header("x-faces-max-tokens"), Some("300"), "{path}");
            let sent = stage.upstream.only_request().json();
            assert_eq!(sent["max_tokens"], 300, "{path}: the provider enforces it: {sent}");
        }
    }
    // The same through the other format: credit for 400 tokens of output beside the input's bound.
    let stage = Stage::with(replies(), TestServer::builder(), "0.0015");
    let answer = stage.post("/v1/chat/completions", &chat(ANTHROPIC_MODEL));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let lowered: u64 =
        answer.header("x-faces-max-tokens").expect("it was lowered").parse().unwrap();
    assert!((256..1_024).contains(&lowered), "{lowered}");
    assert_eq!(stage.upstream.only_request().json()["max_tokens"], lowered);
    // With credit in plenty nothing is added to an OpenAI-format request and nothing is told.
    let rich = Stage::new(replies());
    let answer = rich.post("/v1/chat/completions", &chat(OPENAI_MODEL));
    assert_eq!(answer.header("x-faces-max-tokens"), None);
    let sent = rich.upstream.only_request().json();
    assert!(sent.get("max_tokens").is_none() && sent.get("max_completion_tokens").is_none());
}

#[test]
fn below_a_worthwhile_answer_nothing_is_lowered_but_told() {
    let credit = models::with_markup(255 * models::FREE_INPUT_OUTPUT_NANOUSD);
    let stage = Stage::with([], TestServer::builder(), &usd(credit));
    let answer = stage.post("/v1/chat/completions", &chat(FREE_INPUT_MODEL));
    let details = funds(&answer, Dialect::OpenAi, "hold_exceeds_balance", "credits");
    assert_eq!(details["max_affordable_tokens"], 255);
}

#[test]
fn an_overrun_costs_the_customer_at_most_the_hold() {
    // Asked for 10 tokens, the upstream reports 5,000 (all within its context).
    let overrun = |stream: bool| {
        if stream {
            openai::stream_exchange(&["much"], 10, 5_000).streaming(true)
        } else {
            openai::json_exchange("much", 10, 5_000).streaming(false)
        }
    };
    let stage = Stage::new([overrun(false), overrun(true)]);
    let most = models::with_markup(10 * models::FREE_INPUT_OUTPUT_NANOUSD);
    for (number, stream) in [false, true].into_iter().enumerate() {
        let body = with(chat(FREE_INPUT_MODEL), &json!({"max_tokens": 10, "stream": stream}));
        let answer = stage.post("/v1/chat/completions", &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let rows = stage.server.ledger().wait_resolved(&stage.account, number + 1);
        let row = rows.last().unwrap();
        assert_eq!((row.amount, row.state, row.basis), (most, SETTLED, Some(BASIS_PROVIDER)));
        let paid = CREDIT_NANOUSD - most * i64::try_from(number + 1).unwrap();
        assert_eq!(stage.balance(), paid, "{row:?}");
    }
    stage.server.audit();
}

#[test]
fn usage_that_cannot_be_true_is_counted_by_the_server_instead() {
    let impossible = [
        json!({"prompt_tokens": -5, "completion_tokens": 5, "total_tokens": 0}),
        json!({"prompt_tokens": 5, "completion_tokens": -5, "total_tokens": 0}),
        json!({"prompt_tokens": 5, "completion_tokens": 5,
            "prompt_tokens_details": {"cached_tokens": 6}}),
        json!({"prompt_tokens": 5, "completion_tokens": 5,
            "completion_tokens_details": {"reasoning_tokens": 9}}),
        json!({"prompt_tokens": 5.5, "completion_tokens": 5}),
        json!({"prompt_tokens": "5", "completion_tokens": 5}),
        json!({"prompt_tokens": 5}),
        json!({"prompt_tokens": 1_000_000, "completion_tokens": 5}),
        json!({"prompt_tokens": 18_446_744_073_709_551_615_u64, "completion_tokens": 5}),
        json!("many"),
        json!([]),
        Value::Null,
    ];
    let text = "twelve bytes";
    let exchanges = impossible.iter().enumerate().flat_map(|(number, usage)| {
        let mut body = openai::completion(text, 1, 1);
        body["usage"] = usage.clone();
        let mut records = openai::stream(&[text], 1, 1);
        let at = records.len() - 2;
        let mut chunk: Value = serde_json::from_str(records[at].trim()[6..].trim()).unwrap();
        chunk["usage"] = usage.clone();
        records[at] = format!("data: {chunk}\n\n");
        let name = format!("usage-{number}.");
        [
            Exchange::json(200, &body).streaming(false).containing(&name),
            Exchange::sse(records).streaming(true).containing(&name),
        ]
    });
    let stage = Stage::new(exchanges.collect::<Vec<_>>());
    let mut count = 0;
    for (number, usage) in impossible.iter().enumerate() {
        for stream in [false, true] {
            let fields = json!({"stream": stream, "user": format!("usage-{number}.")});
            let answer = stage.post("/v1/chat/completions", &with(chat(FREE_INPUT_MODEL), &fields));
            assert_eq!(answer.status, 200, "{usage}: {}", answer.text());
            count += 1;
            let rows = stage.server.ledger().wait_resolved(&stage.account, count);
            let row = rows.last().unwrap();
            assert_eq!(row.basis, Some(BASIS_COUNTED), "{usage} stream={stream}: {row:?}");
            assert_eq!(row.output, 3, "a quarter of 12 bytes: {usage} stream={stream}: {row:?}");
            let cost = models::with_markup(3 * models::FREE_INPUT_OUTPUT_NANOUSD);
            assert_eq!(row.cost, Some(cost), "{usage} stream={stream}: {row:?}");
        }
    }
    let told = stage.server.log().matches("told a usage that can't be true").count();
    // `null` says nothing, which is no lie.
    let lies = impossible.iter().filter(|usage| !usage.is_null()).count() * 2;
    assert_eq!(told, lies, "the operator must see each");
    stage.server.audit();
}

#[test]
fn one_account_can_neither_see_nor_spend_anothers_credit() {
    let stage = Stage::new(replies());
    let other = stage.server.account_with_usd("0");
    let answer = json_request("POST", "/v1/chat/completions", &chat(OPENAI_MODEL))
        .bearer(&other.key)
        .fetch(stage.server.address());
    funds(&answer, Dialect::OpenAi, "insufficient_credits", "credits");
    assert_eq!(balance(&stage.server, &other), 0);
    assert_eq!(stage.balance(), CREDIT_NANOUSD);
}

#[test]
fn the_limit_that_is_paid_for_is_the_one_that_the_provider_obeys() {
    // The scripted models know `max_tokens` only: under the other name they would write on.
    for path in ["/v1/chat/completions", "/v1/openai/chat/completions"] {
        let sent = |fields: Value| {
            let stage = Stage::new(replies());
            let answer = stage.post(path, &with(chat(OPENAI_MODEL), &fields));
            assert_eq!(answer.status, 200, "{path} {fields}: {}", answer.text());
            stage.upstream.only_request().json()
        };
        let bodies = [
            json!({"max_completion_tokens": 10}),
            json!({"max_tokens": 4_000, "max_completion_tokens": 10}),
            json!({"max_tokens": 10}),
        ];
        for fields in bodies {
            let sent = sent(fields.clone());
            assert_eq!(sent["max_tokens"], 10, "{path} {fields}: {sent}");
            assert_eq!(sent.get("max_completion_tokens"), None, "{path} {fields}: {sent}");
        }
    }
}

#[test]
fn a_setting_in_another_case_cannot_smuggle_a_second_value_past_the_bill() {
    let stage = Stage::new([]);
    // A provider whose JSON reader folds case would take the second one.
    for name in ["MAX_TOKENS", "Model", "N", "Stream"] {
        let mut body = with(chat(OPENAI_MODEL), &json!({"max_tokens": 1, "n": 1, "stream": false}));
        body[name] = json!(7);
        let answer = stage.post("/v1/chat/completions", &body);
        assert_eq!(answer.status, 422, "{name}: {}", answer.text());
    }
}
