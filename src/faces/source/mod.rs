//! The text of files that faces are compiled from, and who says what in a transcript.
//!
//! All of it is for files of strangers: nothing here panics by itself, nests as deep as its input
//! says, or unpacks more than it was allowed. The libraries below may still fail in a way of their
//! own, so the caller runs [`text_of`] where a panic is caught and where it takes nobody's time.

mod docx;
mod kind;
mod pdf;
mod plain;
mod transcript;

#[cfg(test)]
mod tests;

pub use kind::FileKind;
pub use transcript::{SPEAKER_CHARS_MAX, SpeakerError, Transcript, TranscriptTurn, Utterance};

/// How much of a file is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileLimits {
    /// Pages of a PDF.
    pub pages_max: u32,
    /// Bytes that a compressed part of a file may unpack to, and bytes of the text that comes out.
    pub unpacked_bytes_max: u64,
}

/// Why a file gives no text. The words are for whoever sent it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// Sound or pictures that move.
    #[error(
        "audio and video can't be read here. Transcribe the file first and upload the transcript \
         as .txt, one `Speaker: message` per line (type thread), or the text as a document."
    )]
    Media,
    /// Word's format before 2007, or a document under a password, which looks the same.
    #[error(
        "this is a legacy .doc file or one under a password. Save it as .docx, .pdf or .txt \
         without a password and upload that."
    )]
    LegacyWord,
    /// None of the kinds that are read.
    #[error("this kind of file can't be read. Upload .txt, .md, .pdf or .docx.")]
    Unknown,
    /// It is not what it says.
    #[error("the {format} file can't be read: {reason}.")]
    Unreadable {
        /// `PDF`, `.docx` or `text`.
        format: &'static str,
        /// Why.
        reason: &'static str,
    },
    /// It is under a password.
    #[error("the PDF file is under a password. Save it without one and upload that.")]
    Locked,
    /// It holds no text.
    #[error(
        "the file has no text. A scanned document must go through text recognition (OCR) first."
    )]
    NoText,
    /// A PDF of more pages than are read.
    #[error("the PDF file has {pages} pages, the most is {pages_max}. Upload it in parts.")]
    TooManyPages {
        /// That many.
        pages: usize,
        /// The most.
        pages_max: u32,
    },
    /// It unpacks to more than is read.
    #[error("the file unpacks to more than {bytes_max} bytes, the most. Upload it in parts.")]
    TooLarge {
        /// The most.
        bytes_max: u64,
    },
    /// The caller wanted no more of it.
    #[error("reading the file took too long. Upload it in parts, or as .txt.")]
    Stopped,
}

/// The text of a file: lines end with `\n`, control characters are gone, and so are blanks at the
/// ends. `should_stop` is asked now and then.
///
/// # Errors
/// [`FileError`] when there is none to be had.
pub fn text_of(
    kind: FileKind,
    bytes: &[u8],
    limits: &FileLimits,
    should_stop: &dyn Fn() -> bool,
) -> Result<String, FileError> {
    let text = match kind {
        FileKind::Plain => plain::decode(bytes)?,
        FileKind::Pdf => pdf::text(bytes, limits, should_stop)?,
        FileKind::Docx => docx::text(bytes, limits)?,
    };
    let text = plain::tidy(&text);
    if text.is_empty() {
        return Err(FileError::NoText);
    }
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > limits.unpacked_bytes_max {
        return Err(FileError::TooLarge { bytes_max: limits.unpacked_bytes_max });
    }
    Ok(text)
}
