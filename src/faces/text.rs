//! Text of a face as prompt text: one line, and its size in tokens.

/// Estimates how many tokens a text is for a language model, rounded up.
///
/// A character counts by its UTF-8 length: 1 byte (ASCII) a quarter of a token, 2 bytes (Latin
/// with marks, Greek, Cyrillic, Arabic, …) a half, 3 bytes (Chinese, Japanese, Korean, Thai, …)
/// one, 4 bytes (emoji) two. Plain `chars / 4` is the usual rule for English, and would let a
/// Chinese face through at a quarter of its size; this errs towards too many tokens, so that a
/// budget holds on whatever model answers. It bounds a prompt; it never prices one.
///
/// # Examples
/// ```
/// use faces::faces::estimate_tokens;
/// assert_eq!(estimate_tokens(""), 0);
/// assert_eq!(estimate_tokens("Four chars make one."), 5);
/// assert_eq!(estimate_tokens("早安"), 2);
/// ```
#[must_use]
pub fn estimate_tokens(text: &str) -> u64 {
    quarters(text).div_ceil(4)
}

/// Size in quarters of a token. Adds up: the size of a text is the sum of its pieces' sizes, so
/// a prompt can be budgeted line by line without rounding.
pub(super) fn quarters(text: &str) -> u64 {
    if text.is_ascii() {
        return u64::try_from(text.len()).unwrap_or(u64::MAX);
    }
    text.chars()
        .map(|character| match character.len_utf8() {
            1 => 1,
            2 => 2,
            3 => 4,
            _ => 8,
        })
        .sum()
}

/// Puts a text on one line: runs of white space and control characters become one space,
/// invisible formatting characters vanish, the ends are trimmed.
///
/// A prompt's structure is its lines, so data that can't hold a line break can't forge a heading
/// or an instruction of ours. Invisible characters are a known carrier of hidden instructions;
/// the two joiners stay because Persian, Indic scripts and emoji need them.
pub(super) fn flatten(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    let mut gap = false;
    for character in text.chars() {
        if character.is_whitespace() || character.is_control() {
            gap = true;
        } else if !is_invisible(character) {
            if gap && !line.is_empty() {
                line.push(' ');
            }
            gap = false;
            line.push(character);
        }
    }
    line
}

/// Format characters that a reader doesn't see: zero-width, direction marks and overrides, tags.
const fn is_invisible(character: char) -> bool {
    matches!(character,
        '\u{AD}' | '\u{61C}' | '\u{180E}' | '\u{200B}' | '\u{200E}' | '\u{200F}'
        | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}'
        | '\u{FFF9}'..='\u{FFFB}' | '\u{E0000}'..='\u{E007F}')
}
