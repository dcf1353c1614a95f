//! The room `faces`.
