//! What a credential may do: scopes of keys, and what a route asks for.

use std::fmt;

/// What a route asks of a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// Any valid credential that has a scope at all.
    Any,
    /// Inference: spends credits. Scope `v1:chat`.
    Chat,
    /// Reads what belongs to the account. Scope `v1:read`.
    Read,
    /// Changes what belongs to the account, compiles, tops up. Scope `v1:admin`.
    Admin,
    /// A person who has logged in: no key will do, whatever its scopes.
    User,
}

impl Access {
    /// The scope that a key needs; `None` where any will do, or no key at all.
    #[must_use]
    pub const fn scope(self) -> Option<&'static str> {
        match self {
            Self::Chat => Some("v1:chat"),
            Self::Read => Some("v1:read"),
            Self::Admin => Some("v1:admin"),
            Self::Any | Self::User => None,
        }
    }

    const fn bit(self) -> u8 {
        match self {
            Self::Any => 15,
            Self::Chat => 1,
            Self::Read => 2,
            Self::Admin => 4,
            Self::User => 8,
        }
    }
}

/// Scopes of a key, or all of them and more of a person's login.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Scopes(u8);

impl Scopes {
    /// Nothing at all.
    pub const NONE: Self = Self(0);
    /// `v1:*`: what a key has that was given no scopes.
    pub const KEY: Self = Self(7);
    /// A login: all that a key may have, and [`Access::User`].
    pub const LOGIN: Self = Self(15);
    /// The words that [`Scopes::parse`] knows.
    pub const WORDS: [&'static str; 4] = ["v1:*", "v1:chat", "v1:read", "v1:admin"];

    /// Reads a key's scopes: each of [`Scopes::WORDS`]. `Err` with the first word that is none.
    ///
    /// # Errors
    /// The word that is not a scope.
    pub fn parse<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Self, &'a str> {
        words.into_iter().try_fold(Self::NONE, |Self(bits), word| match word {
            "v1:*" => Ok(Self(bits | Self::KEY.0)),
            "v1:chat" => Ok(Self(bits | Access::Chat.bit())),
            "v1:read" => Ok(Self(bits | Access::Read.bit())),
            "v1:admin" => Ok(Self(bits | Access::Admin.bit())),
            other => Err(other),
        })
    }

    /// Whether `access` is among them.
    #[must_use]
    pub const fn allow(self, access: Access) -> bool {
        self.0 & access.bit() != 0
    }

    /// The scopes as words: `["v1:*"]` when a key has all of them.
    #[must_use]
    pub fn words(self) -> Vec<&'static str> {
        if self.0 & Self::KEY.0 == Self::KEY.0 {
            return vec!["v1:*"];
        }
        let all = [Access::Chat, Access::Read, Access::Admin];
        all.into_iter().filter(|access| self.allow(*access)).filter_map(Access::scope).collect()
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.words()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_read_as_they_are_written() {
        for words in [vec!["v1:*"], vec!["v1:chat"], vec!["v1:read", "v1:admin"], vec![]] {
            assert_eq!(Scopes::parse(words.clone()).unwrap().words(), words);
        }
        let all = Scopes::parse(["v1:admin", "v1:read", "v1:chat"]).unwrap();
        assert_eq!(all.words(), ["v1:*"]);
        assert_eq!(Scopes::parse(["v1:read", "v2:read"]), Err("v2:read"));
    }

    #[test]
    fn no_key_is_a_login() {
        let key = Scopes::parse(["v1:*"]).unwrap();
        assert!(key.allow(Access::Admin) && key.allow(Access::Read) && key.allow(Access::Chat));
        assert!(!key.allow(Access::User) && Scopes::LOGIN.allow(Access::User));
        assert!(!Scopes::parse(["v1:read"]).unwrap().allow(Access::Chat));
    }
}
