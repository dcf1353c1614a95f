//! The sandbox as a compiler: what a text says of a person, by rules and not by a model.
//!
//! The rules, all of them:
//! 1. The message names the person (`Person: NAME`), who speaks (`Perspective: …`), and gives the
//!    text after the line `Text:`.
//! 2. The text is taken paragraph by paragraph and sentence by sentence; `Mr.`, `Mrs.`, `Ms.`,
//!    `Dr.` and `St.` end no sentence. Sentences of 3 to 40 words count.
//! 3. In the first person a sentence is about the person when it has one of the words `I`, `me`,
//!    `my`, `we`, `our`; in the third person when it has a word of the name (titles apart), or one
//!    of `he`, `she`, `they`, `his`, `her`, `their`.
//! 4. It becomes a primitive as it stands: an `epsilon` when it tells of a habit (`always`,
//!    `every`, `usually`, …), else a `beta` when it tells of a liking or a value (`love`, `hate`,
//!    `want`, …), else a `delta` when it tells of thinking (`think`, `because`, `decide`, …), else
//!    an `alpha`. At most 80 of a piece.
//! 5. Facts: `live(s) in X` is `city`, `work(s) as X` is `occupation`, `N years old` is `age`,
//!    `born in YEAR` is `birth_year`; X ends before `,`, `.`, `;`, ` and `, ` with ` or ` for `.
//!
//! The same text gives the same answer, and equal sentences in two texts the same primitive.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::{head, sentences};

const PRIMITIVES_MAX: usize = 80;
const WORDS_MIN: usize = 3;
const WORDS_MAX: usize = 40;
const FACT_CHARS_MAX: usize = 80;

const TITLES: [&str; 5] = ["mr", "mrs", "ms", "dr", "st"];
const FIRST_PERSON: [&str; 5] = ["i", "me", "my", "our", "we"];
const THIRD_PERSON: [&str; 6] = ["he", "her", "his", "she", "their", "they"];
const HABITS: [&str; 14] = [
    "always",
    "daily",
    "each",
    "evening",
    "evenings",
    "every",
    "mornings",
    "never",
    "often",
    "seldom",
    "sometimes",
    "sundays",
    "usually",
    "weekly",
];
const VALUES: [&str; 22] = [
    "adore", "believe", "believes", "care", "cares", "dislike", "dislikes", "enjoy", "enjoys",
    "hate", "hates", "hope", "hopes", "like", "likes", "love", "loves", "prefer", "prefers",
    "value", "want", "wants",
];
const THOUGHTS: [&str; 14] = [
    "argue",
    "argues",
    "because",
    "consider",
    "decide",
    "decides",
    "doubt",
    "reason",
    "suppose",
    "think",
    "thinks",
    "understand",
    "wonder",
    "wonders",
];

/// Whether a request asks for the JSON that compiling reads.
pub(super) fn is_asked_for(request: &Value) -> bool {
    let schema = &request["response_format"]["json_schema"]["schema"];
    schema["properties"]["primitives"].is_object()
}

/// The answer to one piece of a text.
pub(super) fn answer(message: &str) -> String {
    let (frame, text) = message.split_once("Text:\n").unwrap_or(("", message));
    let field = |name: &str| frame.lines().find_map(|line| line.strip_prefix(name));
    let name: HashSet<String> = all_words(field("Person:").unwrap_or_default())
        .filter(|word| !TITLES.contains(&word.as_str()))
        .collect();
    let is_third = field("Perspective:").is_some_and(|value| value.trim() == "third-person");
    let is_about = |word: &String| {
        let word = word.as_str();
        if is_third {
            THIRD_PERSON.contains(&word) || name.contains(word)
        } else {
            FIRST_PERSON.contains(&word)
        }
    };
    let mut facts = Vec::new();
    let mut primitives = Vec::new();
    for sentence in whole_sentences(head(text)) {
        let words: Vec<String> = all_words(&sentence).collect();
        let counts = (WORDS_MIN..=WORDS_MAX).contains(&words.len());
        if !counts || primitives.len() == PRIMITIVES_MAX || !words.iter().any(is_about) {
            continue;
        }
        facts.extend(facts_of(&sentence));
        primitives.push(json!({"component": component(&words), "text": sentence}));
    }
    json!({"facts": facts, "primitives": primitives}).to_string()
}

/// Sentences of a text whose lines may be broken anywhere.
fn whole_sentences(text: &str) -> Vec<String> {
    let paragraphs = text.split("\n\n");
    let flowing: Vec<String> =
        paragraphs.map(|one| one.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let flowing = flowing.join("\n");
    let mut whole: Vec<String> = Vec::new();
    let mut is_open = false;
    for sentence in sentences(&flowing) {
        match whole.last_mut() {
            Some(last) if is_open => {
                last.push(' ');
                last.push_str(sentence);
            }
            _ => whole.push(sentence.to_owned()),
        }
        let last = sentence.rsplit(' ').next().unwrap_or_default().trim_end_matches('.');
        let last: String = last.chars().filter(|c| c.is_alphanumeric()).collect();
        is_open = sentence.ends_with('.') && TITLES.contains(&last.to_lowercase().as_str());
    }
    whole
}

fn component(words: &[String]) -> &'static str {
    let has = |list: &[&str]| words.iter().any(|word| list.contains(&word.as_str()));
    if has(&HABITS) {
        "epsilon"
    } else if has(&VALUES) {
        "beta"
    } else if has(&THOUGHTS) {
        "delta"
    } else {
        "alpha"
    }
}

fn facts_of(sentence: &str) -> Vec<Value> {
    let after =
        |marks: &[&str]| marks.iter().find_map(|mark| sentence.split_once(mark)).map(|s| s.1);
    let fact = |key: &str, value: String| json!({"key": key, "value": value});
    let mut facts = Vec::new();
    let phrase = |rest: &str| -> String {
        let ends = [",", ".", ";", "!", "?", " and ", " with ", " for "];
        let end = ends.iter().filter_map(|end| rest.find(end)).min().unwrap_or(rest.len());
        rest[..end].trim().chars().take(FACT_CHARS_MAX).collect()
    };
    if let Some(rest) = after(&["live in ", "lives in "]) {
        facts.push(fact("city", phrase(rest)));
    }
    if let Some(rest) = after(&["work as ", "works as "]) {
        let job = phrase(rest);
        let job = job.strip_prefix("a ").or_else(|| job.strip_prefix("an ")).unwrap_or(&job);
        facts.push(fact("occupation", job.to_owned()));
    }
    if let Some((before, _)) = sentence.split_once(" years old") {
        let age = before.rsplit(' ').next().unwrap_or_default();
        if age.parse::<u8>().is_ok() {
            facts.push(fact("age", age.to_owned()));
        }
    }
    if let Some(rest) = after(&["born in "]) {
        let year: String = rest.chars().take_while(char::is_ascii_digit).collect();
        if year.len() == 4 {
            facts.push(fact("birth_year", year));
        }
    }
    facts.retain(|fact| fact["value"] != "");
    facts
}

/// Words without case; `I'm` is `i` and `m`.
fn all_words(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
}
