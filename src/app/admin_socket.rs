//! The administration socket: how `faces admin …` reaches the server that owns the SQLite file.
//!
//! A Unix socket in the data directory, readable by the server's user only; the file's permission
//! is the credential. One JSON line in ([`AdminRequest`]), one JSON line out (`{"ok":…}` or
//! `{"error":{"code","message"}}`), then it is closed.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::Semaphore,
};

use crate::{
    domain::ErrorCode,
    flows::{Failure, Platform, admin::AdminRequest},
};

const NAME: &str = "admin.sock";
/// Largest request line: an import file of `body_bytes_max` with every byte escaped.
const LINE_BYTES_MAX: u64 = 256 * 1_024 * 1_024;

/// Commands at once: a person and some scripts. Further ones wait in the socket's backlog.
const PEERS_MAX: usize = 16;
/// Longest wait for a command's line.
const LINE_TIMEOUT: Duration = Duration::from_secs(60);
/// Pause after an accept that failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Ok(Value),
    Error { code: String, message: String },
}

/// What a command got from the running server.
#[derive(Debug)]
pub(super) enum Remote {
    /// No server listens there.
    NotRunning,
    /// It ran the command.
    Done(Value),
    /// It refused the command.
    Refused { code: String, message: String },
}

/// The listening socket; its file is removed on drop.
#[derive(Debug)]
pub(super) struct AdminSocket {
    path: PathBuf,
    listener: UnixListener,
}

impl AdminSocket {
    /// Binds the socket. The caller owns the data directory (its lock), so a file that is there
    /// was left by a server that died.
    pub(super) fn bind(data_dir: &Path) -> io::Result<Self> {
        let path = data_dir.join(NAME);
        match fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let listener = UnixListener::bind(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        Ok(Self { path, listener })
    }

    /// Serves commands until it is dropped; a slow or silent peer keeps no other waiting.
    pub(super) async fn serve(&self, platform: &Platform) {
        let peers = Arc::new(Semaphore::new(PEERS_MAX));
        loop {
            // An error would mean a closed semaphore, which is never closed.
            let Ok(place) = Arc::clone(&peers).acquire_owned().await else { return };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let platform = platform.clone();
                    actix_web::rt::spawn(async move {
                        if let Err(error) = answer(stream, &platform).await {
                            log::warn!(target: "faces::app", "an administration command failed: {error}");
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    log::warn!(target: "faces::app", "the administration socket failed: {error}");
                    // A failing accept (no file handles) must not become a busy loop.
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            log::debug!(target: "faces::app", "{} was not removed: {error}", self.path.display());
        }
    }
}

async fn answer(mut stream: UnixStream, platform: &Platform) -> io::Result<()> {
    let (reader, mut writer) = stream.split();
    let mut line = String::new();
    let mut reader = BufReader::new(reader.take(LINE_BYTES_MAX));
    let read = tokio::time::timeout(LINE_TIMEOUT, reader.read_line(&mut line)).await;
    if read.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?? == 0 {
        // Somebody only looked whether a server is here.
        return Ok(());
    }
    let done = match serde_json::from_str::<AdminRequest>(&line) {
        Ok(request) => platform.administer(request).await,
        Err(error) => Err(Failure::new(
            ErrorCode::InvalidRequest,
            format!(
                "the command is not understood ({error}); is the running server of the same version?"
            ),
        )),
    };
    let answer = match done {
        Ok(value) => Answer::Ok(value),
        Err(failure) => {
            Answer::Error { code: failure.code.as_str().to_owned(), message: failure.message }
        }
    };
    let mut text = serde_json::to_vec(&answer)?;
    text.push(b'\n');
    writer.write_all(&text).await
}

/// Whether a server listens on this data directory.
pub(super) async fn is_served(data_dir: &Path) -> bool {
    UnixStream::connect(data_dir.join(NAME)).await.is_ok()
}

/// Sends a command to the server on this data directory.
///
/// # Errors
/// When a server listens but the conversation breaks off: the outcome is unknown then.
pub(super) async fn send(data_dir: &Path, request: &AdminRequest) -> io::Result<Remote> {
    let mut stream = match UnixStream::connect(data_dir.join(NAME)).await {
        Ok(stream) => stream,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            return Ok(Remote::NotRunning);
        }
        Err(error) => return Err(error),
    };
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    let mut text = Vec::new();
    stream.read_to_end(&mut text).await?;
    Ok(match serde_json::from_slice(&text)? {
        Answer::Ok(value) => Remote::Done(value),
        Answer::Error { code, message } => Remote::Refused { code, message },
    })
}
