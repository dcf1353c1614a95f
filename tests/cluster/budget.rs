//! A key's budget for exactly 24 requests, asked for by 64 clients on three instances, and raised.

use std::{net::SocketAddr, time::Duration};

use crate::{
    last_cent::{CLIENTS, INSTANCES, PAID, ask, check_answers},
    postgres,
    support::{
        credit::{OUTPUT_TOKENS, request, usd_for},
        http::Fetched,
        replies::openai,
        server::{Account, TestServer},
        upstream::Upstream,
        wait_for,
    },
};

/// A changed budget must reach every instance within this.
const SEEN_WITHIN: Duration = Duration::from_secs(2);

#[test]
fn three_instances_spend_a_budget_once_and_follow_when_it_is_raised() {
    let cluster = match postgres::cluster() {
        Ok(cluster) => cluster,
        Err(why) => return postgres::skipped(why),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let database = runtime.expect("a runtime").block_on(cluster.create_database());
    let answer = openai::json_exchange("paid", 10, u64::from(OUTPUT_TOKENS));
    let upstream = Upstream::start([answer.times(PAID + INSTANCES)]);
    let start =
        || TestServer::builder().with_postgres(&database.url).with_upstream(&upstream).start();
    // One after the other: the first migrates.
    let mut servers: Vec<TestServer> = (0..INSTANCES).map(|_| start()).collect();
    let account = servers[0].account();
    let key = servers[0].key(&account.id, &["--budget-usd", &usd_for(PAID), "--name", "budgeted"]);
    let budgeted = Account { key, ..account.clone() };
    let addresses: Vec<SocketAddr> = servers.iter().map(TestServer::address).collect();

    let answers: Vec<Fetched> = std::thread::scope(|scope| {
        let budgeted = &budgeted;
        let ask_at = |address| scope.spawn(move || ask(address, budgeted, false));
        let clients: Vec<_> = addresses.iter().copied().cycle().take(CLIENTS).map(ask_at).collect();
        clients.into_iter().map(|client| client.join().expect("the client ends")).collect()
    });
    check_answers(&answers, false);
    for refused in answers.iter().filter(|answer| answer.status == 402) {
        assert_eq!(refused.json()["error"]["limit"], "key_budget", "{}", refused.text());
    }

    let listed = servers[0].admin(&["key", "list", "--account", &account.id]);
    let shown = &listed["data"][1];
    assert_eq!((&shown["name"], &shown["spent_usd"]), (&"budgeted".into(), &shown["budget_usd"]));
    let id = shown["id"].as_str().expect("the key's id");
    servers[0].admin(&["key", "set", "--key", id, "--budget-usd", &usd_for(PAID + INSTANCES)]);
    for address in &addresses {
        wait_for("the raised budget", SEEN_WITHIN, || {
            (request(&budgeted, false).fetch(*address).status == 200).then_some(())
        });
    }
    for address in addresses {
        let late = request(&budgeted, false).fetch(address);
        assert_eq!(late.json()["error"]["limit"], "key_budget", "{}", late.text());
    }
    for server in &mut servers {
        let status = server.terminate();
        assert!(status.success(), "{status}: {}", server.log());
    }
    servers[0].audit();
}
