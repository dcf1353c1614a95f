//! Faces compared by the embeddings of a provider: the similarities are those of its vectors, each
//! call is billed to the nano-USD, and what was paid for is not paid for again.

mod once;
mod refused;

use serde_json::{Value, json};

use crate::{
    kit::{Dialect, Stage, error_of, json_request},
    support::{
        http::Request,
        ledger::{BASIS_PROVIDER, SETTLED},
        models::{OPENAI_MODEL, usd},
        server::{Builder, TestServer},
        upstream::{Exchange, Recorded, Upstream},
    },
};

const MODEL: &str = "scripted-embedder";
const UPSTREAM_ID: &str = "scripted-embedder-upstream";
const PATH: &str = "/v1/embeddings";
/// Pico-USD per token (0.130007 USD per million), so that no bill is round.
const PICO: i128 = 130_007;
const MARKUP_BPS: i128 = 500;
const CREDIT: i64 = 10_000_000_000;

const TEA: &str = "Drinks green tea every morning";
const BOATS: &str = "Repairs old wooden boats in winter";
const FACTS: &str = "Weighs facts slowly";

/// The bill of one call, nano-USD, in one fraction, rounded up.
fn bill(tokens: u64) -> i64 {
    let numerator = i128::from(tokens) * PICO * (10_000 + MARKUP_BPS);
    i64::try_from((numerator + 9_999_999) / 10_000_000).unwrap()
}

fn model(id: &str, dimensions: u32) -> String {
    format!(
        "[model.\"{id}\"]\nkind = \"embeddings\"\nprovider = \"scripted-openai\"\n\
         upstream_id = \"{id}-upstream\"\naliases = [\"{id}-alias\"]\n\
         context_tokens_max = 1_000\ndimensions = {dimensions}\n\
         input_usd_per_mtok = \"0.130007\"\n\n"
    )
}

fn builder() -> Builder {
    TestServer::builder().env("FACES_EMBEDDING_MODEL", MODEL)
}

/// Tokens that the scripted provider counts of some texts.
fn tokens(texts: &[&str]) -> u64 {
    texts.iter().map(|text| 1 + text.len() as u64 / 3).sum()
}

/// Where a text stands in the scripted provider's space. Lengths differ: only directions count.
fn vector(text: &str) -> Value {
    match text {
        TEA => json!([2.0, 0, 0]),
        BOATS => json!([0, 0.5, 0]),
        FACTS => json!([0, 0, 1e-3]),
        _ => json!([1, 1, 1]),
    }
}

fn texts_of(request: &Recorded) -> Vec<String> {
    request.json()["input"]
        .as_array()
        .unwrap()
        .iter()
        .map(|text| text.as_str().unwrap().to_owned())
        .collect()
}

/// What the scripted provider answers to these texts, the last one first: `index` tells the order.
fn answer(texts: &[&str]) -> Value {
    let data: Vec<Value> = texts
        .iter()
        .enumerate()
        .rev()
        .map(|(at, text)| json!({"object": "embedding", "index": at, "embedding": vector(text)}))
        .collect();
    let used = tokens(texts);
    json!({"object": "list", "data": data, "model": UPSTREAM_ID,
        "usage": {"prompt_tokens": used, "total_tokens": used}})
}

fn answering(request: &Recorded) -> Exchange {
    let texts = texts_of(request);
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    Exchange::json(200, &answer(&texts))
}

/// A server that compares by [`MODEL`], with an account that has no face yet.
#[track_caller]
fn stage(upstream: Upstream, builder: Builder) -> Stage {
    let builder = builder.with_upstream(&upstream).models(&model(MODEL, 3));
    let server = builder.models(&model("short-embedder", 2)).start();
    let account = server.account_with_usd(&usd(CREDIT));
    Stage { server, account, upstream }
}

#[track_caller]
fn face(stage: &Stage, username: &str, statements: &[(&str, &str)]) {
    face_of(stage, &stage.account.key, username, statements);
}

#[track_caller]
fn face_of(stage: &Stage, key: &str, username: &str, statements: &[(&str, &str)]) {
    let all: Vec<Value> = statements
        .iter()
        .map(|(component, text)| json!({"component": component, "text": text}))
        .collect();
    let face = json!({"username": username, "name": username, "default_model": OPENAI_MODEL});
    let made = Request::post("/v1/faces", &face).bearer(key).fetch(stage.server.address());
    assert_eq!(made.status, 201, "{}", made.text());
    let path = format!("/v1/faces/{username}/primitives");
    let put = json_request("PUT", &path, &json!({"primitives": all}));
    let put = put.bearer(key).fetch(stage.server.address());
    assert_eq!(put.status, 200, "{}", put.text());
}

fn tea_and_boats(stage: &Stage) {
    face(stage, "tea", &[("beta", TEA), ("delta", FACTS)]);
    face(stage, "boats", &[("alpha", "Anna"), ("beta", BOATS)]);
}

#[track_caller]
fn similarity(stage: &Stage, left: &str, right: &str) -> Value {
    let answer = stage.get(&format!("/v1/faces/diff?faces={left},{right}"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["data"]["pairs"][0]["similarity"].clone()
}

const TEA_BOATS: &str = "/v1/faces/diff?faces=tea,boats";

/// What is gone of the account's credit, nano-USD.
#[track_caller]
fn spent(stage: &Stage) -> i64 {
    CREDIT - stage.balance()
}

fn stored(stage: &Stage) -> usize {
    stage.server.ledger().rows("SELECT component FROM face_centroid").len()
}

#[test]
fn similarities_are_those_of_the_providers_vectors_and_each_call_is_billed_once() {
    let stage = stage(Upstream::answering(answering), builder());
    tea_and_boats(&stage);
    face(&stage, "both", &[("beta", TEA), ("beta", BOATS)]);
    let halves = |whole: f64| (whole * 1e6).round() / 1e6;
    let tea_both = similarity(&stage, "tea", "both");
    // Tea is (1,0,0) and (0,0,1), both is (1,1,0) brought to length 1.
    let expected = json!({"face": 0.5, "beta": halves(0.5_f64.sqrt()), "delta": null,
        "epsilon": null});
    assert_eq!(tea_both, expected);
    let boats = similarity(&stage, "tea", "boats");
    assert_eq!(boats, json!({"face": 0.0, "beta": 0.0, "delta": null, "epsilon": null}));
    let requests = stage.upstream.requests();
    let asked: Vec<Vec<String>> = requests.iter().map(texts_of).collect();
    assert_eq!(asked, [vec![TEA, FACTS], vec![TEA, BOATS], vec![BOATS]], "alpha is not asked for");
    for request in &requests {
        let body = request.json();
        assert_eq!((request.path.as_str(), &body["model"]), (PATH, &json!(UPSTREAM_ID)));
        assert_eq!(body["encoding_format"], "float");
        assert!(request.header("authorization").is_some_and(|key| key.starts_with("Bearer ")));
    }
    let used = [&[TEA, FACTS][..], &[TEA, BOATS], &[BOATS]].map(tokens);
    let bills: Vec<i64> = used.iter().map(|tokens| bill(*tokens)).collect();
    let rows = stage.server.ledger().wait_resolved(&stage.account, 3);
    for ((row, bill), used) in rows.iter().zip(&bills).zip(used) {
        assert_eq!((row.state, row.cost, row.basis), (SETTLED, Some(*bill), Some(BASIS_PROVIDER)));
        assert_eq!((row.model.as_str(), row.output), (MODEL, 0));
        assert_eq!(row.input.cast_unsigned(), used);
    }
    assert_eq!(spent(&stage), bills.iter().sum::<i64>());
    // All of it is kept, whoever asks and how.
    assert_eq!(similarity(&stage, "both", "tea"), expected);
    let near = stage.get("/v1/faces/tea/neighbors").json()["data"]["neighbors"].clone();
    assert_eq!((&near[0]["username"], &near[0]["similarity"]), (&json!("both"), &json!(0.5)));
    assert_eq!((stage.upstream.requests().len(), spent(&stage)), (3, bills.iter().sum()));
    let usage = stage.get(&format!("/v1/billing/usage?llm_model={MODEL}-alias")).json();
    assert_eq!(usage["totals"]["request_count"], 3, "an alias stands for the model: {usage}");
}

#[test]
fn only_a_changed_face_is_asked_for_again_and_a_known_text_is_free() {
    let stage = stage(Upstream::answering(answering), builder());
    tea_and_boats(&stage);
    similarity(&stage, "tea", "boats");
    let before = spent(&stage);
    let put = json!({"primitives": [{"component": "beta", "text": TEA}]});
    assert_eq!(stage.send("PUT", "/v1/faces/boats/primitives", &put).status, 200);
    assert_eq!(similarity(&stage, "tea", "boats")["beta"], 1.0);
    assert_eq!(stage.upstream.requests().len(), 3);
    assert_eq!(spent(&stage), before + bill(tokens(&[TEA])));
    // The very statements of a face that was there before: another face, the same texts.
    face(&stage, "twin", &[("beta", TEA), ("delta", FACTS)]);
    assert_eq!(similarity(&stage, "tea", "twin")["face"], 1.0);
    // As after a crash between the settlement and the writing of the centroids.
    let gone = "DELETE FROM face_centroid RETURNING component";
    assert!(!stage.server.writable_ledger().rows(gone).is_empty());
    assert_eq!(similarity(&stage, "tea", "twin")["face"], 1.0);
    assert_eq!(stage.upstream.requests().len(), 3, "the answers were in the books");
    assert_eq!(spent(&stage), before + bill(tokens(&[TEA])));
}

#[test]
fn statements_go_in_batches_and_each_is_billed_by_itself() {
    let builder = builder()
        .env("FACES_EMBEDDING_BATCH_MAX", "2")
        .env("FACES_EMBEDDING_BATCH_BYTES_MAX", "1024");
    let stage = stage(Upstream::answering(answering), builder);
    let long = "x".repeat(900);
    let endless = "é".repeat(1_000);
    let statements = [TEA, BOATS, FACTS, long.as_str(), &endless, TEA, BOATS];
    face(&stage, "many", &statements.map(|text| ("beta", text)));
    face(&stage, "none", &[]);
    assert_eq!(similarity(&stage, "many", "none")["beta"], Value::Null);
    // Two at most, 1,024 bytes at most, and no text longer than the context of 1,000.
    let cut = "é".repeat(500);
    let batches =
        [vec![TEA, BOATS], vec![FACTS, long.as_str()], vec![cut.as_str()], vec![TEA, BOATS]];
    let asked: Vec<Vec<String>> = stage.upstream.requests().iter().map(texts_of).collect();
    // The last batch is the first one again, so it is in the books.
    assert_eq!(asked, batches[..3]);
    let bills: i64 = batches[..3].iter().map(|texts| bill(tokens(texts))).sum();
    assert_eq!(spent(&stage), bills);
    // (2,2,0) from tea and boats, (0,0,1) from the facts and twice the diagonal.
    face(&stage, "tea", &[("beta", TEA)]);
    let diagonal = 2.0 / 3.0_f64.sqrt();
    let sums = [2.0 + diagonal, 2.0 + diagonal, 1.0 + diagonal];
    let length = sums.iter().map(|sum| sum * sum).sum::<f64>().sqrt();
    let found = similarity(&stage, "many", "tea")["beta"].as_f64().unwrap();
    assert!((found - sums[0] / length).abs() < 2e-6, "{found}");
}

#[test]
fn a_request_makes_no_more_calls_than_it_may_and_the_next_one_goes_on() {
    let builder =
        builder().env("FACES_EMBEDDING_BATCH_MAX", "2").env("FACES_EMBEDDING_CALLS_MAX", "1");
    let stage = stage(Upstream::answering(answering), builder);
    face(&stage, "tea", &[("beta", TEA), ("beta", FACTS), ("beta", BOATS)]);
    face(&stage, "boats", &[("epsilon", BOATS)]);
    for left in [2, 1] {
        let early = stage.get(TEA_BOATS);
        assert_eq!((early.status, early.header("retry-after")), (503, Some("1")));
        let error = error_of(&early, Dialect::Faces);
        assert!(error.message.contains(&format!("{left} faces")), "{}", error.message);
    }
    assert_eq!(similarity(&stage, "tea", "boats")["epsilon"], Value::Null);
    assert_eq!(stage.upstream.requests().len(), 3);
    assert_eq!(spent(&stage), bill(tokens(&[TEA, FACTS])) + 2 * bill(tokens(&[BOATS])));
}

#[test]
fn another_model_makes_them_again_and_so_does_the_lexical_embedding() {
    let upstream = Upstream::answering(|request| {
        if request.json()["model"] == UPSTREAM_ID {
            return answering(request);
        }
        let count = texts_of(request).len();
        let data: Vec<Value> = (0..count).map(|_| json!({"embedding": [1, 0]})).collect();
        Exchange::json(200, &json!({"data": data, "usage": {"prompt_tokens": 3}}))
    });
    let mut stage = stage(upstream, TestServer::builder());
    tea_and_boats(&stage);
    let lexical = similarity(&stage, "tea", "boats");
    assert_eq!((stage.upstream.requests().len(), spent(&stage)), (0, 0));
    let beta = |stage: &mut Stage, model: &str| {
        stage.server.set_env("FACES_EMBEDDING_MODEL", model);
        assert!(stage.server.terminate().success());
        stage.server.start_again();
        similarity(stage, "tea", "boats")
    };
    assert_eq!(beta(&mut stage, &format!("{MODEL}-alias"))["beta"], 0.0);
    let first = bill(tokens(&[TEA, FACTS])) + bill(tokens(&[BOATS]));
    assert_eq!(spent(&stage), first);
    assert_eq!(beta(&mut stage, "short-embedder")["beta"], 1.0);
    assert_eq!(spent(&stage), first + 2 * bill(3));
    assert_eq!(beta(&mut stage, ""), lexical, "unset again");
    assert_eq!(beta(&mut stage, MODEL)["beta"], 0.0);
    assert_eq!((stage.upstream.requests().len(), spent(&stage)), (4, first + 2 * bill(3)));
}

#[test]
fn a_free_model_asks_for_no_credit_and_leaves_its_use_in_the_books() {
    let free = model("free-embedder", 3).replace("0.130007", "0");
    let builder = TestServer::builder().env("FACES_EMBEDDING_MODEL", "free-embedder");
    let upstream = Upstream::answering(answering);
    let server = builder.with_upstream(&upstream).models(&free).start();
    let account = server.account_with_usd("0");
    let stage = Stage { server, account, upstream };
    tea_and_boats(&stage);
    assert_eq!(similarity(&stage, "tea", "boats")["beta"], 0.0);
    assert_eq!(similarity(&stage, "tea", "boats")["beta"], 0.0);
    let rows = stage.server.ledger().wait_resolved(&stage.account, 2);
    let told: Vec<(Option<i64>, u64)> =
        rows.iter().map(|row| (row.cost, row.input.cast_unsigned())).collect();
    let used = [tokens(&[TEA, FACTS]), tokens(&[BOATS])];
    assert_eq!(told, used.map(|used| (Some(0), used)));
}
