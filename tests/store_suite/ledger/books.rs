//! An export of the books.

use faces::{
    domain::clock::UnixMicros,
    storage::ledger::books::{EXPORT_PAGE_ROWS, TransferLine, export_transfers},
};
use sea_orm::ConnectionTrait as _;
use tokio::sync::mpsc;

use crate::store::TestStore;

const ROWS: usize = 2 * EXPORT_PAGE_ROWS + 345;

/// Transfers in no order, seven of each time.
async fn write_transfers(store: &TestStore) {
    let raw = store.raw().await;
    let (id, account) = match store.db.is_sqlite() {
        true => ("randomblob(16)", "zeroblob(16)"),
        false => ("gen_random_uuid()", "gen_random_uuid()"),
    };
    let sql = format!(
        "INSERT INTO ledger_transfer (id, kind, debit_account, credit_account, amount, created_at)
        SELECT {id}, 2, {account}, {account}, n, 1000 + (n * 7919 % {ROWS}) / 7
        FROM (WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {ROWS})
            SELECT n FROM c) AS numbers"
    );
    raw.execute_unprepared(&sql).await.unwrap();
}

async fn an_export_has_every_transfer_once_in_order(store: TestStore) {
    write_transfers(&store).await;
    let (sender, mut pages) = mpsc::channel::<Vec<TransferLine>>(1);
    let all = UnixMicros(0)..UnixMicros(i64::MAX);
    let read = async {
        let mut lines = Vec::new();
        while let Some(page) = pages.recv().await {
            assert!(page.len() <= EXPORT_PAGE_ROWS);
            lines.extend(page);
        }
        lines
    };
    let (count, lines) = tokio::join!(export_transfers(&store.db, all, sender), read);
    assert_eq!((count.unwrap(), lines.len()), (ROWS as u64, ROWS));
    assert!(lines.is_sorted_by_key(|line| (line.created_at, line.id, line.kind)));
    let mut amounts: Vec<i64> = lines.iter().map(|line| line.amount.0).collect();
    amounts.sort_unstable();
    assert!(amounts.iter().copied().eq(1..=ROWS.cast_signed() as i64));
}

async fn an_export_ends_when_nobody_reads_it(store: TestStore) {
    write_transfers(&store).await;
    let (sender, mut pages) = mpsc::channel::<Vec<TransferLine>>(1);
    let all = UnixMicros(0)..UnixMicros(i64::MAX);
    let read = async move { pages.recv().await.map(|page| page.len()) };
    let (count, first) = tokio::join!(export_transfers(&store.db, all, sender), read);
    assert_eq!(first, Some(EXPORT_PAGE_ROWS));
    assert!(count.unwrap() < ROWS as u64);
}

crate::on_both_databases! {
    an_export_has_every_transfer_once_in_order,
    an_export_ends_when_nobody_reads_it,
}
