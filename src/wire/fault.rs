//! What can be wrong with an upstream's response.

use crate::domain::ErrorCode;

use super::sse::SseError;

/// A response that can't be passed off as a success.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamFault {
    /// The body ended before its proper end (`[DONE]` or a finish reason; `message_stop`).
    #[error("the provider's response ended before it was complete")]
    Truncated,
    /// The upstream reported an error inside a response of status 200.
    #[error("the provider reported an error: {message}")]
    ErrorEvent {
        /// The code for the client.
        code: ErrorCode,
        /// The provider's own message, bounded.
        message: String,
        /// The HTTP status that the provider meant, when it told one.
        status_hint: Option<u16>,
    },
    /// The response is not of the format that it should have.
    #[error("the provider's response can't be read: {detail}")]
    Malformed {
        /// What was found wrong; never a piece of the response.
        detail: &'static str,
    },
    /// A record or body is over its limit.
    #[error("the provider's response is larger than the limit")]
    TooLarge,
}

impl UpstreamFault {
    /// The code of the error table.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::ErrorEvent { code, .. } => *code,
            Self::Truncated | Self::Malformed { .. } | Self::TooLarge => ErrorCode::UpstreamFailed,
        }
    }
}

impl From<SseError> for UpstreamFault {
    fn from(error: SseError) -> Self {
        match error {
            SseError::RecordTooLarge { .. } => Self::TooLarge,
        }
    }
}
