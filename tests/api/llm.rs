//! The server's own calls to models, in one process with it and without an HTTP request: billed as
//! chats are, and made once per name.

use std::{ffi::OsString, future::Future, time::Instant};

use faces::{
    app::App,
    config::{Cli, Environment},
    domain::{ErrorCode, NanoUsd, Scopes},
    flows::{
        Caller, Failure, Flows, RequestTrace,
        admin::AdminRequest,
        llm::{LlmAnswer, LlmCall, LlmRole},
    },
    telemetry::AccessLine,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    kit::nanousd,
    support::{
        models::{self, ANTHROPIC_MODEL, KEY_VARIABLES, OPENAI_MODEL},
        replies::{anthropic, openai},
        upstream::{Exchange, Upstream},
    },
};

const INPUT: u64 = 120;
const OUTPUT: u64 = 30;
const CREDIT: i64 = 10_000_000_000;

/// A whole server in this process, and an account of it.
struct House {
    app: App,
    flows: Flows,
    caller: Caller,
    _data_dir: TempDir,
}

impl House {
    async fn open(upstream: &Upstream, credit: i64) -> Self {
        let data_dir = TempDir::with_prefix("faces-test-").unwrap();
        let models_file = data_dir.path().join("models.toml");
        std::fs::write(&models_file, models::models_toml(&upstream.url())).unwrap();
        let data = data_dir.path().join("data").display().to_string();
        let mut variables = vec![
            ("FACES_LISTEN", "127.0.0.1:0".to_owned()),
            ("FACES_DATA_DIR", data),
            ("FACES_DEMO", "off".to_owned()),
            ("FACES_WORKERS", "1".to_owned()),
            ("FACES_DEFAULT_MODEL", OPENAI_MODEL.to_owned()),
            ("FACES_MODELS_FILE", models_file.display().to_string()),
        ];
        variables.extend(KEY_VARIABLES.map(|name| (name, models::provider_key(name))));
        let variables =
            variables.into_iter().map(|(name, value)| (OsString::from(name), value.into()));
        let environment = Environment::default().overridden_by(variables);
        let cli = Cli::parse_from(["faces"], &environment).unwrap();
        let app = App::build_quietly(cli.settings).await.unwrap();
        let flows = app.flows().clone();
        let account =
            AdminRequest::CreateAccount { name: "test".to_owned(), credit: NanoUsd(credit) };
        let account = flows.platform().administer(account).await.unwrap();
        let caller = Caller {
            account_id: account["id"].as_str().unwrap().parse().unwrap(),
            key_id: None,
            login_epoch: None,
            allowed_faces: None,
            allowed_models: None,
            budget: None,
            scopes: Scopes::KEY,
        };
        Self { app, flows, caller, _data_dir: data_dir }
    }

    async fn ask(&self, call: LlmCall<'_>) -> Result<LlmAnswer, Failure> {
        let trace = RequestTrace::new(AccessLine::default(), Instant::now(), None);
        self.flows.complete(&self.caller, call, &trace).await
    }

    async fn spent(&self) -> i64 {
        nanousd(&self.flows.platform().balance(&self.caller).await.unwrap()["spent_usd"])
    }

    async fn close(self) {
        assert!(self.app.run_until(std::future::ready(())).await, "everything was settled");
    }
}

fn call(model: Option<&str>) -> LlmCall<'_> {
    LlmCall {
        model,
        system: Some("You are brief.".to_owned()),
        messages: vec![
            (LlmRole::User, "One".to_owned()),
            (LlmRole::Assistant, "Two".to_owned()),
            (LlmRole::User, "Three".to_owned()),
        ],
        max_tokens: 100,
        ..LlmCall::default()
    }
}

fn billed() -> i64 {
    models::charge_nanousd(INPUT.cast_signed(), OUTPUT.cast_signed())
}

fn both<A, B>(
    a: impl Future<Output = A>,
    b: impl Future<Output = B>,
) -> impl Future<Output = (A, B)> {
    futures_util::future::join(a, b)
}

#[actix::test]
async fn a_call_is_a_chat_in_the_models_own_format_and_is_billed_as_one() {
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}},
        "required": ["n"], "additionalProperties": false});
    let upstream = Upstream::start([
        openai::json_exchange("{\"n\": 3}", INPUT, OUTPUT),
        anthropic::json_exchange("{\"n\": 4}", INPUT, OUTPUT),
    ]);
    let house = House::open(&upstream, CREDIT).await;
    let asked = LlmCall { json_schema: Some(schema.clone()), ..call(None) };
    let answer = house.ask(asked).await.unwrap();
    assert_eq!(
        (answer.text.as_str(), answer.is_cut, answer.is_replay),
        ("{\"n\": 3}", false, false)
    );
    assert_eq!((answer.usage.input_total(), answer.usage.output_total()), (INPUT, OUTPUT));
    assert_eq!((answer.cost.0, house.spent().await), (billed(), billed()));
    let asked = LlmCall { json_schema: Some(schema.clone()), ..call(Some(ANTHROPIC_MODEL)) };
    assert_eq!(house.ask(asked).await.unwrap().text, "{\"n\": 4}");
    assert_eq!(house.spent().await, 2 * billed());
    let sent = upstream.requests();
    let first = sent[0].json();
    assert_eq!(first["messages"][0], json!({"role": "system", "content": "You are brief."}));
    assert_eq!(first["messages"][3], json!({"role": "user", "content": "Three"}));
    assert_eq!(first["response_format"]["json_schema"]["schema"], schema);
    assert_eq!(first["max_tokens"], 100);
    let second = sent[1].json();
    assert_eq!(
        (&second["messages"][1]["role"], &second["max_tokens"]),
        (&json!("assistant"), &json!(100))
    );
    assert!(second["system"].to_string().contains("You are brief."), "{second}");
    house.close().await;
}

#[actix::test]
async fn a_named_call_is_made_and_paid_once_and_gives_the_same_answer_again() {
    let upstream = Upstream::start([
        openai::json_exchange("first", INPUT, OUTPUT),
        openai::json_exchange("other name", INPUT, OUTPUT),
    ]);
    let house = House::open(&upstream, CREDIT).await;
    let named = |name| LlmCall { idem_key: Some(name), ..call(Some(OPENAI_MODEL)) };
    for is_replay in [false, true, true] {
        let answer = house.ask(named("chunk 1")).await.unwrap();
        assert_eq!((answer.text.as_str(), answer.is_replay), ("first", is_replay));
        assert_eq!((answer.cost.0, answer.usage.input_total()), (billed(), INPUT));
    }
    assert_eq!((house.spent().await, upstream.requests().len()), (billed(), 1));
    // The name decides: what is asked may be put differently by a newer version.
    let reworded = LlmCall { system: None, ..named("chunk 1") };
    assert!(house.ask(reworded).await.unwrap().is_replay);
    assert_eq!(house.ask(named("chunk 2")).await.unwrap().text, "other name");
    assert_eq!(house.spent().await, 2 * billed());
    house.close().await;
}

#[actix::test]
async fn of_two_calls_with_one_name_at_once_one_is_made_and_a_failed_one_frees_the_name() {
    let failed = Exchange::json(500, &openai::error("server_error", "down", None));
    let upstream = Upstream::start([failed, openai::json_exchange("said", INPUT, OUTPUT)]);
    let house = House::open(&upstream, CREDIT).await;
    let named = || LlmCall { idem_key: Some("chunk"), ..call(None) };
    let failure = house.ask(named()).await.unwrap_err();
    assert_eq!((failure.code, house.spent().await), (ErrorCode::UpstreamFailed, 0));
    let (left, right) = both(house.ask(named()), house.ask(named())).await;
    let answers = [left, right];
    for answer in &answers {
        match answer {
            Ok(answer) => assert_eq!(answer.text, "said"),
            Err(failure) => assert_eq!(failure.code, ErrorCode::IdempotencyInProgress),
        }
    }
    assert!(answers.iter().any(Result::is_ok));
    assert_eq!((house.spent().await, upstream.requests().len()), (billed(), 2));
    assert!(house.ask(named()).await.unwrap().is_replay);
    house.close().await;
}

#[actix::test]
async fn the_sandbox_answers_and_is_billed_too() {
    let upstream = Upstream::start([]);
    let house = House::open(&upstream, CREDIT).await;
    assert!(house.flows.is_sandbox(&house.caller, Some("sandbox")).unwrap());
    assert!(!house.flows.is_sandbox(&house.caller, None).unwrap());
    let answer = house.ask(call(Some("sandbox"))).await.unwrap();
    assert!(answer.text.contains("sandbox"), "{}", answer.text);
    assert!(answer.cost.0 > 0 && house.spent().await == answer.cost.0, "{answer:?}");
    let again = house.ask(LlmCall { max_tokens: 2, ..call(Some("sandbox")) }).await.unwrap();
    assert!(again.is_cut && answer.text.starts_with(&again.text), "{}", again.text);
    let shown = format!("{answer:?} {:?}", call(None));
    assert!(!shown.contains("sandbox") && !shown.contains("Three"), "{shown}");
    house.close().await;
}

#[actix::test]
async fn what_can_not_be_paid_or_is_not_allowed_is_not_asked() {
    let upstream = Upstream::start([]);
    let mut house = House::open(&upstream, 1).await;
    let refused = |answer: Result<LlmAnswer, Failure>| answer.unwrap_err().code;
    assert_eq!(refused(house.ask(call(None)).await), ErrorCode::InsufficientCredits);
    assert_eq!(refused(house.ask(call(Some("no-such-model"))).await), ErrorCode::UnsupportedModel);
    house.caller.allowed_models = Some(vec![ANTHROPIC_MODEL.to_owned()]);
    assert_eq!(refused(house.ask(call(None)).await), ErrorCode::ModelNotAllowed);
    let empty: Value = house.flows.platform().balance(&house.caller).await.unwrap();
    assert_eq!(nanousd(&empty["reserved_usd"]), 0, "{empty}");
    house.close().await;
}
