//! The API against its contract, through the real server: errors in each dialect, bills computed
//! by hand, faces, the command line, a clean log, and mutated requests. After each test the books
//! must balance and the log must hold neither a secret nor a prompt (see `support::server`).

#[cfg(test)]
mod api_keys;
#[cfg(test)]
mod billing;
#[cfg(test)]
mod billing_limits;
#[cfg(test)]
mod billing_upstream;
#[cfg(test)]
mod books;
#[cfg(test)]
mod budgets;
#[cfg(test)]
mod command_line;
#[cfg(test)]
mod compile;
#[cfg(test)]
mod compile_documents;
#[cfg(test)]
mod document;
#[cfg(test)]
mod embeddings;
#[cfg(test)]
mod error_bodies;
#[cfg(test)]
mod error_keys;
#[cfg(test)]
mod faces;
#[cfg(test)]
mod faces_chat;
#[cfg(test)]
mod first_start;
#[cfg(test)]
mod formats;
#[cfg(test)]
mod formulas;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod identity;
#[cfg(test)]
mod isolation;
#[cfg(test)]
mod journey;
#[cfg(test)]
mod kit;
#[cfg(test)]
mod llm;
#[cfg(test)]
mod log_hygiene;
#[cfg(test)]
mod matrix;
#[cfg(test)]
mod metrics;
#[cfg(test)]
mod mutations;
#[cfg(test)]
mod openapi;
#[cfg(test)]
mod password;
#[cfg(test)]
mod payments;
#[cfg(test)]
#[expect(dead_code, reason = "each test binary uses a part of the kit")]
#[path = "../support/postgres.rs"]
mod postgres;
#[cfg(test)]
mod preferences;
#[cfg(test)]
mod program;
#[cfg(test)]
mod rates;
#[cfg(test)]
mod similar;
#[cfg(test)]
mod sources;
#[cfg(test)]
#[expect(dead_code, reason = "each test binary uses a part of the kit")]
#[path = "../support/mod.rs"]
mod support;
#[cfg(test)]
mod templates;
#[cfg(test)]
mod translation;
#[cfg(test)]
mod usage;
