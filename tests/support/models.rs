//! The catalog of tests: providers that are scripted upstreams, and models with known prices.

use std::fmt::Write;

use super::KEY_CANARY;

/// An OpenAI-format model of the scripted provider.
pub(crate) const OPENAI_MODEL: &str = "scripted-gpt";
/// What the OpenAI-format upstream calls it.
pub(crate) const OPENAI_UPSTREAM_ID: &str = "scripted-gpt-upstream";
/// An Anthropic-format model of the scripted provider.
pub(crate) const ANTHROPIC_MODEL: &str = "scripted-claude";
/// What the Anthropic-format upstream calls it.
pub(crate) const ANTHROPIC_UPSTREAM_ID: &str = "scripted-claude-upstream";
/// OpenAI-format; its input is free, so that a hold is exactly `max_tokens` of output.
pub(crate) const FREE_INPUT_MODEL: &str = "scripted-free-input";
/// OpenAI-format; it costs nothing.
pub(crate) const FREE_MODEL: &str = "scripted-free";
/// Price of input of the first two models, nano-USD per token (1 USD per million).
pub(crate) const INPUT_NANOUSD: i64 = 1_000;
/// Price of output of the first two models, nano-USD per token (2 USD per million).
pub(crate) const OUTPUT_NANOUSD: i64 = 2_000;
/// Price of output of [`FREE_INPUT_MODEL`], nano-USD per token (10 USD per million).
pub(crate) const FREE_INPUT_OUTPUT_NANOUSD: i64 = 10_000;
/// The server's default markup, in percent of the provider's price plus 100.
const WITH_MARKUP_PERCENT: i64 = 105;

/// Names of the key variables of all providers that tests use, scripted ones first.
pub(crate) const KEY_VARIABLES: [&str; 5] = [
    "SCRIPTED_OPENAI_KEY",
    "SCRIPTED_ANTHROPIC_KEY",
    "OPENAI_API_KEY",
    "ANTHROPIC_API_KEY",
    "FIREWORKS_API_KEY",
];

/// The platform's key of a provider in tests; it carries the canary.
pub(crate) fn provider_key(variable: &str) -> String {
    format!("{KEY_CANARY}-{variable}")
}

/// What a request costs on the first two models, nano-USD: price and markup, rounded up once.
pub(crate) fn charge_nanousd(input_tokens: i64, output_tokens: i64) -> i64 {
    with_markup(input_tokens * INPUT_NANOUSD + output_tokens * OUTPUT_NANOUSD)
}

/// Adds the markup to a provider's cost in nano-USD, rounding up.
pub(crate) fn with_markup(provider_nanousd: i64) -> i64 {
    (provider_nanousd * WITH_MARKUP_PERCENT + 99) / 100
}

/// An exact decimal number of USD.
pub(crate) fn usd(nanousd: i64) -> String {
    format!("{}.{:09}", nanousd / 1_000_000_000, nanousd % 1_000_000_000)
}

/// The models file: the scripted providers and models, and the embedded catalog's providers with
/// their base URLs turned to the same upstream.
pub(crate) fn models_toml(upstream_url: &str) -> String {
    let mut text = String::new();
    provider(&mut text, "scripted-openai", "openai", &format!("{upstream_url}/v1"), 0);
    provider(&mut text, "scripted-anthropic", "anthropic", upstream_url, 1);
    provider(&mut text, "openai", "openai", &format!("{upstream_url}/v1"), 2);
    provider(&mut text, "anthropic", "anthropic", upstream_url, 3);
    provider(&mut text, "fireworks", "openai", &format!("{upstream_url}/v1"), 4);
    model(&mut text, OPENAI_MODEL, "scripted-openai", OPENAI_UPSTREAM_ID, ("1.00", "2.00"));
    model(
        &mut text,
        ANTHROPIC_MODEL,
        "scripted-anthropic",
        ANTHROPIC_UPSTREAM_ID,
        ("1.00", "2.00"),
    );
    model(
        &mut text,
        FREE_INPUT_MODEL,
        "scripted-openai",
        "scripted-free-input-upstream",
        ("0", "10.00"),
    );
    model(&mut text, FREE_MODEL, "scripted-openai", "scripted-free-upstream", ("0", "0"));
    text
}

fn provider(text: &mut String, name: &str, format: &str, base_url: &str, key: usize) {
    let key_env = KEY_VARIABLES[key];
    write!(
        text,
        "[provider.{name}]\nformat = \"{format}\"\nbase_url = \"{base_url}\"\n\
         key_env = \"{key_env}\"\ncancel_stops_billing = true\n\n"
    )
    .expect("a string takes text");
}

fn model(text: &mut String, id: &str, provider: &str, upstream_id: &str, prices: (&str, &str)) {
    let (input, output) = prices;
    write!(
        text,
        "[model.\"{id}\"]\nprovider = \"{provider}\"\nupstream_id = \"{upstream_id}\"\n\
         display_name = \"{id}\"\ncreated = 1767225600\ncontext_tokens_max = 100_000\n\
         output_tokens_max = 4_096\noutput_tokens_default = 1_024\n\
         input_usd_per_mtok = \"{input}\"\noutput_usd_per_mtok = \"{output}\"\n\
         native_structured_output = true\naccepts_mid_system = true\n\n"
    )
    .expect("a string takes text");
}
