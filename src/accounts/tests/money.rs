//! What a request costs, whatever becomes of it.

use std::time::Duration;

use actix::System;
use futures_util::future::join_all;

use super::{Room, outcome, run, used, wait_until};
use crate::{
    accounts::{Hold, HoldError, Outcome, Payer, outcome as ends},
    domain::{
        AccountId, ChargeRate, NanoUsd, TokenPrices, UsageBasis,
        ledger::{Finish, FreeUse},
    },
    storage::{accounts::set_frozen, ledger::audit, prices::sync_price},
};

#[test]
fn a_settlement_charges_exactly_the_usage_and_releases_the_rest() {
    run(async {
        let room = Room::new(1_000, |_| ()).await;
        let hold = room.hold(400).await.unwrap();
        assert_eq!((hold.amount(), room.row().await.leased), (NanoUsd(400), NanoUsd(400)));
        let settled = hold.settle(outcome(123)).await.unwrap();
        assert_eq!((settled.charge, settled.overrun), (NanoUsd(123), NanoUsd::ZERO));
        assert_eq!(settled.account, room.row().await);
        assert_eq!((settled.account.balance(), settled.account.leased), (NanoUsd(877), NanoUsd(0)));
        room.assert_audit_is_clean().await;
    });
}

#[test]
fn what_a_hold_does_not_cover_is_never_the_customers() {
    run(async {
        let room = Room::new(1_000, |_| ()).await;
        let settled = room.hold(100).await.unwrap().settle(outcome(150)).await.unwrap();
        assert_eq!((settled.charge, settled.overrun), (NanoUsd(100), NanoUsd(50)));
        assert_eq!(room.row().await.balance(), NanoUsd(900));
        room.assert_audit_is_clean().await;
    });
}

#[test]
fn a_failure_after_output_is_the_operators() {
    run(async {
        let room = Room::new(1_000, |_| ()).await;
        let operator =
            Outcome { payer: Payer::Operator, finish: Finish::UpstreamError, ..outcome(60) };
        let settled = room.hold(100).await.unwrap().settle(operator).await.unwrap();
        assert_eq!((settled.charge, settled.provider_cost), (NanoUsd::ZERO, NanoUsd(60)));
        assert_eq!(room.row().await.balance(), NanoUsd(1_000));
        room.assert_audit_is_clean().await;
    });
}

#[test]
fn a_dropped_hold_bills_what_was_noted_or_nothing() {
    run(async {
        let room = Room::new(1_000, |_| ()).await;
        drop(room.hold(400).await.unwrap());
        assert_eq!(room.until_released().await.debits, NanoUsd::ZERO);
        let mut hold = room.hold(400).await.unwrap();
        hold.note(used(10), UsageBasis::Counted);
        hold.note(used(70), UsageBasis::Counted);
        drop(hold);
        assert_eq!(room.until_released().await.debits, NanoUsd(70));
        room.assert_audit_is_clean().await;
    });
}

#[test]
fn a_settlement_happens_although_its_future_is_dropped() {
    run(async {
        let room = Room::new(1_000, |_| ()).await;
        drop(room.hold(400).await.unwrap().settle(outcome(40)));
        assert_eq!(room.until_released().await.debits, NanoUsd(40));
        drop(room.hold(400).await.unwrap().void(Vec::new()));
        assert_eq!(room.until_released().await.debits, NanoUsd(40));
        room.assert_audit_is_clean().await;
    });
}

#[test]
fn a_hold_whose_caller_left_is_voided() {
    run(async {
        let room = Room::new(1_000, |_| ()).await;
        let (go, wait) = tokio::sync::oneshot::channel();
        room.next([super::Step::Wait(wait)]);
        let left = tokio::time::timeout(Duration::from_millis(20), room.hold(400)).await;
        assert!(left.is_err());
        go.send(()).unwrap();
        wait_until(async || {
            let seen = room.accounts.observe().await.unwrap().writer;
            (seen.granted == 1 && seen.ended == 1).then_some(())
        })
        .await;
        assert_eq!(room.row().await.available(), NanoUsd(1_000));
        room.assert_audit_is_clean().await;
    });
}

#[test]
fn sixty_four_clients_share_credit_for_ten_in_fewer_flushes_than_holds() {
    run(async {
        let room = Room::new(1_000, |_| ()).await;
        let holds = join_all((0..64).map(|_| room.hold(100))).await;
        let granted: Vec<Hold> = holds.into_iter().filter_map(Result::ok).collect();
        assert_eq!(granted.len(), 10);
        let settled = join_all(granted.into_iter().map(|hold| hold.settle(outcome(100)))).await;
        assert!(settled.iter().all(Result::is_ok), "{settled:?}");
        let seen = room.accounts.observe().await.unwrap().writer;
        assert_eq!((seen.granted, seen.denied, seen.ended), (10, 54, 10));
        assert!(seen.flushes < 20, "74 operations took {} flushes", seen.flushes);
        assert!(matches!(room.hold(1).await, Err(HoldError::Denied(_))));
        assert_eq!(room.row().await.balance(), NanoUsd::ZERO);
        room.assert_audit_is_clean().await;
    });
}

#[test]
fn no_flush_is_larger_than_its_limit() {
    run(async {
        let room = Room::new(1_000, |limits| limits.flush_ops_max = 4).await;
        let holds = join_all((0..30).map(|_| room.hold(1))).await;
        assert!(holds.iter().all(Result::is_ok));
        assert_eq!(room.accounts.observe().await.unwrap().writer.ops_in_flush_max, 4);
    });
}

#[test]
fn a_frozen_account_is_blocked_until_it_is_unfrozen() {
    run(async {
        let room = Room::new(1_000, |limits| limits.cache_ttl_ms = 40).await;
        let hold = room.hold(100).await.unwrap();
        set_frozen(&room.store.db, room.account, true).await.unwrap();
        for _ in 0..3 {
            assert!(matches!(room.hold(1).await, Err(HoldError::Blocked(_))));
        }
        assert_eq!(hold.settle(outcome(10)).await.unwrap().charge, NanoUsd(10));
        set_frozen(&room.store.db, room.account, false).await.unwrap();
        drop(wait_until(async || room.hold(1).await.ok()).await);
    });
}

#[test]
fn an_unknown_account_has_no_credit() {
    run(async {
        let room = Room::new(1_000, |_| ()).await;
        let mut request = room.request(1);
        request.open.account_id = AccountId::generate();
        assert_eq!(room.accounts.hold(request).await.unwrap_err(), HoldError::NoAccount);
    });
}

#[test]
fn a_drain_makes_everything_durable_and_closes_the_instance() {
    run(async {
        let room = Room::new(1_000, |_| ()).await;
        let holds: Vec<Hold> = join_all((0..8).map(|_| room.hold(100)))
            .await
            .into_iter()
            .map(Result::unwrap)
            .collect();
        let mut holds = holds.into_iter();
        let forgotten = holds.next().unwrap();
        for hold in holds {
            drop(hold.settle(outcome(30)));
        }
        let report = room.accounts.drain().await.unwrap();
        assert_eq!(report.holds_recovered, 1);
        let row = room.row().await;
        assert_eq!((row.debits, row.leased), (NanoUsd(210), NanoUsd::ZERO));
        assert_eq!(room.hold(1).await.unwrap_err(), HoldError::ShuttingDown);
        assert!(!forgotten.may_release());
        drop(forgotten);
        let report = audit(&room.store.db).await.unwrap();
        assert!(report.clean && report.counts.instances_live == 0, "{report:#?}");
    });
}

#[test]
fn a_free_use_leaves_a_line_and_no_charge() {
    run(async {
        let room = Room::new(5, |_| ()).await;
        let free = sync_price(
            &room.store.db,
            "free",
            ChargeRate { prices: TokenPrices::default(), markup_bps: 0 },
        );
        let mut open = room.request(0).open;
        open.price_id = free.await.unwrap();
        let resolve = ends::resolve(
            &ends::HoldTerms {
                hold_id: open.hold_id,
                account_id: open.account_id,
                cap_id: None,
                amount: NanoUsd::ZERO,
                rate: ChargeRate { prices: TokenPrices::default(), markup_bps: 0 },
            },
            outcome(99),
        );
        let row = room.accounts.record_free(FreeUse { open, resolve }).await.unwrap();
        assert_eq!(row.balance(), NanoUsd(5));
        let report = audit(&room.store.db).await.unwrap();
        assert!(report.clean && report.counts.usage_rows == 1, "{report:#?}");
    });
}

#[test]
fn an_idle_actor_leaves_memory_and_comes_back_when_needed() {
    run(async {
        let room = Room::new(1_000, |limits| limits.account_idle_ms = 100).await;
        let hold = room.hold(100).await.unwrap();
        drop(hold);
        let seen = wait_until(async || {
            let seen = room.accounts.observe().await.unwrap().registry;
            (seen.live == 0 && seen.passivated == 1).then_some(seen)
        })
        .await;
        assert_eq!((seen.started, seen.panicked), (1, 0));
        room.hold(100).await.unwrap().settle(outcome(1)).await.unwrap();
    });
}

#[test]
fn the_handle_serves_other_threads() {
    run(async {
        let room = Room::new(10_000, |_| ()).await;
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let (accounts, requests) =
                    (room.accounts.clone(), (0..8).map(|_| room.request(100)).collect::<Vec<_>>());
                std::thread::spawn(move || {
                    System::new().block_on(async move {
                        for request in requests {
                            let hold = accounts.hold(request).await.unwrap();
                            hold.settle(outcome(3)).await.unwrap();
                        }
                    });
                })
            })
            .collect();
        wait_until(async || threads.iter().all(|thread| thread.is_finished()).then_some(())).await;
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(room.row().await.debits, NanoUsd(96));
        room.assert_audit_is_clean().await;
    });
}
