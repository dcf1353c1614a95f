//! Ranking: how much each primitive has to do with a conversation.

use std::collections::HashMap;

use super::words::for_each_word;

/// Saturation of a word's frequency in a primitive. Source: the default of Okapi BM25 and Lucene.
const K1: f64 = 1.2;
/// How far a primitive's length counts against it. Source: the default of Okapi BM25 and Lucene.
const B: f64 = 0.75;
/// Saturation of a word's frequency in the conversation: said ten times, a word counts less than
/// twice as much as said once. (Okapi's k3, small because a conversation is a long query.)
const K3: f64 = 1.0;

/// Distance, in words, at which a word of the conversation counts half: about one long reply. So
/// the newest turns lead, and what was said before them still colours the choice.
const HALF_LIFE_WORDS: f64 = 150.0;
/// Bytes at the conversation's end that are read: about nine half-lives of English, after which
/// a word counts for nothing.
const CONVERSATION_BYTES_MAX: usize = 8_192;

/// An inverted index over primitives.
///
/// Scores are Okapi BM25 with the non-negative idf `ln(1 + (N − n + ½) / (n + ½))`:
/// `Σ over words  query(w) · idf(w) · tf·(K1+1) / (tf + K1·(1 − B + B·length/average))`.
/// All but `query(w)` is computed when the index is built.
#[derive(Debug)]
pub(super) struct Index {
    terms: HashMap<Box<str>, usize>,
    /// The postings of term `t` are `postings[starts[t]..starts[t + 1]]`.
    starts: Vec<usize>,
    postings: Vec<Posting>,
    documents: usize,
}

#[derive(Debug, Clone, Copy)]
struct Posting {
    document: u32,
    impact: f32,
}

impl Index {
    /// Reads the documents (at most `u32::MAX` of them; more are not indexed).
    pub(super) fn build<'a>(documents: impl Iterator<Item = &'a str>) -> Self {
        let mut terms: HashMap<Box<str>, usize> = HashMap::new();
        let mut lists: Vec<Vec<(u32, u32)>> = Vec::new();
        let mut lengths: Vec<u32> = Vec::new();
        for (document, text) in (0..u32::MAX).zip(documents) {
            let mut length = 0;
            for_each_word(text, |word| {
                length += 1;
                let term = match terms.get(word) {
                    Some(term) => *term,
                    None => {
                        terms.insert(word.into(), lists.len());
                        lists.push(Vec::new());
                        lists.len() - 1
                    }
                };
                match lists[term].last_mut() {
                    Some((last, frequency)) if *last == document => *frequency += 1,
                    _ => lists[term].push((document, 1)),
                }
            });
            lengths.push(length);
        }
        let (starts, postings) = weigh(&lists, &lengths);
        Self { terms, starts, postings, documents: lengths.len() }
    }

    /// The relevance of each document to the conversation, by position; 0 when no word is shared.
    pub(super) fn score(&self, conversation: &str) -> Vec<f64> {
        let mut scores = vec![0.0; self.documents];
        for (term, weight) in self.query(conversation) {
            let postings = &self.postings[self.starts[term]..self.starts[term + 1]];
            for posting in postings {
                scores[posting.document as usize] += weight * f64::from(posting.impact);
            }
        }
        scores
    }

    /// The known words of the conversation with their weights, in order of first use: sums of
    /// floats depend on the order, and the answer must not.
    fn query(&self, conversation: &str) -> Vec<(usize, f64)> {
        let mut said: Vec<(usize, usize)> = Vec::new();
        let mut position = 0_usize;
        for_each_word(tail(conversation), |word| {
            position += 1;
            if let Some(term) = self.terms.get(word) {
                said.push((*term, position));
            }
        });
        let mut query: Vec<(usize, f64)> = Vec::new();
        let mut places: HashMap<usize, usize> = HashMap::new();
        for (term, at) in said {
            let distance = f64::from(u32::try_from(position - at).unwrap_or(u32::MAX));
            let weight = (-distance / HALF_LIFE_WORDS).exp2();
            let place = *places.entry(term).or_insert_with(|| {
                query.push((term, 0.0));
                query.len() - 1
            });
            query[place].1 += weight;
        }
        for (_, weight) in &mut query {
            *weight = *weight * (K3 + 1.0) / (*weight + K3);
        }
        query
    }
}

/// Computes each posting's share of a score.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
#[expect(clippy::cast_possible_truncation, reason = "an impact is a small positive number")]
fn weigh(lists: &[Vec<(u32, u32)>], lengths: &[u32]) -> (Vec<usize>, Vec<Posting>) {
    let documents = lengths.len() as f64;
    let total: f64 = lengths.iter().map(|length| f64::from(*length)).sum();
    let average = if total > 0.0 { total / documents } else { 1.0 };
    let mut starts = vec![0];
    let mut postings = Vec::with_capacity(lists.iter().map(Vec::len).sum());
    for list in lists {
        let holding = list.len() as f64;
        let idf = ((documents - holding + 0.5) / (holding + 0.5)).ln_1p();
        for (document, frequency) in list {
            let length = f64::from(lengths[*document as usize]);
            let frequency = f64::from(*frequency);
            let damped = frequency + K1 * (1.0 - B + B * length / average);
            let impact = (idf * frequency * (K1 + 1.0) / damped) as f32;
            postings.push(Posting { document: *document, impact });
        }
        starts.push(postings.len());
    }
    (starts, postings)
}

/// The end of the conversation, from a whole character on.
fn tail(conversation: &str) -> &str {
    let start = conversation.len().saturating_sub(CONVERSATION_BYTES_MAX);
    &conversation[conversation.ceil_char_boundary(start)..]
}
