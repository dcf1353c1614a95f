//! Leases that keep their credit between requests.

use futures_util::{FutureExt as _, future::join_all};

use super::{Room, Step, outcome, run, wait_until};
use crate::{
    accounts::{Accounts, Hold, HoldError},
    config::{LeasePolicy, limits::Limits},
    domain::NanoUsd,
    storage::accounts::{set_frozen, top_up},
};

impl Room {
    /// A room whose lease has all of `credit + 1` but the 1 that the first request cost.
    async fn warm(credit: i64, limit: impl FnOnce(&mut Limits)) -> Self {
        let room = Self::with_policy(LeasePolicy::Auto, credit + 1, limit).await;
        room.hold(1).await.unwrap().settle(outcome(1)).await.unwrap();
        room
    }
}

#[test]
fn a_request_begins_before_its_hold_is_durable_and_shows_nothing() {
    run(async {
        let room = Room::warm(1_000, |_| ()).await;
        let (go, wait) = tokio::sync::oneshot::channel();
        room.next([Step::Wait(wait)]);
        let mut hold = room.hold(400).await.unwrap();
        assert!(!hold.may_release());
        assert!(hold.durable().now_or_never().is_none());
        go.send(()).unwrap();
        hold.durable().await.unwrap();
        assert!(hold.may_release());
        let settled = hold.settle(outcome(123)).await.unwrap();
        assert_eq!((settled.charge, settled.account.balance()), (NanoUsd(123), NanoUsd(877)));
        room.assert_audit_is_clean().await;
    });
}

#[test]
fn a_hold_that_ends_before_it_is_durable_is_opened_and_ended_in_order() {
    run(async {
        let room = Room::warm(1_000, |_| ()).await;
        let ends = (0..20).map(async |_| room.hold(40).await.unwrap().settle(outcome(7)).await);
        let settled = join_all(ends).await;
        assert!(settled.iter().all(Result::is_ok), "{settled:?}");
        drop(room.hold(400).await.unwrap());
        room.accounts.drain().await.unwrap();
        let row = room.row().await;
        assert_eq!((row.balance(), row.leased), (NanoUsd(1_000 - 20 * 7), NanoUsd::ZERO));
        room.assert_audit_is_clean().await;
    });
}

#[test]
fn sixty_four_clients_share_credit_for_ten() {
    run(async {
        let room = Room::warm(1_000, |_| ()).await;
        let holds = join_all((0..64).map(|_| room.hold(100))).await;
        let granted: Vec<Hold> = holds.into_iter().filter_map(Result::ok).collect();
        assert_eq!(granted.len(), 10);
        join_all(granted.into_iter().map(|hold| hold.settle(outcome(100)))).await;
        assert!(matches!(room.hold(1).await, Err(HoldError::Denied(_))));
        assert_eq!(room.row().await.balance(), NanoUsd::ZERO);
        room.assert_audit_is_clean().await;
    });
}

#[test]
fn clients_that_come_before_the_lease_has_anything_wait_for_it() {
    run(async {
        let room = Room::with_policy(LeasePolicy::Auto, 1_000, |_| ()).await;
        let holds = join_all((0..64).map(|_| room.hold(100))).await;
        let granted: Vec<Hold> = holds.into_iter().filter_map(Result::ok).collect();
        assert_eq!(granted.len(), 10);
        assert!(!granted.iter().all(Hold::may_release), "some are in memory only");
        join_all(granted.into_iter().map(|hold| hold.settle(outcome(50)))).await;
        let (one, two) = futures_util::join!(room.hold(300), room.hold(200));
        drop((one.unwrap(), two.unwrap()));
        room.accounts.drain().await.unwrap();
        assert_eq!(room.row().await.available(), NanoUsd(500));
        room.assert_audit_is_clean().await;
    });
}

#[test]
fn a_freeze_told_to_the_room_stops_the_next_hold() {
    run(async {
        let room = Room::warm(1_000, |_| ()).await;
        set_frozen(&room.store.db, room.account, true).await.unwrap();
        room.accounts.changed(room.account);
        assert!(matches!(room.hold(1).await, Err(HoldError::Blocked(_))));
        set_frozen(&room.store.db, room.account, false).await.unwrap();
        room.accounts.changed(room.account);
        room.hold(1_000).await.unwrap().settle(outcome(1_000)).await.unwrap();
        room.assert_audit_is_clean().await;
    });
}

#[test]
fn what_a_request_did_not_use_serves_the_next_before_any_commit() {
    run(async {
        let room = Room::warm(1_000, |_| ()).await;
        let hold = room.hold(1_000).await.unwrap();
        let denied = room.hold(1).await.unwrap_err();
        assert!(
            matches!(denied, HoldError::Denied(row) if row.leased == NanoUsd(1_000)),
            "{denied:?}"
        );
        let (go, wait) = tokio::sync::oneshot::channel();
        room.next([Step::Wait(wait)]);
        let settling = hold.settle(outcome(300));
        let next = room.hold(700).await.unwrap();
        assert!(!next.may_release());
        go.send(()).unwrap();
        settling.await.unwrap();
        next.settle(outcome(700)).await.unwrap();
        assert_eq!(room.row().await.balance(), NanoUsd::ZERO);
        room.assert_audit_is_clean().await;
    });
}

#[test]
fn a_frozen_account_stops_within_the_time_that_a_row_is_believed() {
    run(async {
        let room = Room::warm(1_000, |limits| limits.cache_ttl_ms = 50).await;
        set_frozen(&room.store.db, room.account, true).await.unwrap();
        let blocked = wait_until(async || room.hold(1).await.err());
        assert!(matches!(blocked.await, HoldError::Blocked(_)));
        wait_until(async || (room.row().await.leased == NanoUsd::ZERO).then_some(())).await;
        set_frozen(&room.store.db, room.account, false).await.unwrap();
        wait_until(async || room.hold(1).await.ok().map(drop)).await;
        room.accounts.drain().await.unwrap();
        room.assert_audit_is_clean().await;
    });
}

#[test]
fn an_idle_account_gives_everything_back_and_leaves_memory() {
    run(async {
        let room = Room::warm(1_000, |limits| limits.account_idle_ms = 100).await;
        assert_eq!(room.row().await.available(), NanoUsd::ZERO, "its lease has everything");
        wait_until(async || {
            let live = room.accounts.observe().await.unwrap().registry.live;
            (live == 0).then_some(())
        })
        .await;
        assert_eq!(room.row().await.available(), NanoUsd(1_000));
        room.hold(1_000).await.unwrap().settle(outcome(10)).await.unwrap();
        assert_eq!(room.row().await.balance(), NanoUsd(990));
        room.assert_audit_is_clean().await;
    });
}

#[test]
fn a_top_up_reaches_a_lease_that_has_everything_else() {
    run(async {
        let room = Room::warm(100, |_| ()).await;
        assert!(matches!(room.hold(150).await, Err(HoldError::Denied(_))));
        top_up(&room.store.db, room.account, NanoUsd(50), "ref").await.unwrap();
        let hold = room.hold(150).await.unwrap();
        assert_eq!(hold.settle(outcome(150)).await.unwrap().account.balance(), NanoUsd::ZERO);
        room.assert_audit_is_clean().await;
    });
}

#[test]
fn a_lease_of_a_dead_instance_returns_and_unshown_holds_cost_nothing() {
    run(async {
        let room = Room::warm(1_000, |_| ()).await;
        let durable = {
            let mut hold = room.hold(300).await.unwrap();
            hold.durable().await.unwrap();
            hold
        };
        room.next([Step::Fence]);
        let shown = match room.hold(200).await {
            Ok(mut lost) => lost.durable().await,
            Err(error) => Err(error),
        };
        assert_eq!(shown.unwrap_err(), HoldError::Unavailable);
        assert!(!durable.may_release() && room.accounts.stopped().is_some());
        let store = room.store.clone();
        let next = Accounts::start_with(store, &room.limits, LeasePolicy::Auto).await.unwrap();
        assert!(next.is_ready());
        let row = room.row().await;
        assert_eq!((row.available(), row.balance()), (NanoUsd(1_000), NanoUsd(1_000)));
        room.assert_audit_is_clean().await;
    });
}

#[test]
fn lost_answers_in_any_place_double_and_lose_nothing() {
    run(async {
        let room = Room::warm(100_000, |_| ()).await;
        let faults = (0..12).map(|n| if n % 4 == 3 { Step::Refuse } else { Step::LoseReply });
        room.next(faults);
        let mut expected = 0;
        let mut settling = Vec::new();
        for n in 0..40_i64 {
            let hold = match room.hold(100 + n).await {
                Ok(hold) => hold,
                // The database is away at this moment; the client tries again.
                Err(HoldError::Unavailable) => {
                    wait_until(async || room.accounts.is_ready().then_some(())).await;
                    continue;
                }
                Err(other) => panic!("{other:?}"),
            };
            expected += n;
            settling.push(hold.settle(outcome(n.cast_unsigned())));
        }
        for settled in join_all(settling).await {
            settled.unwrap();
        }
        assert!(expected > 0);
        assert_eq!(room.row().await.balance(), NanoUsd(100_000 - expected));
        room.assert_audit_is_clean().await;
    });
}
