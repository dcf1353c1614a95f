//! Server-sent events: the incremental decoder and the encoder's few bytes.
//!
//! Source: WHATWG HTML, section 9.2 "Server-sent events". Lines end with LF, CRLF or CR; one
//! leading BOM is ignored; lines that start with `:` are comments; `data` lines are joined with
//! LF; `id`, `retry` and unknown fields are ignored; a record that the stream's end cuts off is
//! discarded. Unlike a browser, the decoder also reports records without data: a transparent
//! proxy must relay them.

use bytes::{BufMut as _, Bytes, BytesMut};

/// The end of an OpenAI stream as written to a client.
pub const DONE_RECORD: &[u8] = b"data: [DONE]\n\n";
/// The payload that ends an OpenAI stream.
pub const DONE: &[u8] = b"[DONE]";
/// A heartbeat that every client ignores (a comment; never an event without data).
pub const KEEP_ALIVE_RECORD: &[u8] = b": keep-alive\n\n";

/// One record: everything up to and with its blank line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SseRecord {
    /// The bytes as they came, blank line included. The raws of a stream and the decoder's rest
    /// together are the stream.
    pub raw: Bytes,
    /// The last `event` field.
    pub event: Option<Bytes>,
    /// The `data` lines joined with LF; `None` when there was no `data` field.
    pub data: Option<Bytes>,
}

/// Why a stream can't be decoded further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SseError {
    /// A record is larger than the limit. The decoder stays in this state.
    #[error("an event of the stream is larger than {bytes_max} bytes")]
    RecordTooLarge {
        /// The limit, bytes.
        bytes_max: usize,
    },
}

/// Cuts a byte stream into records.
///
/// A record that lies within one chunk is a slice of it (no copy); one that spans chunks is
/// copied once. Any way of cutting the bytes into chunks gives the same events and data. Memory:
/// the pushed chunks, and at most `record_bytes_max` of a record begun in an earlier chunk.
///
/// # Examples
/// ```
/// use bytes::Bytes;
/// use faces::wire::SseDecoder;
/// let mut decoder = SseDecoder::new(1024);
/// decoder.push(Bytes::from_static(b"data: {\"a\""));
/// assert_eq!(decoder.next(), Ok(None));
/// decoder.push(Bytes::from_static(b":1}\n\n"));
/// let record = decoder.next().unwrap().unwrap();
/// assert_eq!(record.data.unwrap(), "{\"a\":1}");
/// ```
#[derive(Debug)]
pub struct SseDecoder {
    record_bytes_max: usize,
    /// Pushed and not yet read; only the first may be partly read.
    chunks: std::collections::VecDeque<Bytes>,
    /// The begun record's bytes from earlier chunks.
    carry: BytesMut,
    /// Whether the current line has no byte yet.
    line_is_empty: bool,
    /// Whether the last byte was a CR: then an LF belongs to it.
    after_cr: bool,
    /// Whether the begun record starts with the LF of the last record's CR.
    leading_lf: bool,
    /// Whether no record was read yet (a BOM may stand before it).
    at_start: bool,
    failed: bool,
}

impl SseDecoder {
    /// A decoder that refuses records over `record_bytes_max` bytes (blank line included).
    #[must_use]
    pub fn new(record_bytes_max: usize) -> Self {
        Self {
            record_bytes_max,
            chunks: std::collections::VecDeque::new(),
            carry: BytesMut::new(),
            line_is_empty: true,
            after_cr: false,
            leading_lf: false,
            at_start: true,
            failed: false,
        }
    }

    /// Adds bytes; then call [`Self::next`] until it says `None`.
    pub fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() && !self.failed {
            self.chunks.push_back(chunk);
        }
    }

    /// The next whole record; `None` when more bytes are needed.
    ///
    /// # Errors
    /// [`SseError::RecordTooLarge`], now and on each later call.
    #[expect(clippy::should_implement_trait, reason = "it is fallible and resumes after `None`")]
    pub fn next(&mut self) -> Result<Option<SseRecord>, SseError> {
        let too_large = SseError::RecordTooLarge { bytes_max: self.record_bytes_max };
        if self.failed {
            return Err(too_large);
        }
        while let Some(mut chunk) = self.chunks.pop_front() {
            let begun = self.carry.len();
            let end = self.find_end(&chunk, begun == 0);
            if begun + end.unwrap_or(chunk.len()) > self.record_bytes_max {
                self.failed = true;
                self.carry = BytesMut::new();
                self.chunks.clear();
                return Err(too_large);
            }
            let Some(end) = end else {
                self.carry.extend_from_slice(&chunk);
                continue;
            };
            let head = chunk.split_to(end);
            if !chunk.is_empty() {
                self.chunks.push_front(chunk);
            }
            let raw = if begun == 0 {
                head
            } else {
                self.carry.extend_from_slice(&head);
                std::mem::take(&mut self.carry).freeze()
            };
            let skip = usize::from(std::mem::take(&mut self.leading_lf));
            let at_start = std::mem::replace(&mut self.at_start, false);
            return Ok(Some(read_record(raw, skip, at_start)));
        }
        Ok(None)
    }

    /// Ends the stream: the bytes of an incomplete record, which is not an event.
    pub fn finish(&mut self) -> Option<Bytes> {
        let mut rest = std::mem::take(&mut self.carry);
        for chunk in self.chunks.drain(..) {
            rest.extend_from_slice(&chunk);
        }
        (!rest.is_empty()).then(|| rest.freeze())
    }

    /// Where in `chunk` the begun record ends (past its blank line), keeping the line state.
    fn find_end(&mut self, chunk: &[u8], record_begins: bool) -> Option<usize> {
        let mut at = 0;
        if std::mem::take(&mut self.after_cr) && chunk.first() == Some(&b'\n') {
            at = 1;
            // The CR ended the last record already: its LF opens this one's bytes.
            self.leading_lf |= record_begins && self.line_is_empty;
        }
        while at < chunk.len() {
            let Some(offset) = memchr::memchr2(b'\n', b'\r', &chunk[at..]) else {
                self.line_is_empty = false;
                return None;
            };
            let blank = offset == 0 && self.line_is_empty;
            let mut end = at + offset + 1;
            if chunk[end - 1] == b'\r' {
                match chunk.get(end) {
                    Some(b'\n') => end += 1,
                    Some(_) => {}
                    None => self.after_cr = true,
                }
            }
            self.line_is_empty = true;
            if blank {
                return Some(end);
            }
            at = end;
        }
        None
    }
}

/// Reads the fields of a whole record. `skip` bytes at its start belong to the record before.
fn read_record(raw: Bytes, skip: usize, at_start: bool) -> SseRecord {
    let mut at = skip;
    if at_start && raw.starts_with(b"\xEF\xBB\xBF") {
        at = 3;
    }
    let mut event = None;
    let mut data: Option<(usize, usize)> = None;
    let mut joined: Option<BytesMut> = None;
    while at < raw.len() {
        let end = memchr::memchr2(b'\n', b'\r', &raw[at..]).map_or(raw.len(), |offset| at + offset);
        let line = &raw[at..end];
        if let Some(start) = field(line, b"data") {
            let value = (at + start, end);
            match (&mut joined, data) {
                (Some(joined), _) => {
                    joined.put_u8(b'\n');
                    joined.extend_from_slice(&raw[value.0..value.1]);
                }
                (None, Some(first)) => {
                    let mut lines = BytesMut::with_capacity(raw.len());
                    lines.extend_from_slice(&raw[first.0..first.1]);
                    lines.put_u8(b'\n');
                    lines.extend_from_slice(&raw[value.0..value.1]);
                    joined = Some(lines);
                }
                (None, None) => data = Some(value),
            }
        } else if let Some(start) = field(line, b"event") {
            event = Some(raw.slice(at + start..end));
        }
        at = end + 1;
        if raw.get(end) == Some(&b'\r') && raw.get(at) == Some(&b'\n') {
            at += 1;
        }
    }
    let data =
        joined.map(BytesMut::freeze).or_else(|| data.map(|(start, end)| raw.slice(start..end)));
    SseRecord { raw, event, data }
}

/// Where the value starts when `line` is the field `name`.
fn field(line: &[u8], name: &[u8]) -> Option<usize> {
    let rest = line.strip_prefix(name)?;
    match rest {
        [] => Some(line.len()),
        [b':', b' ', ..] => Some(name.len() + 2),
        [b':', ..] => Some(name.len() + 1),
        _ => None,
    }
}

/// Writes `data: <json>` and the blank line. `json` must hold no line break (JSON text that
/// `serde_json` or this room wrote has none).
pub fn encode_data(json: &[u8], out: &mut BytesMut) {
    out.reserve(json.len() + 8);
    out.extend_from_slice(b"data: ");
    out.extend_from_slice(json);
    out.extend_from_slice(b"\n\n");
}

/// Writes a named record, as Anthropic's dialect has them.
pub fn encode_event(event: &str, json: &[u8], out: &mut BytesMut) {
    out.reserve(event.len() + json.len() + 16);
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(event.as_bytes());
    out.put_u8(b'\n');
    encode_data(json, out);
}

/// JSON text with its line breaks (which can only be whitespace between tokens) made spaces.
pub(crate) fn one_line(json: Bytes) -> Bytes {
    if memchr::memchr2(b'\n', b'\r', &json).is_none() {
        return json;
    }
    json.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }).collect()
}

#[cfg(test)]
mod tests;
