//! What kind of file it is: by its first bytes, its name, and what its sender says of it.

use super::FileError;

/// A kind of file whose text is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// `.txt`, `.md` and whatever else is text as it stands.
    Plain,
    /// `.pdf`.
    Pdf,
    /// `.docx`.
    Docx,
}

/// Endings of sound and moving pictures.
const MEDIA: [&str; 22] = [
    "3gp", "aac", "aiff", "amr", "avi", "flac", "flv", "m4a", "m4v", "mkv", "mov", "mp3", "mp4",
    "mpeg", "mpg", "oga", "ogg", "opus", "wav", "webm", "wma", "wmv",
];
/// Endings of text as it stands.
const PLAIN: [&str; 7] = ["txt", "text", "md", "markdown", "log", "srt", "vtt"];
/// What a PDF begins with, within its first kilobyte (readers allow for a preamble).
const PDF_MARK: &[u8] = b"%PDF-";
const PDF_MARK_WITHIN: usize = 1_024;
/// What a ZIP archive begins with.
const ZIP_MARK: &[u8] = b"PK\x03\x04";
/// What the files of Office before 2007 begin with, and newer ones under a password.
const OLE_MARK: &[u8] = &[0xD0, 0xCF, 0x11, 0xE0, 0xA1, 0xB1, 0x1A, 0xE1];

impl FileKind {
    /// Finds it out. What the first bytes say counts most, then the name's ending, then the content
    /// type.
    ///
    /// # Errors
    /// [`FileError::Media`], [`FileError::LegacyWord`] or [`FileError::Unknown`] for a file whose
    /// text is not read.
    ///
    /// # Examples
    /// ```
    /// use faces::faces::source::FileKind;
    /// assert_eq!(FileKind::of(Some("Bio.TXT"), None, b"I was born."), Ok(FileKind::Plain));
    /// assert_eq!(FileKind::of(Some("bio.txt"), None, b"%PDF-1.7 ..."), Ok(FileKind::Pdf));
    /// assert!(FileKind::of(Some("talk.mp3"), None, b"ID3").is_err());
    /// ```
    pub fn of(
        file_name: Option<&str>,
        content_type: Option<&str>,
        bytes: &[u8],
    ) -> Result<Self, FileError> {
        let extension = file_name.and_then(extension).unwrap_or_default();
        let content_type = content_type.unwrap_or_default().to_ascii_lowercase();
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        let head = bytes.get(..PDF_MARK_WITHIN).unwrap_or(bytes);
        if memchr::memmem::find(head, PDF_MARK).is_some_and(|at| at == 0 || extension == "pdf") {
            return Ok(Self::Pdf);
        }
        if bytes.starts_with(OLE_MARK) {
            return Err(FileError::LegacyWord);
        }
        if MEDIA.contains(&extension.as_str())
            || (!PLAIN.contains(&extension.as_str())
                && (essence.starts_with("audio/") || essence.starts_with("video/")))
        {
            return Err(FileError::Media);
        }
        match extension.as_str() {
            "pdf" => Ok(Self::Pdf),
            "docx" => Ok(Self::Docx),
            "doc" => Err(FileError::LegacyWord),
            _ if PLAIN.contains(&extension.as_str()) => Ok(Self::Plain),
            "" => Self::without_ending(essence, bytes),
            _ => Err(FileError::Unknown),
        }
    }

    fn without_ending(essence: &str, bytes: &[u8]) -> Result<Self, FileError> {
        match essence {
            "application/pdf" => Ok(Self::Pdf),
            "application/msword" => Err(FileError::LegacyWord),
            "application/vnd.openxmlformats-officedocument.wordprocessingml.document" => {
                Ok(Self::Docx)
            }
            _ if bytes.starts_with(ZIP_MARK) => Ok(Self::Docx),
            "" | "application/octet-stream" => Ok(Self::Plain),
            _ if essence.starts_with("text/") => Ok(Self::Plain),
            _ => Err(FileError::Unknown),
        }
    }
}

/// What follows the last dot of a name's last part, in lower case.
fn extension(file_name: &str) -> Option<String> {
    let name = file_name.rsplit(['/', '\\']).next()?;
    let (stem, extension) = name.rsplit_once('.')?;
    let is_one = !stem.is_empty() && !extension.is_empty() && extension.len() <= 10;
    is_one.then(|| extension.to_ascii_lowercase())
}
