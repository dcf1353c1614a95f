//! Words: how text is cut for the ranking and the lexical embedding.

/// Longest word kept, bytes; the rest of a longer run is ignored (it is no word of a language).
const WORD_BYTES_MAX: usize = 64;

/// English words that tell nothing about a topic. Inverse document frequency alone would miss
/// them: in statements about a person, "you" and "what" are rare and would look telling, while
/// questions are full of them. Sorted, lowercase, without apostrophes.
const STOP_WORDS: &[&str] = &[
    "a", "about", "also", "am", "an", "and", "any", "are", "as", "at", "be", "been", "but", "by",
    "can", "cant", "could", "did", "do", "does", "doing", "dont", "for", "from", "get", "got",
    "had", "has", "have", "he", "her", "hers", "hey", "hi", "him", "his", "how", "i", "id", "if",
    "ill", "im", "in", "into", "is", "isnt", "it", "its", "ive", "just", "let", "lets", "like",
    "me", "much", "my", "no", "not", "now", "of", "oh", "ok", "okay", "on", "or", "our", "out",
    "please", "really", "she", "should", "so", "some", "tell", "than", "thank", "thanks", "that",
    "thats", "the", "their", "them", "then", "there", "these", "they", "thing", "things", "this",
    "those", "to", "too", "up", "us", "very", "want", "was", "we", "well", "were", "what", "whats",
    "when", "where", "which", "who", "why", "will", "with", "would", "yes", "you", "your", "youre",
    "yours",
];

/// Calls `word` for each word of `text`, in order: each run of [`for_each_run`] that is no stop
/// word, with English endings removed (see [`stem`]).
pub(super) fn for_each_word(text: &str, mut word: impl FnMut(&str)) {
    for_each_run(text, |run| {
        if !is_stop_word(run) {
            stem(run);
            word(run);
        }
    });
}

/// Whether the word, as [`for_each_run`] gives it, tells nothing about a topic.
pub(super) fn is_stop_word(run: &str) -> bool {
    STOP_WORDS.binary_search(&run).is_ok()
}

/// Calls `each` for each run of letters and digits in `text`, in order; it may change the run.
///
/// A run is lowercased, with apostrophes inside left out ("Don't" → `dont`). Scripts that are
/// written without spaces (Chinese, Japanese, Thai, …), and Korean, where endings grow onto the
/// word, give overlapping pairs of characters instead. Text is not normalised to one Unicode form:
/// there is no table for it here, and both sides usually come from the same kind of keyboard.
pub(super) fn for_each_run(text: &str, mut each: impl FnMut(&mut String)) {
    let mut run = String::with_capacity(WORD_BYTES_MAX);
    let mut pair = String::with_capacity(8);
    let mut unspaced_before: Option<char> = None;
    let mut unspaced_count = 0_usize;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        if is_unspaced(character) {
            end_run(&mut run, &mut each);
            unspaced_count += 1;
            if let Some(before) = unspaced_before.replace(character) {
                pair.clear();
                pair.push(before);
                pair.push(character);
                each(&mut pair);
            }
            continue;
        }
        end_unspaced(&mut unspaced_before, &mut unspaced_count, &mut pair, &mut each);
        let joins = matches!(character, '\'' | '\u{2019}')
            && !run.is_empty()
            && characters.peek().is_some_and(|next| next.is_alphabetic());
        if character.is_alphanumeric() {
            if run.len() < WORD_BYTES_MAX {
                run.extend(character.to_lowercase());
            }
        } else if !joins {
            end_run(&mut run, &mut each);
        }
    }
    end_unspaced(&mut unspaced_before, &mut unspaced_count, &mut pair, &mut each);
    end_run(&mut run, &mut each);
}

fn end_run(run: &mut String, each: &mut impl FnMut(&mut String)) {
    if !run.is_empty() {
        each(run);
        run.clear();
    }
}

/// A character that stands alone is a word of its own.
fn end_unspaced(
    before: &mut Option<char>,
    count: &mut usize,
    pair: &mut String,
    each: &mut impl FnMut(&mut String),
) {
    if let Some(alone) = before.take()
        && *count == 1
    {
        pair.clear();
        pair.push(alone);
        each(pair);
    }
    *count = 0;
}

/// Takes the commonest English endings off, so that "cooking", "cooked" and "cooks" meet "cook".
///
/// Sources: the plural rules of D. Harman, "How effective is suffixing?", JASIS 42(1), 1991;
/// then steps 1b and 5a of M. Porter, "An algorithm for suffix stripping", Program 14(3), 1980,
/// without the measure. What this does to other languages it does to both sides alike.
pub(super) fn stem(word: &mut String) {
    let has = |ending: &str, except: &[&str]| {
        word.ends_with(ending) && !except.iter().any(|exception| word.ends_with(exception))
    };
    if has("ies", &["eies", "aies"]) && word.len() > 3 {
        word.truncate(word.len() - 3);
        word.push('y');
    } else if has("s", &["us", "ss"]) && word.len() > 2 {
        word.truncate(word.len() - 1);
    }
    let root = word.strip_suffix("ing").or_else(|| word.strip_suffix("ed")).unwrap_or("");
    if word.ends_with("eed") {
        if word.len() > 4 {
            word.truncate(word.len() - 1);
        }
    } else if root.len() >= 3 && root.contains(['a', 'e', 'i', 'o', 'u', 'y']) {
        let doubled = ["bb", "dd", "ff", "gg", "mm", "nn", "pp", "rr", "tt"];
        let letters = if doubled.iter().any(|pair| root.ends_with(pair)) { 1 } else { 0 };
        word.truncate(root.len() - letters);
    }
    if word.len() > 3 && word.ends_with('e') && !word.ends_with("ee") {
        word.truncate(word.len() - 1);
    }
}

/// Whether text of the character's script is cut into pairs.
const fn is_unspaced(character: char) -> bool {
    matches!(character,
        '\u{0E00}'..='\u{0EFF}' // Thai, Lao
        | '\u{1000}'..='\u{109F}' | '\u{1780}'..='\u{17FF}' // Myanmar, Khmer
        | '\u{3040}'..='\u{30FF}' // Hiragana, Katakana
        | '\u{3400}'..='\u{4DBF}' | '\u{4E00}'..='\u{9FFF}' | '\u{F900}'..='\u{FAFF}' // Han
        | '\u{AC00}'..='\u{D7A3}' // Hangul
        | '\u{20000}'..='\u{3FFFF}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        let mut words = Vec::new();
        for_each_word(text, |word| words.push(word.to_owned()));
        words
    }

    #[test]
    fn stop_words_are_found_as_they_are_written() {
        assert!(STOP_WORDS.is_sorted());
        for word in STOP_WORDS {
            assert!(words(word).is_empty(), "{word} is not found as it is written");
        }
    }

    #[test]
    fn text_is_cut_into_lowercase_words_without_endings() {
        for (text, expected) in [
            ("Alice's DOGS, parties & buses", vec!["alic", "dog", "party", "bus"]),
            ("Why don't you eat breakfast?", vec!["eat", "breakfast"]),
            ("Zürich ÉTÉ 2026", vec!["zürich", "été", "2026"]),
            ("glass glasses bus ''", vec!["glass", "glass", "bus"]),
            ("猫", vec!["猫"]),
            ("早餐吃 rice 茶", vec!["早餐", "餐吃", "ric", "茶"]),
            ("커피를", vec!["커피", "피를"]),
            (" \u{0} --- ", vec![]),
        ] {
            assert_eq!(words(text), expected, "{text}");
        }
    }

    #[test]
    fn forms_of_an_english_word_meet() {
        for forms in [
            "cook cooks cooked cooking",
            "swim swims swimming",
            "cycle cycles cycled cycling",
            "decide decides decided deciding",
            "agree agrees agreed",
            "need needs needed",
            "box boxes boxed boxing",
        ] {
            let found = words(forms);
            assert!(found.windows(2).all(|pair| pair[0] == pair[1]), "{found:?}");
        }
        for different in ["string stre", "red r", "spring spr", "ring r", "sing s"] {
            let found = words(different);
            assert_ne!(found[0], found[1], "{different}");
        }
    }

    #[test]
    fn a_run_without_end_is_one_bounded_word() {
        let found = words(&"x".repeat(100_000));
        assert_eq!(found.len(), 1);
        assert!(found[0].len() <= WORD_BYTES_MAX + 4);
    }
}
