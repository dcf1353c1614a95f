//! The end-to-end test kit: what a test needs to stand on both sides of a real server.
//!
//! [`upstream::Upstream`] plays a provider from a script, over real TCP, and records what arrived
//! and how its peer left. [`server::TestServer`] is the real binary as a child process with a data
//! directory of its own; when a test ends it stops the server and asserts that the books are right
//! and that the log has neither a secret nor a prompt. [`http::Client`] is a client that can leave
//! in every way a client can leave, and that tells a clean end from a truncated one.
//!
//! No wait is a sleep: each waits for a condition, with a bound ([`BOUND`]).

pub(crate) mod credit;
pub(crate) mod http;
pub(crate) mod ledger;
pub(crate) mod login;
pub(crate) mod models;
pub(crate) mod replies;
pub(crate) mod server;
pub(crate) mod sse_text;
pub(crate) mod upstream;

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Longest wait for anything that should come at once. Generous, because tests share their cores;
/// a test that measures a time uses a bound of its own.
pub(crate) const BOUND: Duration = Duration::from_secs(30);

/// How often a condition without a signal is looked at.
pub(crate) const POLL: Duration = Duration::from_millis(10);

/// Stands in every prompt of a test; never in a log.
pub(crate) const PROMPT_CANARY: &str = "PROMPT-CANARY-7f3a";
/// Stands in every provider key of a test; never in a log.
pub(crate) const KEY_CANARY: &str = "KEY-CANARY-91bc";
/// Stands in personas of tests; never in a log.
pub(crate) const PERSONA_CANARY: &str = "PERSONA-CANARY-55d0";
/// Stands in what scripted upstreams say; never in a log.
pub(crate) const REPLY_CANARY: &str = "REPLY-CANARY-2c6e";

/// Everything that must never stand in a log, apart from the keys that a test makes.
pub(crate) const CANARIES: [&str; 4] = [PROMPT_CANARY, KEY_CANARY, PERSONA_CANARY, REPLY_CANARY];

/// Waits until `probe` gives a value.
///
/// # Panics
/// When it gives none within `bound`; `what` says what was waited for.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, bound: Duration, probe: impl FnMut() -> Option<T>) -> T {
    wait_for_or(bound, probe, || what.to_owned())
}

/// As [`wait_for`], with words for the failure that are looked for only then.
#[track_caller]
pub(crate) fn wait_for_or<T>(
    bound: Duration,
    mut probe: impl FnMut() -> Option<T>,
    what: impl FnOnce() -> String,
) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = probe() {
            return value;
        }
        if started.elapsed() >= bound {
            panic!("{}: not within {bound:?}", what());
        }
        std::thread::park_timeout(POLL);
    }
}

/// A lock whose poison does not matter: a panicked test fails by itself.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A variable of the environment in which the tests run.
#[expect(clippy::disallowed_methods, reason = "the kit reads where it runs: CI, PATH, database")]
pub(crate) fn env_var(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Whether a missing tool is a failure (in CI) or a reason to skip.
pub(crate) fn in_ci() -> bool {
    env_var("CI").is_some_and(|value| value == "true" || value == "1")
}
