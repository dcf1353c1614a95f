//! An instance that stands still until others have taken over its holds, and then goes on.

use std::time::Duration;

use crate::{
    books::{self, RECOVERED},
    postgres,
    support::{
        BOUND,
        credit::request,
        ledger::Ledger,
        replies::openai,
        server::TestServer,
        upstream::{Exchange, Step, Upstream},
        wait_for,
    },
};

/// What the provider says; the last before its end when the instance has lost its hold.
const PIECES: [&str; 3] = ["first ", "second ", "too late"];
/// A checkpoint is written for output that is a second older than the first.
const SECOND_AFTER: Duration = Duration::from_millis(1_100);
/// The gate before the last piece.
const FENCED: &str = "fenced";

#[test]
fn an_instance_that_wakes_up_fenced_shows_nothing_more_and_charges_nothing_more() {
    let cluster = match postgres::own_cluster() {
        Ok(cluster) => cluster,
        Err(why) => return postgres::skipped(&why),
    };
    let database = cluster.database();
    let upstream = Upstream::start([answer()]);
    let server =
        || TestServer::builder().with_postgres(&database.url).with_upstream(&upstream).start();
    let mut zombie = server();
    let other = server();
    let account = other.account();
    let ledger = Ledger::open(&database.url);

    let mut events = request(&account, true).send(zombie.address()).answer().events();
    let mut shown = String::new();
    while !shown.contains(PIECES[1]) {
        let event = events.next_event().expect("the stream goes on");
        shown.push_str(&format!("{event:?}"));
    }
    let checkpoint = wait_for("a checkpoint", BOUND, || {
        let rows = ledger.rows("SELECT checkpoint FROM ledger_hold WHERE checkpoint > 0");
        rows.first()?.try_get::<i64>("", "checkpoint").ok()
    });
    zombie.signal("STOP");
    let node = format!("pid {}", zombie.pid());
    let instance = || books::instance(&ledger, &node);
    let fenced = wait_for("nothing to be left of the instance", BOUND, || {
        instance().filter(|(state, _)| *state == RECOVERED)
    });
    let recovered = ledger.wait_resolved(&account, 1);
    assert_eq!((recovered[0].state, recovered[0].cost), (RECOVERED, Some(checkpoint)));
    let wallet = ledger.wallet(&account);
    assert_eq!((wallet.debits, wallet.leased), (checkpoint, 0));
    // The rest lies in the socket's buffer when the instance wakes up.
    upstream.open(FENCED);
    upstream.wait_answered(0);
    zombie.signal("CONT");

    let mut rest = String::new();
    while let Some(event) = events.next_event() {
        rest.push_str(&format!("{event:?}"));
    }
    assert!(!rest.contains(PIECES[2]), "shown by a fenced instance: {rest}");
    assert!(!rest.contains("[DONE]"), "an end without a settlement: {rest}");
    let status = zombie.wait_exit(BOUND);
    assert!(!status.success(), "a fenced instance ended with {status}");
    assert_eq!(ledger.wait_resolved(&account, 1), recovered);
    assert_eq!(ledger.wallet(&account), wallet);
    assert_eq!(instance(), Some(fenced), "it wrote after it was fenced");
}

fn answer() -> Exchange {
    let records = openai::stream(&PIECES, 1, 10);
    let rest = records[3..].iter().cloned();
    let begun = Exchange::sse(records[..2].iter().cloned())
        .then(Step::Pause(SECOND_AFTER))
        .then_write(records[2].clone())
        .then_wait(FENCED);
    rest.fold(begun, Exchange::then_write).may_be_left()
}
