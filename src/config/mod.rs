//! Configuration.

pub mod limits;

pub use limits::Limits;
