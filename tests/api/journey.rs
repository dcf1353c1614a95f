//! The way of a customer, over HTTP alone: register, pay, make a key and a face, upload a chapter of
//! a book, compile it, talk to it, read the bill, take the chapter away again. Offline with the
//! sandbox, with a scripted model, and with a server that is killed in between.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    kit::{balance, json_request, nanousd},
    payments::{pay, with_secrets},
    sources::{
        Part::{Field, File},
        form,
    },
    support::{
        BOUND,
        http::{Fetched, Request},
        ledger::{RECOVERED, Row, SETTLED},
        login::Person,
        models::{OPENAI_MODEL, charge_nanousd},
        replies::openai,
        server::{Account, Builder, TestServer},
        upstream::{Exchange, Recorded, Upstream},
        wait_for,
    },
};

const CHAPTER: &[u8] = include_bytes!("../fixtures/pride_and_prejudice_1.txt");
const ANSWERS: &str = include_str!("../fixtures/pride_and_prejudice_1.extraction.json");
const QUESTION: &str = "What is the business of your life, and how are your nerves?";
const FACE: &str = "/v1/faces/mrs-bennet";
const PAID_NANOUSD: i64 = 20_000_000_000;

/// What the five pieces tell, each statement once and in its first wording.
const TOLD: [&str; 11] = [
    "I bring my husband the news of the neighbourhood before he asks for it.",
    "I judge a young man by his fortune.",
    "I pass on what Mrs. Long tells me.",
    "I am a mother of five grown-up daughters who once had her share of beauty.",
    "I look for a good establishment for each of my girls.",
    "I send my husband to visit every newcomer.",
    "I prefer Jane's looks and Lydia's good humour to Lizzy's quickness.",
    "I complain of my poor nerves when I am contradicted.",
    "I am a woman of little information and uncertain temper.",
    "I make it the business of my life to get my daughters married.",
    "I find solace in visiting and news.",
];
/// What Mrs. Bennet has before: the chapter tells the first, too.
const OWN: [&str; 2] = ["I want my daughters to marry well.", "I keep a very good table."];

/// The script of a model that reads the chapter.
#[derive(Deserialize)]
struct Script {
    pieces: Vec<Piece>,
}

#[derive(Deserialize)]
struct Piece {
    of: String,
    prompt_tokens: i64,
    completion_tokens: i64,
    answer: Value,
}

impl Piece {
    fn exchange(&self) -> Exchange {
        let text = self.answer.to_string();
        let tokens = [self.prompt_tokens, self.completion_tokens].map(i64::unsigned_abs);
        openai::json_exchange(&text, tokens[0], tokens[1]).containing(&self.of)
    }

    fn charge(&self) -> i64 {
        charge_nanousd(self.prompt_tokens, self.completion_tokens)
    }
}

fn script() -> Vec<Piece> {
    serde_json::from_str::<Script>(ANSWERS).expect("the answers are of their form").pieces
}

/// The number of the piece that a request to the model is about; `None` for a chat.
fn piece_of(script: &[Piece], request: &Recorded) -> Option<usize> {
    script.iter().position(|piece| request.has(&piece.of))
}

/// Somebody who came as a customer comes.
struct Customer {
    server: TestServer,
    account: Account,
}

impl Customer {
    /// Registers and makes a key.
    fn arrive(builder: Builder) -> Self {
        let server = builder
            .env("FACES_COMPILE_CHUNK_TOKENS", "300")
            .env("FACES_COMPILE_POLL_MS", "20")
            .start();
        let person = Person::register(&server, "jane");
        let key = person.key(&server, &json!({"name": "walk"}));
        let key = key["key"].as_str().expect("the key").to_owned();
        Self { account: Account { id: person.id, key }, server }
    }

    /// Where the scripted model compiles and answers, one piece after the other.
    fn arrive_at(upstream: &Upstream) -> Self {
        let builder = with_secrets()
            .with_upstream(upstream)
            .env("FACES_COMPILE_MODEL", OPENAI_MODEL)
            .env("FACES_DEFAULT_MODEL", OPENAI_MODEL)
            .env("FACES_COMPILE_CHUNKS_MAX", "1")
            .env("FACES_COMPILE_LEASE_MS", "900");
        let customer = Self::arrive(builder);
        pay(&customer.server, &customer.account.id, "20.00");
        assert_eq!(customer.balance(), PAID_NANOUSD);
        customer
    }

    #[track_caller]
    fn send(&self, method: &str, path: &str, body: &Value, status: u16) -> Value {
        self.answer(json_request(method, path, body), status).json()
    }

    #[track_caller]
    fn get(&self, path: &str) -> Value {
        self.answer(Request::get(path), 200).json()
    }

    #[track_caller]
    fn answer(&self, request: Request, status: u16) -> Fetched {
        let answer = request.bearer(&self.account.key).fetch(self.server.address());
        assert_eq!(answer.status, status, "{}", answer.text());
        answer
    }

    fn balance(&self) -> i64 {
        balance(&self.server, &self.account)
    }

    /// Makes the face, with a fact and two statements of its own.
    fn face(&self) {
        let body = json!({"username": "mrs-bennet", "name": "Mrs. Bennet",
            "basic_facts": {"residence": "Longbourn"}});
        self.send("POST", "/v1/faces", &body, 201);
        let put = json!({"primitives": [
            {"component": "beta", "text": OWN[0]}, {"component": "epsilon", "text": OWN[1]}]});
        self.send("PUT", &format!("{FACE}/primitives"), &put, 200);
    }

    /// Uploads the chapter and starts the work; the document's id.
    fn upload_and_make(&self) -> String {
        let parts = [
            Field("type", "document"),
            Field("perspective", "third-person"),
            File("chapter-1.txt", "text/plain", CHAPTER),
        ];
        let made = self.answer(form(&format!("{FACE}/upload"), &parts), 200).json();
        assert_eq!(made["label"], "chapter-1.txt");
        let id = made["document_id"].as_str().expect("the id").to_owned();
        assert_eq!(self.read(&id)["status"], "new");
        self.answer(Request::new("POST", &format!("/v1/compile/documents/{id}/make")), 202);
        id
    }

    fn read(&self, id: &str) -> Value {
        self.get(&format!("/v1/compile/documents/{id}"))
    }

    /// Watches the work to its end; the count of pieces never falls.
    #[track_caller]
    fn watch(&self, id: &str, mut done: u64) -> Value {
        let made = wait_for("the chapter in the face", BOUND, || {
            let seen = self.read(id);
            let count = |field: &str| seen[field].as_u64().expect("a count");
            assert!(count("chunks_completed") >= done, "{done}: {seen}");
            assert!(count("chunks_completed") <= count("chunks_total"), "{seen}");
            done = count("chunks_completed");
            let status = seen["status"].as_str().expect("a status");
            assert!(matches!(status, "preparing" | "syncing" | "synced"), "{seen}");
            (status == "synced").then_some(seen)
        });
        assert_eq!((&made["chunks_completed"], &made["chunks_total"]), (&json!(5), &json!(5)));
        assert_eq!((&made["synced"], &made["failure"]), (&json!(true), &Value::Null));
        made
    }

    /// Asks the face; what it says, and what that cost.
    #[track_caller]
    fn ask(&self) -> (Value, i64) {
        let messages = json!([{"role": "user", "content": QUESTION}]);
        let body = json!({"model": "mrs-bennet", "messages": messages});
        let answer = self.answer(json_request("POST", "/v1/chat/completions", &body), 200);
        let cost = answer.header("x-faces-cost-usd").expect("the cost").to_owned();
        (answer.json(), nanousd(&json!(cost)))
    }

    /// The one row of the bill by models.
    fn bill(&self, model: &str) -> Value {
        let usage = self.get("/v1/billing/usage?group_by=llm");
        let rows = usage["rows"].as_array().expect("rows");
        assert_eq!(rows.len(), 1, "{usage}");
        assert_eq!(rows[0]["group_key"], model, "{usage}");
        assert_eq!(nanousd(&usage["totals"]["total_cost_usd"]), PAID_NANOUSD - self.balance());
        rows[0].clone()
    }
}

#[test]
fn a_customer_compiles_a_chapter_offline_and_talks_to_it() {
    let customer = Customer::arrive(TestServer::builder().env("FACES_TOPUP", "trusted"));
    let payment = json!({"amount_usd": 20, "payment_ref": "invoice-1"});
    let paid = customer.send("POST", "/v1/billing/topup", &payment, 200);
    assert_eq!(nanousd(&paid["new_balance_usd"]), PAID_NANOUSD);
    customer.face();
    let id = customer.upload_and_make();
    let made = customer.watch(&id, 0);

    let face = customer.get(FACE);
    let told = made["current_counts"].as_object().expect("counts");
    assert!(told.values().filter_map(Value::as_u64).sum::<u64>() > 3, "{made}");
    for (component, count) in told {
        let own = u64::from(matches!(component.as_str(), "beta" | "epsilon"));
        let count = count.as_u64().expect("a count") + own;
        assert_eq!(face["component_counts"][component], count, "{face}");
    }
    assert_eq!(face["basic_facts"]["residence"]["value"], "Longbourn");
    let (answer, chat_cost) = customer.ask();
    // The sandbox says what its prompt says to the question.
    let said = answer["choices"][0]["message"]["content"].as_str().expect("a text");
    let statement = "The business of her life was to get her daughters married";
    assert!(said.contains("speaking for Mrs") && said.contains(statement), "{said}");

    // 0.10 and 0.40 USD per million tokens, and five percent.
    let cost = |usage: &Value, input: &str, output: &str| {
        let tokens = |field: &str| usage[field].as_i64().expect("tokens");
        105 * tokens(input) + 420 * tokens(output)
    };
    assert_eq!(chat_cost, cost(&answer["usage"], "prompt_tokens", "completion_tokens"));
    let bill = customer.bill("sandbox");
    assert_eq!(bill["request_count"], 6, "five pieces and a chat: {bill}");
    assert_eq!(nanousd(&bill["total_cost_usd"]), cost(&bill, "input_tokens", "output_tokens"));
}

/// Checks the books of a compiled chapter: every piece was paid once, for what the model used.
#[track_caller]
fn assert_paid_once(customer: &Customer, script: &[Piece], others: usize) {
    let rows = customer.server.ledger().wait_resolved(&customer.account, script.len() + others);
    let paid: Vec<&Row> = rows.iter().filter(|row| row.cost > Some(0)).collect();
    assert_eq!(paid.len(), script.len(), "{rows:?}");
    for (row, piece) in paid.iter().zip(script) {
        assert_eq!((row.state, row.cost), (SETTLED, Some(piece.charge())), "{rows:?}");
        assert_eq!((row.input, row.output), (piece.prompt_tokens, piece.completion_tokens));
    }
    let charged: i64 = script.iter().map(Piece::charge).sum();
    assert_eq!(customer.balance(), PAID_NANOUSD - charged);
}

#[test]
fn a_scripted_model_reads_the_chapter_and_its_statements_are_merged_billed_and_taken_back() {
    let script = script();
    let upstream = Upstream::start(script.iter().map(Piece::exchange));
    let customer = Customer::arrive_at(&upstream);
    customer.face();
    let before = customer.get(FACE);
    let id = customer.upload_and_make();
    let made = customer.watch(&id, 0);
    let asked: Vec<_> = upstream.requests().iter().map(|it| piece_of(&script, it)).collect();
    assert_eq!(asked, [0, 1, 2, 3, 4].map(Some), "each piece is asked for once, in its order");
    assert_paid_once(&customer, &script, 0);

    let told = json!({"alpha": 2, "beta": 4, "delta": 2, "epsilon": 4});
    assert_eq!(made["current_counts"], told);
    let face = customer.get(FACE);
    let all = json!({"alpha": 2, "beta": 4, "delta": 2, "epsilon": 5});
    assert_eq!(face["component_counts"], all, "what the face had is told again, not kept twice");
    let facts = &face["basic_facts"];
    assert_eq!(facts["spouse_name"]["value"], "Mr. Bennet");
    assert_eq!(facts["number_of_children"]["value"], "five daughters", "the first telling stays");
    assert_eq!(facts["residence"]["value"], "Longbourn");

    let reply = openai::json_exchange("To get my daughters married.", 900, 9);
    upstream.expect(reply.containing("how are your nerves").times(2));
    let (answer, cost) = customer.ask();
    assert_eq!(answer["choices"][0]["message"]["content"], "To get my daughters married.");
    assert_eq!(cost, charge_nanousd(900, 9));
    let prompt = last_prompt(&upstream);
    for statement in TOLD.iter().chain(&OWN) {
        assert_eq!(prompt.matches(statement).count(), 1, "{statement}: {prompt}");
    }
    assert_eq!(prompt.to_lowercase().matches("daughters to marry well").count(), 1, "{prompt}");
    assert_eq!(prompt.matches("my poor nerves").count(), 1, "{prompt}");

    let deleted = customer.send("DELETE", &format!("/v1/compile/documents/{id}"), &json!({}), 200);
    assert_eq!(deleted["deleted"], true);
    let after = customer.get(FACE);
    for field in ["component_counts", "basic_facts"] {
        assert_eq!(after[field], before[field], "{field}");
    }
    customer.ask();
    let prompt = last_prompt(&upstream);
    for (statements, count) in [(&TOLD[..], 0), (&OWN[..], 1)] {
        for statement in statements {
            assert_eq!(prompt.matches(statement).count(), count, "{statement}: {prompt}");
        }
    }

    let charged = script.iter().map(Piece::charge).sum::<i64>() + 2 * charge_nanousd(900, 9);
    let bill = customer.bill(OPENAI_MODEL);
    assert_eq!((&bill["request_count"], nanousd(&bill["total_cost_usd"])), (&json!(7), charged));
    let tokens = |of: fn(&Piece) -> i64| script.iter().map(of).sum::<i64>();
    assert_eq!(bill["input_tokens"], tokens(|piece| piece.prompt_tokens) + 2 * 900);
    assert_eq!(bill["output_tokens"], tokens(|piece| piece.completion_tokens) + 2 * 9);
}

fn last_prompt(upstream: &Upstream) -> String {
    let sent = upstream.requests().pop().expect("a request").json();
    assert_eq!(sent["messages"][0]["role"], "system");
    sent["messages"][0]["content"].as_str().expect("a prompt").to_owned()
}

#[test]
fn a_server_killed_in_mid_chapter_goes_on_and_charges_nothing_twice() {
    let script = script();
    let silent = Exchange::never().containing(&script[2].of).may_be_left();
    let upstream = Upstream::start([script[0].exchange(), script[1].exchange(), silent]);
    let mut customer = Customer::arrive_at(&upstream);
    customer.face();
    let id = customer.upload_and_make();
    upstream.wait_requests(3);
    let seen = customer.read(&id);
    assert_eq!((&seen["status"], &seen["chunks_completed"]), (&json!("preparing"), &json!(2)));
    customer.server.kill();
    for piece in &script[2..] {
        upstream.expect(piece.exchange());
    }
    customer.server.start_again();
    customer.watch(&id, 2);
    let asked: Vec<_> = upstream.requests().iter().map(|it| piece_of(&script, it)).collect();
    assert_eq!(asked, [0, 1, 2, 2, 3, 4].map(Some), "only what was under way is asked for again");
    // The call that the kill cut off was held, and cost nothing.
    assert_paid_once(&customer, &script, 1);
    let rows = customer.server.ledger().holds(&customer.account);
    let cut: Vec<_> = rows.iter().filter(|row| row.state != SETTLED).collect();
    assert_eq!((cut.len(), cut[0].state, cut[0].cost), (1, RECOVERED, Some(0)), "{rows:?}");
    let all = json!({"alpha": 2, "beta": 4, "delta": 2, "epsilon": 5});
    assert_eq!(customer.get(FACE)["component_counts"], all);
    let status = customer.server.terminate();
    assert!(status.success(), "{status}: {}", customer.server.log());
    customer.server.audit();
}
