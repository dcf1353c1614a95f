//! Holds that grow while their request runs, and what is written of it meanwhile.

use futures_util::FutureExt as _;

use super::{Room, Step, outcome, run, used, wait_until};
use crate::{
    accounts::{Accounts, CreditExhausted, Hold, HoldRequest},
    config::LeasePolicy,
    domain::{NanoUsd, UsageBasis},
};

impl Room {
    /// A request that holds `slice` at first and may become `most`.
    async fn sliced(&self, slice: i64, most: i64) -> Hold {
        let request = self.request(slice);
        let request = HoldRequest { amount_max: NanoUsd(most), slice: NanoUsd(slice), ..request };
        let mut hold = self.accounts.hold(request).await.unwrap();
        hold.durable().await.unwrap();
        hold
    }
}

fn progress(hold: &mut Hold, tokens: u64) {
    hold.progress(used(tokens), UsageBasis::Counted, &used(tokens));
}

async fn covered(hold: &mut Hold) -> Result<(), CreditExhausted> {
    std::future::poll_fn(|cx| hold.poll_covered(cx)).await
}

const POLICIES: [LeasePolicy; 2] = [LeasePolicy::Exact, LeasePolicy::Auto];

#[test]
fn a_hold_grows_with_its_answer_and_is_charged_exactly() {
    for policy in POLICIES {
        run(async {
            let room = Room::with_policy(policy, 1_000, |_| ()).await;
            let mut hold = room.sliced(100, 800).await;
            for tokens in [60, 90, 190, 400, 650, 790] {
                progress(&mut hold, tokens);
                covered(&mut hold).await.unwrap();
                assert!(hold.amount() >= NanoUsd(tokens.cast_signed()));
            }
            assert!(hold.amount() <= NanoUsd(800));
            let settled = hold.settle(outcome(790)).await.unwrap();
            assert_eq!((settled.charge, settled.overrun), (NanoUsd(790), NanoUsd::ZERO));
            room.accounts.drain().await.unwrap();
            assert_eq!(room.row().await.available(), NanoUsd(210));
            room.assert_audit_is_clean().await;
        });
    }
}

#[test]
fn two_requests_share_what_one_worst_case_would_have_taken() {
    for policy in POLICIES {
        run(async {
            let room = Room::with_policy(policy, 1_000, |_| ()).await;
            let mut one = room.sliced(100, 1_000).await;
            let mut two = room.sliced(100, 1_000).await;
            for hold in [&mut one, &mut two] {
                progress(hold, 350);
                covered(hold).await.unwrap();
            }
            for hold in [one, two] {
                assert_eq!(hold.settle(outcome(400)).await.unwrap().charge, NanoUsd(400));
            }
            room.accounts.drain().await.unwrap();
            assert_eq!(room.row().await.available(), NanoUsd(200));
            room.assert_audit_is_clean().await;
        });
    }
}

#[test]
fn credit_that_runs_out_ends_the_answer_at_the_hold() {
    for policy in POLICIES {
        run(async {
            let room = Room::with_policy(policy, 250, |_| ()).await;
            let other = room.hold(50).await.unwrap();
            let mut hold = room.sliced(100, 1_000).await;
            progress(&mut hold, 120);
            covered(&mut hold).await.unwrap();
            progress(&mut hold, 201);
            assert_eq!(covered(&mut hold).await, Err(CreditExhausted));
            assert_eq!(hold.amount(), NanoUsd(200), "all that there was");
            let settled = hold.settle(outcome(201)).await.unwrap();
            assert_eq!((settled.charge, settled.overrun), (NanoUsd(200), NanoUsd(1)));
            drop(other);
            room.accounts.drain().await.unwrap();
            assert_eq!(room.row().await.available(), NanoUsd(50));
            room.assert_audit_is_clean().await;
        });
    }
}

#[test]
fn at_its_most_a_hold_leaves_the_bound_to_the_provider() {
    run(async {
        let room = Room::new(1_000, |_| ()).await;
        let mut hold = room.sliced(100, 400).await;
        hold.limit(NanoUsd(150));
        progress(&mut hold, 90);
        covered(&mut hold).await.unwrap();
        progress(&mut hold, 170);
        covered(&mut hold).await.unwrap();
        assert_eq!((hold.amount(), hold.affordable()), (NanoUsd(150), NanoUsd(150)));
        let settled = hold.settle(outcome(170)).await.unwrap();
        assert_eq!((settled.charge, settled.overrun), (NanoUsd(150), NanoUsd(20)));
        room.assert_audit_is_clean().await;
    });
}

#[test]
fn a_settlement_above_the_slice_is_asked_for_up_to_the_requests_worst_case() {
    for policy in POLICIES {
        run(async {
            let room = Room::with_policy(policy, 1_000, |_| ()).await;
            let hold = room.sliced(100, 400).await;
            let settled = hold.settle(outcome(390)).await.unwrap();
            assert_eq!((settled.charge, settled.overrun), (NanoUsd(390), NanoUsd::ZERO));
            let hold = room.sliced(100, 400).await;
            let settled = hold.settle(outcome(450)).await.unwrap();
            assert_eq!((settled.charge, settled.overrun), (NanoUsd(400), NanoUsd(50)));
            let hold = room.sliced(100, 400).await;
            let settled = hold.settle(outcome(300)).await.unwrap();
            assert_eq!((settled.charge, settled.overrun), (NanoUsd(210), NanoUsd(90)));
            room.accounts.drain().await.unwrap();
            assert_eq!(room.row().await.available(), NanoUsd::ZERO);
            room.assert_audit_is_clean().await;
        });
    }
}

#[test]
fn a_hold_dropped_while_it_grows_ends_once_with_what_it_became() {
    for policy in POLICIES {
        run(async {
            let room = Room::with_policy(policy, 1_000, |_| ()).await;
            let mut hold = room.sliced(100, 800).await;
            let (go, wait) = tokio::sync::oneshot::channel();
            room.next([Step::Wait(wait)]);
            progress(&mut hold, 95);
            // In memory there is nothing to wait for; a row has to be asked.
            let is_asked = covered(&mut hold).now_or_never().is_none();
            assert!(!is_asked || policy == LeasePolicy::Exact);
            drop(hold);
            go.send(()).unwrap();
            room.accounts.drain().await.unwrap();
            let row = room.row().await;
            assert_eq!((row.debits, row.leased), (NanoUsd(95), NanoUsd::ZERO));
            room.assert_audit_is_clean().await;
        });
    }
}

#[test]
fn a_dead_instances_request_is_charged_at_its_last_checkpoint() {
    run(async {
        let room = Room::with_policy(LeasePolicy::Auto, 10_000_000, |_| ()).await;
        let mut hold = room.sliced(4_000_000, 8_000_000).await;
        progress(&mut hold, 1_500_000);
        covered(&mut hold).await.unwrap();
        // A little later there is nothing new to write.
        progress(&mut hold, 1_500_001);
        let written = wait_until(async || {
            let seen = room.accounts.observe().await.unwrap().writer;
            (seen.queued == 0 && seen.in_flight == 0).then_some(seen.ops)
        });
        written.await;
        room.next([Step::Fence]);
        drop(room.hold(1).await);
        let store = room.store.clone();
        let next = Accounts::start_with(store, &room.limits, LeasePolicy::Auto).await.unwrap();
        assert!(next.is_ready());
        assert_eq!(room.row().await.balance(), NanoUsd(10_000_000 - 1_500_000));
        drop(hold);
        room.assert_audit_is_clean().await;
    });
}

#[test]
fn a_request_that_is_voided_after_a_checkpoint_costs_its_customer_nothing() {
    run(async {
        let room = Room::new(10_000_000, |_| ()).await;
        let mut hold = room.sliced(4_000_000, 4_000_000).await;
        progress(&mut hold, 1_500_000);
        let settled = hold.void(Vec::new()).await.unwrap();
        assert_eq!((settled.charge, settled.provider_cost), (NanoUsd(0), NanoUsd(1_500_000)));
        assert_eq!(room.row().await.balance(), NanoUsd(10_000_000));
        room.assert_audit_is_clean().await;
    });
}
