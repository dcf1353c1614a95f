//! Putting what a source says into a face: duplicates are merged, facts of the owner are kept.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::{
    Component, Facts, Primitive,
    embedding::{self, Embedding},
    words,
};

/// A primitive that the face has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Its place in the face.
    pub position: i64,
    /// Its component.
    pub component: Component,
    /// What it says.
    pub text: String,
    /// Whether only the source that is merged now gave it.
    pub is_own: bool,
}

/// What a merge changes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Merge {
    /// Known primitives that the source gives, too.
    pub linked: Vec<i64>,
    /// Known primitives that only this source gave, and gives no more.
    pub removed: Vec<i64>,
    /// What is new.
    pub added: Vec<Primitive>,
}

/// Merges what a source says into what a face has. Two primitives are one when they are of the same
/// component and their texts are equal but for case, punctuation and white space, or are the same
/// statement by their embeddings ([`embedding::SAME_STATEMENT`]). The older wording stays.
///
/// Embeddings are compared only where at least half of the words are shared: statements that are
/// the same at that threshold share more, and a face may have very many.
#[must_use]
pub fn merge(known: &[Known], found: Vec<Primitive>) -> Merge {
    let mut index = Index::default();
    for one in known {
        index.add(one.component, &one.text);
    }
    let mut merge = Merge::default();
    let mut linked = HashSet::new();
    for primitive in found {
        match index.find(primitive.component, &primitive.text) {
            // What comes after the known ones was added by this merge.
            Some(place) => {
                if let Some(one) = known.get(place)
                    && linked.insert(one.position)
                {
                    merge.linked.push(one.position);
                }
            }
            None => {
                index.add(primitive.component, &primitive.text);
                merge.added.push(primitive);
            }
        }
    }
    merge.linked.sort_unstable();
    let gone = known.iter().filter(|one| one.is_own && !linked.contains(&one.position));
    merge.removed = gone.map(|one| one.position).collect();
    merge
}

/// Finds the primitives that say the same.
#[derive(Default)]
struct Index {
    entries: Vec<Entry>,
    /// Normalised texts.
    texts: HashMap<(Component, String), usize>,
    /// Words, without those that say nothing of a topic.
    words: HashMap<(Component, String), Vec<usize>>,
}

struct Entry {
    text: String,
    words: usize,
    embedding: Option<Embedding>,
}

impl Index {
    fn add(&mut self, component: Component, text: &str) {
        let place = self.entries.len();
        let words = words_of(text);
        self.texts.entry((component, normalised(text))).or_insert(place);
        let count = words.len();
        for word in words {
            self.words.entry((component, word)).or_default().push(place);
        }
        self.entries.push(Entry { text: text.to_owned(), words: count, embedding: None });
    }

    fn find(&mut self, component: Component, text: &str) -> Option<usize> {
        if let Some(place) = self.texts.get(&(component, normalised(text))) {
            return Some(*place);
        }
        let words = words_of(text);
        let count = words.len();
        let mut shared: BTreeMap<usize, usize> = BTreeMap::new();
        for word in words {
            for place in self.words.get(&(component, word)).into_iter().flatten() {
                *shared.entry(*place).or_default() += 1;
            }
        }
        let embedding = embedding::embed(text);
        shared.into_iter().find_map(|(place, common)| {
            let entry = self.entries.get_mut(place)?;
            if common * 2 < count.max(entry.words) {
                return None;
            }
            let other = entry.embedding.get_or_insert_with(|| embedding::embed(&entry.text));
            embedding::same_statement(&embedding, other).then_some(place)
        })
    }
}

fn words_of(text: &str) -> HashSet<String> {
    let mut all = HashSet::new();
    words::for_each_word(text, |word| {
        all.insert(word.to_owned());
    });
    all
}

/// Letters and digits in lowercase, with one space between runs of them.
fn normalised(text: &str) -> String {
    let mut normal = String::with_capacity(text.len());
    for run in text.split(|character: char| !character.is_alphanumeric()) {
        if !run.is_empty() {
            if !normal.is_empty() {
                normal.push(' ');
            }
            normal.extend(run.chars().flat_map(char::to_lowercase));
        }
    }
    normal
}

/// The facts that a source tells, and which of them the face has from sources alone.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SourceFacts(BTreeMap<String, SourceFact>);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SourceFact {
    value: String,
    /// Whether the face has it from sources: then it goes with the last of them.
    given: bool,
}

impl SourceFacts {
    /// Reads what was kept with a source; what can't be read is nothing.
    #[must_use]
    pub fn from_stored(stored: Option<&str>) -> Self {
        stored.and_then(|stored| serde_json::from_str(stored).ok()).unwrap_or_default()
    }

    /// The JSON text of a database row.
    #[must_use]
    pub fn to_stored(&self) -> String {
        serde_json::json!(self).to_string()
    }

    fn gives(&self, key: &str, value: &str) -> bool {
        self.0.get(key).is_some_and(|fact| fact.given && fact.value == value)
    }

    /// Takes this source's facts out of a face again: those whose value the owner has not changed
    /// and that none of the `others` gives.
    pub fn take_back(&self, facts: &mut Facts, others: &[Self]) {
        for (key, fact) in &self.0 {
            let is_unchanged = facts.get(key) == Some(fact.value.as_str());
            let is_shared = others.iter().any(|other| other.gives(key, &fact.value));
            if fact.given && is_unchanged && !is_shared {
                facts.remove(key);
            }
        }
    }

    /// Gives a face the facts that were `found` and that it does not have. What the owner set
    /// stays.
    #[must_use]
    pub fn give(found: &Facts, facts: &mut Facts, others: &[Self]) -> Self {
        let mut told = BTreeMap::new();
        for (key, value) in found.iter() {
            let given = match facts.get(key) {
                None => true,
                Some(known) => known == value && others.iter().any(|other| other.gives(key, value)),
            };
            if given {
                facts.insert(key, value);
            }
            told.insert(key.to_owned(), SourceFact { value: value.to_owned(), given });
        }
        Self(told)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn known(position: i64, text: &str, is_own: bool) -> Known {
        Known { position, component: Component::Beta, text: text.to_owned(), is_own }
    }

    fn beta(text: &str) -> Primitive {
        Primitive::new(Component::Beta, text)
    }

    #[test]
    fn equal_texts_are_one_but_for_case_marks_and_spaces() {
        let face = [known(3, "I love tea.", false), known(5, "I walk to work.", true)];
        let found = vec![beta("I  LOVE tea!"), beta("i love tea"), beta("I hate noise.")];
        let merge = merge(&face, found);
        assert_eq!((merge.linked, merge.removed), (vec![3], vec![5]));
        assert_eq!(merge.added, [beta("I hate noise.")]);
    }

    #[test]
    fn the_same_statement_in_other_words_is_one_and_its_contrary_is_not() {
        let face = [known(0, "I walk to my office every morning", false)];
        let same = merge(&face, vec![beta("I walk to the office every morning.")]);
        assert_eq!((same.linked, same.added.len()), (vec![0], 0));
        let contrary = merge(&face, vec![beta("I never walk to my office in the morning")]);
        assert_eq!((contrary.linked.len(), contrary.added.len()), (0, 1));
        let other = Primitive::new(Component::Epsilon, "I walk to my office every morning");
        assert_eq!(merge(&face, vec![other]).added.len(), 1, "another component is another side");
    }

    #[test]
    fn duplicates_of_one_source_are_merged_among_themselves() {
        let merge = merge(&[], vec![beta("I love tea."), beta("I love tea"), beta("Tea, I love")]);
        assert_eq!(merge.added[0], beta("I love tea."));
        assert!(merge.linked.is_empty() && merge.removed.is_empty());
        assert!(merge.added.len() < 3);
    }

    #[test]
    fn facts_of_the_owner_win_and_those_of_a_source_go_with_its_last_teller() {
        let read = |facts| Facts::normalise(&facts).unwrap().0;
        let mut face = read(json!({"age": 39}));
        let found = read(json!({"age": 40, "city": "Ghent"}));
        let first = SourceFacts::give(&found, &mut face, &[]);
        assert_eq!(face, read(json!({"age": 39, "city": "Ghent"})));
        let first = SourceFacts::from_stored(Some(&first.to_stored()));
        let second = SourceFacts::give(&found, &mut face, std::slice::from_ref(&first));
        first.take_back(&mut face, std::slice::from_ref(&second));
        assert_eq!(face, read(json!({"age": 39, "city": "Ghent"})), "the second tells it, too");
        second.take_back(&mut face, &[]);
        assert_eq!(face, read(json!({"age": 39})));
        let third = SourceFacts::give(&found, &mut face, &[]);
        face.merge(read(json!({"city": "Bruges"})));
        third.take_back(&mut face, &[]);
        assert_eq!(face, read(json!({"age": 39, "city": "Bruges"})), "the owner changed it");
    }
}
