//! The program, as a person uses it.

#![cfg(test)]

use std::{
    path::Path,
    process::{Command, Output},
};

use migration::sqlite_file::{self, SqliteLock};

fn migration(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_migration"))
        .current_dir(directory)
        .env_remove("DATABASE_URL")
        .env_remove("FACES_DATA_DIR")
        .args(arguments)
        .output()
        .unwrap()
}

#[track_caller]
fn succeeds(directory: &Path, arguments: &[&str]) -> String {
    let output = migration(directory, arguments);
    let (out, err) = texts(&output);
    assert!(output.status.success(), "{arguments:?}: {err}");
    out
}

#[track_caller]
fn fails(directory: &Path, arguments: &[&str]) -> String {
    let output = migration(directory, arguments);
    let (out, err) = texts(&output);
    assert_eq!((output.status.success(), out.as_str()), (false, ""), "{arguments:?}");
    err
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn up_makes_the_default_database_and_down_takes_back_one_step() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let applied = succeeds(at, &["up"]);
    assert!(applied.contains("applied m20261123_000001_create_accounts"), "{applied}");
    assert!(at.join("data/faces.db").is_file());
    assert_eq!(succeeds(at, &["up"]), "nothing to do\n");
    assert!(!succeeds(at, &["status"]).contains("pending"));

    let count = applied.lines().count();
    assert_eq!(succeeds(at, &["down"]).lines().count(), 1);
    assert_eq!(succeeds(at, &["status"]).matches("pending").count(), 1);
    assert_eq!(succeeds(at, &["down", "-n", "100"]).lines().count(), count - 1);
    assert_eq!(succeeds(at, &["down"]), "nothing to do\n");
    assert_eq!(succeeds(at, &["up"]), applied);
}

#[cfg(unix)]
#[test]
fn what_up_makes_is_readable_by_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;

    let directory = tempfile::tempdir().unwrap();
    succeeds(directory.path(), &["up"]);
    let data = directory.path().join("data");
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&data), 0o700);
    assert_eq!(mode(&data.join("faces.db")), 0o600);
}

#[test]
fn the_servers_data_directory_is_used() {
    let directory = tempfile::tempdir().unwrap();
    succeeds(directory.path(), &["up", "--data-dir", "elsewhere/deep"]);
    assert!(directory.path().join("elsewhere/deep/faces.db").is_file());
    assert!(!directory.path().join("data").exists());
}

#[test]
fn fresh_asks_for_yes_and_says_what_it_deletes() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    succeeds(at, &["up"]);
    let error = fails(at, &["fresh"]);
    assert!(error.contains("deletes every account") && error.contains("--yes"), "{error}");
    succeeds(at, &["fresh", "--yes"]);
    assert!(!succeeds(at, &["status"]).contains("pending"));
}

#[test]
fn a_database_in_use_is_left_alone_but_can_be_looked_at() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    succeeds(at, &["up"]);
    let path = at.join("data/faces.db");
    let lock = SqliteLock::take(&path).unwrap();
    for arguments in [&["up"][..], &["down"], &["fresh", "--yes"]] {
        let error = fails(at, arguments);
        assert!(error.contains("stop it first"), "{error}");
        assert!(error.contains(&format!("process {} uses", std::process::id())), "{error}");
    }
    succeeds(at, &["status"]);
    drop(lock);
    succeeds(at, &["down"]);
    assert!(sqlite_file::lock_path(&path).exists());
}

#[test]
fn mistakes_are_answered_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    for arguments in [&["status"][..], &["down"]] {
        let error = fails(at, arguments);
        assert!(error.contains("there is no database ./data/faces.db: `up` makes it"), "{error}");
        assert!(!at.join("data").exists(), "looking makes nothing");
    }
    for url in ["mysql://localhost/x", "sqlite::memory:", "sqlite:", "faces.db"] {
        let error = fails(at, &["--database-url", url, "status"]);
        assert!(error.contains("postgres://user:password@host/name"), "{url}: {error}");
    }
    let secret = "postgres://faces:hunter2@127.0.0.1:1/faces";
    let error = fails(at, &["status", "--database-url", secret]);
    assert!(error.starts_with("error: the database refused"), "{error}");
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn help_names_every_command_and_the_environment() {
    let directory = tempfile::tempdir().unwrap();
    let help = succeeds(directory.path(), &["--help"]);
    for word in ["up", "down", "status", "fresh", "--database-url", "DATABASE_URL"] {
        assert!(help.contains(word), "{word}: {help}");
    }
}
