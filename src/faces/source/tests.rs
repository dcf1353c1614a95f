//! Files that a test makes itself, real ones as far as their readers can tell, and hostile ones.

use std::{
    io::{Cursor, Write as _},
    panic::{AssertUnwindSafe, catch_unwind},
};

use lopdf::{
    Document, Object, Stream,
    content::{Content, Operation},
    dictionary,
};
use proptest::prelude::*;
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use super::{
    FileError, FileKind, FileLimits, SpeakerError, Transcript,
    plain::{decode, tidy},
    text_of,
};

const LIMITS: FileLimits = FileLimits { pages_max: 5, unpacked_bytes_max: 100_000 };

fn read(kind: FileKind, bytes: &[u8]) -> Result<String, FileError> {
    text_of(kind, bytes, &LIMITS, &|| false)
}

/// A PDF with a line of text on each page.
fn pdf(lines: &[&str]) -> Vec<u8> {
    let mut document = Document::with_version("1.5");
    let pages_id = document.new_object_id();
    let font = document.add_object(
        dictionary! { "Type" => "Font", "Subtype" => "Type1", "BaseFont" => "Courier" },
    );
    let resources = document.add_object(dictionary! { "Font" => dictionary! { "F1" => font } });
    let mut kids: Vec<Object> = Vec::new();
    for line in lines {
        let operations = vec![
            Operation::new("BT", vec![]),
            Operation::new("Tf", vec!["F1".into(), 12.into()]),
            Operation::new("Td", vec![50.into(), 700.into()]),
            Operation::new("Tj", vec![Object::string_literal(*line)]),
            Operation::new("ET", vec![]),
        ];
        let content = Content { operations }.encode().unwrap();
        let mut stream = Stream::new(dictionary! {}, content);
        stream.compress().unwrap();
        let content = document.add_object(stream);
        let page = document.add_object(dictionary! {
            "Type" => "Page", "Parent" => pages_id, "Contents" => content,
        });
        kids.push(page.into());
    }
    let count = i64::try_from(kids.len()).unwrap();
    let pages = dictionary! {
        "Type" => "Pages", "Kids" => kids, "Count" => count, "Resources" => resources,
        "MediaBox" => vec![0.into(), 0.into(), 595.into(), 842.into()],
    };
    document.objects.insert(pages_id, Object::Dictionary(pages));
    let catalog = document.add_object(dictionary! { "Type" => "Catalog", "Pages" => pages_id });
    document.trailer.set("Root", catalog);
    let mut bytes = Vec::new();
    document.save_to(&mut bytes).unwrap();
    bytes
}

fn zipped(name: &str, content: &[u8]) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    archive.start_file(name, options).unwrap();
    archive.write_all(content).unwrap();
    archive.finish().unwrap().into_inner()
}

fn docx(body: &str) -> Vec<u8> {
    let xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><w:document xmlns:w=\"urn:w\" \
         xmlns:mc=\"urn:mc\"><w:body>{body}</w:body></w:document>"
    );
    zipped("word/document.xml", xml.as_bytes())
}

fn paragraph(text: &str) -> String {
    format!("<w:p><w:r><w:t xml:space=\"preserve\">{text}</w:t></w:r></w:p>")
}

#[test]
fn text_is_decoded_whatever_its_encoding() {
    let utf16 = |text: &str, mark: bool, big: bool| {
        let units = mark.then_some(0xFEFF).into_iter().chain(text.encode_utf16());
        let bytes = |unit: u16| if big { unit.to_be_bytes() } else { unit.to_le_bytes() };
        units.flat_map(bytes).collect::<Vec<u8>>()
    };
    let text = "Grüße aus Köln, sagte sie.";
    let latin1: Vec<u8> = text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
    let with_mark = [b"\xEF\xBB\xBF", text.as_bytes()].concat();
    for bytes in [
        text.as_bytes().to_vec(),
        with_mark,
        latin1,
        utf16(text, true, false),
        utf16(text, true, true),
        utf16(text, false, false),
        utf16(text, false, true),
    ] {
        assert_eq!(read(FileKind::Plain, &bytes).unwrap(), text, "{bytes:02x?}");
    }
    assert_eq!(read(FileKind::Plain, "日本語".as_bytes()).unwrap(), "日本語");
    assert_eq!(read(FileKind::Plain, b"It\x92s").unwrap(), "It’s");
}

#[test]
fn lines_are_tidied_and_nothing_is_no_text() {
    assert_eq!(tidy("\r\n a\r\n\r\n\r\n\tb \rc\u{0}\u{7}\n \n"), "a\n\n\tb\nc");
    for nothing in [&b""[..], b" \r\n\t ", b"\xEF\xBB\xBF"] {
        assert_eq!(read(FileKind::Plain, nothing), Err(FileError::NoText));
    }
    assert!(matches!(decode(&[0, 1, 2, 3, 254, 255, 0, 9]), Err(FileError::Unreadable { .. })));
    let long = "x".repeat(100_001);
    assert_eq!(
        read(FileKind::Plain, long.as_bytes()),
        Err(FileError::TooLarge { bytes_max: 100_000 })
    );
}

#[test]
fn a_kind_is_told_by_bytes_name_and_content_type() {
    use FileKind::{Docx, Pdf, Plain};
    const WORD: &str = "application/vnd.openxmlformats-officedocument.wordprocessingml.document";
    let of = |name: &str, content_type: &str, bytes: &[u8]| {
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        FileKind::of(given(name).as_deref(), given(content_type).as_deref(), bytes)
    };
    for (name, content_type, bytes, kind) in [
        ("a.txt", "", &b"text"[..], Ok(Plain)),
        ("A.MD", "application/octet-stream", b"text", Ok(Plain)),
        ("", "", b"text", Ok(Plain)),
        ("", "text/plain; charset=utf-8", b"text", Ok(Plain)),
        ("", "", b"%PDF-1.4", Ok(Pdf)),
        ("a.pdf", "", b"junk\n%PDF-1.4", Ok(Pdf)),
        ("a.txt", "", b"About %PDF-1.4 files", Ok(Plain)),
        ("dir.x/a.docx", "", b"PK\x03\x04", Ok(Docx)),
        ("", WORD, b"PK\x03\x04", Ok(Docx)),
        ("a.doc", "", b"x", Err(FileError::LegacyWord)),
        ("a.docx", "", b"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1", Err(FileError::LegacyWord)),
        ("a.mp3", "", b"ID3", Err(FileError::Media)),
        ("a.WebM", "", b"x", Err(FileError::Media)),
        ("a", "video/mp4", b"x", Err(FileError::Media)),
        ("a.png", "image/png", b"x", Err(FileError::Unknown)),
        ("", "image/png", b"x", Err(FileError::Unknown)),
        ("a.zip", "application/zip", b"PK\x03\x04", Err(FileError::Unknown)),
    ] {
        assert_eq!(of(name, content_type, bytes), kind, "{name} {content_type}");
    }
}

#[test]
fn a_pdf_is_read_page_by_page() {
    let file = pdf(&["I was born in Kiel.", "I build ships."]);
    let text = read(FileKind::Pdf, &file).unwrap();
    assert_eq!(text, "I was born in Kiel.\n\nI build ships.");
    assert_eq!(read(FileKind::Pdf, &pdf(&[""])), Err(FileError::NoText));
    let many = read(FileKind::Pdf, &pdf(&["a"; 6]));
    assert_eq!(many, Err(FileError::TooManyPages { pages: 6, pages_max: 5 }));
    let stopped = text_of(FileKind::Pdf, &file, &LIMITS, &|| true);
    assert_eq!(stopped, Err(FileError::Stopped));
    for (cut, damaged) in [(10, &b"%PDF-1.7"[..]), (20, b"no pdf at all, though it says so")] {
        let answer = read(FileKind::Pdf, damaged);
        assert!(matches!(answer, Err(FileError::Unreadable { .. })), "{cut}: {answer:?}");
    }
}

#[test]
fn a_pdf_that_unpacks_to_too_much_is_refused() {
    let mut document = Document::load_mem(&pdf(&["short"])).unwrap();
    let page = *document.get_pages().get(&1).unwrap();
    let content = "BT ET ".repeat(50_000);
    let mut stream = Stream::new(dictionary! {}, content.into_bytes());
    stream.compress().unwrap();
    assert!(stream.content.len() < 5_000, "it is a bomb: {}", stream.content.len());
    let id = document.add_object(stream);
    document.get_object_mut(page).unwrap().as_dict_mut().unwrap().set("Contents", id);
    let mut bytes = Vec::new();
    document.save_to(&mut bytes).unwrap();
    assert_eq!(read(FileKind::Pdf, &bytes), Err(FileError::TooLarge { bytes_max: 100_000 }));
}

#[test]
fn a_docx_gives_its_paragraphs() {
    let body = [
        paragraph("Caf&#233; &amp; Bar "),
        "<w:p><w:r><w:t>one</w:t><w:tab/><w:t>two</w:t><w:br/><w:t>three</w:t></w:r></w:p>".into(),
        "<w:p><w:del><w:r><w:delText>gone</w:delText></w:r></w:del><w:r><w:instrText>PAGE</w:instrText></w:r></w:p>".into(),
        format!("<w:p><mc:Fallback>{}</mc:Fallback></w:p>", paragraph("twice")),
        paragraph("last &unknown; one"),
    ];
    let text = read(FileKind::Docx, &docx(&body.concat())).unwrap();
    assert_eq!(text, "Café & Bar\none\ttwo\nthree\n\nlast  one");
    assert_eq!(read(FileKind::Docx, &docx("<w:p/>")), Err(FileError::NoText));
}

#[test]
fn a_docx_that_is_none_or_a_bomb_is_refused() {
    let entities = b"<!DOCTYPE d [<!ENTITY a \"boom\">]><d><w:t>&a;</w:t></d>";
    assert_eq!(
        read(FileKind::Docx, &zipped("word/document.xml", entities)),
        Err(FileError::NoText)
    );
    for wrong in [
        b"PK\x03\x04 not really".to_vec(),
        zipped("word/other.xml", b"<a/>"),
        zipped("word/document.xml", b"<a></b>"),
        zipped("word/document.xml", &[0, 1, 2, 255, 0, 3]),
    ] {
        let answer = read(FileKind::Docx, &wrong);
        assert!(matches!(answer, Err(FileError::Unreadable { .. })), "{answer:?}");
    }
    let bomb = docx(&paragraph(&"a".repeat(200_000)));
    assert!(bomb.len() < 2_000);
    assert_eq!(read(FileKind::Docx, &bomb), Err(FileError::TooLarge { bytes_max: 100_000 }));
}

/// `speaker|text` of each message, `*` before those of the face.
fn shown(text: &str, speaker: Option<&str>, names: &[&str]) -> Result<Vec<String>, SpeakerError> {
    let transcript = Transcript::read(text, speaker, names)?;
    let turns = transcript.turns.into_iter().map(|turn| {
        let mark = if turn.is_face { "*" } else { "" };
        format!("{mark}{}|{}", turn.utterance.speaker, turn.utterance.text)
    });
    Ok(turns.collect())
}

#[test]
fn a_transcript_has_speakers_and_lines_that_go_on() {
    let text = "A talk of 2024\n\nInterviewer: Where were you born?\nAlice: In Kiel.\n\n\
        It was cold.\nSo: https://example.org/kiel it is.\nINTERVIEWER: And then?\nalice:\nHamburg.";
    let expected = [
        "Interviewer|Where were you born?",
        "*Alice|In Kiel.\n\nIt was cold.",
        "So|https://example.org/kiel it is.",
        "INTERVIEWER|And then?",
        "*alice|Hamburg.",
    ];
    assert_eq!(shown(text, Some(" ALICE "), &[]).unwrap(), expected);
}

#[test]
fn names_come_in_the_forms_that_tools_write() {
    for line in [
        "Dr. Ann Lee: Hi",
        "[00:01:02] Dr. Ann Lee: Hi",
        "00:01:02.500 Dr. Ann Lee: Hi",
        "(1:02) Dr. Ann Lee: Hi",
        "**Dr. Ann Lee:** Hi",
        "- **Dr. Ann Lee**: Hi",
        "Dr. Ann Lee (00:12): Hi",
        "Dr. Ann Lee [1:00:12]： Hi",
        "> Dr. Ann Lee: Hi",
    ] {
        assert_eq!(shown(line, None, &[]).unwrap(), ["*Dr. Ann Lee|Hi"], "{line}");
    }
    for line in [
        "It was like this, then: nothing.",
        "http://example.org",
        "12:30 we met",
        "He said to me what nobody had ever said: no.",
        "This is one. And another: that.",
        ": nothing",
        "Nobody:",
        "",
    ] {
        assert_eq!(shown(line, None, &[]), Err(SpeakerError::NoSpeakers), "{line}");
    }
}

#[test]
fn the_face_is_who_was_asked_for_or_named_like_it_or_the_first() {
    let text = "Bob: Hi\nAlice: Hello\nAlina: Hey";
    let face =
        |speaker, names: &[&str]| Transcript::read(text, speaker, names).unwrap().face_speaker;
    assert_eq!(face(Some("alina"), &["alice"]), "Alina");
    assert_eq!(face(None, &["Alice Example", "ax"]), "Alice");
    assert_eq!(face(None, &["x", "ALICE"]), "Alice");
    assert_eq!(face(None, &["Ali"]), "Bob", "a part of a word is none");
    assert_eq!(face(None, &["Alice or Bob"]), "Bob", "two are like it, so the first speaks");
    assert_eq!(face(None, &[""]), "Bob");
    let nobody = Transcript::read(text, Some("Ali"), &[]).unwrap_err();
    assert_eq!(nobody, SpeakerError::NoSuchSpeaker { speakers: "Bob, Alice, Alina".to_owned() });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_text_is_read_and_comes_out_tidy(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(text) = read(FileKind::Plain, &bytes) {
            prop_assert!(!text.contains(|c: char| c.is_control() && c != '\n' && c != '\t'));
            prop_assert_eq!(&tidy(&text), &text);
        }
    }

    #[test]
    fn any_text_is_a_transcript_or_none(text in "([A-Za-z\\[(*. 0-9é：:\n]|//){0,200}", name in ".{0,9}") {
        for speaker in [None, Some(name.as_str())] {
            if let Ok(transcript) = Transcript::read(&text, speaker, &[&name]) {
                prop_assert!(transcript.turns.iter().any(|turn| turn.is_face));
                for turn in &transcript.turns {
                    prop_assert!(!turn.utterance.text.trim().is_empty());
                    prop_assert!(turn.utterance.speaker.chars().count() <= super::SPEAKER_CHARS_MAX);
                }
            }
        }
    }

    #[test]
    fn a_mutated_docx_never_panics(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let mut bytes = docx(&paragraph("I was born &amp; raised in Kiel."));
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if cut {
            bytes.truncate(at);
        }
        prop_assert!(catch_unwind(AssertUnwindSafe(|| read(FileKind::Docx, &bytes))).is_ok());
    }

    #[test]
    fn a_mutated_pdf_never_panics(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let mut bytes = pdf(&["I was born in Kiel."]);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if cut {
            bytes.truncate(at);
        }
        prop_assert!(catch_unwind(AssertUnwindSafe(|| read(FileKind::Pdf, &bytes))).is_ok());
    }

    #[test]
    fn garbage_is_no_pdf_and_no_docx(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let pdf = [b"%PDF-1.7\n", &bytes[..]].concat();
        let docx = [b"PK\x03\x04", &bytes[..]].concat();
        prop_assert!(read(FileKind::Pdf, &pdf).is_err() && read(FileKind::Docx, &docx).is_err());
    }
}
