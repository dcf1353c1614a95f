//! API keys: `sk-faces-` and 43 base62 characters, the last 6 of which are a checksum.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

/// Every key starts with this.
pub const KEY_PREFIX: &str = "sk-faces-";
/// Random characters: 37 × log2(62) = 220 bits.
const RANDOM_CHARS: usize = 37;
/// Checksum characters: 62^6 ≈ 5.7 × 10^10, so a typo is told from an unknown key without a query.
const CHECKSUM_CHARS: usize = 6;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A whole API key. Shown once when it is made; `Debug` never prints it.
#[derive(Clone)]
pub struct ApiKeySecret(SecretString);

/// SHA-256 of a whole key: what is stored and looked up. The key has 220 random bits, so no slow
/// hash is needed.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ApiKeyHash(pub [u8; 32]);

impl ApiKeySecret {
    /// Makes a key from 37 bytes of randomness for each character and some to reject (unbiased).
    ///
    /// # Errors
    /// When the operating system gives no randomness.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut random = String::with_capacity(RANDOM_CHARS);
        while random.len() < RANDOM_CHARS {
            let mut bytes = [0_u8; 64];
            getrandom::fill(&mut bytes)?;
            // 248 = 4 × 62: bytes above it would favour the first letters.
            let unbiased = bytes.iter().filter(|byte| **byte < 248);
            random.extend(unbiased.map(|byte| char::from(ALPHABET[usize::from(byte % 62)])));
        }
        random.truncate(RANDOM_CHARS);
        let checksum = checksum(&random);
        Ok(Self(SecretString::from(format!("{KEY_PREFIX}{random}{checksum}"))))
    }

    /// Reads what a client sent. `None` when it can't be one of our keys (prefix, length,
    /// alphabet or checksum), which needs no look-up to refuse.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix(KEY_PREFIX)?;
        if rest.len() != RANDOM_CHARS + CHECKSUM_CHARS
            || !rest.bytes().all(|byte| byte.is_ascii_alphanumeric())
        {
            return None;
        }
        let (random, sum) = rest.split_at(RANDOM_CHARS);
        (checksum(random) == sum).then(|| Self(SecretString::from(text)))
    }

    /// The key's stored form.
    #[must_use]
    pub fn hash(&self) -> ApiKeyHash {
        ApiKeyHash(Sha256::digest(self.0.expose_secret().as_bytes()).into())
    }

    /// `sk-faces-` and the first 8 random characters, for lists.
    #[must_use]
    pub fn display_prefix(&self) -> String {
        self.0.expose_secret().chars().take(KEY_PREFIX.len() + 8).collect()
    }

    /// The whole key, to be shown once.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for ApiKeySecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKeySecret([REDACTED])")
    }
}

impl fmt::Debug for ApiKeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKeyHash({:02x}{:02x}…)", self.0[0], self.0[1])
    }
}

/// The first 6 base62 digits of SHA-256 over the random part.
fn checksum(random: &str) -> String {
    let digest: [u8; 32] = Sha256::digest(random.as_bytes()).into();
    let mut number = u64::from_be_bytes([
        digest[0], digest[1], digest[2], digest[3], digest[4], digest[5], digest[6], digest[7],
    ]);
    (0..CHECKSUM_CHARS)
        .map(|_| {
            let digit = usize::try_from(number % 62).unwrap_or_default();
            number /= 62;
            char::from(ALPHABET[digit])
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_key_parses_and_hashes_to_the_same_value() {
        let key = ApiKeySecret::generate().unwrap();
        assert_eq!(key.expose().len(), KEY_PREFIX.len() + 43);
        let parsed = ApiKeySecret::parse(key.expose()).unwrap();
        assert_eq!(parsed.hash(), key.hash());
        assert_eq!(key.display_prefix().len(), KEY_PREFIX.len() + 8);
    }

    #[test]
    fn any_changed_character_is_refused_before_a_lookup() {
        let key = ApiKeySecret::generate().unwrap();
        for position in KEY_PREFIX.len()..key.expose().len() {
            let mut text: Vec<u8> = key.expose().bytes().collect();
            text[position] = if text[position] == b'x' { b'y' } else { b'x' };
            let text = String::from_utf8(text).unwrap();
            assert!(ApiKeySecret::parse(&text).is_none(), "position {position}");
        }
        assert!(ApiKeySecret::parse("sk-faces-").is_none());
        assert!(ApiKeySecret::parse("sk-proj-abc").is_none());
    }

    #[test]
    fn debug_never_shows_the_key() {
        let key = ApiKeySecret::generate().unwrap();
        let shown = format!("{key:?} {:?}", key.hash());
        assert!(!shown.contains(&key.expose()[KEY_PREFIX.len()..]));
    }
}
