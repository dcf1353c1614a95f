//! The run: load and faults together, then quiet, then the check.

use std::time::{Duration, Instant};

use crate::{
    books::{self, Watched},
    checker::{self, Report},
    clients::{CLIENTS, Crowd},
    nemesis::{Nemesis, Tally},
    nginx::Nginx,
    postgres,
    stage::Stage,
    support::{BOUND, env_var, in_ci, server::say, wait_for},
};

/// Faults of a run, unless `CHAOS_FAULTS` says otherwise.
const FAULTS: u64 = 200;
/// The least time under load, unless `CHAOS_SECONDS` says otherwise.
const SECONDS: u64 = 20;
/// Findings that are shown.
const SHOWN_MAX: usize = 20;

fn number(variable: &str) -> Option<u64> {
    let text = env_var(variable)?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text:?} is not a number")))
}

/// Lets the clients end when the test fails, too.
struct StopWhenDropped<'a, 'b>(&'a Crowd<'b>);

impl Drop for StopWhenDropped<'_, '_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

#[test]
fn nothing_is_lost_doubled_or_overspent_whatever_breaks() {
    let (cluster, nginx) = match (postgres::own_cluster(), Nginx::find()) {
        (Ok(cluster), Ok(nginx)) => (cluster, nginx),
        (Err(why), _) | (_, Err(why)) => {
            assert!(!in_ci(), "CI needs the cluster: {why}");
            return say(&format!("SKIPPED chaos: {why}"));
        }
    };
    let seed = number("CHAOS_SEED")
        .unwrap_or_else(|| getrandom::u64().expect("the system's random numbers"));
    let faults = number("CHAOS_FAULTS").unwrap_or(FAULTS);
    let replay = format!("CHAOS_SEED={seed} CHAOS_FAULTS={faults} cargo test --test chaos");
    say(&format!("chaos: seed {seed}; again with: {replay}"));
    let started = Instant::now();
    let stage = Stage::start(cluster, &nginx, seed, faults);
    let crowd = Crowd::new(&stage);
    let nemesis = Nemesis::new(&stage, &crowd, faults);
    let watched = rage(&stage, &crowd, &nemesis, faults);

    let ledger = stage.ledger();
    stage.wait_recovered(&ledger);
    let seen = crowd.seen();
    let other_answers = crowd.ask_again(&seen);
    stage.stop();
    let hang_ups = crowd.hang_ups();
    let report = checker::check(&stage, &ledger, &seen, &nemesis.zombies());
    let Report { requests, complete, lost, doubled, charged, fenced, ref statuses, .. } = report;
    let Report { keyed, repeated, .. } = report;
    say(&format!(
        "chaos: {requests} requests (by status {statuses:?}), {complete} complete, {keyed} with a \
         key asked again {repeated} times, {fenced} in hand of fenced instances, \
         {charged} nano-USD charged; faults: hang-ups {hang_ups}, {}; \
         lost {lost}, doubled {doubled}, overspent {} in {} looks; seed {seed}, {} s",
        nemesis.done,
        watched.overspent,
        watched.looks,
        started.elapsed().as_secs(),
    ));
    let mut findings = report.findings;
    findings.extend(nemesis.problems());
    findings.extend(other_answers);
    let shown = findings.iter().take(SHOWN_MAX).cloned().collect::<Vec<_>>().join("\n");
    let count = findings.len();
    assert!(count == 0, "{count} findings; again with: {replay}; logs: target/test-logs\n{shown}");
    assert_eq!(watched.overspent, 0, "overspent; again with: {replay}");
    assert!(watched.looks > 0 && complete > 0, "nothing was tested: {watched:?}");
    assert!(nemesis.done.sum() + hang_ups >= faults, "only {} faults", nemesis.done);
    stage.audit();
}

/// Load and faults, until there were enough of both.
fn rage(stage: &Stage, crowd: &Crowd<'_>, nemesis: &Nemesis<'_>, faults: u64) -> Watched {
    let least = Duration::from_secs(number("CHAOS_SECONDS").unwrap_or(SECONDS));
    let hang_ups = faults.saturating_sub(Tally::of(faults).sum());
    let started = Instant::now();
    std::thread::scope(|scope| {
        let stop = StopWhenDropped(crowd);
        for _ in 0..CLIENTS {
            scope.spawn(|| crowd.live());
        }
        let watch = scope.spawn(|| books::watch(stage, crowd));
        std::thread::scope(|faults| {
            faults.spawn(|| nemesis.break_connections());
            faults.spawn(move || nemesis.break_processes(faults));
        });
        wait_for("enough hang-ups", least + BOUND * 10, || {
            (crowd.hang_ups() >= hang_ups && started.elapsed() >= least).then_some(())
        });
        drop(stop);
        watch.join().expect("the watch ends")
    })
}
