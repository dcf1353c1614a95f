//! The house rules, enforced by reading the source text. Each failure tells file, line and fix.
//!
//! The table of rooms stands here and in `ARCHITECTURE.md`; a new edge is an architecture change:
//! its own commit, with the reason.

#![expect(clippy::unwrap_used, reason = "a helper of a test may fail the test")]

mod architecture {
    mod docs;
    mod imports;
    mod rules;
    mod source;
}
