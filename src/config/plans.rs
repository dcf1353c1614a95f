//! Plans: what an account may have beside its credit.
//!
//! A file of TOML, `FACES_PLANS_FILE`, in which each plan is a table:
//!
//! ```toml
//! [[plan]]
//! name = "free"
//! price = "free of charge"
//! face_limit = 10
//! compile_tokens = 50_000
//! period_days = 30
//! ```
//!
//! The first plan is that of every account that was given no other.

use std::{fs, path::Path};

use serde::Deserialize;

use super::SettingError;

/// Name of the one plan that there is without a file.
const NAME_DEFAULT: &str = "free";
/// Most plans in a file.
const PLANS_MAX: usize = 100;

/// What an account on it may have.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Unique; a slug.
    pub name: String,
    /// The price in words, for people.
    #[serde(default)]
    pub price: String,
    /// Most faces; `None`: as many as the server allows.
    pub face_limit: Option<u32>,
    /// Tokens of sources that are compiled without credits, in a period; `None`: any number.
    pub compile_tokens: Option<u64>,
    /// Length of a period, days; `None`: the tokens never come anew.
    pub period_days: Option<u32>,
}

/// All plans; there is at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plans {
    first: Plan,
    others: Vec<Plan>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PlansFile {
    plan: Vec<Plan>,
}

impl Default for Plans {
    /// One plan without bounds: on a server of one's own nothing is sold.
    fn default() -> Self {
        let first = Plan {
            name: NAME_DEFAULT.to_owned(),
            price: String::new(),
            face_limit: None,
            compile_tokens: None,
            period_days: None,
        };
        Self { first, others: Vec::new() }
    }
}

impl Plans {
    /// Reads the file, or gives the default without one.
    ///
    /// # Errors
    /// [`SettingError`] that names the file, what is wrong and the fix.
    pub fn load(path: Option<&Path>) -> Result<Self, SettingError> {
        let Some(path) = path else { return Ok(Self::default()) };
        let wrong = |problem: String| SettingError {
            setting: "FACES_PLANS_FILE".to_owned(),
            problem: format!("names {}, which {problem}", path.display()),
            fix: "write plans as README.md shows them, or unset FACES_PLANS_FILE".to_owned(),
        };
        let text =
            fs::read_to_string(path).map_err(|error| wrong(format!("can't be read: {error}")))?;
        Self::parse(&text).map_err(wrong)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let file: PlansFile =
            toml::from_str(text).map_err(|error| format!("is not a list of plans: {error}"))?;
        if file.plan.len() > PLANS_MAX {
            return Err(format!("has more than {PLANS_MAX} plans"));
        }
        for (number, plan) in file.plan.iter().enumerate() {
            let is_slug = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
            if plan.name.is_empty() || plan.name.len() > 32 || !plan.name.bytes().all(is_slug) {
                return Err(format!(
                    "has a plan {:?}; a name has 1 to 32 lowercase letters, digits and dashes",
                    plan.name
                ));
            }
            if plan.period_days == Some(0) {
                return Err(format!("gives the plan {} a period of 0 days", plan.name));
            }
            if file.plan[..number].iter().any(|other| other.name == plan.name) {
                return Err(format!("has two plans {}", plan.name));
            }
        }
        let mut plans = file.plan.into_iter();
        let first = plans.next().ok_or("has no plan")?;
        Ok(Self { first, others: plans.collect() })
    }

    /// The plan of this name; of an account without one, or whose plan is gone, the first.
    #[must_use]
    pub fn of(&self, name: Option<&str>) -> &Plan {
        name.and_then(|name| self.find(name)).unwrap_or(&self.first)
    }

    /// The plan of this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Plan> {
        self.all().find(|plan| plan.name == name)
    }

    /// All plans, the first one first.
    pub fn all(&self) -> impl Iterator<Item = &Plan> {
        std::iter::once(&self.first).chain(&self.others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "[[plan]]\nname = \"free\"\nface_limit = 10\ncompile_tokens = 5_000\n\n\
        [[plan]]\nname = \"pro\"\nprice = \"20 USD a month\"\ncompile_tokens = 1_000_000\n\
        period_days = 30\n";

    #[test]
    fn the_first_plan_is_that_of_accounts_without_one() {
        let plans = Plans::parse(TWO).unwrap();
        assert_eq!(plans.of(None).name, "free");
        assert_eq!(plans.of(Some("gone")).face_limit, Some(10));
        let pro = plans.of(Some("pro"));
        assert_eq!((pro.compile_tokens, pro.period_days), (Some(1_000_000), Some(30)));
        assert_eq!(plans.all().count(), 2);
        assert_eq!(Plans::default().of(None).compile_tokens, None);
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (text, told) in [
            ("", "missing field"),
            ("plan = []", "has no plan"),
            ("[[plan]]\nname = \"Pro\"", "lowercase"),
            ("[[plan]]\nname = \"a\"\nperiod_days = 0", "0 days"),
            ("[[plan]]\nname = \"a\"\n[[plan]]\nname = \"a\"", "two plans a"),
            ("[[plan]]\nname = \"a\"\ncolour = 1", "colour"),
            ("[[plan]]\nname = \"a\"\nface_limit = -1", "face_limit"),
        ] {
            let error = Plans::parse(text).unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
        }
    }
}
