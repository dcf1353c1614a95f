//! Reads the catalog's TOML: merges, checks and converts it.
//!
//! Every mistake is a [`SetupError::Models`] that names the file, the table, the field and the
//! fix; nothing is guessed.

use std::{collections::BTreeMap, path::Path};

use serde::{Deserialize, de::DeserializeOwned};
use toml::{Table, Value};

use super::{HiddenReasoning, ModelKind, SetupError, endpoint::check_base_url};
use crate::wire::openai_chat::TokensField;
use crate::{
    domain::{NanoUsd, TokenPrices},
    wire::UpstreamFormat,
};

const EMBEDDED: &str = include_str!("models.toml");
const EMBEDDED_NAME: &str = "the embedded catalog";
/// Longest id, alias or provider name, bytes (they stand in headers, rows and logs).
const NAME_BYTES_MAX: usize = 200;
/// Where a list price ends to be plausible: a million USD per million tokens.
const PRICE_NANOUSD_MAX: i64 = 1_000_000_000_000_000;
/// Longest vector of an embeddings model: far above any (3,072 is usual at most). What is kept of a
/// call has at most 24 bytes for each of its values.
const DIMENSIONS_MAX: u32 = 8_192;
/// Largest token count of a model: far above any, and safe to multiply with any price.
const TOKENS_MAX: u64 = 1_000_000_000;

/// A provider as the file describes it.
#[derive(Debug)]
pub(super) struct ProviderSpec {
    pub(super) format: UpstreamFormat,
    pub(super) base_url: String,
    pub(super) key_env: Option<String>,
    pub(super) cancel_stops_billing: bool,
    pub(super) sandbox: bool,
}

/// A model as the file describes it, checked.
#[derive(Debug)]
pub(super) struct ModelSpec {
    pub(super) raw: RawModel,
    pub(super) kind: ModelKind,
    pub(super) prices: TokenPrices,
    pub(super) tokens_field: TokensField,
    pub(super) hidden_reasoning: HiddenReasoning,
    pub(super) output_tokens_max: u64,
    pub(super) output_tokens_default: u64,
}

/// Everything that the embedded catalog and the user's file say together.
#[derive(Debug)]
pub(super) struct Specs {
    pub(super) providers: BTreeMap<String, ProviderSpec>,
    pub(super) models: BTreeMap<String, ModelSpec>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawProvider {
    kind: Option<String>,
    format: Option<String>,
    base_url: Option<String>,
    key_env: Option<String>,
    #[serde(default)]
    cancel_stops_billing: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawModel {
    pub(super) provider: String,
    kind: Option<String>,
    dimensions: Option<u32>,
    pub(super) upstream_id: Option<String>,
    pub(super) display_name: Option<String>,
    #[serde(default)]
    pub(super) aliases: Vec<String>,
    #[serde(default)]
    pub(super) created: i64,
    pub(super) context_tokens_max: u64,
    output_tokens_max: Option<u64>,
    output_tokens_default: Option<u64>,
    #[serde(default = "image_tokens_default")]
    pub(super) image_tokens_max: u64,
    input_usd_per_mtok: String,
    cache_read_usd_per_mtok: Option<String>,
    cache_write_5m_usd_per_mtok: Option<String>,
    cache_write_1h_usd_per_mtok: Option<String>,
    output_usd_per_mtok: Option<String>,
    tokens_field: Option<String>,
    hidden_reasoning: Option<String>,
    #[serde(default = "yes")]
    pub(super) accepts_sampling: bool,
    #[serde(default)]
    pub(super) adaptive_thinking: bool,
    #[serde(default)]
    pub(super) native_structured_output: bool,
    #[serde(default = "yes")]
    pub(super) accepts_forced_tool_choice: bool,
    #[serde(default)]
    pub(super) accepts_mid_system: bool,
}

const fn yes() -> bool {
    true
}

/// High enough for the tiled images of most open models.
const fn image_tokens_default() -> u64 {
    2_000
}

/// Reads the embedded catalog and lays `models_file` over it (or puts it in its place).
///
/// # Errors
/// [`SetupError::Read`] and [`SetupError::Models`].
pub(super) fn read(models_file: Option<&Path>) -> Result<Specs, SetupError> {
    let embedded = parse(EMBEDDED_NAME, EMBEDDED)?;
    let Some(path) = models_file else {
        return check(EMBEDDED_NAME, embedded);
    };
    let text = std::fs::read_to_string(path)
        .map_err(|source| SetupError::Read { path: path.to_owned(), source })?;
    read_over(embedded, &format!("FACES_MODELS_FILE {}", path.display()), &text)
}

fn read_over(embedded: Table, file: &str, text: &str) -> Result<Specs, SetupError> {
    let mut own = parse(file, text)?;
    let tables = match own.remove("mode") {
        None => merge(embedded, own),
        Some(Value::String(mode)) if mode == "extend" => merge(embedded, own),
        Some(Value::String(mode)) if mode == "replace" => own,
        Some(_) => {
            return Err(wrong(file, "mode", "write mode = \"extend\" or mode = \"replace\""));
        }
    };
    check(file, tables)
}

fn parse(file: &str, text: &str) -> Result<Table, SetupError> {
    text.parse::<Table>().map_err(|error| {
        wrong(file, "TOML", format!("mend the syntax: {}", error.to_string().trim_end()))
    })
}

/// Lays `over`'s tables over `base`'s, field by field, two levels deep (`provider.NAME.field`).
fn merge(mut base: Table, over: Table) -> Table {
    for (section, tables) in over {
        match (base.get_mut(&section), tables) {
            (Some(Value::Table(known)), Value::Table(tables)) => {
                for (name, value) in tables {
                    match (known.get_mut(&name), value) {
                        (Some(Value::Table(fields)), Value::Table(own)) => fields.extend(own),
                        (_, value) => {
                            known.insert(name, value);
                        }
                    }
                }
            }
            (_, tables) => {
                base.insert(section, tables);
            }
        }
    }
    base
}

fn check(file: &str, mut tables: Table) -> Result<Specs, SetupError> {
    let providers = section(file, &mut tables, "provider")?;
    let models = section(file, &mut tables, "model")?;
    if let Some(unknown) = tables.keys().next() {
        let fix = "unknown; a models file has `mode`, [provider.NAME] and [model.\"ID\"]";
        return Err(wrong(file, unknown, fix));
    }
    let mut specs = Specs { providers: BTreeMap::new(), models: BTreeMap::new() };
    for (name, value) in providers {
        let place = format!("[provider.{name}]");
        check_name(file, &place, &name)?;
        let spec = provider_spec(file, &place, fields(file, &place, value)?)?;
        specs.providers.insert(name, spec);
    }
    for (id, value) in models {
        let place = format!("[model.\"{id}\"]");
        check_name(file, &place, &id)?;
        check_price_types(file, &place, &value)?;
        let spec = model_spec(file, &place, fields(file, &place, value)?)?;
        if !specs.providers.contains_key(&spec.raw.provider) {
            let known: Vec<&str> = specs.providers.keys().map(String::as_str).collect();
            let problem = format!(
                "there is no [provider.{}]; add it, or use one of: {}",
                spec.raw.provider,
                known.join(", ")
            );
            return Err(wrong(file, format!("{place} provider"), problem));
        }
        check_endpoint(file, &place, &spec, &specs.providers)?;
        specs.models.insert(id, spec);
    }
    check_aliases(file, &specs)?;
    Ok(specs)
}

/// Anthropic and the sandbox make no embeddings.
fn check_endpoint(
    file: &str,
    place: &str,
    model: &ModelSpec,
    providers: &BTreeMap<String, ProviderSpec>,
) -> Result<(), SetupError> {
    let provider = providers.get(&model.raw.provider);
    let has_endpoint =
        provider.is_some_and(|it| it.format == UpstreamFormat::OpenAiChat && !it.sandbox);
    if model.kind == ModelKind::Chat || has_endpoint {
        return Ok(());
    }
    let problem = format!(
        "`{}` has no endpoint for embeddings; name a provider of format \"openai\"",
        model.raw.provider
    );
    Err(wrong(file, format!("{place} provider"), problem))
}

fn section(file: &str, tables: &mut Table, name: &str) -> Result<Table, SetupError> {
    match tables.remove(name) {
        None => Ok(Table::new()),
        Some(Value::Table(section)) => Ok(section),
        Some(_) => {
            let problem = format!("this must be tables: write [{name}.\"a-name\"]");
            Err(wrong(file, name, problem))
        }
    }
}

fn fields<T: DeserializeOwned>(file: &str, place: &str, value: Value) -> Result<T, SetupError> {
    value.try_into().map_err(|error: toml::de::Error| wrong(file, place, one_line(&error)))
}

fn one_line(error: &toml::de::Error) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

fn check_name(file: &str, place: &str, name: &str) -> Result<(), SetupError> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(wrong(file, place, format!("a name has 1 to {NAME_BYTES_MAX} bytes")));
    }
    if name.contains('@') || name.chars().any(|c| c.is_whitespace() || c.is_control()) {
        let problem = "a name holds no `@` (it parts face and model), no space and no control \
                       character; use another id and say `upstream_id = \"…\"`";
        return Err(wrong(file, place, problem));
    }
    Ok(())
}

fn provider_spec(file: &str, place: &str, raw: RawProvider) -> Result<ProviderSpec, SetupError> {
    let sandbox = match raw.kind.as_deref() {
        None | Some("http") => false,
        Some("sandbox") => true,
        Some(_) => {
            let problem = "write kind = \"http\" or kind = \"sandbox\"";
            return Err(wrong(file, format!("{place} kind"), problem));
        }
    };
    let format = match raw.format.as_deref() {
        None | Some("openai") => UpstreamFormat::OpenAiChat,
        Some("anthropic") if !sandbox => UpstreamFormat::AnthropicMessages,
        Some(_) if sandbox => {
            let problem = "the sandbox speaks only \"openai\"; leave it out";
            return Err(wrong(file, format!("{place} format"), problem));
        }
        Some(_) => {
            let problem = "write format = \"openai\" or format = \"anthropic\"";
            return Err(wrong(file, format!("{place} format"), problem));
        }
    };
    let base_url = match (raw.base_url, sandbox) {
        (None, true) => String::new(),
        (Some(_), true) => {
            let problem = "the sandbox has no URL; leave it out";
            return Err(wrong(file, format!("{place} base_url"), problem));
        }
        (None, false) => {
            let problem = "missing; write base_url = \"http://127.0.0.1:11434/v1\"";
            return Err(wrong(file, format!("{place} base_url"), problem));
        }
        (Some(url), false) => {
            check_base_url(&url)
                .map_err(|problem| wrong(file, format!("{place} base_url"), problem))?;
            url
        }
    };
    if raw.key_env.as_deref().is_some_and(|name| name.is_empty() || name.contains(['=', '\0'])) {
        let problem = "name an environment variable, or leave key_env out when no key is needed";
        return Err(wrong(file, format!("{place} key_env"), problem));
    }
    Ok(ProviderSpec {
        format,
        base_url,
        key_env: raw.key_env,
        cancel_stops_billing: raw.cancel_stops_billing,
        sandbox,
    })
}

fn model_spec(file: &str, place: &str, raw: RawModel) -> Result<ModelSpec, SetupError> {
    let positive = |field: &str, tokens: u64| {
        if (1..=TOKENS_MAX).contains(&tokens) {
            return Ok(());
        }
        let problem = format!("{tokens} is out of range; write 1 to {TOKENS_MAX}");
        Err(wrong(file, format!("{place} {field}"), problem))
    };
    positive("context_tokens_max", raw.context_tokens_max)?;
    if raw.image_tokens_max > TOKENS_MAX {
        positive("image_tokens_max", raw.image_tokens_max)?;
    }
    let kind = model_kind(file, place, &raw)?;
    let (output_tokens_max, output_tokens_default) = match (kind, raw.output_tokens_max) {
        (ModelKind::Embeddings { .. }, _) => (0, 0),
        (ModelKind::Chat, None) => {
            return Err(wrong(file, place, "missing field `output_tokens_max`"));
        }
        (ModelKind::Chat, Some(most)) => {
            let default = raw.output_tokens_default.unwrap_or_else(|| most.min(4_096));
            positive("output_tokens_max", most)?;
            positive("output_tokens_default", default)?;
            (most, default)
        }
    };
    if output_tokens_max > raw.context_tokens_max {
        let problem = "an answer can't be longer than the context; lower it";
        return Err(wrong(file, format!("{place} output_tokens_max"), problem));
    }
    if output_tokens_default > output_tokens_max {
        let problem = "it is above output_tokens_max; lower it";
        return Err(wrong(file, format!("{place} output_tokens_default"), problem));
    }
    if raw.upstream_id.as_deref() == Some("") {
        let problem = "empty; leave it out when the provider uses the same name";
        return Err(wrong(file, format!("{place} upstream_id"), problem));
    }
    let tokens_field = match raw.tokens_field.as_deref() {
        None | Some("max_tokens") => TokensField::MaxTokens,
        Some("max_completion_tokens") => TokensField::MaxCompletionTokens,
        Some(_) => {
            let problem = "write \"max_tokens\" or \"max_completion_tokens\"";
            return Err(wrong(file, format!("{place} tokens_field"), problem));
        }
    };
    let hidden_reasoning = hidden_reasoning(file, place, raw.hidden_reasoning.as_deref())?;
    let prices = prices(file, place, &raw, kind)?;
    Ok(ModelSpec {
        raw,
        kind,
        prices,
        tokens_field,
        hidden_reasoning,
        output_tokens_max,
        output_tokens_default,
    })
}

fn model_kind(file: &str, place: &str, raw: &RawModel) -> Result<ModelKind, SetupError> {
    let refuse =
        |field: &str, problem: String| Err(wrong(file, format!("{place} {field}"), problem));
    match (raw.kind.as_deref(), raw.dimensions) {
        (None | Some("chat"), None) => Ok(ModelKind::Chat),
        (None | Some("chat"), Some(_)) => {
            refuse("dimensions", "only kind = \"embeddings\" has them; leave it out".to_owned())
        }
        (Some("embeddings"), Some(dimensions)) if (1..=DIMENSIONS_MAX).contains(&dimensions) => {
            let outputs = [
                ("output_tokens_max", raw.output_tokens_max.is_some()),
                ("output_tokens_default", raw.output_tokens_default.is_some()),
                ("output_usd_per_mtok", raw.output_usd_per_mtok.is_some()),
            ];
            match outputs.iter().find(|(_, is_given)| *is_given) {
                Some((field, _)) => {
                    refuse(field, "embeddings have no output tokens; leave it out".to_owned())
                }
                None => Ok(ModelKind::Embeddings { dimensions }),
            }
        }
        (Some("embeddings"), _) => {
            let problem = format!("say how many values a vector has, 1 to {DIMENSIONS_MAX}");
            refuse("dimensions", problem)
        }
        (Some(_), _) => refuse("kind", "write kind = \"chat\" or kind = \"embeddings\"".to_owned()),
    }
}

fn hidden_reasoning(
    file: &str,
    place: &str,
    word: Option<&str>,
) -> Result<HiddenReasoning, SetupError> {
    match word {
        None | Some("never") => Ok(HiddenReasoning::Never),
        Some("when_asked") => Ok(HiddenReasoning::WhenAsked),
        Some("always") => Ok(HiddenReasoning::Always),
        Some(_) => {
            let problem = "write \"never\", \"when_asked\" or \"always\"";
            Err(wrong(file, format!("{place} hidden_reasoning"), problem))
        }
    }
}

/// A bucket without a price of its own costs what it falls back to: cached input and 5-minute
/// writes the plain input price, 1-hour writes the 5-minute price.
fn prices(
    file: &str,
    place: &str,
    raw: &RawModel,
    kind: ModelKind,
) -> Result<TokenPrices, SetupError> {
    let price = |field: &str, text: &str| {
        pico_per_token(text).map_err(|problem| wrong(file, format!("{place} {field}"), problem))
    };
    let optional = |field: &str, text: Option<&String>, fallback: i64| {
        text.map_or(Ok(fallback), |text| price(field, text))
    };
    let input_pico = price("input_usd_per_mtok", &raw.input_usd_per_mtok)?;
    let cache_read = raw.cache_read_usd_per_mtok.as_ref();
    let write_5m = raw.cache_write_5m_usd_per_mtok.as_ref();
    let write_1h = raw.cache_write_1h_usd_per_mtok.as_ref();
    let cache_write_5m_pico = optional("cache_write_5m_usd_per_mtok", write_5m, input_pico)?;
    Ok(TokenPrices {
        input_pico,
        cache_read_pico: optional("cache_read_usd_per_mtok", cache_read, input_pico)?,
        cache_write_5m_pico,
        cache_write_1h_pico: optional(
            "cache_write_1h_usd_per_mtok",
            write_1h,
            cache_write_5m_pico,
        )?,
        output_pico: match (kind, &raw.output_usd_per_mtok) {
            (ModelKind::Embeddings { .. }, _) => 0,
            (ModelKind::Chat, Some(text)) => price("output_usd_per_mtok", text)?,
            (ModelKind::Chat, None) => {
                return Err(wrong(file, place, "missing field `output_usd_per_mtok`"));
            }
        },
    })
}

/// USD per million tokens → pico-USD per token, exactly: 1 USD per million is 1,000,000 pico.
pub(super) fn pico_per_token(text: &str) -> Result<i64, String> {
    let amount: NanoUsd = text.parse().map_err(|error| format!("{error}"))?;
    if amount.is_negative() || amount.0 > PRICE_NANOUSD_MAX {
        return Err(format!("`{text}` is out of range; write 0 to 1000000"));
    }
    if amount.0 % 1_000 != 0 {
        return Err(format!("`{text}` has more than 6 decimal places; prices are kept exactly"));
    }
    Ok(amount.0 / 1_000)
}

/// A bare number would pass through a float; the message tells the fix.
fn check_price_types(file: &str, place: &str, value: &Value) -> Result<(), SetupError> {
    let Value::Table(fields) = value else {
        return Ok(());
    };
    for (name, value) in fields {
        if name.ends_with("_usd_per_mtok") && !value.is_str() {
            let problem = "a price is a decimal string such as \"0.15\" (a bare number is not \
                           exact); put it in quotes";
            return Err(wrong(file, format!("{place} {name}"), problem));
        }
    }
    Ok(())
}

fn check_aliases(file: &str, specs: &Specs) -> Result<(), SetupError> {
    let mut owner: BTreeMap<&str, &str> = BTreeMap::new();
    for (id, spec) in &specs.models {
        let place = format!("[model.\"{id}\"] aliases");
        for alias in &spec.raw.aliases {
            check_name(file, &place, alias)?;
            if specs.models.contains_key(alias) {
                let problem = format!("`{alias}` is the id of a model; remove the alias");
                return Err(wrong(file, place, problem));
            }
            if let Some(other) = owner.insert(alias, id) {
                let problem = format!("`{alias}` is an alias of `{other}` too; remove one");
                return Err(wrong(file, place, problem));
            }
        }
    }
    Ok(())
}

fn wrong(file: &str, place: impl Into<String>, problem: impl Into<String>) -> SetupError {
    SetupError::Models { file: file.to_owned(), place: place.into(), problem: problem.into() }
}

#[cfg(test)]
pub(super) fn read_text(text: &str) -> Result<Specs, SetupError> {
    read_over(parse(EMBEDDED_NAME, EMBEDDED)?, "models.toml", text)
}
