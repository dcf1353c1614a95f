//! Our own chat answers, read to be told in another format.
//!
//! What is read here was written by [`super::completion`] and [`super::ChatStream`], so it is whole
//! and has an id; its content is still the provider's, so every field may be of any type, and what
//! is not of its type counts as absent.

use std::{borrow::Cow, collections::BTreeMap};

use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use crate::domain::{ErrorCode, Usage};

use super::{
    FinishReason, UpstreamFault,
    raw::{self, RawObject, Text},
    usage,
};

/// A whole answer's first choice.
pub(super) struct Answer<'a> {
    pub(super) id: Cow<'a, str>,
    pub(super) created: i64,
    pub(super) message: RawObject<'a>,
    pub(super) finish: FinishReason,
}

/// Reads a `chat.completion`.
pub(super) fn read(body: &[u8]) -> Result<Answer<'_>, UpstreamFault> {
    #[derive(Deserialize)]
    struct Body<'a> {
        #[serde(borrow)]
        choices: Vec<Choice<'a>>,
    }
    #[derive(Deserialize)]
    struct Choice<'a> {
        #[serde(borrow, default)]
        message: Option<RawObject<'a>>,
        #[serde(borrow, default)]
        finish_reason: Option<Text<'a>>,
    }
    let malformed = || UpstreamFault::Malformed { detail: "the answer has no message" };
    let text = std::str::from_utf8(body).map_err(|_| malformed())?;
    let head = RawObject::parse(text).map_err(|_| malformed())?;
    let body: Body<'_> = serde_json::from_str(text).map_err(|_| malformed())?;
    let choice = body.choices.into_iter().next().ok_or_else(malformed)?;
    let word = choice.finish_reason;
    Ok(Answer {
        id: head.text("id").unwrap_or_default(),
        created: created(head.get("created")),
        message: choice.message.ok_or_else(malformed)?,
        finish: word.map_or(FinishReason::Stop, |word| FinishReason::from_openai(&word.0)),
    })
}

impl<'a> Answer<'a> {
    /// A text field of the message, when it is filled.
    pub(super) fn text(&self, name: &str) -> Option<Cow<'a, str>> {
        self.message.text(name).filter(|text| !text.is_empty())
    }

    /// The thoughts, under either of their names.
    pub(super) fn reasoning(&self) -> Option<Cow<'a, str>> {
        self.text("reasoning_content").or_else(|| self.text("reasoning"))
    }

    /// The calls of functions.
    pub(super) fn calls(&self) -> Vec<CallDelta<'a>> {
        self.message.get("tool_calls").map(calls).unwrap_or_default()
    }
}

/// A chunk of a stream.
#[derive(Deserialize)]
pub(super) struct Chunk<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    created: Option<&'a RawValue>,
    #[serde(borrow, default)]
    choices: Option<Vec<ChunkChoice<'a>>>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct ChunkChoice<'a> {
    #[serde(default)]
    index: Option<u64>,
    #[serde(borrow, default)]
    delta: Option<Delta<'a>>,
    #[serde(borrow, default)]
    finish_reason: Option<Text<'a>>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
struct Delta<'a> {
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    refusal: Option<&'a RawValue>,
    #[serde(borrow, default)]
    reasoning_content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    reasoning: Option<&'a RawValue>,
    #[serde(borrow, default)]
    tool_calls: Option<&'a RawValue>,
}

/// A piece of a call, or a whole one.
#[derive(Deserialize)]
pub(super) struct CallDelta<'a> {
    #[serde(default)]
    index: Option<u64>,
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    function: Option<Function<'a>>,
}

#[derive(Deserialize)]
struct Function<'a> {
    #[serde(borrow, default)]
    name: Option<&'a RawValue>,
    #[serde(borrow, default)]
    arguments: Option<&'a RawValue>,
}

/// What a chunk says of the first choice, in the order in which it is told.
pub(super) enum Said<'a> {
    /// A piece of thought: a JSON string, not empty, as the others.
    Reasoning(&'a RawValue),
    /// A piece of text.
    Text(&'a RawValue),
    /// A piece of a refusal.
    Refusal(&'a RawValue),
    /// A piece of a call.
    Call(CallDelta<'a>),
    /// Why it ended.
    Finish(FinishReason),
    /// It ended because its credit did; the words for the client.
    Exhausted(Cow<'a, str>),
}

impl<'a> Chunk<'a> {
    /// Reads a chunk; `None` when it is none.
    pub(super) fn read(json: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }

    pub(super) fn id(&self) -> Cow<'a, str> {
        self.id.and_then(raw::text).unwrap_or_default()
    }

    pub(super) fn created(&self) -> i64 {
        created(self.created)
    }

    /// Whether it is the chunk that tells the usage; and the usage with the money in it.
    pub(super) fn usage(&self) -> Option<(Usage, Vec<(String, Value)>)> {
        let told = self.usage.filter(|usage| raw::starts_with(usage, b'{'))?;
        let usage = usage::read_openai(told, u64::MAX).unwrap_or_default();
        let object = RawObject::parse(told.get()).ok()?;
        let money = ["cost_usd", "balance_usd"].into_iter().filter_map(|name| {
            let value = object.get(name)?;
            Some((name.to_owned(), serde_json::from_str(value.get()).ok()?))
        });
        Some((usage, money.collect()))
    }

    /// What it says of the first choice.
    pub(super) fn said(self) -> Vec<Said<'a>> {
        let mut out = Vec::with_capacity(1);
        let choices = self.choices.into_iter().flatten();
        for choice in choices.filter(|choice| choice.index.unwrap_or(0) == 0) {
            let delta = choice.delta.unwrap_or_default();
            let reasoning = filled(delta.reasoning_content).or_else(|| filled(delta.reasoning));
            out.extend(reasoning.map(Said::Reasoning));
            out.extend(filled(delta.content).map(Said::Text));
            out.extend(filled(delta.refusal).map(Said::Refusal));
            out.extend(delta.tool_calls.map(calls).unwrap_or_default().into_iter().map(Said::Call));
            if let Some(word) = choice.finish_reason.filter(|word| !word.0.is_empty()) {
                out.push(Said::Finish(FinishReason::from_openai(&word.0)));
            }
            let error = choice.error.and_then(|error| RawObject::parse(error.get()).ok());
            if let Some(error) = error
                && error.text("code").as_deref() == Some(ErrorCode::CreditExhausted.as_str())
            {
                out.push(Said::Exhausted(error.text("message").unwrap_or_default()));
            }
        }
        out
    }
}

impl<'a> CallDelta<'a> {
    pub(super) fn id(&self) -> Option<Cow<'a, str>> {
        filled(self.id).and_then(raw::text)
    }

    pub(super) fn name(&self) -> Option<Cow<'a, str>> {
        filled(self.function.as_ref()?.name).and_then(raw::text)
    }

    /// Whether it begins a call after one of the same index: it has a name, and another id or, where
    /// nothing can follow, arguments of its own. Servers that tell the id or name again with each
    /// piece, or a new id, do neither.
    fn begins_after(&self, call: &Call) -> bool {
        if self.name().is_none() {
            return false;
        }
        let has_other_id = !call.id.is_empty() && self.id().is_some_and(|id| id != call.id);
        let has_own = || self.arguments().is_some_and(|piece| piece.get().starts_with("\"{"));
        has_other_id || (has_own() && call.is_whole())
    }

    /// A piece of the arguments: a JSON string, not empty.
    pub(super) fn arguments(&self) -> Option<&'a RawValue> {
        filled(self.function.as_ref()?.arguments)
    }
}

/// Numbers the calls of a stream as they begin. Their index tells them apart, but a few servers give
/// all calls the same one, or none.
#[derive(Debug, Default)]
pub(super) struct CallNumbers(BTreeMap<u64, u64>);

impl CallNumbers {
    /// The number of the call that a piece belongs to, a new one where it begins another than the
    /// `calls` so far.
    pub(super) fn of(&mut self, delta: &CallDelta<'_>, calls: &BTreeMap<u64, Call>) -> u64 {
        let index = delta.index.unwrap_or(0);
        if let Some(number) = self.0.get(&index)
            && !calls.get(number).is_some_and(|call| delta.begins_after(call))
        {
            return *number;
        }
        let number = u64::try_from(calls.len()).unwrap_or(u64::MAX);
        self.0.insert(index, number);
        number
    }
}

fn filled(value: Option<&RawValue>) -> Option<&RawValue> {
    value.filter(|value| raw::starts_with(value, b'"') && value.get() != "\"\"")
}

fn calls(value: &RawValue) -> Vec<CallDelta<'_>> {
    serde_json::from_str(value.get()).unwrap_or_default()
}

fn created(value: Option<&RawValue>) -> i64 {
    value.and_then(|value| value.get().parse().ok()).unwrap_or(0)
}

/// Calls of a stream by their index, gathered from their pieces.
#[derive(Debug, Default)]
pub(super) struct Call {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) arguments: String,
    /// Whether the client has seen it begin.
    pub(super) is_begun: bool,
}

impl Call {
    /// Adds a piece; says how many bytes it has grown by.
    pub(super) fn add(&mut self, delta: &CallDelta<'_>) -> usize {
        // Names come once and whole; a few servers repeat them.
        if self.id.is_empty() {
            self.id = delta.id().unwrap_or_default().into_owned();
        }
        if self.name.is_empty() {
            self.name = delta.name().unwrap_or_default().into_owned();
        }
        let piece = delta.arguments().and_then(raw::text).unwrap_or_default();
        self.arguments.push_str(&piece);
        piece.len()
    }

    /// Whether nothing can follow: its arguments are JSON from end to end.
    pub(super) fn is_whole(&self) -> bool {
        serde_json::from_str::<serde::de::IgnoredAny>(&self.arguments).is_ok()
    }

    /// The id, or one made of the answer's when the provider gave none.
    pub(super) fn id_or(&self, answer_id: &str, index: u64) -> String {
        if self.id.is_empty() { format!("call_{answer_id}_{index}") } else { self.id.clone() }
    }
}
