//! The client's compile commands and its upload.

use serde_json::json;

use super::{Cli, text_of};

const LETTER: &str = "I work as a mathematician in London. I believe that the engine can weave \
    patterns. I always write my notes by hand. I think in analogies, and I prefer proofs to guesses.";

/// Documents, threads and files of the face `ada`, on to a compiled face.
pub(super) fn documents_and_threads(cli: &Cli) {
    let letter = ["compile", "doc", "create", "ada", "--label", "Letter", "--content", LETTER];
    let letter = cli.run(&letter).json();
    let id = text_of(&letter, "document_id").to_owned();
    assert_eq!((&letter["id"], &letter["label"]), (&json!(id), &json!("Letter")));
    let notes = cli.file("notes.txt", "I collect old maps.");
    let notes = cli.run(&["compile", "doc", "create", "ada", "--file", &notes]).json();
    let listed = cli.run(&["compile", "doc", "list", "ada"]);
    for document in [&letter, &notes] {
        assert!(listed.text().contains(text_of(document, "id")), "{listed:?}");
    }
    cli.run(&["compile", "doc", "prepare", &id]).json();
    cli.wait_state(&id, "ready");
    let synced = cli.run(&["compile", "doc", "sync", &id, "--yes"]).json();
    assert_eq!(synced["document_id"], json!(id), "{synced}");
    let document = cli.wait_state(&id, "synced");
    assert_eq!(document["synced"], true, "{document}");
    let face = cli.run(&["face", "get", "ada"]).json();
    let compiled = face["component_counts"].as_object().expect("it is compiled").clone();
    assert!(compiled.values().filter_map(serde_json::Value::as_i64).sum::<i64>() > 0, "{face}");

    cli.run(&["compile", "doc", "delete", text_of(&notes, "id")]).text();
    let gone = cli.run(&["compile", "doc", "get", text_of(&notes, "id")]);
    gone.failed(1, &["404"]);

    let thread = cli.run(&["compile", "thread", "create", "ada", "--label", "Interview"]).json();
    let thread_id = text_of(&thread, "thread_id").to_owned();
    assert!(!text_of(&thread["message"], "content").is_empty(), "the first question: {thread}");
    let answer = ["compile", "thread", "message", &thread_id, "-m", "I walk every morning."];
    let next = cli.run(&answer).json();
    assert_eq!(next["message"]["role"], "assistant", "{next}");
    assert!(cli.run(&["compile", "thread", "list", "ada"]).text().contains(&thread_id));
    let synced = cli.run(&["compile", "thread", "sync", &thread_id]).json();
    assert_eq!(synced["thread_id"], json!(thread_id), "{synced}");

    let chapter = cli.file("chapter.txt", LETTER);
    let uploaded = cli.run(&["face", "upload", "ada", "--file", &chapter]).json();
    assert!(!text_of(&uploaded, "document_id").is_empty());
    let talk = cli.file("talk.txt", "Ada: I count everything.\nBob: Why?\nAda: It calms me.\n");
    let talk = ["face", "upload", "ada", "--file", &talk, "--kind", "thread"];
    let uploaded = cli.run(&talk).json();
    assert!(!text_of(&uploaded, "thread_id").is_empty());
}
