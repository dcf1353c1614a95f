//! The room in virtual time: several processes over one simulated database, from one seed.
//!
//! Everything above [`LedgerStore`](super::super::LedgerStore) is real: handles, holds, actors,
//! writer, registry, keeper. Below it stand the tables in memory with the real decision
//! (`storage::ledger::memory`) behind a network that delays, loses, repeats and reorders. Processes
//! are killed, stopped past their time to live, drained and started again; clients leave whenever
//! they like. After every commit the books are checked (I1, I2, I4, I5, I6, I8), at every byte and
//! end that a client sees the gates are (I3), and when the faults have stopped everything must
//! resolve.
//!
//! A seed decides all of it, so a failure is played again by its seed.

mod client;
mod database;
mod network;
mod plan;
mod process;
mod rng;
mod scenario;
mod world;

use plan::Mutant;
pub(super) use rng::Rng;
use scenario::play;
use world::Counts;

use crate::storage::ledger::memory::Rule;

/// Seeds that every run of the tests plays.
const SEEDS: u64 = 1_000;
/// Seeds within which a missing rule must show.
const MUTANT_SEEDS: u64 = 1_000;
/// Seeds between two lines of a long run.
const SEEDS_PER_LINE: u64 = 10_000;

/// Plays seeds until one breaks a promise, and says how to play that one again.
#[track_caller]
fn assert_kept(seeds: impl Iterator<Item = u64>, is_told: bool) -> Counts {
    let mut counts = Counts::default();
    for (number, seed) in (1..).zip(seeds) {
        let outcome = play(seed, None, is_told);
        if let Some(broken) = outcome.broken {
            panic!(
                "{broken}\nplay it again: SIM_SEED={seed} cargo test -p faces --lib sim::the_seed"
            );
        }
        counts.add(&outcome.counts);
        if number % SEEDS_PER_LINE == 0 {
            println!("{number} seeds, the last was {seed}: {counts:?}");
        }
    }
    counts
}

#[test]
fn no_seed_breaks_a_promise() {
    let counts = assert_kept(0..SEEDS, false);
    // What is to be survived did happen.
    let Counts { commits, repeated, refused, settled, recovered, contents, denied } = counts;
    let seen = [commits, repeated, refused, settled, recovered, contents, denied];
    assert!(seen.iter().all(|count| *count >= SEEDS / 10), "{counts:?}");
}

/// `SIM_SEED` is the seed that is played and told (`--nocapture`), `SIM_SEEDS` how many from there
/// on.
#[test]
fn the_seed_that_is_asked_for_breaks_no_promise() {
    let first = asked("SIM_SEED", 0);
    let count = asked("SIM_SEEDS", 1);
    let counts = assert_kept(first..first.saturating_add(count), count == 1);
    println!("{count} seeds from {first} on: {counts:?}");
}

#[expect(clippy::disallowed_methods, reason = "a developer asks for a seed")]
pub(super) fn asked(name: &str, default: u64) -> u64 {
    let Ok(text) = std::env::var(name) else { return default };
    text.parse().unwrap_or_else(|_| panic!("{name} is a whole number, not `{text}`"))
}

#[test]
fn a_seed_plays_the_same_again() {
    for seed in 0..20 {
        assert_eq!(play(seed, None, false), play(seed, None, false), "seed {seed}");
    }
    assert_ne!(play(1, None, false).trace, play(2, None, false).trace);
}

/// The rule is needed: without it some seed breaks a promise.
#[track_caller]
fn assert_needed(mutant: Mutant) {
    let found =
        (0..MUTANT_SEEDS).find_map(|seed| Some((seed, play(seed, Some(mutant), false).broken?)));
    match found {
        Some((seed, broken)) => println!("{mutant:?}, seed {seed}: {broken}"),
        None => panic!("{mutant:?} was not noticed"),
    }
}

#[test]
fn the_fence_must_be_inside_every_flush() {
    assert_needed(Mutant::Books(Rule::Fence));
}

#[test]
fn every_flush_must_have_its_number() {
    assert_needed(Mutant::Books(Rule::Sequence));
}

#[test]
fn recovery_must_fence_first() {
    assert_needed(Mutant::Books(Rule::RecoveryFences));
}

#[test]
fn the_row_must_have_what_it_grants() {
    assert_needed(Mutant::Books(Rule::ConditionalGrant));
}

#[test]
fn a_reply_must_tell_what_is_written() {
    assert_needed(Mutant::Books(Rule::AbsoluteReply));
}

#[test]
fn no_content_may_come_before_its_hold() {
    assert_needed(Mutant::ContentBeforeHold);
}

#[test]
fn no_end_may_come_before_its_settlement() {
    assert_needed(Mutant::EndBeforeSettlement);
}
