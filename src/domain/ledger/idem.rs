//! Idempotency keys: of all requests of an account with the same key, one is run and billed.

use bytes::Bytes;

use crate::domain::{money::NanoUsd, usage::Usage};

/// The value of an `Idempotency-Key` header. `Debug` does not show it: it is the caller's.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdemKey(String);

impl IdemKey {
    /// Most characters of a key.
    pub const CHARS_MAX: usize = 255;

    /// Reads a key: 1 to 255 visible ASCII characters.
    ///
    /// # Examples
    /// ```
    /// use faces::domain::ledger::IdemKey;
    /// assert_eq!(IdemKey::parse(b"order-4711").unwrap().as_str(), "order-4711");
    /// assert!(IdemKey::parse(b"").is_none() && IdemKey::parse(b"two words").is_none());
    /// ```
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let is_valid =
            (1..=Self::CHARS_MAX).contains(&value.len()) && value.iter().all(u8::is_ascii_graphic);
        let text = std::str::from_utf8(value).ok().filter(|_| is_valid)?;
        Some(Self(text.to_owned()))
    }

    /// A key of the server's own, for a call that it makes for an account. `name` says which call
    /// it is; no caller's key can be equal to it, because it has a blank.
    ///
    /// # Examples
    /// ```
    /// use faces::domain::ledger::IdemKey;
    /// let own = IdemKey::internal("chunk-7");
    /// assert_eq!(own.as_str(), "internal chunk-7");
    /// assert!(IdemKey::parse(own.as_str().as_bytes()).is_none());
    /// ```
    #[must_use]
    pub fn internal(name: &str) -> Self {
        Self(format!("internal {name}"))
    }

    /// A key as the database has it: a caller's or an internal one.
    #[must_use]
    pub fn stored(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The text, for the database.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for IdemKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IdemKey(…)")
    }
}

/// SHA-256 of what a request asks for: the same key with another one is a mistake of the caller.
pub type Fingerprint = [u8; 32];

/// A key to be claimed together with a hold.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IdemClaim {
    /// The key; its scope is the account.
    pub key: IdemKey,
    /// What the request asks for.
    pub fingerprint: Fingerprint,
    /// How long the key is kept, ms.
    pub ttl_ms: i64,
}

/// What is kept of the request of a claimed key, once its hold is resolved.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct IdemEnd {
    /// The answer, to be given again; `None` for a stream, a large body or a client that left.
    pub response: Option<StoredResponse>,
}

/// An answer exactly as its client got it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StoredResponse {
    /// HTTP status.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: String,
    /// Every byte of the body.
    pub body: Bytes,
}

/// What is known of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdemRecord {
    /// What the request that claimed it asked for.
    pub fingerprint: Fingerprint,
    /// How far that request is.
    pub state: IdemState,
}

/// How far the request of a key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdemState {
    /// Its hold is open.
    InProgress,
    /// It is over, and the key stays taken.
    Done {
        /// The answer, when it was kept.
        response: Option<StoredResponse>,
        /// What was billed.
        usage: Usage,
        /// What the customer paid.
        cost: NanoUsd,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_visible_ascii_of_bounded_length_and_is_not_shown() {
        let longest = "~".repeat(IdemKey::CHARS_MAX);
        for good in ["!", "a\"b\\c", longest.as_str()] {
            assert_eq!(IdemKey::parse(good.as_bytes()).unwrap().as_str(), good);
        }
        let too_long = "a".repeat(IdemKey::CHARS_MAX + 1);
        for bad in ["", " ", "a b", "tab\t", "é", too_long.as_str()] {
            assert_eq!(IdemKey::parse(bad.as_bytes()), None, "{bad:?}");
        }
        let shown = format!("{:?}", IdemKey::parse(b"secret").unwrap());
        assert!(!shown.contains("secret"), "{shown}");
    }
}
