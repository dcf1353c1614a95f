//! Logins, the shared secret, preferences.

use ::faces::{
    domain::{AccountId, EmailAddress, NanoUsd, Username},
    storage::{
        StorageError,
        accounts::{CreditSource, NewAccount, count_accounts, find_account},
        logins::{
            NewLogin, find_login, find_login_by_email, is_username_taken, register, renew_hash,
            replace_password, set_password, shared_secret,
        },
        preferences::{PreferenceChange, Preferences, change_preferences, read_preferences},
    },
};

use crate::{accounts::some_account, on_both_databases, store::TestStore};

fn account() -> NewAccount {
    NewAccount {
        id: AccountId::generate(),
        name: "Ada".to_owned(),
        credit: NanoUsd(7),
        credit_source: CreditSource::Promo,
    }
}

fn email(text: &str) -> EmailAddress {
    EmailAddress::parse(text).unwrap()
}

fn login(address: &str, username: &str) -> NewLogin {
    NewLogin {
        email: email(address),
        username: Username::parse(username).unwrap(),
        password_hash: "a hash".to_owned(),
    }
}

async fn an_account_and_its_login_are_made_together_or_not_at_all(store: TestStore) {
    let db = &store.db;
    let made = register(db, account(), login("Ada@x", "ada")).await.unwrap();
    assert_eq!((made.email.as_str(), made.username.as_str()), ("ada@x", "ada"));
    assert_eq!((made.token_epoch, made.password_hash.as_str()), (0, "a hash"));
    assert_eq!(find_login_by_email(db, &email("ADA@X")).await.unwrap(), Some(made.clone()));
    assert_eq!(find_login(db, made.account_id).await.unwrap(), Some(made.clone()));
    let wallet = find_account(db, made.account_id).await.unwrap().unwrap().row;
    assert_eq!(wallet.credits, NanoUsd(7));
    for (address, username) in [("ada@x", "other"), ("other@x", "ada")] {
        let taken = register(db, account(), login(address, username)).await;
        assert!(matches!(taken, Err(StorageError::Conflict { .. })), "{taken:?}");
    }
    assert_eq!(count_accounts(db).await.unwrap(), 1, "no account without its login");
    assert!(is_username_taken(db, &Username::parse("ada").unwrap()).await.unwrap());
    assert!(!is_username_taken(db, &Username::parse("other").unwrap()).await.unwrap());
    assert_eq!(find_login_by_email(db, &email("other@x")).await.unwrap(), None);
}

async fn a_new_password_is_another_epoch(store: TestStore) {
    let db = &store.db;
    let made = register(db, account(), login("ada@x", "ada")).await.unwrap();
    let set = set_password(db, made.account_id, "another".to_owned(), None).await.unwrap();
    assert_eq!((set.token_epoch, set.password_hash.as_str()), (1, "another"));
    // What is given for an account that has a login already changes only the password.
    let new = Some((email("eve@x"), Username::parse("eve").unwrap()));
    let set = set_password(db, made.account_id, "third".to_owned(), new.clone()).await.unwrap();
    assert_eq!((set.token_epoch, set.email.as_str()), (2, "ada@x"));
    let bare = some_account(db).await;
    let without = set_password(db, bare, "x".to_owned(), None).await;
    assert!(matches!(without, Err(StorageError::Missing { what: "login" })), "{without:?}");
    let given = set_password(db, bare, "x".to_owned(), new.clone()).await.unwrap();
    assert_eq!((given.account_id, given.token_epoch), (bare, 0));
    let other = some_account(db).await;
    let taken = set_password(db, other, "x".to_owned(), new.clone()).await;
    assert!(matches!(taken, Err(StorageError::Conflict { .. })), "{taken:?}");
    let nobody = set_password(db, AccountId::generate(), "x".to_owned(), new).await;
    assert!(matches!(nobody, Err(StorageError::Missing { what: "account" })), "{nobody:?}");
}

async fn a_password_is_replaced_by_whoever_saw_the_last_one(store: TestStore) {
    let db = &store.db;
    let id = register(db, account(), login("ada@x", "ada")).await.unwrap().account_id;
    let other = register(db, account(), login("bob@x", "bob")).await.unwrap();
    let replaced = replace_password(db, id, "second".to_owned(), 0).await.unwrap();
    assert_eq!((replaced.token_epoch, replaced.password_hash.as_str()), (1, "second"));
    assert_eq!(find_login(db, id).await.unwrap(), Some(replaced.clone()));
    set_password(db, id, "third".to_owned(), None).await.unwrap();
    for epoch in [0, 1, 3] {
        let late = replace_password(db, id, "late".to_owned(), epoch).await;
        assert!(matches!(late, Err(StorageError::Stale { .. })), "{late:?}");
    }
    let nobody = replace_password(db, AccountId::generate(), "x".to_owned(), 0).await;
    assert!(matches!(nobody, Err(StorageError::Stale { .. })), "{nobody:?}");
    assert_eq!(find_login(db, id).await.unwrap().unwrap().password_hash, "third");
    assert_eq!(find_login(db, other.account_id).await.unwrap(), Some(other));
}

async fn a_renewed_hash_takes_the_place_of_the_one_that_was_checked(store: TestStore) {
    let db = &store.db;
    let made = register(db, account(), login("ada@x", "ada")).await.unwrap();
    let renew = |old: &str, new: &str| renew_hash(db, made.account_id, old.into(), new.into());
    assert!(!renew("another hash", "newer").await.unwrap(), "a password was set in between");
    assert_eq!(find_login(db, made.account_id).await.unwrap(), Some(made.clone()));
    assert!(renew("a hash", "newer").await.unwrap());
    let renewed = find_login(db, made.account_id).await.unwrap().unwrap();
    assert_eq!((renewed.token_epoch, renewed.password_hash.as_str()), (0, "newer"));
}

async fn all_who_ask_for_a_secret_get_the_first_one(store: TestStore) {
    let db = &store.db;
    let asked = (0..8_u8).map(|byte| shared_secret(db, "tokens", [byte; 32]));
    let secrets = futures_util::future::try_join_all(asked).await.unwrap();
    assert!(secrets.iter().all(|secret| *secret == secrets[0]), "{secrets:?}");
    assert_eq!(secrets[0].len(), 32);
    let other = shared_secret(db, "another", [99; 32]).await.unwrap();
    assert_eq!(other, [99; 32]);
}

async fn preferences_change_one_by_one(store: TestStore) {
    let db = &store.db;
    let id = some_account(db).await;
    let none = Preferences { api_fallback: false, default_model: None };
    assert_eq!(read_preferences(db, id).await.unwrap(), Some(none.clone()));
    let change = |change: PreferenceChange| change_preferences(db, id, change);
    let model = Some("gpt-4o".to_owned());
    let only_model =
        PreferenceChange { default_model: Some(model.clone()), ..PreferenceChange::default() };
    let changed = change(only_model).await.unwrap().unwrap();
    assert_eq!(changed, Preferences { api_fallback: false, default_model: model.clone() });
    let only_flag = PreferenceChange { api_fallback: Some(true), ..PreferenceChange::default() };
    let both = Preferences { api_fallback: true, default_model: model };
    assert_eq!(change(only_flag).await.unwrap().unwrap(), both);
    assert_eq!(change(PreferenceChange::default()).await.unwrap(), Some(both.clone()));
    assert_eq!(read_preferences(db, id).await.unwrap(), Some(both));
    let clear = PreferenceChange { api_fallback: Some(false), default_model: Some(None) };
    assert_eq!(change(clear).await.unwrap(), Some(none));
    let nobody = AccountId::generate();
    assert_eq!(read_preferences(db, nobody).await.unwrap(), None);
    let nothing = change_preferences(db, nobody, PreferenceChange::default()).await.unwrap();
    assert_eq!(nothing, None);
}

on_both_databases! {
    an_account_and_its_login_are_made_together_or_not_at_all,
    a_new_password_is_another_epoch,
    a_renewed_hash_takes_the_place_of_the_one_that_was_checked,
    a_password_is_replaced_by_whoever_saw_the_last_one,
    all_who_ask_for_a_secret_get_the_first_one,
    preferences_change_one_by_one,
}
