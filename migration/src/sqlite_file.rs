//! The file of an SQLite database: its directory, its permissions and its lock.
//!
//! SQLite lets several processes write one file. Faces does not: an instance keeps parts of the
//! books in memory, so exactly one process may own them. The lock is an operating system lock on
//! a file beside the database; it ends with its process, however that ends.

use std::{
    ffi::OsString,
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
};

/// The lock on a database file. Ends when it is dropped.
#[derive(Debug)]
pub struct SqliteLock {
    _file: File,
}

/// Why the lock was not taken.
#[derive(Debug)]
pub enum SqliteLockError {
    /// Another process owns the database.
    Held {
        /// Its number, as far as it can be told.
        pid: Option<u32>,
    },
    /// The lock file can't be made or locked.
    Io(io::Error),
}

/// The path of the lock file: the database's with `.lock` added.
#[must_use]
pub fn lock_path(database: &Path) -> PathBuf {
    let mut path = OsString::from(database);
    path.push(".lock");
    PathBuf::from(path)
}

/// Makes the directories above `database` (mode 0700) and the empty file (mode 0600) when they
/// don't exist. What exists is left as it is.
///
/// # Errors
/// The operating system's.
pub fn create(database: &Path) -> io::Result<()> {
    if let Some(directory) = database.parent().filter(|path| !path.as_os_str().is_empty()) {
        let mut builder = DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(directory)?;
    }
    owner_only().create(true).truncate(false).open(database).map(drop)
}

impl SqliteLock {
    /// Takes the lock of `database`, whose directory must exist. Never waits.
    ///
    /// # Errors
    /// [`SqliteLockError::Held`] when another process has it.
    pub fn take(database: &Path) -> Result<Self, SqliteLockError> {
        let path = lock_path(database);
        let file = owner_only().create(true).truncate(false).open(&path);
        let file = file.map_err(SqliteLockError::Io)?;
        match file.try_lock() {
            Ok(()) => {
                write_pid(&file).map_err(SqliteLockError::Io)?;
                Ok(Self { _file: file })
            }
            Err(TryLockError::WouldBlock) => Err(SqliteLockError::Held { pid: read_pid(&path) }),
            Err(TryLockError::Error(error)) => Err(SqliteLockError::Io(error)),
        }
    }
}

/// Only for messages: the lock itself is the operating system's.
fn write_pid(mut file: &File) -> io::Result<()> {
    file.set_len(0)?;
    writeln!(file, "{}", std::process::id())
}

fn read_pid(path: &Path) -> Option<u32> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn owner_only() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}
