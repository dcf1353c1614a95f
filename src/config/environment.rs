//! The process environment as a value: read once, never written.

use std::{collections::BTreeMap, ffi::OsString, fmt, io, path::Path};

use secrecy::{ExposeSecret, SecretString};

/// Names and values of the environment, `.env` included. `Debug` shows no value: any of them may
/// be a secret.
#[derive(Clone, Default)]
pub struct Environment {
    values: BTreeMap<String, SecretString>,
    /// Names whose value is not UTF-8: an error only when a setting wants one.
    undecodable: Vec<String>,
}

/// Why `.env` could not be used. Never repeats the file's text.
#[derive(Debug, thiserror::Error)]
pub enum DotenvError {
    /// It exists but can't be read.
    #[error("can't read .env: {0}; make it readable or remove it")]
    Unreadable(io::Error),
    /// A line is not `NAME=value`.
    #[error(
        "a line of .env {place} is not NAME=value; put values with spaces, `#` or `$` into single quotes"
    )]
    Malformed {
        /// Where, in words: the file's text may be a secret.
        place: String,
    },
}

impl Environment {
    /// Reads the process environment over the nearest `.env` (this directory or one above).
    ///
    /// # Errors
    /// [`DotenvError`] when there is a `.env` that can't be used.
    #[expect(clippy::disallowed_methods, reason = "this is the one reader of the environment")]
    pub fn from_process() -> Result<Self, DotenvError> {
        let dotenv = match dotenvy::dotenv_iter() {
            Ok(lines) => Self::from_dotenv_lines(lines)?,
            Err(error) if error.not_found() => Self::default(),
            Err(error) => return Err(dotenv_error(error, None)),
        };
        Ok(dotenv.overridden_by(std::env::vars_os()))
    }

    /// Reads one file of `NAME=value` lines and nothing else.
    ///
    /// # Errors
    /// [`DotenvError`] when it is missing, unreadable or malformed.
    pub fn from_file(path: &Path) -> Result<Self, DotenvError> {
        let lines = dotenvy::from_path_iter(path).map_err(|error| dotenv_error(error, None))?;
        Self::from_dotenv_lines(lines)
    }

    fn from_dotenv_lines<R: io::Read>(lines: dotenvy::Iter<R>) -> Result<Self, DotenvError> {
        let mut environment = Self::default();
        let mut last: Option<String> = None;
        for line in lines {
            let (name, value) = line.map_err(|error| dotenv_error(error, last.as_deref()))?;
            environment.insert(&name, value);
            last = Some(name);
        }
        Ok(environment)
    }

    /// Lays other values over these. An empty value unsets what lies below it.
    #[must_use]
    pub fn overridden_by(mut self, values: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        for (name, value) in values {
            // A name that is not UTF-8 can't be one of ours.
            let Ok(name) = name.into_string() else { continue };
            match value.into_string() {
                Ok(value) => self.insert(&name, value),
                Err(_) => {
                    self.values.remove(&name);
                    self.undecodable.push(name);
                }
            }
        }
        self
    }

    /// The value of a variable; `None` when it is unset or empty.
    #[must_use]
    pub fn secret(&self, name: &str) -> Option<&SecretString> {
        self.values.get(name)
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.secret(name).map(ExposeSecret::expose_secret)
    }

    pub(super) fn is_undecodable(&self, name: &str) -> bool {
        self.undecodable.iter().any(|known| known == name)
    }

    fn insert(&mut self, name: &str, value: String) {
        if value.is_empty() {
            self.values.remove(name);
        } else {
            self.values.insert(name.to_owned(), SecretString::from(value));
        }
    }
}

/// An environment of known values, for tests and tools.
impl<'a> FromIterator<(&'a str, &'a str)> for Environment {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a str)>>(values: I) -> Self {
        let os = |(name, value): (&str, &str)| (OsString::from(name), OsString::from(value));
        Self::default().overridden_by(values.into_iter().map(os))
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Environment({} variables, values hidden)", self.values.len())
    }
}

/// Drops the offending text of dotenvy's error: it may hold a key.
fn dotenv_error(error: dotenvy::Error, last_name: Option<&str>) -> DotenvError {
    match error {
        dotenvy::Error::Io(error) => DotenvError::Unreadable(error),
        _ => DotenvError::Malformed {
            place: last_name.map_or_else(
                || "(its first entry)".to_owned(),
                |name| format!("(the entry after {name})"),
            ),
        },
    }
}
