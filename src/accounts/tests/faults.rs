//! Lost answers, an absent database, fencing, full queues, panics.

use std::time::Duration;

use actix::{Context, Handler, Message};

use super::{Room, Step, outcome, run, wait_until};
use crate::{
    accounts::{
        Accounts, HoldError, SettleError, account::AccountActor, handle::deliver, messages::Sweep,
    },
    config::LeasePolicy,
    domain::NanoUsd,
};

#[test]
fn a_lost_answer_neither_doubles_nor_loses_anything() {
    run(async {
        let room = Room::new(1_000, |_| ()).await;
        room.next([Step::LoseReply]);
        let hold = room.hold(600).await.unwrap();
        room.next([Step::LoseReply, Step::Refuse]);
        assert_eq!(hold.settle(outcome(250)).await.unwrap().charge, NanoUsd(250));
        room.next([Step::LoseReply]);
        assert!(matches!(room.hold(800).await, Err(HoldError::Denied(_))));
        assert_eq!(room.row().await.available(), NanoUsd(750));
        room.assert_audit_is_clean().await;
    });
}

#[test]
fn while_the_database_is_away_holds_are_refused_and_settlements_wait() {
    run(async {
        let room = Room::new(1_000, |limits| limits.ledger_wait_ms = 100).await;
        let hold = room.hold(600).await.unwrap();
        room.next((0..5).map(|_| Step::Refuse));
        let settling = hold.settle(outcome(100));
        wait_until(async || (!room.accounts.is_ready()).then_some(())).await;
        assert_eq!(room.hold(1).await.unwrap_err(), HoldError::Unavailable);
        assert_eq!(settling.await.unwrap_err(), SettleError::Pending);
        assert_eq!(room.until_released().await.debits, NanoUsd(100));
        wait_until(async || room.accounts.is_ready().then_some(())).await;
        drop(room.hold(1).await.unwrap());
        room.until_released().await;
        room.assert_audit_is_clean().await;
    });
}

#[test]
fn a_fenced_instance_stops_for_good_and_the_next_one_recovers() {
    run(async {
        let room = Room::new(1_000, |_| ()).await;
        let hold = room.hold(600).await.unwrap();
        assert!(hold.may_release());
        room.next([Step::Fence]);
        let request = room.request(1);
        let hold_id = request.open.hold_id;
        let unknown = room.accounts.hold(request).await.unwrap_err();
        assert_eq!(unknown, HoldError::OutcomeUnknown { hold_id });
        assert!(!hold.may_release());
        assert!(room.accounts.stopped().is_some());
        assert_eq!(room.hold(1).await.unwrap_err(), HoldError::Unavailable);
        assert_eq!(hold.settle(outcome(5)).await.unwrap_err(), SettleError::Stopped);
        assert!(room.accounts.drain().await.is_err());
        let next = Accounts::start_with(room.store.clone(), &room.limits, LeasePolicy::Exact)
            .await
            .unwrap();
        assert!(next.is_ready());
        let row = room.row().await;
        assert_eq!((row.leased, row.debits), (NanoUsd::ZERO, NanoUsd::ZERO));
        room.assert_audit_is_clean().await;
    });
}

#[test]
fn a_full_queue_refuses_holds_and_never_settlements() {
    run(async {
        let room = Room::new(1_000, |limits| limits.ledger_queue_ops_max = 1).await;
        let hold = room.hold(100).await.unwrap();
        let (go, wait) = tokio::sync::oneshot::channel();
        room.next([Step::Wait(wait)]);
        let settling = hold.settle(outcome(10));
        let (queued, refused, ()) =
            futures_util::join!(room.hold(1), room.hold(1), async { go.send(()).unwrap() });
        assert!(queued.is_ok());
        assert_eq!(refused.unwrap_err(), HoldError::Overloaded { retry_after_ms: 1_000 });
        assert_eq!(settling.await.unwrap().charge, NanoUsd(10));
    });
}

#[derive(Message)]
#[rtype(result = "()")]
struct Panic;

impl Handler<Panic> for AccountActor {
    type Result = ();

    fn handle(&mut self, _: Panic, _ctx: &mut Context<Self>) {
        panic!("planted");
    }
}

#[test]
fn a_panicked_actor_sets_its_account_aside_and_its_hold_still_settles() {
    run(async {
        let room = Room::new(1_000, |_| ()).await;
        let hold = room.hold(100).await.unwrap();
        let actor = room.accounts.inner.live.read().unwrap()[&room.account].clone();
        assert!(actor.send(Panic).await.is_err());
        assert_eq!(room.hold(100).await.unwrap_err(), HoldError::Unavailable);
        hold.settle(outcome(10)).await.unwrap();
        assert_eq!(room.hold(100).await.unwrap_err(), HoldError::Unavailable);
        let seen = room.accounts.observe().await.unwrap();
        assert_eq!((seen.registry.panicked, seen.registry.live, seen.ready), (1, 0, true));
        room.accounts.drain().await.unwrap();
        assert_eq!(room.row().await.available(), NanoUsd(990));
        room.assert_audit_is_clean().await;
    });
}

#[test]
fn a_hold_that_meets_an_actor_on_its_way_out_is_not_forgotten() {
    run(async {
        let room = Room::with_policy(LeasePolicy::Auto, 1_000, |_| ()).await;
        drop(room.hold(1).await.unwrap());
        let actor = room.accounts.inner.live.read().unwrap()[&room.account].clone();
        let sweep = || deliver(&actor, Sweep { idle: Duration::ZERO }).unwrap();
        // After the end, which is in its mailbox already, it gives its lease back.
        sweep();
        wait_until(async || (room.row().await.leased == NanoUsd::ZERO).then_some(())).await;
        // It leaves, and the hold is in its mailbox already.
        sweep();
        let hold = room.hold(600).await.unwrap();
        for _ in 0..2 {
            assert!(matches!(room.hold(600).await, Err(HoldError::Denied(_))));
        }
        hold.settle(outcome(250)).await.unwrap();
        room.assert_audit_is_clean().await;
    });
}
