use std::{
    net::Ipv4Addr,
    sync::{Arc, atomic::Ordering},
};

use super::*;
use crate::{
    config::Plans,
    providers::{Catalog, CatalogOptions},
    storage::{DatabaseUrl, Db, DbOptions, DbRole},
};

const HOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

async fn platform(path: std::path::PathBuf, limits: Limits) -> Platform {
    let db = Db::open(DbOptions {
        url: DatabaseUrl::Sqlite(path),
        connections_max: 2,
        acquire_timeout_ms: 5_000,
        read_timeout_ms: 5_000,
        migrate: true,
        role: DbRole::Server,
    });
    let limits = Limits { password_memory_kib: 64, password_passes: 1, ..limits };
    let options = IdentityOptions { takes_registrations: true, ..IdentityOptions::default() };
    let catalog = Arc::new(Catalog::load(CatalogOptions::default()).unwrap());
    let plans = Plans::default();
    Platform::new(db.await.unwrap(), catalog, limits, plans, options)
}

fn body(email: &str, password: &str) -> Vec<u8> {
    json!({"email": email, "password": password}).to_string().into_bytes()
}

#[tokio::test]
async fn an_unknown_address_costs_the_same_work_as_a_wrong_password() {
    let place = tempfile::tempdir().unwrap();
    let platform = platform(place.path().join("faces.db"), Limits::default()).await;
    platform.register(HOST, &body("ada@x", "Right-one-1")).await.unwrap();
    let verified = || platform.inner.identity.passwords.verified.load(Ordering::Relaxed);
    assert_eq!(verified(), 0);
    let long = "x".repeat(257);
    let attempts =
        [("ada@x", "Wrong-one-1"), ("bob@x", "Right-one-1"), ("ada@x", &long), ("bob@x", &long)];
    for (number, (email, password)) in (1..).zip(attempts) {
        let refused = platform.login(HOST, &body(email, password)).await.unwrap_err();
        let told = (refused.code, refused.message.as_str());
        assert_eq!(told, (ErrorCode::InvalidLogin, "Invalid email or password"), "{email}");
        assert_eq!(verified(), number, "{email} {password}");
    }
    platform.login(HOST, &body("ADA@X", "Right-one-1")).await.unwrap();
}
#[tokio::test]
async fn a_token_that_a_new_password_has_ended_is_not_refreshed_into_a_valid_one() {
    let place = tempfile::tempdir().unwrap();
    let limits = Limits { cache_ttl_ms: 60_000, ..Limits::default() };
    let platform = platform(place.path().join("faces.db"), limits).await;
    let session = platform.register(HOST, &body("ada@x", "Right-one-1")).await.unwrap();
    let token = session["token"].as_str().unwrap();
    let caller = platform.authenticate(None, Some(token)).await.unwrap();
    platform.refresh(&caller).await.unwrap();
    // Another server sets the password: this one still believes the epoch that it has read.
    let hash = "another".to_owned();
    logins::set_password(&platform.inner.db, caller.account_id, hash, None).await.unwrap();
    let caller = platform.authenticate(None, Some(token)).await.unwrap();
    let refused = platform.refresh(&caller).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Unauthenticated);
}

#[tokio::test]
async fn a_login_with_a_new_password_is_believed_at_once() {
    let place = tempfile::tempdir().unwrap();
    let limits = Limits { cache_ttl_ms: 60_000, ..Limits::default() };
    let platform = platform(place.path().join("faces.db"), limits).await;
    let session = platform.register(HOST, &body("ada@x", "Right-one-1")).await.unwrap();
    let old = session["token"].as_str().unwrap();
    let id = platform.authenticate(None, Some(old)).await.unwrap().account_id;
    // Another server sets the password; this one has the old epoch in memory.
    let hash = platform.inner.identity.passwords.hash("Other-one-1".into()).await.unwrap();
    logins::set_password(&platform.inner.db, id, hash, None).await.unwrap();
    let session = platform.login(HOST, &body("ada@x", "Other-one-1")).await.unwrap();
    let new = session["token"].as_str().unwrap();
    assert_eq!(platform.authenticate(None, Some(new)).await.unwrap().account_id, id);
    let refused = platform.authenticate(None, Some(old)).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Unauthenticated, "and the old token is over");
}

#[tokio::test]
async fn a_login_renews_a_hash_of_another_cost_and_ends_no_token() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("faces.db");
    let platform = platform(path, Limits::default()).await;
    let session = platform.register(HOST, &body("ada@x", "Right-one-1")).await.unwrap();
    let token = session["token"].as_str().unwrap();
    let id = platform.authenticate(None, Some(token)).await.unwrap().account_id;
    let kept = || async {
        logins::find_login(&platform.inner.db, id).await.unwrap().unwrap().password_hash
    };
    let current = kept().await;
    platform.login(HOST, &body("ada@x", "Right-one-1")).await.unwrap();
    assert_eq!(kept().await, current, "nothing to renew");
    // As a server with another limit has hashed it.
    let other = Limits { password_memory_kib: 128, password_passes: 1, ..Limits::default() };
    let other = Passwords::new(&other).hash("Right-one-1".into()).await.unwrap();
    assert!(logins::renew_hash(&platform.inner.db, id, current, other.clone()).await.unwrap());
    platform.login(HOST, &body("ada@x", "Wrong-one-1")).await.unwrap_err();
    assert_eq!(kept().await, other, "only the right password can be hashed anew");
    platform.login(HOST, &body("ada@x", "Right-one-1")).await.unwrap();
    assert!(kept().await.contains("m=64,"), "{}", kept().await);
    platform.login(HOST, &body("ada@x", "Right-one-1")).await.unwrap();
    platform.authenticate(None, Some(token)).await.unwrap();
    // A password that was set in the meantime is not overwritten.
    assert!(!logins::renew_hash(&platform.inner.db, id, other, "x".to_owned()).await.unwrap());
}

#[tokio::test]
async fn a_login_that_the_server_could_not_check_is_no_failure() {
    let place = tempfile::tempdir().unwrap();
    let limits = Limits {
        password_hashes_max: 1,
        password_queue_max: 0,
        login_failures_per_account_max: 2,
        ..Limits::default()
    };
    let platform = platform(place.path().join("faces.db"), limits).await;
    platform.register(HOST, &body("ada@x", "Right-one-1")).await.unwrap();
    let login = |password| {
        let (platform, body) = (&platform, body("ada@x", password));
        async move { platform.login(HOST, &body).await.map_err(|failure| failure.code) }
    };
    let busy = platform.inner.identity.passwords.place().await.unwrap();
    for _ in 0..3 {
        assert_eq!(login("Right-one-1").await.unwrap_err(), ErrorCode::Overloaded);
    }
    drop(busy);
    for _ in 0..2 {
        assert_eq!(login("Wrong-one-1").await.unwrap_err(), ErrorCode::InvalidLogin);
    }
    assert_eq!(login("Right-one-1").await.unwrap_err(), ErrorCode::TooManyAttempts);
}
