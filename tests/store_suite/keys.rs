//! API keys.

use ::faces::{
    domain::{
        AccountId, ApiKeySecret, BudgetWindow, KeyBudget, KeyId, NanoUsd, Scopes, clock::UnixMicros,
    },
    storage::{
        StorageError,
        keys::{
            BudgetChange, KeyChange, NewKey, change_budget, change_key, count_keys, find_key,
            find_key_by_hash, insert_key, list_keys, list_newest_keys, note_uses, revoke_key,
        },
    },
};

use crate::{accounts::some_account, on_both_databases, store::TestStore};

fn key_of(account_id: AccountId, secret: &ApiKeySecret) -> NewKey {
    NewKey {
        id: KeyId::generate(),
        account_id,
        name: "laptop".to_owned(),
        hash: secret.hash(),
        prefix: secret.display_prefix(),
        expires_at: None,
        allowed_faces: None,
        allowed_models: None,
        budget: None,
        scopes: Scopes::KEY,
    }
}

async fn a_key_is_found_by_its_hash_with_everything_that_limits_it(store: TestStore) {
    let account_id = some_account(&store.db).await;
    let (plain, limited) = (ApiKeySecret::generate().unwrap(), ApiKeySecret::generate().unwrap());
    let new = NewKey {
        expires_at: Some(UnixMicros(1_800_000_000_000_000)),
        allowed_faces: Some(vec!["alice".to_owned(), "bob \"the builder\"".to_owned()]),
        allowed_models: Some(Vec::new()),
        ..key_of(account_id, &limited)
    };
    insert_key(&store.db, key_of(account_id, &plain)).await.unwrap();
    let kept = insert_key(&store.db, new.clone()).await.unwrap();

    let found = find_key_by_hash(&store.db, limited.hash()).await.unwrap().unwrap();
    assert_eq!(found, kept);
    assert_eq!((found.id, found.account_id), (new.id, account_id));
    assert_eq!(found.expires_at, new.expires_at);
    assert_eq!(
        (found.allowed_faces, found.allowed_models),
        (new.allowed_faces, new.allowed_models)
    );
    assert_eq!(found.prefix, limited.display_prefix());

    let found = find_key_by_hash(&store.db, plain.hash()).await.unwrap().unwrap();
    assert_eq!((found.expires_at, found.revoked_at), (None, None));
    assert_eq!((found.allowed_faces, found.allowed_models), (None, None));
    let unknown = ApiKeySecret::generate().unwrap().hash();
    assert_eq!(find_key_by_hash(&store.db, unknown).await.unwrap(), None);
}

async fn a_secret_is_kept_once_and_only_for_an_account_that_exists(store: TestStore) {
    let account_id = some_account(&store.db).await;
    let secret = ApiKeySecret::generate().unwrap();
    insert_key(&store.db, key_of(account_id, &secret)).await.unwrap();
    let again = insert_key(&store.db, key_of(account_id, &secret)).await;
    assert!(matches!(again, Err(StorageError::Conflict { .. })), "{again:?}");
    let other = ApiKeySecret::generate().unwrap();
    let nobodys = insert_key(&store.db, key_of(AccountId::generate(), &other)).await;
    assert!(matches!(nobodys, Err(StorageError::Missing { what: "account" })), "{nobodys:?}");
}

async fn a_key_is_revoked_once_and_only_by_its_owner(store: TestStore) {
    let (ada, bob) = (some_account(&store.db).await, some_account(&store.db).await);
    let secret = ApiKeySecret::generate().unwrap();
    let key = insert_key(&store.db, key_of(ada, &secret)).await.unwrap();

    assert!(!revoke_key(&store.db, bob, key.id).await.unwrap());
    let found = find_key_by_hash(&store.db, secret.hash()).await.unwrap().unwrap();
    assert_eq!(found.revoked_at, None);

    assert!(revoke_key(&store.db, ada, key.id).await.unwrap());
    let revoked = find_key_by_hash(&store.db, secret.hash()).await.unwrap().unwrap();
    assert!(revoked.revoked_at.is_some_and(|at| at >= key.created_at));

    assert!(!revoke_key(&store.db, ada, key.id).await.unwrap());
    let found = find_key_by_hash(&store.db, secret.hash()).await.unwrap().unwrap();
    assert_eq!(found.revoked_at, revoked.revoked_at, "the first time stays");
}

async fn a_list_shows_the_accounts_own_keys_page_by_page(store: TestStore) {
    let (ada, bob) = (some_account(&store.db).await, some_account(&store.db).await);
    let mut made = Vec::new();
    for _ in 0..3 {
        for account_id in [ada, bob] {
            let secret = ApiKeySecret::generate().unwrap();
            let key = insert_key(&store.db, key_of(account_id, &secret)).await.unwrap();
            made.extend((account_id == ada).then_some(key));
        }
    }
    let first = list_keys(&store.db, ada, None, 2).await.unwrap();
    let second = list_keys(&store.db, ada, Some(first[1].id), 2).await.unwrap();
    assert_eq!([first, second].concat(), made);
}

async fn a_budget_is_kept_changed_in_part_and_removed(store: TestStore) {
    let account_id = some_account(&store.db).await;
    let secret = ApiKeySecret::generate().unwrap();
    let budget = KeyBudget { limit: NanoUsd(5_000_000_000), window: BudgetWindow::Daily };
    let new = NewKey { budget: Some(budget), ..key_of(account_id, &secret) };
    let kept = insert_key(&store.db, new).await.unwrap();
    assert_eq!(kept.budget, Some(budget));

    let change = |limit: Option<i64>, window| {
        let change = Some(BudgetChange { limit: limit.map(NanoUsd), window });
        change_budget(&store.db, kept.id, change)
    };
    let of = |limit, window| Some(KeyBudget { limit: NanoUsd(limit), window });
    let raised = change(Some(7), None).await.unwrap().unwrap();
    assert_eq!(raised.budget, of(7, BudgetWindow::Daily));
    let monthly = change(None, Some(BudgetWindow::Monthly)).await.unwrap().unwrap();
    assert_eq!(monthly.budget, of(7, BudgetWindow::Monthly));
    let both = change(Some(0), Some(BudgetWindow::Weekly)).await.unwrap().unwrap();
    assert_eq!(both.budget, of(0, BudgetWindow::Weekly));
    let found = find_key_by_hash(&store.db, secret.hash()).await.unwrap();
    assert_eq!(found, Some(both));
    let negative = change(Some(-1), None).await;
    assert!(matches!(negative, Err(StorageError::OutOfRange { .. })), "{negative:?}");

    let without = change_budget(&store.db, kept.id, None).await.unwrap().unwrap();
    assert_eq!(without.budget, None);
    let nothing_to_move = change(None, Some(BudgetWindow::Daily)).await.unwrap().unwrap();
    assert_eq!(nothing_to_move.budget, None);
    let again = change(Some(9), None).await.unwrap().unwrap();
    assert_eq!(again.budget, of(9, BudgetWindow::Forever));
    assert_eq!(change_budget(&store.db, KeyId::generate(), None).await.unwrap(), None);
}

async fn a_key_changes_in_what_is_given_and_only_for_its_owner(store: TestStore) {
    let db = &store.db;
    let (ada, eve) = (some_account(db).await, some_account(db).await);
    let scopes = Scopes::parse(["v1:read", "v1:chat"]).unwrap();
    let new = NewKey { scopes, ..key_of(ada, &ApiKeySecret::generate().unwrap()) };
    let kept = insert_key(db, new).await.unwrap();
    assert_eq!((kept.scopes, kept.last_used_at, kept.spent_since), (scopes, None, None));
    let budget = KeyBudget { limit: NanoUsd(9), window: BudgetWindow::Weekly };
    let change = KeyChange {
        name: Some("other".to_owned()),
        allowed_faces: Some(Some(vec!["alice".to_owned()])),
        allowed_models: Some(Some(Vec::new())),
        budget: Some(Some(budget)),
        scopes: Some(Scopes::NONE),
        spent: Some((UnixMicros(5), NanoUsd(3))),
    };
    assert_eq!(change_key(db, eve, kept.id, change.clone()).await.unwrap(), None);
    assert_eq!(find_key(db, eve, kept.id).await.unwrap(), None);
    assert_eq!(find_key(db, ada, kept.id).await.unwrap(), Some(kept.clone()), "untouched");
    let changed = change_key(db, ada, kept.id, change).await.unwrap().unwrap();
    assert_eq!((changed.name.as_str(), changed.budget), ("other", Some(budget)));
    assert_eq!(changed.allowed_faces, Some(vec!["alice".to_owned()]));
    assert_eq!((changed.allowed_models.clone(), changed.scopes), (Some(Vec::new()), Scopes::NONE));
    let spent = (changed.spent_since, changed.spent_before);
    assert_eq!(spent, (Some(UnixMicros(5)), NanoUsd(3)));
    let same = change_key(db, ada, kept.id, KeyChange::default()).await.unwrap();
    assert_eq!(same, Some(changed));
    let clear = KeyChange {
        allowed_faces: Some(None),
        allowed_models: Some(None),
        budget: Some(None),
        scopes: Some(Scopes::KEY),
        ..KeyChange::default()
    };
    let cleared = change_key(db, ada, kept.id, clear).await.unwrap().unwrap();
    assert_eq!((cleared.allowed_faces, cleared.allowed_models, cleared.budget), (None, None, None));
    assert_eq!((cleared.scopes, cleared.name.as_str()), (Scopes::KEY, "other"));
    let negative = KeyBudget { limit: NanoUsd(-1), window: BudgetWindow::Daily };
    let negative = KeyChange { budget: Some(Some(negative)), ..KeyChange::default() };
    let refused = change_key(db, ada, kept.id, negative).await;
    assert!(matches!(refused, Err(StorageError::OutOfRange { .. })), "{refused:?}");
}

async fn uses_are_noted_in_any_order_and_only_the_last_is_kept(store: TestStore) {
    let db = &store.db;
    let account_id = some_account(db).await;
    let mut ids = Vec::new();
    for _ in 0..250 {
        let secret = ApiKeySecret::generate().unwrap();
        ids.push(insert_key(db, key_of(account_id, &secret)).await.unwrap().id);
    }
    let at = |micros| ids.iter().map(move |id| (*id, UnixMicros(micros))).collect();
    note_uses(db, at(7)).await.unwrap();
    note_uses(db, at(5)).await.unwrap();
    let newest = list_newest_keys(db, account_id, None, 300).await.unwrap();
    assert_eq!(newest.len(), 250);
    assert!(newest.iter().all(|key| key.last_used_at == Some(UnixMicros(7))));
    note_uses(db, [(ids[0], UnixMicros(9)), (KeyId::generate(), UnixMicros(9))].into())
        .await
        .unwrap();
    let first = find_key(db, account_id, ids[0]).await.unwrap().unwrap();
    assert_eq!(first.last_used_at, Some(UnixMicros(9)));
    // Newest first, page by page; revoked ones are listed and not counted.
    revoke_key(db, account_id, ids[249]).await.unwrap();
    assert_eq!(count_keys(db, account_id).await.unwrap(), 249);
    let page = list_newest_keys(db, account_id, None, 2).await.unwrap();
    assert_eq!([page[0].id, page[1].id], [ids[249], ids[248]]);
    let page = list_newest_keys(db, account_id, Some(ids[248]), 1).await.unwrap();
    assert_eq!(page[0].id, ids[247]);
}

on_both_databases! {
    a_key_changes_in_what_is_given_and_only_for_its_owner,
    uses_are_noted_in_any_order_and_only_the_last_is_kept,
    a_budget_is_kept_changed_in_part_and_removed,
    a_key_is_found_by_its_hash_with_everything_that_limits_it,
    a_secret_is_kept_once_and_only_for_an_account_that_exists,
    a_key_is_revoked_once_and_only_by_its_owner,
    a_list_shows_the_accounts_own_keys_page_by_page,
}
