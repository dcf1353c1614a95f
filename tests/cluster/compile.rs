//! The queue of texts to compile, shared by instances over one PostgreSQL.

use serde_json::{Value, json};

use crate::{
    postgres,
    support::{
        BOUND,
        http::Request,
        ledger::SETTLED,
        models::OPENAI_MODEL,
        replies::openai,
        server::{Account, TestServer},
        upstream::{Exchange, Framing, Step, Upstream},
        wait_for,
    },
};

/// A dead instance is noticed when its lease in the ledger is over, which takes longer than a job's.
const TAKEN_OVER: std::time::Duration = std::time::Duration::from_secs(55);

/// What the scripted model says, once a gate is open.
fn extraction(text: &str, gate: Option<&str>) -> Exchange {
    let primitives = json!([{"component": "beta", "text": format!("I remember {text} well.")}]);
    let answer = json!({"facts": [], "primitives": primitives});
    let body = openai::completion(&answer.to_string(), 100, 20).to_string().into_bytes();
    let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
    let framing = Framing::Length { missing: 0 };
    let wait = gate.map(|gate| Step::Wait(gate.to_owned()));
    let rest = [Step::Head { status: 200, headers, framing }, Step::Write(body)];
    Exchange::new(wait.into_iter().chain(rest).collect()).containing(text)
}

fn send(server: &TestServer, account: &Account, method: &str, path: &str, body: &Value) -> Value {
    let request = Request::new(method, path)
        .header("content-type", "application/json")
        .body(body.to_string().into_bytes());
    let answer = request.bearer(&account.key).fetch(server.address());
    assert!((200..300).contains(&answer.status), "{method} {path}: {}", answer.text());
    answer.json()
}

fn document(server: &TestServer, account: &Account, text: &str) -> String {
    let body = json!({"model": "alice", "content": text});
    let made = send(server, account, "POST", "/v1/compile/documents", &body);
    let id = made["id"].as_str().expect("an id").to_owned();
    send(server, account, "POST", &format!("/v1/compile/documents/{id}/make"), &json!({}));
    id
}

#[track_caller]
fn wait_synced(server: &TestServer, account: &Account, id: &str) {
    wait_for("a document in its face", TAKEN_OVER, || {
        let path = format!("/v1/compile/documents/{id}");
        let answer = Request::get(&path).bearer(&account.key).fetch(server.address());
        (answer.json()["status"] == "synced").then_some(())
    });
}

#[test]
fn instances_share_the_queue_and_take_over_from_one_that_was_killed() {
    let cluster = match postgres::cluster() {
        Ok(cluster) => cluster,
        Err(why) => return postgres::skipped(why),
    };
    let database = cluster.database();
    let upstream = Upstream::start([
        extraction("TEXT-A", Some("both")),
        extraction("TEXT-B", Some("both")),
        extraction("TEXT-C", Some("never")).may_be_left(),
    ]);
    let start = || {
        let server = TestServer::builder().with_postgres(&database.url).with_upstream(&upstream);
        server
            .env("FACES_COMPILE_MODEL", OPENAI_MODEL)
            .env("FACES_COMPILE_JOBS_MAX", "1")
            .env("FACES_COMPILE_POLL_MS", "20")
            .env("FACES_COMPILE_LEASE_MS", "900")
            .start()
    };
    // One after the other: the first migrates.
    let mut first = start();
    let account = first.account_with_usd("10");
    first.alice(&account);
    let mut second = start();

    let texts = ["I think of TEXT-A each day.", "I think of TEXT-B each day."];
    let ids = texts.map(|text| document(&first, &account, text));
    // Each instance works on one at a time, and both wait for the gate: so both have one.
    upstream.wait_requests(2);
    upstream.open("both");
    for id in &ids {
        wait_synced(&second, &account, id);
    }

    // Only the first one runs when the third text comes, and it dies over it.
    let status = second.terminate();
    assert!(status.success(), "{status}: {}", second.log());
    let third = document(&first, &account, "I think of TEXT-C each day.");
    upstream.wait_requests(3);
    first.kill();
    second.start_again();
    upstream.expect(extraction("TEXT-C", None));
    wait_synced(&second, &account, &third);
    assert_eq!(upstream.requests().len(), 4, "the others were not asked for again");
    let path = "/v1/faces/alice";
    let face = send(&second, &account, "GET", path, &json!({}));
    assert_eq!(face["component_counts"]["beta"].as_u64().map(|count| count >= 3), Some(true));

    let rows = wait_for("all holds to be resolved", BOUND, || {
        let rows = second.ledger().wait_resolved(&account, 4);
        (rows.len() == 4).then_some(rows)
    });
    let paid = rows.iter().filter(|row| row.state == SETTLED && row.cost > Some(0)).count();
    assert_eq!(paid, 3, "{rows:?}");
    let status = second.terminate();
    assert!(status.success(), "{status}: {}", second.log());
    second.audit();
    upstream.open("never");
}
