//! One flush, and flushes against each other.

use faces::{
    domain::{
        NanoUsd, Usage,
        ledger::{Attempt, FLAG_FROZEN, Finish, FlushBatch, FreeUse, HoldResolve, OpenVerdict},
    },
    storage::{
        accounts::set_frozen,
        ledger::{
            FlushError, RecoveryScope,
            books::{AttemptLine, Shown, show},
            close_instance, recover,
        },
    },
};
use futures_util::future::join_all;

use super::{Books, granted, instance, leg, opens, resolves, settle, void, wallet};
use crate::store::TestStore;

async fn sixty_four_openers_share_credit_for_ten(store: TestStore) {
    let books = Books::new(&store, 1_000).await;
    let openers = (0..64).map(|_| async {
        let instance = instance(&books.db).await;
        let one = Books { db: books.db.clone(), instance, ..books };
        let reply = loop {
            match one.flush(1, opens(vec![one.open(100)])).await {
                Err(FlushError::Retry(_)) => {}
                other => break other.unwrap(),
            }
        };
        granted(&reply.opens)
    });
    let granted: usize = join_all(openers).await.into_iter().sum();
    assert_eq!(granted, 10);
    let row = books.row().await;
    assert_eq!((row.leased, row.debits), (NanoUsd(1_000), NanoUsd::ZERO));
    books.assert_audit_is_clean().await;
}

async fn one_flush_grants_in_order_until_the_credit_ends(store: TestStore) {
    let books = Books::new(&store, 1_000).await;
    let batch =
        opens(vec![books.open(600), books.open(500), books.open_between(100, 500), books.open(1)]);
    let reply = books.flush(1, batch).await.unwrap();
    let row = books.row().await;
    assert_eq!(
        reply.opens,
        [
            OpenVerdict::Granted { amount: NanoUsd(600), affordable: NanoUsd(1_000) },
            OpenVerdict::Denied {
                row: faces::domain::ledger::AccountRow { leased: NanoUsd(600), ..row },
                is_recalled: false,
            },
            OpenVerdict::Granted { amount: NanoUsd(400), affordable: NanoUsd(400) },
            OpenVerdict::Denied { row, is_recalled: false },
        ]
    );
    assert_eq!(reply.accounts, [row]);
    books.assert_audit_is_clean().await;
}

async fn a_settlement_charges_releases_and_books_the_excess(store: TestStore) {
    let books = Books::new(&store, 1_000).await;
    let (cheap, dear, failed) = (books.open(300), books.open(300), books.open(300));
    let batch = opens(vec![cheap.clone(), dear.clone(), failed.clone()]);
    books.flush(1, batch).await.unwrap();
    let ends = vec![settle(&cheap, 120), settle(&dear, 350), void(&failed)];
    let reply = books.flush(2, resolves(ends)).await.unwrap();
    let row = books.row().await;
    assert_eq!((row.credits, row.debits, row.leased), (NanoUsd(1_000), NanoUsd(420), NanoUsd(0)));
    assert_eq!(reply.accounts, [row]);
    let report = faces::storage::ledger::audit(&books.db).await.unwrap();
    assert!(report.clean, "{report:#?}");
    assert_eq!((report.totals.revenue, report.totals.overrun), (470, -50));
    assert_eq!((report.counts.holds_settled, report.counts.holds_voided), (2, 1));
}

async fn what_a_flush_gives_back_can_be_granted_by_it(store: TestStore) {
    let books = Books::new(&store, 100).await;
    let first = books.open(100);
    books.flush(1, opens(vec![first.clone()])).await.unwrap();
    let batch = FlushBatch { opens: vec![books.open(60)], ..resolves(vec![settle(&first, 40)]) };
    let reply = books.flush(2, batch).await.unwrap();
    assert_eq!(
        reply.opens,
        [OpenVerdict::Granted { amount: NanoUsd(60), affordable: NanoUsd(60) }]
    );
    books.assert_audit_is_clean().await;
}

async fn a_cost_of_the_operator_charges_nobody(store: TestStore) {
    let books = Books::new(&store, 100).await;
    let open = books.open(100);
    books.flush(1, opens(vec![open.clone()])).await.unwrap();
    let end = HoldResolve {
        charge: NanoUsd::ZERO,
        provider_cost: NanoUsd(70),
        finish: Finish::UpstreamError,
        ..settle(&open, 70)
    };
    books.flush(2, resolves(vec![end])).await.unwrap();
    assert_eq!(books.row().await.balance(), NanoUsd(100));
    let report = faces::storage::ledger::audit(&books.db).await.unwrap();
    assert!(report.clean, "{report:#?}");
    assert_eq!((report.totals.provider_cost, report.totals.revenue), (-70, 70));
}

async fn a_free_use_is_a_line_of_zero(store: TestStore) {
    let books = Books::new(&store, 0).await;
    let open = books.open(0);
    let resolve = HoldResolve { usage: Usage::default(), ..settle(&open, 0) };
    let batch = FlushBatch { free: vec![FreeUse { open, resolve }], ..FlushBatch::default() };
    let reply = books.flush(1, batch).await.unwrap();
    assert_eq!(reply.accounts, [books.row().await]);
    let report = faces::storage::ledger::audit(&books.db).await.unwrap();
    assert!(report.clean, "{report:#?}");
    assert_eq!((report.counts.transfers, report.counts.usage_rows), (1, 1));
}

async fn every_try_at_an_upstream_is_a_row(store: TestStore) {
    let books = Books::new(&store, 300).await;
    let (twice, once, never) = (books.open(100), books.open(100), books.open(100));
    let all = vec![twice.clone(), once.clone(), never.clone()];
    books.flush(1, opens(all)).await.unwrap();
    let mut end = settle(&twice, 40);
    let second = end.attempts[0].clone();
    let first =
        Attempt { status: 0, upstream_id: None, started_at: 7, ended_at: 8, ..second.clone() };
    end.attempts.insert(0, first);
    let ends = resolves(vec![end, settle(&once, 10), void(&never)]);
    books.flush(2, ends.clone()).await.unwrap();
    // As after a lost answer.
    books.flush(2, ends).await.unwrap();
    let mut told = Vec::new();
    for open in [&twice, &once, &never] {
        let Ok(Some(Shown::Hold(shown))) = show(&books.db, open.hold_id.0).await else {
            panic!("a hold without its books");
        };
        told.push(shown.attempts.iter().map(tried).collect::<Vec<_>>());
        assert_eq!(shown.transfers.len(), usize::from(!told[told.len() - 1].is_empty()));
    }
    assert_eq!(told, [vec![(1, 0, 7, 8), (2, 200, 1, 2)], vec![(1, 200, 1, 2)], vec![]]);
    assert_eq!(books.row().await.debits, NanoUsd(50));
    books.assert_audit_is_clean().await;
}

fn tried(line: &AttemptLine) -> (i16, i32, i64, i64) {
    (line.n, line.status, line.started_at.0, line.ended_at.0)
}

async fn the_same_flush_twice_is_the_same_flush(store: TestStore) {
    let books = Books::new(&store, 100).await;
    let batch = opens(vec![books.open(60), books.open(60)]);
    let first = books.flush(1, batch.clone()).await.unwrap();
    let again = books.flush(1, batch).await.unwrap();
    assert_eq!(
        (granted(&first.opens), granted(&again.opens), first.opens[1], first.leases),
        (1, 1, again.opens[1], again.leases)
    );
    assert_eq!(books.row().await.leased, NanoUsd(60));
    let other = books.flush(1, opens(vec![books.open(1)])).await;
    assert!(matches!(other, Err(FlushError::OutOfSequence { sent: 1, durable: 1 })), "{other:?}");
    let skipped = books.flush(3, opens(vec![books.open(1)])).await;
    assert!(matches!(skipped, Err(FlushError::OutOfSequence { .. })), "{skipped:?}");
    books.assert_audit_is_clean().await;
}

async fn a_fenced_instance_writes_nothing(store: TestStore) {
    let books = Books::new(&store, 100).await;
    let open = books.open(60);
    books.flush(1, opens(vec![open.clone()])).await.unwrap();
    let other = instance(&books.db).await;
    let report = recover(&books.db, other, RecoveryScope::AllOthers).await.unwrap();
    assert_eq!((report.instances, report.holds), (1, 1));
    let late = books.flush(2, resolves(vec![settle(&open, 50)])).await;
    assert!(matches!(late, Err(FlushError::Fenced)), "{late:?}");
    let empty = books.flush(2, FlushBatch::default()).await;
    assert!(matches!(empty, Err(FlushError::Fenced)), "{empty:?}");
    assert_eq!(books.row().await.available(), NanoUsd(100));
    books.assert_audit_is_clean().await;
}

async fn an_instance_that_closed_writes_nothing(store: TestStore) {
    let books = Books::new(&store, 100).await;
    assert_eq!(close_instance(&books.db, books.instance).await.unwrap(), 0);
    let late = books.flush(1, opens(vec![books.open(1)])).await;
    assert!(matches!(late, Err(FlushError::Fenced)), "{late:?}");
}

async fn a_hold_is_resolved_once_and_a_second_end_rolls_back_its_flush(store: TestStore) {
    let books = Books::new(&store, 1_000).await;
    let (open, other) = (books.open(100), books.open(100));
    books.flush(1, opens(vec![open.clone(), other.clone()])).await.unwrap();
    books.flush(2, resolves(vec![settle(&open, 30)])).await.unwrap();
    let before = books.row().await;
    let twice = books.flush(3, resolves(vec![settle(&other, 10), settle(&open, 30)])).await;
    assert!(
        matches!(
            twice,
            Err(FlushError::Contradiction { .. } | FlushError::Mismatch { step: "resolve", .. })
        ),
        "{twice:?}"
    );
    assert_eq!(books.row().await, before);
    books.flush(3, resolves(vec![void(&other)])).await.unwrap();
    books.assert_audit_is_clean().await;
}

async fn a_hold_of_another_instance_cannot_be_resolved(store: TestStore) {
    let books = Books::new(&store, 1_000).await;
    let open = books.open(100);
    books.flush(1, opens(vec![open.clone()])).await.unwrap();
    let thief = Books { db: books.db.clone(), instance: instance(&books.db).await, ..books };
    thief.flush(1, opens(vec![thief.open(100)])).await.unwrap();
    let stolen = thief.flush(2, resolves(vec![settle(&open, 1)])).await;
    assert!(matches!(stolen, Err(FlushError::Mismatch { .. })), "{stolen:?}");
    thief.assert_audit_is_clean().await;
}

async fn frozen_and_unknown_accounts_get_their_own_verdicts(store: TestStore) {
    let books = Books::new(&store, 100).await;
    let held = books.open(40);
    books.flush(1, opens(vec![held.clone()])).await.unwrap();
    set_frozen(&books.db, books.account, true).await.unwrap();
    let mut unknown = books.open(1);
    unknown.account_id = faces::domain::AccountId::generate();
    unknown.legs = vec![leg(unknown.account_id)];
    let batch =
        FlushBatch { opens: vec![books.open(1), unknown], ..resolves(vec![settle(&held, 40)]) };
    let reply = books.flush(2, batch).await.unwrap();
    let row = books.row().await;
    assert_eq!((row.flags, row.debits), (FLAG_FROZEN, NanoUsd(40)));
    assert_eq!(reply.opens, [OpenVerdict::Blocked(row), OpenVerdict::NoAccount]);
    books.assert_audit_is_clean().await;
}

async fn amounts_at_the_edge_of_i64_stay_exact(store: TestStore) {
    let books = Books::new(&store, i64::MAX).await;
    let open = books.open(i64::MAX);
    let reply = books.flush(1, opens(vec![open.clone(), books.open(1)])).await.unwrap();
    assert_eq!(
        reply.opens[0],
        OpenVerdict::Granted { amount: NanoUsd(i64::MAX), affordable: NanoUsd(i64::MAX) }
    );
    assert!(matches!(reply.opens[1], OpenVerdict::Denied { .. }));
    books.flush(2, resolves(vec![settle(&open, i64::MAX)])).await.unwrap();
    let row = books.row().await;
    assert_eq!(
        (row.debits, row.leased, row.available()),
        (NanoUsd(i64::MAX), NanoUsd(0), NanoUsd(0))
    );
    books.assert_audit_is_clean().await;
}

async fn a_flush_over_many_accounts_and_holds_keeps_them_apart(store: TestStore) {
    let books = Books::new(&store, 1_000_000).await;
    let mut all = Vec::new();
    for account in 0..8_i64 {
        let id = wallet(&books.db, 1_000).await;
        for hold in 0..32 {
            let mut open = books.open(account + hold);
            open.account_id = id;
            open.legs = vec![leg(id)];
            all.push(open);
        }
    }
    let reply = books.flush(1, opens(all.clone())).await.unwrap();
    assert_eq!(granted(&reply.opens), 256);
    let ends = all.iter().map(|open| settle(open, open.amount.0 / 2)).collect();
    let reply = books.flush(2, resolves(ends)).await.unwrap();
    assert_eq!(reply.accounts.len(), 8);
    assert!(
        reply.accounts.iter().all(|row| row.leased == NanoUsd::ZERO && row.debits > NanoUsd(200))
    );
    books.assert_audit_is_clean().await;
}

crate::on_both_databases! {
    sixty_four_openers_share_credit_for_ten,
    one_flush_grants_in_order_until_the_credit_ends,
    a_settlement_charges_releases_and_books_the_excess,
    what_a_flush_gives_back_can_be_granted_by_it,
    a_cost_of_the_operator_charges_nobody,
    a_free_use_is_a_line_of_zero,
    every_try_at_an_upstream_is_a_row,
    the_same_flush_twice_is_the_same_flush,
    a_fenced_instance_writes_nothing,
    an_instance_that_closed_writes_nothing,
    a_hold_is_resolved_once_and_a_second_end_rolls_back_its_flush,
    a_hold_of_another_instance_cannot_be_resolved,
    frozen_and_unknown_accounts_get_their_own_verdicts,
    amounts_at_the_edge_of_i64_stay_exact,
    a_flush_over_many_accounts_and_holds_keeps_them_apart,
}
