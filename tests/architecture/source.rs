//! The tracked text files of the repository, and Rust source without its comments and literals.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A text file of the repository.
pub(crate) struct SourceFile {
    /// Path from the repository's root, with `/`.
    pub(crate) path: String,
    /// The text as it stands.
    pub(crate) text: String,
}

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All text files below the root except those that git ignores (build output, data) or owns.
pub(crate) fn text_files() -> Vec<SourceFile> {
    let mut files = Vec::new();
    collect(&root(), &mut files);
    files.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(files.len() > 20, "the repository was not found: {} files", files.len());
    files
}

/// All Rust files below one of the given folders.
pub(crate) fn rust_files(folders: &[&str]) -> Vec<SourceFile> {
    let is_wanted = |path: &str| {
        path.ends_with(".rs")
            && folders.iter().any(|folder| path.starts_with(&format!("{folder}/")))
    };
    text_files().into_iter().filter(|file| is_wanted(&file.path)).collect()
}

/// Whether a whole file holds tests (`tests/…`, `src/room/tests.rs`, `src/room/tests/…`).
pub(crate) fn is_test_file(path: &str) -> bool {
    path.ends_with("tests.rs") || path.split('/').rev().skip(1).any(|folder| folder == "tests")
}

fn collect(folder: &Path, files: &mut Vec<SourceFile>) {
    const NOT_OURS: [&str; 8] =
        [".git", "target", "data", ".env", "__pycache__", ".venv", "node_modules", ".DS_Store"];
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap_or_default();
        if NOT_OURS.contains(&name.as_str()) {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            collect(&entry.path(), files);
        } else if let Ok(text) = fs::read_to_string(entry.path()) {
            let path = entry.path();
            let path = path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/");
            files.push(SourceFile { path, text });
        }
    }
}

/// The code alone: comments and the contents of string and char literals become spaces, line
/// breaks stay, so that lines keep their numbers.
pub(crate) fn code_of(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = token_end(&chars, at);
        if end > at {
            code.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        } else {
            code.push(chars[at]);
            at += 1;
        }
    }
    code
}

/// Where a comment or literal that starts at `at` ends; `at` itself when none starts there.
fn token_end(chars: &[char], at: usize) -> usize {
    let find = |from: usize, wanted: &[char]| {
        (from..chars.len())
            .find(|start| chars[*start..].starts_with(wanted))
            .map_or(chars.len(), |start| start + wanted.len())
    };
    let before = at.checked_sub(1).map_or(' ', |before| chars[before]);
    match chars[at..] {
        ['/', '/', ..] => find(at, &['\n']).saturating_sub(1).max(at + 2),
        ['/', '*', ..] => find(at + 2, &['*', '/']),
        ['"', ..] => closing_quote(chars, at + 1, '"'),
        ['r', '"' | '#', ..] if !before.is_alphanumeric() || before == 'b' => {
            let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
            if chars.get(at + 1 + hashes) != Some(&'"') {
                return at;
            }
            let mut wanted = vec!['"'];
            wanted.extend(std::iter::repeat_n('#', hashes));
            find(at + 2 + hashes, &wanted)
        }
        ['\'', '\\', ..] => closing_quote(chars, at + 1, '\''),
        ['\'', _, '\'', ..] => at + 3,
        _ => at,
    }
}

fn closing_quote(chars: &[char], mut at: usize, quote: char) -> usize {
    while at < chars.len() && chars[at] != quote {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

/// The code without `#[cfg(test)] mod … { … }`, blanked so that lines keep their numbers.
pub(crate) fn code_without_tests(text: &str) -> String {
    let code = code_of(text);
    let mut kept = String::with_capacity(code.len());
    let mut rest = code.as_str();
    while let Some(start) = rest.find("#[cfg(test)]") {
        let (before, test) = rest.split_at(start);
        kept.push_str(before);
        let end = item_end(test);
        kept.extend(test[..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        rest = &test[end..];
    }
    kept.push_str(rest);
    kept
}

/// The end of the item at the start of `code`: its `;`, or the brace that closes its first one.
fn item_end(code: &str) -> usize {
    let mut depth = 0_u32;
    for (at, character) in code.char_indices() {
        match character {
            ';' if depth == 0 => return at + 1,
            '{' => depth += 1,
            '}' if depth <= 1 => return at + 1,
            '}' => depth -= 1,
            _ => {}
        }
    }
    code.len()
}

#[test]
fn comments_and_literals_are_no_code() {
    let text = "let a = \"use crate::x; \\\" // y\"; // use crate::y\nlet b = r#\"\"todo!\"\"#; /* z\n */ let c = '\"'; let d = '\\''; fn f<'a>() {}\n";
    let code = code_of(text);
    assert!(!code.contains("crate") && !code.contains("todo") && !code.contains('z'), "{code}");
    assert!(
        code.contains("let b") && code.contains("let d") && code.contains("fn f<'a>() {}"),
        "{code}"
    );
    assert_eq!(code.matches('\n').count(), text.matches('\n').count());
}

#[test]
fn test_modules_are_no_production_code() {
    let text = "fn a() {}\n#[cfg(test)]\nmod tests { fn b() { { } } }\nfn c() {}\n#[cfg(test)]\nmod tests;\nfn d() {}";
    let code = code_without_tests(text);
    assert!(code.contains("fn a") && code.contains("fn c") && code.contains("fn d"), "{code}");
    assert!(!code.contains("fn b") && !code.contains("mod tests"), "{code}");
    assert_eq!(code.matches('\n').count(), text.matches('\n').count());
}
