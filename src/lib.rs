//! Faces: an OpenAI-compatible server for personas, billed from exact prepaid credits.
//!
//! The rooms and who may import whom stand in `ARCHITECTURE.md` and are enforced by
//! `tests/architecture.rs`.

pub mod accounts;
pub mod app;
pub mod config;
pub mod domain;
pub mod faces;
pub mod flows;
pub mod http;
pub mod providers;
pub mod storage;
pub mod telemetry;
pub mod wire;
