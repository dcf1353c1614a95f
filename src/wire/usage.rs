//! Providers' usage objects, normalised to disjoint buckets, and the rules of plausibility.
//!
//! A figure that can't be true (negative, fractional, a part above its whole, more than the
//! model's context holds) makes the whole object count as absent: a wrong bill is worse than a
//! counted one.

use serde_json::value::RawValue;

use crate::domain::Usage;

use super::raw::RawObject;

/// A usage object that can't be true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Implausible;

type Reading<T> = Result<T, Implausible>;

fn count(object: &RawObject<'_>, key: &str) -> Reading<Option<u64>> {
    match object.get(key) {
        None => Ok(None),
        Some(value) => value.get().parse().map(Some).map_err(|_| Implausible),
    }
}

fn nested<'a>(object: &RawObject<'a>, key: &str) -> Reading<RawObject<'a>> {
    match object.get(key) {
        None => Ok(RawObject::default()),
        Some(value) => RawObject::parse(value.get()).map_err(|_| Implausible),
    }
}

/// Reads OpenAI's form: prompt tokens include cached and cache-written ones, completion tokens
/// include reasoning. `input_tokens`/`output_tokens` are not read here.
pub(crate) fn read_openai(usage: &RawValue, context_tokens_max: u64) -> Reading<Usage> {
    let object = RawObject::parse(usage.get()).map_err(|_| Implausible)?;
    let prompt = count(&object, "prompt_tokens")?.ok_or(Implausible)?;
    let completion = count(&object, "completion_tokens")?.ok_or(Implausible)?;
    let prompt_details = nested(&object, "prompt_tokens_details")?;
    let cached = count(&prompt_details, "cached_tokens")?.unwrap_or(0);
    let written = count(&prompt_details, "cache_write_tokens")?.unwrap_or(0);
    let details = nested(&object, "completion_tokens_details")?;
    let reasoning = count(&details, "reasoning_tokens")?.unwrap_or(0);
    let cache = cached.checked_add(written).ok_or(Implausible)?;
    let usage = Usage {
        input_uncached: prompt.checked_sub(cache).ok_or(Implausible)?,
        cache_read: cached,
        cache_write_5m: written,
        cache_write_1h: 0,
        output_text: completion.checked_sub(reasoning).ok_or(Implausible)?,
        reasoning,
    };
    within(usage, context_tokens_max)
}

/// Reads the usage of OpenAI's embeddings, which is input alone: `prompt_tokens`, else
/// `total_tokens`.
pub(crate) fn read_embeddings(usage: &RawValue, input_tokens_max: u64) -> Reading<Usage> {
    let object = RawObject::parse(usage.get()).map_err(|_| Implausible)?;
    let told = match count(&object, "prompt_tokens")? {
        Some(tokens) => Some(tokens),
        None => count(&object, "total_tokens")?,
    };
    let usage = Usage { input_uncached: told.ok_or(Implausible)?, ..Usage::default() };
    within(usage, input_tokens_max)
}

/// Anthropic's figures so far: `message_start` gives all, each `message_delta` replaces those it
/// names (its counts are cumulative).
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct AnthropicUsage {
    input: u64,
    /// Whether any object named `input_tokens`: without, a bill would give the input away.
    input_told: bool,
    cache_read: u64,
    cache_creation: u64,
    /// Part of `cache_creation` that lives an hour.
    cache_creation_1h: u64,
    output: u64,
    thinking: u64,
}

impl AnthropicUsage {
    /// Takes over the fields that `usage` names.
    pub(crate) fn merge(&mut self, usage: &RawValue) -> Reading<()> {
        let object = RawObject::parse(usage.get()).map_err(|_| Implausible)?;
        let take = |key: &str, field: &mut u64| -> Reading<()> {
            if let Some(value) = count(&object, key)? {
                *field = value;
            }
            Ok(())
        };
        take("input_tokens", &mut self.input)?;
        take("cache_read_input_tokens", &mut self.cache_read)?;
        take("cache_creation_input_tokens", &mut self.cache_creation)?;
        take("output_tokens", &mut self.output)?;
        self.input_told |= object.get("input_tokens").is_some();
        let creation = nested(&object, "cache_creation")?;
        if let Some(tokens) = count(&creation, "ephemeral_1h_input_tokens")? {
            self.cache_creation_1h = tokens;
        }
        let details = nested(&object, "output_tokens_details")?;
        if let Some(tokens) = count(&details, "thinking_tokens")? {
            self.thinking = tokens;
        }
        Ok(())
    }

    /// The disjoint buckets; `None` while the input has not been told.
    pub(crate) fn normalised(&self, context_tokens_max: u64) -> Reading<Option<Usage>> {
        let usage = Usage {
            input_uncached: self.input,
            cache_read: self.cache_read,
            cache_write_5m: self
                .cache_creation
                .checked_sub(self.cache_creation_1h)
                .ok_or(Implausible)?,
            cache_write_1h: self.cache_creation_1h,
            output_text: self.output.checked_sub(self.thinking).ok_or(Implausible)?,
            reasoning: self.thinking,
        };
        within(usage, context_tokens_max).map(|usage| self.input_told.then_some(usage))
    }
}

fn within(usage: Usage, context_tokens_max: u64) -> Reading<Usage> {
    let total = usage.input_total().saturating_add(usage.output_total());
    if total > context_tokens_max { Err(Implausible) } else { Ok(usage) }
}

/// OpenAI's usage object of normalised figures, with `extra` fields at its end.
pub(crate) fn openai_object(usage: &Usage, extra: &[(&str, &RawValue)]) -> String {
    use std::fmt::Write as _;
    let prompt = usage.input_total();
    let completion = usage.output_total();
    let written = usage.cache_write_5m.saturating_add(usage.cache_write_1h);
    let mut out = format!(
        "{{\"prompt_tokens\":{prompt},\"completion_tokens\":{completion},\"total_tokens\":{},\
         \"prompt_tokens_details\":{{\"cached_tokens\":{},\"cache_write_tokens\":{written}}},\
         \"completion_tokens_details\":{{\"reasoning_tokens\":{}}}",
        prompt.saturating_add(completion),
        usage.cache_read,
        usage.reasoning,
    );
    for (key, value) in extra {
        let _ = write!(out, ",{}:{}", super::raw::json_string(key), value.get());
    }
    out.push('}');
    out
}
