//! Budgets of keys, over the real server: exact under concurrency, told by their own words, changed
//! while it runs.

use std::{net::SocketAddr, time::Duration};

use serde_json::{Value, json};

use crate::{
    kit::{CREDIT_NANOUSD, Dialect, Stage, balance, chat, error_of, nanousd, usd, with},
    postgres,
    support::{
        BOUND,
        http::{Fetched, Request},
        ledger::SETTLED,
        models::{self, ANTHROPIC_MODEL, FREE_INPUT_MODEL},
        replies::{anthropic, openai},
        server::{Builder, TestServer},
        upstream::Exchange,
        wait_for,
    },
};

/// A changed budget must reach every instance within this.
const SEEN_WITHIN: Duration = Duration::from_secs(2);
/// What a request asks for at most and gets: with free input, hold and charge are the same.
const OUTPUT_TOKENS: u64 = 100;
/// Clients at once.
const CLIENTS: usize = 32;
/// Requests that the budget of the 32 clients pays for.
const PAID: usize = 10;
/// How often a client asks again when others hold the budget.
const RETRIES: usize = 20;

/// Price of one request, nano-USD.
fn price() -> i64 {
    models::with_markup(100 * models::FREE_INPUT_OUTPUT_NANOUSD)
}

fn replies() -> [Exchange; 3] {
    [
        openai::json_exchange("ok", 10, OUTPUT_TOKENS).streaming(false).any_times(),
        openai::stream_exchange(&["ok"], 10, OUTPUT_TOKENS).streaming(true).any_times(),
        anthropic::json_exchange("ok", 10, 5).streaming(false).any_times(),
    ]
}

fn body(stream: bool) -> Value {
    with(chat(FREE_INPUT_MODEL), &json!({"max_tokens": OUTPUT_TOKENS, "stream": stream}))
}

/// A server with an account, and a key of it with a budget.
struct Budgeted {
    stage: Stage,
    key: String,
    key_id: String,
}

impl Budgeted {
    #[track_caller]
    fn new(builder: Builder, script: impl IntoIterator<Item = Exchange>, options: &[&str]) -> Self {
        let stage = Stage::with(script, builder, "10");
        let key = stage.server.key(&stage.account.id, options);
        let listed = stage.server.admin(&["key", "list", "--account", &stage.account.id]);
        let key_id = listed["data"][1]["id"].as_str().expect("the second key").to_owned();
        Self { stage, key, key_id }
    }

    fn address(&self) -> SocketAddr {
        self.stage.server.address()
    }

    #[track_caller]
    fn post(&self, path: &str, body: &Value) -> Fetched {
        Request::post(path, body).bearer(&self.key).fetch(self.address())
    }

    #[track_caller]
    fn ask(&self) -> Fetched {
        self.post("/v1/chat/completions", &body(false))
    }

    /// The key as the list shows it.
    #[track_caller]
    fn listed(&self) -> Value {
        let account = &self.stage.account.id;
        let listed = self.stage.server.admin(&["key", "list", "--account", account]);
        let keys = listed["data"].as_array().expect("keys");
        keys.iter().find(|key| key["id"] == self.key_id.as_str()).expect("the key").clone()
    }

    #[track_caller]
    fn set(&self, options: &[&str]) -> Value {
        let arguments = [&["key", "set", "--key", &self.key_id], options].concat();
        self.stage.server.admin(&arguments)
    }
}

/// Checks a 402 of a budget and gives its details.
#[track_caller]
fn exceeded(answer: &Fetched, dialect: Dialect) -> Value {
    assert_eq!(answer.status, 402, "{}", answer.text());
    let error = error_of(answer, dialect);
    let told = (&error.details["reason"], &error.details["limit"]);
    assert_eq!(told, (&json!("key_budget_exceeded"), &json!("key_budget")), "{}", error.whole);
    assert_eq!(error.code, "insufficient_credits", "{}", error.whole);
    assert!(error.message.contains("budget"), "{}", error.message);
    assert!(error.message.starts_with("Insufficient credits"), "{}", error.message);
    assert_eq!(answer.header("retry-after"), None, "waiting seconds does not help");
    assert_eq!(answer.header("x-should-retry"), Some("false"));
    error.details
}

/// Runs a test on SQLite and, where there is one, on PostgreSQL.
#[track_caller]
fn on_both(test: impl Fn(Builder)) {
    test(TestServer::builder());
    let cluster = match postgres::cluster() {
        Ok(cluster) => cluster,
        Err(why) => return postgres::skipped(why),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let database = runtime.expect("a runtime").block_on(cluster.create_database());
    test(TestServer::builder().with_postgres(&database.url));
}

#[test]
fn a_budget_pays_for_exactly_what_it_says_and_other_keys_go_on() {
    on_both(|builder| {
        let limit = usd(3 * price());
        let options = ["--budget-usd", &limit, "--budget-window", "monthly"];
        let budgeted = Budgeted::new(builder, replies(), &options);
        let stage = &budgeted.stage;
        for stream in [false, true, false] {
            let answer = budgeted.post("/v1/chat/completions", &body(stream));
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
        let details = exceeded(&budgeted.ask(), Dialect::OpenAi);
        assert!(details["resets_at"].is_u64(), "{details}");
        assert_eq!(details.get("max_affordable_tokens"), None);
        let native = with(chat(ANTHROPIC_MODEL), &json!({"max_tokens": 100}));
        let refused = budgeted.post("/v1/anthropic/messages", &native);
        exceeded(&refused, Dialect::Anthropic);
        assert_eq!(stage.post("/v1/chat/completions", &body(false)).status, 200, "another key");

        let shown = budgeted.listed();
        assert_eq!(nanousd(&shown["budget_usd"]), 3 * price(), "{shown}");
        assert_eq!(shown["budget_window"], "monthly", "{shown}");
        assert_eq!(shown["resets_at"], details["resets_at"], "{shown}");
        assert_eq!(nanousd(&shown["spent_usd"]), 3 * price(), "{shown}");
        assert_eq!(nanousd(&shown["total_spent_usd"]), 3 * price(), "{shown}");
        let keys = stage.server.admin(&["key", "list", "--account", &stage.account.id]);
        let other = &keys["data"][0];
        assert_eq!(nanousd(&other["spent_usd"]), price(), "{other}");
        assert_eq!((&other["budget_usd"], &other["resets_at"]), (&Value::Null, &Value::Null));
        assert_eq!(stage.balance(), CREDIT_NANOUSD - 4 * price(), "the wallet paid all of it");
        stage.server.audit();
    });
}

/// What the server told to wait is part of the behaviour, not a guess of the test.
fn wait_as_told(seconds: u64) {
    std::thread::sleep(Duration::from_secs(seconds));
}

/// Asks as an SDK does: again, when the server says that this may help; the last answer.
fn ask_patiently(address: SocketAddr, key: &str, stream: bool) -> Fetched {
    let request = Request::post("/v1/chat/completions", &body(stream)).bearer(key);
    let mut answer = request.fetch(address);
    for _ in 0..RETRIES {
        let Some(seconds) = answer.header("retry-after").filter(|_| answer.status == 402) else {
            break;
        };
        wait_as_told(seconds.parse().expect("whole seconds"));
        answer = request.fetch(address);
    }
    answer
}

#[track_caller]
fn many_clients_never_exceed_a_budget(policy: &str) {
    on_both(|builder| {
        let builder = builder.env("FACES_LEDGER_POLICY", policy);
        let limit = usd(price() * i64::try_from(PAID).expect("a small number"));
        let budgeted = Budgeted::new(builder, replies(), &["--budget-usd", &limit]);
        let answers: Vec<Fetched> = std::thread::scope(|scope| {
            let (address, key) = (budgeted.address(), &budgeted.key);
            let ask = |number| scope.spawn(move || ask_patiently(address, key, number % 2 == 0));
            let clients: Vec<_> = (0..CLIENTS).map(ask).collect();
            clients.into_iter().map(|client| client.join().expect("the client ends")).collect()
        });
        let served = answers.iter().filter(|answer| answer.status == 200).count();
        let shown: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        assert_eq!(served, PAID, "{policy}: {shown:?}");
        for refused in answers.iter().filter(|answer| answer.status != 200) {
            exceeded(refused, Dialect::OpenAi);
        }
        let stage = &budgeted.stage;
        for row in stage.server.ledger().wait_resolved(&stage.account, PAID) {
            assert_eq!((row.state, row.cost), (SETTLED, Some(price())), "{row:?}");
        }
        let shown = budgeted.listed();
        assert_eq!(nanousd(&shown["spent_usd"]), nanousd(&shown["budget_usd"]), "{shown}");
        assert_eq!(shown["budget_window"], "none", "{shown}");
        stage.server.audit();
    });
}

#[test]
fn many_clients_at_once_never_exceed_a_budget() {
    many_clients_never_exceed_a_budget("auto");
}

#[test]
fn many_clients_at_once_never_exceed_a_budget_when_nothing_is_kept() {
    many_clients_never_exceed_a_budget("exact");
}

#[test]
fn many_clients_at_once_never_exceed_a_budget_when_slices_are_kept() {
    many_clients_never_exceed_a_budget("retained");
}

#[test]
fn a_changed_budget_is_followed_within_two_seconds() {
    on_both(|builder| {
        let limit = |requests: i64| usd(requests * price());
        let budgeted = Budgeted::new(builder, replies(), &["--budget-usd", &limit(1)]);
        assert_eq!(budgeted.ask().status, 200);
        let details = exceeded(&budgeted.ask(), Dialect::OpenAi);
        assert_eq!(details.get("resets_at"), None, "it never begins anew");

        let raised = budgeted.set(&["--budget-usd", &limit(3)]);
        assert_eq!(nanousd(&raised["budget_usd"]), 3 * price(), "{raised}");
        assert_eq!(nanousd(&raised["spent_usd"]), price(), "what was spent stays: {raised}");
        wait_for("the raised budget", SEEN_WITHIN, || (budgeted.ask().status == 200).then_some(()));

        budgeted.set(&["--budget-usd", &limit(2)]);
        wait_for("the lowered budget", SEEN_WITHIN, || {
            (budgeted.ask().status == 402).then_some(())
        });
        exceeded(&budgeted.ask(), Dialect::OpenAi);

        budgeted.set(&["--budget-window", "daily"]);
        wait_for("another window", SEEN_WITHIN, || (budgeted.ask().status == 200).then_some(()));

        let removed = budgeted.set(&["--no-budget"]);
        assert_eq!(
            (&removed["budget_usd"], &removed["budget_window"]),
            (&Value::Null, &Value::Null)
        );
        wait_for("no budget any more", SEEN_WITHIN, || {
            let served = (0..3).all(|_| budgeted.ask().status == 200);
            served.then_some(())
        });
        budgeted.stage.server.audit();
    });
}

#[test]
fn a_lowered_budget_is_as_exact_as_it_was() {
    let limit = |requests: i64| usd(requests * price());
    let options = ["--budget-usd", &limit(20)];
    let budgeted = Budgeted::new(TestServer::builder(), replies(), &options);
    assert_eq!(budgeted.ask().status, 200);
    budgeted.set(&["--budget-usd", &limit(5)]);
    let mut served = 1;
    // What the server keeps of the old budget comes back first: some requests are told to wait.
    let last = wait_for("the lowered budget to be spent", BOUND, || {
        let answer = budgeted.ask();
        served += i64::from(answer.status == 200);
        (answer.status != 200 && answer.header("retry-after").is_none()).then_some(answer)
    });
    exceeded(&last, Dialect::OpenAi);
    assert_eq!(served, 5);
    assert_eq!(nanousd(&budgeted.listed()["spent_usd"]), 5 * price());
    budgeted.stage.server.audit();
}

#[test]
fn a_budget_bounds_the_output_as_a_balance_does() {
    let limit = usd(models::with_markup(300 * models::FREE_INPUT_OUTPUT_NANOUSD));
    let short = openai::json_exchange("ok", 10, 5).streaming(false).any_times();
    let budgeted = Budgeted::new(TestServer::builder(), [short], &["--budget-usd", &limit]);
    let given = |tokens: u64| {
        let body = with(chat(FREE_INPUT_MODEL), &json!({"max_tokens": tokens}));
        budgeted.post("/v1/chat/completions", &body)
    };
    let refused = given(301);
    let details = exceeded(&refused, Dialect::OpenAi);
    assert_eq!(details["max_affordable_tokens"], 300);
    assert!(refused.text().contains("max_tokens=300"), "{}", refused.text());
    let omitted = budgeted.post("/v1/chat/completions", &chat(FREE_INPUT_MODEL));
    assert_eq!(omitted.status, 200, "{}", omitted.text());
    assert_eq!(omitted.header("x-faces-max-tokens"), Some("300"));
    assert_eq!(budgeted.stage.upstream.only_request().json()["max_tokens"], 300);
    assert_eq!(given(290).status, 200);
    let balance = balance(&budgeted.stage.server, &budgeted.stage.account);
    let spent = nanousd(&budgeted.listed()["spent_usd"]);
    assert_eq!(balance, CREDIT_NANOUSD - spent, "both are charged the same");
}

#[test]
fn a_budget_that_running_requests_hold_is_worth_waiting_for() {
    let records = openai::stream(&["held"], 10, OUTPUT_TOKENS);
    let (first, rest) = records.split_at(2);
    let held = rest
        .iter()
        .cloned()
        .fold(Exchange::sse(first.to_vec()).then_wait("go").streaming(true), Exchange::then_write);
    let budgeted = Budgeted::new(TestServer::builder(), [held], &["--budget-usd", &usd(price())]);
    let running = Request::post("/v1/chat/completions", &body(true))
        .bearer(&budgeted.key)
        .send(budgeted.address())
        .answer();
    let refused = budgeted.ask();
    assert_eq!(refused.status, 402, "{}", refused.text());
    let error = error_of(&refused, Dialect::OpenAi);
    let told = (&error.details["reason"], &error.details["limit"]);
    assert_eq!(told, (&json!("credit_reserved"), &json!("in_flight")), "{}", error.whole);
    assert!(error.message.contains("budget"), "{}", error.message);
    assert!(refused.header("retry-after").is_some());
    budgeted.stage.server.audit();
    budgeted.stage.upstream.open("go");
    assert!(running.fetch().text().contains("[DONE]"));
    wait_for("the budget to be spent", BOUND, || {
        (nanousd(&budgeted.listed()["spent_usd"]) == price()).then_some(())
    });
    exceeded(&budgeted.ask(), Dialect::OpenAi);
}
