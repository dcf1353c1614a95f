//! Usage, invoices and prices: what the account is told is what the books say.

use serde_json::{Value, json};

use crate::{
    kit::{Dialect, Stage, balance, chat, error_of, nanousd, with},
    postgres,
    support::{
        http::{Fetched, Request},
        models::{ANTHROPIC_MODEL, OPENAI_MODEL, charge_nanousd},
        replies::{anthropic, openai},
        server::{Account, Builder, TestServer},
    },
};

const INPUT: u64 = 1_000;
const OUTPUT: u64 = 2_000;

fn charge() -> i64 {
    charge_nanousd(INPUT.cast_signed(), OUTPUT.cast_signed())
}

/// A server whose answers cost [`charge`].
#[track_caller]
fn stage(builder: Builder) -> Stage {
    let script = [
        openai::json_exchange("five", INPUT, OUTPUT).any_times(),
        anthropic::json_exchange("five", INPUT, OUTPUT).any_times(),
    ];
    Stage::with(script, builder, "100")
}

#[track_caller]
fn ask(server: &TestServer, key: &str, model: &str) {
    let body = with(chat(model), &json!({"max_tokens": 4_000}));
    let answer = Request::post("/v1/chat/completions", &body).bearer(key).fetch(server.address());
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[track_caller]
fn usage(stage: &Stage, query: &str) -> Value {
    let answer = stage.get(&format!("/v1/billing/usage{query}"));
    assert_eq!(answer.status, 200, "{query}: {}", answer.text());
    answer.json()
}

/// `(group_key, group_label, request_count, total_cost_usd)` of each row.
fn rows(usage: &Value) -> Vec<(Value, Value, i64, i64)> {
    let row = |row: &Value| {
        let parts = [&row["provider_cost_usd"], &row["markup_usd"]].map(nanousd);
        let total = nanousd(&row["total_cost_usd"]);
        assert_eq!(parts.iter().sum::<i64>(), total, "{row}");
        let count = row["request_count"].as_i64().unwrap();
        (row["group_key"].clone(), row["group_label"].clone(), count, total)
    };
    usage["rows"].as_array().unwrap().iter().map(row).collect()
}

fn today() -> String {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_micros();
    let now = faces::domain::clock::UnixMicros(i64::try_from(now).unwrap());
    faces::domain::Day::of(now).to_string()
}

fn usage_is_what_the_books_charged(builder: Builder) {
    let stage = stage(builder);
    let other_key = stage.server.key(&stage.account.id, &["--name", "other"]);
    ask(&stage.server, &stage.account.key, "alice");
    ask(&stage.server, &stage.account.key, "alice");
    ask(&stage.server, &other_key, OPENAI_MODEL);
    ask(&stage.server, &other_key, &format!("alice@{ANTHROPIC_MODEL}"));
    let held = stage.server.ledger().wait_resolved(&stage.account, 4);
    let charged: i64 = held.iter().filter_map(|row| row.cost).sum();
    assert_eq!(charged, 4 * charge());

    let by_face = usage(&stage, "");
    assert_eq!(by_face["group_by"], "model_iam_id");
    let totals = &by_face["totals"];
    assert_eq!(nanousd(&totals["total_cost_usd"]), charged);
    assert_eq!((&totals["request_count"], &totals["input_tokens"]), (&json!(4), &json!(4 * INPUT)));
    assert_eq!(totals["output_tokens"], 4 * OUTPUT);
    assert_eq!(nanousd(&totals["markup_usd"]), charged - charged * 100 / 105);
    let uid = stage.get("/v1/faces/alice").json()["uid"].clone();
    let faces = rows(&by_face);
    assert!(faces.contains(&(Value::Null, Value::Null, 1, charge())), "{faces:?}");
    assert!(faces.contains(&(uid.clone(), json!("alice"), 3, 3 * charge())), "{faces:?}");

    for name in ["model", "model_username"] {
        let named = rows(&usage(&stage, &format!("?group_by={name}")));
        let alice = (json!("alice"), json!("Alice Example"), 3, 3 * charge());
        assert!(named.contains(&alice), "{named:?}");
    }
    for name in ["llm", "llm_model"] {
        let models = rows(&usage(&stage, &format!("?group_by={name}")));
        let expected = [(ANTHROPIC_MODEL, 1), (OPENAI_MODEL, 3)].map(|(model, count)| {
            (json!(model), json!(model), i64::from(count), i64::from(count) * charge())
        });
        assert_eq!(models, expected);
    }
    let mut keys = Vec::new();
    for name in ["api_key", "api_key_id"] {
        keys = rows(&usage(&stage, &format!("?group_by={name}")));
        let of = |label: &str| keys.iter().find(|row| row.1 == label).map(|row| row.3);
        assert_eq!((of("default"), of("other")), (Some(2 * charge()), Some(2 * charge())));
    }
    let dates = rows(&usage(&stage, "?group_by=date"));
    assert_eq!(dates.iter().map(|row| row.3).sum::<i64>(), charged, "{dates:?}");

    let key = keys[0].0.as_str().unwrap();
    let uid = uid.as_str().unwrap();
    let tomorrow = "2199-01-01";
    for (query, count) in [
        (format!("?api_key_id={key}"), 2),
        ("?model_username=alice".to_owned(), 3),
        (format!("?model_iam_id={uid}"), 3),
        (format!("?llm_model={ANTHROPIC_MODEL}&model_username=alice"), 1),
        ("?model_username=nobody".to_owned(), 0),
        (format!("?model_iam_id={}", stage.account.id), 0),
        (format!("?from=2026-01-01&to={tomorrow}"), 4),
        (format!("?from_date={tomorrow}"), 0),
        (format!("?start_date={tomorrow}T10:00:00Z"), 0),
        ("?to_date=2026-01-01".to_owned(), 0),
        ("?end_date=2026-01-01T23:59:59Z".to_owned(), 0),
        (format!("?start_date={}&group_by=date", today()), 4),
    ] {
        let found = usage(&stage, &query);
        assert_eq!(found["totals"]["request_count"], count, "{query}: {found}");
    }
    let first = usage(&stage, "?group_by=llm&limit=1");
    assert_eq!(
        (first["has_more"].clone(), first["rows"].as_array().unwrap().len()),
        (json!(true), 1)
    );
    assert_eq!(first["totals"]["request_count"], 4, "totals are of all pages");
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = usage(&stage, &format!("?group_by=llm&limit=1&cursor={cursor}"));
    assert_eq!((second["has_more"].clone(), rows(&second)[0].2), (json!(false), 3));
}

#[test]
fn usage_is_what_the_books_charged_on_sqlite() {
    usage_is_what_the_books_charged(TestServer::builder());
}

#[test]
fn usage_is_what_the_books_charged_on_postgresql() {
    let cluster = match postgres::cluster() {
        Ok(cluster) => cluster,
        Err(why) => return postgres::skipped(why),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let database = runtime.block_on(cluster.create_database());
    usage_is_what_the_books_charged(TestServer::builder().with_postgres(&database.url));
}

#[test]
fn another_accounts_usage_is_never_seen() {
    let stage = stage(TestServer::builder());
    ask(&stage.server, &stage.account.key, "alice");
    stage.server.ledger().wait_resolved(&stage.account, 1);
    let keys = rows(&usage(&stage, "?group_by=api_key"));
    let key = keys[0].0.as_str().unwrap();
    let uid = stage.get("/v1/faces/alice").json()["uid"].clone();
    let uid = uid.as_str().unwrap();
    let other = stage.server.account();
    for query in [
        "?model_username=alice".to_owned(),
        format!("?model_iam_id={uid}"),
        format!("?api_key_id={key}"),
        String::new(),
    ] {
        let path = format!("/v1/billing/usage{query}");
        let seen = Request::get(&path).bearer(&other.key).fetch(stage.server.address());
        assert_eq!((seen.status, &seen.json()["rows"]), (200, &json!([])), "{query}");
        assert_eq!(seen.json()["totals"]["request_count"], 0, "{query}");
    }
}

#[test]
fn a_wrong_parameter_is_named() {
    let stage = stage(TestServer::builder());
    for (query, name) in [
        ("group_by=colour", "group_by"),
        ("from=yesterday", "from"),
        ("end_date=2026-02-30", "to"),
        ("api_key_id=1", "api_key_id"),
        ("limit=0", "limit"),
        ("limit=x", "limit"),
        ("cursor=x", "cursor"),
        ("group_by=date&cursor=x", "cursor"),
        // PostgreSQL keeps no NUL, and could not even be asked for one.
        ("llm_model=%00", "llm_model"),
        ("group_by=llm_model&cursor=a%00", "cursor"),
    ] {
        let answer = stage.get(&format!("/v1/billing/usage?{query}"));
        assert_eq!(answer.status, 422, "{query}: {}", answer.text());
        let error = error_of(&answer, Dialect::Faces);
        assert_eq!(error.whole["detail"][0]["loc"], json!(["query", name]), "{query}");
    }
    let twice = stage.get("/v1/billing/usage?from=2026-01-01&from_date=2026-01-01");
    assert_eq!(twice.status, 422, "{}", twice.text());
}

#[test]
fn usage_is_exact_while_requests_are_running() {
    let stage = stage(TestServer::builder().env("FACES_USAGE_ROLLUP_INTERVAL_MS", "100"));
    const CLIENTS: usize = 4;
    const EACH: usize = 6;
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| (0..EACH).for_each(|_| ask(&stage.server, &stage.account.key, "alice")));
        }
        let mut least = 0;
        while least < (CLIENTS * EACH) as i64 * charge() {
            let before = 100_000_000_000 - stage.balance();
            let told = nanousd(&usage(&stage, "?group_by=date")["totals"]["total_cost_usd"]);
            let after = 100_000_000_000 - stage.balance();
            assert!(before <= told && told <= after, "{before} {told} {after}");
            assert!(told >= least);
            least = told;
        }
    });
}

/// The amounts of a CSV, nano-USD, with the type of each line.
fn csv_lines(text: &str) -> Vec<(String, i64)> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let names = reader.headers().unwrap().clone();
    let at = |name| names.iter().position(|one| one == name).unwrap();
    let (kind, amount) = (at("type"), at("amount_usd"));
    let line = |record: csv::StringRecord| {
        (record[kind].to_owned(), nanousd(&json!(record[amount].to_owned())))
    };
    reader.records().map(|record| line(record.unwrap())).collect()
}

#[test]
fn an_invoice_adds_up_to_the_balance_in_both_forms() {
    let stage = stage(TestServer::builder());
    let account = &stage.account;
    for model in ["alice", "alice", &format!("alice@{ANTHROPIC_MODEL}")] {
        ask(&stage.server, &account.key, model);
    }
    stage.server.admin(&["topup", "--account", &account.id, "--usd", "12.5", "--ref", "=cmd()"]);
    stage.server.ledger().wait_resolved(account, 3);
    let left = balance(&stage.server, account);
    assert_eq!(left, 112_500_000_000 - 3 * charge());

    let list = stage.get("/v1/billing/invoices").json();
    let newest = &list["data"][0];
    assert_eq!(list["has_more"], false);
    let month = newest["id"].as_str().unwrap();
    assert_eq!((month, &newest["status"]), (&today()[..7], &json!("open")));
    assert_eq!(nanousd(&newest["closing_balance_usd"]), left);
    assert_eq!(nanousd(&newest["topups_usd"]), 112_500_000_000);

    let path = format!("/v1/billing/invoices/{month}");
    let invoice = stage.get(&path).json();
    let sum = |field: &str, amount: &str| -> i64 {
        invoice[field].as_array().unwrap().iter().map(|line| nanousd(&line[amount])).sum()
    };
    assert_eq!(nanousd(&invoice["opening_balance_usd"]), 0);
    assert_eq!(sum("topups", "amount_usd"), nanousd(&invoice["topups_usd"]));
    assert_eq!(sum("charges", "total_cost_usd"), 3 * charge());
    assert_eq!(nanousd(&invoice["charges_usd"]), 3 * charge());
    assert_eq!(nanousd(&invoice["closing_balance_usd"]), left);
    let models: Vec<_> =
        invoice["charges"].as_array().unwrap().iter().map(|line| &line["llm_model"]).collect();
    assert_eq!(models, [ANTHROPIC_MODEL, OPENAI_MODEL]);
    assert_eq!(invoice["topups"][1]["payment_ref"], "=cmd()");

    let by_header = stage.fetch(&Request::get(&path).header("accept", "text/csv"));
    let by_query = stage.get(&format!("{path}?format=csv"));
    assert_eq!(by_header.text(), by_query.text());
    for csv in [by_header, by_query] {
        assert_eq!(csv.header("content-type"), Some("text/csv; charset=utf-8"));
        let lines = csv_lines(&csv.text());
        let (closing, others) = lines.split_last().unwrap();
        assert_eq!(closing, &("closing_balance".to_owned(), left));
        assert_eq!(others.iter().map(|(_, amount)| amount).sum::<i64>(), left, "{lines:?}");
        assert!(csv.text().contains("'=cmd()"), "no formula: {}", csv.text());
    }
}

#[test]
fn a_month_without_an_invoice_is_not_there() {
    let stage = stage(TestServer::builder());
    for month in ["2020-01", "2199-01", "2026-13", "x", "2026-1"] {
        let answer = stage.get(&format!("/v1/billing/invoices/{month}"));
        assert_eq!(answer.status, 404, "{month}: {}", answer.text());
    }
    let month = &today()[..7];
    let wrong = stage.get(&format!("/v1/billing/invoices/{month}?format=pdf"));
    assert_eq!(wrong.status, 422, "{}", wrong.text());
    for query in ["cursor=x", "limit=0"] {
        let answer = stage.get(&format!("/v1/billing/invoices?{query}"));
        assert_eq!(answer.status, 422, "{query}: {}", answer.text());
    }
}

#[test]
fn prices_are_listed_as_they_are_charged() {
    let stage = stage(TestServer::builder());
    let costs = stage.get("/v1/billing/llm-costs").json();
    assert_eq!((&costs["currency"], &costs["markup_percent"]), (&json!("USD"), &json!(5)));
    let data = costs["data"].as_array().unwrap();
    let scripted = data.iter().find(|one| one["model"] == OPENAI_MODEL).unwrap();
    assert_eq!(nanousd(&scripted["input_usd_per_mtok"]), 1_000_000_000);
    assert_eq!(nanousd(&scripted["output_usd_per_mtok"]), 2_000_000_000);
    assert_eq!(scripted["provider"], "scripted-openai");
    let narrow = stage.server.key(&stage.account.id, &["--allow-model", ANTHROPIC_MODEL]);
    let seen: Fetched =
        Request::get("/v1/billing/llm-costs").bearer(&narrow).fetch(stage.server.address());
    assert_eq!(seen.json()["data"].as_array().unwrap().len(), 1);
    let poor: Account = stage.server.account_with_usd("0");
    assert_eq!(balance(&stage.server, &poor), 0);
}
