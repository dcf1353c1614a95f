//! Where the books are kept: `DATABASE_URL`.

use std::{fmt, path::PathBuf, str::FromStr};

use secrecy::SecretString;

/// A parsed `DATABASE_URL`. A PostgreSQL URL may hold a password, so neither form of text shows it.
#[derive(Clone)]
pub enum DatabaseUrl {
    /// An SQLite file. A relative path is relative to the working directory.
    Sqlite(PathBuf),
    /// A whole `postgres://` URL as the driver wants it.
    Postgres(SecretString),
}

/// Why a text is no `DATABASE_URL`. Never repeats it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DatabaseUrlError {
    /// Neither of the two schemes.
    #[error("it must start with sqlite: or postgres://")]
    Scheme,
    /// `sqlite:` without a file.
    #[error("it names no file; write sqlite:PATH, for example sqlite:data/faces.db")]
    SqlitePath,
    /// `sqlite::memory:` and its kin.
    #[error("credits can't be kept in memory; write sqlite:PATH, for example sqlite:data/faces.db")]
    SqliteMemory,
    /// Options after `?` other than `mode=rwc`.
    #[error("options after `?` are not supported; Faces sets journal mode and durability itself")]
    SqliteOptions,
    /// No host or no database name.
    #[error("it must be postgres://USER:PASSWORD@HOST:PORT/DATABASE")]
    Postgres,
}

impl FromStr for DatabaseUrl {
    type Err = DatabaseUrlError;

    /// Parses `sqlite:PATH`, `sqlite://PATH`, `postgres://…` and `postgresql://…`.
    ///
    /// # Errors
    /// [`DatabaseUrlError`] tells the rule that was broken.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(rest) = text.strip_prefix("sqlite:") {
            return sqlite_path(rest.strip_prefix("//").unwrap_or(rest)).map(Self::Sqlite);
        }
        let rest = text
            .strip_prefix("postgres://")
            .or_else(|| text.strip_prefix("postgresql://"))
            .ok_or(DatabaseUrlError::Scheme)?;
        let (authority, database) = rest.split_once('/').ok_or(DatabaseUrlError::Postgres)?;
        let (database, options) = database.split_once('?').unwrap_or((database, ""));
        // A Unix socket comes as `postgres:///faces?host=/run/postgresql`.
        let has_host = !authority.ends_with('@') && !authority.is_empty();
        if database.is_empty() || !(has_host || options.contains("host=")) {
            return Err(DatabaseUrlError::Postgres);
        }
        Ok(Self::Postgres(SecretString::from(text)))
    }
}

fn sqlite_path(rest: &str) -> Result<PathBuf, DatabaseUrlError> {
    let (path, options) = rest.split_once('?').unwrap_or((rest, ""));
    if path.contains(":memory:") || options.contains("mode=memory") {
        return Err(DatabaseUrlError::SqliteMemory);
    }
    if path.is_empty() || path.ends_with('/') {
        return Err(DatabaseUrlError::SqlitePath);
    }
    match options {
        "" | "mode=rwc" => Ok(PathBuf::from(path)),
        _ => Err(DatabaseUrlError::SqliteOptions),
    }
}

impl fmt::Display for DatabaseUrl {
    /// For people and logs: the SQLite file, or only the word `postgres`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(_) => f.write_str("postgres"),
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseUrl({self})")
    }
}
