//! Faces: who a persona is, and the system prompt that makes a model speak as that person.
//!
//! Owns the face and its parts (facts, primitives), the formats in which people hand them in, the
//! object that the API shows, the ranking of primitives against a conversation, the wording of the
//! prompt, what compiling asks of a model ([`extract`]), how duplicates are merged ([`mod@merge`]),
//! how alike statements are ([`embedding`]) and the formulas that combine faces ([`Formula`]). The
//! way in is [`FaceFields::parse`] or
//! [`FaceImport::parse`]; the way out is [`Persona::compose`].
//!
//! What never happens here: I/O, clocks, randomness, async, SQL, HTTP, names of providers. All is
//! a pure function of its arguments: the same face and conversation give the same bytes, so a
//! prompt can be cached, replayed and shown in a test.
//!
//! Also owned: the text of files and transcripts ([`source`]), and what an interviewer is told
//! ([`interview`]).
//!
//! How it fails: input errors are [`FaceError`] and name the field by its path
//! (`primitives[3].component`). Composing can't fail. Text of faces is data: it is flattened to
//! one line before it enters a prompt, so that it can't forge a heading.
//!
//! Limits: facts and names by the constants of [`Facts`] and [`FaceFields`], primitives by
//! [`ImportLimits`], the prompt by the `tokens_max` of [`Persona::prepare`].
//!
//! Invariants are tested in `tests/properties.rs` (budget, determinism, order, no panic for any
//! input); whole prompts are shown in `tests/snapshots/`.

mod attributes;
mod bm25;
pub mod centroid;
mod combine;
mod compose;
pub mod demo;
pub mod embedding;
mod error;
pub mod extract;
mod face;
mod facts;
mod fields;
mod formula;
mod import;
pub mod interview;
pub mod merge;
mod primitive;
pub mod source;
mod text;
mod wording;
mod words;

#[cfg(test)]
mod tests;

pub use attributes::{ATTRIBUTES, attributes_json, is_attribute};
pub use combine::Operand;
pub use compose::Persona;
pub use error::{FaceError, FieldFault, FieldPath, PathStep};
pub use face::{Face, FaceRendering};
pub use facts::{FACT_CHARS_MAX, FactChanges, Facts};
pub use fields::{
    ADDENDUM_CHARS_MAX, DEFAULT_MODEL_CHARS_MAX, DEFAULT_TOOLS_MAX, DESCRIPTION_CHARS_MAX,
    FaceFields, NAME_CHARS_MAX, TOOL_CHARS_MAX,
};
pub use formula::{
    FORMULA_CHARS_MAX, FORMULA_DEPTH_MAX, FORMULA_OPERANDS_MAX, FORMULA_PLACES_MAX, Formula,
    FormulaError, Operator, Term,
};
pub use import::{FaceImport, ImportLimits, parse_primitives};
pub use primitive::{Component, ComponentCounts, Primitive, WEIGHT_MAX};
pub use text::estimate_tokens;
