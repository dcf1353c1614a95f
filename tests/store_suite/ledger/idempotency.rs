//! Idempotency keys: claimed with a hold, and what its end makes of them.

use bytes::Bytes;
use faces::{
    domain::{
        HoldId, NanoUsd, Usage,
        ledger::{
            Finish, FlushBatch, HoldOpen, HoldResolve, IdemClaim, IdemEnd, IdemKey, IdemRecord,
            IdemState, OpenVerdict, StoredResponse,
        },
    },
    storage::{
        accounts::set_frozen,
        ledger::{FlushError, RecoveryScope, find_key, purge_keys, recover},
    },
};
use futures_util::future::join_all;
use sea_orm::{ConnectionTrait as _, Statement};

use super::{
    Books, checkpoint, granted, instance, leg, opens, resolves, settle, spoil, void, wallet,
};
use crate::store::TestStore;

const DAY_MS: i64 = 86_400_000;
const FINGERPRINT: [u8; 32] = [0xa5; 32];

fn key(text: &str) -> IdemKey {
    IdemKey::parse(text.as_bytes()).unwrap()
}

fn with_key(open: HoldOpen, text: &str) -> HoldOpen {
    let claim = IdemClaim { key: key(text), fingerprint: FINGERPRINT, ttl_ms: DAY_MS };
    HoldOpen { idem: Some(Box::new(claim)), ..open }
}

/// The end of a hold that claimed a key, with the answer to keep.
fn keeping(end: HoldResolve, body: Option<&[u8]>) -> HoldResolve {
    let response = body.map(|body| StoredResponse {
        status: 200,
        content_type: "application/json".to_owned(),
        body: Bytes::copy_from_slice(body),
    });
    HoldResolve { idem: Some(Box::new(IdemEnd { response })), ..end }
}

impl Books {
    async fn key(&self, text: &str) -> Option<IdemRecord> {
        find_key(&self.db, self.account, key(text)).await.unwrap()
    }

    async fn is_in_progress(&self, text: &str) -> bool {
        self.key(text).await.is_some_and(|record| record.state == IdemState::InProgress)
    }
}

async fn expire(store: &TestStore) {
    let raw = store.raw().await;
    let sql = "UPDATE ledger_idem SET expires_at = created_at - $1";
    spoil(&raw, sql, vec![1_i64.into()]).await;
}

async fn rows(store: &TestStore) -> i64 {
    let raw = store.raw().await;
    let sql = "SELECT COUNT(*) FROM ledger_idem";
    let statement = Statement::from_string(raw.get_database_backend(), sql);
    raw.query_one_raw(statement).await.unwrap().unwrap().try_get_by_index(0).unwrap()
}

async fn a_key_is_claimed_once_per_account_and_a_loser_holds_nothing(store: TestStore) {
    let books = Books::new(&store, 1_000).await;
    let awkward = "!\"\\'%_~{}";
    let first = with_key(books.open(100), awkward);
    let twice = with_key(books.open(100), awkward);
    let mut other = with_key(books.open(1), awkward);
    other.account_id = wallet(&books.db, 10).await;
    other.legs = vec![leg(other.account_id)];
    let reply = books.flush(1, opens(vec![first, twice, other])).await.unwrap();
    assert_eq!((granted(&reply.opens), reply.opens[1]), (2, OpenVerdict::Claimed));
    let third = with_key(books.open(100), awkward);
    let reply = books.flush(2, opens(vec![third, books.open(100)])).await.unwrap();
    assert_eq!((granted(&reply.opens), reply.opens[0]), (1, OpenVerdict::Claimed));
    assert_eq!(books.row().await.leased, NanoUsd(200));
    let record = books.key(awkward).await.unwrap();
    assert_eq!(record, IdemRecord { fingerprint: FINGERPRINT, state: IdemState::InProgress });
    assert_eq!(books.key("another").await, None);
    books.assert_audit_is_clean().await;
}

async fn of_many_instances_with_one_key_one_gets_it(store: TestStore) {
    let books = Books::new(&store, 100_000).await;
    let openers = (0..32).map(|_| async {
        let instance = instance(&books.db).await;
        let one = Books { db: books.db.clone(), instance, ..books };
        let batch = opens(vec![with_key(one.open(10), "race"), with_key(one.open(10), "race")]);
        let reply = loop {
            match one.flush(1, batch.clone()).await {
                Err(FlushError::Retry(_)) => {}
                other => break other.unwrap(),
            }
        };
        let lost = reply.opens.iter().filter(|verdict| **verdict == OpenVerdict::Claimed).count();
        assert_eq!(lost + granted(&reply.opens), 2);
        granted(&reply.opens)
    });
    assert_eq!(join_all(openers).await.into_iter().sum::<usize>(), 1);
    assert_eq!(books.row().await.leased, NanoUsd(10));
    books.assert_audit_is_clean().await;
}

async fn a_settlement_keeps_the_answer_byte_by_byte_with_what_it_cost(store: TestStore) {
    let books = Books::new(&store, 1_000).await;
    let all_bytes: Vec<u8> = (0..=255).collect();
    let (json, stream) = (with_key(books.open(100), "json"), with_key(books.open(100), "stream"));
    books.flush(1, opens(vec![json.clone(), stream.clone()])).await.unwrap();
    let ends =
        vec![keeping(settle(&json, 40), Some(&all_bytes)), keeping(settle(&stream, 7), None)];
    books.flush(2, resolves(ends)).await.unwrap();
    let response = |body: Vec<u8>| StoredResponse {
        status: 200,
        content_type: "application/json".to_owned(),
        body: body.into(),
    };
    for (name, response, cost) in [("json", Some(response(all_bytes)), 40), ("stream", None, 7)] {
        let usage = Usage { output_text: cost, ..Usage::default() };
        let cost = NanoUsd(cost.cast_signed());
        let state = IdemState::Done { response, usage, cost };
        assert_eq!(books.key(name).await, Some(IdemRecord { fingerprint: FINGERPRINT, state }));
    }
    let reply = books.flush(3, opens(vec![with_key(books.open(1), "json")])).await.unwrap();
    assert_eq!(reply.opens, [OpenVerdict::Claimed]);
    books.assert_audit_is_clean().await;
}

async fn answers_that_fill_more_than_one_statement_are_all_kept(store: TestStore) {
    let books = Books::new(&store, 1_000).await;
    let body = vec![b'x'; 256 * 1_024];
    let names: Vec<String> = (0..20).map(|number| format!("key-{number}")).collect();
    let all: Vec<_> = names.iter().map(|name| with_key(books.open(10), name)).collect();
    books.flush(1, opens(all.clone())).await.unwrap();
    let ends = all.iter().map(|open| keeping(settle(open, 1), Some(&body))).collect();
    books.flush(2, resolves(ends)).await.unwrap();
    for name in names {
        match books.key(&name).await.unwrap().state {
            IdemState::Done { response: Some(response), .. } => assert_eq!(response.body, body),
            other => panic!("{name}: {other:?}"),
        }
    }
}

async fn a_request_that_failed_for_nothing_frees_its_key(store: TestStore) {
    let books = Books::new(&store, 1_000).await;
    let (refused, broken) =
        (with_key(books.open(100), "refused"), with_key(books.open(100), "broken"));
    let cut = with_key(books.open(100), "cut");
    books.flush(1, opens(vec![refused.clone(), broken.clone(), cut.clone()])).await.unwrap();
    let provider_cost = NanoUsd(30);
    let broken = HoldResolve {
        charge: NanoUsd::ZERO,
        provider_cost,
        finish: Finish::UpstreamError,
        ..settle(&broken, 30)
    };
    let cut = HoldResolve { finish: Finish::ClientGone, ..settle(&cut, 9) };
    let again = with_key(books.open(100), "refused");
    let batch = FlushBatch {
        opens: vec![again],
        ..resolves(vec![keeping(void(&refused), None), keeping(broken, None), keeping(cut, None)])
    };
    let reply = books.flush(2, batch).await.unwrap();
    assert_eq!(granted(&reply.opens), 1, "what a flush frees it can claim");
    assert!(books.is_in_progress("refused").await);
    assert_eq!(books.key("broken").await, None);
    assert!(matches!(
        books.key("cut").await.unwrap().state,
        IdemState::Done { response: None, .. }
    ));
    books.assert_audit_is_clean().await;
}

async fn a_hold_that_is_not_granted_leaves_no_claim(store: TestStore) {
    let books = Books::new(&store, 100).await;
    // The second one with the same key is affordable, so the key is its.
    let batch = opens(vec![with_key(books.open(101), "k"), with_key(books.open(60), "k")]);
    let reply = books.flush(1, batch).await.unwrap();
    assert!(matches!(reply.opens[0], OpenVerdict::Denied { .. }));
    assert_eq!((granted(&reply.opens), rows(&store).await), (1, 1));
    let reply = books.flush(2, opens(vec![with_key(books.open(60), "denied")])).await.unwrap();
    assert!(matches!(reply.opens[0], OpenVerdict::Denied { .. }));
    set_frozen(&books.db, books.account, true).await.unwrap();
    let reply = books.flush(3, opens(vec![with_key(books.open(1), "frozen")])).await.unwrap();
    assert!(matches!(reply.opens[0], OpenVerdict::Blocked(_)));
    assert_eq!(rows(&store).await, 1);
    books.assert_audit_is_clean().await;
}

async fn the_same_flush_again_tells_the_same_verdicts(store: TestStore) {
    let books = Books::new(&store, 100).await;
    let open = with_key(books.open(60), "k");
    let batch = opens(vec![open.clone(), with_key(books.open(10), "k")]);
    let first = books.flush(1, batch.clone()).await.unwrap();
    let again = books.flush(1, batch.clone()).await.unwrap();
    assert_eq!((granted(&again.opens), again.opens[1]), (1, OpenVerdict::Claimed));
    assert_eq!((granted(&first.opens), first.opens[1]), (1, OpenVerdict::Claimed));
    let mut other = batch;
    other.opens[0] = with_key(open.clone(), "other");
    let other = books.flush(1, other).await;
    assert!(matches!(other, Err(FlushError::OutOfSequence { .. })), "{other:?}");
    let end = resolves(vec![keeping(settle(&open, 60), Some(b"{}"))]);
    books.flush(2, end.clone()).await.unwrap();
    books.flush(2, end).await.unwrap();
    assert!(matches!(books.key("k").await.unwrap().state, IdemState::Done { .. }));
    books.assert_audit_is_clean().await;
}

async fn what_has_expired_is_taken_over_or_purged_and_what_runs_never_is(store: TestStore) {
    let books = Books::new(&store, 1_000).await;
    let (done, running) = (with_key(books.open(100), "done"), with_key(books.open(100), "running"));
    let old = with_key(books.open(100), "old");
    books.flush(1, opens(vec![done.clone(), running, old.clone()])).await.unwrap();
    let ends = vec![keeping(settle(&done, 1), Some(b"first")), keeping(settle(&old, 1), None)];
    books.flush(2, resolves(ends)).await.unwrap();
    assert_eq!(purge_keys(&books.db).await.unwrap(), 0);
    expire(&store).await;
    assert_eq!(books.key("done").await, None, "an expired key is free");
    assert!(books.is_in_progress("running").await);
    let again = with_key(books.open(100), "done");
    let batch = opens(vec![again.clone(), with_key(books.open(100), "running")]);
    let reply = books.flush(3, batch).await.unwrap();
    assert_eq!((granted(&reply.opens), reply.opens[1]), (1, OpenVerdict::Claimed));
    assert!(books.is_in_progress("done").await);
    assert_eq!(purge_keys(&books.db).await.unwrap(), 1, "only `old`");
    assert_eq!(rows(&store).await, 2);
    books.flush(4, resolves(vec![keeping(settle(&again, 1), Some(b"second"))])).await.unwrap();
    match books.key("done").await.unwrap().state {
        IdemState::Done { response: Some(response), .. } => assert_eq!(response.body, "second"),
        other => panic!("{other:?}"),
    }
}

async fn a_purge_of_more_than_one_chunk_deletes_everything(store: TestStore) {
    let books = Books::new(&store, 10_000).await;
    let all: Vec<_> = (0..450).map(|n| with_key(books.open(1), &n.to_string())).collect();
    books.flush(1, opens(all.clone())).await.unwrap();
    let ends = all.iter().map(|open| keeping(settle(open, 1), None)).collect();
    books.flush(2, resolves(ends)).await.unwrap();
    expire(&store).await;
    let purges = join_all([purge_keys(&books.db), purge_keys(&books.db)]).await;
    let purged: u64 = purges.into_iter().map(Result::unwrap).sum();
    assert_eq!((purged, rows(&store).await), (450, 0));
}

async fn recovery_frees_the_key_of_what_cost_nothing_and_finishes_the_others(store: TestStore) {
    let books = Books::new(&store, 1_000).await;
    let (silent, seen) = (with_key(books.open(100), "silent"), with_key(books.open(100), "seen"));
    books.flush(1, opens(vec![silent, seen.clone()])).await.unwrap();
    let checkpoints = vec![checkpoint(&seen, 30)];
    books.flush(2, FlushBatch { checkpoints, ..FlushBatch::default() }).await.unwrap();
    let me = instance(&books.db).await;
    recover(&books.db, me, RecoveryScope::AllOthers).await.unwrap();
    assert_eq!(books.key("silent").await, None);
    let usage = Usage { output_text: 30, ..Usage::default() };
    let state = IdemState::Done { response: None, usage, cost: NanoUsd(30) };
    assert_eq!(books.key("seen").await, Some(IdemRecord { fingerprint: FINGERPRINT, state }));
    books.assert_audit_is_clean().await;
}

async fn a_claim_without_the_accounts_row_is_a_bug(store: TestStore) {
    let books = Books::new(&store, 100).await;
    let open = HoldOpen { hold_id: HoldId::generate(), legs: Vec::new(), ..books.open(0) };
    let refused = books.flush(1, opens(vec![with_key(open, "k")])).await;
    assert!(matches!(refused, Err(FlushError::Contradiction { .. })), "{refused:?}");
    assert_eq!(rows(&store).await, 0);
}

crate::on_both_databases! {
    a_key_is_claimed_once_per_account_and_a_loser_holds_nothing,
    of_many_instances_with_one_key_one_gets_it,
    a_settlement_keeps_the_answer_byte_by_byte_with_what_it_cost,
    answers_that_fill_more_than_one_statement_are_all_kept,
    a_request_that_failed_for_nothing_frees_its_key,
    a_hold_that_is_not_granted_leaves_no_claim,
    the_same_flush_again_tells_the_same_verdicts,
    what_has_expired_is_taken_over_or_purged_and_what_runs_never_is,
    a_purge_of_more_than_one_chunk_deletes_everything,
    recovery_frees_the_key_of_what_cost_nothing_and_finishes_the_others,
    a_claim_without_the_accounts_row_is_a_bug,
}
