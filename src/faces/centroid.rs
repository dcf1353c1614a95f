//! Centroids: where a face stands among others, and who is near.
//!
//! The centroid of a component is the mean direction of its statements' embeddings, each counted
//! once, whatever its weight in a prompt. The centroid of the whole face is the mean of those of
//! beta, delta and epsilon that it has, each counted once, however many statements it has. Alpha has
//! none: who someone is says little of whom he is like. A component without statements, or whose
//! statements have no direction, has none.

use sha2::{Digest, Sha256};

use super::{
    Component, Primitive,
    embedding::{Embedding, cosine},
};
use crate::domain::{FaceId, FaceName};

/// Similarities are told in steps of a millionth: below that, the order of a sum decides.
const STEPS: f64 = 1e6;

/// What a centroid is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CentroidPart {
    /// The whole face.
    Face,
    /// Its values and preferences.
    Beta,
    /// Its style of reasoning.
    Delta,
    /// Its habits.
    Epsilon,
}

impl CentroidPart {
    /// All, in the order of an answer.
    pub const ALL: [Self; 4] = [Self::Face, Self::Beta, Self::Delta, Self::Epsilon];

    /// Its name in the API and in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Face => "face",
            Self::Beta => "beta",
            Self::Delta => "delta",
            Self::Epsilon => "epsilon",
        }
    }

    /// Reads the name that [`CentroidPart::as_str`] gives; exact, lowercase.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|part| part.as_str() == name)
    }
}

/// Which end of the order is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The most similar first.
    Nearest,
    /// The least similar first.
    Furthest,
}

impl Direction {
    /// Reads `nearest` or `furthest`.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "nearest" => Some(Self::Nearest),
            "furthest" => Some(Self::Furthest),
            _ => None,
        }
    }
}

/// The centroids of one face while its statements are read, one by one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CentroidSums {
    beta: Vec<f64>,
    delta: Vec<f64>,
    epsilon: Vec<f64>,
}

impl CentroidSums {
    /// Adds a statement. One of [`Component::Alpha`] changes nothing, and so does one whose vector
    /// has another length than those before.
    pub fn add(&mut self, component: Component, statement: &Embedding) {
        let sums = match component {
            Component::Alpha => return,
            Component::Beta => &mut self.beta,
            Component::Delta => &mut self.delta,
            Component::Epsilon => &mut self.epsilon,
        };
        let values = statement.values();
        if sums.is_empty() {
            sums.resize(values.len(), 0.0);
        }
        if sums.len() == values.len() {
            for (sum, value) in sums.iter_mut().zip(values) {
                *sum += f64::from(*value);
            }
        }
    }

    /// Adds what was read elsewhere. A component whose vectors have another length changes nothing.
    pub fn merge(&mut self, other: &Self) {
        let own = [&mut self.beta, &mut self.delta, &mut self.epsilon];
        for (sums, others) in own.into_iter().zip([&other.beta, &other.delta, &other.epsilon]) {
            if sums.is_empty() {
                sums.clone_from(others);
            } else if sums.len() == others.len() {
                for (sum, other) in sums.iter_mut().zip(others) {
                    *sum += other;
                }
            }
        }
    }

    /// The sums as they are kept: for beta, delta and epsilon the number of values (`u32`), then
    /// the values (`f64`), all little endian.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for sums in [&self.beta, &self.delta, &self.epsilon] {
            bytes.extend(u32::try_from(sums.len()).unwrap_or(u32::MAX).to_le_bytes());
            bytes.extend(sums.iter().flat_map(|sum| sum.to_le_bytes()));
        }
        bytes
    }

    /// Reads what [`Self::to_bytes`] gave for vectors of `dimensions` values. `None` for anything
    /// else.
    #[must_use]
    pub fn from_bytes(mut bytes: &[u8], dimensions: usize) -> Option<Self> {
        let mut read = || {
            let (length, rest) = bytes.split_first_chunk()?;
            let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
            let is_fitting = length == 0 || length == dimensions;
            let (values, rest) = rest.split_at_checked(length.checked_mul(8)?)?;
            bytes = rest;
            let (values, _) = values.as_chunks();
            let values: Vec<f64> = values.iter().map(|value| f64::from_le_bytes(*value)).collect();
            (is_fitting && values.iter().all(|value| value.is_finite())).then_some(values)
        };
        let sums = Self { beta: read()?, delta: read()?, epsilon: read()? };
        bytes.is_empty().then_some(sums)
    }

    /// The centroids.
    #[must_use]
    pub fn finish(&self) -> Centroids {
        let parts = [&self.beta, &self.delta, &self.epsilon].map(|sums| direction_of(sums));
        let mut whole: Vec<f64> = Vec::new();
        for part in parts.iter().flatten() {
            whole.resize(part.values().len(), 0.0);
            for (sum, value) in whole.iter_mut().zip(part.values()) {
                *sum += f64::from(*value);
            }
        }
        let [beta, delta, epsilon] = parts;
        Centroids { face: direction_of(&whole), beta, delta, epsilon }
    }
}

fn direction_of(sums: &[f64]) -> Option<Embedding> {
    if sums.iter().all(|sum| *sum == 0.0) {
        return None;
    }
    Embedding::from_values(sums)
}

/// The centroids of a face; `None` where it has none.
#[derive(Debug, Clone, PartialEq)]
pub struct Centroids {
    face: Option<Embedding>,
    beta: Option<Embedding>,
    delta: Option<Embedding>,
    epsilon: Option<Embedding>,
}

impl Centroids {
    /// One of them.
    #[must_use]
    pub const fn of(&self, part: CentroidPart) -> Option<&Embedding> {
        match part {
            CentroidPart::Face => self.face.as_ref(),
            CentroidPart::Beta => self.beta.as_ref(),
            CentroidPart::Delta => self.delta.as_ref(),
            CentroidPart::Epsilon => self.epsilon.as_ref(),
        }
    }
}

/// Whether a statement counts in a centroid.
#[must_use]
pub fn counts(primitive: &Primitive) -> bool {
    primitive.component != Component::Alpha
}

/// Digest (SHA-256) of all that centroids depend on: the statements that [`counts`] says, in their
/// order, without their weights.
#[must_use]
pub fn source_of(primitives: &[Primitive]) -> [u8; 32] {
    let mut digest = Sha256::new();
    for primitive in primitives.iter().filter(|primitive| counts(primitive)) {
        let length = u64::try_from(primitive.text.len()).unwrap_or(u64::MAX);
        digest.update(primitive.component.as_str().as_bytes());
        digest.update(length.to_le_bytes());
        digest.update(primitive.text.as_bytes());
    }
    digest.finalize().into()
}

/// How similar two centroids are: their cosine to six decimals, the same either way round.
#[must_use]
pub fn similarity(left: &Embedding, right: &Embedding) -> f64 {
    // Adding 0 turns -0 into 0.
    (cosine(left, right) * STEPS).round() / STEPS + 0.0
}

/// A face that may be a neighbour.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Its id.
    pub id: FaceId,
    /// Its username.
    pub username: FaceName,
    /// Where it stands.
    pub centroid: Embedding,
}

/// A face and how similar it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Neighbour {
    /// Its id.
    pub id: FaceId,
    /// Its username.
    pub username: FaceName,
    /// See [`similarity`].
    pub similarity: f64,
}

/// The `count` candidates at that end of the order. Equally similar ones stand in the order of
/// their usernames, in both directions.
#[must_use]
pub fn neighbours(
    of: &Embedding,
    candidates: Vec<Candidate>,
    direction: Direction,
    count: usize,
) -> Vec<Neighbour> {
    let mut ranked: Vec<Neighbour> = candidates
        .into_iter()
        .map(|candidate| Neighbour {
            similarity: similarity(of, &candidate.centroid),
            id: candidate.id,
            username: candidate.username,
        })
        .collect();
    ranked.sort_by(|left, right| {
        let order = left.similarity.total_cmp(&right.similarity);
        let order = match direction {
            Direction::Nearest => order.reverse(),
            Direction::Furthest => order,
        };
        order.then_with(|| left.username.as_str().cmp(right.username.as_str()))
    });
    ranked.truncate(count);
    ranked
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::faces::embedding::embed;

    fn centroids(statements: &[(Component, &str)]) -> Centroids {
        let mut sums = CentroidSums::default();
        for (component, text) in statements {
            sums.add(*component, &embed(text));
        }
        sums.finish()
    }

    fn vector(values: &[f64]) -> Embedding {
        Embedding::from_values(values).unwrap()
    }

    fn candidate(username: &str, values: &[f64]) -> Candidate {
        Candidate {
            id: FaceId::generate(),
            username: FaceName::parse(username).unwrap(),
            centroid: vector(values),
        }
    }

    fn names(found: &[Neighbour]) -> Vec<&str> {
        found.iter().map(|neighbour| neighbour.username.as_str()).collect()
    }

    #[test]
    fn a_face_counts_each_of_three_components_once_and_alpha_not_at_all() {
        let mut sums = CentroidSums::default();
        sums.add(Component::Alpha, &vector(&[0.0, 0.0, 0.0, 1.0]));
        for _ in 0..5 {
            sums.add(Component::Beta, &vector(&[1.0, 0.0, 0.0, 0.0]));
        }
        sums.add(Component::Delta, &vector(&[0.0, 1.0, 0.0, 0.0]));
        sums.add(Component::Epsilon, &vector(&[0.0, 0.0, 1.0, 0.0]));
        let found = sums.finish();
        assert_eq!(found.of(CentroidPart::Beta), Some(&vector(&[1.0, 0.0, 0.0, 0.0])));
        assert_eq!(found.of(CentroidPart::Face), Some(&vector(&[1.0, 1.0, 1.0, 0.0])));
    }

    #[test]
    fn what_has_no_statement_or_no_direction_has_no_centroid() {
        let none = centroids(&[(Component::Alpha, "A pilot.")]);
        assert!(CentroidPart::ALL.iter().all(|part| none.of(*part).is_none()));
        let wordless = centroids(&[(Component::Beta, "!?"), (Component::Delta, "Doubts all.")]);
        assert_eq!(wordless.of(CentroidPart::Beta), None);
        assert_eq!(wordless.of(CentroidPart::Face), wordless.of(CentroidPart::Delta));
        let mut against = CentroidSums::default();
        against.add(Component::Beta, &vector(&[1.0, 0.0]));
        against.add(Component::Beta, &vector(&[-1.0, 0.0]));
        assert_eq!(against.finish().of(CentroidPart::Beta), None);
    }

    #[test]
    fn sums_that_were_kept_are_those_of_the_statements_and_of_no_other_length() {
        let mut whole = CentroidSums::default();
        let mut parts = [CentroidSums::default(), CentroidSums::default()];
        let statements = [
            (Component::Beta, [3.0, 4.0]),
            (Component::Epsilon, [1.0, 0.0]),
            (Component::Beta, [0.0, -1.0]),
            (Component::Delta, [0.6, 0.8]),
        ];
        for (at, (component, values)) in statements.iter().enumerate() {
            whole.add(*component, &vector(values));
            parts[at / 2].add(*component, &vector(values));
        }
        let mut merged = CentroidSums::default();
        for part in &parts {
            let bytes = part.to_bytes();
            assert_eq!(CentroidSums::from_bytes(&bytes, 3), None);
            assert_eq!(CentroidSums::from_bytes(&bytes[..bytes.len() - 1], 2), None);
            assert_eq!(CentroidSums::from_bytes(&[&bytes[..], &[0]].concat(), 2), None);
            merged.merge(&CentroidSums::from_bytes(&bytes, 2).unwrap());
        }
        assert_eq!(merged, whole);
        let none = CentroidSums::default();
        assert_eq!(CentroidSums::from_bytes(&none.to_bytes(), 2), Some(none));
        let mut long = CentroidSums::default();
        long.add(Component::Beta, &vector(&[1.0, 0.0, 0.0]));
        merged.merge(&long);
        assert_eq!(merged, whole, "another length changes nothing");
        let broken = [&1_u32.to_le_bytes()[..], &f64::NAN.to_le_bytes(), &[0; 8]].concat();
        assert_eq!(CentroidSums::from_bytes(&broken, 1), None);
    }

    #[test]
    fn the_digest_follows_the_statements_that_count_and_nothing_else() {
        let statement = |component, text: &str| Primitive::new(component, text);
        let one = [statement(Component::Beta, "ab"), statement(Component::Beta, "c")];
        let mut weighed = one.clone();
        weighed[0].weight = 7.0;
        let mut with_alpha = one.to_vec();
        with_alpha.push(statement(Component::Alpha, "x"));
        assert_eq!(source_of(&one), source_of(&weighed));
        assert_eq!(source_of(&one), source_of(&with_alpha));
        for other in [
            [statement(Component::Beta, "a"), statement(Component::Beta, "bc")],
            [statement(Component::Delta, "ab"), statement(Component::Beta, "c")],
        ] {
            assert_ne!(source_of(&one), source_of(&other));
        }
    }

    #[test]
    fn neighbours_stand_by_similarity_and_then_by_name_at_both_ends() {
        let here = vector(&[1.0, 0.0]);
        let all = vec![
            candidate("zoe", &[4.0, 3.0]),
            candidate("bo", &[4.0, -3.0]),
            candidate("far", &[-1.0, 0.0]),
            candidate("ann", &[4.0, 3.000_000_01]),
            candidate("twin", &[2.0, 0.0]),
        ];
        let nearest = neighbours(&here, all.clone(), Direction::Nearest, 4);
        assert_eq!(names(&nearest), ["twin", "ann", "bo", "zoe"]);
        assert_eq!((nearest[0].similarity, nearest[1].similarity), (1.0, 0.8));
        let furthest = neighbours(&here, all, Direction::Furthest, 9);
        assert_eq!(names(&furthest), ["far", "ann", "bo", "zoe", "twin"]);
        assert_eq!(furthest[0].similarity, -1.0);
    }

    #[test]
    fn nothing_in_common_is_a_plain_zero() {
        let zero = similarity(&vector(&[1.0, 0.0]), &vector(&[0.0, -1.0]));
        assert_eq!(format!("{zero:?}"), "0.0");
    }

    proptest! {
        #[test]
        fn similarity_is_the_same_either_way_round(
            left in prop::collection::vec(-1.0..1.0_f64, 1..40),
            right in prop::collection::vec(-1.0..1.0_f64, 1..40),
        ) {
            let (left, right) = (vector(&left), vector(&right));
            prop_assert_eq!(similarity(&left, &right), similarity(&right, &left));
        }

        #[test]
        fn the_order_of_statements_does_not_move_a_centroid(
            texts in prop::collection::vec("[a-d]{1,4} [a-d]{1,4}", 1..12).prop_shuffle(),
        ) {
            let mut sorted = texts.clone();
            sorted.sort_unstable();
            let centroid = |texts: &[String]| {
                let all: Vec<_> = texts.iter().map(|text| (Component::Beta, text.as_str())).collect();
                centroids(&all).of(CentroidPart::Face).cloned()
            };
            match (centroid(&texts), centroid(&sorted)) {
                (Some(left), Some(right)) => prop_assert!(cosine(&left, &right) > 0.9999),
                (left, right) => prop_assert_eq!(left, right),
            }
        }
    }
}
