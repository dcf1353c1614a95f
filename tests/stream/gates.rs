//! What a client sees is written: nothing of an answer comes before its hold is in the database,
//! although the provider was asked at once.

use std::time::Duration;

use crate::{
    route::{Route, Stage},
    support::upstream::Exchange,
};

/// How long a client watches for an answer that must not come; the database's own patience with a
/// writer that waits is 5 s.
const WINDOW: Duration = Duration::from_millis(300);

#[test]
fn a_provider_is_asked_at_once_and_nothing_is_shown_before_the_hold_is_written() {
    for route in Route::ALL {
        for stream in [true, false] {
            let answer = || {
                if stream {
                    return Exchange::sse(route.records());
                }
                let body = route.completion("shown").to_string();
                Exchange::bytes(200, "application/json", body.into())
            };
            let stage = Stage::new([answer().times(2)]);
            // The account's lease has its credit from here on.
            assert_eq!(stage.open(route, "first", stream).fetch().status, 200);
            let ledger = stage.server.writable_ledger();
            ledger.wait_resolved(&stage.account, 1);
            ledger.keep_from_writing();
            let request = route.request(&stage.account.key, "second", stream);
            let sent = request.send(stage.server.address());
            stage.upstream.wait_requests(2);
            let what = format!("{route:?}, stream {stream}");
            if sent.has_answer_within(WINDOW) {
                panic!("{what}: {}", sent.answer().fetch().text());
            }
            ledger.let_write();
            let fetched = sent.answer().fetch();
            assert_eq!(fetched.status, 200, "{what}: {}", fetched.text());
            stage.assert_books(2, |_| true);
        }
    }
}
