//! Events of a payment provider: their signature and their body.
//!
//! `Faces-Signature: t=1795701600,v1=5257a869…` where `v1` is the hexadecimal HMAC-SHA256 of
//! `t`, a point and the body. Several `v1` are tried, so that a sender can change its secret too.

use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::Sha256;

/// How far a signature's time may be from now: beyond it, it may be a replay.
pub const TOLERANCE_S: i64 = 300;
/// Signatures that are looked at.
const SIGNATURES_MAX: usize = 8;
/// Bytes of an HMAC-SHA256.
const MAC_BYTES: usize = 32;

/// Why an event is not believed. Never says which secret or which byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The header is not as above.
    #[error("the header Faces-Signature must be t=UNIX_SECONDS,v1=HEX_HMAC_SHA256")]
    Malformed,
    /// Signed too long ago, or in the future.
    #[error("the signature's time is more than 5 minutes from now")]
    Expired,
    /// No secret makes it.
    #[error("the signature is not that of any secret of this server")]
    Wrong,
}

/// Checks that one of the secrets signed `body` within [`TOLERANCE_S`] of `now_s`.
///
/// # Errors
/// [`SignatureError`].
pub fn verify(
    header: &str,
    body: &[u8],
    secrets: &[SecretString],
    now_s: i64,
) -> Result<(), SignatureError> {
    let (mut time, mut macs) = (None, Vec::new());
    for part in header.split(',').take(SIGNATURES_MAX + 1) {
        match part.trim().split_once('=') {
            Some(("t", text)) if time.is_none() => time = Some(text),
            Some(("v1", text)) if macs.len() < SIGNATURES_MAX => macs.extend(hex(text)),
            // Other schemes may stand beside.
            Some((name, _)) if name != "t" => {}
            _ => return Err(SignatureError::Malformed),
        }
    }
    let (Some(time), false) = (time, macs.is_empty()) else {
        return Err(SignatureError::Malformed);
    };
    let is_digits = !time.is_empty() && time.bytes().all(|byte| byte.is_ascii_digit());
    let signed_at = is_digits.then(|| time.parse::<i64>().ok()).flatten();
    let signed_at = signed_at.ok_or(SignatureError::Malformed)?;
    if now_s.abs_diff(signed_at) > TOLERANCE_S.unsigned_abs() {
        return Err(SignatureError::Expired);
    }
    let is_right = secrets.iter().any(|secret| {
        // A key of any length will do.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.expose_secret().as_bytes()) else {
            return false;
        };
        mac.update(time.as_bytes());
        mac.update(b".");
        mac.update(body);
        // Compared in constant time.
        macs.iter().any(|given| mac.clone().verify_slice(given).is_ok())
    });
    if is_right { Ok(()) } else { Err(SignatureError::Wrong) }
}

/// The bytes of a MAC.
fn hex(text: &str) -> Option<[u8; MAC_BYTES]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * MAC_BYTES || !text.is_ascii() {
        return None;
    }
    let mut bytes = [0; MAC_BYTES];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |digit: u8| char::from(digit).to_digit(16);
        *byte = u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok()?;
    }
    Some(bytes)
}

/// An event as it was sent.
#[derive(Debug, Deserialize)]
pub struct WebhookEvent {
    /// The sender's id of it; a repeat has the same.
    pub id: String,
    /// What happened: `payment.succeeded`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// To what, as JSON.
    pub data: Option<Box<RawValue>>,
}

/// The payment of an event.
#[derive(Debug, Deserialize)]
pub struct WebhookPayment {
    /// The id of the account that paid.
    pub account: Option<String>,
    /// How much, USD, as its JSON text.
    #[serde(alias = "amount")]
    pub amount_usd: Box<RawValue>,
    /// The payment's own id.
    pub payment_ref: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The samples of `docs/webhook.md`, computed with another program.
    const BODY: &str = r#"{"id":"evt_1","type":"payment.succeeded","data":{"account":"0192f0c1-2d3e-7a4b-8c5d-6e7f8091a2b3","amount_usd":20.00,"payment_ref":"pi_1"}}"#;
    const AT: i64 = 1_795_701_600;
    const MAC: &str = "c81e6016bd49241eb8abf3202c6b54f09b320665ecd0bc8ef1fc91ac6345e1ef";

    fn secrets(all: &[&str]) -> Vec<SecretString> {
        all.iter().map(|one| SecretString::from(*one)).collect()
    }

    fn sample() -> String {
        format!("t={AT},v1={MAC}")
    }

    #[test]
    fn the_sample_is_believed_with_any_of_the_secrets() {
        let (old, new) = ("whsec_an-older-secret", "whsec_0123456789abcdef");
        for all in [vec![new], vec![old, new], vec![new, old]] {
            assert_eq!(verify(&sample(), BODY.as_bytes(), &secrets(&all), AT), Ok(()));
        }
        let wrong = verify(&sample(), BODY.as_bytes(), &secrets(&[old]), AT);
        assert_eq!(wrong, Err(SignatureError::Wrong));
        assert_eq!(verify(&sample(), BODY.as_bytes(), &[], AT), Err(SignatureError::Wrong));
    }

    #[test]
    fn a_changed_byte_a_changed_time_and_an_old_signature_are_refused() {
        let all = secrets(&["whsec_0123456789abcdef"]);
        let changed = BODY.replace("20.00", "90.00");
        assert_eq!(verify(&sample(), changed.as_bytes(), &all, AT), Err(SignatureError::Wrong));
        let later = sample().replace(&AT.to_string(), &(AT + 1).to_string());
        assert_eq!(verify(&later, BODY.as_bytes(), &all, AT), Err(SignatureError::Wrong));
        for (now, told) in [
            (AT + TOLERANCE_S, Ok(())),
            (AT + TOLERANCE_S + 1, Err(SignatureError::Expired)),
            (AT - TOLERANCE_S - 1, Err(SignatureError::Expired)),
            (i64::MIN, Err(SignatureError::Expired)),
        ] {
            assert_eq!(verify(&sample(), BODY.as_bytes(), &all, now), told, "{now}");
        }
    }

    #[test]
    fn further_signatures_and_schemes_may_stand_beside() {
        let all = secrets(&["whsec_0123456789abcdef"]);
        let other = "0".repeat(64);
        let header = format!("v0=x, v1={other}, {}", sample());
        assert_eq!(verify(&header, BODY.as_bytes(), &all, AT), Ok(()));
    }

    #[test]
    fn what_is_no_signature_is_told_so() {
        let all = secrets(&["whsec_0123456789abcdef"]);
        let mac = "0".repeat(64);
        for header in [
            String::new(),
            "t=1".to_owned(),
            format!("v1={mac}"),
            format!("t=,v1={mac}"),
            format!("t=-5,v1={mac}"),
            format!("t=+5,v1={mac}"),
            format!("t=1,t=2,v1={mac}"),
            format!("t=99999999999999999999,v1={mac}"),
            "t=1,v1=abc".to_owned(),
            format!("t=1,v1={}", "é".repeat(32)),
        ] {
            let told = verify(&header, b"{}", &all, AT);
            assert_eq!(told, Err(SignatureError::Malformed), "{header}");
        }
    }
}
