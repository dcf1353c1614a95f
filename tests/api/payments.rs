//! Credit that comes in over the API: top-ups, events of a payment provider, plans.

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::{
    kit::{CREDIT_NANOUSD, Dialect, Stage, balance, error_of, nanousd},
    support::{
        http::{Fetched, Request},
        server::{Builder, TestServer},
    },
};

const SECRET: &str = "whsec_0123456789abcdef";
const OLD_SECRET: &str = "whsec_an-older-secret";

pub(crate) fn with_secrets() -> Builder {
    TestServer::builder().env("FACES_WEBHOOK_SECRETS", &format!("{OLD_SECRET},{SECRET}"))
}

fn trusting() -> Builder {
    TestServer::builder().env("FACES_TOPUP", "trusted")
}

fn now_s() -> i64 {
    i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()).unwrap()
}

fn signature(secret: &str, at: i64, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(format!("{at}.{body}").as_bytes());
    let hex: String =
        mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("t={at},v1={hex}")
}

/// Sends an event as its provider would.
#[track_caller]
fn send(stage: &Stage, body: &str) -> Fetched {
    send_signed(stage, body, &signature(SECRET, now_s(), body))
}

#[track_caller]
fn send_signed(stage: &Stage, body: &str, signature: &str) -> Fetched {
    event(body, signature).fetch(stage.server.address())
}

fn event(body: &str, signature: &str) -> Request {
    Request::new("POST", "/v1/billing/webhook")
        .header("content-type", "application/json")
        .header("faces-signature", signature)
        .body(body.as_bytes())
}

/// Tells a server of [`with_secrets`] that an account has paid, as its payment provider does.
#[track_caller]
pub(crate) fn pay(server: &TestServer, account_id: &str, usd: &str) {
    let body = succeeded("evt_paid", Some(account_id), usd, "pi_paid");
    let answer = event(&body, &signature(SECRET, now_s(), &body)).fetch(server.address());
    assert_eq!((answer.status, &answer.json()["outcome"]), (200, &json!("booked")));
}

fn succeeded(id: &str, account: Option<&str>, usd: &str, reference: &str) -> String {
    let account = account.map_or_else(String::new, |id| format!(r#""account":"{id}","#));
    format!(
        r#"{{"id":"{id}","type":"payment.succeeded","data":{{{account}"amount_usd":{usd},"payment_ref":"{reference}"}}}}"#
    )
}

#[track_caller]
fn top_up(stage: &Stage, body: &Value) -> Fetched {
    stage.post("/v1/billing/topup", body)
}

#[test]
fn a_customer_gives_itself_no_credit_unless_the_operator_trusts_it() {
    let stage = Stage::new([]);
    for body in [
        json!({"amount_usd": 20.0, "payment_ref": "mine"}),
        json!({"amount": 20.0}),
        json!({"amount": 5, "payment_ref": null}),
    ] {
        let answer = top_up(&stage, &body);
        assert_eq!(answer.status, 403, "{}", answer.text());
        let error = error_of(&answer, Dialect::Faces);
        for word in ["budget", "face", "model"] {
            assert!(!error.message.to_lowercase().contains(word), "{}", error.message);
        }
    }
    assert_eq!(stage.balance(), CREDIT_NANOUSD);
}

#[test]
fn a_trusted_top_up_counts_once_for_one_account() {
    let stage = Stage::with([], trusting(), "10");
    for body in [
        json!({"amount_usd": 20.0, "payment_ref": "pay-1"}),
        json!({"amount": 20, "payment_ref": "pay-1"}),
        json!({"amount": "20.000000000", "payment_ref": " pay-1 "}),
    ] {
        let answer = top_up(&stage, &body);
        assert_eq!(answer.status, 200, "{body}: {}", answer.text());
        assert_eq!(nanousd(&answer.json()["new_balance_usd"]), 30_000_000_000);
        assert_eq!(
            (&answer.json()["success"], &answer.json()["frozen"]),
            (&json!(true), &json!(false))
        );
    }
    let other_amount = top_up(&stage, &json!({"amount": 21, "payment_ref": "pay-1"}));
    assert_eq!(other_amount.status, 409, "{}", other_amount.text());
    let other = stage.server.account();
    let request =
        Request::post("/v1/billing/topup", &json!({"amount": 20, "payment_ref": "pay-1"}));
    let stolen = request.bearer(&other.key).fetch(stage.server.address());
    assert_eq!(stolen.status, 409, "{}", stolen.text());
    assert_eq!(balance(&stage.server, &other), CREDIT_NANOUSD);
    assert_eq!(stage.balance(), 30_000_000_000);
}

#[test]
fn a_wrong_top_up_changes_nothing_and_names_the_field() {
    let stage = Stage::with([], trusting(), "10");
    for (body, field) in [
        (r#"{"payment_ref":"a"}"#, json!(["body", "amount_usd"])),
        (r#"{"amount":null,"payment_ref":"a"}"#, json!(["body", "amount_usd"])),
        (r#"{"amount":0.99,"payment_ref":"a"}"#, json!(["body", "amount_usd"])),
        (r#"{"amount":-5,"payment_ref":"a"}"#, json!(["body", "amount_usd"])),
        (r#"{"amount":"five","payment_ref":"a"}"#, json!(["body", "amount_usd"])),
        (r#"{"amount":1.0000000001,"payment_ref":"a"}"#, json!(["body", "amount_usd"])),
        (r#"{"amount":9223372036,"payment_ref":"a"}"#, json!(["body", "amount_usd"])),
        (r#"{"amount":99999999999999999999,"payment_ref":"a"}"#, json!(["body", "amount_usd"])),
        (r#"{"amount":[],"payment_ref":"a"}"#, json!(["body", "amount_usd"])),
        (r#"{"amount":5}"#, json!(["body", "payment_ref"])),
        (r#"{"amount":5,"payment_ref":""}"#, json!(["body", "payment_ref"])),
        (r#"{"amount":5,"payment_ref":7}"#, json!(["body", "payment_ref"])),
        (r#"{"amount":5,"payment_ref":"a\u0000"}"#, json!(["body", "payment_ref"])),
        (r#"{"amount":5,"amount_usd":6,"payment_ref":"a"}"#, json!(["body"])),
        ("[]", json!(["body"])),
        (r#"[5,"a"]"#, json!(["body"])),
        ("{", json!(["body"])),
    ] {
        let request = Request::new("POST", "/v1/billing/topup")
            .header("content-type", "application/json")
            .body(body.as_bytes());
        let answer = stage.fetch(&request);
        assert_eq!(answer.status, 422, "{body}: {}", answer.text());
        assert_eq!(answer.json()["detail"][0]["loc"], field, "{body}");
    }
    assert_eq!(stage.balance(), CREDIT_NANOUSD);
}

#[test]
fn a_frozen_account_stays_frozen_when_credit_comes_in() {
    let stage = Stage::with([], trusting(), "10");
    stage.server.admin(&["account", "freeze", "--account", &stage.account.id]);
    let answer = top_up(&stage, &json!({"amount": 5, "payment_ref": "p"}));
    assert_eq!((answer.status, &answer.json()["frozen"]), (200, &json!(true)));
    let told = stage.get("/v1/billing/balance").json();
    assert_eq!((&told["frozen"], &told["is_active"]), (&json!(true), &json!(false)));
    assert_eq!(told["data"]["is_frozen"], true);
    assert_eq!(nanousd(&told["balance_usd"]), 15_000_000_000);
}

#[test]
fn a_signed_payment_is_booked_once_whatever_is_repeated() {
    let stage = Stage::with([], with_secrets(), "10");
    let id = stage.account.id.clone();
    let event = succeeded("evt_1", Some(&id), "20.00", "pi_1");
    for _ in 0..3 {
        let answer = send(&stage, &event);
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json()["outcome"], "booked");
    }
    // The same payment under another event's id, and the customer who names it.
    assert_eq!(send(&stage, &succeeded("evt_2", Some(&id), "20", "pi_1")).status, 200);
    let named = top_up(&stage, &json!({"amount": 20, "payment_ref": "pi_1"}));
    assert_eq!(named.status, 200, "{}", named.text());
    assert_eq!(stage.balance(), 30_000_000_000);
    // Another amount under the same id or reference.
    for conflict in [
        succeeded("evt_1", Some(&id), "21.00", "pi_1"),
        succeeded("evt_1", None, "20.00", "pi_1"),
        succeeded("evt_3", Some(&id), "21.00", "pi_1"),
    ] {
        let answer = send(&stage, &conflict);
        assert_eq!(answer.status, 409, "{conflict}: {}", answer.text());
    }
    // What was refused is not remembered.
    assert_eq!(send(&stage, &succeeded("evt_3", Some(&id), "1.50", "pi_3")).status, 200);
    assert_eq!(stage.balance(), 31_500_000_000);
    let by_old_secret = succeeded("evt_4", Some(&id), "1", "pi_4");
    let signed = signature(OLD_SECRET, now_s(), &by_old_secret);
    assert_eq!(send_signed(&stage, &by_old_secret, &signed).status, 200);
}

#[test]
fn events_at_the_same_time_are_booked_once() {
    let stage = Stage::with([], with_secrets(), "10");
    let event = succeeded("evt_1", Some(&stage.account.id), "5", "pi_1");
    std::thread::scope(|scope| {
        let sent: Vec<_> = (0..8).map(|_| scope.spawn(|| send(&stage, &event).status)).collect();
        assert!(sent.into_iter().all(|one| one.join().unwrap() == 200));
    });
    assert_eq!(stage.balance(), 15_000_000_000);
}

#[test]
fn a_payment_for_nobody_waits_for_the_customer_who_names_it() {
    let stage = Stage::with([], with_secrets(), "10");
    assert_eq!(
        send(&stage, &succeeded("evt_1", None, "7.25", "pi_x")).json()["outcome"],
        "unclaimed"
    );
    let wrong = top_up(&stage, &json!({"amount": 8, "payment_ref": "pi_x"}));
    assert_eq!(wrong.status, 409, "{}", wrong.text());
    assert_eq!(top_up(&stage, &json!({"amount": 7.25, "payment_ref": "pi_y"})).status, 403);
    for _ in 0..2 {
        let claimed = top_up(&stage, &json!({"amount": 7.25, "payment_ref": "pi_x"}));
        assert_eq!(claimed.status, 200, "{}", claimed.text());
    }
    assert_eq!(stage.balance(), 17_250_000_000);
    let other = stage.server.account();
    let request =
        Request::post("/v1/billing/topup", &json!({"amount": 7.25, "payment_ref": "pi_x"}));
    let late = request.bearer(&other.key).fetch(stage.server.address());
    assert_eq!(late.status, 409, "{}", late.text());
    // One for an account is nobody else's.
    let mine = succeeded("evt_2", Some(&stage.account.id), "3", "pi_mine");
    assert_eq!(send(&stage, &mine).status, 200);
    let request =
        Request::post("/v1/billing/topup", &json!({"amount": 3, "payment_ref": "pi_mine"}));
    assert_eq!(request.bearer(&other.key).fetch(stage.server.address()).status, 403);
    assert_eq!(balance(&stage.server, &other), CREDIT_NANOUSD);
}

#[test]
fn a_payment_that_was_given_back_is_nobodys_credit() {
    let stage = Stage::with([], with_secrets().env("FACES_TOPUP", "trusted"), "10");
    let paid = succeeded("evt_1", None, "7", "pi_x");
    assert_eq!(send(&stage, &paid).json()["outcome"], "unclaimed");
    let refund = paid.replace("succeeded", "refunded").replace("evt_1", "evt_2");
    assert_eq!(send(&stage, &refund).json()["outcome"], "noted");
    let late = top_up(&stage, &json!({"amount": 7, "payment_ref": "pi_x"}));
    assert_eq!(late.status, 409, "{}", late.text());
    assert_eq!(stage.balance(), CREDIT_NANOUSD);
    // Who named it before the refund gets the same answer as then.
    assert_eq!(send(&stage, &succeeded("evt_3", None, "3", "pi_y")).status, 200);
    let claim = json!({"amount": 3, "payment_ref": "pi_y"});
    assert_eq!(top_up(&stage, &claim).status, 200);
    let refund = succeeded("evt_4", None, "3", "pi_y").replace("succeeded", "refunded");
    assert_eq!(send(&stage, &refund).status, 200);
    assert_eq!(top_up(&stage, &claim).status, 200, "nothing is booked by a repeat");
    assert_eq!(stage.balance(), 13_000_000_000);
}

#[test]
fn an_event_that_is_not_signed_rightly_does_nothing() {
    let stage = Stage::with([], with_secrets(), "10");
    let event = succeeded("evt_1", Some(&stage.account.id), "5", "pi_1");
    let changed = event.replace(":5,", ":500,");
    let right = signature(SECRET, now_s(), &event);
    for (body, signed) in [
        (&changed, right.clone()),
        (&event, signature("another-secret-of-16", now_s(), &event)),
        (&event, signature(SECRET, now_s() - 301, &event)),
        (&event, signature(SECRET, now_s() + 330, &event)),
        (&event, "t=1".to_owned()),
        (&event, String::new()),
        (&event, right.replace("v1=", "v2=")),
    ] {
        let answer = send_signed(&stage, body, &signed);
        assert_eq!(answer.status, 401, "{signed}: {}", answer.text());
    }
    let unsigned = Request::new("POST", "/v1/billing/webhook")
        .header("content-type", "application/json")
        .bearer(&stage.account.key)
        .body(event.as_bytes());
    assert_eq!(unsigned.fetch(stage.server.address()).status, 401, "an API key is no signature");
    assert_eq!(stage.balance(), CREDIT_NANOUSD);
}

#[test]
fn other_events_are_taken_and_wrong_ones_are_told() {
    let stage = Stage::with([], with_secrets(), "10");
    let id = &stage.account.id;
    let unknown = r#"{"id":"evt_9","type":"customer.created","data":{"x":1}}"#;
    assert_eq!(send(&stage, unknown).json()["outcome"], "ignored");
    let paid = succeeded("evt_1", Some(id), "5", "pi_1");
    assert_eq!(send(&stage, &paid).status, 200);
    let refund = paid.replace("succeeded", "refunded").replace("evt_1", "evt_2");
    assert_eq!(send(&stage, &refund).json()["outcome"], "noted");
    assert_eq!(stage.balance(), 15_000_000_000, "credit is never taken back by itself");
    for wrong in [
        "{".to_owned(),
        "{}".to_owned(),
        r#"{"id":"e","type":"payment.succeeded"}"#.to_owned(),
        r#"{"id":"","type":"payment.succeeded","data":{}}"#.to_owned(),
        succeeded("e", Some("nobody"), "5", "r"),
        succeeded("e", Some("0192f0c1-2d3e-7a4b-8c5d-6e7f8091a2b3"), "5", "r"),
        succeeded("e", Some(id), "0", "r"),
        succeeded("e", Some(id), "1e3", "r").replace("1e3", "true"),
        succeeded("e", Some(id), "5", ""),
        succeeded("e", Some(id), "9223372036", "r"),
    ] {
        let answer = send(&stage, &wrong);
        assert_eq!(answer.status, 422, "{wrong}: {}", answer.text());
    }
    assert_eq!(stage.balance(), 15_000_000_000);
}

#[test]
fn without_secrets_there_is_no_webhook() {
    let stage = Stage::new([]);
    let answer = send(&stage, &succeeded("evt_1", Some(&stage.account.id), "5", "pi_1"));
    assert_eq!(answer.status, 404, "{}", answer.text());
}

#[test]
fn plans_are_the_operators_and_nothing_is_sold() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("plans.toml");
    let plans = "[[plan]]\nname = \"free\"\nface_limit = 2\ncompile_tokens = 5_000\n\n\
        [[plan]]\nname = \"pro\"\nprice = \"20 USD a month\"\n";
    std::fs::write(&file, plans).unwrap();
    let builder = TestServer::builder().env("FACES_PLANS_FILE", &file.display().to_string());
    let stage = Stage::with([], builder, "10");
    let told = stage.get("/v1/billing/subscription").json();
    assert_eq!((&told["plan"], &told["status"]), (&json!("free"), &json!("active")));
    assert_eq!((&told["face_count"], &told["face_limit"]), (&json!(1), &json!(2)));
    assert_eq!(told["current_period_end"], Value::Null);
    assert_eq!(told["plans"].as_array().unwrap().len(), 2);
    assert_eq!(stage.post("/v1/faces", &json!({"username": "bo"})).status, 201);
    let third = stage.post("/v1/faces", &json!({"username": "cy"}));
    assert_eq!(third.status, 403, "{}", third.text());
    stage.server.admin(&["account", "plan", "--account", &stage.account.id, "--plan", "pro"]);
    assert_eq!(stage.get("/v1/billing/subscription").json()["plan"], "pro");
    assert_eq!(stage.post("/v1/faces", &json!({"username": "cy"})).status, 201);
    let output = stage.server.command(&[
        "admin",
        "account",
        "plan",
        "--account",
        &stage.account.id,
        "--plan",
        "gold",
    ]);
    assert_eq!(output.status.code(), Some(1));

    for path in [
        "/v1/billing/checkout?plan=pro",
        "/v1/billing/card-setup",
        "/v1/billing/subscription/cancel",
    ] {
        let answer = stage.fetch(&Request::new("POST", path));
        assert_eq!(answer.status, 400, "{path}: {}", answer.text());
        let error = error_of(&answer, Dialect::Faces);
        assert_eq!(error.code, "not_offered", "{path}");
    }
    for path in ["/v1/billing/checkout?plan=gold", "/v1/billing/checkout"] {
        let answer = stage.fetch(&Request::new("POST", path));
        assert_eq!(answer.status, 422, "{path}: {}", answer.text());
    }
}
