//! Of all who want the same embeddings, one pays, whatever fails meanwhile.

use serde_json::Value;

use super::{
    BOATS, CREDIT, FACTS, MODEL, TEA, TEA_BOATS, answer, bill, builder, face, model, similarity,
    spent, stage, stored, tea_and_boats, tokens,
};
use crate::{
    kit::{Dialect, Stage, error_of},
    postgres,
    support::{
        BOUND,
        http::Request,
        ledger::{SETTLED, VOIDED},
        models::usd,
        replies::openai,
        upstream::{Exchange, Framing, Step, Upstream},
        wait_for,
    },
};

/// An answer that waits for a gate.
fn held(gate: &str, body: &Value) -> Exchange {
    let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
    let head = Step::Head { status: 200, headers, framing: Framing::Length { missing: 0 } };
    Exchange::new(vec![
        Step::Wait(gate.to_owned()),
        head,
        Step::Write(body.to_string().into_bytes()),
    ])
}

#[test]
fn after_a_failure_the_batches_before_are_not_paid_again() {
    let script = [
        Exchange::json(200, &answer(&[TEA])).containing(TEA),
        Exchange::json(500, &openai::error("server_error", "broken", None)).containing(BOATS),
        Exchange::json(200, &answer(&[BOATS])).containing(BOATS),
    ];
    let stage = stage(Upstream::start(script), builder().env("FACES_EMBEDDING_BATCH_MAX", "1"));
    face(&stage, "tea", &[("beta", TEA), ("beta", BOATS)]);
    face(&stage, "boats", &[]);
    let failed = stage.get(TEA_BOATS);
    assert_eq!(failed.status, 502, "{}", failed.text());
    assert_eq!(error_of(&failed, Dialect::Faces).code, "upstream_error");
    assert_eq!((spent(&stage), stored(&stage)), (bill(tokens(&[TEA])), 0));
    similarity(&stage, "tea", "boats");
    assert_eq!(spent(&stage), bill(tokens(&[TEA])) + bill(tokens(&[BOATS])));
    let states: Vec<i64> =
        stage.server.ledger().holds(&stage.account).iter().map(|row| row.state).collect();
    assert_eq!(states, [SETTLED, VOIDED, SETTLED]);
}

#[test]
fn two_requests_at_once_pay_once() {
    let script = [
        held("gate", &answer(&[TEA, FACTS])).containing(TEA),
        Exchange::json(200, &answer(&[BOATS])).containing(BOATS),
    ];
    let stage = stage(Upstream::start(script), builder());
    tea_and_boats(&stage);
    let request = Request::get(TEA_BOATS).bearer(&stage.account.key);
    let first = request.send(stage.server.address());
    stage.upstream.wait_requests(1);
    let second = request.send(stage.server.address());
    stage.upstream.open("gate");
    for sent in [first, second] {
        assert_eq!(sent.answer().fetch().status, 200);
    }
    assert_eq!(spent(&stage), bill(tokens(&[TEA, FACTS])) + bill(tokens(&[BOATS])));
}

#[test]
fn what_a_client_left_behind_is_waited_for_and_not_paid_again() {
    let script = [held("gate", &answer(&[TEA]))];
    let upstream = Upstream::start(script);
    let builder = builder().with_upstream(&upstream).billed_to_the_end().models(&model(MODEL, 3));
    let server = builder.start();
    let account = server.account_with_usd(&usd(CREDIT));
    let stage = Stage { server, account, upstream };
    face(&stage, "tea", &[("beta", TEA)]);
    face(&stage, "boats", &[]);
    let leaver = Request::get(TEA_BOATS).bearer(&stage.account.key).send(stage.server.address());
    stage.upstream.wait_requests(1);
    leaver.close_rst();
    // It left, and its call goes on: another one may not make the same.
    wait_for("the call to go on alone", BOUND, || {
        stage.server.log().contains("goes on without its client").then_some(())
    });
    let early = stage.get(TEA_BOATS);
    assert_eq!((early.status, early.header("retry-after")), (503, Some("1")), "{}", early.text());
    assert!(error_of(&early, Dialect::Faces).message.contains("Another request"));
    stage.upstream.open("gate");
    stage.server.ledger().wait_resolved(&stage.account, 1);
    similarity(&stage, "tea", "boats");
    assert_eq!(stage.upstream.requests().len(), 1);
    assert_eq!(spent(&stage), bill(tokens(&[TEA])));
}

#[test]
fn a_crash_during_a_call_charges_nothing_and_the_next_request_asks_again() {
    let script =
        [held("never", &answer(&[TEA])).may_be_left(), Exchange::json(200, &answer(&[TEA]))];
    let mut stage = stage(Upstream::start(script), builder());
    face(&stage, "tea", &[("beta", TEA)]);
    face(&stage, "boats", &[]);
    let sent = Request::get(TEA_BOATS).bearer(&stage.account.key).send(stage.server.address());
    stage.upstream.wait_requests(1);
    stage.server.kill();
    drop(sent);
    stage.server.start_again();
    assert_eq!(spent(&stage), 0);
    similarity(&stage, "tea", "boats");
    assert_eq!(spent(&stage), bill(tokens(&[TEA])));
}

#[test]
fn of_two_servers_on_one_database_one_asks_and_the_other_waits() {
    let cluster = match postgres::cluster() {
        Ok(cluster) => cluster,
        Err(why) => return postgres::skipped(why),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let database = runtime.block_on(cluster.create_database());
    let script = [held("gate", &answer(&[TEA]))];
    let stage = stage(Upstream::start(script), builder().with_postgres(&database.url));
    let other = builder()
        .with_upstream(&stage.upstream)
        .models(&model(MODEL, 3))
        .with_postgres(&database.url)
        .start();
    face(&stage, "tea", &[("beta", TEA)]);
    face(&stage, "boats", &[]);
    let request = Request::get(TEA_BOATS).bearer(&stage.account.key);
    let first = request.send(stage.server.address());
    stage.upstream.wait_requests(1);
    let early = request.fetch(other.address());
    assert_eq!((early.status, early.header("retry-after")), (503, Some("1")), "{}", early.text());
    stage.upstream.open("gate");
    let first = first.answer().fetch();
    assert_eq!(first.status, 200, "{}", first.text());
    let second = request.fetch(other.address());
    assert_eq!((second.status, second.json()), (200, first.json()));
    assert_eq!(stage.upstream.requests().len(), 1);
    assert_eq!(spent(&stage), bill(tokens(&[TEA])));
}
