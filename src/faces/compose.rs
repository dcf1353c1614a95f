//! Composition: the system prompt of a face for a conversation, within a budget.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::sync::Arc;

use super::bm25::Index;
use super::{Component, Face, Primitive, text, wording};

/// A face made ready to speak: what doesn't depend on a conversation is done once, here.
///
/// Build one per face version and keep it; it is immutable and can be shared between threads.
///
/// # Examples
/// ```
/// use faces::domain::{AccountId, FaceId};
/// use faces::faces::{Persona, demo, estimate_tokens};
///
/// let alice = demo::alice()?;
/// let (face, primitives, _) = alice.into_face(FaceId::generate(), AccountId::generate(), 0)?;
/// let persona = Persona::prepare(face, &primitives, 1_000);
/// let prompt = persona.compose("Do you enjoy cooking on Sundays?");
/// assert!(prompt.starts_with("You are Alice Marchetti."));
/// assert!(prompt.contains("On Sundays I cook for whoever comes"));
/// assert!(estimate_tokens(&prompt) <= 1_000);
/// # Ok::<(), faces::faces::FaceError>(())
/// ```
#[derive(Debug)]
pub struct Persona {
    face: Face,
    profile_tokens: u64,
    /// Bytes of a prompt before and after what is known about the person.
    frame_bytes: (usize, usize),
    form: Form,
}

#[derive(Debug)]
enum Form {
    /// The conversation doesn't matter: all primitives fit, or none does.
    Static(Arc<str>),
    /// Primitives are chosen for each conversation.
    Ranked(Box<Ranked>),
}

#[derive(Debug)]
struct Ranked {
    opening: String,
    closing: String,
    statements: Vec<Statement>,
    /// Positions of all statements, by falling weight, then as they were given.
    by_weight: Vec<u32>,
    index: Index,
    /// What the budget leaves for headings and statements, quarters of a token.
    room: u64,
    /// The smallest statement, quarters of a token.
    smallest: u64,
}

#[derive(Debug)]
struct Statement {
    component: Component,
    /// The finished line, `- …\n`.
    line: Box<str>,
    size: u64,
    weight: f64,
}

impl Persona {
    /// Prepares a face with its primitives for prompts of at most `tokens_max` tokens as
    /// [`super::estimate_tokens`] counts them. Name, facts and our instructions are always
    /// there, even when they alone are larger; primitives fill what is left. A profile's addendum
    /// stands beyond the budget: its owner chose its size.
    ///
    /// A weight that is not a number counts as 0. Time and memory grow with the primitives' text.
    #[must_use]
    pub fn prepare(face: Face, primitives: &[Primitive], tokens_max: u64) -> Self {
        let name = text::flatten(&face.name);
        let addendum = face.profile_addendum.as_deref().map(wording::addendum).unwrap_or_default();
        let is_unknown = face.facts.is_empty() && primitives.is_empty() && addendum.is_empty();
        let (mut opening, mut closing) = if is_unknown {
            (wording::opening_without_profile(&name), wording::closing_without_profile(&name))
        } else {
            (wording::opening(&name), wording::closing(&name))
        };
        let frame_bytes = (opening.len(), closing.len());
        if !face.facts.is_empty() {
            opening.push_str(wording::FACTS_HEADING);
            opening.push_str(&wording::facts(&face.facts));
        }
        let frame = text::quarters(&opening) + text::quarters(&closing);
        closing.insert_str(0, &addendum);
        let statements: Vec<Statement> = primitives.iter().map(Statement::new).collect();

        let everything: Vec<u32> = positions(&statements).collect();
        let headings: u64 = Component::ALL
            .into_iter()
            .filter(|component| statements.iter().any(|one| one.component == *component))
            .map(|component| text::quarters(wording::heading(component)))
            .sum();
        let whole = headings + statements.iter().map(|statement| statement.size).sum::<u64>();
        let room = tokens_max.saturating_mul(4).saturating_sub(frame);
        let smallest_step = statements.iter().map(Statement::size_with_heading).min();

        let form = if whole <= room {
            Form::Static(write(&opening, &statements, &everything, &closing))
        } else if smallest_step.is_none_or(|step| step > room) {
            Form::Static(write(&opening, &statements, &[], &closing))
        } else {
            let mut by_weight = everything;
            let weight = |position: u32| statements[position as usize].weight;
            by_weight.sort_by(|a, b| weight(*b).total_cmp(&weight(*a)));
            Form::Ranked(Box::new(Ranked {
                index: Index::build(statements.iter().map(|statement| &*statement.line)),
                smallest: statements.iter().map(|statement| statement.size).min().unwrap_or(0),
                opening,
                closing,
                statements,
                by_weight,
                room,
            }))
        };
        let profile_tokens = (frame + text::quarters(&addendum) + whole).div_ceil(4);
        Self { face, profile_tokens, frame_bytes, form }
    }

    /// The system prompt for a conversation: the text of its turns, newest last.
    ///
    /// The same persona and conversation always give the same text. When the conversation
    /// doesn't matter ([`Persona::is_static`]) this clones a pointer. Otherwise primitives are
    /// ranked by BM25 relevance × weight, where newer words count more; ties go to the larger
    /// weight, then to the earlier primitive. Primitives that share no word with the conversation
    /// follow by weight. Each is taken if it still fits. Within a prompt they stand in the order
    /// in which they were given, so that two turns that choose the same ones share a prompt.
    #[must_use]
    pub fn compose(&self, conversation: &str) -> Arc<str> {
        match &self.form {
            Form::Static(prompt) => Arc::clone(prompt),
            Form::Ranked(ranked) => ranked.compose(conversation),
        }
    }

    /// What is known about the person, as background of a conversation that somebody else, or
    /// nobody, speaks in; chosen as in [`Persona::compose`]. `None` when nothing is known but the
    /// name.
    #[must_use]
    pub fn background(&self, conversation: &str) -> Option<String> {
        let prompt = self.compose(conversation);
        let (before, after) = self.frame_bytes;
        let profile = prompt.get(before..prompt.len().saturating_sub(after))?;
        let name = text::flatten(&self.face.name);
        (!profile.is_empty()).then(|| wording::background(&name, profile))
    }

    /// Whether [`Persona::compose`] gives one text whatever the conversation.
    #[must_use]
    pub const fn is_static(&self) -> bool {
        matches!(self.form, Form::Static(_))
    }

    /// The face that speaks.
    #[must_use]
    pub const fn face(&self) -> &Face {
        &self.face
    }

    /// Size of the prompt that holds everything known about the person, tokens (estimated): the
    /// `profile_token_count` of the API.
    #[must_use]
    pub const fn profile_tokens(&self) -> u64 {
        self.profile_tokens
    }
}

impl Statement {
    fn new(primitive: &Primitive) -> Self {
        let line = wording::statement(&primitive.text);
        Self {
            component: primitive.component,
            size: text::quarters(&line),
            line: line.into(),
            weight: if primitive.weight.is_finite() { primitive.weight.max(0.0) } else { 0.0 },
        }
    }

    fn size_with_heading(&self) -> u64 {
        self.size + text::quarters(wording::heading(self.component))
    }
}

impl Ranked {
    fn compose(&self, conversation: &str) -> Arc<str> {
        let scores = self.index.score(conversation);
        let mut relevant: BinaryHeap<Candidate> = positions(&self.statements)
            .zip(&scores)
            .filter_map(|(position, score)| {
                let weight = self.statements[position as usize].weight;
                let score = score * weight;
                (score > 0.0).then_some(Candidate { score, weight, position })
            })
            .collect();
        let mut choice = Choice::new(self);
        while let Some(candidate) = relevant.pop() {
            if choice.is_full() {
                break;
            }
            choice.offer(candidate.position);
        }
        for position in &self.by_weight {
            if choice.is_full() {
                break;
            }
            let unrelated = scores[*position as usize] * self.statements[*position as usize].weight;
            if unrelated <= 0.0 {
                choice.offer(*position);
            }
        }
        let mut taken = choice.taken;
        taken.sort_unstable();
        write(&self.opening, &self.statements, &taken, &self.closing)
    }
}

/// What was taken so far, and the room left for more.
struct Choice<'a> {
    ranked: &'a Ranked,
    room: u64,
    opened: [bool; Component::ALL.len()],
    taken: Vec<u32>,
}

impl<'a> Choice<'a> {
    const fn new(ranked: &'a Ranked) -> Self {
        let opened = [false; Component::ALL.len()];
        Self { ranked, room: ranked.room, opened, taken: Vec::new() }
    }

    const fn is_full(&self) -> bool {
        self.room < self.ranked.smallest
    }

    /// Takes the statement if it fits, with its heading if it is its component's first.
    fn offer(&mut self, position: u32) {
        let statement = &self.ranked.statements[position as usize];
        let opened = &mut self.opened[statement.component as usize];
        let size = if *opened { statement.size } else { statement.size_with_heading() };
        if size <= self.room {
            self.room -= size;
            *opened = true;
            self.taken.push(position);
        }
    }
}

/// A statement that shares a word with the conversation. The greatest is the best.
#[derive(Debug)]
struct Candidate {
    score: f64,
    weight: f64,
    position: u32,
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score
            .total_cmp(&other.score)
            .then(self.weight.total_cmp(&other.weight))
            .then(other.position.cmp(&self.position))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Candidate {}

fn positions(statements: &[Statement]) -> impl Iterator<Item = u32> {
    (0..u32::MAX).take(statements.len())
}

/// Writes the prompt from the statements at the given positions, in the order given.
fn write(opening: &str, statements: &[Statement], taken: &[u32], closing: &str) -> Arc<str> {
    let chosen = |component: Component| {
        let all = taken.iter().map(|position| &statements[*position as usize]);
        all.filter(move |statement| statement.component == component)
    };
    let lines: usize = taken.iter().map(|position| statements[*position as usize].line.len()).sum();
    let mut prompt = String::with_capacity(opening.len() + lines + closing.len() + 256);
    prompt.push_str(opening);
    for component in Component::ALL {
        for (place, statement) in chosen(component).enumerate() {
            if place == 0 {
                prompt.push_str(wording::heading(component));
            }
            prompt.push_str(&statement.line);
        }
    }
    prompt.push_str(closing);
    prompt.into()
}
