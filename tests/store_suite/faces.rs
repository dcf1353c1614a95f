//! Faces and their primitives.

use ::faces::{
    domain::{AccountId, FaceId, FaceName},
    storage::{
        StorageError,
        faces::{
            FaceContent, FacePrimitives, FaceVersion, NewFace, PrimitiveRow, count_faces,
            delete_face, face_version, find_face, insert_face, list_faces, load_primitives,
            replace_primitives, update_face,
        },
    },
};
use entity::face_primitive;
use futures_util::future::join_all;
use sea_orm::{EntityTrait, PaginatorTrait};

use crate::{accounts::some_account, on_both_databases, store::TestStore};

fn username(text: &str) -> FaceName {
    FaceName::parse(text).unwrap()
}

fn content(name: &str) -> FaceContent {
    FaceContent {
        username: username(name),
        name: "Alice Liddell".to_owned(),
        facts: r#"{"age":"7","quote":"curiouser, \"and\" curiouser"}"#.to_owned(),
        default_model: Some("gpt-4o-mini".to_owned()),
        default_tools: vec!["search".to_owned()],
        formula: None,
        description: Some("A girl.".to_owned()),
        profile_addendum: None,
    }
}

fn face(account_id: AccountId, name: &str) -> NewFace {
    NewFace { id: FaceId::generate(), account_id, content: content(name) }
}

fn primitives(count: usize) -> FacePrimitives {
    let row = |number: usize| PrimitiveRow {
        component: if number.is_multiple_of(2) { "beta" } else { "delta" }.to_owned(),
        text: format!("she remembers {number} things · ü 猫"),
        weight: 0.1 * f64::from(u32::try_from(number).unwrap()),
    };
    FacePrimitives {
        rows: (0..count).map(row).collect(),
        component_counts: Some(format!(r#"{{"beta":{count}}}"#)),
    }
}

async fn a_face_is_read_as_it_was_written(store: TestStore) {
    let account_id = some_account(&store.db).await;
    let new = face(account_id, "alice");
    let kept = insert_face(&store.db, new.clone(), primitives(3)).await.unwrap();
    let found = find_face(&store.db, account_id, &username("alice")).await.unwrap().unwrap();
    assert_eq!(found, kept);
    assert_eq!((found.id, found.version), (new.id, 1));
    assert_eq!((found.facts, found.default_tools), (new.content.facts, new.content.default_tools));
    assert_eq!(found.component_counts.as_deref(), Some(r#"{"beta":3}"#));
    assert_eq!(load_primitives(&store.db, new.id).await.unwrap(), primitives(3).rows);
    assert_eq!(
        face_version(&store.db, account_id, &username("alice")).await.unwrap(),
        Some(FaceVersion { id: new.id, version: 1, account_model: None })
    );
    assert_eq!(find_face(&store.db, account_id, &username("bob")).await.unwrap(), None);
}

async fn a_username_is_unique_within_its_account_only(store: TestStore) {
    let (ada, bob) = (some_account(&store.db).await, some_account(&store.db).await);
    for account_id in [ada, bob] {
        insert_face(&store.db, face(account_id, "alice"), primitives(1)).await.unwrap();
    }
    let again = insert_face(&store.db, face(ada, "alice"), primitives(5)).await;
    assert!(matches!(again, Err(StorageError::Conflict { .. })), "{again:?}");
    assert_eq!(count_faces(&store.db, ada).await.unwrap(), 1);
    let rows = face_primitive::Entity::find().count(&store.raw().await).await.unwrap();
    assert_eq!(rows, 2, "a refused face leaves nothing behind");
    let nobodys = insert_face(&store.db, face(AccountId::generate(), "alice"), primitives(0)).await;
    assert!(matches!(nobodys, Err(StorageError::Missing { what: "account" })), "{nobodys:?}");
}

async fn a_foreign_face_can_be_neither_seen_nor_changed(store: TestStore) {
    let (ada, eve) = (some_account(&store.db).await, some_account(&store.db).await);
    let kept = insert_face(&store.db, face(ada, "alice"), primitives(2)).await.unwrap();
    let (db, alice) = (&store.db, username("alice"));
    assert_eq!(find_face(db, eve, &alice).await.unwrap(), None);
    assert_eq!(face_version(db, eve, &alice).await.unwrap(), None);
    assert!(list_faces(db, eve, None, 10).await.unwrap().is_empty());
    assert!(!delete_face(db, eve, &alice).await.unwrap());
    let update = update_face(db, eve, kept.id, 1, content("mine")).await;
    assert!(matches!(update, Err(StorageError::Missing { .. })), "{update:?}");
    let replace = replace_primitives(db, eve, kept.id, primitives(0)).await;
    assert!(matches!(replace, Err(StorageError::Missing { .. })), "{replace:?}");
    assert_eq!(find_face(db, ada, &alice).await.unwrap(), Some(kept.clone()));
    assert_eq!(load_primitives(db, kept.id).await.unwrap(), primitives(2).rows);
}

async fn only_one_of_several_changes_to_the_same_version_wins(store: TestStore) {
    let account_id = some_account(&store.db).await;
    let kept = insert_face(&store.db, face(account_id, "alice"), primitives(0)).await.unwrap();
    let names: Vec<_> = (0..8).map(|number| format!("alice-{number}")).collect();
    let changes = names
        .iter()
        .map(|name| update_face(&store.db, account_id, kept.id, kept.version, content(name)));
    let answers = join_all(changes).await;
    let won: Vec<_> = answers.iter().flatten().collect();
    assert_eq!(won.len(), 1);
    assert_eq!(won[0].version, 2);
    let lost = answers.iter().filter(|answer| matches!(answer, Err(StorageError::Stale { .. })));
    assert_eq!(lost.count(), 7);
    let listed = list_faces(&store.db, account_id, None, 10).await.unwrap();
    assert_eq!(listed.iter().collect::<Vec<_>>(), won);

    let next = update_face(&store.db, account_id, kept.id, 2, content("alice")).await.unwrap();
    assert_eq!((next.version, next.created_at), (3, kept.created_at));
    assert!(next.updated_at >= kept.updated_at);
}

async fn a_face_can_not_take_the_username_of_another(store: TestStore) {
    let account_id = some_account(&store.db).await;
    insert_face(&store.db, face(account_id, "alice"), primitives(0)).await.unwrap();
    let bob = insert_face(&store.db, face(account_id, "bob"), primitives(0)).await.unwrap();
    let taken = update_face(&store.db, account_id, bob.id, 1, content("alice")).await;
    assert!(matches!(taken, Err(StorageError::Conflict { .. })), "{taken:?}");
    let found = find_face(&store.db, account_id, &username("bob")).await.unwrap().unwrap();
    assert_eq!(found.version, 1);
}

async fn replaced_primitives_are_all_new_and_give_the_face_its_next_version(store: TestStore) {
    let account_id = some_account(&store.db).await;
    let kept = insert_face(&store.db, face(account_id, "alice"), primitives(5)).await.unwrap();
    // More than one INSERT's worth.
    let many = primitives(2_345);
    let changed = replace_primitives(&store.db, account_id, kept.id, many.clone()).await.unwrap();
    assert_eq!(changed.version, 2);
    assert_eq!(changed.component_counts, many.component_counts);
    assert_eq!(load_primitives(&store.db, kept.id).await.unwrap(), many.rows);

    let none = FacePrimitives::default();
    let emptied = replace_primitives(&store.db, account_id, kept.id, none).await.unwrap();
    assert_eq!((emptied.version, emptied.component_counts), (3, None));
    assert!(load_primitives(&store.db, kept.id).await.unwrap().is_empty());
}

async fn a_deleted_face_takes_its_primitives_and_its_version_with_it(store: TestStore) {
    let account_id = some_account(&store.db).await;
    let alice = username("alice");
    let kept = insert_face(&store.db, face(account_id, "alice"), primitives(9)).await.unwrap();
    assert!(delete_face(&store.db, account_id, &alice).await.unwrap());
    assert!(!delete_face(&store.db, account_id, &alice).await.unwrap());
    assert_eq!(face_version(&store.db, account_id, &alice).await.unwrap(), None);
    let rows = face_primitive::Entity::find().count(&store.raw().await).await.unwrap();
    assert_eq!(rows, 0);
    let gone = update_face(&store.db, account_id, kept.id, 1, content("alice")).await;
    assert!(matches!(gone, Err(StorageError::Missing { .. })), "{gone:?}");

    let again = insert_face(&store.db, face(account_id, "alice"), primitives(0)).await.unwrap();
    assert_ne!(again.id, kept.id, "a cache must see that it is another face");
}

async fn pages_of_faces_join_to_the_whole_list_in_order_of_making(store: TestStore) {
    let account_id = some_account(&store.db).await;
    let mut made = Vec::new();
    for name in ["zoe", "alice", "mallory", "bob", "carol"] {
        made.push(insert_face(&store.db, face(account_id, name), primitives(1)).await.unwrap());
    }
    let first = list_faces(&store.db, account_id, None, 2).await.unwrap();
    let second = list_faces(&store.db, account_id, Some(first[1].id), 2).await.unwrap();
    let third = list_faces(&store.db, account_id, Some(second[1].id), 2).await.unwrap();
    assert_eq!([first, second, third].concat(), made);
    assert_eq!(count_faces(&store.db, account_id).await.unwrap(), 5);
}

on_both_databases! {
    a_face_is_read_as_it_was_written,
    a_username_is_unique_within_its_account_only,
    a_foreign_face_can_be_neither_seen_nor_changed,
    only_one_of_several_changes_to_the_same_version_wins,
    a_face_can_not_take_the_username_of_another,
    replaced_primitives_are_all_new_and_give_the_face_its_next_version,
    a_deleted_face_takes_its_primitives_and_its_version_with_it,
    pages_of_faces_join_to_the_whole_list_in_order_of_making,
}
