//! Every command of `faces-cli` 0.1.0, the real command-line client from PyPI, against a real
//! server: what it prints, how it ends, and that no command was left out.

mod errors;
mod journey;
mod sources;

use std::{collections::BTreeSet, fs, path::PathBuf, process::Command, sync::Mutex};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    install::{self, Sdk},
    support::{BOUND, lock, server::TestServer, wait_for},
};

/// A password that the server takes.
const PASSWORD: &str = "Correct-horse-7";

/// The client in a home of its own.
pub(super) struct Cli {
    sdk: &'static Sdk,
    home: TempDir,
    url: String,
    driven: Mutex<BTreeSet<String>>,
}

/// How a command ended.
#[derive(Debug)]
pub(super) struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Cli {
    /// The client for this server; `None` when it can't be installed (then the test is skipped).
    pub(super) fn new(server: &TestServer) -> Option<Self> {
        let sdk = install::faces_cli()?;
        let home = TempDir::with_prefix("faces-cli-").expect("a home");
        Some(Self { sdk, home, url: server.url(), driven: Mutex::default() })
    }

    /// Runs `faces` with these arguments, as the user who logged in.
    pub(super) fn run(&self, arguments: &[&str]) -> Ran {
        self.run_with(arguments, &[])
    }

    /// Runs `faces` with an API key instead of a login.
    pub(super) fn run_with_key(&self, key: &str, arguments: &[&str]) -> Ran {
        let empty = self.home.path().join("nobody").display().to_string();
        self.run_with(arguments, &[("HOME", &empty), ("FACES_API_KEY", key)])
    }

    fn run_with(&self, arguments: &[&str], env: &[(&str, &str)]) -> Ran {
        let words = arguments.iter().take_while(|word| !word.starts_with('-'));
        let words: Vec<&str> = words.copied().collect();
        lock(&self.driven).insert(words.join(" "));
        let output = self
            .python()
            .args(["-m", "faces.cli"])
            .args(arguments)
            .envs(env.iter().copied())
            .output()
            .expect("python3 runs");
        Ran {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    fn python(&self) -> Command {
        let mut command = Command::new("python3");
        command
            .env_clear()
            .envs(crate::support::env_var("PATH").map(|path| ("PATH", path)))
            .env("HOME", self.home.path())
            .env("FACES_BASE_URL", &self.url)
            .env("PYTHONPATH", &self.sdk.directory)
            .env("PYTHONNOUSERSITE", "1")
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("PYTHONUTF8", "1");
        command
    }

    /// Registers an account, which logs in.
    pub(super) fn register(&self, username: &str) -> Value {
        let email = format!("{username}@example.com");
        let arguments = ["auth", "register", "--email", &email, "--password", PASSWORD];
        let more = ["--name", "A Person", "--username", username];
        self.run(&[&arguments[..], &more[..]].concat()).json()
    }

    /// A file in the client's home.
    pub(super) fn file(&self, name: &str, content: &str) -> String {
        let path: PathBuf = self.home.path().join(name);
        fs::write(&path, content).expect("the file is written");
        path.display().to_string()
    }

    /// Reads a document until its `status` is this one.
    pub(super) fn wait_state(&self, document: &str, state: &str) -> Value {
        wait_for(&format!("the document is {state}"), BOUND, || {
            let document = self.run(&["compile", "doc", "get", document]).json();
            (document["status"] == state).then_some(document)
        })
    }

    /// Commands of the client that were not run, by the client's own table.
    pub(super) fn not_driven(&self) -> Vec<String> {
        const WALK: &str = "
import json, click
from faces.cli import cli
def walk(command, path):
    if isinstance(command, click.Group):
        return [found for name, one in command.commands.items() for found in walk(one, path + [name])]
    return [' '.join(path)]
print(json.dumps(walk(cli, [])))";
        let output = self.python().args(["-c", WALK]).output().expect("python3 runs");
        let all: Vec<String> = serde_json::from_slice(&output.stdout).expect("a list of commands");
        assert!(all.len() > 35, "{all:?}");
        let driven = lock(&self.driven);
        let was_driven = |command: &String| {
            driven.iter().any(|one| one == command || one.starts_with(&format!("{command} ")))
        };
        all.into_iter().filter(|command| !was_driven(command)).collect()
    }
}

impl Ran {
    /// What a command printed that must have succeeded.
    #[track_caller]
    pub(super) fn text(&self) -> &str {
        assert_eq!(self.code, Some(0), "{self:?}");
        &self.stdout
    }

    /// The same, read as JSON (after a line of text, where there is one).
    #[track_caller]
    pub(super) fn json(&self) -> Value {
        let text = self.text();
        let start = text.find(['{', '[']).unwrap_or_default();
        serde_json::from_str(&text[start..]).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Asserts that the command failed with this exit code and said all of these words.
    #[track_caller]
    pub(super) fn failed(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        for word in words {
            assert!(self.stderr.contains(word), "no {word:?} in {self:?}");
        }
        assert!(!self.stderr.contains("Traceback"), "{self:?}");
    }
}

/// The text of a string field.
#[track_caller]
pub(super) fn text_of<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_else(|| panic!("no text {field} in {value}"))
}
