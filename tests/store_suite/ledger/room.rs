//! The room `accounts` on both databases.

use std::time::Duration;

use faces::{
    accounts::{Accounts, Hold, HoldError, HoldRequest, Outcome, Payer},
    config::{LeasePolicy, limits::Limits},
    domain::{NanoUsd, Usage, UsageBasis, ledger::Finish},
    storage::ledger,
};
use futures_util::future::join_all;
use tokio::task::LocalSet;

use super::{Books, rate, spoil};
use crate::store::TestStore;

fn outcome(tokens: u64) -> Outcome {
    Outcome {
        usage: Usage { output_text: tokens, ..Usage::default() },
        basis: UsageBasis::Provider,
        finish: Finish::Complete,
        attempts: Vec::new(),
        payer: Payer::Customer,
    }
}

fn request(books: &Books, amount: i64) -> HoldRequest {
    let open = books.open(amount);
    HoldRequest { amount_max: open.amount, slice: NanoUsd::ZERO, open, rate: rate() }
}

async fn sixty_four_clients_of_two_instances_share_credit_for_ten(store: TestStore) {
    let books = Books::new(&store, 1_000).await;
    let limits = Limits::default();
    let test = async {
        let first = Accounts::start(books.db.clone(), &limits, LeasePolicy::Exact).await.unwrap();
        let mut rooms = vec![first];
        if !books.db.is_sqlite() {
            rooms.push(
                Accounts::start(books.db.clone(), &limits, LeasePolicy::Exact).await.unwrap(),
            );
        }
        let clients = (0..64).map(|client| rooms[client % rooms.len()].hold(request(&books, 100)));
        let (granted, denied): (Vec<_>, Vec<_>) =
            join_all(clients).await.into_iter().partition(Result::is_ok);
        assert_eq!((granted.len(), denied.len()), (10, 54));
        let only_denied = denied.iter().all(|one| matches!(one, Err(HoldError::Denied(_))));
        assert!(only_denied, "{denied:?}");
        let granted: Vec<Hold> = granted.into_iter().map(Result::unwrap).collect();
        let settled = join_all(granted.into_iter().map(|hold| hold.settle(outcome(100)))).await;
        assert!(settled.iter().all(Result::is_ok), "{settled:?}");
        for room in &rooms {
            assert_eq!(room.drain().await.unwrap().holds_recovered, 0);
        }
    };
    LocalSet::new().run_until(test).await;
    assert_eq!(books.row().await.balance(), NanoUsd::ZERO);
    books.assert_audit_is_clean().await;
}

async fn an_instance_that_was_away_too_long_is_taken_over_and_stops(store: TestStore) {
    let books = Books::new(&store, 1_000).await;
    let limits = Limits::default();
    let raw = store.raw().await;
    let test = async {
        let paused = Accounts::start(books.db.clone(), &limits, LeasePolicy::Exact).await.unwrap();
        let hold = paused.hold(request(&books, 300)).await.unwrap();
        let sql = "UPDATE ledger_instance SET expires_at = 0 WHERE id = $1";
        spoil(&raw, sql, vec![paused.instance().0.into()]).await;
        let next = Accounts::start(books.db.clone(), &limits, LeasePolicy::Exact).await.unwrap();
        assert_eq!(books.row().await.leased, NanoUsd::ZERO);
        assert!(hold.settle(outcome(5)).await.is_err());
        assert!(paused.stopped().is_some());
        assert!(matches!(paused.hold(request(&books, 1)).await, Err(HoldError::Unavailable)));
        next.hold(request(&books, 300)).await.unwrap().settle(outcome(7)).await.unwrap();
    };
    LocalSet::new().run_until(test).await;
    assert_eq!(books.row().await.debits, NanoUsd(7));
    books.assert_audit_is_clean().await;
}

/// Waits for the instance's flush of that number, ten seconds at most.
async fn wait_flush_seq(room: &Accounts, seq: i64) {
    let renewed = async {
        while room.observe().await.unwrap().writer.flush_seq < seq {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), renewed).await.unwrap();
}

async fn an_idle_instance_renews_itself_where_others_could_take_over(store: TestStore) {
    let books = Books::new(&store, 1_000).await;
    if books.db.is_sqlite() {
        return;
    }
    let test = async {
        let room = Accounts::start(books.db.clone(), &Limits::default(), LeasePolicy::Exact)
            .await
            .unwrap();
        wait_flush_seq(&room, 2).await;
        assert!(room.is_ready());
        assert_eq!(room.observe().await.unwrap().writer.flushes, 0);
    };
    LocalSet::new().run_until(test).await;
    assert!(ledger::audit(&books.db).await.unwrap().clean);
}

crate::on_both_databases! {
    sixty_four_clients_of_two_instances_share_credit_for_ten,
    an_instance_that_was_away_too_long_is_taken_over_and_stops,
    an_idle_instance_renews_itself_where_others_could_take_over,
}
