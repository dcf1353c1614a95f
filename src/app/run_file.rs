//! `server.json` in the data directory: where the running server is. Read by `faces chat`, by
//! scripts and by tests; removed at an orderly stop.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

const NAME: &str = "server.json";

/// What the file says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct RunningServer {
    /// Base URL as this machine reaches it.
    pub(super) url: String,
    /// The server's process.
    pub(super) pid: u32,
    /// When it began to listen, Unix time in s.
    pub(super) started: i64,
}

/// The written file; removed on drop.
#[derive(Debug)]
pub(super) struct RunFile(PathBuf);

impl RunFile {
    /// Writes the file in one step (a reader never sees half of it).
    pub(super) fn write(data_dir: &Path, running: &RunningServer) -> io::Result<Self> {
        let path = data_dir.join(NAME);
        let unfinished = data_dir.join(format!("{NAME}.{}", running.pid));
        fs::write(&unfinished, serde_json::to_vec(running)?)?;
        fs::rename(&unfinished, &path)?;
        Ok(Self(path))
    }
}

impl Drop for RunFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            log::debug!(target: "faces::app", "{} was not removed: {error}", self.0.display());
        }
    }
}

/// Reads the file of a server on this data directory, if there is one.
pub(super) fn read(data_dir: &Path) -> Option<RunningServer> {
    let text = fs::read(data_dir.join(NAME)).ok()?;
    serde_json::from_slice(&text).ok()
}
