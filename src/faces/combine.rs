//! What a formula makes of its operands.
//!
//! **Membership.** Two statements are the same when they are of one component and their texts are
//! equal once case, white space and closing punctuation are put aside, or when their lexical
//! embeddings count as one ([`embedding::same_statement`]). It is never a model's embeddings that
//! decide: a chat must not wait for them, nor pay. A statement is in a set when one of the
//! set is the same. Being alike is not transitive, so with statements that are only alike the laws
//! of sets hold for what is kept, not for its wording.
//!
//! **Facts.** All facts of the faces that the formula adds; where two state the same key, the left
//! one's value. A face that is only taken away (right of a `-`) gives none.

use std::collections::HashSet;

use super::{
    Component, Facts, Formula, Operator, Primitive, Term,
    embedding::{self, Embedding},
    text,
};
use crate::domain::FaceName;

/// Values of two vectors that are multiplied before a pair is given up.
const PROBE_VALUES: usize = 64;
/// What rounding may take from a bound. Far above it: a product's error is below 1e-6.
const ROUNDING: f32 = 1e-3;

/// An operand: what a face has.
#[derive(Debug, Clone, PartialEq)]
pub struct Operand {
    /// The name in the formula.
    pub username: FaceName,
    /// What is settled about it.
    pub facts: Facts,
    /// What it is made of.
    pub primitives: Vec<Primitive>,
}

impl Formula {
    /// The facts and primitives of the combined face. An operand that is not given is empty.
    ///
    /// Time grows with the product of the operands' sizes.
    #[must_use]
    pub fn evaluate(&self, operands: &[Operand]) -> (Facts, Vec<Primitive>) {
        let prepared: Vec<(&FaceName, Vec<Statement<'_>>)> = operands
            .iter()
            .map(|one| (&one.username, one.primitives.iter().map(Statement::new).collect()))
            .collect();
        let set = members(self.root(), &prepared);
        let primitives = set.into_iter().map(|statement| statement.primitive.clone()).collect();
        (facts(self.root(), operands), primitives)
    }
}

fn facts(term: &Term, operands: &[Operand]) -> Facts {
    match term {
        Term::Face(face) => {
            let found = operands.iter().find(|operand| operand.username == *face);
            found.map(|operand| operand.facts.clone()).unwrap_or_default()
        }
        Term::Combined(left, Operator::Difference, _) => facts(left, operands),
        Term::Combined(
            left,
            Operator::Union | Operator::Intersection | Operator::SymmetricDifference,
            right,
        ) => {
            let mut all = facts(right, operands);
            all.merge(facts(left, operands));
            all
        }
    }
}

type Set<'a> = Vec<&'a Statement<'a>>;

fn members<'a>(term: &Term, operands: &'a [(&FaceName, Vec<Statement<'a>>)]) -> Set<'a> {
    let (left, operator, right) = match term {
        Term::Face(face) => {
            let found = operands.iter().find(|(username, _)| *username == face);
            return found.map(|(_, all)| all.iter().collect()).unwrap_or_default();
        }
        Term::Combined(left, operator, right) => {
            (members(left, operands), *operator, members(right, operands))
        }
    };
    match operator {
        Operator::Union => {
            let new = split(&right, &left).1;
            [left, new].concat()
        }
        Operator::Intersection => split(&left, &right).0,
        Operator::Difference => split(&left, &right).1,
        Operator::SymmetricDifference => [split(&left, &right).1, split(&right, &left).1].concat(),
    }
}

/// Those of `all` that are in `other`, and those that are not.
fn split<'a>(all: &Set<'a>, other: &Set<'a>) -> (Set<'a>, Set<'a>) {
    let texts: HashSet<(Component, &str)> = other.iter().map(|one| one.key()).collect();
    all.iter().partition(|one| {
        texts.contains(&one.key()) || other.iter().any(|other| one.is_alike(other))
    })
}

/// A primitive, made ready to be compared.
#[derive(Debug)]
struct Statement<'a> {
    primitive: &'a Primitive,
    normal: String,
    embedding: Embedding,
    /// Length of what follows the first [`PROBE_VALUES`] of the embedding.
    rest: f32,
}

impl<'a> Statement<'a> {
    fn new(primitive: &'a Primitive) -> Self {
        let embedding = embedding::embed(&primitive.text);
        let rest = embedding.values().iter().skip(PROBE_VALUES);
        let rest = rest.map(|value| value * value).sum::<f32>().sqrt();
        Self { primitive, normal: normal(&primitive.text), embedding, rest }
    }

    fn key(&self) -> (Component, &str) {
        (self.primitive.component, &self.normal)
    }

    /// Whether the embeddings count as one. The first values decide nearly always: what follows
    /// them adds at most the product of its lengths (Cauchy and Schwarz).
    fn is_alike(&self, other: &Self) -> bool {
        if self.primitive.component != other.primitive.component {
            return false;
        }
        let pairs = self.embedding.values().iter().zip(other.embedding.values());
        let probe: f32 = pairs.take(PROBE_VALUES).map(|(left, right)| left * right).sum();
        let most = f64::from(probe + self.rest * other.rest + ROUNDING);
        most >= embedding::SAME_STATEMENT
            && embedding::same_statement(&self.embedding, &other.embedding)
    }
}

/// A text without what doesn't make it another statement.
fn normal(text: &str) -> String {
    let line = text::flatten(text).to_lowercase();
    line.trim_end_matches(['.', '!', ';', ',', '。', ' ']).to_owned()
}
