//! Budgets of keys: their accounts, windows and changes, and holds that reserve both.

use entity::ledger_account;
use faces::{
    domain::{
        AccountId, BudgetWindow, KeyId, NanoUsd,
        clock::UnixMicros,
        ledger::{AccountRow, FlushBatch, HoldOpen, OpenVerdict},
    },
    storage::{
        Db,
        ledger::{CapWindow, RecoveryScope, ensure_cap, read_caps, recover, spent_by_keys},
    },
};
use futures_util::future::join_all;
use sea_orm::{DbBackend, EntityTrait as _};

use super::{Books, checkpoint, instance, leg, opens, resolves, settle, void};
use crate::store::TestStore;

/// A window of the key; the days are those after the epoch.
fn day(key_id: KeyId, day: i64) -> CapWindow {
    let start = UnixMicros(day * 86_400_000_000);
    CapWindow { key_id, window: BudgetWindow::Daily, start }
}

/// Books with a key that has a budget.
pub(super) struct Budgeted {
    pub(super) books: Books,
    key: KeyId,
    pub(super) cap: AccountId,
}

impl Budgeted {
    pub(super) async fn new(store: &TestStore, credit: i64, budget: i64) -> Self {
        let books = Books::new(store, credit).await;
        let key = KeyId::generate();
        let row = ensure_cap(&books.db, books.account, day(key, 1), NanoUsd(budget)).await.unwrap();
        Self { books, key, cap: row.account_id }
    }

    /// A hold of the key, on the wallet and on the budget.
    pub(super) fn open(&self, amount: i64) -> HoldOpen {
        let legs = vec![leg(self.books.account), leg(self.cap)];
        HoldOpen { cap_id: Some(self.cap), key_id: Some(self.key), legs, ..self.books.open(amount) }
    }

    async fn ensure(&self, budget: i64) -> AccountRow {
        let cap = day(self.key, 1);
        ensure_cap(&self.books.db, self.books.account, cap, NanoUsd(budget)).await.unwrap()
    }
}

async fn kept(store: &TestStore) -> Vec<ledger_account::Model> {
    let all = ledger_account::Entity::find().all(&store.raw().await).await.unwrap();
    all.into_iter().filter(|row| row.kind == 2).collect()
}

async fn a_budgets_account_is_made_once_whoever_asks(store: TestStore) {
    let books = Books::new(&store, 1_000).await;
    let key = KeyId::generate();
    // A second instance where there can be one.
    let other = match store.raw().await.get_database_backend() {
        DbBackend::Sqlite => store.db.clone(),
        _ => Db::open(store.options()).await.unwrap(),
    };
    let asked = (0..16).map(|number| {
        let db = if number % 2 == 0 { &store.db } else { &other };
        ensure_cap(db, books.account, day(key, 1), NanoUsd(100))
    });
    let rows: Vec<_> = join_all(asked).await.into_iter().map(Result::unwrap).collect();
    assert!(rows.iter().all(|row| *row == rows[0]), "{rows:?}");
    assert_eq!((rows[0].credits, rows[0].available()), (NanoUsd(100), NanoUsd(100)));
    let kept = kept(&store).await;
    assert_eq!(kept.len(), 1, "{kept:?}");
    let one = &kept[0];
    assert_eq!((one.owner_id, one.parent_id), (key.0, Some(books.account.0)));
    assert_eq!((one.cap_window, one.window_start), (Some(2), Some(86_400_000_000)));
    assert_eq!(
        (one.credits, one.version, one.recall_seq),
        (100, 0, 0),
        "nothing was written twice"
    );
    books.assert_audit_is_clean().await;
}

async fn a_raised_budget_pays_at_once(store: TestStore) {
    let budgeted = Budgeted::new(&store, 1_000, 100).await;
    let books = &budgeted.books;
    let reply = books.flush(1, opens(vec![budgeted.open(101)])).await.unwrap();
    let OpenVerdict::Denied { row, .. } = reply.opens[0] else { panic!("{reply:?}") };
    assert_eq!((row.account_id, row.available()), (budgeted.cap, NanoUsd(100)));
    assert_eq!(books.row().await.leased, NanoUsd(0), "all accounts or none");
    assert_eq!(budgeted.ensure(150).await.available(), NanoUsd(150));
    let open = budgeted.open(101);
    let reply = books.flush(2, opens(vec![open.clone()])).await.unwrap();
    assert!(matches!(reply.opens[0], OpenVerdict::Granted { .. }), "{reply:?}");
    books.flush(3, resolves(vec![settle(&open, 40)])).await.unwrap();
    let row = budgeted.ensure(150).await;
    assert_eq!((row.spent(), row.leased, row.available()), (NanoUsd(40), NanoUsd(0), NanoUsd(110)));
    assert_eq!(books.row().await.balance(), NanoUsd(960), "both are charged");
    assert_eq!(kept(&store).await[0].version, 1, "one change, one write");
    books.assert_audit_is_clean().await;
}

async fn a_lowered_budget_follows_what_running_requests_leave(store: TestStore) {
    let budgeted = Budgeted::new(&store, 1_000, 100).await;
    let books = &budgeted.books;
    let (spent, running) = (budgeted.open(60), budgeted.open(30));
    books.flush(1, opens(vec![spent.clone(), running.clone()])).await.unwrap();
    books.flush(2, resolves(vec![settle(&spent, 60)])).await.unwrap();

    let row = budgeted.ensure(80).await;
    assert_eq!((row.credits, row.available(), row.recall_seq), (NanoUsd(90), NanoUsd(0), 1));
    assert_eq!(budgeted.ensure(80).await, row, "running requests are not cut");
    let reply = books.flush(3, opens(vec![budgeted.open(1)])).await.unwrap();
    assert_eq!(reply.opens, [OpenVerdict::Blocked(row)]);
    books.flush(4, resolves(vec![settle(&running, 5)])).await.unwrap();
    let reply = books.flush(5, opens(vec![budgeted.open(1)])).await.unwrap();
    assert!(matches!(reply.opens[0], OpenVerdict::Blocked(_)), "what came back stays: {reply:?}");
    let row = budgeted.ensure(80).await;
    assert_eq!(
        (row.credits, row.spent(), row.available()),
        (NanoUsd(80), NanoUsd(65), NanoUsd(15))
    );
    let version = kept(&store).await[0].version;
    budgeted.ensure(80).await;
    assert_eq!(kept(&store).await[0].version, version, "nothing changes any more");
    let reply = books.flush(6, opens(vec![budgeted.open(15)])).await.unwrap();
    assert!(matches!(reply.opens[0], OpenVerdict::Granted { .. }), "{reply:?}");
    books.assert_audit_is_clean().await;
}

async fn a_budget_below_what_is_spent_stays_at_what_is_spent(store: TestStore) {
    let budgeted = Budgeted::new(&store, 1_000, 100).await;
    let books = &budgeted.books;
    let open = budgeted.open(60);
    books.flush(1, opens(vec![open.clone()])).await.unwrap();
    books.flush(2, resolves(vec![settle(&open, 60)])).await.unwrap();
    for _ in 0..3 {
        let row = budgeted.ensure(10).await;
        assert_eq!((row.credits, row.available()), (NanoUsd(60), NanoUsd(0)));
    }
    assert_eq!(kept(&store).await[0].version, 1, "once is enough");
    let row = budgeted.ensure(70).await;
    assert_eq!((row.available(), row.is_blocked()), (NanoUsd(10), false));
    books.assert_audit_is_clean().await;
}

async fn a_new_window_is_a_new_account_and_a_hold_stays_in_its_own(store: TestStore) {
    let budgeted = Budgeted::new(&store, 1_000, 100).await;
    let (books, key) = (&budgeted.books, budgeted.key);
    let open = budgeted.open(100);
    books.flush(1, opens(vec![open.clone()])).await.unwrap();
    let ensure = |cap| ensure_cap(&books.db, books.account, cap, NanoUsd(100));
    let tomorrow = ensure(day(key, 2)).await.unwrap();
    assert_eq!(tomorrow.available(), NanoUsd(100));
    // The week and the month that begin on that day are counted apart.
    let weekly = CapWindow { window: BudgetWindow::Weekly, ..day(key, 2) };
    let monthly = CapWindow { window: BudgetWindow::Monthly, ..day(key, 2) };
    let ids = [tomorrow, ensure(weekly).await.unwrap(), ensure(monthly).await.unwrap()];
    assert_eq!(ids.map(|row| row.available()), [NanoUsd(100); 3]);
    books.flush(2, resolves(vec![settle(&open, 70)])).await.unwrap();
    let spent = |row: &AccountRow| row.spent().0;
    let read = read_caps(&books.db, vec![day(key, 1)]).await.unwrap();
    assert_eq!((read[&key].account_id, spent(&read[&key])), (budgeted.cap, 70));
    let read = read_caps(&books.db, vec![day(key, 2)]).await.unwrap();
    assert_eq!((read[&key].account_id, spent(&read[&key])), (tomorrow.account_id, 0));
    assert!(read_caps(&books.db, vec![day(key, 3)]).await.unwrap().is_empty());
    assert_eq!(kept(&store).await.len(), 4);
    books.assert_audit_is_clean().await;
}

async fn what_keys_spent_is_the_sum_of_their_holds(store: TestStore) {
    let budgeted = Budgeted::new(&store, 1_000, 500).await;
    let (books, key) = (&budgeted.books, budgeted.key);
    let (free, other) = (KeyId::generate(), KeyId::generate());
    let with = |key_id, amount| HoldOpen { key_id: Some(key_id), ..books.open(amount) };
    let holds = [budgeted.open(100), budgeted.open(50), budgeted.open(9), with(free, 80)];
    let running = with(free, 7);
    let batch = opens(holds.iter().cloned().chain([running]).collect());
    books.flush(1, batch).await.unwrap();
    let [a, b, c, d] = &holds;
    let ends = vec![settle(a, 90), settle(b, 50), void(c), settle(d, 33)];
    books.flush(2, resolves(ends)).await.unwrap();
    let spent = spent_by_keys(&books.db, vec![key, free, other]).await.unwrap();
    assert_eq!([spent[&key], spent[&free], spent[&other]], [140, 33, 0].map(NanoUsd));
    assert_eq!(budgeted.ensure(500).await.spent(), NanoUsd(140));
    books.assert_audit_is_clean().await;
}

async fn a_dead_instances_holds_are_charged_to_the_budget_too(store: TestStore) {
    let budgeted = Budgeted::new(&store, 1_000, 500).await;
    let books = &budgeted.books;
    let open = budgeted.open(100);
    books.flush(1, opens(vec![open.clone()])).await.unwrap();
    let checkpoints = vec![checkpoint(&open, 30)];
    books.flush(2, FlushBatch { checkpoints, ..FlushBatch::default() }).await.unwrap();
    let me = instance(&books.db).await;
    recover(&books.db, me, RecoveryScope::AllOthers).await.unwrap();
    let row = budgeted.ensure(500).await;
    assert_eq!((row.debits, row.leased), (NanoUsd(30), NanoUsd(0)));
    assert_eq!(books.row().await.balance(), NanoUsd(970));
    books.assert_audit_is_clean().await;
}

crate::on_both_databases! {
    a_budgets_account_is_made_once_whoever_asks,
    a_raised_budget_pays_at_once,
    a_lowered_budget_follows_what_running_requests_leave,
    a_budget_below_what_is_spent_stays_at_what_is_spent,
    a_new_window_is_a_new_account_and_a_hold_stays_in_its_own,
    what_keys_spent_is_the_sum_of_their_holds,
    a_dead_instances_holds_are_charged_to_the_budget_too,
}
