//! Files become documents, and transcripts threads.

use std::io::{Cursor, Write as _};

use serde_json::json;
use zip::{ZipWriter, write::SimpleFileOptions};

use super::{
    BOUNDARY, Desk,
    Part::{self, Field, File},
    THREADS, UPLOAD, form, refused,
};
use crate::support::{PROMPT_CANARY, http::Request, server::TestServer};

/// A PDF with a line of text on each page.
fn pdf(lines: &[&str]) -> Vec<u8> {
    let kids: Vec<String> = (0..lines.len()).map(|page| format!("{} 0 R", 4 + 2 * page)).collect();
    let mut objects = vec![
        "<</Type/Catalog/Pages 2 0 R>>".to_owned(),
        format!("<</Type/Pages/Kids[{}]/Count {}>>", kids.join(" "), lines.len()),
        "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>".to_owned(),
    ];
    for (page, line) in lines.iter().enumerate() {
        let content = format!("BT /F1 12 Tf 50 700 Td ({line}) Tj ET");
        objects.push(format!(
            "<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Contents {} 0 R\
             /Resources<</Font<</F1 3 0 R>>>>>>",
            5 + 2 * page
        ));
        objects.push(format!("<</Length {}>>stream\n{content}\nendstream", content.len()));
    }
    let mut file = "%PDF-1.4\n".to_owned();
    let mut table = format!("xref\n0 {}\n0000000000 65535 f \n", objects.len() + 1);
    for (number, object) in objects.iter().enumerate() {
        table.push_str(&format!("{:010} 00000 n \n", file.len()));
        file.push_str(&format!("{} 0 obj\n{object}\nendobj\n", number + 1));
    }
    let start = file.len();
    let size = objects.len() + 1;
    file.push_str(&format!(
        "{table}trailer<</Size {size}/Root 1 0 R>>\nstartxref\n{start}\n%%EOF\n"
    ));
    file.into_bytes()
}

fn docx(text: &str) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    archive.start_file("word/document.xml", SimpleFileOptions::default()).unwrap();
    let xml = format!(
        "<w:document xmlns:w=\"urn:w\"><w:body><w:p><w:r><w:t>{text}</w:t></w:r></w:p></w:body></w:document>"
    );
    archive.write_all(xml.as_bytes()).unwrap();
    archive.finish().unwrap().into_inner()
}

#[test]
fn a_file_of_each_kind_becomes_a_document_whatever_the_order_of_its_form() {
    let desk = Desk::offline();
    let line = format!("I was born in Kiel. {PROMPT_CANARY}");
    let (as_pdf, as_docx) = (pdf(&[&line, "I build ships."]), docx(&line));
    let marked = [b"\xEF\xBB\xBF", line.as_bytes(), b"\r\n"].concat();
    let files: [(&str, &str, &[u8], String); 4] = [
        ("bio.txt", "text/plain", &marked, line.clone()),
        ("bio.md", "application/octet-stream", line.as_bytes(), line.clone()),
        ("bio.pdf", "application/pdf", &as_pdf, format!("{line}\n\nI build ships.")),
        ("bio.docx", "application/octet-stream", &as_docx, line.clone()),
    ];
    for (name, content_type, bytes, text) in &files {
        let file = || File(name, content_type, bytes);
        for parts in [
            vec![Field("type", "document"), file()],
            vec![file(), Field("perspective", "third-person"), Field("unknown", "x")],
        ] {
            let answer = desk.upload(&parts);
            assert_eq!(answer.status, 200, "{name}: {}", answer.text());
            let made = answer.json();
            let id = made["document_id"].as_str().unwrap();
            assert_eq!((&made["id"], &made["data"]["document_id"]), (&json!(id), &json!(id)));
            let read = desk.get(&format!("/v1/compile/documents/{id}"));
            assert_eq!((&read["content"], &read["label"]), (&json!(text), &json!(name)));
            assert_eq!((&read["source"], &read["model"]), (&json!("upload"), &json!("ann")));
            let third = parts.len() == 3;
            let perspective = if third { "third-person" } else { "first-person" };
            assert_eq!(read["perspective"], perspective);
        }
    }
    assert_eq!(desk.spent(), 0, "an upload costs nothing");
}

#[test]
fn what_is_no_text_is_refused_with_the_way_out() {
    let builder = TestServer::builder()
        .env("FACES_UPLOAD_BYTES_MAX", "4000")
        .env("FACES_UPLOAD_PAGES_MAX", "2")
        .env("FACES_UPLOAD_UNPACKED_BYTES_MAX", "5000");
    let desk = Desk::open(builder, "10");
    let file = |name: &str, bytes: &[u8]| {
        desk.upload(&[Field("type", "document"), File(name, "application/octet-stream", bytes)])
    };
    refused(&file("old.doc", b"x"), 400, "", "unsupported_file");
    refused(&file("old.docx", b"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1"), 400, "", ".docx, .pdf or .txt");
    refused(&file("photo.png", b"x"), 400, "", "Upload .txt, .md, .pdf or .docx");
    refused(&file("talk.mp3", b"ID3"), 422, "body.file", "Transcribe the file first");
    refused(&file("empty.txt", b" \r\n"), 422, "body.file", "no text");
    refused(&file("scan.pdf", &pdf(&[""])), 422, "body.file", "OCR");
    refused(&file("blank.docx", &docx("")), 422, "body.file", "no text");
    refused(&file("cut.pdf", b"%PDF-1.7 and nothing more"), 422, "body.file", "PDF");
    refused(&file("zip.docx", b"PK\x03\x04 nothing"), 422, "body.file", ".docx");
    refused(&file("noise.txt", &[0, 1, 2, 3, 0, 255]), 422, "body.file", "binary");
    refused(&file("long.pdf", &pdf(&["a"; 3])), 422, "body.file", "the most is 2");
    refused(&file("bomb.docx", &docx(&"a".repeat(6_000))), 413, "", "5000");
    refused(&file("big.txt", &[b'a'; 4_001]), 413, "", "4000");
    refused(&file("huge.txt", &[b'a'; 100_000]), 413, "", "4000");
    let text = || File("bio.txt", "text/plain", b"I was born.");
    refused(&desk.upload(&[Field("type", "document")]), 422, "body.file", "required");
    refused(&desk.upload(&[Field("type", "essay"), text()]), 422, "body.type", "thread");
    refused(
        &desk.upload(&[Field("perspective", "mine"), text()]),
        422,
        "body.perspective",
        "first",
    );
    refused(&desk.upload(&[text(), text()]), 422, "body.file", "twice");
    let long = "x".repeat(5_000);
    refused(&desk.upload(&[Field("type", &long), text()]), 422, "body.type", "4096");
    let many: Vec<Part<'_>> = (0..17).map(|_| Field("x", "y")).collect();
    refused(&desk.upload(&many), 422, "body.file", "16 parts");
    refused(&desk.post(UPLOAD, &json!({"file": "x"})), 415, "", "multipart/form-data");
    let cut = Request::new("POST", UPLOAD)
        .header("content-type", &format!("multipart/form-data; boundary={BOUNDARY}"))
        .body(
            format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\nI was")
                .into_bytes(),
        );
    refused(&desk.fetch(cut), 422, "body", "broke off");
    refused(&desk.fetch(form("/v1/faces/nobody/upload", &[text()])), 404, "", "not found");
    let stranger = desk.server.account();
    let foreign = form(UPLOAD, &[text()]).bearer(&stranger.key).fetch(desk.server.address());
    refused(&foreign, 404, "", "not found");
    refused(&form(UPLOAD, &[text()]).fetch(desk.server.address()), 401, "", "key");
    assert_eq!(desk.get("/v1/compile/documents")["data"], json!([]), "nothing was kept");
}

#[test]
fn a_transcript_becomes_a_thread_in_which_the_face_is_the_user() {
    let desk = Desk::offline();
    let text = format!(
        "Interview of May\n\nBob: Who are you?\nDr. Lee: I am Ann, {PROMPT_CANARY}.\nI build ships.\nBOB: Why?\ndr. lee: For joy."
    );
    let file = || File("talk.txt", "text/plain", text.as_bytes());
    let made = desk.upload(&[Field("type", "thread"), Field("face_speaker", "DR. LEE"), file()]);
    assert_eq!(made.status, 200, "{}", made.text());
    let made = made.json();
    let id = made["thread_id"].as_str().unwrap();
    assert_eq!((&made["id"], &made["data"]), (&json!(id), &json!({"thread_id": id})));
    let path = format!("{THREADS}/{id}");
    let thread = desk.get(&path);
    let said = |role: &str, name: &str, content: &str| json!({"role": role, "content": content, "name": name});
    let own = format!("I am Ann, {PROMPT_CANARY}.\nI build ships.");
    assert_eq!(
        thread["messages"],
        json!([
            said("assistant", "Bob", "Who are you?"),
            said("user", "Dr. Lee", &own),
            said("assistant", "BOB", "Why?"),
            said("user", "dr. lee", "For joy."),
        ])
    );
    for (field, value) in [
        ("message_count", json!(4)),
        ("messages_archived", json!(0)),
        ("synced", json!(false)),
        ("source", json!("upload")),
        ("model", json!("ann")),
        ("face_speaker", json!("Dr. Lee")),
        ("label", json!("talk.txt")),
    ] {
        assert_eq!(thread[field], value, "{field}");
    }
    let tokens = thread["token_count"].as_i64().unwrap();
    let moved = desk.patch(&path, &json!({"face_speaker": "bob", "label": "Bob's talk"}));
    assert_eq!(moved.status, 200, "{}", moved.text());
    let moved = moved.json();
    assert_eq!(
        (&moved["messages"][0]["role"], &moved["messages"][1]["role"]),
        (&json!("user"), &json!("assistant"))
    );
    assert_eq!(moved["label"], "Bob's talk");
    assert!(moved["token_count"].as_i64().unwrap() < tokens, "only what the user says counts");
    refused(
        &desk.patch(&path, &json!({"face_speaker": "Eve"})),
        422,
        "body.face_speaker",
        "nobody",
    );
    let named = desk
        .upload(&[File("b.txt", "text/plain", b"Zoe: Hi\nLee: Hello"), Field("type", "thread")]);
    assert_eq!(named.json()["face_speaker"], "Lee", "named like the face: {}", named.text());
    let first = desk
        .upload(&[File("c.txt", "text/plain", b"Zoe: Hi\nEve: Hello"), Field("type", "thread")]);
    assert_eq!(first.json()["face_speaker"], "Zoe", "else the first: {}", first.text());
    let wrong = |speaker, text: &[u8]| {
        desk.upload(&[
            Field("type", "thread"),
            Field("face_speaker", speaker),
            File("d.txt", "text/plain", text),
        ])
    };
    refused(&wrong("Zo", b"Zoe: Hi"), 422, "body.face_speaker", "Zoe");
    refused(&wrong("Zoe", b"No speakers here."), 422, "body.file", "no speakers");
    assert_eq!(desk.get(THREADS)["data"].as_array().unwrap().len(), 3);
}
