//! Interviews: who asks, who pays, and what is kept.

use serde_json::{Value, json};

use super::{Desk, THREADS, refused};
use crate::{
    kit::{json_request, nanousd},
    support::{
        BOUND, PROMPT_CANARY,
        http::Request,
        models::charge_nanousd,
        replies::openai,
        server::TestServer,
        upstream::{Exchange, Upstream},
        wait_for,
    },
};

/// What a person answers.
const ANSWERS: [&str; 3] =
    ["I always get up at five.", "I value honesty above all.", "I build wooden ships."];

#[test]
fn a_face_is_synced_though_an_interview_of_it_has_no_answer() {
    let desk = Desk::offline();
    let sync = || desk.post("/v1/faces/ann/sync", &json!({}));
    let thread = desk.post("/v1/faces/ann/compile/threads", &json!({}));
    assert_eq!(thread.status, 201, "{}", thread.text());
    assert_eq!(sync().json()["status"], "synced", "nothing can be made of a question");
    let text = json!({"model": "ann", "content": "I value honesty above all."});
    let document = desk.post("/v1/compile/documents", &text).json();
    let synced = sync().json();
    assert_eq!(synced["data"][0]["document_id"], document["document_id"], "{synced}");
    assert_eq!(synced["data"].as_array().map(Vec::len), Some(1), "{synced}");
}

#[test]
fn a_thread_that_stays_as_it_is_stays_in_its_face_and_costs_nothing_again() {
    let desk = Desk::offline();
    let text = b"Bob: Who are you?\nAnn: I build wooden ships.";
    let file = crate::sources::File("talk.txt", "text/plain", text);
    let made = desk.upload(&[crate::sources::Field("type", "thread"), file]).json();
    let path = format!("{THREADS}/{}", made["thread_id"].as_str().unwrap());
    wait_for("a thread that is synced", BOUND, || {
        let synced = desk.post(&format!("{path}/sync"), &json!({})).json();
        (synced["synced"] == true).then_some(())
    });
    let charged = desk.get(&path)["tokens_charged"].clone();
    let messages = desk.get(&path)["messages"].clone();
    for (path, body) in [
        (path.clone(), json!({"face_speaker": "ANN"})),
        (format!("{path}/messages"), json!({"messages": messages})),
    ] {
        let patched = desk.patch(&path, &body);
        assert_eq!(patched.status, 200, "{}", patched.text());
        let patched = patched.json();
        assert_eq!((&patched["synced"], &patched["tokens_charged"]), (&json!(true), &charged));
    }
    let patched = desk.patch(&path, &json!({"face_speaker": "Bob"})).json();
    assert_eq!((&patched["synced"], &patched["face_speaker"]), (&json!(false), &json!("Bob")));
}

#[test]
fn an_interview_without_a_model_asks_its_questions_in_turn() {
    let desk = Desk::offline();
    let made = desk.post("/v1/faces/ann/compile/threads", &json!({}));
    assert_eq!(made.status, 201, "{}", made.text());
    let made = made.json();
    let id = made["thread_id"].as_str().unwrap();
    for (field, value) in [
        ("id", json!(id)),
        ("alias", json!("ann")),
        ("label", json!("Interview")),
        ("status", json!("open")),
        ("tokens_charged", json!(0)),
        ("interviewer_billing_source", json!("credits")),
    ] {
        assert_eq!(made[field], value, "{field}: {made}");
    }
    let question = made["message"]["content"].as_str().unwrap();
    assert!(
        question.starts_with("(Sandbox, no model ran.) What does an ordinary day"),
        "{question}"
    );
    assert_eq!(
        (&made["message"]["role"], &made["message"]["name"]),
        (&json!("assistant"), &Value::Null)
    );
    assert!(desk.spent() > 0 && nanousd(&made["cost_usd"]) == desk.spent(), "{made}");
    let path = format!("{THREADS}/{id}");
    let mut questions = vec![question.to_owned()];
    for (number, answer) in ANSWERS.iter().enumerate() {
        // Both sets of names: the documented one, and the one of the command line client.
        let body = if number == 0 {
            json!({"message": answer})
        } else {
            json!({"role": "user", "content": answer})
        };
        let before = desk.spent();
        let sent = desk.post(&format!("{path}/messages"), &body);
        assert_eq!(sent.status, 200, "{}", sent.text());
        questions.push(sent.json()["message"]["content"].as_str().unwrap().to_owned());
        assert_eq!(nanousd(&sent.json()["cost_usd"]), desk.spent() - before);
    }
    let mut distinct = questions.clone();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), 4, "{questions:?}");
    let thread = desk.get(&path);
    assert_eq!(
        (&thread["message_count"], &thread["messages"].as_array().unwrap().len()),
        (&json!(7), &7)
    );
    assert_eq!(thread["messages"][2]["content"], questions[1].as_str());
}

#[test]
fn what_the_person_said_in_an_interview_is_compiled_and_not_the_questions() {
    let desk = Desk::offline();
    let begun = desk.post(THREADS, &json!({"model": "ann"})).json();
    let id = begun["thread_id"].as_str().unwrap();
    let path = format!("{THREADS}/{id}");
    for answer in ANSWERS {
        let sent = desk.post(&format!("{path}/messages"), &json!({"message": answer}));
        assert_eq!(sent.status, 200, "{}", sent.text());
    }
    let made = desk.fetch(Request::new("POST", &format!("{path}/make")));
    assert_eq!(made.status, 202, "{}", made.text());
    assert_eq!(
        (&made.json()["thread_id"], &made.json()["status"]),
        (&json!(id), &json!("preparing"))
    );
    wait_for("the sync", BOUND, || (desk.get(&path)["prepare_status"] == "synced").then_some(()));
    let synced = desk.get(&path);
    assert_eq!(
        (&synced["synced"], &synced["messages_archived"]),
        (&json!(true), &json!(7)),
        "{synced}"
    );
    let listed = desk.get("/v1/faces/ann/compile/threads")["data"][0].clone();
    assert_eq!((&listed["message_count"], &listed["messages_archived"]), (&json!(7), &json!(7)));
    assert_eq!(
        (&listed["messages"], &listed["user_token_count"]),
        (&Value::Null, &synced["token_count"])
    );
    let counts = desk.get("/v1/faces/ann")["component_counts"].clone();
    let total: u64 = counts.as_object().unwrap().values().filter_map(Value::as_u64).sum();
    assert!((1..=6).contains(&total), "what the person said, and not the questions: {counts}");
    let again = desk.post(&format!("{path}/messages"), &json!({"message": "And I sing."}));
    assert_eq!(again.status, 200, "{}", again.text());
    assert_eq!(
        desk.get(&path)["prepare_status"],
        Value::Null,
        "there is something to compile again"
    );
}

#[test]
fn the_interviewer_is_a_model_and_what_it_could_not_ask_is_not_kept() {
    let down = Exchange::json(500, &openai::error("server_error", "down", None));
    let upstream = Upstream::start([
        openai::json_exchange("\"What is your name?\"", 200, 9)
            .containing("You are an interviewer."),
        down,
        openai::json_exchange("Why ships?", 300, 7).containing("I build ships"),
        openai::json_exchange(" \n", 300, 7).containing("For joy"),
    ]);
    let desk = Desk::scripted(&upstream);
    let begun = desk.post(
        THREADS,
        &json!({"model": "ann", "label": "Talk", "interviewer_billing_source": "credits"}),
    );
    assert_eq!(begun.status, 201, "{}", begun.text());
    assert_eq!(
        (&begun.json()["message"]["content"], &begun.json()["label"]),
        (&json!("What is your name?"), &json!("Talk"))
    );
    assert_eq!(desk.spent(), charge_nanousd(200, 9));
    let path = format!("{THREADS}/{}", begun.json()["id"].as_str().unwrap());
    let answer = json!({"message": format!("I build ships. {PROMPT_CANARY}")});
    let send = |body: &Value| desk.post(&format!("{path}/messages"), body);
    refused(&send(&answer), 502, "", "send it again");
    assert_eq!(
        (&desk.get(&path)["message_count"], desk.spent()),
        (&json!(1), charge_nanousd(200, 9))
    );
    let sent = send(&answer);
    assert_eq!(
        (sent.status, &sent.json()["message"]["content"]),
        (200, &json!("Why ships?")),
        "{}",
        sent.text()
    );
    let asked = upstream.requests()[2].json();
    let messages = asked["messages"].as_array().unwrap();
    assert!(messages[0]["content"].as_str().unwrap().contains("Ann Lee"), "{asked}");
    assert_eq!(
        (&messages[2]["role"], &messages[2]["content"]),
        (&json!("assistant"), &json!("What is your name?"))
    );
    assert_eq!((&messages[3]["role"], messages.len()), (&json!("user"), 4));
    // A model without a word does not end the interview.
    let spare = send(&json!({"message": "For joy."}));
    assert_eq!(spare.status, 200, "{}", spare.text());
    assert!(spare.json()["message"]["content"].as_str().unwrap().ends_with('?'));
    assert_eq!(desk.spent(), charge_nanousd(200, 9) + 2 * charge_nanousd(300, 7));
}

#[test]
fn of_two_answers_at_once_one_is_kept() {
    let body = openai::completion("Late?", 10, 5).to_string();
    let (start, rest) = body.split_at(5);
    let slow = Exchange::bytes(200, "application/json", start.into())
        .then_wait("go")
        .then_write(rest)
        .containing("slow answer");
    let upstream = Upstream::start([
        openai::json_exchange("First?", 10, 5)
            .containing("begin the interview")
            .containing("\"max_tokens\""),
        slow,
        openai::json_exchange("Second?", 10, 5).containing("quick answer"),
    ]);
    let desk = Desk::scripted(&upstream);
    let begun = desk.post(THREADS, &json!({"alias": "ann"})).json();
    let path = format!("{THREADS}/{}/messages", begun["id"].as_str().unwrap());
    let slow = json_request("POST", &path, &json!({"message": "slow answer"}))
        .bearer(&desk.account.key)
        .send(desk.server.address());
    upstream.wait_requests(2);
    let quick = desk.post(&path, &json!({"message": "quick answer"}));
    assert_eq!(quick.status, 200, "{}", quick.text());
    upstream.open("go");
    refused(&slow.answer().fetch(), 409, "", "came into this thread first");
    let thread = desk.get(&format!("{THREADS}/{}", begun["id"].as_str().unwrap()));
    assert_eq!(
        (&thread["message_count"], &thread["messages"][1]["content"]),
        (&json!(3), &json!("quick answer"))
    );
}

#[test]
fn without_credit_there_is_no_interview_and_the_answer_says_what_is_needed() {
    let desk = Desk::open(TestServer::builder(), "0");
    let refusal = desk.post(THREADS, &json!({"model": "ann"}));
    refused(&refusal, 402, "", "insufficient_credits");
    let body = refusal.json();
    assert_eq!(
        (&body["needs_credits"], &body["needs_oauth"]),
        (&json!(true), &json!(false)),
        "{body}"
    );
    assert!(body["plan"].is_string(), "{body}");
    assert_eq!(desk.get(THREADS)["data"], json!([]));
    let elsewhere = json!({"model": "ann", "interviewer_billing_source": "oauth"});
    refused(&desk.post(THREADS, &elsewhere), 422, "body.interviewer_billing_source", "credits");
}

#[test]
fn messages_are_replaced_whole_and_within_limits() {
    let builder = TestServer::builder()
        .env("FACES_THREAD_MESSAGES_MAX", "4")
        .env("FACES_THREAD_MESSAGE_CHARS_MAX", "20");
    let desk = Desk::open(builder, "10");
    let begun = desk.post(THREADS, &json!({"username": "ann"})).json();
    let path = format!("{THREADS}/{}", begun["thread_id"].as_str().unwrap());
    let messages = format!("{path}/messages");
    let one = |role: &str, content: &str| json!({"role": role, "content": content, "from": "Ann"});
    let replaced =
        desk.patch(&messages, &json!({"messages": [one("assistant", "Who?"), one("user", "Me.")]}));
    assert_eq!(replaced.status, 200, "{}", replaced.text());
    assert_eq!(
        replaced.json()["messages"][1],
        json!({"role": "user", "content": "Me.", "name": "Ann"})
    );
    let long = "x".repeat(21);
    let wrong: [(Value, &str); 7] = [
        (json!({}), "body.messages"),
        (json!({"messages": 1}), "body.messages"),
        (json!({"messages": [1]}), "body.messages.0"),
        (json!({"messages": [one("user", "a"), {"content": "b"}]}), "body.messages.1.role"),
        (json!({"messages": [one("system", "a")]}), "body.messages.0.role"),
        (json!({"messages": [one("user", &long)]}), "body.messages.0.content"),
        (json!({"messages": vec![one("user", "a"); 5]}), "body.messages"),
    ];
    for (body, loc) in wrong {
        refused(&desk.patch(&messages, &body), 422, loc, "");
    }
    refused(&desk.post(&messages, &json!({"message": long})), 422, "body.message", "20 characters");
    refused(&desk.post(&messages, &json!({"message": " "})), 422, "body.message", "empty");
    refused(
        &desk.post(&messages, &json!({"message": "a", "role": "assistant"})),
        422,
        "body.role",
        "user",
    );
    refused(&desk.post(&messages, &json!({})), 422, "body.message", "required");
    assert_eq!(desk.post(&messages, &json!({"message": "a"})).status, 200);
    refused(&desk.post(&messages, &json!({"message": "a"})), 422, "body.message", "at most 4");
}

#[test]
fn a_thread_is_reset_and_deleted_by_its_owner_alone() {
    let desk = Desk::offline();
    let begun = desk.post(THREADS, &json!({"username": "ann"})).json();
    let path = format!("{THREADS}/{}", begun["thread_id"].as_str().unwrap());
    let messages = format!("{path}/messages");
    assert_eq!(desk.post(&messages, &json!({"message": "I sing."})).status, 200);
    let step = |name: &str| desk.fetch(Request::new("POST", &format!("{path}/{name}")));
    refused(&step("pause"), 409, "", "nothing runs");
    let synced = step("sync");
    assert_eq!((synced.status, &synced.json()["synced"]), (200, &json!(true)), "{}", synced.text());
    let reset = step("reset");
    assert_eq!(
        (reset.status, &reset.json()["prepare_status"]),
        (200, &Value::Null),
        "{}",
        reset.text()
    );
    assert_eq!(desk.get(&path)["message_count"], 3, "the text stays");
    let stranger = desk.server.account();
    for (method, path) in [
        ("GET", &path),
        ("PATCH", &path),
        ("DELETE", &path),
        ("POST", &messages),
        ("PATCH", &messages),
    ] {
        let body = json!({"message": "a", "messages": []});
        let foreign =
            json_request(method, path, &body).bearer(&stranger.key).fetch(desk.server.address());
        refused(&foreign, 404, "", "thread");
    }
    let foreign = Request::get(THREADS).bearer(&stranger.key).fetch(desk.server.address());
    assert_eq!(foreign.json()["data"], json!([]));
    let deleted = desk.fetch(Request::new("DELETE", &path));
    assert_eq!(
        (deleted.status, &deleted.json()["deleted"]),
        (200, &json!(true)),
        "{}",
        deleted.text()
    );
    refused(&desk.fetch(Request::get(&path)), 404, "", "thread");
}
