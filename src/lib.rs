//! Faces: an OpenAI-compatible server for personas, billed from exact prepaid credits.
//!
//! The library is the program `faces` less its `main`; it is no API for others. Each module is a
//! room: [`domain`] is the vocabulary, [`wire`] and [`faces`] are pure, [`storage`], [`accounts`]
//! and [`providers`] own the database, the credits and the upstreams, [`flows`] is where they meet,
//! [`http`] is the edge, and [`app`] starts and stops them in order.
//!
//! Begin with [`flows::Flows::chat`]: it is the way of a request in one page. The map, who may
//! import whom (`tests/architecture.rs` enforces it) and the chapter on the ledger stand in
//! `ARCHITECTURE.md`; what users are promised stands in `README.md`.

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
