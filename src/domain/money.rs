//! Exact money: integer nano-USD.

use std::{fmt, iter::Sum, str::FromStr};

use serde::{Deserialize, Serialize};

/// Nano-USD in one USD.
pub const NANO_PER_USD: i64 = 1_000_000_000;

/// An amount of money in nano-USD (10⁻⁹ USD): ±9.2 billion USD in an `i64`.
///
/// There is no conversion from or to a float. Text form is a decimal number of USD.
///
/// # Examples
/// ```
/// use faces::domain::NanoUsd;
/// let credit: NanoUsd = "1.25".parse().unwrap();
/// assert_eq!(credit, NanoUsd(1_250_000_000));
/// assert_eq!(credit.to_string(), "1.25");
/// assert_eq!(NanoUsd(1).to_string(), "0.000000001");
/// ```
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct NanoUsd(pub i64);

impl NanoUsd {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// Sum, or `None` when it does not fit.
    #[must_use]
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }

    /// Difference, or `None` when it does not fit.
    #[must_use]
    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        match self.0.checked_sub(other.0) {
            Some(difference) => Some(Self(difference)),
            None => None,
        }
    }

    /// Whether the amount is below zero.
    #[must_use]
    pub const fn is_negative(self) -> bool {
        self.0 < 0
    }

    /// A JSON number with every digit of the amount (`0.000000001`), made without a float.
    #[must_use]
    pub fn to_json_number(self) -> Box<serde_json::value::RawValue> {
        // A decimal number of USD is a valid JSON number, so this can't fail.
        serde_json::value::RawValue::from_string(self.to_string()).unwrap_or_default()
    }
}

impl NanoUsd {
    /// Reads the text of a JSON number exactly, with an exponent too: clients that keep amounts in
    /// floats write `1e-05`.
    ///
    /// # Errors
    /// [`ParseMoneyError`]: never rounds.
    ///
    /// # Examples
    /// ```
    /// use faces::domain::NanoUsd;
    /// assert_eq!(NanoUsd::from_json_number("1e-05").unwrap(), NanoUsd(10_000));
    /// assert_eq!(NanoUsd::from_json_number("2.5E1").unwrap(), NanoUsd(25_000_000_000));
    /// ```
    pub fn from_json_number(text: &str) -> Result<Self, ParseMoneyError> {
        let Some((mantissa, exponent)) = text.split_once(['e', 'E']) else { return text.parse() };
        let malformed = || ParseMoneyError::Malformed(text.chars().take(40).collect());
        // Beyond these an amount is 0, or not one.
        let exponent: i8 = exponent.parse().map_err(|_| malformed())?;
        if !mantissa.is_ascii() {
            return Err(malformed());
        }
        let (sign, digits) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if whole.is_empty() {
            return Err(malformed());
        }
        let shift = usize::from(exponent.unsigned_abs());
        let moved = if exponent < 0 {
            let padded = format!("{whole:0>width$}", width = shift + 1);
            let (before, after) = padded.split_at(padded.len() - shift);
            format!("{sign}{before}.{after}{fraction}")
        } else {
            let padded = format!("{fraction:0<shift$}");
            let (before, after) = padded.split_at(shift);
            format!("{sign}{whole}{before}.{after}0")
        };
        moved.parse()
    }
}

impl fmt::Display for NanoUsd {
    /// Decimal USD, exact, without trailing zeros, at least one digit before the point.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let magnitude = self.0.unsigned_abs();
        let (whole, fraction) = (magnitude / 1_000_000_000, magnitude % 1_000_000_000);
        if fraction == 0 {
            return write!(f, "{sign}{whole}");
        }
        let digits = format!("{fraction:09}");
        write!(f, "{sign}{whole}.{}", digits.trim_end_matches('0'))
    }
}

/// Why a text is not an amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseMoneyError {
    /// Not `[-]digits[.digits]`.
    #[error("`{0}` is not a decimal amount of USD such as 12.50")]
    Malformed(String),
    /// More than nine digits after the point: it could not be kept exactly.
    #[error("`{0}` has more than 9 decimal places; the smallest amount is 0.000000001 USD")]
    TooPrecise(String),
    /// Beyond ±9.2 billion USD.
    #[error("`{0}` is too large for an amount of USD")]
    TooLarge(String),
}

impl FromStr for NanoUsd {
    type Err = ParseMoneyError;

    /// Parses a decimal number of USD exactly.
    ///
    /// # Errors
    /// [`ParseMoneyError`]: never rounds, never accepts an exponent.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = || ParseMoneyError::Malformed(text.chars().take(40).collect());
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) || digits.ends_with('.')
        {
            return Err(malformed());
        }
        let fraction = fraction.trim_end_matches('0');
        if fraction.len() > 9 {
            return Err(ParseMoneyError::TooPrecise(text.chars().take(40).collect()));
        }
        let too_large = || ParseMoneyError::TooLarge(text.chars().take(40).collect());
        let whole: i64 = whole.parse().map_err(|_| too_large())?;
        let nano: i64 = format!("{fraction:0<9}").parse().map_err(|_| malformed())?;
        let magnitude = whole
            .checked_mul(NANO_PER_USD)
            .and_then(|amount| amount.checked_add(nano))
            .ok_or_else(too_large)?;
        Ok(Self(if negative { -magnitude } else { magnitude }))
    }
}

impl Sum for NanoUsd {
    /// # Panics
    /// When the sum leaves `i64`: money must not wrap.
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, |total, amount| {
            total.checked_add(amount).unwrap_or_else(|| money_overflow())
        })
    }
}

#[expect(clippy::panic, reason = "a wrapped amount is worse than a stopped request")]
fn money_overflow() -> ! {
    panic!("a sum of money left the range of i64 nano-USD")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn decimal_text_is_exact_in_both_directions() {
        for (text, nano) in [
            ("0", 0),
            ("1", 1_000_000_000),
            ("0.1", 100_000_000),
            ("12.50", 12_500_000_000),
            ("0.000000001", 1),
            ("-3.5", -3_500_000_000),
            ("9223372036.854775807", i64::MAX),
        ] {
            assert_eq!(text.parse::<NanoUsd>().unwrap(), NanoUsd(nano), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_decimal_is_refused_with_its_reason() {
        for text in ["", "-", ".5", "5.", "1e3", "1,5", "+1", "NaN", "0x1", "1 "] {
            assert!(
                matches!(text.parse::<NanoUsd>(), Err(ParseMoneyError::Malformed(_))),
                "{text}"
            );
        }
        assert!(matches!("0.0000000001".parse::<NanoUsd>(), Err(ParseMoneyError::TooPrecise(_))));
        assert!(matches!("9223372037".parse::<NanoUsd>(), Err(ParseMoneyError::TooLarge(_))));
    }

    #[test]
    fn an_exponent_moves_the_point_and_nothing_else() {
        for (text, nano) in [
            ("5", 5_000_000_000),
            ("5.25", 5_250_000_000),
            ("1e-9", 1),
            ("1.5e-8", 15),
            ("12.5e-1", 1_250_000_000),
            ("1.25e+1", 12_500_000_000),
            ("-3E0", -3_000_000_000),
            ("0e9", 0),
            ("9.223372036854775807e9", i64::MAX),
        ] {
            assert_eq!(NanoUsd::from_json_number(text), Ok(NanoUsd(nano)), "{text}");
        }
        for text in ["1e-10", "1e100", "1e1000", "e5", "1e", "1e5.5", "é1e-2", "1é1e2"] {
            assert!(NanoUsd::from_json_number(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_json_number_is_read_or_refused_without_a_panic(text in ".{0,12}[eE]?[-+0-9]{0,5}") {
            let _ = NanoUsd::from_json_number(&text);
        }

        #[test]
        fn display_and_parse_are_inverse(nano in (i64::MIN + 1)..=i64::MAX) {
            let amount = NanoUsd(nano);
            prop_assert_eq!(amount.to_string().parse::<NanoUsd>().unwrap(), amount);
        }

        #[test]
        fn any_text_parses_or_fails_without_a_panic(text in ".{0,40}") {
            let _ = text.parse::<NanoUsd>();
        }
    }
}
