//! The built-in provider: answers offline by a rule, and says so.
//!
//! The rule, all of it:
//! 1. The answer says that it comes from the sandbox and that no model ran.
//! 2. It names the face: the system text's first line `You are NAME` up to `.`, `,`, `;`, `:`,
//!    `!`, `?` or `(`; without such a line no name.
//! 3. It repeats up to 3 statements of the system text that share words with the last user message
//!    (words of 3 and more letters or digits, without case and without those of any question, such
//!    as `what` and `you`; a word counts less the more statements hold it), in their order; without any, the first 2. Statements are the items of its lists
//!    (`- …`), which is where a persona's profile stands; a text without lists is taken sentence by
//!    sentence. Without a system text it repeats what the user said.
//! 4. When tools are offered it says that it calls none.
//! 5. A token is up to 4 characters of a word together with the white space before it; a message
//!    counts 4 more. `max_tokens` cuts there (`finish_reason: "length"`).
//! 6. Asked for JSON whose schema has `primitives` (compiling a text), it answers by the rules of
//!    `extract` instead.
//! 7. When the system text begins with `You are an interviewer.` it asks: the item of the system
//!    text's list whose number is that of the assistant's messages so far, and so on from the first.
//!
//! The same request gives the same text. Nothing here panics, whatever the body is.

mod extract;

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use serde_json::{Value, json};

use super::Endpoint;
use crate::domain::clock;

/// Tokens of one streamed delta: a few words.
const DELTA_TOKENS: usize = 4;
/// Characters of a word that make a token.
const TOKEN_CHARS: usize = 4;
/// Tokens that a message counts beside its text.
const MESSAGE_TOKENS: u64 = 4;
const SENTENCES_MATCHING_MAX: usize = 3;
const SENTENCES_FIRST: usize = 2;
/// Characters of a repeated sentence, of a name, of the user's words.
const SENTENCE_CHARS_MAX: usize = 400;
const NAME_CHARS_MAX: usize = 64;
/// How much of a system text and of the user's words is looked at (the sandbox shares its thread
/// with everybody's requests).
const SENTENCES_READ_MAX: usize = 2_000;
const TEXT_READ_BYTES_MAX: usize = 262_144;

/// What the instructions of an interviewer begin with (rule 7).
const INTERVIEWER_LINE: &str = "You are an interviewer.";

/// Words that say nothing of what a question is about; instructions to a persona are full of them
/// and would win over the statement that answers. In alphabetical order.
const COMMON_WORDS: [&str; 48] = [
    "about", "after", "all", "and", "any", "are", "asked", "but", "can", "could", "did", "does",
    "doing", "for", "from", "get", "had", "has", "have", "her", "his", "how", "into", "its",
    "just", "like", "not", "now", "one", "our", "out", "she", "should", "some", "tell", "that",
    "the", "their", "them", "they", "this", "was", "what", "when", "will", "with", "you", "your",
];

/// A whole response, cut into the pieces in which it is sent.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) content_type: &'static str,
    pub(super) chunks: Vec<Bytes>,
}

/// What the rule needs of a request.
#[derive(Debug, Default)]
struct Question {
    model: String,
    system: String,
    user: String,
    /// The assistant's messages.
    answers: usize,
    prompt_tokens: u64,
    tokens_max: Option<u64>,
    stream: bool,
    include_usage: bool,
    tools: bool,
}

/// Answers an OpenAI chat completion request.
pub(super) fn answer(body: &[u8], endpoint: Endpoint) -> Answer {
    if endpoint != Endpoint::ChatCompletions {
        return refuse(404, "the sandbox answers only chat completions");
    }
    let Ok(request) = serde_json::from_slice::<Value>(body) else {
        return refuse(400, "the body is not JSON");
    };
    let Some(question) = Question::read(&request) else {
        return refuse(400, "the body has no `messages`");
    };
    let text = if extract::is_asked_for(&request) {
        extract::answer(&question.user)
    } else {
        reply(&question)
    };
    let all: Vec<&str> = tokens(&text).collect();
    let allowed =
        question.tokens_max.map_or(usize::MAX, |max| usize::try_from(max).unwrap_or(usize::MAX));
    let given = all.get(..allowed).unwrap_or(&all);
    let finish = if given.len() < all.len() { "length" } else { "stop" };
    let head = Head {
        id: format!("chatcmpl-sandbox-{}", uuid::Uuid::now_v7().simple()),
        created: clock::now().seconds(),
        model: question.model.clone(),
    };
    if question.stream {
        stream(&question, &head, given, finish)
    } else {
        whole(&question, &head, given, finish)
    }
}

impl Question {
    fn read(request: &Value) -> Option<Self> {
        let mut question = Self {
            model: request["model"].as_str().unwrap_or("sandbox").to_owned(),
            tokens_max: request["max_completion_tokens"]
                .as_u64()
                .or_else(|| request["max_tokens"].as_u64()),
            stream: request["stream"].as_bool().unwrap_or_default(),
            include_usage: request["stream_options"]["include_usage"].as_bool().unwrap_or_default(),
            tools: request["tools"].as_array().is_some_and(|tools| !tools.is_empty()),
            ..Self::default()
        };
        for message in request["messages"].as_array()? {
            let text = content_text(&message["content"]);
            question.prompt_tokens = question
                .prompt_tokens
                .saturating_add(MESSAGE_TOKENS)
                .saturating_add(count_tokens(&text));
            match message["role"].as_str() {
                Some("system" | "developer") => {
                    if !question.system.is_empty() {
                        question.system.push('\n');
                    }
                    question.system.push_str(&text);
                }
                Some("user") => question.user = text,
                Some("assistant") => question.answers += 1,
                _ => {}
            }
        }
        Some(question)
    }
}

/// The text of a message: a string, or the text parts of an array.
fn content_text(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let texts: Vec<&str> = parts.iter().filter_map(|part| part["text"].as_str()).collect();
            texts.join("\n")
        }
        _ => String::new(),
    }
}

/// The answer's text (rules 1 to 4).
fn reply(question: &Question) -> String {
    if let Some(asked) = interview_question(question) {
        return format!("(Sandbox, no model ran.) {asked}");
    }
    let mut parts = Vec::with_capacity(SENTENCES_MATCHING_MAX + 2);
    parts.push(match face_name(&question.system) {
        Some(name) => {
            format!("This is the built-in sandbox speaking for {name}: no model ran.")
        }
        None => "This is the built-in sandbox: no model ran.".to_owned(),
    });
    let repeated = matching_sentences(&question.system, &question.user);
    if repeated.is_empty() {
        let words = bounded(question.user.trim(), SENTENCE_CHARS_MAX);
        parts.push(if words.is_empty() {
            "There is no persona and no question.".to_owned()
        } else {
            format!("There is no persona; you said: {words}")
        });
    } else {
        parts.push("The persona says:".to_owned());
        parts.extend(repeated);
    }
    if question.tools {
        parts.push("Tools were offered; the sandbox calls none.".to_owned());
    }
    parts.join(" ")
}

/// What an interviewer asks next (rule 7).
fn interview_question(question: &Question) -> Option<&str> {
    let system = head(&question.system);
    if !system.starts_with(INTERVIEWER_LINE) {
        return None;
    }
    let items: Vec<&str> =
        system.lines().filter_map(|line| line.trim().strip_prefix("- ")).collect();
    items.get(question.answers.checked_rem(items.len())?).copied()
}

/// `NAME` of a first line `You are NAME`.
fn face_name(system: &str) -> Option<String> {
    let line = system.lines().map(str::trim).find(|line| !line.is_empty())?;
    let rest = line.strip_prefix("You are ")?;
    let end = rest.find(['.', ',', ';', ':', '!', '?', '(']).unwrap_or(rest.len());
    let name = bounded(rest[..end].trim(), NAME_CHARS_MAX);
    (!name.is_empty()).then_some(name)
}

/// The sentences that are repeated (rule 3), in their order.
fn matching_sentences(system: &str, user: &str) -> Vec<String> {
    let sentences = statements(head(system));
    let asked: HashSet<String> = words(head(user))
        .filter(|word| COMMON_WORDS.binary_search(&word.as_str()).is_err())
        .collect();
    let shared: Vec<HashSet<String>> = sentences
        .iter()
        .map(|sentence| words(sentence).filter(|word| asked.contains(word)).collect())
        .collect();
    let mut holders: HashMap<&str, u64> = HashMap::new();
    for word in shared.iter().flatten() {
        *holders.entry(word).or_default() += 1;
    }
    // In millionths, so that equal texts rank equally on every machine.
    let rarity = |word: &String| 1_000_000 / holders.get(word.as_str()).copied().unwrap_or(1);
    let mut ranked: Vec<(u64, usize)> = shared
        .iter()
        .enumerate()
        .map(|(index, words)| (words.iter().map(rarity).sum(), index))
        .filter(|(score, _)| *score > 0)
        .collect();
    ranked.sort_by(|left, right| right.0.cmp(&left.0).then(left.1.cmp(&right.1)));
    ranked.truncate(SENTENCES_MATCHING_MAX);
    let mut chosen: Vec<usize> = ranked.into_iter().map(|(_, index)| index).collect();
    if chosen.is_empty() {
        chosen.extend(0..sentences.len().min(SENTENCES_FIRST));
    }
    chosen.sort_unstable();
    chosen
        .into_iter()
        .filter_map(|index| sentences.get(index))
        .map(|sentence| bounded(sentence, SENTENCE_CHARS_MAX))
        .collect()
}

/// The list items of a text, or its sentences when it has no list.
fn statements(text: &str) -> Vec<&str> {
    let items = text.lines().filter_map(|line| line.trim().strip_prefix("- "));
    let items: Vec<&str> = items.take(SENTENCES_READ_MAX).collect();
    if items.is_empty() { sentences(text).take(SENTENCES_READ_MAX).collect() } else { items }
}

/// Sentences end at a line's end, and after `.`, `!`, `?` before white space. List marks are left
/// out, and so is the line that names the face.
fn sentences(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .flat_map(|line| {
            let mut rest = line;
            std::iter::from_fn(move || {
                if rest.is_empty() {
                    return None;
                }
                let end = rest
                    .char_indices()
                    .zip(rest.chars().skip(1))
                    .find(|((_, mark), next)| {
                        matches!(mark, '.' | '!' | '?') && next.is_whitespace()
                    })
                    .map_or(rest.len(), |((at, mark), _)| at + mark.len_utf8());
                let (sentence, after) = rest.split_at(end);
                rest = after;
                Some(sentence)
            })
        })
        .map(|sentence| sentence.trim().trim_start_matches(['-', '*', '#', '•']).trim_start())
        .filter(|sentence| !sentence.is_empty() && !sentence.starts_with("You are "))
}

fn head(text: &str) -> &str {
    text.get(..text.floor_char_boundary(TEXT_READ_BYTES_MAX)).unwrap_or(text)
}

fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| word.chars().nth(2).is_some())
        .map(str::to_lowercase)
}

fn bounded(text: &str, chars_max: usize) -> String {
    text.chars().take(chars_max).collect()
}

/// Cuts a text into tokens (rule 5); together they are the text.
pub(super) fn tokens(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut chars = 0;
        let end = rest
            .char_indices()
            .find(|(_, c)| {
                let over = chars > 0 && (c.is_whitespace() || chars == TOKEN_CHARS);
                chars += usize::from(!c.is_whitespace());
                over
            })
            .map_or(rest.len(), |(at, _)| at);
        let (token, after) = rest.split_at(end);
        rest = after;
        Some(token)
    })
}

pub(super) fn count_tokens(text: &str) -> u64 {
    u64::try_from(tokens(text).count()).unwrap_or(u64::MAX)
}

/// What every object of a response says.
struct Head {
    id: String,
    created: i64,
    model: String,
}

fn usage(question: &Question, given: &[&str]) -> Value {
    let completion = u64::try_from(given.len()).unwrap_or(u64::MAX);
    json!({
        "prompt_tokens": question.prompt_tokens,
        "completion_tokens": completion,
        "total_tokens": question.prompt_tokens.saturating_add(completion),
    })
}

fn whole(question: &Question, head: &Head, given: &[&str], finish: &str) -> Answer {
    let body = json!({
        "id": head.id,
        "object": "chat.completion",
        "created": head.created,
        "model": head.model,
        "choices": [{
            "index": 0,
            "message": {"role": "assistant", "content": given.concat(), "refusal": null},
            "logprobs": null,
            "finish_reason": finish,
        }],
        "usage": usage(question, given),
    });
    Answer {
        status: 200,
        content_type: "application/json",
        chunks: vec![Bytes::from(body.to_string())],
    }
}

fn stream(question: &Question, head: &Head, given: &[&str], finish: &str) -> Answer {
    let event = |choices: Value, usage: Option<Value>| {
        let mut chunk = json!({
            "id": head.id,
            "object": "chat.completion.chunk",
            "created": head.created,
            "model": head.model,
            "choices": choices,
        });
        if question.include_usage {
            chunk["usage"] = usage.unwrap_or(Value::Null);
        }
        Bytes::from(format!("data: {chunk}\n\n"))
    };
    let delta = |delta: Value, finish: Option<&str>| {
        event(
            json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}]),
            None,
        )
    };
    let mut chunks = vec![delta(json!({"role": "assistant", "content": ""}), None)];
    chunks.extend(
        given.chunks(DELTA_TOKENS).map(|tokens| delta(json!({"content": tokens.concat()}), None)),
    );
    chunks.push(delta(json!({}), Some(finish)));
    if question.include_usage {
        chunks.push(event(json!([]), Some(usage(question, given))));
    }
    chunks.push(Bytes::from_static(b"data: [DONE]\n\n"));
    Answer { status: 200, content_type: "text/event-stream", chunks }
}

fn refuse(status: u16, message: &str) -> Answer {
    let body = json!({"error": {
        "message": message, "type": "invalid_request_error", "param": null, "code": null,
    }});
    Answer { status, content_type: "application/json", chunks: vec![Bytes::from(body.to_string())] }
}
