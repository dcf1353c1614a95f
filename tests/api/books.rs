//! `faces topup` and `faces ledger …`.

use std::fs;

use serde_json::Value;

use crate::{
    command_line::refused,
    kit::{Stage, chat, nanousd},
    program::{Place, err, json, out},
    support::{
        ledger::SETTLED,
        replies::openai,
        server::{Account, TestServer},
        upstream::{Exchange, Step},
    },
};

/// Continues `topups_work`: the account has 3.500000002 USD in three transfers.
#[track_caller]
pub(crate) fn topups_and_exports_work(place: &Place, id: &str) {
    let topup = |usd: &str, reference: &str| {
        place.run(&["topup", id, "--amount-usd", usd, "--ref", reference, "--json"])
    };
    let balance = |told: &Value| nanousd(&told["balance_usd"]);
    let first = json(&topup("1", "a \"quoted\", reference"));
    assert_eq!((&first["repeated"], balance(&first)), (&false.into(), 4_500_000_002));
    let again = topup("1.0", "a \"quoted\", reference");
    assert!(err(&again).contains("already done"), "{}", err(&again));
    let again = json(&again);
    assert_eq!((&again["repeated"], balance(&again)), (&true.into(), 4_500_000_002));
    refused(&topup("1.01", "a \"quoted\", reference"), "conflict");
    // A reference is one payment, whoever it is for and whichever command books it.
    json(&topup("2.5", "invoice-1"));
    let other = json(&place.run(&["admin", "account", "create", "--name", "two", "--json"]));
    let other = other["id"].as_str().unwrap();
    let elsewhere = ["topup", other, "--amount-usd", "1", "--ref", "invoice-1", "--json"];
    refused(&place.run(&elsewhere), "conflict");
    let for_people = place.run(&["topup", id, "--amount-usd", "1", "--ref", "invoice-1"]);
    assert_eq!(for_people.status.code(), Some(1));
    assert!(err(&for_people).contains("a different top-up with this reference"));
    shows(place, id);
    exports(place, id);
}

#[track_caller]
fn shows(place: &Place, id: &str) {
    let shown = json(&place.run(&["ledger", "show", id, "--json"]));
    assert_eq!(
        (&shown["kind"], &shown["name"], nanousd(&shown["balance_usd"])),
        (&"wallet".into(), &"shop".into(), 4_500_000_002),
        "{shown}"
    );
    let amounts: Vec<&str> = shown["transfers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| line["amount_usd"].as_str().unwrap())
        .collect();
    assert_eq!(amounts, ["1", "0.000000001", "2.5", "1.000000001"], "newest first");
    let text = out(&place.run(&["ledger", "show", id]));
    assert!(text.contains("balance_usd") && text.contains("\ntransfers:\ncreated_at"), "{text}");
    let nobody = place.run(&["ledger", "show", "0192f0c1-2d3e-7a4b-8c5d-6e7f8091a2b3"]);
    assert_eq!(nobody.status.code(), Some(1));
    assert!(err(&nobody).contains("no account and no hold"), "{}", err(&nobody));
}

#[track_caller]
fn exports(place: &Place, id: &str) {
    let export = |arguments: &[&str]| place.run(&[&["ledger", "export"], arguments].concat());
    let lines = export(&["--format", "jsonl"]);
    let mine = |line: &Value| line["credit_account"] == id;
    let lines: Vec<Value> =
        out(&lines).lines().map(|line| serde_json::from_str(line).unwrap()).filter(mine).collect();
    let amounts: Vec<i64> =
        lines.iter().map(|line| line["amount_nanousd"].as_i64().unwrap()).collect();
    assert_eq!(amounts, [1_000_000_001, 2_500_000_000, 1, 1_000_000_000], "oldest first");
    assert!(lines.iter().all(|line| line["kind"] == "top_up"), "{lines:?}");
    assert!(lines.iter().all(|line| nanousd(&line["amount_usd"]) == line["amount_nanousd"]));
    let file = place.path().join("books.csv");
    let written = export(&["--output", "books.csv"]);
    assert!(written.status.success() && out(&written).is_empty(), "{}", err(&written));
    assert!(err(&written).contains("transfers written to books.csv"), "{}", err(&written));
    assert!(!place.path().join("books.csv.part").exists());
    let csv = fs::read_to_string(&file).unwrap();
    let head = "created_at,id,kind,debit_account,credit_account,amount_usd,amount_nanousd,hold,ref";
    assert_eq!(csv.lines().next(), Some(head));
    let quoted = ",1,1000000000,,\"a \"\"quoted\"\", reference\"";
    assert!(csv.lines().any(|line| line.ends_with(quoted)), "{csv}");
    // The first moment belongs to a range, its end does not.
    let at = lines[1]["created_at"].as_str().unwrap();
    let next = lines[2]["created_at"].as_str().unwrap();
    let one = out(&export(&["--format", "jsonl", "--from", at, "--to", next]));
    assert_eq!(one.lines().count(), 1, "{one}");
    assert!(one.contains("invoice-1"), "{one}");
    let none = out(&export(&["--from", "2001-01-01", "--to", "2001-01-02"]));
    assert_eq!(none.trim_end(), head, "names come also without a line");
    let backwards = export(&["--from", "2026-01-02", "--to", "2026-01-01", "--output", "no.csv"]);
    assert_eq!(backwards.status.code(), Some(1), "{}", err(&backwards));
    assert!(!place.path().join("no.csv").exists() && !place.path().join("no.csv.part").exists());
    let nowhere = export(&["--output", "absent/books.csv"]);
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(err(&nowhere).contains("absent/books.csv"), "{}", err(&nowhere));
}

#[test]
fn a_call_repeated_over_a_new_connection_is_one_charge_and_two_attempts() {
    let close = Exchange::new(vec![Step::Fin]);
    let answer = |text| openai::json_exchange(text, 10, 5);
    // One worker, so that the second call takes the connection that the first one left.
    let builder = TestServer::builder().env("FACES_WORKERS", "1");
    let stage = Stage::with([answer("one"), close, answer("two")], builder, "10");
    for text in ["one", "two"] {
        let told = stage.post("/v1/chat/completions", &chat("alice"));
        assert_eq!(told.status, 200, "{}", told.text());
        assert_eq!(told.json()["choices"][0]["message"]["content"], text);
    }
    let rows = stage.server.ledger().wait_resolved(&stage.account, 2);
    assert!(rows.iter().all(|row| row.state == SETTLED && row.cost == rows[0].cost), "{rows:?}");
    let charges = charges(&stage, &stage.account);
    let attempts: Vec<Vec<Value>> = charges
        .iter()
        .map(|charge| {
            let hold = charge["hold"].as_str().unwrap();
            let shown = json(&stage.server.command(&["ledger", "show", hold, "--json"]));
            shown["attempts"].as_array().unwrap().clone()
        })
        .collect();
    assert_eq!(attempts.iter().map(Vec::len).collect::<Vec<_>>(), [1, 2], "{attempts:?}");
    let (stale, repeated) = (&attempts[1][0], &attempts[1][1]);
    assert_eq!((&stale["n"], &stale["status"]), (&1.into(), &0.into()), "{stale}");
    assert_eq!(stale["upstream_id"], Value::Null, "{stale}");
    assert_eq!((&repeated["n"], &repeated["status"]), (&2.into(), &200.into()), "{repeated}");
    assert_eq!(repeated["upstream_id"], "chatcmpl-scripted", "{repeated}");
    assert_eq!(stale["ended_at"], repeated["started_at"], "{stale} {repeated}");
    for attempt in &attempts[1] {
        let time = |name: &str| attempt[name].as_str().unwrap().to_owned();
        assert!(time("started_at") <= time("ended_at"), "{attempt}");
    }
}

/// The account's charges, the oldest first.
#[track_caller]
fn charges(stage: &Stage, account: &Account) -> Vec<Value> {
    let lines = stage.server.command(&["ledger", "export", "--format", "jsonl"]);
    let lines = out(&lines).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut lines: Vec<Value> = lines;
    lines.retain(|line| line["debit_account"] == account.id.as_str());
    lines
}

/// Id of the account's only charge.
#[track_caller]
fn charge(stage: &Stage, account: &Account) -> Value {
    let charges = charges(stage, account);
    assert_eq!(charges.len(), 1, "{charges:?}");
    charges[0].clone()
}

#[test]
fn a_hold_is_shown_with_its_usage_its_call_and_its_charge() {
    let stage = Stage::new([openai::json_exchange("ok", 10, 5)]);
    assert_eq!(stage.post("/v1/chat/completions", &chat("alice")).status, 200);
    let rows = stage.server.ledger().wait_resolved(&stage.account, 1);
    assert_eq!(rows[0].state, SETTLED);
    let charge = charge(&stage, &stage.account);
    assert_eq!(
        (&charge["kind"], charge["amount_nanousd"].as_i64()),
        (&"charge".into(), rows[0].cost)
    );
    let hold = charge["hold"].as_str().unwrap();
    let shown = json(&stage.server.command(&["ledger", "show", hold, "--json"]));
    assert_eq!(shown["state"], "settled", "{shown}");
    assert_eq!(nanousd(&shown["amount_usd"]), rows[0].amount, "{shown}");
    assert_eq!(Some(nanousd(&shown["cost_usd"])), rows[0].cost, "{shown}");
    assert_eq!(shown["account"], stage.account.id.as_str());
    assert_eq!(shown["usage"]["output_text"], 5, "{shown}");
    assert_eq!(
        (&shown["usage"]["basis"], &shown["usage"]["finish"]),
        (&"provider".into(), &"complete".into())
    );
    assert_eq!(shown["attempts"][0]["status"], 200, "{shown}");
    assert_eq!(shown["transfers"].as_array().unwrap().len(), 1);
    assert_eq!(shown["transfers"][0], charge);
    let account = json(&stage.server.command(&["ledger", "show", &stage.account.id, "--json"]));
    assert_eq!(nanousd(&account["balance_usd"]), stage.balance(), "{account}");
    let text = out(&stage.server.command(&["ledger", "show", hold]));
    assert!(text.contains("\nusage:\n") && text.contains("\nattempts:\nn "), "{text}");
}
