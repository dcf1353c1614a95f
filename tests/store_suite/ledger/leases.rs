//! Leases that outlive a request: slices, what they post and give back, extensions, recalls.

use faces::{
    domain::{
        HoldId, NanoUsd,
        ledger::{
            ExtendVerdict, FLAG_FROZEN, FlushBatch, FlushReply, HoldExtend, HoldOpen, LeaseOp,
            LeaseRow, Leg, OpenVerdict,
        },
    },
    storage::{
        accounts::{set_frozen, top_up},
        ledger::{FlushError, RecoveryScope, recover},
    },
};

use super::{Books, checkpoint, instance, leg, opens, resolves, settle};
use crate::store::TestStore;

/// A hold whose lease wants a slice besides.
fn wanting(open: HoldOpen, want: i64, is_shared: bool) -> HoldOpen {
    let legs = vec![Leg { want: NanoUsd(want), is_shared, ..leg(open.account_id) }];
    HoldOpen { legs, ..open }
}

/// A hold inside the lease.
fn inside(open: HoldOpen) -> HoldOpen {
    HoldOpen { legs: Vec::new(), ..open }
}

fn lease(reply: &FlushReply) -> (i64, i64, i64) {
    let LeaseRow { granted, posted, folded, .. } = reply.leases[0];
    (granted.0, posted.0, folded.0)
}

fn extend(open: &HoldOpen, to: i64, legs: Vec<Leg>) -> HoldExtend {
    HoldExtend {
        hold_id: open.hold_id,
        account_id: open.account_id,
        cap_id: open.cap_id,
        from: open.amount,
        to: NanoUsd(to),
        legs,
    }
}

async fn a_slice_is_kept_charged_and_given_back(store: TestStore) {
    let books = Books::new(&store, 1_000).await;
    let first = wanting(books.open(100), i64::MAX, false);
    let reply = books.flush(1, opens(vec![first.clone()])).await.unwrap();
    assert_eq!(
        reply.opens,
        [OpenVerdict::Granted { amount: NanoUsd(100), affordable: NanoUsd(1_000) }]
    );
    assert_eq!((lease(&reply), books.row().await.available()), ((1_000, 0, 0), NanoUsd(0)));
    books.assert_audit_is_clean().await;

    let second = inside(books.open(300));
    let batch = FlushBatch {
        opens: vec![second.clone()],
        leases: Vec::new(),
        ..resolves(vec![settle(&first, 40)])
    };
    let reply = books.flush(2, batch).await.unwrap();
    assert_eq!((lease(&reply), reply.accounts), ((1_000, 40, 0), vec![]));
    let row = books.row().await;
    assert_eq!((row.debits, row.unfolded, row.leases), (NanoUsd(0), NanoUsd(40), 1));
    assert_eq!((row.balance(), row.spendable()), (NanoUsd(960), NanoUsd(960)));
    books.assert_audit_is_clean().await;

    let mut all = resolves(vec![settle(&second, 300)]);
    all.leases[0].give_back = NanoUsd(660);
    let reply = books.flush(3, all).await.unwrap();
    assert_eq!(lease(&reply), (340, 340, 340));
    let row = books.row().await;
    assert_eq!((row.debits, row.leased, row.leases), (NanoUsd(340), NanoUsd(0), 0));
    books.assert_audit_is_clean().await;
}

async fn a_lease_gives_back_only_what_it_has(store: TestStore) {
    let books = Books::new(&store, 1_000).await;
    let open = wanting(books.open(100), 400, false);
    books.flush(1, opens(vec![open.clone()])).await.unwrap();
    let before = books.row().await;
    let give_back = LeaseOp { account_id: books.account, give_back: NanoUsd(401), fold: false };
    let batch = FlushBatch { leases: vec![give_back], ..FlushBatch::default() };
    let refused = books.flush(2, batch).await;
    assert!(matches!(refused, Err(FlushError::Contradiction { .. })), "{refused:?}");
    let stranger = FlushBatch { leases: Vec::new(), ..resolves(vec![settle(&open, 100)]) };
    let thief = Books { db: books.db.clone(), instance: instance(&books.db).await, ..books };
    let refused = thief.flush(1, stranger).await;
    assert!(matches!(refused, Err(FlushError::Contradiction { .. })), "{refused:?}");
    assert_eq!(thief.row().await, before);
    thief.assert_audit_is_clean().await;
}

async fn slices_of_two_instances_shrink_and_the_tail_is_exact(store: TestStore) {
    let books = Books::new(&store, 1_000).await;
    let other = Books { db: books.db.clone(), instance: instance(&books.db).await, ..books };
    let reply = books.flush(1, opens(vec![wanting(books.open(10), 900, true)])).await.unwrap();
    assert_eq!(lease(&reply), (500, 0, 0), "half of all for the first");
    let reply = other.flush(1, opens(vec![wanting(other.open(10), 900, true)])).await.unwrap();
    assert_eq!(lease(&reply), (125, 0, 0), "a quarter of the rest for the second");
    let reply = other.flush(2, opens(vec![wanting(other.open(200), 900, true)])).await.unwrap();
    assert_eq!(lease(&reply), (325, 0, 0), "exactly what is needed when little is left");
    books.assert_audit_is_clean().await;
}

async fn a_denial_recalls_what_other_instances_keep(store: TestStore) {
    let books = Books::new(&store, 1_000).await;
    let other = Books { db: books.db.clone(), instance: instance(&books.db).await, ..books };
    books.flush(1, opens(vec![wanting(books.open(10), i64::MAX, false)])).await.unwrap();
    let ask = wanting(other.open(500), 0, true);
    let too_much = wanting(other.open(1_001), 0, true);
    let reply = other.flush(1, opens(vec![ask.clone(), too_much])).await.unwrap();
    let row = books.row().await;
    assert_eq!(row.recall_seq, 1);
    assert_eq!(
        reply.opens,
        [
            OpenVerdict::Denied {
                row: faces::domain::ledger::AccountRow { recall_seq: 0, ..row },
                is_recalled: true
            },
            OpenVerdict::Denied { row, is_recalled: false },
        ],
        "more than the account could ever pay is nobody's to give back"
    );
    let give_back = LeaseOp { account_id: books.account, give_back: NanoUsd(990), fold: true };
    let batch = FlushBatch { leases: vec![give_back], ..FlushBatch::default() };
    books.flush(2, batch).await.unwrap();
    let again = HoldOpen { hold_id: HoldId::generate(), ..ask };
    let reply = other.flush(2, opens(vec![again])).await.unwrap();
    assert!(matches!(reply.opens[0], OpenVerdict::Granted { .. }), "{reply:?}");
    books.assert_audit_is_clean().await;
}

async fn a_hold_grows_as_far_as_the_credit_goes(store: TestStore) {
    let books = Books::new(&store, 1_000).await;
    let open = books.open(100);
    books.flush(1, opens(vec![open.clone()])).await.unwrap();
    let batch = |extend| FlushBatch { extends: vec![extend], ..FlushBatch::default() };
    let first = extend(&open, 700, vec![leg(books.account)]);
    let reply = books.flush(2, batch(first.clone())).await.unwrap();
    assert_eq!(reply.extends, [ExtendVerdict::Granted { amount: NanoUsd(700) }]);
    assert_eq!(books.flush(2, batch(first)).await.unwrap().extends, reply.extends, "read back");

    let open = HoldOpen { amount: NanoUsd(700), ..open };
    let more = extend(&open, 1_400, vec![leg(books.account)]);
    let reply = books.flush(3, batch(more)).await.unwrap();
    assert_eq!(reply.extends, [ExtendVerdict::Granted { amount: NanoUsd(1_000) }]);
    let open = HoldOpen { amount: NanoUsd(1_000), ..open };
    let more = extend(&open, 1_001, vec![leg(books.account)]);
    let reply = books.flush(4, batch(more)).await.unwrap();
    assert_eq!(reply.extends, [ExtendVerdict::Denied { is_recalled: false }]);
    books.flush(5, resolves(vec![settle(&open, 999)])).await.unwrap();
    assert_eq!(books.row().await.balance(), NanoUsd(1));
    books.assert_audit_is_clean().await;
}

async fn a_charge_above_its_hold_is_refused(store: TestStore) {
    let books = Books::new(&store, 1_000).await;
    let open = wanting(books.open(100), 500, false);
    books.flush(1, opens(vec![open.clone()])).await.unwrap();
    let larger = HoldOpen { amount: NanoUsd(300), ..open.clone() };
    let refused = books.flush(2, resolves(vec![settle(&larger, 101)])).await;
    assert!(matches!(refused, Err(FlushError::Mismatch { step: "resolve", .. })), "{refused:?}");
    books.flush(2, resolves(vec![settle(&open, 100)])).await.unwrap();
    assert_eq!(books.row().await.balance(), NanoUsd(900));
    books.assert_audit_is_clean().await;
}

async fn a_frozen_account_charges_but_does_not_grow(store: TestStore) {
    let books = Books::new(&store, 1_000).await;
    let open = wanting(books.open(100), 500, false);
    books.flush(1, opens(vec![open.clone()])).await.unwrap();
    set_frozen(&books.db, books.account, true).await.unwrap();
    let extends = vec![extend(&open, 700, vec![leg(books.account)])];
    let reply = books.flush(2, FlushBatch { extends, ..FlushBatch::default() }).await.unwrap();
    assert_eq!(reply.extends, [ExtendVerdict::Denied { is_recalled: false }]);
    assert_eq!(reply.accounts[0].flags, FLAG_FROZEN);
    books.flush(3, resolves(vec![settle(&open, 60)])).await.unwrap();
    assert_eq!(books.row().await.balance(), NanoUsd(940));
    books.assert_audit_is_clean().await;
}

async fn a_slice_of_a_dead_instance_returns(store: TestStore) {
    let books = Books::new(&store, 1_000).await;
    let (settled, running) = (wanting(books.open(100), 600, false), books.open(200));
    books.flush(1, opens(vec![settled.clone(), inside(running.clone())])).await.unwrap();
    let batch = FlushBatch {
        leases: Vec::new(),
        checkpoints: vec![checkpoint(&running, 30)],
        ..resolves(vec![settle(&settled, 70)])
    };
    books.flush(2, batch).await.unwrap();
    let me = instance(&books.db).await;
    let report = recover(&books.db, me, RecoveryScope::AllOthers).await.unwrap();
    assert_eq!((report.holds, report.charged_nanousd), (1, 30));
    let row = books.row().await;
    assert_eq!((row.debits, row.leased, row.unfolded), (NanoUsd(100), NanoUsd(0), NanoUsd(0)));
    books.assert_audit_is_clean().await;
}

async fn a_top_up_reads_what_is_not_folded(store: TestStore) {
    let books = Books::new(&store, 100).await;
    let open = wanting(books.open(50), i64::MAX, false);
    books.flush(1, opens(vec![open.clone()])).await.unwrap();
    let batch = FlushBatch { leases: Vec::new(), ..resolves(vec![settle(&open, 50)]) };
    books.flush(2, batch).await.unwrap();
    let done = top_up(&books.db, books.account, NanoUsd(7), "ref").await.unwrap();
    assert_eq!((done.row.balance(), done.row.available()), (NanoUsd(57), NanoUsd(7)));
}

crate::on_both_databases! {
    a_slice_is_kept_charged_and_given_back,
    a_lease_gives_back_only_what_it_has,
    slices_of_two_instances_shrink_and_the_tail_is_exact,
    a_denial_recalls_what_other_instances_keep,
    a_hold_grows_as_far_as_the_credit_goes,
    a_charge_above_its_hold_is_refused,
    a_frozen_account_charges_but_does_not_grow,
    a_slice_of_a_dead_instance_returns,
    a_top_up_reads_what_is_not_folded,
}
