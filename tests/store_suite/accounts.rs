//! Accounts, wallets and incoming money.

use std::time::{Duration, Instant};

use ::faces::{
    domain::{
        AccountId, NanoUsd,
        ledger::{AccountKind, FLAG_FROZEN, TransferKind},
    },
    storage::{
        Db, StorageError,
        accounts::{
            CreditSource, NewAccount, count_accounts, create_account, find_account, list_accounts,
            read_account_row, set_frozen, top_up,
        },
    },
};
use entity::ledger_transfer;
use futures_util::{FutureExt, future::join_all};
use sea_orm::EntityTrait;

use crate::{on_both_databases, store::TestStore};

fn account(name: &str, credit: i64) -> NewAccount {
    NewAccount {
        id: AccountId::generate(),
        name: name.to_owned(),
        credit: NanoUsd(credit),
        credit_source: CreditSource::Promo,
    }
}

/// An account for a test that is about something else.
pub(crate) async fn some_account(db: &Db) -> AccountId {
    create_account(db, account("somebody", 0)).await.unwrap().id
}

async fn transfers(store: &TestStore) -> Vec<ledger_transfer::Model> {
    ledger_transfer::Entity::find().all(&store.raw().await).await.unwrap()
}

async fn a_new_account_has_its_first_credit_and_the_books_show_from_where(store: TestStore) {
    assert_eq!(count_accounts(&store.db).await.unwrap(), 0);
    let gift = account("Ada", 5_000_000_000);
    let paid = NewAccount { credit_source: CreditSource::Cash, ..account("Bob", 7) };
    let made = create_account(&store.db, gift.clone()).await.unwrap();
    create_account(&store.db, paid.clone()).await.unwrap();

    assert_eq!(made.row.credits, NanoUsd(5_000_000_000));
    assert_eq!(made.row.available(), NanoUsd(5_000_000_000));
    let found = find_account(&store.db, gift.id).await.unwrap().unwrap();
    assert_eq!(found, made);
    assert_eq!(read_account_row(&store.db, gift.id).await.unwrap(), Some(made.row));
    assert_eq!(count_accounts(&store.db).await.unwrap(), 2);

    let mut booked: Vec<_> = transfers(&store)
        .await
        .into_iter()
        .map(|line| (line.kind, line.debit_account, line.credit_account, line.amount))
        .collect();
    booked.sort_unstable();
    let operator = |kind: AccountKind| kind.operator_id().unwrap().0;
    assert_eq!(
        booked,
        [
            (TransferKind::TopUp.db_code(), operator(AccountKind::CashClearing), paid.id.0, 7),
            (TransferKind::Promo.db_code(), operator(AccountKind::Promo), gift.id.0, 5_000_000_000),
        ]
    );
}

async fn an_account_without_credit_moves_no_money(store: TestStore) {
    let made = create_account(&store.db, account("Ada", 0)).await.unwrap();
    assert_eq!(made.row.balance(), NanoUsd::ZERO);
    assert!(transfers(&store).await.is_empty());
}

async fn a_repeated_creation_is_a_conflict_and_credits_nothing(store: TestStore) {
    let new = account("Ada", 10);
    create_account(&store.db, new.clone()).await.unwrap();
    let again = create_account(&store.db, new.clone()).await;
    assert!(matches!(again, Err(StorageError::Conflict { .. })), "{again:?}");
    let row = read_account_row(&store.db, new.id).await.unwrap().unwrap();
    assert_eq!(row.credits, NanoUsd(10));
}

async fn a_negative_first_credit_is_refused(store: TestStore) {
    let made = create_account(&store.db, account("Ada", -1)).await;
    assert!(matches!(made, Err(StorageError::OutOfRange { .. })), "{made:?}");
    assert_eq!(count_accounts(&store.db).await.unwrap(), 0);
}

async fn pages_of_accounts_join_to_the_whole_list_in_order_of_making(store: TestStore) {
    let mut made = Vec::new();
    for number in 0..7 {
        let new = account(&format!("account {number}"), number);
        made.push(create_account(&store.db, new).await.unwrap());
    }
    let (mut listed, mut after) = (Vec::new(), None);
    loop {
        let page = list_accounts(&store.db, after, 3).await.unwrap();
        assert!(page.len() <= 3);
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        listed.extend(page);
    }
    assert_eq!(listed, made);
}

async fn a_top_up_counts_once_whatever_is_repeated(store: TestStore) {
    let id = some_account(&store.db).await;
    let first = top_up(&store.db, id, NanoUsd(300), "invoice-1").await.unwrap();
    assert_eq!((first.row.credits, first.repeated), (NanoUsd(300), false));
    let again = top_up(&store.db, id, NanoUsd(300), "invoice-1").await.unwrap();
    assert_eq!((again.row, again.repeated), (first.row, true));
    let second = top_up(&store.db, id, NanoUsd(5), "invoice-2").await.unwrap();
    assert_eq!((second.row.credits, second.repeated), (NanoUsd(305), false));
    assert_eq!(transfers(&store).await.len(), 2);
}

async fn the_same_top_up_sent_many_times_at_once_counts_once(store: TestStore) {
    let id = some_account(&store.db).await;
    let sent = (0..16).map(|_| top_up(&store.db, id, NanoUsd(40), "invoice-1"));
    let answers: Vec<_> = join_all(sent).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(answers.iter().filter(|answer| !answer.repeated).count(), 1);
    assert!(answers.iter().all(|answer| answer.row.credits == NanoUsd(40)));
}

async fn many_top_ups_at_once_all_count(store: TestStore) {
    let id = some_account(&store.db).await;
    let references: Vec<_> = (0..16).map(|number| format!("invoice-{number}")).collect();
    let sent = references.iter().map(|reference| top_up(&store.db, id, NanoUsd(3), reference));
    for answer in join_all(sent).await {
        assert!(!answer.unwrap().repeated);
    }
    let row = read_account_row(&store.db, id).await.unwrap().unwrap();
    assert_eq!(row.credits, NanoUsd(48));
}

async fn a_reference_used_for_another_amount_or_account_is_a_conflict(store: TestStore) {
    let (ada, bob) = (some_account(&store.db).await, some_account(&store.db).await);
    top_up(&store.db, ada, NanoUsd(300), "invoice-1").await.unwrap();
    for (id, amount) in [(ada, 301), (bob, 300)] {
        let other = top_up(&store.db, id, NanoUsd(amount), "invoice-1").await;
        assert!(matches!(other, Err(StorageError::Conflict { .. })), "{other:?}");
    }
    let row = read_account_row(&store.db, bob).await.unwrap().unwrap();
    assert_eq!(row.credits, NanoUsd::ZERO);
}

async fn a_refused_top_up_does_not_use_up_its_reference(store: TestStore) {
    let id = some_account(&store.db).await;
    top_up(&store.db, id, NanoUsd(i64::MAX - 1), "large").await.unwrap();
    let beyond = top_up(&store.db, id, NanoUsd(2), "small").await;
    assert!(matches!(beyond, Err(StorageError::OutOfRange { .. })), "{beyond:?}");
    let fits = top_up(&store.db, id, NanoUsd(1), "small").await.unwrap();
    assert_eq!((fits.row.credits, fits.repeated), (NanoUsd(i64::MAX), false));

    for amount in [0, -5] {
        let answer = top_up(&store.db, id, NanoUsd(amount), "nothing").await;
        assert!(matches!(answer, Err(StorageError::OutOfRange { .. })), "{answer:?}");
    }
    let nobody = top_up(&store.db, AccountId::generate(), NanoUsd(1), "lost").await;
    assert!(matches!(nobody, Err(StorageError::Missing { .. })), "{nobody:?}");
    assert!(transfers(&store).await.iter().all(|line| line.amount > 1 || line.memo.is_none()));
    assert_eq!(transfers(&store).await.len(), 2);
}

async fn the_operators_accounts_are_nobodys_wallet(store: TestStore) {
    for kind in AccountKind::OPERATOR {
        let id = kind.operator_id().unwrap();
        assert_eq!(read_account_row(&store.db, id).await.unwrap(), None);
        let answer = top_up(&store.db, id, NanoUsd(1), "theirs").await;
        assert!(matches!(answer, Err(StorageError::Missing { .. })), "{answer:?}");
    }
    assert!(list_accounts(&store.db, None, 10).await.unwrap().is_empty());
}

async fn freezing_is_a_flag_that_can_be_taken_back(store: TestStore) {
    let id = some_account(&store.db).await;
    for (frozen, flags) in [(true, FLAG_FROZEN), (true, FLAG_FROZEN), (false, 0), (false, 0)] {
        let row = set_frozen(&store.db, id, frozen).await.unwrap();
        assert_eq!((row.flags, row.is_blocked()), (flags, frozen));
        assert_eq!(read_account_row(&store.db, id).await.unwrap(), Some(row));
    }
    let nobody = set_frozen(&store.db, AccountId::generate(), true).await;
    assert!(matches!(nobody, Err(StorageError::Missing { .. })), "{nobody:?}");
}

async fn a_dropped_caller_does_not_stop_what_it_asked_for(store: TestStore) {
    let new = account("Ada", 10);
    let asked = create_account(&store.db, new.clone());
    // Polled once, then dropped.
    let _ = asked.now_or_never();
    let deadline = Instant::now() + Duration::from_secs(20);
    while find_account(&store.db, new.id).await.unwrap().is_none() {
        assert!(Instant::now() < deadline, "the account never appeared");
        tokio::task::yield_now().await;
    }
    let row = read_account_row(&store.db, new.id).await.unwrap().unwrap();
    assert_eq!(row.credits, NanoUsd(10));
}

on_both_databases! {
    a_new_account_has_its_first_credit_and_the_books_show_from_where,
    an_account_without_credit_moves_no_money,
    a_repeated_creation_is_a_conflict_and_credits_nothing,
    a_negative_first_credit_is_refused,
    pages_of_accounts_join_to_the_whole_list_in_order_of_making,
    a_top_up_counts_once_whatever_is_repeated,
    the_same_top_up_sent_many_times_at_once_counts_once,
    many_top_ups_at_once_all_count,
    a_reference_used_for_another_amount_or_account_is_a_conflict,
    a_refused_top_up_does_not_use_up_its_reference,
    the_operators_accounts_are_nobodys_wallet,
    freezing_is_a_flag_that_can_be_taken_back,
    a_dropped_caller_does_not_stop_what_it_asked_for,
}
