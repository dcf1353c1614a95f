//! The room on a real SQLite database.

use std::{
    collections::VecDeque,
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};

use actix::{Context, Handler, Message, System};
use futures_util::future::{BoxFuture, join_all};
use tempfile::TempDir;

use super::{
    Accounts, Hold, HoldError, HoldRequest, LedgerStore, Outcome, Payer, SettleError,
    account::AccountActor,
};
use crate::{
    config::limits::Limits,
    domain::{
        AccountId, ChargeRate, HoldId, InstanceId, NanoUsd, PriceId, TokenPrices, Usage,
        UsageBasis,
        ledger::{AccountRow, Finish, FlushBatch, FlushReply, FreeUse, HoldOpen},
    },
    storage::{
        DatabaseUrl, Db, DbOptions, DbRole, StorageError,
        accounts::{CreditSource, NewAccount, create_account, set_frozen},
        ledger::{FlushError, RecoveryReport, audit},
        prices::sync_price,
    },
};

/// One nano-USD per token.
fn rate() -> ChargeRate {
    ChargeRate {
        prices: TokenPrices { output_pico: 1_000, ..TokenPrices::default() },
        markup_bps: 0,
    }
}

/// What happens to the next flush.
enum Step {
    /// It is committed, and its answer gets lost.
    LoseReply,
    /// It does not reach the database.
    Refuse,
    /// It waits until the receiver hears something.
    Wait(tokio::sync::oneshot::Receiver<()>),
    /// Another instance has fenced this one.
    Fence,
}

/// A database with a script of faults.
struct Scripted {
    db: Db,
    steps: Mutex<VecDeque<Step>>,
}

impl LedgerStore for Scripted {
    fn is_shared(&self) -> bool {
        self.db.is_shared()
    }

    fn register(
        &self,
        instance: InstanceId,
        node: String,
        ttl_ms: i64,
    ) -> BoxFuture<'static, Result<(), StorageError>> {
        self.db.register(instance, node, ttl_ms)
    }

    fn flush(
        &self,
        instance: InstanceId,
        seq: i64,
        ttl_ms: i64,
        batch: Arc<FlushBatch>,
    ) -> BoxFuture<'static, Result<FlushReply, FlushError>> {
        let lost = StorageError::Unavailable { what: "scripted", source: None };
        let step = self.steps.lock().unwrap().pop_front();
        let flush = self.db.flush(instance, seq, ttl_ms, batch);
        Box::pin(async move {
            match step {
                None => flush.await,
                Some(Step::LoseReply) => {
                    flush.await?;
                    Err(FlushError::Retry(lost))
                }
                Some(Step::Refuse) => Err(FlushError::Retry(lost)),
                Some(Step::Wait(go)) => {
                    go.await.unwrap();
                    flush.await
                }
                Some(Step::Fence) => Err(FlushError::Fenced),
            }
        })
    }

    fn recover(&self, me: InstanceId) -> BoxFuture<'static, Result<RecoveryReport, StorageError>> {
        self.db.recover(me)
    }

    fn close(&self, me: InstanceId) -> BoxFuture<'static, Result<u64, StorageError>> {
        LedgerStore::close(&self.db, me)
    }

    fn account_row(
        &self,
        account: AccountId,
    ) -> BoxFuture<'static, Result<Option<AccountRow>, StorageError>> {
        self.db.account_row(account)
    }
}

/// The room, one wallet and its database.
struct Room {
    accounts: Accounts,
    store: Arc<Scripted>,
    account: AccountId,
    price: PriceId,
    limits: Limits,
    _directory: TempDir,
}

impl Room {
    async fn new(credit: i64, limit: impl FnOnce(&mut Limits)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = DbOptions {
            url: DatabaseUrl::Sqlite(directory.path().join("faces.db")),
            connections_max: 2,
            acquire_timeout_ms: 5_000,
            migrate: true,
            role: DbRole::Server,
        };
        let db = Db::open(options).await.unwrap();
        let new = NewAccount {
            id: AccountId::generate(),
            name: "Ada".to_owned(),
            credit: NanoUsd(credit),
            credit_source: CreditSource::Cash,
        };
        let account = create_account(&db, new).await.unwrap().id;
        let price = sync_price(&db, "m", rate()).await.unwrap();
        let mut limits = Limits::default();
        limit(&mut limits);
        let store = Arc::new(Scripted { db, steps: Mutex::default() });
        let accounts = Accounts::start_with(store.clone(), &limits).await.unwrap();
        Self { accounts, store, account, price, limits, _directory: directory }
    }

    fn request(&self, amount: i64) -> HoldRequest {
        let open = HoldOpen {
            hold_id: HoldId::generate(),
            account_id: self.account,
            key_id: None,
            face_id: None,
            amount: NanoUsd(amount),
            amount_min: NanoUsd(amount),
            price_id: self.price,
            model: "m".to_owned(),
        };
        HoldRequest { open, rate: rate() }
    }

    async fn hold(&self, amount: i64) -> Result<Hold, HoldError> {
        self.accounts.hold(self.request(amount)).await
    }

    fn next(&self, steps: impl IntoIterator<Item = Step>) {
        self.store.steps.lock().unwrap().extend(steps);
    }

    async fn row(&self) -> AccountRow {
        self.accounts.account_row(self.account).await.unwrap().unwrap()
    }

    /// Waits (bounded) until nothing is held.
    async fn until_released(&self) -> AccountRow {
        until(async || {
            let row = self.row().await;
            (row.leased == NanoUsd::ZERO).then_some(row)
        })
        .await
    }

    async fn assert_audit_is_clean(&self) {
        let report = audit(&self.store.db).await.unwrap();
        assert!(report.clean, "{report:#?}");
    }
}

/// Asks until there is an answer, for five seconds at most.
async fn until<T>(ask: impl AsyncFn() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), asking).await.expect("it did not happen in time")
}

fn used(tokens: u64) -> Usage {
    Usage { output_text: tokens, ..Usage::default() }
}

fn outcome(tokens: u64) -> Outcome {
    Outcome {
        usage: used(tokens),
        basis: UsageBasis::Provider,
        finish: Finish::Complete,
        attempt: None,
        payer: Payer::Customer,
    }
}

fn run(test: impl Future<Output = ()>) {
    System::new().block_on(test);
}

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
        let operator =
            Outcome { payer: Payer::Operator, finish: Finish::UpstreamError, ..outcome(60) };
        let settled = room.hold(100).await.unwrap().settle(operator).await.unwrap();
        assert_eq!((settled.charge, settled.provider_cost), (NanoUsd::ZERO, NanoUsd(60)));
        assert_eq!(room.row().await.balance(), NanoUsd(900));
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
        drop(room.hold(400).await.unwrap().void(None));
        assert_eq!(room.until_released().await.debits, NanoUsd(40));
        room.assert_audit_is_clean().await;
    });
}

#[test]
fn a_hold_whose_caller_left_is_voided() {
    run(async {
        let room = Room::new(1_000, |_| ()).await;
        let (go, wait) = tokio::sync::oneshot::channel();
        room.next([Step::Wait(wait)]);
        let left = tokio::time::timeout(Duration::from_millis(20), room.hold(400)).await;
        assert!(left.is_err());
        go.send(()).unwrap();
        until(async || {
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
        until(async || (!room.accounts.is_ready()).then_some(())).await;
        assert_eq!(room.hold(1).await.unwrap_err(), HoldError::Unavailable);
        assert_eq!(settling.await.unwrap_err(), SettleError::Pending);
        assert_eq!(room.until_released().await.debits, NanoUsd(100));
        until(async || room.accounts.is_ready().then_some(())).await;
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
        let next = Accounts::start_with(room.store.clone(), &room.limits).await.unwrap();
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
        drop(until(async || room.hold(1).await.ok()).await);
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
        let resolve = super::core::resolve(
            &super::core::HoldTerms {
                hold_id: open.hold_id,
                account_id: open.account_id,
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
        let seen = until(async || {
            let seen = room.accounts.observe().await.unwrap().registry;
            (seen.live == 0 && seen.passivated == 1).then_some(seen)
        })
        .await;
        assert_eq!((seen.started, seen.panicked), (1, 0));
        room.hold(100).await.unwrap().settle(outcome(1)).await.unwrap();
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
fn a_panicked_actor_is_replaced_and_its_hold_still_settles() {
    run(async {
        let room = Room::new(1_000, |_| ()).await;
        let hold = room.hold(100).await.unwrap();
        let actor = room.accounts.inner.live.read().unwrap()[&room.account].clone();
        assert!(actor.send(Panic).await.is_err());
        let other = room.hold(100).await.unwrap();
        hold.settle(outcome(10)).await.unwrap();
        other.settle(outcome(10)).await.unwrap();
        let seen = room.accounts.observe().await.unwrap();
        assert_eq!((seen.registry.panicked, seen.registry.live, seen.ready), (1, 1, true));
        room.assert_audit_is_clean().await;
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
        until(async || threads.iter().all(|thread| thread.is_finished()).then_some(())).await;
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(room.row().await.debits, NanoUsd(96));
        room.assert_audit_is_clean().await;
    });
}
