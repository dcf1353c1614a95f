//! Bills computed by hand: tokens × price × (1 + markup), rounded up once to a nano-USD, by a
//! formula of the test's own. What the client is told, what the ledger says and what the balance
//! fell by must be that number.

use serde_json::{Value, json};

use crate::{
    kit::{CREDIT_NANOUSD, Stage, chat, nanousd, with},
    postgres,
    support::{
        http::Fetched,
        ledger::{BASIS_PROVIDER, SETTLED},
        replies::{anthropic, openai},
        server::{Builder, TestServer},
        upstream::{Exchange, Upstream},
    },
};

/// Prices in millionths of a USD per million tokens (which is pico-USD per token), chosen so that
/// no product of the tests is round.
#[derive(Debug, Clone, Copy)]
struct Prices {
    input: i128,
    cache_read: i128,
    write_5m: i128,
    write_1h: i128,
    output: i128,
}

const GPT: Prices = Prices {
    input: 2_500_001,
    cache_read: 312_503,
    write_5m: 3_125_007,
    write_1h: 3_125_007,
    output: 10_000_019,
};
const CLAUDE: Prices = Prices {
    input: 3_000_017,
    cache_read: 300_007,
    write_5m: 3_750_011,
    write_1h: 6_000_013,
    output: 15_000_031,
};

/// Tokens of one answer, disjoint.
#[derive(Debug, Clone, Copy, Default)]
struct Tokens {
    input: i128,
    cache_read: i128,
    write_5m: i128,
    write_1h: i128,
    /// Reasoning included.
    output: i128,
}

/// The bill, nano-USD, in one fraction: pico-USD × (10,000 + markup) / 10,000,000, rounded up.
fn bill(prices: Prices, tokens: Tokens, markup_bps: i128) -> i64 {
    let pico = tokens.input * prices.input
        + tokens.cache_read * prices.cache_read
        + tokens.write_5m * prices.write_5m
        + tokens.write_1h * prices.write_1h
        + tokens.output * prices.output;
    let numerator = pico * (10_000 + markup_bps);
    let up = i128::from(numerator % 10_000_000 != 0);
    i64::try_from(numerator / 10_000_000 + up).unwrap()
}

fn usd_per_mtok(price: i128) -> String {
    format!("{}.{:06}", price / 1_000_000, price % 1_000_000)
}

fn model(id: &str, provider: &str, prices: Prices) -> String {
    format!(
        "[model.\"{id}\"]\nprovider = \"{provider}\"\ncontext_tokens_max = 200_000\n\
         output_tokens_max = 8_192\noutput_tokens_default = 1_024\ncreated = 1767225600\n\
         input_usd_per_mtok = \"{}\"\ncache_read_usd_per_mtok = \"{}\"\n\
         cache_write_5m_usd_per_mtok = \"{}\"\ncache_write_1h_usd_per_mtok = \"{}\"\n\
         output_usd_per_mtok = \"{}\"\n\n",
        usd_per_mtok(prices.input),
        usd_per_mtok(prices.cache_read),
        usd_per_mtok(prices.write_5m),
        usd_per_mtok(prices.write_1h),
        usd_per_mtok(prices.output),
    )
}

/// A server with the two models above and one that costs nothing.
#[track_caller]
fn stage(script: impl IntoIterator<Item = Exchange>, builder: Builder) -> Stage {
    let upstream = Upstream::start(script);
    let free = Prices { input: 0, cache_read: 0, write_5m: 0, write_1h: 0, output: 0 };
    let server = builder
        .with_upstream(&upstream)
        .models(&model("priced-gpt", "scripted-openai", GPT))
        .models(&model("priced-claude", "scripted-anthropic", CLAUDE))
        .models(&model("gratis", "scripted-openai", free))
        .start();
    let account = server.account();
    server.alice(&account);
    Stage { server, account, upstream }
}

/// 1,203 prompt tokens (700 cached, 101 written), 57 completion tokens (20 of them reasoning).
fn openai_usage() -> (Value, Tokens) {
    let usage = json!({
        "prompt_tokens": 1_203, "completion_tokens": 57, "total_tokens": 1_260,
        "prompt_tokens_details": {"cached_tokens": 700, "cache_write_tokens": 101},
        "completion_tokens_details": {"reasoning_tokens": 20}
    });
    (usage, Tokens { input: 402, cache_read: 700, write_5m: 101, write_1h: 0, output: 57 })
}

/// 311 fresh, 900 read, 150 written of which 50 for an hour, 43 out.
fn anthropic_usage() -> (Value, Tokens) {
    let usage = json!({
        "input_tokens": 311, "cache_read_input_tokens": 900, "cache_creation_input_tokens": 150,
        "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 50},
        "output_tokens": 43
    });
    (usage, Tokens { input: 311, cache_read: 900, write_5m: 100, write_1h: 50, output: 43 })
}

fn openai_json() -> Exchange {
    let mut body = openai::completion("counted", 1, 1);
    body["usage"] = openai_usage().0;
    Exchange::json(200, &body).path(openai::PATH).streaming(false)
}

fn openai_stream() -> Exchange {
    let mut records = openai::stream(&["coun", "ted"], 1, 1);
    let at = records.len() - 2;
    let mut chunk: Value = serde_json::from_str(records[at].trim()[6..].trim()).unwrap();
    chunk["usage"] = openai_usage().0;
    records[at] = format!("data: {chunk}\n\n");
    Exchange::sse(records).path(openai::PATH).streaming(true)
}

fn anthropic_json() -> Exchange {
    let mut body = anthropic::completion("counted", 1, 1);
    body["usage"] = anthropic_usage().0;
    Exchange::json(200, &body).path(anthropic::PATH).streaming(false)
}

fn anthropic_stream() -> Exchange {
    let usage = anthropic_usage().0;
    let mut start = usage.clone();
    start["output_tokens"] = json!(1);
    let records = anthropic::stream(&["coun", "ted"], 1, 1).into_iter().map(|record| {
        let (event, data) = record.trim().split_once("\ndata: ").unwrap();
        let mut data: Value = serde_json::from_str(data).unwrap();
        if event.ends_with("message_start") {
            data["message"]["usage"] = start.clone();
        }
        if event.ends_with("message_delta") {
            data["usage"] = json!({"output_tokens": usage["output_tokens"]});
        }
        format!("{event}\ndata: {data}\n\n")
    });
    Exchange::sse(records.collect::<Vec<_>>()).path(anthropic::PATH).streaming(true)
}

/// Path, body, prices and tokens of each billed way; models are given by their own names, so that
/// the bill does not depend on the persona (the upstream's figures decide).
fn ways() -> [(&'static str, Value, Prices, Tokens); 8] {
    let (gpt, claude) = (openai_usage().1, anthropic_usage().1);
    let cached = json!([{"role": "user", "content": [
        {"type": "text", "text": "hi", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]}]);
    let chat = |model: &str, stream: bool| {
        let extra = json!({"stream": stream, "max_tokens": 4_000, "messages": cached,
            "stream_options": if stream { json!({"include_usage": true}) } else { Value::Null }});
        with(chat(model), &extra)
    };
    let native = |stream: bool| {
        let mut body = chat("priced-claude", stream);
        body.as_object_mut().unwrap().remove("stream_options");
        body
    };
    [
        ("/v1/chat/completions", chat("alice@priced-gpt", false), GPT, gpt),
        ("/v1/chat/completions", chat("alice@priced-gpt", true), GPT, gpt),
        ("/v1/chat/completions", chat("alice@priced-claude", false), CLAUDE, claude),
        ("/v1/chat/completions", chat("alice@priced-claude", true), CLAUDE, claude),
        ("/v1/openai/chat/completions", chat("priced-gpt", false), GPT, gpt),
        ("/v1/openai/chat/completions", chat("priced-gpt", true), GPT, gpt),
        ("/v1/anthropic/messages", native(false), CLAUDE, claude),
        ("/v1/anthropic/v1/messages", native(true), CLAUDE, claude),
    ]
}

/// Cost and balance as the client was told them; `None` where the format has no place for it.
#[track_caller]
fn told(answer: &Fetched) -> Option<(i64, i64)> {
    if let Some(cost) = answer.header("x-faces-cost-usd") {
        let balance =
            answer.header("x-faces-balance-usd").expect("the balance comes with the cost");
        return Some((nanousd(&json!(cost)), nanousd(&json!(balance))));
    }
    let text = answer.text();
    let usages: Vec<Value> = text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .filter_map(|data| serde_json::from_str::<Value>(data).ok())
        .filter(|chunk| chunk["usage"].get("cost_usd").is_some())
        .map(|chunk| chunk["usage"].clone())
        .collect();
    let usage = usages.first()?;
    assert_eq!(usages.len(), 1, "one usage chunk: {text}");
    Some((nanousd(&usage["cost_usd"]), nanousd(&usage["balance_usd"])))
}

#[track_caller]
fn every_way_is_billed_to_the_nano(builder: Builder, markup_bps: i128) {
    let script = [openai_json(), openai_stream(), anthropic_json(), anthropic_stream()];
    let stage = stage(script.map(|exchange| exchange.times(2)), builder);
    let mut balance = CREDIT_NANOUSD;
    for (number, (path, body, prices, tokens)) in ways().into_iter().enumerate() {
        let answer = stage.post(path, &body);
        assert_eq!(answer.status, 200, "{path} {body}: {}", answer.text());
        let cost = bill(prices, tokens, markup_bps);
        balance -= cost;
        assert_eq!(stage.balance(), balance, "{path} {body}: the balance fell by {cost}");
        let streams_natively = path != "/v1/chat/completions" && body["stream"] == true;
        if !streams_natively {
            assert_eq!(told(&answer), Some((cost, balance)), "{path}: {}", answer.text());
        }
        let rows = stage.server.ledger().holds(&stage.account);
        let row = rows.last().expect("a hold");
        assert_eq!(rows.len(), number + 1);
        let shown = (row.state, row.cost, row.basis);
        assert_eq!(shown, (SETTLED, Some(cost), Some(BASIS_PROVIDER)), "{path}: {row:?}");
        let input = tokens.input + tokens.cache_read + tokens.write_5m + tokens.write_1h;
        assert_eq!((i128::from(row.input), i128::from(row.output)), (input, tokens.output));
        assert!(row.amount >= cost, "the hold was an upper bound: {row:?}");
    }
    stage.server.audit();
}

#[test]
fn every_way_is_billed_to_the_nano_on_sqlite() {
    every_way_is_billed_to_the_nano(TestServer::builder(), 500);
}

#[test]
fn every_way_is_billed_to_the_nano_with_another_markup() {
    every_way_is_billed_to_the_nano(TestServer::builder().env("FACES_MARKUP_BPS", "1337"), 1_337);
}

#[test]
fn every_way_is_billed_to_the_nano_without_markup() {
    every_way_is_billed_to_the_nano(TestServer::builder().env("FACES_MARKUP_BPS", "0"), 0);
}

#[test]
fn every_way_is_billed_to_the_nano_on_postgresql() {
    let cluster = match postgres::cluster() {
        Ok(cluster) => cluster,
        Err(why) => return postgres::skipped(why),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let database = runtime.block_on(cluster.create_database());
    every_way_is_billed_to_the_nano(TestServer::builder().with_postgres(&database.url), 500);
}

#[test]
fn a_free_model_leaves_a_usage_row_and_the_balance() {
    let stage =
        stage([openai_json().any_times(), openai_stream().any_times()], TestServer::builder());
    for stream in [false, true] {
        let body = with(
            chat("alice@gratis"),
            &json!({"stream": stream,
            "stream_options": if stream { json!({"include_usage": true}) } else { Value::Null }}),
        );
        let answer = stage.post("/v1/chat/completions", &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(told(&answer), Some((0, CREDIT_NANOUSD)), "{}", answer.text());
    }
    assert_eq!(stage.balance(), CREDIT_NANOUSD);
    let rows = stage.server.ledger().wait_resolved(&stage.account, 2);
    for row in rows {
        assert_eq!((row.cost, row.input, row.output), (Some(0), 1_203, 57), "{row:?}");
    }
    // Without a cent a free model still answers.
    let poor = stage.server.account_with_usd("0");
    let answer = crate::kit::json_request("POST", "/v1/chat/completions", &chat("gratis"))
        .bearer(&poor.key)
        .fetch(stage.server.address());
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn the_persona_is_paid_for_as_input_and_the_client_is_told_what_the_provider_counted() {
    let stage = stage([openai_json()], TestServer::builder());
    let answer = stage.post("/v1/chat/completions", &chat("alice@priced-gpt"));
    let usage = answer.json()["usage"].clone();
    assert_eq!(usage["prompt_tokens"], 1_203);
    assert_eq!(usage["completion_tokens"], 57);
    assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], 700);
    assert_eq!(answer.header("x-faces-model"), Some("priced-gpt"));
    assert_eq!(answer.json()["model"], "alice@priced-gpt", "the model is what the client sent");
}
