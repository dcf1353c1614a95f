//! Centroids of faces.

use ::faces::{
    domain::{AccountId, FaceId, FaceName},
    storage::{
        StorageError,
        centroids::{
            CentroidRow, ComponentVector, FaceCentroids, confirm_centroids, list_centroids,
            store_centroids,
        },
        faces::{
            FaceContent, FacePrimitives, NewFace, delete_face, insert_face, replace_primitives,
        },
    },
};

use crate::{accounts::some_account, on_both_databases, store::TestStore};

const PARTS: [&str; 4] = ["face", "beta", "delta", "epsilon"];

async fn face(store: &TestStore, account_id: AccountId, name: &str, formula: bool) -> FaceId {
    let content = FaceContent {
        username: FaceName::parse(name).unwrap(),
        name: name.to_owned(),
        facts: "{}".to_owned(),
        default_model: None,
        default_tools: Vec::new(),
        description: None,
        profile_addendum: None,
        formula: formula.then(|| "a | b".to_owned()),
    };
    let new = NewFace { id: FaceId::generate(), account_id, content };
    insert_face(&store.db, new, FacePrimitives::default()).await.unwrap().id
}

fn centroids(face_id: FaceId, face_version: i64, embedder: &str, byte: u8) -> FaceCentroids {
    let vector = |component| {
        let bytes = (component != "delta").then(|| vec![byte; 8]);
        let dimensions = if bytes.is_some() { 2 } else { 0 };
        ComponentVector { component, dimensions, vector: bytes }
    };
    FaceCentroids {
        face_id,
        face_version,
        embedder: embedder.to_owned(),
        source: vec![byte; 32],
        vectors: PARTS.map(vector).into(),
    }
}

/// Username, component, version of the centroid, its first byte.
fn shown(rows: &[CentroidRow]) -> Vec<String> {
    rows.iter()
        .map(|row| match &row.stored {
            None => format!("{} v{} none", row.username, row.version),
            Some(it) => format!(
                "{} v{} {} {} v{} {:?}",
                row.username,
                row.version,
                it.component,
                it.embedder,
                it.face_version,
                it.vector.as_ref().map(|vector| vector[0])
            ),
        })
        .collect()
}

async fn centroids_are_read_as_they_were_written_and_replaced_together(store: TestStore) {
    let account_id = some_account(&store.db).await;
    let ann = face(&store, account_id, "ann", false).await;
    face(&store, account_id, "bo", false).await;
    let list = |parts| list_centroids(&store.db, account_id, parts, None);
    assert_eq!(shown(&list(&PARTS).await.unwrap()), ["ann v1 none", "bo v1 none"]);
    store_centroids(&store.db, vec![centroids(ann, 1, "lexical", 7)]).await.unwrap();
    let rows = list(&["face"]).await.unwrap();
    assert_eq!(shown(&rows), ["ann v1 face lexical v1 Some(7)", "bo v1 none"]);
    let stored = rows[0].stored.clone().unwrap();
    assert_eq!((stored.source, stored.vector), (vec![7; 32], Some(vec![7; 8])));
    store_centroids(&store.db, vec![centroids(ann, 1, "other", 9)]).await.unwrap();
    assert_eq!(
        shown(&list(&PARTS).await.unwrap()),
        [
            "ann v1 beta other v1 Some(9)",
            "ann v1 delta other v1 None",
            "ann v1 epsilon other v1 Some(9)",
            "ann v1 face other v1 Some(9)",
            "bo v1 none",
        ]
    );
}

async fn faces_of_others_of_formulas_and_of_other_names_are_not_listed(store: TestStore) {
    let (ada, eve) = (some_account(&store.db).await, some_account(&store.db).await);
    for name in ["ann", "bo", "cy"] {
        face(&store, ada, name, false).await;
    }
    face(&store, ada, "mix", true).await;
    face(&store, eve, "bo", false).await;
    let names = |account_id, names: Option<&[&str]>| {
        let names = names.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
        list_centroids(&store.db, account_id, &["face"], names)
    };
    let all = names(ada, None).await.unwrap();
    assert_eq!(shown(&all), ["ann v1 none", "bo v1 none", "cy v1 none"]);
    let some = names(ada, Some(&["cy", "ann", "mix", "nobody"])).await.unwrap();
    assert_eq!(shown(&some), ["ann v1 none", "cy v1 none"]);
    assert!(names(ada, Some(&[])).await.unwrap().is_empty());
    let foreign = names(eve, None).await.unwrap();
    assert!(foreign.iter().all(|row| all.iter().all(|own| own.face_id != row.face_id)));
}

async fn a_changed_face_shows_that_its_centroid_is_old_until_it_is_confirmed(store: TestStore) {
    let account_id = some_account(&store.db).await;
    let ann = face(&store, account_id, "ann", false).await;
    let bo = face(&store, account_id, "bo", false).await;
    let both = vec![centroids(ann, 1, "lexical", 1), centroids(bo, 1, "lexical", 2)];
    store_centroids(&store.db, both).await.unwrap();
    replace_primitives(&store.db, account_id, ann, FacePrimitives::default()).await.unwrap();
    let list = || list_centroids(&store.db, account_id, &["face"], None);
    let old = ["ann v2 face lexical v1 Some(1)", "bo v1 face lexical v1 Some(2)"];
    assert_eq!(shown(&list().await.unwrap()), old);
    confirm_centroids(&store.db, vec![(ann, 2)]).await.unwrap();
    let confirmed = ["ann v2 face lexical v2 Some(1)", "bo v1 face lexical v1 Some(2)"];
    assert_eq!(shown(&list().await.unwrap()), confirmed);
    confirm_centroids(&store.db, vec![(ann, 1)]).await.unwrap();
    assert_eq!(shown(&list().await.unwrap()), confirmed, "an older version says nothing");
}

async fn a_deleted_face_takes_its_centroids_and_gets_none_any_more(store: TestStore) {
    let account_id = some_account(&store.db).await;
    let ann = face(&store, account_id, "ann", false).await;
    let bo = face(&store, account_id, "bo", false).await;
    store_centroids(&store.db, vec![centroids(ann, 1, "lexical", 1)]).await.unwrap();
    assert!(delete_face(&store.db, account_id, &FaceName::parse("ann").unwrap()).await.unwrap());
    let late = vec![centroids(ann, 1, "lexical", 1), centroids(bo, 1, "lexical", 2)];
    store_centroids(&store.db, late).await.unwrap();
    let rows = list_centroids(&store.db, account_id, &["face"], None).await.unwrap();
    assert_eq!(shown(&rows), ["bo v1 face lexical v1 Some(2)"]);
}

async fn more_faces_than_a_transaction_takes_are_stored(store: TestStore) {
    let account_id = some_account(&store.db).await;
    let mut all = Vec::new();
    for number in 0..205 {
        let id = face(&store, account_id, &format!("f{number}"), false).await;
        all.push(centroids(id, 1, "lexical", 3));
    }
    store_centroids(&store.db, all).await.unwrap();
    let rows = list_centroids(&store.db, account_id, &["beta"], None).await.unwrap();
    assert_eq!(rows.len(), 205);
    assert!(rows.iter().all(|row| row.stored.is_some()));
}

async fn a_vector_of_no_values_is_refused(store: TestStore) {
    let account_id = some_account(&store.db).await;
    let ann = face(&store, account_id, "ann", false).await;
    let mut wrong = centroids(ann, 1, "lexical", 1);
    wrong.vectors[0].dimensions = 0;
    let refused = store_centroids(&store.db, vec![wrong]).await;
    assert!(matches!(refused, Err(StorageError::Bug { .. })), "{refused:?}");
}

on_both_databases! {
    centroids_are_read_as_they_were_written_and_replaced_together,
    faces_of_others_of_formulas_and_of_other_names_are_not_listed,
    a_changed_face_shows_that_its_centroid_is_old_until_it_is_confirmed,
    a_deleted_face_takes_its_centroids_and_gets_none_any_more,
    more_faces_than_a_transaction_takes_are_stored,
    a_vector_of_no_values_is_refused,
}
