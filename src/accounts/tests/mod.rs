//! The room on a real SQLite database.

mod faults;
mod growing;
mod money;
mod protocol;
mod retained;
mod sim;

use std::{
    collections::VecDeque,
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};

use actix::System;
use futures_util::future::BoxFuture;
use tempfile::TempDir;

use super::{Accounts, Hold, HoldError, HoldRequest, LedgerStore, Outcome, Payer};
use crate::{
    config::{LeasePolicy, limits::Limits},
    domain::{
        AccountId, ChargeRate, HoldId, InstanceId, NanoUsd, PriceId, TokenPrices, Usage,
        UsageBasis,
        ledger::{AccountRow, Finish, FlushBatch, FlushReply, HoldOpen},
    },
    storage::{
        DatabaseUrl, Db, DbOptions, DbRole, StorageError,
        accounts::{CreditSource, NewAccount, create_account},
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

    fn account_rows(
        &self,
        accounts: Vec<AccountId>,
    ) -> BoxFuture<'static, Result<Vec<AccountRow>, StorageError>> {
        self.db.account_rows(accounts)
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
        Self::with_policy(LeasePolicy::Exact, credit, limit).await
    }

    async fn with_policy(
        policy: LeasePolicy,
        credit: i64,
        limit: impl FnOnce(&mut Limits),
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = DbOptions {
            url: DatabaseUrl::Sqlite(directory.path().join("faces.db")),
            connections_max: 2,
            acquire_timeout_ms: 5_000,
            read_timeout_ms: 5_000,
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
        let accounts = Accounts::start_with(store.clone(), &limits, policy).await.unwrap();
        Self { accounts, store, account, price, limits, _directory: directory }
    }

    fn request(&self, amount: i64) -> HoldRequest {
        let open = HoldOpen {
            hold_id: HoldId::generate(),
            account_id: self.account,
            key_id: None,
            face_id: None,
            amount: NanoUsd(amount),
            cap_id: None,
            funds_min: NanoUsd(amount),
            legs: Vec::new(),
            price_id: self.price,
            model: "m".to_owned(),
            idem: None,
        };
        HoldRequest { amount_max: open.amount, slice: NanoUsd(1), open, rate: rate() }
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
        wait_until(async || {
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
async fn wait_until<T>(ask: impl AsyncFn() -> Option<T>) -> T {
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
        attempts: Vec::new(),
        payer: Payer::Customer,
    }
}

fn run(test: impl Future<Output = ()>) {
    System::new().block_on(test);
}
