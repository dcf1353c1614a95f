//! The last credit: 64 clients on an account that can pay for exactly 10 requests.

use crate::{
    postgres,
    support::{
        BOUND,
        credit::{OUTPUT_TOKENS, price_nanousd, request, usd_for},
        http::{End, Fetched},
        ledger::SETTLED,
        replies::openai,
        server::{Account, Builder, TestServer},
        upstream::{Exchange, Upstream},
        wait_for,
    },
};

const CLIENTS: usize = 64;
const PAID: usize = 10;

#[track_caller]
fn ten_of_sixty_four_are_served(builder: Builder, stream: bool) {
    let output = u64::from(OUTPUT_TOKENS);
    let answer = if stream {
        let mut records = openai::stream(&["paid"], 10, output);
        let rest = records.split_off(1);
        rest.into_iter().fold(Exchange::sse(records).then_wait("decided"), Exchange::then_write)
    } else {
        let body = openai::completion("paid", 10, output).to_string();
        let (first, rest) = body.split_at(1);
        Exchange::bytes(200, "application/json", first.into()).then_wait("decided").then_write(rest)
    };
    let upstream = Upstream::start([answer.times(PAID)]);
    let server = builder.with_upstream(&upstream).start();
    let account = server.account_with_usd(&usd_for(PAID));
    let answers = all_at_once(&server, &account, stream, || upstream.open("decided"));
    let statuses = |wanted: u16| answers.iter().filter(|answer| answer.status == wanted).count();
    let shown: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!((statuses(200), statuses(402)), (PAID, CLIENTS - PAID), "{shown:?}");
    for answer in &answers {
        assert_eq!(answer.end, End::Clean);
        let text = answer.text();
        if answer.status == 200 {
            assert!(text.contains("paid"), "{text}");
        } else {
            let error = &answer.json()["error"];
            assert_eq!(error["code"], "insufficient_credits", "{text}");
            // Others hold the credit: it is worth asking again.
            assert!(answer.header("retry-after").is_some(), "{text}");
        }
    }
    let ledger = server.ledger();
    let rows = ledger.wait_resolved(&account, PAID);
    for row in rows {
        assert_eq!((row.state, row.amount), (SETTLED, price_nanousd()), "{row:?}");
        assert_eq!(row.cost, Some(price_nanousd()), "{row:?}");
    }
    let wallet = ledger.wallet(&account);
    assert_eq!((wallet.balance(), wallet.leased), (0, 0), "{wallet:?}");
    server.audit();
    let late = request(&account, stream).fetch(server.address());
    assert_eq!(late.status, 402, "{}", late.text());
    assert_eq!(late.header("retry-after"), None, "nothing to wait for: {}", late.text());
}

/// Sends all requests at once; calls `decided` when all but the paid ones have their answer.
#[track_caller]
fn all_at_once(
    server: &TestServer,
    account: &Account,
    stream: bool,
    decided: impl Fn(),
) -> Vec<Fetched> {
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| scope.spawn(|| request(account, stream).fetch(server.address())))
            .collect();
        wait_for("54 refusals", BOUND, || {
            let ended = clients.iter().filter(|client| client.is_finished()).count();
            (ended == CLIENTS - PAID).then_some(())
        });
        decided();
        clients.into_iter().map(|client| client.join().expect("the client ends")).collect()
    })
}

#[test]
fn ten_of_sixty_four_clients_are_served_on_sqlite() {
    ten_of_sixty_four_are_served(TestServer::builder(), false);
}

#[test]
fn ten_of_sixty_four_streams_are_served_on_sqlite() {
    ten_of_sixty_four_are_served(TestServer::builder(), true);
}

#[test]
fn ten_of_sixty_four_clients_are_served_on_postgresql() {
    match postgres::cluster() {
        Ok(cluster) => {
            let database = cluster.database();
            ten_of_sixty_four_are_served(TestServer::builder().with_postgres(&database.url), false);
        }
        Err(why) => postgres::skipped(why),
    }
}
