//! Primitives: the short statements that a persona is made of.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Largest weight of a primitive. The default is 1.
pub const WEIGHT_MAX: f64 = 1_000.0;

/// Which side of a person a primitive tells about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Component {
    /// Self-concept, identity.
    Alpha,
    /// Values, preferences, evaluations.
    Beta,
    /// Style of reasoning, patterns of thought.
    Delta,
    /// Habits, behaviour.
    Epsilon,
}

impl Component {
    /// All, in the order of a prompt: from the most stable side of a person to the most
    /// changeable.
    pub const ALL: [Self; 4] = [Self::Epsilon, Self::Delta, Self::Alpha, Self::Beta];

    /// Its name in the API, in files and in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Alpha => "alpha",
            Self::Beta => "beta",
            Self::Delta => "delta",
            Self::Epsilon => "epsilon",
        }
    }

    /// Reads the name that [`Component::as_str`] gives; exact, lowercase.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|component| component.as_str() == name)
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One statement about a person.
#[derive(Debug, Clone, PartialEq)]
pub struct Primitive {
    /// Which side it tells about.
    pub component: Component,
    /// The statement, as it was handed in.
    pub text: String,
    /// How much it matters: multiplies its relevance. Finite, 0 to [`WEIGHT_MAX`]; 0 means that
    /// it is used only when there is room left.
    pub weight: f64,
}

impl Primitive {
    /// A statement of weight 1.
    #[must_use]
    pub fn new(component: Component, text: impl Into<String>) -> Self {
        Self { component, text: text.into(), weight: 1.0 }
    }
}

/// How many primitives a face has of each component.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ComponentCounts {
    /// Primitives of [`Component::Alpha`].
    pub alpha: u64,
    /// Primitives of [`Component::Beta`].
    pub beta: u64,
    /// Primitives of [`Component::Delta`].
    pub delta: u64,
    /// Primitives of [`Component::Epsilon`].
    pub epsilon: u64,
}

impl ComponentCounts {
    /// Counts.
    #[must_use]
    pub fn of(primitives: &[Primitive]) -> Self {
        let mut counts = Self::default();
        for primitive in primitives {
            match primitive.component {
                Component::Alpha => counts.alpha += 1,
                Component::Beta => counts.beta += 1,
                Component::Delta => counts.delta += 1,
                Component::Epsilon => counts.epsilon += 1,
            }
        }
        counts
    }
}
