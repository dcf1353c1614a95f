//! The demo persona that a fresh machine starts with.

use super::{FaceError, FaceImport, ImportLimits};

/// The import file of `alice`, as it could be handed to `faces admin face import`.
pub const ALICE_JSON: &str = include_str!("demo_alice.json");

/// Reads the demo face `alice`. Operators' limits don't apply to it.
///
/// # Errors
/// [`FaceError`] when the embedded file is wrong; a test reads it, so never in a release.
pub fn alice() -> Result<FaceImport, FaceError> {
    let limits = ImportLimits { primitives_max: u32::MAX, primitive_chars_max: u32::MAX };
    FaceImport::parse(ALICE_JSON.as_bytes(), &limits)
}
