//! Comparing faces and finding their neighbours.

use serde_json::{Value, json};

use crate::{
    kit::{Dialect, Stage, error_of},
    support::{http::Request, server::TestServer},
};

/// Statements about tea and about boats: each face stands where its words are.
const TEA: &str = "Drinks green tea every morning";
const BOATS: &str = "Repairs old wooden boats in winter";

/// Makes a face with statements, through the API.
#[track_caller]
fn face(stage: &Stage, username: &str, statements: &[(&str, &str)]) {
    let made = stage.post("/v1/faces", &json!({"username": username, "name": username}));
    assert_eq!(made.status, 201, "{}", made.text());
    primitives(stage, username, statements);
}

#[track_caller]
fn primitives(stage: &Stage, username: &str, statements: &[(&str, &str)]) {
    let all: Vec<Value> = statements
        .iter()
        .map(|(component, text)| json!({"component": component, "text": text}))
        .collect();
    let path = format!("/v1/faces/{username}/primitives");
    let put = stage.send("PUT", &path, &json!({"primitives": all}));
    assert_eq!(put.status, 200, "{}", put.text());
}

/// A stage whose faces beside `alice` go from tea to boats.
fn tea_and_boats(stage: &Stage) {
    face(stage, "tea", &[("beta", TEA), ("delta", "Weighs facts slowly")]);
    face(stage, "boats", &[("beta", BOATS), ("delta", "Decides in a moment")]);
    face(stage, "both", &[("beta", TEA), ("beta", BOATS)]);
    face(stage, "mostly-tea", &[("beta", TEA), ("beta", TEA), ("beta", BOATS)]);
    face(stage, "blank", &[]);
    face(stage, "only-alpha", &[("alpha", TEA)]);
}

#[track_caller]
fn neighbours(stage: &Stage, path: &str) -> Vec<(String, f64)> {
    let answer = stage.get(path);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let body = answer.json();
    let found = body["data"]["neighbors"].as_array().unwrap_or_else(|| panic!("{body}"));
    found
        .iter()
        .map(|one| {
            let name = one["username"].as_str().unwrap();
            assert_eq!((&one["id"], &one["alias"]), (&json!(name), &json!(name)), "{one}");
            assert_eq!(one.as_object().unwrap().len(), 5, "never a vector: {one}");
            (name.to_owned(), one["similarity"].as_f64().unwrap())
        })
        .collect()
}

fn names(found: &[(String, f64)]) -> Vec<&str> {
    found.iter().map(|(name, _)| name.as_str()).collect()
}

#[track_caller]
fn similarity(stage: &Stage, left: &str, right: &str) -> Value {
    let answer = stage.get(&format!("/v1/faces/diff?faces={left},{right}"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let pair = answer.json()["data"]["pairs"][0].clone();
    assert_eq!((&pair["a"], &pair["b"]), (&json!(left), &json!(right)));
    pair["similarity"].clone()
}

#[test]
fn neighbours_stand_in_the_order_of_their_similarity() {
    let stage = Stage::new([]);
    tea_and_boats(&stage);
    let beta = neighbours(&stage, "/v1/faces/tea/neighbors?component=beta&k=3");
    assert_eq!(names(&beta), ["mostly-tea", "both", "alice"], "{beta:?}");
    assert!(beta[0].1 > beta[1].1 && beta[1].1 > 0.5 && beta[2].1 < 0.4, "{beta:?}");
    let furthest = neighbours(&stage, "/v1/faces/tea/neighbors?component=beta&direction=furthest");
    let mut turned = neighbours(&stage, "/v1/faces/tea/neighbors?component=beta&k=20");
    assert_eq!(turned.len(), 4, "neither itself nor those without a beta: {turned:?}");
    turned.reverse();
    assert_eq!(furthest, turned);
    let delta = neighbours(&stage, "/v1/faces/tea/neighbors?component=delta");
    assert_eq!(names(&delta), ["boats"], "nobody else has a delta");
    let whole = neighbours(&stage, "/v1/faces/boats/neighbors");
    assert_eq!(whole.len(), 4);
    assert_eq!(names(&whole)[..2], ["both", "mostly-tea"]);
    let id = stage.get("/v1/faces/both").json()["uid"].clone();
    let first = stage.get("/v1/faces/boats/neighbors?k=1").json()["data"]["neighbors"][0].clone();
    assert_eq!(first["face_id"], id);
    for alone in ["blank", "only-alpha"] {
        assert!(neighbours(&stage, &format!("/v1/faces/{alone}/neighbors")).is_empty());
    }
}

#[test]
fn equally_similar_faces_stand_by_name_whatever_the_order_of_their_making() {
    let stage = Stage::new([]);
    for name in ["zoe", "mid", "ann", "here"] {
        face(&stage, name, &[("epsilon", TEA)]);
    }
    for direction in ["nearest", "furthest"] {
        let path = format!("/v1/faces/here/neighbors?component=epsilon&direction={direction}");
        let mut found = neighbours(&stage, &path);
        found.retain(|(name, _)| name != "alice");
        assert_eq!(names(&found), ["ann", "mid", "zoe"]);
        assert!(found.iter().all(|(_, similarity)| *similarity == 1.0), "{found:?}");
    }
}

#[test]
fn a_comparison_has_each_pair_once_and_is_the_same_either_way_round() {
    let stage = Stage::new([]);
    tea_and_boats(&stage);
    let answer = stage.get("/v1/faces/diff?faces=tea,%20boats,blank").json();
    let pairs: Vec<String> = answer["data"]["pairs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pair| format!("{} {}", pair["a"].as_str().unwrap(), pair["b"].as_str().unwrap()))
        .collect();
    assert_eq!(pairs, ["tea boats", "tea blank", "boats blank"]);
    let there = similarity(&stage, "tea", "both");
    assert_eq!(there, similarity(&stage, "both", "tea"));
    assert!(there["beta"].as_f64().unwrap() > 0.5);
    assert_eq!(there["delta"], Value::Null, "only one of them has it");
    let alpha = similarity(&stage, "tea", "only-alpha");
    let keys: Vec<&String> = alpha.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["face", "beta", "delta", "epsilon"]);
    assert!(alpha.as_object().unwrap().values().all(Value::is_null), "alpha has none: {alpha}");
}

#[test]
fn changes_and_deletions_are_seen_at_once() {
    let stage = Stage::new([]);
    tea_and_boats(&stage);
    let beta = |left: &str, right: &str| similarity(&stage, left, right)["beta"].clone();
    assert!(beta("tea", "boats").as_f64().unwrap() < 0.4);
    primitives(&stage, "boats", &[("beta", TEA)]);
    assert_eq!(beta("tea", "boats"), json!(1.0));
    let first = neighbours(&stage, "/v1/faces/tea/neighbors?component=beta&k=1");
    assert_eq!(names(&first), ["boats"]);
    let patched = stage.send("PATCH", "/v1/faces/boats", &json!({"basic_facts": {"age": 40}}));
    assert_eq!(patched.status, 200);
    assert_eq!(beta("tea", "boats"), json!(1.0), "facts are no statements");
    primitives(&stage, "boats", &[]);
    assert_eq!(beta("tea", "boats"), Value::Null);
    primitives(&stage, "boats", &[("beta", BOATS)]);
    assert!(beta("both", "boats").as_f64().unwrap() > 0.5);
    let import = json!({"username": "boats", "name": "Bo",
        "primitives": [{"component": "beta", "text": TEA}]});
    stage.server.face(&stage.account, &import);
    assert_eq!(beta("tea", "boats"), json!(1.0), "an import counts too");
    assert_eq!(stage.fetch(&Request::new("DELETE", "/v1/faces/boats")).status, 200);
    let left = neighbours(&stage, "/v1/faces/tea/neighbors?component=beta&k=20");
    assert!(!names(&left).contains(&"boats"), "{left:?}");
    assert_eq!(stage.get("/v1/faces/diff?faces=tea,boats").status, 404);
    face(&stage, "boats", &[]);
    assert_eq!(beta("tea", "boats"), Value::Null, "the new one has nothing of the old one");
}

#[test]
fn a_face_made_by_a_formula_has_no_centroid() {
    let stage = Stage::new([]);
    tea_and_boats(&stage);
    assert!(similarity(&stage, "tea", "both")["beta"].is_f64());
    let sql = "UPDATE face SET formula = 'tea | boats' WHERE username = 'both' RETURNING version";
    assert_eq!(stage.server.writable_ledger().rows(sql).len(), 1);
    let all = neighbours(&stage, "/v1/faces/tea/neighbors?k=20");
    assert!(!names(&all).contains(&"both"), "{all:?}");
    assert!(neighbours(&stage, "/v1/faces/both/neighbors").is_empty());
    let compared = similarity(&stage, "tea", "both");
    assert!(compared.as_object().unwrap().values().all(Value::is_null), "{compared}");
}

#[test]
fn wrong_queries_name_their_parameter() {
    let stage = Stage::with([], TestServer::builder().env("FACES_DIFF_FACES_MAX", "3"), "10");
    tea_and_boats(&stage);
    for (path, parameter) in [
        ("/v1/faces/diff", "faces"),
        ("/v1/faces/diff?faces=", "faces"),
        ("/v1/faces/diff?faces=tea", "faces"),
        ("/v1/faces/diff?faces=tea,,", "faces"),
        ("/v1/faces/diff?faces=tea,boats,tea", "faces"),
        ("/v1/faces/diff?faces=tea,boats,both,alice", "faces"),
        ("/v1/faces/tea/neighbors?k=0", "k"),
        ("/v1/faces/tea/neighbors?k=21", "k"),
        ("/v1/faces/tea/neighbors?k=-1", "k"),
        ("/v1/faces/tea/neighbors?k=two", "k"),
        ("/v1/faces/tea/neighbors?k=", "k"),
        ("/v1/faces/tea/neighbors?component=alpha", "component"),
        ("/v1/faces/tea/neighbors?component=Face", "component"),
        ("/v1/faces/tea/neighbors?direction=up", "direction"),
    ] {
        let answer = stage.get(path);
        assert_eq!(answer.status, 422, "{path}: {}", answer.text());
        let error = error_of(&answer, Dialect::Faces);
        assert_eq!(error.details["loc"], json!(["query", parameter]), "{path}");
    }
}

#[test]
fn foreign_and_forbidden_faces_are_not_told() {
    let stage = Stage::new([]);
    tea_and_boats(&stage);
    let other = stage.server.account();
    stage.server.alice(&other);
    let fetch =
        |key: &str, path: &str| Request::get(path).bearer(key).fetch(stage.server.address());
    for path in [
        "/v1/faces/diff?faces=alice,tea",
        "/v1/faces/diff?faces=tea,alice",
        "/v1/faces/diff?faces=alice,nobody",
        "/v1/faces/diff?faces=alice,No%20Name",
        "/v1/faces/tea/neighbors",
        "/v1/faces/nobody/neighbors",
    ] {
        let answer = fetch(&other.key, path);
        assert_eq!(answer.status, 404, "{path}: {}", answer.text());
        assert_eq!(error_of(&answer, Dialect::Faces).code, "face_not_found");
    }
    let alone = fetch(&other.key, "/v1/faces/alice/neighbors").json();
    assert_eq!(alone, json!({"data": {"neighbors": []}}));
    let flags = ["--allow-face", "tea", "--allow-face", "both"];
    let narrow = stage.server.key(&stage.account.id, &flags);
    let found = fetch(&narrow, "/v1/faces/tea/neighbors?k=20").json();
    let found = found["data"]["neighbors"].as_array().unwrap().clone();
    assert_eq!((found.len(), &found[0]["username"]), (1, &json!("both")), "{found:?}");
    for path in ["/v1/faces/diff?faces=tea,boats", "/v1/faces/boats/neighbors"] {
        let answer = fetch(&narrow, path);
        assert_eq!(answer.status, 403, "{}", answer.text());
        assert!(error_of(&answer, Dialect::Faces).message.contains("face"));
    }
    assert_eq!(fetch(&narrow, "/v1/faces/diff?faces=tea,both").status, 200);
    for path in ["/v1/faces/diff?faces=tea,both", "/v1/faces/tea/neighbors"] {
        assert_eq!(Request::get(path).fetch(stage.server.address()).status, 401);
    }
}

#[test]
fn a_request_makes_no_more_centroids_than_it_may_and_the_next_one_goes_on() {
    let builder = TestServer::builder().env("FACES_CENTROID_STATEMENTS_MAX", "1");
    let stage = Stage::with([], builder, "10");
    for name in ["ann", "bo", "cy"] {
        face(&stage, name, &[("beta", TEA)]);
    }
    // `alice` and the first two take a request each; the third finds nothing left behind it.
    for left in [3, 2, 1] {
        let early = stage.get("/v1/faces/ann/neighbors");
        assert_eq!((early.status, early.header("retry-after")), (503, Some("1")), "{left}");
        let error = error_of(&early, Dialect::Faces);
        assert_eq!(error.code, "overloaded");
        assert!(error.message.contains(&format!("{left} faces")), "{}", error.message);
    }
    let found = neighbours(&stage, "/v1/faces/ann/neighbors");
    assert_eq!(names(&found)[..2], ["bo", "cy"], "{found:?}");
}
