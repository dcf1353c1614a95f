//! Who may import whom.

use super::source::{code_of, code_without_tests, is_test_file, rust_files};

/// `(room, rooms it may import, foreign crates that only the rooms naming them may import)`.
pub(crate) type Row = (&'static str, &'static [&'static str], &'static [&'static str]);

/// The table, bottom-up: a room imports only rows above its own.
pub(crate) const ROOMS: [Row; 10] = [
    ("domain", &[], &[]),
    ("config", &["domain"], &["clap", "dotenvy"]),
    ("telemetry", &["domain", "config"], &["env_logger", "prometheus_client"]),
    ("wire", &["domain"], &[]),
    ("faces", &["domain"], &["lopdf", "quick_xml", "zip"]),
    (
        "storage",
        &["domain", "config"],
        &["sea_orm", "sea_orm_migration", "entity", "migration", "sqlx", "tokio"],
    ),
    ("accounts", &["domain", "config", "storage", "telemetry"], &["actix", "tokio"]),
    (
        "providers",
        &["domain", "config", "wire", "telemetry"],
        &["actix", "actix_http", "awc", "rustls", "rustls_native_certs", "webpki_roots", "tokio"],
    ),
    (
        "flows",
        &["domain", "config", "wire", "faces", "storage", "accounts", "providers", "telemetry"],
        &["tokio"],
    ),
    (
        "http",
        &["domain", "config", "wire", "accounts", "flows", "telemetry"],
        &[
            "actix_web",
            "actix_web_lab",
            "actix_http",
            "actix_multipart",
            "tokio",
            "utoipa",
            "utoipa_swagger_ui",
        ],
    ),
];

/// Outside this list a foreign crate is free to all rooms (bytes, serde, log, thiserror, …).
const OWNED_CRATES: [&str; 26] = [
    "actix",
    "actix_http",
    "actix_multipart",
    "actix_rt",
    "actix_server",
    "actix_web",
    "actix_web_lab",
    "awc",
    "clap",
    "dotenvy",
    "entity",
    "env_logger",
    "lopdf",
    "migration",
    "prometheus_client",
    "quick_xml",
    "rustls",
    "rustls_native_certs",
    "sea_orm",
    "sea_orm_migration",
    "sqlx",
    "tokio",
    "utoipa",
    "utoipa_swagger_ui",
    "webpki_roots",
    "zip",
];

fn room_of(path: &str) -> Option<&'static Row> {
    let inside = path.strip_prefix("src/")?;
    let first = inside.split('/').next()?.trim_end_matches(".rs");
    ROOMS.iter().find(|(room, ..)| *room == first)
}

/// Every `(line, path)` of a path that starts with the given root, e.g. `crate::`; a group
/// `crate::{a::x, b}` gives one entry for each member.
fn paths_after<'a>(code: &'a str, root: &str) -> Vec<(usize, &'a str)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices(root) {
        let before = code[..at].chars().next_back().unwrap_or(' ');
        if before.is_alphanumeric() || matches!(before, '_' | ':' | '$') {
            continue;
        }
        let path = &code[at + root.len()..];
        for member in members(path) {
            // Both are slices of `code`, so the lengths tell where the member starts.
            let start = code.len() - path.len() + member;
            found.push((1 + code[..start].matches('\n').count(), &code[start..]));
        }
    }
    found
}

/// Where each member of `{a::x, b::{y, z}}` starts; without braces, the path itself.
fn members(path: &str) -> Vec<usize> {
    if !path.starts_with('{') {
        return vec![0];
    }
    let (mut depth, mut starts, mut is_start) = (0_u32, Vec::new(), false);
    for (at, character) in path.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 1 => break,
            '}' => depth -= 1,
            _ if is_start && !character.is_whitespace() => {
                starts.push(at);
                is_start = false;
                continue;
            }
            _ => {}
        }
        is_start = (depth == 1 && matches!(character, '{' | ','))
            || (is_start && character.is_whitespace());
    }
    starts
}

fn forbidden(path: &str, line: usize, room: &str, target: &str, allowed: &[&str]) -> String {
    format!(
        "{path}:{line}: room `{room}` may not import `{target}`; fix: it may import {allowed:?}; move the \
         code, or pass a value in"
    )
}

/// Rooms that are reached by climbing out with `super::`, with their lines.
fn rooms_reached_by_super(path: &str, code: &str) -> Vec<(usize, &'static str)> {
    let depth = path.matches('/').count() - usize::from(path.ends_with("/mod.rs"));
    let climb = "super::".repeat(depth);
    let reached = paths_after(code, &climb).into_iter();
    reached
        .filter_map(|(line, rest)| {
            let word = first_word(rest.trim_start_matches("super::"));
            ROOMS.iter().find(|(room, ..)| *room == word).map(|(room, ..)| (line, *room))
        })
        .collect()
}

/// Lines that name a crate as a whole: `use awc;`, `use awc as client;`, `extern crate awc;`.
fn whole_crate_imports(code: &str, name: &str) -> Vec<usize> {
    let names_it = |line: &str| {
        let line = line.trim().trim_start_matches("pub ");
        let rest = line.strip_prefix("use ").or_else(|| line.strip_prefix("extern crate "));
        rest.is_some_and(|rest| first_word(rest) == name && !rest.contains("::"))
    };
    let lines = code.lines().enumerate();
    lines.filter(|(_, line)| names_it(line)).map(|(number, _)| number + 1).collect()
}

fn first_word(text: &str) -> &str {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    &text[..end]
}

#[test]
fn every_room_imports_only_what_the_table_allows() {
    let mut wrong = Vec::new();
    for file in rust_files(&["src"]) {
        let Some((room, allowed, _)) = room_of(&file.path) else { continue };
        // Tests of a room may use whatever they need to look at it from outside.
        if is_test_file(&file.path) {
            continue;
        }
        let code = code_without_tests(&file.text);
        for (line, path) in paths_after(&code, "crate::") {
            let target = first_word(path);
            if target != *room && !allowed.contains(&target) {
                wrong.push(forbidden(&file.path, line, room, target, allowed));
            }
        }
        for (line, target) in rooms_reached_by_super(&file.path, &code) {
            if target != *room && !allowed.contains(&target) {
                wrong.push(forbidden(&file.path, line, room, target, allowed));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_owned_crate_is_used_only_by_its_rooms() {
    let mut wrong = Vec::new();
    for file in rust_files(&["src"]) {
        let Some((room, _, crates)) = room_of(&file.path) else { continue };
        if is_test_file(&file.path) {
            continue;
        }
        let code = code_without_tests(&file.text);
        for owned in OWNED_CRATES.iter().filter(|owned| !crates.contains(owned)) {
            let by_path = paths_after(&code, &format!("{owned}::"));
            let lines = by_path.into_iter().map(|(line, _)| line);
            for line in lines.chain(whole_crate_imports(&code, owned)) {
                wrong.push(format!(
                    "{}:{line}: room `{room}` may not use the crate `{owned}`; fix: ask the room that \
                     owns it (design table in ARCHITECTURE.md)",
                    file.path
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn only_config_reads_the_environment() {
    let mut wrong = Vec::new();
    for file in rust_files(&["src"]) {
        if file.path.starts_with("src/config/") || is_test_file(&file.path) {
            continue;
        }
        let code = code_without_tests(&file.text);
        for (line, path) in paths_after(&code, "env::") {
            if path.starts_with("var") || path.starts_with("args") {
                wrong.push(format!(
                    "{}:{line}: reads the process environment; fix: add a field to config::Settings",
                    file.path
                ));
            }
        }
        for (line, path) in paths_after(&code, "std::env") {
            if path.starts_with("::var") {
                wrong.push(format!(
                    "{}:{line}: reads std::env; fix: use config::Settings",
                    file.path
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_folder_of_src_is_a_room_of_the_table() {
    for file in rust_files(&["src"]) {
        let is_top = ["src/main.rs", "src/lib.rs", "src/app.rs"].contains(&file.path.as_str());
        let is_app = file.path.starts_with("src/app/");
        assert!(
            is_top || is_app || room_of(&file.path).is_some(),
            "{}: belongs to no room; fix: move it into one, or add a row to the table in \
             tests/architecture/imports.rs and ARCHITECTURE.md",
            file.path
        );
    }
}

#[test]
fn the_table_has_no_cycle_because_rooms_only_import_rows_above_them() {
    for (at, (room, allowed, _)) in ROOMS.iter().enumerate() {
        for target in *allowed {
            let above = ROOMS[..at].iter().any(|(name, ..)| name == target);
            assert!(above, "`{room}` imports `{target}`, which stands below it");
        }
    }
}

#[test]
fn migrations_never_import_entities() {
    for file in rust_files(&["migration"]) {
        let code = code_of(&file.text);
        let found = paths_after(&code, "entity::").first().copied();
        assert!(
            found.is_none(),
            "{}:{}: a migration that imports today's entity changes when the entity does; \
             fix: name tables and columns in the migration",
            file.path,
            found.map_or(0, |(line, _)| line)
        );
    }
}

#[test]
fn a_forbidden_import_is_found_in_every_form() {
    for line in
        ["use crate::storage::Db;", "let x = crate::storage::open();", "pub use crate::storage;"]
    {
        let found = paths_after(line, "crate::");
        assert_eq!(found.first().map(|(_, path)| first_word(path)), Some("storage"), "{line}");
    }
    assert!(paths_after("use super::actix_web_lab::x;", "actix_web::").is_empty());
    let group = "use crate::{\n    domain::{A, B},\n    storage,\n};\nuse crate::wire::X;";
    let found: Vec<(usize, &str)> = paths_after(group, "crate::")
        .iter()
        .map(|(line, path)| (*line, first_word(path)))
        .collect();
    assert_eq!(found, [(2, "domain"), (3, "storage"), (5, "wire")]);
    let climbing = rooms_reached_by_super("src/domain/money.rs", "use super::super::storage::Db;");
    assert_eq!(climbing, [(1, "storage")]);
    assert!(rooms_reached_by_super("src/http/x/routes.rs", "use super::super::flows;").is_empty());
    assert_eq!(whole_crate_imports("use awc as client;\nuse awc2;", "awc"), [1]);
    assert!(paths_after("$crate_name::x", "crate::").is_empty());
}
