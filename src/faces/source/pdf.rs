//! The text of a PDF, page by page.

use lopdf::{DecompressError, Document, LoadOptions};

use super::{FileError, FileLimits};

/// What one stream of a PDF may unpack to at most, bytes, however much the whole may: a page of
/// text has some kilobytes, and thousands of streams may stand in one file.
const STREAM_BYTES_MAX: u64 = 16 << 20;

pub(super) fn text(
    bytes: &[u8],
    limits: &FileLimits,
    should_stop: &dyn Fn() -> bool,
) -> Result<String, FileError> {
    let stream_max = limits.unpacked_bytes_max.min(STREAM_BYTES_MAX);
    let stream_max = usize::try_from(stream_max).unwrap_or(usize::MAX);
    let options = LoadOptions::with_max_decompressed_size(stream_max);
    let document =
        Document::load_mem_with_options(bytes, options).map_err(|error| why(&error, limits))?;
    if document.is_encrypted() && document.encryption_state.is_none() {
        return Err(FileError::Locked);
    }
    let pages = document.get_pages();
    if pages.len() > usize::try_from(limits.pages_max).unwrap_or(usize::MAX) {
        return Err(FileError::TooManyPages { pages: pages.len(), pages_max: limits.pages_max });
    }
    let bytes_max = usize::try_from(limits.unpacked_bytes_max).unwrap_or(usize::MAX);
    let mut text = String::new();
    for number in pages.keys() {
        if should_stop() {
            return Err(FileError::Stopped);
        }
        // A page or a font that can't be read takes nothing from the others.
        for chunk in document.extract_text_chunks_with_limit(&[*number], stream_max) {
            match chunk {
                Ok(chunk) => text.push_str(&chunk),
                Err(lopdf::Error::Decompress(DecompressError::MemoryLimitExceeded { .. })) => {
                    return Err(FileError::TooLarge { bytes_max: limits.unpacked_bytes_max });
                }
                Err(_) => {}
            }
            if text.len() > bytes_max {
                return Err(FileError::TooLarge { bytes_max: limits.unpacked_bytes_max });
            }
        }
        text.push_str("\n\n");
    }
    Ok(text)
}

fn why(error: &lopdf::Error, limits: &FileLimits) -> FileError {
    match error {
        lopdf::Error::Decompress(DecompressError::MemoryLimitExceeded { .. }) => {
            FileError::TooLarge { bytes_max: limits.unpacked_bytes_max }
        }
        lopdf::Error::InvalidPassword | lopdf::Error::Decryption(_) => FileError::Locked,
        _ => FileError::Unreadable { format: "PDF", reason: "it is damaged or no PDF" },
    }
}
