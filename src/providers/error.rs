//! What can go wrong with a provider: at start ([`SetupError`]) and in a call ([`ProviderError`]).

use std::path::PathBuf;

use crate::{domain::ErrorCode, telemetry::metrics::AttemptEnd};

/// Why an upstream call did not give a whole response.
///
/// `detail` is for the log (an operating system's or TLS library's words): never a body, a prompt
/// or a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// No connection: name resolution, refused, unreachable or not in time. Nothing was sent.
    #[error("can't connect to the provider: {detail}")]
    Connect {
        /// The cause.
        detail: String,
    },
    /// No trusted TLS session. Nothing was sent.
    #[error("no trusted TLS session with the provider: {detail}")]
    Tls {
        /// The cause.
        detail: String,
    },
    /// No response head within `upstream_first_byte_timeout_ms`.
    #[error("the provider sent no response head in time")]
    FirstByteTimeout,
    /// No byte of the body within `upstream_idle_timeout_ms`.
    #[error("the provider fell silent in the middle of its response")]
    IdleTimeout,
    /// The call is older than `upstream_total_timeout_ms`.
    #[error("the provider's response took too long in all")]
    TotalTimeout,
    /// The connection broke after something was sent.
    #[error("the connection to the provider broke: {detail}")]
    Reset {
        /// The cause.
        detail: String,
    },
    /// The body ended before its declared length.
    #[error("the provider's response was cut off")]
    Truncated,
    /// The body is over the limit given to [`super::UpstreamBody::collect`].
    #[error("the provider's response is larger than {bytes_max} bytes")]
    TooLarge {
        /// The limit.
        bytes_max: u64,
    },
    /// The response can't be read reliably: compressed although identity was asked for, neither
    /// length nor chunks, or not HTTP/1.
    #[error("the provider's response can't be read: {why}")]
    Unreadable {
        /// What is wrong with it.
        why: &'static str,
    },
    /// `upstream_inflight_max` calls to this provider are running. Nothing was sent.
    #[error("too many calls to this provider are in flight")]
    QueueFull {
        /// When to try again.
        retry_after_ms: u64,
    },
    /// The server drains. Nothing was sent.
    #[error("the server is shutting down")]
    ShuttingDown,
    /// A mistake of ours.
    #[error("internal error in the provider pool: {what}")]
    Bug {
        /// What should not have happened.
        what: &'static str,
    },
}

impl ProviderError {
    /// The row of the error table.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Connect { .. }
            | Self::Tls { .. }
            | Self::Reset { .. }
            | Self::Truncated
            | Self::TooLarge { .. }
            | Self::Unreadable { .. } => ErrorCode::UpstreamFailed,
            Self::FirstByteTimeout | Self::IdleTimeout | Self::TotalTimeout => {
                ErrorCode::UpstreamTimeout
            }
            Self::QueueFull { .. } => ErrorCode::Overloaded,
            Self::ShuttingDown => ErrorCode::ShuttingDown,
            Self::Bug { .. } => ErrorCode::Internal,
        }
    }

    /// What the metrics count it as.
    pub(super) const fn attempt_end(&self) -> AttemptEnd {
        match self {
            Self::Connect { .. } | Self::Tls { .. } => AttemptEnd::ConnectError,
            Self::FirstByteTimeout | Self::IdleTimeout | Self::TotalTimeout => AttemptEnd::Timeout,
            Self::Reset { .. } | Self::Truncated => AttemptEnd::Cut,
            Self::TooLarge { .. } | Self::Unreadable { .. } | Self::Bug { .. } => {
                AttemptEnd::Unusable
            }
            Self::QueueFull { .. } => AttemptEnd::Full,
            Self::ShuttingDown => AttemptEnd::Shutdown,
        }
    }

    /// Whether the provider may have done (and billed) work: `false` only where nothing of the
    /// request can have been answered.
    #[must_use]
    pub const fn may_have_been_billed(&self) -> bool {
        match self {
            Self::Connect { .. }
            | Self::Tls { .. }
            | Self::QueueFull { .. }
            | Self::ShuttingDown
            | Self::Bug { .. } => false,
            Self::FirstByteTimeout
            | Self::IdleTimeout
            | Self::TotalTimeout
            | Self::Reset { .. }
            | Self::Truncated
            | Self::TooLarge { .. }
            | Self::Unreadable { .. } => true,
        }
    }
}

/// Why the server can't start with this catalog or these certificates. Each message names the
/// place and the fix.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A file can't be read.
    #[error("can't read {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// The models file (or the embedded one) says something wrong.
    #[error("{file}: {place}: {problem}")]
    Models {
        /// The file's path, or `the embedded catalog`.
        file: String,
        /// Table and field.
        place: String,
        /// What is wrong, and how to mend it.
        problem: String,
    },
    /// A base URL or a key that came from the environment is not usable.
    #[error("provider `{provider}`: {problem}")]
    Provider {
        /// The provider's name.
        provider: String,
        /// What is wrong, and how to mend it.
        problem: String,
    },
    /// `FACES_DEFAULT_MODEL` names a model that can't be used, or there is none at all.
    #[error("{0}")]
    DefaultModel(String),
    /// `FACES_EMBEDDING_MODEL` names a model that makes no embeddings here.
    #[error("FACES_EMBEDDING_MODEL: {0}")]
    EmbeddingModel(String),
    /// A CA file without a usable certificate.
    #[error("FACES_PROVIDER_CA_FILE {path}: {problem}", path = path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// What is wrong, and how to mend it.
        problem: String,
    },
    /// The TLS library refuses its own defaults.
    #[error("TLS can't be set up: {0}")]
    Tls(String),
}
