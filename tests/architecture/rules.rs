//! Rules about the text itself: sizes, headers, forbidden words, machine paths.

use super::{
    imports::ROOMS,
    source::{SourceFile, code_of, code_without_tests, is_test_file, root, rust_files, text_files},
};

/// Longest file, lines: one sitting.
const FILE_LINES_MAX: usize = 500;
/// Shortest header of a room, lines.
const HEADER_LINES_MIN: usize = 8;
const ALL_RUST: [&str; 5] = ["src", "entity", "migration", "tests", "benches"];

/// Fails with one line per place where `line_is_wrong` says so.
fn assert_lines(files: &[SourceFile], fix: &str, line_is_wrong: impl Fn(&str) -> bool) {
    let mut wrong = Vec::new();
    for file in files {
        let code = code_of(&file.text);
        for (number, (line, shown)) in code.lines().zip(file.text.lines()).enumerate() {
            if line_is_wrong(line) {
                wrong.push(format!("{}:{}: `{}`; fix: {fix}", file.path, number + 1, shown.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn no_file_is_longer_than_one_sitting() {
    let mut wrong = Vec::new();
    for file in rust_files(&ALL_RUST) {
        let lines = file.text.lines().count();
        if lines > FILE_LINES_MAX {
            wrong.push(format!(
                "{}:{FILE_LINES_MAX}: the file has {lines} lines, at most {FILE_LINES_MAX}; fix: move \
                 one concern, or the tests, into a sibling file",
                file.path
            ));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_room_opens_with_what_it_owns_and_how_it_fails() {
    let mut wrong = Vec::new();
    for (room, ..) in ROOMS {
        let path = format!("src/{room}/mod.rs");
        let text = std::fs::read_to_string(root().join(&path)).unwrap_or_default();
        let header = text.lines().take_while(|line| line.starts_with("//!")).count();
        if header < HEADER_LINES_MIN {
            wrong.push(format!(
                "{path}:1: the header has {header} lines of `//!`, at least {HEADER_LINES_MIN}; fix: say \
                 what the room owns, what never happens here, how it fails, its limits, where it is tested"
            ));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_rust_file_says_what_it_is_for() {
    let files = rust_files(&ALL_RUST);
    let silent =
        files.iter().filter(|file| !is_test_file(&file.path) && !file.text.starts_with("//!"));
    let wrong: Vec<String> = silent
        .map(|file| {
            format!(
                "{}:1: does not open with `//!`; fix: one sentence on the file's purpose",
                file.path
            )
        })
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn no_test_is_switched_off() {
    let files = rust_files(&ALL_RUST);
    let is_off = |line: &str| line.contains("#[ignore") || line.contains("#[should_panic");
    assert_lines(
        &files,
        "make the test pass, or assert the error's value; delete a test that has no use",
        is_off,
    );
}

#[test]
fn nothing_is_left_to_be_done() {
    let files = rust_files(&ALL_RUST);
    let is_stub =
        |line: &str| ["todo!", "unimplemented!", "dbg!("].iter().any(|word| line.contains(word));
    assert_lines(&files, "write it, or leave the feature out", is_stub);
    for file in &files {
        for (number, line) in file.text.lines().enumerate() {
            let is_note = line.contains("//")
                && ["TODO", "FIXME", "XXX"].iter().any(|word| line.contains(word));
            let is_this_file = file.path == "tests/architecture/rules.rs";
            assert!(
                !is_note || is_this_file,
                "{}:{}: a note of something undone; fix: do it, or open an issue",
                file.path,
                number + 1
            );
        }
    }
}

#[test]
fn lints_are_expected_with_a_reason_never_allowed() {
    let fix = "use #[expect(lint, reason = \"…\")], which complains when it is no longer needed";
    let is_allowed = |line: &str| line.contains("#[allow(") || line.contains("#![allow(");
    assert_lines(&rust_files(&ALL_RUST), fix, is_allowed);
    let fix = "say why: #[expect(lint, reason = \"…\")]";
    let has_no_reason =
        |line: &str| line.contains("[expect(") && line.contains(")]") && !line.contains("reason");
    assert_lines(&rust_files(&ALL_RUST), fix, has_no_reason);
}

#[test]
fn no_test_sleeps_where_it_could_wait_for_a_condition() {
    let mut wrong = Vec::new();
    for file in rust_files(&ALL_RUST) {
        let (code, production) = (code_of(&file.text), code_without_tests(&file.text));
        let mut function = "";
        for (number, (line, kept)) in code.lines().zip(production.lines()).enumerate() {
            let in_tests = is_test_file(&file.path) || line != kept;
            if let Some((_, name)) = line.split_once("fn ") {
                function = name.split(['(', '<']).next().unwrap_or_default().trim();
            }
            // A bounded wait polls; a scripted server keeps the pace that a script tells it.
            let may_sleep = function.starts_with("wait_") || function.starts_with("pace");
            let blocks_a_thread = line.contains("thread::sleep");
            if (blocks_a_thread || (in_tests && line.contains("sleep("))) && !may_sleep {
                wrong.push(format!(
                    "{}:{}: sleeps in `{function}`; fix: wait for the condition itself with a bound, in a \
                     helper named wait_… (or pace… in a scripted server)",
                    file.path,
                    number + 1
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn no_file_knows_the_machine_it_was_written_on() {
    // Built at run time: this file must not find itself.
    let paths = ["work", "root", "home/user"].map(|folder| format!("/{folder}/"));
    let mut wrong = Vec::new();
    for file in text_files().iter().filter(|file| !file.path.ends_with("Cargo.lock")) {
        for (number, line) in file.text.lines().enumerate() {
            for found in paths.iter().filter(|path| is_absolute_in(line, path)) {
                wrong.push(format!(
                    "{}:{}: names `{found}`, a path of one machine; fix: a relative path, a variable or \
                     a temporary directory",
                    file.path,
                    number + 1
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Whether the path stands there as an absolute one, and not inside a longer path or URL.
fn is_absolute_in(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back().unwrap_or(' ');
        !(before.is_alphanumeric() || matches!(before, '_' | '-' | '.' | '}' | '*' | '/'))
    })
}

#[test]
fn the_house_files_are_there() {
    for (path, holds) in [
        (".ci/run", "cargo test --workspace"),
        (".env.example", "#FACES_LISTEN="),
        ("CHANGELOG.md", "Unreleased"),
        ("ARCHITECTURE.md", "Who may import whom"),
        ("LICENSE", "Apache License"),
        ("README.md", "cargo test --workspace"),
        ("justfile", "check"),
    ] {
        let text = std::fs::read_to_string(root().join(path)).unwrap_or_default();
        assert!(text.contains(holds), "{path}:1: missing, or without `{holds}`; fix: restore it");
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(root().join(".ci/run")).unwrap().permissions().mode();
        assert!(mode & 0o100 != 0, ".ci/run:1: is not executable; fix: chmod +x .ci/run");
    }
}
