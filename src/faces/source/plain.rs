//! Text as it stands, in whatever encoding.

use encoding_rs::{Encoding, UTF_16BE, UTF_16LE, WINDOWS_1252};

use super::FileError;

/// How much is looked at to tell an encoding or a binary file.
const SAMPLE_BYTES: usize = 4_096;

/// Decodes a file: by its byte order mark, as UTF-8, as UTF-16 without a mark, else as
/// Windows-1252, of which Latin-1 is a part.
pub(super) fn decode(bytes: &[u8]) -> Result<String, FileError> {
    if let Some((encoding, mark)) = Encoding::for_bom(bytes) {
        return Ok(lossy(encoding, bytes.get(mark..).unwrap_or_default()));
    }
    match std::str::from_utf8(bytes) {
        Ok(text) if !looks_binary(text.as_bytes()) => return Ok(text.to_owned()),
        _ => {}
    }
    if let Some(encoding) = unmarked_utf16(bytes) {
        let text = lossy(encoding, bytes);
        if !looks_binary(text.as_bytes()) {
            return Ok(text);
        }
    }
    if looks_binary(bytes) {
        return Err(FileError::Unreadable { format: "text", reason: "it is a binary file" });
    }
    Ok(lossy(WINDOWS_1252, bytes))
}

/// Lines end with `\n`, other control characters but tabs are gone (a database may not take them),
/// no more than one empty line stands between two, and there are no blanks at the ends.
pub(super) fn tidy(text: &str) -> String {
    let mut tidied = String::with_capacity(text.len());
    let mut empty_lines = 0;
    for line in text.replace("\r\n", "\n").split(['\n', '\r', '\u{c}', '\u{2028}', '\u{2029}']) {
        let line: String = line
            .chars()
            .filter(|character| *character == '\t' || !character.is_control())
            .filter(|character| *character != '\u{feff}')
            .collect();
        let line = line.trim_end();
        if line.is_empty() {
            empty_lines += 1;
            continue;
        }
        if !tidied.is_empty() {
            tidied.push_str(if empty_lines > 0 { "\n\n" } else { "\n" });
        }
        empty_lines = 0;
        tidied.push_str(line);
    }
    tidied.trim().to_owned()
}

fn lossy(encoding: &'static Encoding, bytes: &[u8]) -> String {
    encoding.decode_without_bom_handling(bytes).0.into_owned()
}

/// Text of mostly Latin letters in UTF-16 has a zero in nearly every other byte, always the same.
fn unmarked_utf16(bytes: &[u8]) -> Option<&'static Encoding> {
    let sample = bytes.get(..SAMPLE_BYTES).unwrap_or(bytes);
    let pairs = sample.len() / 2;
    if pairs < 2 || !bytes.len().is_multiple_of(2) {
        return None;
    }
    let zeros = |offset: usize| sample.iter().skip(offset).step_by(2).filter(|&&b| b == 0).count();
    let (even, odd) = (zeros(0), zeros(1));
    let (most, least) = ((pairs * 9).div_ceil(10), pairs / 20);
    match (even, odd) {
        (even, odd) if odd >= most && even <= least => Some(UTF_16LE),
        (even, odd) if even >= most && odd <= least => Some(UTF_16BE),
        _ => None,
    }
}

/// Whether control characters that no text has are among the first bytes.
fn looks_binary(bytes: &[u8]) -> bool {
    let sample = bytes.get(..SAMPLE_BYTES).unwrap_or(bytes);
    let odd = sample
        .iter()
        .filter(|&&byte| byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r' | 0x0c | 0x1b))
        .count();
    odd * 50 > sample.len()
}
