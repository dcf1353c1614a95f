//! One closed table of error codes.
//!
//! A code decides status, kind, whether a retry can help, and the word in each dialect. Rooms
//! map their errors to a code by an exhaustive `match`; `http` renders it. Policy: 4xx, the caller
//! can act; 402, money; 429, a limit; 500, our bug; 502 and 504, the provider; 503, try again.

use log::Level;

/// Who can do something about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request must change.
    Caller,
    /// The credential must change.
    Auth,
    /// Credits, budgets, freezes.
    Funds,
    /// Slow down.
    Limit,
    /// The provider failed.
    Upstream,
    /// We can't right now.
    Unavailable,
    /// Our fault.
    Bug,
}

/// A row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorRow {
    /// HTTP status, when it is sent before the first byte.
    pub status: u16,
    /// Who can act.
    pub kind: ErrorKind,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// Level of the one log line.
    pub level: Level,
    /// `error.type` in OpenAI's dialect.
    pub openai_type: &'static str,
    /// `error.type` in Anthropic's dialect.
    pub anthropic_type: &'static str,
}

macro_rules! error_codes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,
        $status:literal, $kind:ident, $retryable:literal, $level:ident, $openai:literal, $anthropic:literal;)+) => {
        /// Every way in which Faces says no. The text of [`ErrorCode::as_str`] is stable: clients,
        /// metrics and the docs use it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ErrorCode { $($(#[$doc])* $variant,)+ }

        impl ErrorCode {
            /// All codes, in the table's order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The stable word.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// The table's row.
            #[must_use]
            pub const fn row(self) -> ErrorRow {
                match self {
                    $(Self::$variant => ErrorRow {
                        status: $status,
                        kind: ErrorKind::$kind,
                        retryable: $retryable,
                        level: Level::$level,
                        openai_type: $openai,
                        anthropic_type: $anthropic,
                    },)+
                }
            }
        }
    };
}

error_codes! {
    /// The body is not JSON.
    InvalidJson = "invalid_json", 422, Caller, false, Info, "invalid_request_error", "invalid_request_error";
    /// The body is JSON of the wrong shape: a field is missing, of the wrong type or out of range.
    InvalidRequest = "invalid_request_body", 422, Caller, false, Info, "invalid_request_error", "invalid_request_error";
    /// `face@llm` names a model that is not usable here.
    UnsupportedModel = "unsupported_model", 422, Caller, false, Info, "invalid_request_error", "invalid_request_error";
    /// The request asks for something that its target model's format has no equivalent for.
    UnsupportedParameter = "unsupported_parameter", 400, Caller, false, Info, "invalid_request_error", "invalid_request_error";
    /// The content type is not `application/json`.
    UnsupportedMediaType = "unsupported_media_type", 415, Caller, false, Info, "invalid_request_error", "invalid_request_error";
    /// The text of this kind of file is not read.
    UnsupportedFile = "unsupported_file", 400, Caller, false, Info, "invalid_request_error", "invalid_request_error";
    /// The body is over the limit.
    BodyTooLarge = "request_too_large", 413, Caller, false, Info, "invalid_request_error", "request_too_large";
    /// No such path.
    RouteNotFound = "route_not_found", 404, Caller, false, Info, "invalid_request_error", "not_found_error";
    /// The path exists with another method.
    MethodNotAllowed = "method_not_allowed", 405, Caller, false, Info, "invalid_request_error", "invalid_request_error";
    /// No face of that name belongs to the caller.
    FaceNotFound = "face_not_found", 404, Caller, false, Info, "invalid_request_error", "not_found_error";
    /// Neither a face of the caller nor a model of the catalog.
    ModelNotFound = "model_not_found", 404, Caller, false, Info, "invalid_request_error", "not_found_error";
    /// Any other thing that is not there (or not the caller's).
    NotFound = "not_found", 404, Caller, false, Info, "invalid_request_error", "not_found_error";
    /// This server does not do such a thing, and says so.
    NotOffered = "not_offered", 400, Caller, false, Info, "invalid_request_error", "invalid_request_error";
    /// It exists already.
    Conflict = "conflict", 409, Caller, false, Info, "invalid_request_error", "invalid_request_error";
    /// The idempotency key was used for another request.
    IdempotencyKeyReused = "idempotency_key_reused", 422, Caller, false, Info, "invalid_request_error", "invalid_request_error";
    /// The request with this idempotency key is still running.
    IdempotencyInProgress = "idempotency_in_progress", 409, Caller, true, Info, "invalid_request_error", "invalid_request_error";
    /// The request with this idempotency key is over, and its answer was not kept.
    AlreadyCompleted = "already_completed", 409, Caller, false, Info, "invalid_request_error", "invalid_request_error";
    /// Missing, malformed, unknown, expired or revoked credential.
    Unauthenticated = "invalid_api_key", 401, Auth, false, Info, "invalid_request_error", "authentication_error";
    /// No account has this e-mail address with this password.
    InvalidLogin = "invalid_login", 401, Auth, false, Info, "invalid_request_error", "authentication_error";
    /// Too many attempts to log in or register.
    TooManyAttempts = "too_many_attempts", 429, Limit, true, Info, "rate_limit_error", "rate_limit_error";
    /// The key may not use this face.
    FaceNotAllowed = "face_not_allowed", 403, Auth, false, Info, "invalid_request_error", "permission_error";
    /// The key may not use this model.
    ModelNotAllowed = "model_not_allowed", 403, Auth, false, Info, "invalid_request_error", "permission_error";
    /// The credential may not do this.
    Forbidden = "forbidden", 403, Auth, false, Info, "invalid_request_error", "permission_error";
    /// The credits don't pay for this request (the body's `reason` and `limit` say what limits).
    InsufficientCredits = "insufficient_credits", 402, Funds, false, Info, "insufficient_quota", "billing_error";
    /// Credit ran out while the response was streaming.
    CreditExhausted = "credit_exhausted", 402, Funds, false, Info, "insufficient_quota", "billing_error";
    /// The provider refused the request as invalid.
    UpstreamInvalidRequest = "upstream_invalid_request", 400, Caller, false, Info, "invalid_request_error", "invalid_request_error";
    /// The conversation is longer than the model's context.
    ContextLengthExceeded = "context_length_exceeded", 400, Caller, false, Info, "invalid_request_error", "invalid_request_error";
    /// The key or its account asks more often than it may.
    RateLimited = "rate_limit_exceeded", 429, Limit, true, Info, "rate_limit_error", "rate_limit_error";
    /// The provider's rate limit.
    UpstreamRateLimited = "rate_limit_exceeded", 429, Upstream, true, Warn, "rate_limit_error", "rate_limit_error";
    /// The provider does not accept the platform's key, or refuses it this model.
    UpstreamAuth = "upstream_auth_failed", 502, Upstream, false, Error, "server_error", "api_error";
    /// The provider failed, answered nonsense or broke off.
    UpstreamFailed = "upstream_error", 502, Upstream, true, Warn, "server_error", "api_error";
    /// The provider is overloaded.
    UpstreamOverloaded = "upstream_overloaded", 503, Upstream, true, Warn, "server_error", "overloaded_error";
    /// The provider did not answer in time.
    UpstreamTimeout = "upstream_timeout", 504, Upstream, true, Warn, "server_error", "timeout_error";
    /// Too many requests are in flight here.
    Overloaded = "overloaded", 503, Unavailable, true, Warn, "server_error", "overloaded_error";
    /// The books can't be written right now, so nothing may be spent.
    LedgerUnavailable = "ledger_unavailable", 503, Unavailable, true, Error, "server_error", "api_error";
    /// The database can't be reached.
    StorageUnavailable = "storage_unavailable", 503, Unavailable, true, Error, "server_error", "api_error";
    /// The server is shutting down.
    ShuttingDown = "shutting_down", 503, Unavailable, true, Info, "server_error", "overloaded_error";
    /// A bug of ours.
    Internal = "internal_error", 500, Bug, false, Error, "server_error", "api_error";
}

/// What limits the caller's credit: `reason` and `limit` of a 402.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FundsReason {
    /// The balance does not pay for the request at all.
    InsufficientCredits,
    /// The balance pays for a part: the request's own `max_tokens` asks for more.
    HoldExceedsBalance,
    /// It would fit once other running requests have settled: wait and try again.
    CreditReserved,
    /// The key's budget is spent.
    KeyBudgetExceeded,
    /// The account is frozen.
    AccountFrozen,
    /// The plan's quota of compiled tokens is used up.
    CompileQuotaExceeded,
}

impl FundsReason {
    /// The `reason` word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InsufficientCredits => "insufficient_credits",
            Self::HoldExceedsBalance => "hold_exceeds_balance",
            Self::CreditReserved => "credit_reserved",
            Self::KeyBudgetExceeded => "key_budget_exceeded",
            Self::AccountFrozen => "account_frozen",
            Self::CompileQuotaExceeded => "compile_quota_exceeded",
        }
    }

    /// The `limit` word.
    #[must_use]
    pub const fn limit(self) -> &'static str {
        match self {
            Self::InsufficientCredits | Self::HoldExceedsBalance => "credits",
            Self::CreditReserved => "in_flight",
            Self::KeyBudgetExceeded => "key_budget",
            Self::AccountFrozen => "frozen",
            Self::CompileQuotaExceeded => "compile_quota",
        }
    }
}
