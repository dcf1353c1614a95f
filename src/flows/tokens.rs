//! Login tokens: JWTs that name an account for a day.
//!
//! HS256 over secrets of the operator (`FACES_JWT_SECRETS`: the first signs, all verify, so that a
//! secret can be replaced without ending anybody's login), or over one that the first server makes
//! and keeps in the database for all. `kid` tells which secret signed; it says nothing about it.
//!
//! A token holds the account's token epoch: whoever changes it (a new password does) ends all
//! tokens, wherever they are.

use std::collections::HashMap;

use hmac::{Hmac, KeyInit, Mac};
use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, EncodingKey, Header, Validation,
    crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils},
    errors::ErrorKind,
};
use secrecy::{ExposeSecret, SecretSlice};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use signature::{Signer, Verifier};

use super::{Failure, passwords::internal};
use crate::domain::{AccountId, clock::UnixMicros};

/// `iss` of every token.
const ISSUER: &str = "faces";
/// Longest token that is looked at, bytes: ours have about 300.
const TOKEN_BYTES_MAX: usize = 1_024;

/// What a valid token says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Login {
    /// Who logged in.
    pub(super) account_id: AccountId,
    /// The account's epoch at that time.
    pub(super) epoch: i64,
}

/// Signs and reads tokens.
pub(super) struct Tokens {
    signing: EncodingKey,
    signing_id: String,
    verifying: HashMap<String, DecodingKey>,
    validation: Validation,
    life_s: i64,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").field("secrets", &self.verifying.len()).finish_non_exhaustive()
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    sub: AccountId,
    iss: String,
    iat: i64,
    exp: i64,
    /// The account's token epoch.
    epoch: i64,
}

impl Tokens {
    /// `newest` signs; it and `older` ones verify.
    pub(super) fn new(newest: &SecretSlice<u8>, older: &[SecretSlice<u8>], life_ms: u64) -> Self {
        // A second call finds the same provider there.
        let _ = HMAC_SHA256.install_default();
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&[ISSUER]);
        validation.set_required_spec_claims(&["exp", "iss", "sub"]);
        // By the clock that the caller gives.
        validation.validate_exp = false;
        let secrets = older.iter().chain([newest]);
        let verifying = secrets
            .map(|secret| (key_id(secret), DecodingKey::from_secret(secret.expose_secret())));
        Self {
            signing: EncodingKey::from_secret(newest.expose_secret()),
            signing_id: key_id(newest),
            verifying: verifying.collect(),
            validation,
            life_s: i64::try_from(life_ms / 1_000).unwrap_or(i64::MAX),
        }
    }

    /// A token for this login, from `now` on.
    ///
    /// # Errors
    /// 500 when it can't be signed.
    pub(super) fn issue(&self, login: Login, now: UnixMicros) -> Result<String, Failure> {
        let header = Header { kid: Some(self.signing_id.clone()), ..Header::new(Algorithm::HS256) };
        let claims = Claims {
            sub: login.account_id,
            iss: ISSUER.to_owned(),
            iat: now.seconds(),
            exp: now.seconds().saturating_add(self.life_s),
            epoch: login.epoch,
        };
        jsonwebtoken::encode(&header, &claims, &self.signing)
            .map_err(|error| internal(&format!("a login token can't be signed: {error}")))
    }

    /// Reads a token. `None`: it is malformed, forged or over, which a caller can't tell apart.
    /// The epoch is not checked here.
    pub(super) fn read(&self, token: &str, now: UnixMicros) -> Option<Login> {
        if token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let header = jsonwebtoken::decode_header(token).ok()?;
        let key = self.verifying.get(&header.kid?)?;
        let claims = jsonwebtoken::decode::<Claims>(token, key, &self.validation).ok()?.claims;
        let is_over = claims.exp <= now.seconds();
        (!is_over).then_some(Login { account_id: claims.sub, epoch: claims.epoch })
    }

    /// How long a token is valid, s.
    pub(super) const fn life_s(&self) -> i64 {
        self.life_s
    }
}

/// Names a secret without telling anything about it: 16 hex digits of a MAC of a constant.
fn key_id(secret: &SecretSlice<u8>) -> String {
    let mac = mac_of(secret.expose_secret(), b"kid of a faces login token");
    let digest = mac.map(|mac| mac.finalize().into_bytes().to_vec()).unwrap_or_default();
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn mac_of(secret: &[u8], message: &[u8]) -> Option<Hmac<Sha256>> {
    // HMAC takes a key of any length.
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).ok()?;
    mac.update(message);
    Some(mac)
}

/// What the JWT library calls for its cryptography. Its own choices bring RSA and three curves, or
/// a second TLS library's C code; all that is used here is HMAC with SHA-256.
static HMAC_SHA256: CryptoProvider = CryptoProvider {
    signer_factory: |algorithm, key| {
        if *algorithm != Algorithm::HS256 || key.family() != AlgorithmFamily::Hmac {
            return Err(ErrorKind::InvalidAlgorithm.into());
        }
        Ok(Box::new(HmacKey(SecretSlice::from(key.as_bytes().to_vec()))))
    },
    verifier_factory: |algorithm, key| {
        if *algorithm != Algorithm::HS256 || key.family() != AlgorithmFamily::Hmac {
            return Err(ErrorKind::InvalidAlgorithm.into());
        }
        Ok(Box::new(HmacKey(SecretSlice::from(key.try_get_as_bytes()?.to_vec()))))
    },
    key_utils: KeyUtils::new_unimplemented(),
};

struct HmacKey(SecretSlice<u8>);

impl Signer<Vec<u8>> for HmacKey {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, signature::Error> {
        let mac = mac_of(self.0.expose_secret(), message).ok_or_else(signature::Error::new)?;
        Ok(mac.finalize().into_bytes().to_vec())
    }
}

impl Verifier<Vec<u8>> for HmacKey {
    /// Takes the same time wherever the two differ.
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        let mac = mac_of(self.0.expose_secret(), message).ok_or_else(signature::Error::new)?;
        mac.verify_slice(signature).map_err(|_| signature::Error::new())
    }
}

impl JwtSigner for HmacKey {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

impl JwtVerifier for HmacKey {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::clock::MICROS_PER_SECOND;

    const DAY_MS: u64 = 86_400_000;

    fn secret(byte: u8) -> SecretSlice<u8> {
        SecretSlice::from(vec![byte; 32])
    }

    fn at(seconds: i64) -> UnixMicros {
        UnixMicros(seconds * MICROS_PER_SECOND)
    }

    fn login() -> Login {
        Login { account_id: AccountId::generate(), epoch: 3 }
    }

    #[test]
    fn a_token_is_valid_for_its_life_and_says_who_logged_in() {
        let (tokens, login) = (Tokens::new(&secret(1), &[], DAY_MS), login());
        let token = tokens.issue(login, at(1_000)).unwrap();
        assert_eq!(tokens.read(&token, at(1_000)), Some(login));
        assert_eq!(tokens.read(&token, at(1_000 + 86_399)), Some(login));
        assert_eq!(tokens.read(&token, at(1_000 + 86_400)), None, "its last second is over");
        assert!(token.len() < TOKEN_BYTES_MAX / 2, "{}", token.len());
    }

    #[test]
    fn an_older_secret_verifies_until_it_is_removed() {
        let login = login();
        let before = Tokens::new(&secret(1), &[], DAY_MS);
        let token = before.issue(login, at(0)).unwrap();
        let both = Tokens::new(&secret(2), &[secret(1)], DAY_MS);
        assert_eq!(both.read(&token, at(1)), Some(login));
        let after = Tokens::new(&secret(2), &[], DAY_MS);
        assert_eq!(after.read(&token, at(1)), None);
        let newer = both.issue(login, at(0)).unwrap();
        assert_eq!(after.read(&newer, at(1)), Some(login), "the first one signs");
        assert_eq!(before.read(&newer, at(1)), None);
    }

    #[test]
    fn whatever_is_changed_makes_it_no_token() {
        let tokens = Tokens::new(&secret(1), &[], DAY_MS);
        let token = tokens.issue(login(), at(0)).unwrap();
        for position in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[position] = if bytes[position] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            // The last character of base64 may carry bits that are dropped.
            let is_tail = position + 1 == token.len();
            assert!(is_tail || tokens.read(&changed, at(1)).is_none(), "{position}: {changed}");
        }
        for text in ["", ".", "..", "a.b.c", "sk-faces-x", &"a".repeat(5_000)] {
            assert_eq!(tokens.read(text, at(1)), None, "{text}");
        }
    }

    #[test]
    fn another_algorithm_issuer_or_a_missing_claim_is_refused() {
        let tokens = Tokens::new(&secret(1), &[], DAY_MS);
        let key = EncodingKey::from_secret(secret(1).expose_secret());
        let header = Header { kid: Some(key_id(&secret(1))), ..Header::new(Algorithm::HS256) };
        let sub = AccountId::generate();
        let good = serde_json::json!({"sub": sub, "iss": "faces", "iat": 0, "exp": 10, "epoch": 0});
        let signed = |header: &Header, claims: &serde_json::Value| {
            jsonwebtoken::encode(header, claims, &key).unwrap()
        };
        assert!(tokens.read(&signed(&header, &good), at(1)).is_some());
        let without_kid = Header { kid: None, ..header.clone() };
        assert!(tokens.read(&signed(&without_kid, &good), at(1)).is_none());
        for (field, value) in [
            ("iss", serde_json::json!("others")),
            ("iss", serde_json::Value::Null),
            ("exp", serde_json::json!("10")),
            ("exp", serde_json::Value::Null),
            ("sub", serde_json::json!("me")),
            ("epoch", serde_json::Value::Null),
        ] {
            let mut claims = good.clone();
            claims[field] = value;
            assert!(tokens.read(&signed(&header, &claims), at(1)).is_none(), "{field}: {claims}");
        }
        // The same claims with `alg: none` and no signature.
        let token = signed(&header, &good);
        let payload = token.split('.').nth(1).unwrap();
        // {"typ":"JWT","alg":"none"}
        let unsigned = format!("eyJ0eXAiOiJKV1QiLCJhbGciOiJub25lIn0.{payload}.");
        assert!(tokens.read(&unsigned, at(1)).is_none());
    }

    #[test]
    fn nothing_shows_a_secret() {
        let tokens = Tokens::new(&secret(b'x'), &[secret(b'y')], DAY_MS);
        let token = tokens.issue(login(), at(0)).unwrap();
        let shown = format!("{tokens:?} {token}");
        assert!(!shown.contains("xxxx") && !shown.contains("yyyy"), "{shown}");
        assert_ne!(key_id(&secret(1)), key_id(&secret(2)));
    }
}
