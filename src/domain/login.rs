//! What a person logs in with: an e-mail address, a username, a password that is no easy guess.

use std::fmt;

/// Longest e-mail address, bytes (RFC 5321, section 4.5.3.1).
pub const EMAIL_BYTES_MAX: usize = 254;
/// Longest part before the `@`, bytes (the same).
const EMAIL_LOCAL_BYTES_MAX: usize = 64;
/// Most characters of an account's username.
pub const USERNAME_CHARS_MAX: usize = 64;
/// Fewest characters of a password.
pub const PASSWORD_CHARS_MIN: usize = 8;

/// An e-mail address in lowercase, as it is compared and kept. Whether it receives mail is not
/// known here.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EmailAddress(String);

impl EmailAddress {
    /// Reads an address: spaces around it are dropped, letters become lowercase.
    ///
    /// # Errors
    /// A text that tells the rule.
    ///
    /// # Examples
    /// ```
    /// use faces::domain::EmailAddress;
    /// assert_eq!(EmailAddress::parse(" Ada@Example.com ").unwrap().as_str(), "ada@example.com");
    /// assert!(EmailAddress::parse("ada").is_err());
    /// ```
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const RULE: &str = "it must be an e-mail address such as ada@example.com";
        let email = text.trim().to_lowercase();
        if email.len() > EMAIL_BYTES_MAX {
            return Err("it is longer than an e-mail address can be");
        }
        if email.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(RULE);
        }
        let (local, domain) = email.split_once('@').ok_or(RULE)?;
        let is_local = !local.is_empty() && local.len() <= EMAIL_LOCAL_BYTES_MAX;
        let is_domain = !domain.contains('@') && domain.split('.').all(|label| !label.is_empty());
        if is_local && is_domain { Ok(Self(email)) } else { Err(RULE) }
    }

    /// The address.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An account's username: lowercase letters, digits and dashes, unique on the server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Username(String);

impl Username {
    /// Checks the rule.
    ///
    /// # Errors
    /// A text that tells the rule.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() || text.len() > USERNAME_CHARS_MAX {
            return Err("it must have 1 to 64 characters");
        }
        let is_slug = text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
        if is_slug && text.bytes().any(|byte| byte != b'-') {
            return Ok(Self(text.to_owned()));
        }
        Err("it must hold only lowercase letters, digits and dashes, and not only dashes")
    }

    /// The username of somebody who chose none: what stands before the `@`, as a slug, with the
    /// number of the try behind it from the second one on.
    ///
    /// # Examples
    /// ```
    /// use faces::domain::{EmailAddress, Username};
    /// let email = EmailAddress::parse("Ada.King+faces@example.com").unwrap();
    /// assert_eq!(Username::of(&email, 1).as_str(), "ada-king-faces");
    /// assert_eq!(Username::of(&email, 2).as_str(), "ada-king-faces-2");
    /// ```
    #[must_use]
    pub fn of(email: &EmailAddress, attempt: u32) -> Self {
        let local = email.as_str().split('@').next().unwrap_or_default();
        let words =
            local.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
        let mut slug = words.collect::<Vec<_>>().join("-");
        if slug.is_empty() {
            slug.push_str("user");
        }
        if attempt > 1 {
            let suffix = format!("-{attempt}");
            // All of it is ASCII.
            slug.truncate(USERNAME_CHARS_MAX.saturating_sub(suffix.len()));
            slug.push_str(&suffix);
        }
        Self(slug)
    }

    /// The username.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Username {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a password lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PasswordFault {
    /// Fewer than [`PASSWORD_CHARS_MIN`] characters.
    TooShort,
    /// More bytes than the server hashes.
    TooLong,
    /// No uppercase letter.
    NoUppercase,
    /// No lowercase letter.
    NoLowercase,
    /// No digit.
    NoDigit,
    /// Nothing but letters and digits.
    NoSpecial,
}

impl PasswordFault {
    /// Everything that a new password lacks, none when it will do.
    #[must_use]
    pub fn all_of(password: &str, bytes_max: usize) -> Vec<Self> {
        // No more is looked at than may be hashed.
        if password.len() > bytes_max {
            return vec![Self::TooLong];
        }
        let has = |wanted: fn(char) -> bool| password.chars().any(wanted);
        let checks = [
            (password.chars().count() >= PASSWORD_CHARS_MIN, Self::TooShort),
            (has(char::is_uppercase), Self::NoUppercase),
            (has(char::is_lowercase), Self::NoLowercase),
            (has(char::is_numeric), Self::NoDigit),
            (has(|c| !c.is_alphanumeric()), Self::NoSpecial),
        ];
        checks.into_iter().filter(|(is_good, _)| !is_good).map(|(_, fault)| fault).collect()
    }

    /// The word for programs.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::TooShort => "PASSWORD_TOO_SHORT",
            Self::TooLong => "PASSWORD_TOO_LONG",
            Self::NoUppercase => "PASSWORD_NO_UPPERCASE",
            Self::NoLowercase => "PASSWORD_NO_LOWERCASE",
            Self::NoDigit => "PASSWORD_NO_DIGIT",
            Self::NoSpecial => "PASSWORD_NO_SPECIAL",
        }
    }

    /// What the password needs, for people.
    #[must_use]
    pub const fn need(self) -> &'static str {
        match self {
            Self::TooShort => "at least 8 characters",
            Self::TooLong => "fewer characters",
            Self::NoUppercase => "an uppercase letter",
            Self::NoLowercase => "a lowercase letter",
            Self::NoDigit => "a digit",
            Self::NoSpecial => "a character that is neither letter nor digit",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_in_lowercase_or_refused() {
        for good in ["a@b", "Ada.King+x@Example.COM", "\tö@exämple.org "] {
            let email = EmailAddress::parse(good).unwrap();
            assert_eq!(email.as_str(), good.trim().to_lowercase());
        }
        let long = format!("{}@example.com", "a".repeat(65));
        let longer = format!("a@{}.com", "b".repeat(300));
        for bad in ["", "@", "a@", "@b", "a b@c", "a@b@c", "a@b.", "a@.b", "a@b\0", &long, &longer]
        {
            assert!(EmailAddress::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_username_is_a_slug() {
        for good in ["a", "ada-king", "0", "-a", &"x".repeat(64)] {
            assert_eq!(Username::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "-", "--", "Ada", "a_b", "a b", "ä", &"x".repeat(65)] {
            assert!(Username::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_derived_username_follows_the_rule() {
        for email in ["ada@x", "ö@x", "..@x", "+a+@x", &format!("{}@x", "a".repeat(64))] {
            let email = EmailAddress::parse(email).unwrap();
            let first = Username::of(&email, 1);
            assert_eq!(Username::parse(first.as_str()), Ok(first.clone()), "{email:?}");
            let later = Username::of(&email, 17);
            assert_eq!(Username::parse(later.as_str()), Ok(later.clone()));
            assert!(later.as_str().ends_with("-17"), "{later}");
        }
        let email = EmailAddress::parse("ö@x").unwrap();
        assert_eq!(Username::of(&email, 3).as_str(), "user-3");
    }

    #[test]
    fn a_password_needs_four_kinds_of_characters() {
        use PasswordFault::{NoDigit, NoLowercase, NoSpecial, NoUppercase, TooLong, TooShort};
        assert_eq!(PasswordFault::all_of("Aa1!aaaa", 100), []);
        assert_eq!(PasswordFault::all_of("Ää1 ääää", 100), []);
        assert_eq!(PasswordFault::all_of("Aa1!aaa", 100), [TooShort]);
        assert_eq!(PasswordFault::all_of("aa1!aaaa", 100), [NoUppercase]);
        assert_eq!(PasswordFault::all_of("AA1!AAAA", 100), [NoLowercase]);
        assert_eq!(PasswordFault::all_of("Aaa!aaaa", 100), [NoDigit]);
        assert_eq!(PasswordFault::all_of("Aa1aaaaa", 100), [NoSpecial]);
        assert_eq!(PasswordFault::all_of("Aa1!aaaa", 7), [TooLong]);
        assert_eq!(PasswordFault::all_of("", 7).len(), 5);
    }
}
