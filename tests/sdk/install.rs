//! The official Python SDKs below `target/sdk/`: installed once from PyPI with every package
//! pinned, used by all tests.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use crate::support::{in_ci, server::say};

/// An SDK in one version, installed.
#[derive(Debug, Clone)]
pub(crate) struct Sdk {
    /// `openai`, `anthropic`, …
    pub(crate) package: &'static str,
    /// Version on PyPI.
    pub(crate) version: &'static str,
    /// What goes into `PYTHONPATH`.
    pub(crate) directory: PathBuf,
}

/// The three current majors of `openai`, with their pinned requirements.
const OPENAI: [(&str, &str); 3] = [
    ("1.109.1", include_str!("requirements/openai-1.109.1.txt")),
    ("2.54.0", include_str!("requirements/openai-2.54.0.txt")),
    ("3.54.0", include_str!("requirements/openai-3.54.0.txt")),
];

/// The three current majors of `anthropic`, with their pinned requirements.
const ANTHROPIC: [(&str, &str); 3] = [
    ("0.125.0", include_str!("requirements/anthropic-0.125.0.txt")),
    ("1.17.0", include_str!("requirements/anthropic-1.17.0.txt")),
    ("2.12.0", include_str!("requirements/anthropic-2.12.0.txt")),
];

/// The platform's own command-line client, with its pinned requirements.
const FACES_CLI: [(&str, &str); 1] = [("0.1.0", include_str!("requirements/faces-cli-0.1.0.txt"))];

/// The reference validator of OpenAPI documents, with its pinned requirements.
const VALIDATOR: [(&str, &str); 1] =
    [("0.9.0", include_str!("requirements/openapi-spec-validator-0.9.0.txt"))];

type Installed = OnceLock<Result<Vec<Sdk>, String>>;

/// All versions of the OpenAI SDK; `None` when they can't be had (then the test says so and ends).
pub(crate) fn openai() -> Option<&'static [Sdk]> {
    static INSTALLED: Installed = OnceLock::new();
    available(INSTALLED.get_or_init(|| install_all("openai", &OPENAI)))
}

/// All versions of the Anthropic SDK; `None` as there.
pub(crate) fn anthropic() -> Option<&'static [Sdk]> {
    static INSTALLED: Installed = OnceLock::new();
    available(INSTALLED.get_or_init(|| install_all("anthropic", &ANTHROPIC)))
}

/// The command-line client `faces-cli`; `None` as there.
pub(crate) fn faces_cli() -> Option<&'static Sdk> {
    static INSTALLED: Installed = OnceLock::new();
    let installed = available(INSTALLED.get_or_init(|| install_all("faces-cli", &FACES_CLI)))?;
    installed.first()
}

/// The validator of OpenAPI documents; `None` as there.
pub(crate) fn openapi_validator() -> Option<&'static Sdk> {
    static INSTALLED: Installed = OnceLock::new();
    let install = || install_all("openapi-spec-validator", &VALIDATOR);
    available(INSTALLED.get_or_init(install))?.first()
}

fn available(installed: &Result<Vec<Sdk>, String>) -> Option<&[Sdk]> {
    match installed {
        Ok(sdks) => Some(sdks),
        Err(reason) => {
            assert!(!in_ci(), "CI needs the official SDKs: {reason}");
            let test = std::thread::current().name().unwrap_or_default().to_owned();
            say(&format!("SKIPPED {test}: the official SDKs can't be installed: {reason}"));
            None
        }
    }
}

fn install_all(
    package: &'static str,
    versions: &[(&'static str, &'static str)],
) -> Result<Vec<Sdk>, String> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().ok_or("no target directory")?;
    let root = target.join("sdk");
    fs::create_dir_all(&root).map_err(|error| error.to_string())?;
    // Tests run in several processes: one installs, the others wait and find it done.
    let lock = File::create(root.join(format!("{package}.lock"))).map_err(|e| e.to_string())?;
    lock.lock().map_err(|error| error.to_string())?;
    let installed = versions.iter().map(|(version, requirements)| {
        let directory = root.join(format!("{package}-{version}"));
        install(&directory, requirements).map(|()| Sdk { package, version, directory })
    });
    installed.collect()
}

fn install(directory: &Path, requirements: &str) -> Result<(), String> {
    let done = directory.join("installed-requirements.txt");
    if fs::read_to_string(&done).is_ok_and(|text| text == requirements) {
        return Ok(());
    }
    let text = |error: std::io::Error| error.to_string();
    if directory.exists() {
        fs::remove_dir_all(directory).map_err(text)?;
    }
    fs::create_dir_all(directory).map_err(text)?;
    let file = directory.join("requirements.txt");
    fs::write(&file, requirements).map_err(text)?;
    let output = Command::new("python3")
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"])
        .args(["--only-binary", ":all:", "--retries", "1", "--target"])
        .arg(directory)
        .arg("--requirement")
        .arg(&file)
        .output()
        .map_err(|error| format!("python3 can't be run: {error}"))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        let last = errors.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
        return Err(format!("pip: {last}"));
    }
    fs::write(&done, requirements).map_err(text)
}
