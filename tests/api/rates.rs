//! Requests and tokens per minute: what is let in, what is refused, and what the headers tell.

use serde_json::{Value, json};

use crate::{
    kit::{Dialect, Stage, chat, error_of, with},
    support::{
        BOUND,
        http::{Fetched, Request},
        models::{ANTHROPIC_MODEL, FREE_MODEL, OPENAI_MODEL},
        replies::{anthropic, openai},
        server::{Builder, TestServer},
        wait_for,
    },
};

#[track_caller]
fn stage(rates: &[(&str, &str)]) -> Stage {
    let script = [
        openai::json_exchange("five", 100, 200).streaming(false).any_times(),
        openai::stream_exchange(&["fi", "ve"], 100, 200).streaming(true).any_times(),
        anthropic::json_exchange("five", 100, 200).any_times(),
    ];
    let with_rates = |builder: Builder, rate: &(&str, &str)| builder.env(rate.0, rate.1);
    Stage::with(script, rates.iter().fold(TestServer::builder(), with_rates), "10")
}

/// A request to each dialect's route.
fn asked() -> [(&'static str, Value, Dialect); 4] {
    let native = with(chat(ANTHROPIC_MODEL), &json!({"max_tokens": 300}));
    [
        ("/v1/chat/completions", chat("alice"), Dialect::OpenAi),
        ("/v1/chat/completions", with(chat("alice"), &json!({"stream": true})), Dialect::OpenAi),
        ("/v1/openai/chat/completions", chat(OPENAI_MODEL), Dialect::OpenAi),
        ("/v1/anthropic/messages", native, Dialect::Anthropic),
    ]
}

#[track_caller]
fn ask_with(stage: &Stage, key: &str) -> Fetched {
    Request::post("/v1/chat/completions", &chat(FREE_MODEL))
        .bearer(key)
        .fetch(stage.server.address())
}

#[track_caller]
fn header(answer: &Fetched, name: &str) -> Option<u64> {
    answer.header(name).map(|value| value.parse().unwrap_or_else(|_| panic!("{name}: {value}")))
}

#[track_caller]
fn assert_refused(answer: &Fetched, dialect: Dialect, longest_s: u64) {
    assert_eq!(answer.status, 429, "{}", answer.text());
    let error = error_of(answer, dialect);
    assert_eq!(error.code, "rate_limit_exceeded");
    assert!(error.message.contains("per minute"), "{}", error.message);
    let wait = header(answer, "retry-after").expect("retry-after");
    assert!((1..=longest_s).contains(&wait), "{wait}");
}

#[test]
fn a_key_gets_its_requests_per_minute_in_every_dialect() {
    let stage = stage(&[("FACES_KEY_REQUESTS_PER_MINUTE", "4")]);
    for (number, (path, body, _)) in (1..).zip(asked()) {
        let answer = stage.post(path, &body);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        assert_eq!(header(&answer, "x-ratelimit-limit-requests"), Some(4), "{path}");
        assert_eq!(header(&answer, "x-ratelimit-remaining-requests"), Some(4 - number), "{path}");
        let reset = answer.header("x-ratelimit-reset-requests").expect("a time");
        assert!(reset.ends_with('s') && reset != "0s", "{reset}");
        assert_eq!(answer.header("x-ratelimit-limit-tokens"), None, "tokens have no rate");
    }
    for (path, body, dialect) in asked() {
        let refused = stage.post(path, &body);
        assert_refused(&refused, dialect, 15);
        assert_eq!(header(&refused, "x-ratelimit-remaining-requests"), Some(0));
    }
    assert_eq!(stage.get("/v1/models").status, 200, "only inference is counted");
    let other = stage.server.key(&stage.account.id, &[]);
    assert_eq!(ask_with(&stage, &other).status, 200, "another key has its own minute");
}

#[test]
fn an_account_gets_its_requests_per_minute_over_all_its_keys() {
    let stage = stage(&[("FACES_ACCOUNT_REQUESTS_PER_MINUTE", "2")]);
    let other_key = stage.server.key(&stage.account.id, &[]);
    assert_eq!(ask_with(&stage, &stage.account.key).status, 200);
    assert_eq!(ask_with(&stage, &other_key).status, 200);
    for key in [&stage.account.key, &other_key] {
        assert_refused(&ask_with(&stage, key), Dialect::OpenAi, 30);
    }
    let other = stage.server.account();
    assert_eq!(ask_with(&stage, &other.key).status, 200, "another account has its own");
}

#[test]
fn requests_at_the_same_time_get_no_more_than_the_rate() {
    let stage = stage(&[("FACES_KEY_REQUESTS_PER_MINUTE", "5")]);
    let answered = std::thread::scope(|scope| {
        let all: Vec<_> =
            (0..12).map(|_| scope.spawn(|| ask_with(&stage, &stage.account.key).status)).collect();
        all.into_iter().map(|one| one.join().unwrap()).filter(|status| *status == 200).count()
    });
    // A slow machine may give one back meanwhile (every 12 s).
    assert!((5..=6).contains(&answered), "{answered}");
}

#[test]
fn tokens_that_were_used_count_and_are_waited_for() {
    let stage = stage(&[("FACES_KEY_TOKENS_PER_MINUTE", "500")]);
    let first = ask_with(&stage, &stage.account.key);
    assert_eq!(first.status, 200, "{}", first.text());
    assert_eq!(header(&first, "x-ratelimit-limit-tokens"), Some(500));
    assert_eq!(first.header("x-ratelimit-limit-requests"), None);
    // 300 are used: the second is let in, and uses more than there is.
    let second = ask_with(&stage, &stage.account.key);
    assert_eq!(second.status, 200, "{}", second.text());
    let left = header(&second, "x-ratelimit-remaining-tokens").unwrap();
    assert!((200..=260).contains(&left), "{left}");
    let third = ask_with(&stage, &stage.account.key);
    assert_refused(&third, Dialect::OpenAi, 13);
    assert_eq!(header(&third, "x-ratelimit-remaining-tokens"), Some(0));
}

#[test]
fn without_rates_nothing_is_told() {
    let stage = stage(&[]);
    let answer = ask_with(&stage, &stage.account.key);
    for name in ["limit-requests", "remaining-tokens", "reset-requests"] {
        assert_eq!(answer.header(&format!("x-ratelimit-{name}")), None);
    }
}

#[test]
fn an_administrator_changes_the_rates_of_a_key_and_of_an_account() {
    let stage = stage(&[("FACES_KEY_REQUESTS_PER_MINUTE", "1000")]);
    let made = stage.server.admin(&["key", "create", "--account", &stage.account.id]);
    let (id, secret) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap().to_owned());
    stage.server.plant_secret(&secret);
    let wait_limit = |limit: Option<u64>| {
        wait_for("the rate is followed", BOUND, || {
            let told = header(&ask_with(&stage, &secret), "x-ratelimit-limit-requests");
            (told == limit).then_some(())
        });
    };
    wait_limit(Some(1_000));
    let set = stage.server.admin(&["key", "rate", "--key", id, "--rpm", "7", "--tpm", "90000"]);
    assert_eq!(
        (&set["requests_per_minute"], &set["tokens_per_minute"]),
        (&json!(7), &json!(90_000))
    );
    wait_limit(Some(7));
    let set = stage.server.admin(&["key", "rate", "--key", id, "--rpm", "0"]);
    assert_eq!(
        (&set["requests_per_minute"], &set["tokens_per_minute"]),
        (&json!(0), &json!(90_000))
    );
    wait_limit(None);
    stage.server.admin(&["key", "rate", "--key", id, "--rpm", "default", "--tpm", "default"]);
    wait_limit(Some(1_000));
    // The tighter one is told: the account's now.
    stage.server.admin(&["account", "rate", "--account", &stage.account.id, "--rpm", "30"]);
    wait_limit(Some(30));
    let nobody = "0192f0c1-2d3e-7a4b-8c5d-6e7f8091a2b3";
    for arguments in [["key", "rate", "--key"], ["account", "rate", "--account"]] {
        let unknown = [&["admin"], &arguments[..], &[nobody, "--rpm", "1"]].concat();
        assert_eq!(stage.server.command(&unknown).status.code(), Some(1), "{unknown:?}");
    }
}
