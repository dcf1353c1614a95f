//! The promises of the Chat page, row by row, kept towards the official Python SDKs: the three
//! current majors of `openai` and of `anthropic`, over a real socket, streaming and not; and every
//! command of `faces-cli`. Beside them the OpenAPI document, by the validator of its tools.
//!
//! The clients are installed from PyPI below `target/sdk/`. Without network the tests say that they
//! were skipped; in CI (`CI=true`) they fail instead.

#[cfg(test)]
mod baseline;
#[cfg(test)]
mod cli;
#[cfg(test)]
mod driver;
#[cfg(test)]
mod install;
#[cfg(test)]
mod openapi;
#[cfg(test)]
mod rows_chat;
#[cfg(test)]
mod rows_credit;
#[cfg(test)]
mod rows_errors;
#[cfg(test)]
mod rows_formats;
#[cfg(test)]
mod rows_native;
#[cfg(test)]
mod rows_stream;
#[cfg(test)]
mod stage;
#[cfg(test)]
#[expect(dead_code, reason = "each test binary uses a part of the kit")]
#[path = "../support/mod.rs"]
mod support;
