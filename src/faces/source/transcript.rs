//! Who says what in a transcript: `Speaker: message` lines, and lines that go on.
//!
//! The rule: a line begins a message when it has a name and a colon, `Alice: Hello`. A name begins
//! with a letter, has at most 6 words and 64 characters, and none of `.,;?!"` but the dot of an
//! abbreviation (`Dr. Who`, `J. Doe`). Before it may stand a list mark, stars (`**Alice:**`) and a time
//! (`[00:01:02]`, `00:01:02`, `(1:02)`); after it a time in brackets (`Alice (00:12): Hello`). Any
//! other line goes on with the message before; lines before the first message are left out, and so
//! are messages without a word.

/// Most characters of a speaker's name.
pub const SPEAKER_CHARS_MAX: usize = 64;
const SPEAKER_WORDS_MAX: usize = 6;

/// A message of a transcript.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Utterance {
    /// The name, as it stands at the message.
    pub speaker: String,
    /// What was said; lines end with `\n`.
    pub text: String,
}

/// A message, and whether the face says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TranscriptTurn {
    /// Whether it is the face's.
    pub is_face: bool,
    /// Who and what.
    pub utterance: Utterance,
}

/// A transcript in which the face was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transcript {
    /// The face's name in it.
    pub face_speaker: String,
    /// All messages.
    pub turns: Vec<TranscriptTurn>,
}

/// Why a text is no transcript of the face.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpeakerError {
    /// There is no line of a speaker.
    #[error(
        "no speakers were found: a transcript has a `Speaker: message` line for each message. \
         Upload a text without speakers as a document (type document)."
    )]
    NoSpeakers,
    /// Nobody has that name.
    #[error("nobody named so speaks in the transcript. Its speakers: {speakers}.")]
    NoSuchSpeaker {
        /// The names that were found.
        speakers: String,
    },
}

impl Transcript {
    /// Reads the messages, whoever says them.
    ///
    /// # Examples
    /// ```
    /// use faces::faces::source::Transcript;
    /// let said = Transcript::utterances("Ann: Hi,\nall of you.\nBob: Hello: Ann!");
    /// assert_eq!((said[0].speaker.as_str(), said[0].text.as_str()), ("Ann", "Hi,\nall of you."));
    /// assert_eq!((said[1].speaker.as_str(), said[1].text.as_str()), ("Bob", "Hello: Ann!"));
    /// ```
    #[must_use]
    pub fn utterances(text: &str) -> Vec<Utterance> {
        let mut said: Vec<Utterance> = Vec::new();
        for line in text.lines() {
            if let Some((speaker, message)) = opening(line) {
                let (speaker, text) = (speaker.to_owned(), message.to_owned());
                said.push(Utterance { speaker, text });
            } else if let Some(last) = said.last_mut() {
                if !last.text.is_empty() {
                    last.text.push('\n');
                }
                last.text.push_str(line.trim());
            }
        }
        for utterance in &mut said {
            utterance.text.truncate(utterance.text.trim_end().len());
        }
        said.retain(|utterance| !utterance.text.is_empty());
        said
    }

    /// Says of each message whether the face says it.
    ///
    /// A name that was asked for must be that of a speaker, whatever the case of its letters.
    /// Without one it is the speaker whose name has the face's name or username in it, or the other
    /// way round, word by word (`Alice` for `Alice Example`), when that is one only; else the first
    /// speaker.
    ///
    /// # Errors
    /// [`SpeakerError`]: nobody speaks, or nobody of the asked-for name.
    pub fn read(
        text: &str,
        face_speaker: Option<&str>,
        face_names: &[&str],
    ) -> Result<Self, SpeakerError> {
        Self::assign(Self::utterances(text), face_speaker, face_names)
    }

    /// As [`Transcript::read`], of messages that were read before.
    ///
    /// # Errors
    /// As [`Transcript::read`].
    pub fn assign(
        said: Vec<Utterance>,
        face_speaker: Option<&str>,
        face_names: &[&str],
    ) -> Result<Self, SpeakerError> {
        let speakers = speakers(&said);
        let face = match face_speaker {
            _ if speakers.is_empty() => return Err(SpeakerError::NoSpeakers),
            Some(wanted) => {
                let wanted = fold(wanted);
                speakers
                    .iter()
                    .find(|speaker| fold(speaker) == wanted)
                    .ok_or_else(|| SpeakerError::NoSuchSpeaker { speakers: shown(&speakers) })?
            }
            None => named_like(&speakers, face_names).unwrap_or(&speakers[0]),
        };
        let face_speaker = face.clone();
        let folded = fold(&face_speaker);
        let turns = said
            .into_iter()
            .map(|utterance| TranscriptTurn {
                is_face: fold(&utterance.speaker) == folded,
                utterance,
            })
            .collect();
        Ok(Self { face_speaker, turns })
    }
}

/// The names in the order of their first message, each once.
fn speakers(said: &[Utterance]) -> Vec<String> {
    let mut seen = std::collections::HashSet::new();
    let names = said.iter().map(|utterance| &utterance.speaker);
    names.filter(|name| seen.insert(fold(name))).cloned().collect()
}

fn named_like<'a>(speakers: &'a [String], face_names: &[&str]) -> Option<&'a String> {
    let exact = |speaker: &&String| face_names.iter().any(|name| fold(name) == fold(speaker));
    if let Some(found) = speakers.iter().find(exact) {
        return Some(found);
    }
    let alike = |speaker: &&String| face_names.iter().any(|name| share_words(name, speaker));
    let mut found = speakers.iter().filter(alike);
    let first = found.next()?;
    found.next().is_none().then_some(first)
}

/// Whether all words of the one are among the words of the other.
fn share_words(left: &str, right: &str) -> bool {
    let (left, right) = (name_words(left), name_words(right));
    let within = |some: &[String], all: &[String]| {
        !some.is_empty() && some.iter().all(|word| all.contains(word))
    };
    within(&left, &right) || within(&right, &left)
}

fn name_words(name: &str) -> Vec<String> {
    let words = name.split(|character: char| !character.is_alphanumeric());
    words.filter(|word| !word.is_empty()).map(fold).collect()
}

fn fold(name: &str) -> String {
    name.trim().to_lowercase()
}

/// The first names, for an error.
fn shown(speakers: &[String]) -> String {
    const NAMES_MAX: usize = 10;
    let mut names = speakers.iter().take(NAMES_MAX).cloned().collect::<Vec<_>>().join(", ");
    if speakers.len() > NAMES_MAX {
        names.push_str(", …");
    }
    names
}

/// Speaker and first words of a line that begins a message.
fn opening(line: &str) -> Option<(&str, &str)> {
    let line = line.trim_start().trim_start_matches(['-', '*', '_', '>', '•', ' ']);
    let line = without_time(line).trim_start_matches(['*', '_', ' ']);
    let (name, message) = split_at_colon(line)?;
    let name = name.trim_end_matches(['*', '_', ' ']);
    let name = without_trailing_time(name).trim_end_matches(['*', '_', ' ']);
    // `**Alice:** Hello`: the stars that close stand after the colon.
    let message = message.trim_start_matches(['*', '_']).trim();
    // `http://…` is no speaker.
    (is_name(name) && !message.starts_with("//")).then_some((name, message))
}

/// The first colon (also the full-width one) that no bracket encloses.
fn split_at_colon(line: &str) -> Option<(&str, &str)> {
    let mut depth = 0_i32;
    for (at, character) in line.char_indices().take(2 * SPEAKER_CHARS_MAX) {
        match character {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            ':' | '：' if depth <= 0 => {
                return Some((line.get(..at)?, line.get(at + character.len_utf8()..)?));
            }
            _ => {}
        }
    }
    None
}

/// Leaves out a time at the beginning: `[00:01:02]`, `(1:02)` or `00:01:02.345`.
fn without_time(line: &str) -> &str {
    let (inside, rest) = match line.chars().next() {
        Some('[') => (line.get(1..), ']'),
        Some('(') => (line.get(1..), ')'),
        _ => (None, ' '),
    };
    if let Some((time, rest)) = inside.and_then(|inside| inside.split_once(rest)) {
        return if is_time(time) { rest.trim_start() } else { line };
    }
    match line.split_once(' ') {
        Some((time, rest)) if time.contains(':') && is_time(time) => rest.trim_start(),
        _ => line,
    }
}

fn without_trailing_time(name: &str) -> &str {
    let Some(inside) = name.strip_suffix([')', ']']) else { return name };
    match inside.rsplit_once(['(', '[']) {
        Some((name, time)) if is_time(time) => name.trim_end(),
        _ => name,
    }
}

fn is_time(text: &str) -> bool {
    let has_digit = text.bytes().any(|byte| byte.is_ascii_digit());
    has_digit
        && text.len() <= 32
        && text.chars().all(|character| {
            character.is_ascii_digit() || matches!(character, ':' | '.' | ',' | '-' | '>' | ' ')
        })
}

fn is_name(name: &str) -> bool {
    let is_short = name.chars().count() <= SPEAKER_CHARS_MAX
        && name.split_whitespace().count() <= SPEAKER_WORDS_MAX;
    is_short
        && name.chars().next().is_some_and(char::is_alphabetic)
        && !name
            .contains([',', ';', '?', '!', '"', '“', '”', '/', '\\', '<', '>', '=', '{', '}', '|'])
        && !has_sentence_end(name)
}

/// A dot ends an abbreviation in words of at most 4 letters before the name (`Prof. Dr. Lee`), and an
/// initial anywhere (`Ann B. Lee`).
fn has_sentence_end(name: &str) -> bool {
    let mut is_title = true;
    name.split_whitespace().any(|word| {
        let Some((before, _)) = word.split_once('.') else {
            is_title = false;
            return false;
        };
        let letters = before.chars().count();
        letters > 4 || (letters > 1 && !is_title)
    })
}
