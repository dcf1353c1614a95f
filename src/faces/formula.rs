//! Formulas: faces combined by the operators of sets.
//!
//! ```text
//! formula := union
//! union   := xor   { "|" xor }      what either has; where both say the same, the left one's words
//! xor     := inter { "^" inter }    what exactly one has
//! inter   := diff  { "&" diff }     what both have, in the left one's words
//! diff    := atom  { "-" atom }     what the left one has and the right one has not
//! atom    := username | "(" formula ")"
//! ```
//!
//! So `-` binds tightest, then `&`, `^` and `|`, as in Python; operators of one kind go from left
//! to right. `-` is a letter of usernames too: where a username may stand, the longest run of its
//! letters is one (`news-bot`, and `a-b` is a face, never a difference); a `-` is the operator
//! where an operator must stand, with white space before it or after a `)`. A username may begin
//! with a digit. A face that is called `-` can't be an operand.

use std::fmt;

use super::error::{FaceError, FieldPath};
use crate::domain::FaceName;

/// Most characters of a formula: 16 operands of the longest name with brackets around each pair.
pub const FORMULA_CHARS_MAX: usize = 1_000;
/// Most different faces in one formula: each is loaded and compared.
pub const FORMULA_OPERANDS_MAX: usize = 16;
/// Most places where a face may stand in one formula: at each, the sets so far are compared with
/// that face's, which takes seconds where both are large.
pub const FORMULA_PLACES_MAX: usize = 64;
/// Most brackets inside one another.
pub const FORMULA_DEPTH_MAX: usize = 32;

/// How two sets become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operator {
    /// `|`
    Union,
    /// `^`
    SymmetricDifference,
    /// `&`
    Intersection,
    /// `-`
    Difference,
}

impl Operator {
    /// From the loosest to the tightest.
    const ALL: [Self; 4] =
        [Self::Union, Self::SymmetricDifference, Self::Intersection, Self::Difference];

    const fn sign(self) -> char {
        match self {
            Self::Union => '|',
            Self::SymmetricDifference => '^',
            Self::Intersection => '&',
            Self::Difference => '-',
        }
    }

    fn of(sign: char) -> Option<Self> {
        Self::ALL.into_iter().find(|operator| operator.sign() == sign)
    }
}

/// A part of a formula.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Term {
    /// All that a face has.
    Face(FaceName),
    /// Two parts and what is made of them.
    Combined(Box<Self>, Operator, Box<Self>),
}

/// A formula that was read. Its `Display` is its one canonical form: single spaces, and no bracket
/// that changes nothing.
///
/// # Examples
/// ```
/// use faces::faces::Formula;
/// let formula = Formula::parse("alice|(bob & news-bot) - carol")?;
/// assert_eq!(formula.to_string(), "alice | (bob & news-bot) - carol");
/// let faces: Vec<&str> = formula.operands().iter().map(|face| face.as_str()).collect();
/// assert_eq!(faces, ["alice", "bob", "news-bot", "carol"]);
/// assert_eq!(Formula::parse("alice |").unwrap_err().column, 8);
/// # Ok::<(), faces::faces::FormulaError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Formula {
    root: Term,
    operands: Vec<FaceName>,
}

/// Why a text is not a formula.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {message}")]
pub struct FormulaError {
    /// Where the fault is, in characters from 1.
    pub column: usize,
    /// What is wrong and what is expected.
    pub message: String,
}

impl From<FormulaError> for FaceError {
    fn from(error: FormulaError) -> Self {
        Self::value(FieldPath::root().field("formula"), error.to_string())
    }
}

impl Formula {
    /// Reads a formula; a single username is one.
    ///
    /// # Errors
    /// [`FormulaError`] with the column of the first fault, also at the limits
    /// ([`FORMULA_CHARS_MAX`], [`FORMULA_OPERANDS_MAX`], [`FORMULA_PLACES_MAX`],
    /// [`FORMULA_DEPTH_MAX`]).
    pub fn parse(text: &str) -> Result<Self, FormulaError> {
        if text.chars().count() > FORMULA_CHARS_MAX {
            let message = format!("a formula has at most {FORMULA_CHARS_MAX} characters");
            return Err(FormulaError { column: FORMULA_CHARS_MAX + 1, message });
        }
        let characters = text.chars().collect();
        let mut parser = Parser { characters, at: 0, depth: 0, places: 0, operands: Vec::new() };
        let root = parser.combined(0)?;
        parser.skip_space();
        match parser.peek() {
            None => Ok(Self { root, operands: parser.operands }),
            Some(')') => Err(parser.fault("this `)` closes nothing")),
            Some(found) => Err(parser.fault(&expected_operator(found))),
        }
    }

    /// The whole, as a tree.
    #[must_use]
    pub const fn root(&self) -> &Term {
        &self.root
    }

    /// The different faces that it names, in the order of their first place. At least one.
    #[must_use]
    pub fn operands(&self) -> &[FaceName] {
        &self.operands
    }
}

impl fmt::Display for Formula {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.root.write(f, None)
    }
}

impl Term {
    /// Writes a part that stands where `outer` takes it: an operator, and whether this is its right
    /// side.
    fn write(&self, f: &mut fmt::Formatter<'_>, outer: Option<(Operator, bool)>) -> fmt::Result {
        let (left, operator, right) = match self {
            Self::Face(face) => return write!(f, "{face}"),
            Self::Combined(left, operator, right) => (left, *operator, right),
        };
        let bare = outer
            .is_none_or(|(outer, is_right)| operator > outer || (operator == outer && !is_right));
        if !bare {
            f.write_str("(")?;
        }
        left.write(f, Some((operator, false)))?;
        write!(f, " {} ", operator.sign())?;
        right.write(f, Some((operator, true)))?;
        if bare { Ok(()) } else { f.write_str(")") }
    }
}

struct Parser {
    characters: Vec<char>,
    at: usize,
    depth: usize,
    places: usize,
    operands: Vec<FaceName>,
}

impl Parser {
    /// Reads a chain of operators of the level `level` of [`Operator::ALL`].
    fn combined(&mut self, level: usize) -> Result<Term, FormulaError> {
        let Some(operator) = Operator::ALL.get(level).copied() else { return self.atom() };
        let mut left = self.combined(level + 1)?;
        loop {
            self.skip_space();
            if self.peek() != Some(operator.sign()) {
                return Ok(left);
            }
            self.at += 1;
            let right = self.combined(level + 1)?;
            left = Term::Combined(Box::new(left), operator, Box::new(right));
        }
    }

    fn atom(&mut self) -> Result<Term, FormulaError> {
        self.skip_space();
        match self.peek() {
            None => Err(self.fault("a face's username or `(` must stand here")),
            Some('(') => self.bracketed(),
            Some(')') => Err(self.fault("a face's username or `(` must stand here, not `)`")),
            Some(letter) if is_name_letter(letter) => self.face(),
            Some(sign) if Operator::of(sign).is_some() => {
                Err(self.fault(&format!("a face's username must stand before `{sign}`")))
            }
            Some(other) => Err(self.fault(&format!(
                "{other:?} has no place in a formula; it holds usernames, | & - ^ and brackets"
            ))),
        }
    }

    fn bracketed(&mut self) -> Result<Term, FormulaError> {
        let opened_at = self.at;
        if self.depth == FORMULA_DEPTH_MAX {
            let message = format!("brackets stand in at most {FORMULA_DEPTH_MAX} others");
            return Err(self.fault(&message));
        }
        self.depth += 1;
        self.at += 1;
        let inner = self.combined(0)?;
        self.skip_space();
        match self.peek() {
            Some(')') => {
                self.at += 1;
                self.depth -= 1;
                Ok(inner)
            }
            None => {
                self.at = opened_at;
                Err(self.fault("this `(` is never closed"))
            }
            Some(found) => Err(self.fault(&expected_operator(found))),
        }
    }

    fn face(&mut self) -> Result<Term, FormulaError> {
        let letters =
            self.characters[self.at..].iter().take_while(|letter| is_name_letter(**letter));
        let name: String = letters.collect();
        if name == "-" {
            return Err(self.fault("a face's username must stand before `-`"));
        }
        let face = FaceName::parse(&name).map_err(|error| self.fault(&error.to_string()))?;
        if self.places == FORMULA_PLACES_MAX {
            let message = format!("a formula has at most {FORMULA_PLACES_MAX} usernames");
            return Err(self.fault(&message));
        }
        self.places += 1;
        if !self.operands.contains(&face) {
            if self.operands.len() == FORMULA_OPERANDS_MAX {
                let message = format!("a formula names at most {FORMULA_OPERANDS_MAX} faces");
                return Err(self.fault(&message));
            }
            self.operands.push(face.clone());
        }
        self.at += name.len();
        Ok(Term::Face(face))
    }

    fn peek(&self) -> Option<char> {
        self.characters.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.at += 1;
        }
    }

    fn fault(&self, message: &str) -> FormulaError {
        FormulaError { column: self.at + 1, message: message.to_owned() }
    }
}

const fn is_name_letter(letter: char) -> bool {
    matches!(letter, 'a'..='z' | '0'..='9' | '-')
}

fn expected_operator(found: char) -> String {
    format!("one of | & - ^ must stand here, not {found:?}")
}
