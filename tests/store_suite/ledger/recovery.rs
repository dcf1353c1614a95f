//! Recovery after a crash.

use faces::{
    domain::{NanoUsd, ledger::FlushBatch},
    storage::ledger::{RecoveryReport, RecoveryScope, close_instance, recover},
};

use sea_orm::{ConnectionTrait as _, Statement};

use super::{Books, checkpoint, instance, leg, opens, resolves, settle, spoil, wallet};
use crate::store::TestStore;

async fn open_holds_of_a_dead_instance_end_at_their_checkpoint_once(store: TestStore) {
    let books = Books::new(&store, 1_000).await;
    let (delivered, silent, settled) = (books.open(300), books.open(300), books.open(300));
    let batch = opens(vec![delivered.clone(), silent, settled.clone()]);
    books.flush(1, batch).await.unwrap();
    books.flush(2, resolves(vec![settle(&settled, 100)])).await.unwrap();
    for (seq, cost) in [(3, 50), (4, 70)] {
        let checkpoints = vec![checkpoint(&delivered, cost)];
        books.flush(seq, FlushBatch { checkpoints, ..FlushBatch::default() }).await.unwrap();
    }
    let me = instance(&books.db).await;
    let first = recover(&books.db, me, RecoveryScope::AllOthers).await.unwrap();
    assert_eq!(
        first,
        RecoveryReport { instances: 1, holds: 2, released_nanousd: 530, charged_nanousd: 70 }
    );
    let again = recover(&books.db, me, RecoveryScope::AllOthers).await.unwrap();
    assert_eq!(again, RecoveryReport::default());
    let row = books.row().await;
    assert_eq!((row.leased, row.debits), (NanoUsd::ZERO, NanoUsd(170)));
    let raw = store.raw().await;
    let billed = "SELECT out_text FROM ledger_usage WHERE hold_id = $1 AND finish = 6";
    let id = delivered.hold_id.0.into();
    let statement = Statement::from_sql_and_values(raw.get_database_backend(), billed, [id]);
    let usage = raw.query_one_raw(statement).await.unwrap().unwrap();
    assert_eq!(usage.try_get_by_index::<i64>(0).unwrap(), 70);
    books.assert_audit_is_clean().await;
}

async fn recovery_of_more_than_one_chunk_over_many_accounts(store: TestStore) {
    let books = Books::new(&store, 1_000_000).await;
    let mut seq = 0;
    for _ in 0..3 {
        let id = wallet(&books.db, 10_000).await;
        let holds = (0..400).map(|_| {
            let mut open = books.open(5);
            open.account_id = id;
            open.legs = vec![leg(id)];
            open
        });
        seq += 1;
        books.flush(seq, opens(holds.collect())).await.unwrap();
    }
    let me = instance(&books.db).await;
    let report = recover(&books.db, me, RecoveryScope::AllOthers).await.unwrap();
    assert_eq!((report.instances, report.holds, report.released_nanousd), (1, 1_200, 6_000));
    books.assert_audit_is_clean().await;
}

async fn only_an_expired_instance_is_taken_over(store: TestStore) {
    let books = Books::new(&store, 1_000).await;
    books.flush(1, opens(vec![books.open(300)])).await.unwrap();
    let me = instance(&books.db).await;
    let none = recover(&books.db, me, RecoveryScope::Expired).await.unwrap();
    assert_eq!(none, RecoveryReport::default());
    let raw = store.raw().await;
    let sql = "UPDATE ledger_instance SET expires_at = expires_at - 60000000 WHERE id = $1";
    spoil(&raw, sql, vec![books.instance.0.into()]).await;
    let one = recover(&books.db, me, RecoveryScope::Expired).await.unwrap();
    assert_eq!((one.instances, one.holds), (1, 1));
    assert_eq!(books.row().await.leased, NanoUsd::ZERO);
    books.assert_audit_is_clean().await;
}

async fn two_recoverers_at_once_release_each_hold_once(store: TestStore) {
    let books = Books::new(&store, 1_000).await;
    books.flush(1, opens(vec![books.open(300), books.open(300)])).await.unwrap();
    let me = instance(&books.db).await;
    let (one, two) = futures_util::future::join(
        recover(&books.db, me, RecoveryScope::AllOthers),
        recover(&books.db, me, RecoveryScope::AllOthers),
    )
    .await;
    assert_eq!(one.unwrap().holds + two.unwrap().holds, 2);
    assert_eq!(books.row().await.leased, NanoUsd::ZERO);
    books.assert_audit_is_clean().await;
}

async fn closing_an_instance_resolves_what_it_left_open(store: TestStore) {
    let books = Books::new(&store, 1_000).await;
    books.flush(1, opens(vec![books.open(300)])).await.unwrap();
    assert_eq!(close_instance(&books.db, books.instance).await.unwrap(), 1);
    assert_eq!(close_instance(&books.db, books.instance).await.unwrap(), 0);
    assert_eq!(books.row().await.leased, NanoUsd::ZERO);
    books.assert_audit_is_clean().await;
}

crate::on_both_databases! {
    open_holds_of_a_dead_instance_end_at_their_checkpoint_once,
    recovery_of_more_than_one_chunk_over_many_accounts,
    only_an_expired_instance_is_taken_over,
    two_recoverers_at_once_release_each_hold_once,
    closing_an_instance_resolves_what_it_left_open,
}
