//! What is changed at one instance, or by the command line, holds at all others within two seconds,
//! though each keeps keys, faces and balances in memory.

use std::{net::SocketAddr, time::Duration};

use serde_json::{Value, json};

use crate::{
    last_cent::INSTANCES,
    postgres,
    support::{
        credit::{OUTPUT_TOKENS, request, usd_for},
        http::{Fetched, Request},
        models::OPENAI_MODEL,
        replies::openai,
        server::{Account, TestServer},
        upstream::Upstream,
        wait_for,
    },
};

const SEEN_WITHIN: Duration = Duration::from_secs(2);

struct Stage {
    servers: Vec<TestServer>,
    addresses: Vec<SocketAddr>,
    upstream: Upstream,
}

impl Stage {
    fn start(database: &str) -> Self {
        let answer = openai::json_exchange("paid", 10, u64::from(OUTPUT_TOKENS));
        let upstream = Upstream::start([answer.any_times()]);
        let start =
            || TestServer::builder().with_postgres(database).with_upstream(&upstream).start();
        // One after the other: the first migrates.
        let servers: Vec<TestServer> = (0..INSTANCES).map(|_| start()).collect();
        let addresses = servers.iter().map(TestServer::address).collect();
        Self { servers, addresses, upstream }
    }

    fn admin(&self, arguments: &[&str]) -> Value {
        self.servers[0].admin(arguments)
    }

    /// Asks every instance until all answer as they should.
    #[track_caller]
    fn everywhere(&self, what: &str, holds: impl Fn(SocketAddr) -> bool) {
        wait_for(what, SEEN_WITHIN, || {
            self.addresses.iter().all(|address| holds(*address)).then_some(())
        });
    }

    fn status_is(&self, what: &str, account: &Account, status: u16) {
        self.everywhere(what, |address| request(account, false).fetch(address).status == status);
    }
}

#[test]
fn a_change_at_one_instance_holds_at_all_within_two_seconds() {
    let cluster = match postgres::cluster() {
        Ok(cluster) => cluster,
        Err(why) => return postgres::skipped(why),
    };
    let database = cluster.database();
    let mut stage = Stage::start(&database.url);
    a_frozen_account_is_refused(&stage);
    credit_arrives(&stage);
    a_revoked_key_is_refused(&stage);
    a_changed_face_speaks(&stage);
    a_new_price_is_charged(&stage, &database.url);
    for server in &mut stage.servers {
        let status = server.terminate();
        assert!(status.success(), "{status}: {}", server.log());
    }
    stage.servers[0].audit();
}

fn a_frozen_account_is_refused(stage: &Stage) {
    let account = stage.servers[0].account();
    stage.status_is("an account", &account, 200);
    stage.admin(&["account", "freeze", "--account", &account.id]);
    stage.status_is("a frozen account", &account, 402);
    stage.admin(&["account", "unfreeze", "--account", &account.id]);
    stage.status_is("an account that is not frozen any more", &account, 200);
}

fn credit_arrives(stage: &Stage) {
    let account = stage.servers[0].account_with_usd(&usd_for(1));
    assert_eq!(request(&account, false).fetch(stage.addresses[0]).status, 200);
    stage.status_is("no credit", &account, 402);
    let usd = usd_for(100);
    stage.admin(&["topup", "--account", &account.id, "--usd", &usd, "--ref", "cluster"]);
    stage.status_is("credit", &account, 200);
}

fn a_revoked_key_is_refused(stage: &Stage) {
    let account = stage.servers[0].account();
    stage.status_is("a key", &account, 200);
    let listed = stage.admin(&["key", "list", "--account", &account.id]);
    let id = listed["data"][0]["id"].as_str().expect("the key's id");
    stage.admin(&["key", "revoke", "--key", id]);
    stage.status_is("a revoked key", &account, 401);
}

fn a_changed_face_speaks(stage: &Stage) {
    let account = stage.servers[0].account();
    stage.servers[0].alice(&account);
    let body = json!({"model": format!("alice@{OPENAI_MODEL}"), "max_tokens": OUTPUT_TOKENS,
        "messages": [{"role": "user", "content": "Who are you?"}]});
    let ask =
        |address| Request::post("/v1/chat/completions", &body).bearer(&account.key).fetch(address);
    let change = |method: &str, body: Option<Value>| -> Fetched {
        let request = Request::new(method, "/v1/faces/alice").bearer(&account.key);
        let request = match body {
            None => request,
            Some(body) => request.header("content-type", "application/json").body(body.to_string()),
        };
        request.fetch(stage.addresses[0])
    };
    let speaks_as = |name: &str, address| {
        assert_eq!(ask(address).status, 200);
        stage.upstream.requests().last().is_some_and(|asked| asked.has(name))
    };
    stage.everywhere("a face", |address| speaks_as("Alice Example", address));
    let changed = change("PATCH", Some(json!({"name": "Alice Renamed"})));
    assert_eq!(changed.status, 200, "{}", changed.text());
    stage.everywhere("its new name", |address| speaks_as("Alice Renamed", address));
    let deleted = change("DELETE", None);
    assert!(matches!(deleted.status, 200 | 204), "{}", deleted.text());
    stage.everywhere("a face that is gone", |address| ask(address).status == 404);
}

/// A price is new when a server starts with it.
fn a_new_price_is_charged(stage: &Stage, database: &str) {
    let account = stage.servers[0].account();
    let cost = |address| {
        let answer = request(&account, false).fetch(address);
        answer.header("x-faces-cost-usd").expect("what it cost").to_owned()
    };
    let listed = |address| {
        let listed = Request::get("/v1/billing/llm-costs").bearer(&account.key).fetch(address);
        listed.json()["data"].clone()
    };
    let before = cost(stage.addresses[0]);
    let mut dearer = TestServer::builder()
        .with_postgres(database)
        .with_upstream(&stage.upstream)
        .env("FACES_MARKUP_BPS", "2000")
        .start();
    let after = cost(dearer.address());
    assert_ne!(before, after);
    stage.everywhere("the new price", |address| cost(address) == after);
    let told = listed(dearer.address());
    assert_eq!(told[0]["markup_percent"], 20, "{told}");
    for address in &stage.addresses {
        assert_eq!(listed(*address), told);
    }
    assert!(dearer.terminate().success());
}
