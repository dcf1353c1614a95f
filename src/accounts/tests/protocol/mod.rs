//! The protocol, state by state: two instances with the real `AccountCore`, the real decision of the
//! flush, one account of 4, three requests of 2, 1 and 2, a top-up of 1.
//!
//! Messages are delayed, arrive twice, and after their sender died; one instance may crash, each may
//! be fenced at any time (the worst clock there is), recovery charges a checkpoint or nothing. In
//! every state I1, I2, I4, I5, I6 and I8 hold, both gates are (I3), and the cores check I7.
//!
//! A search from the start, breadth first up to so many states, sees every order of few steps; walks
//! at random see long ones. Each rule that is left out must break something.

mod model;

use std::{
    collections::{HashSet, VecDeque},
    hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher},
};

use model::{Mutant, State};

use super::sim::{Rng, asked};
use crate::storage::ledger::memory::Rule;

/// Distinct states that every run of the tests visits, for each pair of policies.
const STATES: u64 = 4_000;
/// Walks of every run of the tests, for each pair of policies.
const WALKS: u64 = 500;
/// Walks within which a missing rule must show.
const MUTANT_WALKS: u64 = 20_000;
/// Steps of a walk.
const STEPS: u64 = 60;

const POLICIES: [[bool; 2]; 3] = [[false, false], [true, false], [true, true]];

/// Visits states in the order of their distance; answers how many there were.
fn search(retains: [bool; 2], states_max: u64) -> u64 {
    let hasher = BuildHasherDefault::<DefaultHasher>::default();
    let start = State::new(retains, None);
    let mut seen = HashSet::from([hasher.hash_one(&start)]);
    let mut next = VecDeque::from([start]);
    let mut visited = 0;
    while let Some(state) = next.pop_front() {
        visited += 1;
        for step in state.steps() {
            let after = match state.after(step, None) {
                Ok(after) => after,
                Err(broken) => panic!("{step:?} breaks {broken}, from {state:#?}"),
            };
            let is_new = visited + u64::try_from(next.len()).unwrap() < states_max
                && seen.insert(hasher.hash_one(&after));
            if is_new {
                next.push_back(after);
            }
        }
    }
    visited
}

/// Walks at random; the first broken promise with the steps that led to it.
fn walk(retains: [bool; 2], mutant: Option<Mutant>, seed: u64) -> Result<(), String> {
    let mut rng = Rng::part(seed, 6, 0);
    let mut state = State::new(retains, mutant);
    let mut path = Vec::new();
    for _ in 0..STEPS {
        let step = *rng.one_of(&state.steps());
        path.push(step);
        state = state.after(step, mutant).map_err(|broken| format!("{broken} after {path:?}"))?;
    }
    Ok(())
}

#[test]
fn no_order_of_steps_breaks_a_promise() {
    let states = asked("CHECK_STATES", STATES);
    let walks = asked("CHECK_WALKS", WALKS);
    for retains in POLICIES {
        let visited = search(retains, states);
        println!("instances that retain {retains:?}: {visited} distinct states");
        for seed in 0..walks {
            if let Err(broken) = walk(retains, None, seed) {
                panic!("walk {seed} of {retains:?}: {broken}");
            }
        }
        println!("instances that retain {retains:?}: {walks} walks of {STEPS} steps");
    }
}

#[test]
fn every_rule_is_needed() {
    for mutant in [
        Mutant::Books(Rule::Fence),
        Mutant::Books(Rule::Sequence),
        Mutant::Books(Rule::RecoveryFences),
        Mutant::Books(Rule::ConditionalGrant),
        Mutant::Books(Rule::AbsoluteReply),
        Mutant::ChargeAboveHold,
        Mutant::ContentBeforeHold,
        Mutant::EndBeforeSettlement,
    ] {
        let mut walks = (0..MUTANT_WALKS).flat_map(|seed| POLICIES.map(|retains| (seed, retains)));
        let found = walks.find_map(|(seed, retains)| walk(retains, Some(mutant), seed).err());
        let broken = found.unwrap_or_else(|| panic!("{mutant:?} was not noticed"));
        println!("{mutant:?}: {broken}");
    }
}
