//! The text of a `.docx`: the paragraphs of its main part, in their order.

use std::io::{Cursor, Read as _};

use quick_xml::{
    Reader,
    escape::resolve_predefined_entity,
    events::{BytesRef, Event},
};
use zip::ZipArchive;

use super::{FileError, FileLimits, plain};

/// Where the text stands in the archive.
const MAIN_PART: &str = "word/document.xml";

pub(super) fn text(bytes: &[u8], limits: &FileLimits) -> Result<String, FileError> {
    let unreadable = |reason| FileError::Unreadable { format: ".docx", reason };
    let mut archive = ZipArchive::new(Cursor::new(bytes))
        .map_err(|_| unreadable("it is no ZIP archive, or a damaged one"))?;
    let part = archive
        .by_name(MAIN_PART)
        .map_err(|_| unreadable("it has no word/document.xml that can be unpacked"))?;
    let bytes_max = limits.unpacked_bytes_max;
    let mut xml = Vec::new();
    // The size that the archive tells is its maker's word: what comes out is counted.
    let read = part.take(bytes_max.saturating_add(1)).read_to_end(&mut xml);
    read.map_err(|_| unreadable("its word/document.xml is damaged"))?;
    if u64::try_from(xml.len()).unwrap_or(u64::MAX) > bytes_max {
        return Err(FileError::TooLarge { bytes_max });
    }
    let xml = plain::decode(&xml).map_err(|_| unreadable("its word/document.xml is no text"))?;
    paragraphs(&xml).ok_or_else(|| unreadable("its word/document.xml is no XML"))
}

/// The text of WordprocessingML: runs as they are, `\n` after each paragraph. What was deleted
/// under tracked changes, field codes, and the fall-back copies of text boxes are left out.
fn paragraphs(xml: &str) -> Option<String> {
    let mut reader = Reader::from_str(xml);
    let mut text = String::new();
    let (mut in_text, mut fallbacks) = (false, 0_u32);
    loop {
        match reader.read_event().ok()? {
            Event::Start(start) => match start.local_name().as_ref() {
                "t" => in_text = fallbacks == 0,
                "Fallback" => fallbacks += 1,
                other => space(other, fallbacks, &mut text),
            },
            Event::Empty(empty) => space(empty.local_name().as_ref(), fallbacks, &mut text),
            Event::End(end) => match end.local_name().as_ref() {
                "t" => in_text = false,
                "p" if fallbacks == 0 => text.push('\n'),
                "tc" if fallbacks == 0 => text.push('\t'),
                "Fallback" => fallbacks = fallbacks.saturating_sub(1),
                _ => {}
            },
            Event::Text(content) if in_text => text.push_str(&content.xml10_content()),
            Event::CData(content) if in_text => text.push_str(&content.xml10_content()),
            Event::GeneralRef(reference) if in_text => push_reference(&reference, &mut text),
            Event::Eof => return Some(text),
            _ => {}
        }
    }
}

fn space(element: &str, fallbacks: u32, text: &mut String) {
    if fallbacks > 0 {
        return;
    }
    match element {
        "tab" => text.push('\t'),
        "br" | "cr" => text.push('\n'),
        "noBreakHyphen" => text.push('-'),
        _ => {}
    }
}

/// `&amp;` and `&#233;`; an entity of the document's own is left out, so none can grow.
fn push_reference(reference: &BytesRef<'_>, text: &mut String) {
    if let Ok(Some(character)) = reference.resolve_char_ref() {
        text.push(character);
    } else if let Some(known) = resolve_predefined_entity(&reference.xml10_content()) {
        text.push_str(known);
    }
}
