//! The tables of `README.md` and `ARCHITECTURE.md` say what the code says.

use std::collections::BTreeMap;

use faces::domain::ErrorCode;

use super::{
    imports::ROOMS,
    source::{root, rust_files},
};

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// The cells of every table row of a Markdown text, without back-ticks.
fn rows(text: &str) -> Vec<Vec<String>> {
    let cell = |cell: &str| cell.trim().replace('`', "");
    let rows = text.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix('|'));
    rows.map(|row| row.split('|').map(cell).collect()).collect()
}

fn is_variable(name: &str) -> bool {
    name.contains('_') && name.chars().all(|c| c.is_ascii_uppercase() || c == '_')
}

#[test]
fn every_setting_of_the_readme_stands_in_the_env_example_with_that_default() {
    let example = read(".env.example");
    let known: BTreeMap<&str, &str> = example
        .lines()
        .filter_map(|line| line.strip_prefix('#')?.split_once('='))
        .filter(|(name, _)| is_variable(name))
        .collect();
    let settings: Vec<Vec<String>> =
        rows(&read("README.md")).into_iter().filter(|row| is_variable(&row[0])).collect();
    assert!(settings.len() > 10, "the README has no table of settings: {settings:?}");
    for row in settings {
        assert_eq!(
            known.get(row[0].as_str()),
            Some(&row[1].as_str()),
            "README.md: `{}`; fix: take name and default from .env.example",
            row[0]
        );
    }
}

#[test]
fn every_error_code_stands_in_the_readme_with_its_status() {
    let rows = rows(&read("README.md"));
    for code in ErrorCode::ALL {
        let status = code.row().status.to_string();
        let is_there = rows.iter().any(|row| row[0] == code.as_str() && row[1] == status);
        assert!(is_there, "README.md: no row `{}` | {status}; fix: add it", code.as_str());
    }
}

#[test]
fn every_route_stands_in_the_readme() {
    let rows = rows(&read("README.md"));
    let files = rust_files(&["src/http"]);
    let routes: String = files.into_iter().map(|file| file.text).collect();
    let paths: Vec<String> = routes
        .split("resource(\"")
        .skip(1)
        .filter_map(|rest| Some(rest.split_once('"')?.0.replace(":.+", "").replace(":.*", "")))
        .collect();
    assert!(paths.len() > 10, "no routes were found: {paths:?}");
    for path in paths {
        let is_there = rows
            .iter()
            .any(|row| row[0].split_once(' ').is_some_and(|(_, documented)| documented == path));
        assert!(is_there, "README.md: the route {path} is missing; fix: add a row");
    }
}

#[test]
fn the_table_of_rooms_in_architecture_md_is_the_enforced_one() {
    let rows = rows(&read("ARCHITECTURE.md"));
    for (room, allowed, _) in ROOMS {
        let allowed = allowed.join(", ");
        assert!(
            rows.iter().any(|row| row[0] == room && row[1] == allowed),
            "ARCHITECTURE.md: no row `{room}` | {allowed}; fix: write what imports.rs enforces"
        );
    }
}
