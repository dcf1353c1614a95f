//! Documents become primitives of a face: the whole pipeline, offline with the sandbox and with a
//! scripted model.

use serde_json::{Value, json};

use crate::{
    kit::json_request,
    support::{
        BOUND, PERSONA_CANARY, REPLY_CANARY,
        http::{Fetched, Request},
        ledger::SETTLED,
        models::OPENAI_MODEL,
        replies::openai,
        server::{Account, Builder, TestServer},
        upstream::{Exchange, Framing, Recorded, Step, Upstream},
        wait_for,
    },
};

const CHAPTER: &str = include_str!("../fixtures/pride_and_prejudice_1.txt");
pub(crate) const DOCUMENTS: &str = "/v1/compile/documents";

/// A server, an account, and the face `eliza`.
pub(crate) struct Desk {
    pub(crate) server: TestServer,
    pub(crate) account: Account,
}

impl Desk {
    /// Only the sandbox answers.
    pub(crate) fn offline() -> Self {
        Self::open(TestServer::builder(), "10")
    }

    /// The scripted model compiles, piece after piece.
    fn scripted(upstream: &Upstream, credit_usd: &str) -> Self {
        let builder = TestServer::builder()
            .with_upstream(upstream)
            .env("FACES_COMPILE_MODEL", OPENAI_MODEL)
            .env("FACES_COMPILE_CHUNK_TOKENS", "32")
            .env("FACES_COMPILE_CHUNKS_MAX", "1")
            .env("FACES_COMPILE_ATTEMPTS_MAX", "2")
            .env("FACES_COMPILE_BACKOFF_MS", "10")
            .env("FACES_COMPILE_POLL_MS", "20")
            .env("FACES_COMPILE_LEASE_MS", "900");
        Self::open(builder, credit_usd)
    }

    pub(crate) fn open(builder: Builder, credit_usd: &str) -> Self {
        let server = builder.start();
        let account = server.account_with_usd(credit_usd);
        let desk = Self { server, account };
        desk.face("eliza", "Elizabeth Bennet");
        desk
    }

    pub(crate) fn face(&self, username: &str, name: &str) {
        let made = self.post("/v1/faces", &json!({"username": username, "name": name}));
        assert_eq!(made.status, 201, "{}", made.text());
    }

    pub(crate) fn send(&self, method: &str, path: &str, body: &Value) -> Fetched {
        json_request(method, path, body).bearer(&self.account.key).fetch(self.server.address())
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Fetched {
        self.send("POST", path, body)
    }

    /// A `POST` without a body, as the command line client sends it.
    pub(crate) fn step(&self, id: &str, step: &str) -> Fetched {
        let request = Request::new("POST", &format!("{DOCUMENTS}/{id}/{step}"));
        request.bearer(&self.account.key).fetch(self.server.address())
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        let request = Request::get(path).bearer(&self.account.key);
        let answer = request.fetch(self.server.address());
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }

    pub(crate) fn document(&self, content: &str) -> String {
        let body = json!({"model": "eliza", "content": content});
        let made = self.post(DOCUMENTS, &body);
        assert_eq!(made.status, 201, "{}", made.text());
        made.json()["document_id"].as_str().unwrap().to_owned()
    }

    pub(crate) fn read(&self, id: &str) -> Value {
        self.get(&format!("{DOCUMENTS}/{id}"))
    }

    #[track_caller]
    fn wait_status(&self, id: &str, status: &str) -> Value {
        wait_for(&format!("a document that is {status}"), BOUND, || {
            let document = self.read(id);
            (document["status"] == status).then_some(document)
        })
    }

    #[track_caller]
    pub(crate) fn make(&self, id: &str) -> Value {
        let made = self.step(id, "make");
        assert_eq!(made.status, 202, "{}", made.text());
        self.wait_status(id, "synced")
    }

    /// The texts of a face's primitives, as a chat shows them: the prompt that a model gets.
    fn says(&self, username: &str, question: &str) -> String {
        let message = json!([{"role": "user", "content": question}]);
        let body = json!({"model": username, "messages": message});
        let answer = self.post("/v1/chat/completions", &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
    }

    fn counts(&self, username: &str) -> Value {
        self.get(&format!("/v1/faces/{username}"))["component_counts"].clone()
    }
}

/// A text of so many paragraphs, each a piece.
fn paragraphs(count: usize) -> String {
    let one = |n| format!("PIECE-{n} I always remember {PERSONA_CANARY} when I walk along.");
    (0..count).map(one).collect::<Vec<_>>().join("\n\n")
}

/// Which piece a request to the model is about.
fn piece_of(request: &Recorded) -> usize {
    let body = request.json();
    let text = body["messages"][1]["content"].as_str().unwrap().to_owned();
    let (_, rest) = text.split_once("PIECE-").unwrap();
    rest.split(' ').next().unwrap().parse().unwrap()
}

/// What the scripted model says of a piece.
fn extraction(piece: usize) -> Exchange {
    let text = format!("I keep thing number {piece} in mind {REPLY_CANARY}.");
    let answer = json!({
        "facts": [{"key": "city", "value": format!("City {piece}")}],
        "primitives": [{"component": "epsilon", "text": text}],
    });
    openai::json_exchange(&answer.to_string(), 100, 20)
}

/// The same, once a gate is open.
fn gated(piece: usize, gate: &str) -> Exchange {
    let answer = json!({"facts": [], "primitives": [
        {"component": "epsilon", "text": format!("I keep thing number {piece} in mind.")},
    ]});
    let body = openai::completion(&answer.to_string(), 100, 20).to_string();
    let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
    let framing = Framing::Length { missing: 0 };
    Exchange::new(vec![
        Step::Wait(gate.to_owned()),
        Step::Head { status: 200, headers, framing },
        Step::Write(body.into_bytes()),
    ])
}

#[test]
fn a_text_is_compiled_offline_and_speaks_in_the_chat() {
    let desk = Desk::offline();
    let text = "I live in Meryton. I love long walks in any weather.\n\nI always laugh at follies. \
        I think first impressions deceive, because I was wrong once.";
    let id = desk.document(text);
    let new = desk.read(&id);
    assert_eq!((&new["status"], &new["prepare_status"]), (&json!("new"), &Value::Null));
    assert_eq!((&new["synced"], &new["version"]), (&json!(false), &json!(1)));
    assert_eq!(
        (&new["id"], &new["model"], &new["alias"]),
        (&json!(id), &json!("eliza"), &json!("eliza"))
    );
    assert_eq!(new["perspective"], "first-person");
    assert_eq!(desk.counts("eliza"), Value::Null);
    let made = desk.make(&id);
    assert_eq!((&made["chunks_total"], &made["chunks_completed"]), (&json!(1), &json!(1)));
    assert_eq!(made["prepare_status"], "synced");
    let counts = json!({"alpha": 1, "beta": 1, "delta": 1, "epsilon": 1});
    assert_eq!((&made["current_counts"], desk.counts("eliza")), (&counts, counts.clone()));
    let face = desk.get("/v1/faces/eliza");
    assert_eq!(face["basic_facts"]["city"]["value"], "Meryton");
    let said = desk.says("eliza", "Do you like walks?");
    assert!(said.contains("I love long walks in any weather."), "{said}");
    let quota = desk.get("/v1/billing/compile-quota");
    assert_eq!(quota["tokens_used"], made["token_count"]);
    assert_eq!((&quota["plan"], &quota["tokens_limit"]), (&json!("free"), &Value::Null));
    let face = &quota["faces"][0];
    assert_eq!(
        (&face["face_id"], &face["tokens_in_graph"]),
        (&json!("eliza"), &made["token_count"])
    );
    assert!(face["last_synced_at"].is_string() && face["profile_token_count"].is_u64(), "{face}");
}

#[test]
fn a_chapter_of_a_book_becomes_the_face_of_a_person_in_it() {
    let builder = TestServer::builder().env("FACES_COMPILE_CHUNK_TOKENS", "300");
    let desk = Desk::open(builder, "10");
    desk.face("mrs-bennet", "Mrs. Bennet");
    let body = json!({"content": CHAPTER, "perspective": "third-person", "label": "Chapter 1"});
    let made = desk.post("/v1/faces/mrs-bennet/compile/documents", &body);
    assert_eq!(made.status, 201, "{}", made.text());
    let id = made.json()["id"].as_str().unwrap().to_owned();
    let made = desk.make(&id);
    assert!(made["chunks_total"].as_u64().unwrap() > 1, "{made}");
    let said = desk.says("mrs-bennet", "What is the business of your life?");
    assert!(said.contains("The business of her life was to get her daughters married"), "{said}");
    let again = desk.post("/v1/faces/mrs-bennet/compile/documents", &body).json();
    let counts = desk.counts("mrs-bennet");
    desk.make(again["id"].as_str().unwrap());
    assert_eq!(desk.counts("mrs-bennet"), counts, "the same chapter adds nothing");
}

#[test]
fn prepare_then_sync_is_the_older_way_and_sync_alone_does_both() {
    let desk = Desk::offline();
    let id = desk.document("I love tea. I always walk.");
    let prepared = desk.step(&id, "prepare");
    assert_eq!(prepared.status, 200, "{}", prepared.text());
    let ready = desk.wait_status(&id, "ready");
    assert_eq!((&ready["prepare_status"], &ready["synced"]), (&Value::Null, &json!(false)));
    assert_eq!(desk.counts("eliza"), Value::Null, "nothing is in the face yet");
    let synced = desk.step(&id, "sync").json();
    assert_eq!((&synced["status"], &synced["synced"]), (&json!("synced"), &json!(true)));
    assert_eq!(synced["tokens_charged"], ready["token_count"]);
    assert_eq!(synced["stats"]["betas_processed"], 1);
    assert!(synced["synced_at"].is_i64(), "{synced}");
    let again = desk.step(&id, "sync").json();
    assert_eq!((&again["status"], &again["tokens_charged"]), (&json!("synced"), &json!(0)));
    let other = desk.document("I hate noise at night.");
    assert_eq!(desk.step(&other, "sync").json()["status"], "synced");
    let third = desk.document("I want peace at home.");
    let face = desk.post("/v1/faces/eliza/sync", &json!({})).json();
    assert_eq!((&face["status"], face["data"].as_array().unwrap().len()), (&json!("syncing"), 1));
    desk.wait_status(&third, "synced");
    let face = desk.post("/v1/faces/eliza/sync", &json!({})).json();
    assert_eq!(face["status"], "synced");
}

#[test]
fn a_deleted_document_takes_what_only_it_told() {
    let desk = Desk::offline();
    let imported = json!({"primitives": [{"component": "beta", "text": "I like silence."}]});
    let put = desk.send("PUT", "/v1/faces/eliza/primitives", &imported);
    assert_eq!(put.status, 200, "{}", put.text());
    let first = desk.document("I love tea. I like silence. I live in Meryton. I want a dog.");
    let second = desk.document("I love tea! I live in Meryton. I hate rain.");
    desk.make(&first);
    desk.make(&second);
    assert_eq!(desk.counts("eliza"), json!({"alpha": 1, "beta": 4, "delta": 0, "epsilon": 0}));
    let path = format!("/v1/faces/eliza/documents/{first}");
    let deleted = desk.send("DELETE", &path, &json!({}));
    assert_eq!((deleted.status, &deleted.json()["deleted"]), (200, &json!(true)));
    assert_eq!(desk.counts("eliza"), json!({"alpha": 1, "beta": 3, "delta": 0, "epsilon": 0}));
    let said = desk.says("eliza", "Do you want a dog, tea or silence?");
    assert!(said.contains("I love tea.") && said.contains("I like silence."), "{said}");
    assert!(!said.contains("I want a dog."), "{said}");
    let facts = desk.get("/v1/faces/eliza")["basic_facts"].clone();
    assert_eq!(facts["city"]["value"], "Meryton", "the second tells it, too");
    assert_eq!(desk.step(&first, "make").status, 404);
    let reset = desk.step(&second, "reset").json();
    assert_eq!((&reset["status"], &reset["prepare_status"]), (&json!("new"), &Value::Null));
    assert_eq!(desk.counts("eliza"), json!({"alpha": 0, "beta": 1, "delta": 0, "epsilon": 0}));
    assert_eq!(desk.get("/v1/faces/eliza")["basic_facts"], json!({}));
    assert_eq!(desk.make(&second)["tokens_charged"], desk.read(&second)["token_count"]);
}

#[test]
fn another_text_is_another_version_and_the_face_keeps_the_old_one_until_it_is_made() {
    let desk = Desk::offline();
    let id = desk.document("I love tea.");
    desk.make(&id);
    let path = format!("{DOCUMENTS}/{id}");
    let labelled = desk.send("PATCH", &path, &json!({"label": "Bio"})).json();
    assert_eq!((&labelled["label"], &labelled["version"]), (&json!("Bio"), &json!(1)));
    assert_eq!(labelled["synced"], true);
    let edited = desk.send("PATCH", &path, &json!({"content": "I hate coffee."})).json();
    assert_eq!((&edited["version"], &edited["synced"]), (&json!(2), &json!(false)));
    assert!(desk.says("eliza", "tea?").contains("I love tea."));
    desk.make(&id);
    let said = desk.says("eliza", "tea or coffee?");
    assert!(said.contains("I hate coffee.") && !said.contains("I love tea."), "{said}");
}

#[test]
fn a_pause_lets_the_piece_end_and_make_goes_on_after_it() {
    let upstream = Upstream::start([
        gated(0, "first").containing("PIECE-0"),
        extraction(1).containing("PIECE-1"),
        extraction(2).containing("PIECE-2"),
    ]);
    let desk = Desk::scripted(&upstream, "10");
    let id = desk.document(&paragraphs(3));
    assert_eq!(desk.step(&id, "pause").status, 409, "nothing runs");
    let made = desk.step(&id, "make");
    assert!(made.json()["chunks_total"].as_u64() > Some(1), "an estimate: {}", made.text());
    upstream.wait_requests(1);
    assert_eq!(desk.get("/v1/faces/eliza")["sync_status"], "syncing");
    let pausing = desk.step(&id, "pause").json();
    assert_eq!((&pausing["status"], &pausing["chunks_completed"]), (&json!("pausing"), &json!(0)));
    upstream.open("first");
    let paused = desk.wait_status(&id, "paused");
    assert_eq!(desk.get("/v1/faces/eliza")["sync_status"], "synced");
    assert_eq!((&paused["chunks_completed"], &paused["chunks_total"]), (&json!(1), &json!(3)));
    assert_eq!(upstream.requests().len(), 1);
    let made = desk.make(&id);
    assert_eq!(made["chunks_completed"], 3);
    let pieces: Vec<usize> = upstream.requests().iter().map(piece_of).collect();
    assert_eq!(pieces, [0, 1, 2], "no piece was read twice");
}

#[test]
fn without_credit_it_stalls_and_goes_on_when_there_is_some() {
    let upstream = Upstream::start((0..2).map(|n| extraction(n).containing(&format!("PIECE-{n}"))));
    let desk = Desk::scripted(&upstream, "0");
    let id = desk.document(&paragraphs(2));
    desk.step(&id, "make");
    let stalled = desk.wait_status(&id, "stalled");
    let failure = stalled["failure"].as_str().unwrap();
    assert!(failure.contains("Insufficient credits"), "{failure}");
    assert_eq!(stalled["chunks_completed"], 0);
    desk.server.admin(&["topup", "--account", &desk.account.id, "--usd", "1", "--ref", "r1"]);
    let made = wait_for("credit on this server", BOUND, || {
        desk.step(&id, "make");
        let seen = desk.wait_end(&id);
        (seen["status"] == "synced").then_some(seen)
    });
    assert_eq!(made["failure"], Value::Null);
    assert_eq!(desk.get("/v1/faces/eliza")["basic_facts"]["city"]["value"], "City 0");
}

impl Desk {
    fn wait_end(&self, id: &str) -> Value {
        wait_for("the end of the work", BOUND, || {
            let document = self.read(id);
            let status = document["status"].as_str().unwrap();
            matches!(status, "synced" | "stalled" | "failed").then_some(document)
        })
    }
}

#[test]
fn a_provider_that_is_away_stalls_it_after_the_last_try_and_no_piece_is_paid_twice() {
    let broken =
        || Exchange::json(500, &json!({"error": {"message": "no", "type": "server_error"}}));
    let upstream = Upstream::start([
        extraction(0).containing("PIECE-0"),
        broken().containing("PIECE-1").times(2),
    ]);
    let desk = Desk::scripted(&upstream, "10");
    let id = desk.document(&paragraphs(2));
    desk.step(&id, "make");
    let stalled = desk.wait_status(&id, "stalled");
    assert_eq!((&stalled["chunks_completed"], &stalled["synced"]), (&json!(1), &json!(false)));
    // The first answer is no JSON at all: it is paid for, and the piece is asked for anew.
    upstream.expect(openai::json_exchange("Sorry, no.", 100, 20).containing("PIECE-1"));
    upstream.expect(extraction(1).containing("PIECE-1"));
    desk.make(&id);
    let pieces: Vec<usize> = upstream.requests().iter().map(piece_of).collect();
    assert_eq!(pieces, [0, 1, 1, 1, 1]);
    let settled = desk.server.ledger().wait_resolved(&desk.account, 5);
    let paid = settled.iter().filter(|row| row.state == SETTLED).count();
    assert_eq!(paid, 3, "two pieces, and one answer that was no use: {settled:?}");
}

#[test]
fn a_server_that_is_killed_goes_on_where_it_was_and_pays_each_piece_once() {
    let upstream = Upstream::start([
        extraction(0).containing("PIECE-0"),
        gated(1, "never").containing("PIECE-1").may_be_left(),
    ]);
    let mut desk = Desk::scripted(&upstream, "10");
    let id = desk.document(&paragraphs(3));
    desk.step(&id, "make");
    upstream.wait_requests(2);
    desk.server.kill();
    upstream.expect(extraction(1).containing("PIECE-1"));
    upstream.expect(extraction(2).containing("PIECE-2"));
    desk.server.start_again();
    let made = desk.wait_status(&id, "synced");
    assert_eq!((&made["chunks_completed"], &made["chunks_total"]), (&json!(3), &json!(3)));
    assert_eq!(desk.counts("eliza")["epsilon"], 3);
    let pieces: Vec<usize> = upstream.requests().iter().map(piece_of).collect();
    assert_eq!(pieces, [0, 1, 1, 2], "the finished piece is not read again");
    let rows = desk.server.ledger().wait_resolved(&desk.account, 4);
    let paid = rows.iter().filter(|row| row.state == SETTLED && row.cost > Some(0)).count();
    assert_eq!(paid, 3, "{rows:?}");
    let status = desk.server.terminate();
    assert!(status.success(), "{status}");
    desk.server.audit();
    upstream.open("never");
}

#[test]
fn a_text_that_the_server_dies_of_each_time_fails_and_its_owner_may_ask_again() {
    let deadly = || Exchange::never().containing("PIECE-0").may_be_left();
    let upstream = Upstream::start([deadly(), deadly()]);
    let mut desk = Desk::scripted(&upstream, "10");
    let id = desk.document(&paragraphs(1));
    desk.step(&id, "make");
    for count in 1..=2 {
        upstream.wait_requests(count);
        desk.server.kill();
        desk.server.start_again();
    }
    let failed = desk.wait_status(&id, "failed");
    let failure = failed["failure"].as_str().unwrap();
    assert!(failure.contains("begun 2 times"), "{failure}");
    assert_eq!(upstream.requests().len(), 2, "the third claim asks no model");
    upstream.expect(extraction(0).containing("PIECE-0"));
    desk.make(&id);
    let rows = desk.server.ledger().wait_resolved(&desk.account, 3);
    let paid = rows.iter().filter(|row| row.cost > Some(0)).count();
    assert_eq!(paid, 1, "{rows:?}");
}

#[test]
fn a_stop_waits_for_the_piece_and_the_next_start_goes_on() {
    let upstream = Upstream::start([
        gated(0, "piece").containing("PIECE-0"),
        extraction(1).containing("PIECE-1"),
    ]);
    let mut desk = Desk::scripted(&upstream, "10");
    let id = desk.document(&paragraphs(2));
    desk.step(&id, "make");
    upstream.wait_requests(1);
    desk.server.signal("TERM");
    upstream.open("piece");
    let status = desk.server.wait_exit(BOUND);
    assert!(status.success(), "{status}: {}", desk.server.log());
    assert_eq!(upstream.requests().len(), 1, "no piece is begun in a stop");
    desk.server.start_again();
    desk.wait_status(&id, "synced");
    let pieces: Vec<usize> = upstream.requests().iter().map(piece_of).collect();
    assert_eq!(pieces, [0, 1]);
}
