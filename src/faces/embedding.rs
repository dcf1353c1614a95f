//! How alike statements are: vectors of text, and the built-in way to make them.
//!
//! [`embed`] is lexical: it compares words, not meanings. Two statements are near when they use
//! the same words in other forms or another order; synonyms and antonyms are only different words.
//! It needs no model and no network, and gives the same bits for the same text on every machine,
//! so that what rests on it (merging duplicates, formulas) can be repeated. Centroids rest on it too,
//! unless the server is told to ask a model for vectors, which are the same type
//! ([`Embedding::from_values`]).

use std::{collections::BTreeMap, hash::Hasher};

use super::words::{for_each_run, is_stop_word, stem};

/// Length of a vector of [`embed`]. A statement of ten words has about sixty features; 256 places
/// keep what two unrelated ones share by chance near 0.1.
pub const DIMENSIONS: usize = 256;
/// The name under which vectors of [`embed`] are stored. Its number changes with any change of
/// what [`embed`] gives, so that stored vectors are made again.
pub const EMBEDDER: &str = "lexical-1";
/// From this cosine on, two statements count as one. Source: reference/faces-api.md, E.2 (the
/// similarity at which the origin merged duplicates).
pub const SAME_STATEMENT: f64 = 0.88;

/// What a word's three-letter pieces weigh together, squared, against 1 for the word itself. It
/// lets "organise" meet "organisation"; much more would let words meet that only look alike.
const PIECES_SQUARED: f64 = 0.5;
/// Weight of a stop word: two statements that differ in one are still the same, and a statement of
/// nothing else still has a direction.
const STOP_WORD_WEIGHT: f64 = 0.25;
/// Lanes of a dot product: what a compiler can put side by side.
const LANES: usize = 8;

/// English words that turn a statement around. Sorted, as [`for_each_run`] gives them.
const NEGATIONS: &[&str] = &[
    "aint", "arent", "cannot", "cant", "couldnt", "didnt", "doesnt", "dont", "hadnt", "hasnt",
    "havent", "isnt", "neither", "never", "no", "nobody", "none", "nor", "not", "nothing",
    "shouldnt", "wasnt", "werent", "wont", "wouldnt",
];

/// A direction: values of Euclidean length 1, or zeros alone for a text without any word.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedding(Box<[f32]>);

impl Embedding {
    /// The direction of these values. `None` when one of them is not finite, or there is none.
    #[must_use]
    pub fn from_values(values: &[f64]) -> Option<Self> {
        let squared: f64 = values.iter().map(|value| value * value).sum();
        if values.is_empty() || !squared.is_finite() {
            return None;
        }
        let length = if squared > 0.0 { squared.sqrt() } else { 1.0 };
        #[expect(clippy::cast_possible_truncation, reason = "a value of a direction is at most 1")]
        let values = values.iter().map(|value| (value / length) as f32).collect();
        Some(Self(values))
    }

    /// Its values.
    #[must_use]
    pub const fn values(&self) -> &[f32] {
        &self.0
    }

    /// Its values as they are stored: `f32`, little endian, one after the other.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    /// Reads what [`Self::to_bytes`] gave. `None` for bytes that are no such values.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (values, rest) = bytes.as_chunks::<4>();
        let values: Box<[f32]> = values.iter().map(|value| f32::from_le_bytes(*value)).collect();
        let is_usable = rest.is_empty() && values.iter().all(|value| value.is_finite());
        (is_usable && !values.is_empty()).then_some(Self(values))
    }
}

/// The cosine of the angle between two vectors, -1 to 1: 1 for the same direction. 0 when one of
/// them is all zeros or they have different lengths (they are of different embedders).
///
/// # Examples
/// ```
/// use faces::faces::embedding::{cosine, embed};
/// let tea = embed("Drinks green tea every morning.");
/// let same = embed("Every morning I drink green tea");
/// let other = embed("Owns three bicycles.");
/// assert!(cosine(&tea, &same) > 0.9);
/// assert!(cosine(&tea, &other) < 0.3);
/// ```
#[must_use]
pub fn cosine(left: &Embedding, right: &Embedding) -> f64 {
    if left.0.len() != right.0.len() {
        return 0.0;
    }
    let (left, left_rest) = left.0.as_chunks::<LANES>();
    let (right, right_rest) = right.0.as_chunks::<LANES>();
    let mut sums = [0.0_f32; LANES];
    for (left, right) in left.iter().zip(right) {
        for ((sum, left), right) in sums.iter_mut().zip(left).zip(right) {
            *sum += left * right;
        }
    }
    let rest: f32 = left_rest.iter().zip(right_rest).map(|(left, right)| left * right).sum();
    f64::from(sums.iter().sum::<f32>() + rest).clamp(-1.0, 1.0)
}

/// Whether two statements count as one: their cosine is at least [`SAME_STATEMENT`].
#[must_use]
pub fn same_statement(left: &Embedding, right: &Embedding) -> bool {
    cosine(left, right) >= SAME_STATEMENT
}

/// The lexical embedding of a text: [`DIMENSIONS`] values.
///
/// Features are the words (lowercase, English endings removed; see `words.rs`) and the
/// three-letter pieces of each (`^te`, `tea`, `ea$`); stop words count little and have no pieces.
/// A word that stands `n` times counts `1 + ln n`. Each feature's place and sign come from its
/// hash (FNV-1a of 64 bits over a tag and the UTF-8 bytes, mixed by `MurmurHash3`'s `fmix64`), and
/// the whole is brought to length 1. The order of words does not matter.
///
/// All negations ("not", "never", "doesn't", …) are one stop word, and one of them anywhere gives
/// every word another feature and leaves its pieces alone: a statement and its contrary meet at about 0.3, below [`SAME_STATEMENT`].
#[must_use]
pub fn embed(text: &str) -> Embedding {
    let mut words: BTreeMap<(bool, String), u32> = BTreeMap::new();
    let mut is_negated = false;
    for_each_run(text, |run| {
        let is_negation = NEGATIONS.binary_search(&run.as_str()).is_ok();
        is_negated |= is_negation;
        let is_stop = is_negation || is_stop_word(run);
        if is_negation {
            "not".clone_into(run);
        } else if !is_stop {
            stem(run);
        }
        let count = words.entry((is_stop, run.clone())).or_default();
        *count = count.saturating_add(1);
    });
    let tag = if is_negated { b'-' } else { b'+' };
    let mut values = [0.0_f64; DIMENSIONS];
    for ((is_stop, word), count) in &words {
        let weight = 1.0 + f64::from(*count).ln();
        if *is_stop {
            add(&mut values, tag, word, weight * STOP_WORD_WEIGHT);
        } else {
            add(&mut values, tag, word, weight);
            add_pieces(&mut values, word, weight);
        }
    }
    Embedding::from_values(&values).unwrap_or_else(|| Embedding([0.0; DIMENSIONS].into()))
}

/// Adds each three characters of the word between its marked ends.
fn add_pieces(values: &mut [f64; DIMENSIONS], word: &str, weight: f64) {
    let marked: Vec<char> = ['^'].into_iter().chain(word.chars()).chain(['$']).collect();
    let pieces = marked.windows(3);
    let each =
        weight * (PIECES_SQUARED / f64::from(u32::try_from(pieces.len()).unwrap_or(1))).sqrt();
    let mut piece = String::with_capacity(12);
    for characters in pieces {
        piece.clear();
        piece.extend(characters);
        add(values, b'p', &piece, each);
    }
}

fn add(values: &mut [f64; DIMENSIONS], tag: u8, feature: &str, weight: f64) {
    let mut hasher = fnv::FnvHasher::default();
    hasher.write(&[tag]);
    hasher.write(feature.as_bytes());
    let hash = mix(hasher.finish());
    let place = usize::from(hash.to_le_bytes()[0]);
    values[place] += if hash >> 63 == 0 { weight } else { -weight };
}

/// Spreads every bit over all others. Source: `fmix64` of `MurmurHash3`, public domain.
const fn mix(mut hash: u64) -> u64 {
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn alike(left: &str, right: &str) -> f64 {
        cosine(&embed(left), &embed(right))
    }

    #[test]
    fn negations_are_found_as_they_are_written() {
        assert!(NEGATIONS.is_sorted());
        assert_eq!(DIMENSIONS, 1 + usize::from(u8::MAX), "one byte of the hash is a place");
    }

    #[test]
    fn the_same_statement_in_other_words_of_form_and_order_is_the_same() {
        for (left, right) in [
            ("Drinks green tea every morning.", "drinks GREEN tea, every morning"),
            ("Drinks green tea every morning.", "Every morning I drink green tea"),
            ("Her sister lives in Turin.", "His sister is living in Turin"),
            ("Doesn't eat meat.", "Never eats meat"),
            ("早餐吃米饭", "早餐吃米饭。"),
        ] {
            assert!(
                same_statement(&embed(left), &embed(right)),
                "{left} / {right}: {}",
                alike(left, right)
            );
        }
    }

    #[test]
    fn other_statements_are_not_the_same_and_unrelated_ones_are_far() {
        for (left, right, most) in [
            ("Drinks green tea every morning.", "Drinks black coffee every morning.", 0.75),
            ("Drinks green tea every morning.", "Owns three bicycles.", 0.25),
            ("Likes loud music at night.", "Believes that taxes should be lower.", 0.25),
            ("Eats meat.", "Doesn't eat meat.", 0.5),
            (
                "Trusts doctors and their advice on every matter of health and nutrition.",
                "Never trusts doctors and their advice on every matter of health and nutrition.",
                0.5,
            ),
        ] {
            let found = alike(left, right);
            assert!(found < most, "{left} / {right}: {found}");
        }
    }

    #[test]
    fn a_word_in_another_form_is_nearer_than_another_word() {
        let organised = "Values organisation";
        assert!(alike(organised, "Values organisers") > 0.1 + alike(organised, "Values music"));
    }

    #[test]
    fn chance_puts_few_features_together() {
        let texts: Vec<Embedding> =
            (0..200).map(|at| embed(&format!("q{at}x z{at}w v{at}k j{at}h"))).collect();
        let mut squares = 0.0;
        for (at, left) in texts.iter().enumerate() {
            squares += texts[at + 1..].iter().map(|right| cosine(left, right).powi(2)).sum::<f64>();
        }
        let pairs = 200.0 * 199.0 / 2.0;
        // Random directions of 256 values have 1/16.
        assert!((squares / pairs).sqrt() < 0.12, "{}", (squares / pairs).sqrt());
    }

    #[test]
    fn the_vector_of_a_text_never_changes() {
        let values = embed("Drinks green tea.");
        let places: Vec<(usize, f32)> = (0..DIMENSIONS)
            .filter(|at| values.values()[*at].abs() > 0.3)
            .map(|at| (at, values.values()[at]))
            .collect();
        insta::assert_snapshot!(format!("{places:.4?}"), @"[(3, -0.4714), (124, -0.4714), (249, -0.4714)]");
    }

    #[test]
    fn text_without_words_is_like_nothing_not_even_itself() {
        for text in ["", " !?, \u{0}"] {
            assert!(embed(text).values().iter().all(|value| *value == 0.0));
            assert!(!same_statement(&embed(text), &embed(text)));
        }
        assert!(same_statement(&embed("I am what I am."), &embed("I am what I am")));
    }

    #[test]
    fn vectors_of_different_length_have_nothing_in_common() {
        let short = Embedding::from_values(&[3.0, 4.0]).unwrap();
        assert_eq!(short.values(), [0.6, 0.8]);
        assert_eq!(cosine(&short, &embed("tea")), 0.0);
    }

    #[test]
    fn only_finite_values_are_a_vector() {
        for values in [&[][..], &[f64::NAN], &[f64::INFINITY, 1.0], &[f64::MAX, f64::MAX]] {
            assert_eq!(Embedding::from_values(values), None);
        }
        for bytes in [&[][..], &[1, 2, 3], &[0, 0, 0, 0, 0], &f32::NAN.to_le_bytes()] {
            assert_eq!(Embedding::from_bytes(bytes), None);
        }
    }

    proptest! {
        #[test]
        fn any_text_has_one_direction_of_length_one(text in "\\PC{0,300}", other in any::<String>()) {
            let found = embed(&text);
            prop_assert_eq!(&found, &embed(&text));
            let length: f64 = found.values().iter().map(|value| f64::from(*value).powi(2)).sum();
            prop_assert!(length == 0.0 || (length - 1.0).abs() < 1e-5, "{}", length);
            let other = embed(&other);
            prop_assert_eq!(cosine(&found, &other).to_bits(), cosine(&other, &found).to_bits());
            prop_assert!((-1.0..=1.0).contains(&cosine(&found, &other)));
            prop_assert!(length == 0.0 || cosine(&found, &found) > 0.9999);
            prop_assert_eq!(Embedding::from_bytes(&found.to_bytes()), Some(found));
        }

        #[test]
        fn the_order_of_words_does_not_matter(
            words in prop::collection::vec("[a-z]{1,8}|猫|not", 0..20).prop_shuffle(),
        ) {
            let mut sorted = words.clone();
            sorted.sort_unstable();
            prop_assert_eq!(embed(&words.join(" ")), embed(&sorted.join(" ")));
        }
    }
}
