//! Rates of keys and accounts.

use faces::storage::rates::{Rates, changed_rates, find_rates, set_rates};
use uuid::Uuid;

use crate::{on_both_databases, store::TestStore};

async fn a_rate_is_set_found_changed_and_seen_as_a_change(store: TestStore) {
    let db = &store.db;
    let (one, other) = (Uuid::now_v7(), Uuid::now_v7());
    assert_eq!(find_rates(db, one).await.unwrap(), Rates::default());
    let strict = Rates { requests: Some(5), tokens: Some(0) };
    set_rates(db, one, strict).await.unwrap();
    set_rates(db, other, Rates { requests: None, tokens: Some(u64::MAX) }).await.unwrap();
    assert_eq!(find_rates(db, one).await.unwrap(), strict);
    let large = find_rates(db, other).await.unwrap();
    assert_eq!((large.requests, large.tokens), (None, Some(i64::MAX.unsigned_abs())));

    let seen = changed_rates(db, 0).await.unwrap();
    let subjects: Vec<_> = seen.iter().map(|change| change.subject).collect();
    assert_eq!(subjects, [one, other], "oldest first");
    set_rates(db, one, Rates::default()).await.unwrap();
    let newest = seen[1].changed_at;
    let changes = changed_rates(db, newest + 1).await.unwrap();
    assert_eq!(changes.len(), 1);
    assert_eq!((changes[0].subject, changes[0].rates), (one, Rates::default()));
    assert_eq!(changed_rates(db, changes[0].changed_at + 1).await.unwrap(), []);
}

on_both_databases! {
    a_rate_is_set_found_changed_and_seen_as_a_change,
}
