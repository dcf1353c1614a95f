//! Incremental audits, and the seal that they move.

use faces::{
    domain::{HoldId, ledger::HoldOpen},
    storage::{
        Db,
        ledger::{AuditMode, AuditReport, audit, audit_incremental},
    },
};
use futures_util::future::join_all;
use sea_orm::ConnectionTrait as _;
use uuid::{Builder, Uuid};

use super::{Books, budgets::Budgeted, opens, resolves, settle, spoil, void};
use crate::store::TestStore;

/// An id as one of `minutes` ago.
fn aged(minutes: u64) -> Uuid {
    let unix_ms = Uuid::now_v7().get_timestamp().unwrap().to_unix();
    let unix_ms = unix_ms.0 * 1_000 - minutes * 60_000;
    let mut random = [0; 10];
    random.copy_from_slice(&Uuid::now_v7().as_bytes()[6..]);
    Builder::from_unix_timestamp_millis(unix_ms, &random).into_uuid()
}

pub(super) fn opened_before(open: HoldOpen, minutes: u64) -> HoldOpen {
    HoldOpen { hold_id: HoldId(aged(minutes)), ..open }
}

/// What the report says of the seal: the moment of this id.
fn at(id: Uuid) -> Option<String> {
    let (seconds, nanos) = id.get_timestamp().unwrap().to_unix();
    let moment = time::OffsetDateTime::from_unix_timestamp(seconds.cast_signed()).unwrap()
        + time::Duration::nanoseconds(nanos.into());
    Some(moment.format(&time::format_description::well_known::Rfc3339).unwrap())
}

async fn incremental(db: &Db) -> AuditReport {
    let report = audit_incremental(db).await.unwrap();
    assert_eq!(report.mode, AuditMode::Incremental);
    report
}

/// An incremental and a full audit that find nothing and say the same; until when it is sealed.
async fn both_are_clean(db: &Db) -> Option<String> {
    let one = incremental(db).await;
    let all = audit(db).await.unwrap();
    assert!(one.clean, "{one:#?}");
    assert!(all.clean, "{all:#?}");
    assert_eq!((one.counts, one.totals), (all.counts, all.totals));
    assert_eq!((all.mode, &all.sealed_to), (AuditMode::Full, &one.sealed_to));
    one.sealed_to
}

/// Lets the top-ups of the books have come in long ago.
async fn age_top_ups(store: &TestStore) {
    let sql = "UPDATE ledger_transfer SET id = $1 WHERE kind NOT IN (1, 4, 5)";
    spoil(&store.raw().await, sql, vec![aged(120).into()]).await;
}

async fn sums_over_several_seals_are_those_of_the_full_audit(store: TestStore) {
    let budgeted = Budgeted::new(&store, 1_000, 900).await;
    let books = &budgeted.books;
    age_top_ups(&store).await;
    assert_eq!(audit(&books.db).await.unwrap().sealed_to, None);
    let old: Vec<_> =
        (0..5).map(|number| opened_before(budgeted.open(100), 60 - number * 5)).collect();
    books.flush(1, opens(old.clone())).await.unwrap();
    // Each open hold keeps the seal back.
    assert_eq!(both_are_clean(&books.db).await, at(old[0].hold_id.0));
    books.flush(2, resolves(vec![settle(&old[0], 130)])).await.unwrap();
    assert_eq!(both_are_clean(&books.db).await, at(old[1].hold_id.0));
    books.flush(3, resolves(vec![void(&old[1]), settle(&old[3], 40)])).await.unwrap();
    assert_eq!(both_are_clean(&books.db).await, at(old[2].hold_id.0));
    books.flush(4, resolves(vec![settle(&old[2], 7), settle(&old[4], 100)])).await.unwrap();
    let quarter = both_are_clean(&books.db).await;
    assert!(quarter > at(aged(16)) && quarter < at(aged(14)), "{quarter:?}");
    // What is young is not sealed, but counted.
    let young = budgeted.open(50);
    books.flush(5, opens(vec![young.clone()])).await.unwrap();
    books.flush(6, resolves(vec![settle(&young, 60)])).await.unwrap();
    both_are_clean(&books.db).await;
    let report = incremental(&books.db).await;
    assert_eq!((report.counts.holds_settled, report.counts.holds_voided), (5, 1));
    assert_eq!((report.totals.debits, report.totals.overrun), (297, -40));
    assert_eq!(report.totals.cash_clearing, -1_000);
}

/// Books with a settled and a voided hold below the seal.
async fn sealed(store: &TestStore) -> (Books, HoldOpen, HoldOpen) {
    let books = Books::new(store, 1_000).await;
    age_top_ups(store).await;
    let settled = opened_before(books.open(100), 60);
    let voided = opened_before(books.open(100), 60);
    books.flush(1, opens(vec![settled.clone(), voided.clone()])).await.unwrap();
    books.flush(2, resolves(vec![settle(&settled, 30), void(&voided)])).await.unwrap();
    both_are_clean(&books.db).await;
    (books, settled, voided)
}

async fn an_error_above_the_seal_is_found_and_keeps_it_where_it_is(store: TestStore) {
    let (books, ..) = sealed(&store).await;
    let young = books.open(100);
    books.flush(3, opens(vec![young.clone()])).await.unwrap();
    books.flush(4, resolves(vec![settle(&young, 20)])).await.unwrap();
    let before = both_are_clean(&books.db).await;
    let raw = store.raw().await;
    for (invariant, sql) in [
        ("I2", "UPDATE ledger_transfer SET amount = amount + 1 WHERE id = $1 AND kind = 1"),
        ("I8", "UPDATE ledger_usage SET out_text = out_text + 1 WHERE hold_id = $1"),
    ] {
        spoil(&raw, sql, vec![young.hold_id.0.into()]).await;
        let found = incremental(&books.db).await;
        assert!(!found.clean);
        assert!(found.differences.iter().any(|one| one.invariant == invariant), "{found:#?}");
        assert_eq!(found.sealed_to, before);
        spoil(&raw, &sql.replace(" + 1", " - 1"), vec![young.hold_id.0.into()]).await;
    }
    let sql = "UPDATE ledger_account SET credits = credits + 1 WHERE id = $1";
    spoil(&raw, sql, vec![books.account.0.into()]).await;
    let found = incremental(&books.db).await;
    assert_eq!(found.differences[0].id, books.account.0, "what is sealed counts: {found:#?}");
    assert_eq!(
        (found.differences[0].expected, found.differences[0].actual),
        (Some(1_000), Some(1_001))
    );
}

async fn an_error_below_the_seal_is_found_by_the_full_audit(store: TestStore) {
    let (books, settled, voided) = sealed(&store).await;
    let raw = store.raw().await;
    let charge = "UPDATE ledger_transfer SET amount = amount + 1 WHERE id = $1 AND kind = 1";
    spoil(&raw, charge, vec![settled.hold_id.0.into()]).await;
    let quick = incremental(&books.db).await;
    assert!(quick.clean, "{quick:#?}");
    let found = audit(&books.db).await.unwrap();
    for invariant in ["I2", "seal"] {
        assert!(found.differences.iter().any(|one| one.invariant == invariant), "{found:#?}");
    }
    spoil(&raw, &charge.replace('+', "-"), vec![settled.hold_id.0.into()]).await;
    both_are_clean(&books.db).await;
    // Only the seal remembers that there was such a hold.
    spoil(&raw, "DELETE FROM ledger_hold WHERE id = $1", vec![voided.hold_id.0.into()]).await;
    let found = audit(&books.db).await.unwrap();
    let one = &found.differences[0];
    assert_eq!((one.invariant, one.expected, one.actual), ("seal", Some(1), Some(0)), "{found:#?}");
    assert_eq!(found.differences.len(), 1);
}

async fn a_changed_seal_is_found_by_the_full_audit(store: TestStore) {
    let (books, ..) = sealed(&store).await;
    let raw = store.raw().await;
    for sql in [
        "UPDATE ledger_seal SET transfers = transfers + $1",
        "UPDATE ledger_seal_account SET credited = credited + $1 WHERE credited > 0",
        "UPDATE ledger_seal_account SET debited = debited + $1 WHERE debited > 0",
        "UPDATE ledger_seal_account SET costs = costs + $1",
        "UPDATE ledger_seal_lease SET cost = cost + $1",
    ] {
        spoil(&raw, sql, vec![1_i64.into()]).await;
        let found = audit(&books.db).await.unwrap();
        assert!(!found.clean, "not found: {sql}");
        assert!(found.differences.iter().all(|one| one.invariant == "seal"), "{found:#?}");
        spoil(&raw, sql, vec![(-1_i64).into()]).await;
    }
    both_are_clean(&books.db).await;
}

async fn a_hold_that_comes_after_its_seal_is_a_difference_until_the_seal_is_deleted(
    store: TestStore,
) {
    let (books, ..) = sealed(&store).await;
    let late = opened_before(books.open(100), 60);
    books.flush(3, opens(vec![late.clone()])).await.unwrap();
    let found = incremental(&books.db).await;
    assert_eq!(found.differences.len(), 1, "{found:#?}");
    assert_eq!(found.differences[0].id, late.hold_id.0);
    books.flush(4, resolves(vec![settle(&late, 10)])).await.unwrap();
    assert!(!incremental(&books.db).await.clean);
    assert!(!audit(&books.db).await.unwrap().clean);
    store.raw().await.execute_unprepared("DELETE FROM ledger_seal").await.unwrap();
    assert!(both_are_clean(&books.db).await.is_some());
}

async fn an_instance_without_a_sign_of_life_keeps_the_seal_back(store: TestStore) {
    let books = Books::new(&store, 1_000).await;
    let raw = store.raw().await;
    let sql = "UPDATE ledger_instance SET expires_at = expires_at - 3600000000 WHERE id = $1";
    spoil(&raw, sql, vec![books.instance.0.into()]).await;
    let sealed_to = both_are_clean(&books.db).await;
    assert!(sealed_to > at(aged(76)) && sealed_to < at(aged(74)), "{sealed_to:?}");
}

async fn of_auditors_at_once_one_moves_the_seal(store: TestStore) {
    let books = Books::new(&store, 10_000).await;
    age_top_ups(&store).await;
    let old: Vec<_> = (0..10).map(|number| opened_before(books.open(100), 60 - number)).collect();
    books.flush(1, opens(old.clone())).await.unwrap();
    for (seq, open) in (2..).zip(&old) {
        books.flush(seq, resolves(vec![settle(open, 30)])).await.unwrap();
        let reports = join_all((0..4).map(|_| audit_incremental(&books.db))).await;
        let first = reports[0].as_ref().unwrap().clone();
        for report in reports.into_iter().map(Result::unwrap) {
            assert!(report.clean, "{report:#?}");
            assert_eq!((report.counts, report.totals), (first.counts, first.totals));
        }
        // Nothing was added twice.
        both_are_clean(&books.db).await;
    }
}

crate::on_both_databases! {
    sums_over_several_seals_are_those_of_the_full_audit,
    an_error_above_the_seal_is_found_and_keeps_it_where_it_is,
    an_error_below_the_seal_is_found_by_the_full_audit,
    a_changed_seal_is_found_by_the_full_audit,
    a_hold_that_comes_after_its_seal_is_a_difference_until_the_seal_is_deleted,
    an_instance_without_a_sign_of_life_keeps_the_seal_back,
    of_auditors_at_once_one_moves_the_seal,
}
