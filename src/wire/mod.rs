//! The room `wire`.

mod format;

pub use format::UpstreamFormat;
