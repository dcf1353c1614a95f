//! Identifiers. All are UUIDv7, so rows sort by their time of birth and indexes grow at one end.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! id {
    ($($(#[$doc:meta])* $name:ident;)+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// Makes a new, unique, time-ordered id.
            #[must_use]
            pub fn generate() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    )+};
}

id! {
    /// A customer's wallet and everything that hangs on it. Also the id of its ledger account.
    AccountId;
    /// An API key (its public id; the secret is [`crate::domain::ApiKeySecret`]).
    KeyId;
    /// A face (persona).
    FaceId;
    /// A hold of credit for one client request; also the id of its charge and usage rows.
    HoldId;
    /// One incarnation of a server process (a new one at every start).
    InstanceId;
    /// A text that a face is compiled from: a document or a thread.
    SourceId;
    /// An immutable line of the books.
    TransferId;
    /// One HTTP request, as in its `x-request-id`.
    RequestId;
}

/// A row of the append-only price list; a hold pins the price it was opened with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PriceId(pub i64);
