//! The fast path of OpenAI streams: chunks of one stream differ in one or two strings only.
//!
//! A chunk that was read in full is kept as a template: its text with holes where the content
//! (and the `obfuscation` padding) stands. A later record that equals the template outside the
//! holes, and has nothing but a valid JSON string body in them, is the same JSON with another
//! content, so it need not be parsed again. Everything else takes the full path.

use std::ops::Range;

use bytes::Bytes;

use crate::wire::raw::{self, Edit};

/// Templates learned per stream before giving up: a stream whose chunks differ in more places
/// (log probabilities, several choices) only pays for the attempts.
const LEARN_ATTEMPTS_MAX: u32 = 8;

#[derive(Debug, Default)]
pub(super) struct Templates {
    current: Option<Template>,
    learned: u32,
}

#[derive(Debug)]
struct Template {
    /// What stands before, between and after the holes: as it comes and as it goes out.
    segments: Vec<(Bytes, Bytes)>,
    /// Which of the holes is the content.
    content: usize,
}

/// A record that fits the template.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Match {
    /// Bytes of the content once its escapes are read.
    pub(super) content_bytes: u64,
    /// The text for the client; `None` when nothing is to be written.
    pub(super) out: Option<Bytes>,
}

impl Templates {
    /// Reads `data` by the template.
    pub(super) fn read(&self, data: &[u8], emit: bool) -> Option<Match> {
        let template = self.current.as_ref()?;
        let (first, rest) = template.segments.split_first()?;
        let mut at = first.0.len();
        if !data.starts_with(&first.0) {
            return None;
        }
        let mut out = if emit {
            let mut out = Vec::with_capacity(data.len() + first.1.len().saturating_sub(at) + 16);
            out.extend_from_slice(&first.1);
            Some(out)
        } else {
            None
        };
        let mut content_bytes = 0;
        for (index, (segment, written)) in rest.iter().enumerate() {
            let body = string_body(data.get(at..)?)?;
            if index == template.content {
                content_bytes = raw::inner_decoded_len(body);
            }
            at += body.len();
            if !data.get(at..)?.starts_with(segment) {
                return None;
            }
            at += segment.len();
            if let Some(out) = &mut out {
                out.extend_from_slice(body);
                out.extend_from_slice(written);
            }
        }
        (at == data.len()).then(|| Match { content_bytes, out: out.map(Bytes::from) })
    }

    /// Whether learning another template may pay.
    pub(super) const fn may_learn(&self) -> bool {
        self.learned < LEARN_ATTEMPTS_MAX
    }

    /// Keeps `text` (valid JSON) as the template. `content` and `padding` are the spans between
    /// the quotes of the strings that vary; `edits` make the client's text of it.
    pub(super) fn learn(
        &mut self,
        text: &str,
        edits: &[Edit],
        content: Range<usize>,
        padding: Option<Range<usize>>,
    ) {
        self.learned += 1;
        let mut holes = vec![(content, true)];
        holes.extend(padding.map(|padding| (padding, false)));
        holes.sort_by_key(|(hole, _)| hole.start);
        let mut segments = Vec::with_capacity(holes.len() + 1);
        let mut at = 0;
        let ends = holes.iter().map(|(hole, _)| (hole.start, hole.end));
        for (start, next) in ends.chain([(text.len(), text.len())]) {
            let inside = |edit: &&Edit| edit.at.start >= at && edit.at.end <= start;
            let moved: Vec<Edit> = edits
                .iter()
                .filter(inside)
                .map(|edit| Edit::replace(edit.at.start - at..edit.at.end - at, &*edit.with))
                .collect();
            let Some(segment) = text.get(at..start) else { return };
            let written = raw::splice(segment, moved);
            segments.push((Bytes::copy_from_slice(segment.as_bytes()), written));
            at = next;
        }
        let content = holes.iter().position(|(_, is_content)| *is_content).unwrap_or(0);
        self.current = Some(Template { segments, content });
    }
}

/// The body of the JSON string that `data` is in, up to its closing quote; `None` when it is not
/// a valid one.
fn string_body(data: &[u8]) -> Option<&[u8]> {
    let mut at = 0;
    let end = loop {
        let offset = at + memchr::memchr2(b'"', b'\\', data.get(at..)?)?;
        if data[offset] == b'"' {
            break offset;
        }
        at = match data.get(offset + 1)? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => offset + 2,
            b'u' if data.get(offset + 2..offset + 6)?.iter().all(u8::is_ascii_hexdigit) => {
                offset + 6
            }
            _ => return None,
        };
    };
    let body = &data[..end];
    let is_text = body.iter().all(|byte| *byte >= 0x20) && std::str::from_utf8(body).is_ok();
    is_text.then_some(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_valid_string_bodies_are_taken() {
        for (data, body) in [
            (&b"abc\"x"[..], Some(&b"abc"[..])),
            (b"\"", Some(b"")),
            (br#"a\"b\\\u00e9","#, Some(br#"a\"b\\\u00e9"#)),
            (b"no end", None),
            (br#"\x""#, None),
            (br#"\u00g0""#, None),
            (b"\\", None),
            (b"a\nb\"", None),
            (b"\xff\"", None),
        ] {
            assert_eq!(string_body(data), body, "{data:?}");
        }
    }
}
