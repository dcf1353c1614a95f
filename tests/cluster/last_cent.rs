//! The last cent: 64 clients on three instances, with credit for exactly 24 requests.

use std::{net::SocketAddr, time::Duration};

use serde_json::Value;

use crate::{
    postgres,
    support::{
        BOUND,
        credit::{OUTPUT_TOKENS, price_nanousd, request, usd_for},
        http::{End, Fetched, Request},
        ledger::SETTLED,
        replies::openai,
        server::{Account, TestServer},
        upstream::Upstream,
        wait_for,
    },
};

pub(crate) const INSTANCES: usize = 3;
pub(crate) const CLIENTS: usize = 64;
pub(crate) const PAID: usize = 24;
/// How often a client asks again when others hold the credit.
const RETRIES: usize = 20;

/// Asks as an SDK does: again, when the server says that this may help; the last answer.
pub(crate) fn ask(address: SocketAddr, account: &Account, stream: bool) -> Fetched {
    let mut answer = request(account, stream).fetch(address);
    for _ in 0..RETRIES {
        let Some(seconds) = answer.header("retry-after").filter(|_| answer.status == 402) else {
            break;
        };
        wait_as_told(seconds.parse().expect("whole seconds"));
        answer = request(account, stream).fetch(address);
    }
    answer
}

/// What the server told to wait is part of the behaviour, not a guess of the test.
fn wait_as_told(seconds: u64) {
    std::thread::sleep(Duration::from_secs(seconds));
}

fn available(address: SocketAddr, account: &Account) -> Value {
    let answer = Request::get("/v1/billing/balance").bearer(&account.key).fetch(address);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["available_usd"].clone()
}

pub(crate) fn check_answers(answers: &[Fetched], stream: bool) {
    let (paid, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
    let shown: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(paid.len(), PAID, "{shown:?}");
    for answer in paid {
        let text = answer.text();
        assert_eq!(answer.end, End::Clean);
        assert!(text.contains("paid") && text.contains("[DONE]") == stream, "{text}");
    }
    for answer in refused {
        assert_eq!((answer.status, answer.end), (402, End::Clean), "{}", answer.text());
        let code = answer.json()["error"]["code"].clone();
        assert_eq!(code, "insufficient_credits", "{}", answer.text());
    }
}

#[track_caller]
fn exactly_the_paid_ones_are_served(stream: bool) {
    let cluster = match postgres::cluster() {
        Ok(cluster) => cluster,
        Err(why) => return postgres::skipped(why),
    };
    let database = cluster.database();
    let tokens = u64::from(OUTPUT_TOKENS);
    let answer = if stream {
        openai::stream_exchange(&["paid"], 10, tokens)
    } else {
        openai::json_exchange("paid", 10, tokens)
    };
    let upstream = Upstream::start([answer.times(PAID)]);
    let start =
        || TestServer::builder().with_postgres(&database.url).with_upstream(&upstream).start();
    // One after the other: the first migrates.
    let mut servers: Vec<TestServer> = (0..INSTANCES).map(|_| start()).collect();
    let account = servers[0].account_with_usd(&usd_for(PAID));
    let addresses: Vec<SocketAddr> = servers.iter().map(TestServer::address).collect();

    let answers: Vec<Fetched> = std::thread::scope(|scope| {
        let account = &account;
        let ask_at = |address| scope.spawn(move || ask(address, account, stream));
        let clients: Vec<_> = addresses.iter().copied().cycle().take(CLIENTS).map(ask_at).collect();
        clients.into_iter().map(|client| client.join().expect("the client ends")).collect()
    });
    check_answers(&answers, stream);
    for address in addresses {
        wait_for("no credit on every instance", BOUND, || {
            (available(address, &account).as_f64() == Some(0.0)).then_some(())
        });
        let late = request(&account, stream).fetch(address);
        assert_eq!(late.status, 402, "{}", late.text());
    }

    // What leases kept is folded when their instances are gone.
    for server in &mut servers {
        let status = server.terminate();
        assert!(status.success(), "{status}: {}", server.log());
    }
    let ledger = servers[0].ledger();
    for row in ledger.wait_resolved(&account, PAID) {
        assert_eq!((row.state, row.cost), (SETTLED, Some(price_nanousd())), "{row:?}");
    }
    let wallet = ledger.wallet(&account);
    assert_eq!((wallet.balance(), wallet.leased), (0, 0), "{wallet:?}");
    servers[0].audit();
}

#[test]
fn the_last_cent_is_spent_once_by_answers_of_three_instances() {
    exactly_the_paid_ones_are_served(false);
}

#[test]
fn the_last_cent_is_spent_once_by_streams_of_three_instances() {
    exactly_the_paid_ones_are_served(true);
}
