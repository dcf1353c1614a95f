//! The ledger's transactions on both databases.

mod auditing;
mod books;
mod budgets;
mod flush;
mod idempotency;
mod leases;
mod margins;
mod recovery;
mod room;
mod sealing;
mod usage;

use std::{collections::BTreeMap, sync::Arc};

use faces::{
    domain::{
        AccountId, ChargeRate, HoldId, InstanceId, NanoUsd, PriceId, TokenPrices, Usage,
        UsageBasis,
        ledger::{
            AccountRow, Attempt, Checkpoint, Finish, FlushBatch, FlushReply, HoldOpen, HoldResolve,
            LeaseOp, Leg, OpenVerdict,
        },
    },
    storage::{
        Db,
        accounts::{CreditSource, NewAccount, create_account, read_account_row},
        ledger::{self, FlushError},
        prices::sync_price,
    },
};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement, Value};

use crate::store::TestStore;

const TTL_MS: i64 = 10_000;

/// One nano-USD per token, so that a usage's tokens are its cost.
fn rate() -> ChargeRate {
    ChargeRate {
        prices: TokenPrices { input_pico: 1_000, output_pico: 1_000, ..TokenPrices::default() },
        markup_bps: 0,
    }
}

/// A database, an instance that flushes, and a wallet.
struct Books {
    db: Db,
    instance: InstanceId,
    account: AccountId,
    price: PriceId,
}

impl Books {
    async fn new(store: &TestStore, credit: i64) -> Self {
        let db = store.db.clone();
        let account = wallet(&db, credit).await;
        let price = sync_price(&db, "m", rate()).await.unwrap();
        let instance = instance(&db).await;
        Self { db, instance, account, price }
    }

    fn open(&self, amount: i64) -> HoldOpen {
        self.open_between(amount, amount)
    }

    fn open_between(&self, funds_min: i64, amount: i64) -> HoldOpen {
        HoldOpen {
            hold_id: HoldId::generate(),
            account_id: self.account,
            key_id: None,
            face_id: None,
            amount: NanoUsd(amount),
            cap_id: None,
            funds_min: NanoUsd(funds_min),
            legs: vec![leg(self.account)],
            price_id: self.price,
            model: "m \"quoted\" \u{0}".to_owned(),
            idem: None,
        }
    }

    async fn flush(&self, seq: i64, batch: FlushBatch) -> Result<FlushReply, FlushError> {
        ledger::flush(&self.db, self.instance, seq, TTL_MS, Arc::new(batch)).await
    }

    async fn row(&self) -> AccountRow {
        read_account_row(&self.db, self.account).await.unwrap().unwrap()
    }

    async fn assert_audit_is_clean(&self) {
        let report = ledger::audit(&self.db).await.unwrap();
        assert!(report.clean, "{report:#?}");
    }
}

async fn wallet(db: &Db, credit: i64) -> AccountId {
    let new = NewAccount {
        id: AccountId::generate(),
        name: "Ada".to_owned(),
        credit: NanoUsd(credit),
        credit_source: CreditSource::Cash,
    };
    create_account(db, new).await.unwrap().id
}

async fn instance(db: &Db) -> InstanceId {
    let instance = InstanceId::generate();
    ledger::register_instance(db, instance, "test".to_owned(), TTL_MS).await.unwrap();
    instance
}

fn opens(opens: Vec<HoldOpen>) -> FlushBatch {
    FlushBatch { opens, ..FlushBatch::default() }
}

/// Everything that a hold needs comes from the account's row.
fn leg(account_id: AccountId) -> Leg {
    let none = NanoUsd::ZERO;
    Leg { account_id, aside: none, spare: none, want: none, is_shared: false }
}

/// Ends holds, gives their rests back and folds the charges.
fn resolves(resolves: Vec<HoldResolve>) -> FlushBatch {
    let mut rests: BTreeMap<AccountId, i64> = BTreeMap::new();
    for end in &resolves {
        for account_id in std::iter::once(end.account_id).chain(end.cap_id) {
            *rests.entry(account_id).or_default() += end.amount.0 - end.charge.0;
        }
    }
    let lease = |(account_id, rest)| LeaseOp { account_id, give_back: NanoUsd(rest), fold: true };
    FlushBatch { leases: rests.into_iter().map(lease).collect(), resolves, ..FlushBatch::default() }
}

/// Settles `open` with `cost`, of which the hold's amount is charged.
fn settle(open: &HoldOpen, cost: i64) -> HoldResolve {
    let charge = cost.min(open.amount.0);
    HoldResolve {
        hold_id: open.hold_id,
        account_id: open.account_id,
        cap_id: open.cap_id,
        amount: open.amount,
        charge: NanoUsd(charge),
        overrun: NanoUsd(cost - charge),
        provider_cost: NanoUsd::ZERO,
        usage: Usage { output_text: cost.cast_unsigned(), ..Usage::default() },
        basis: UsageBasis::Provider,
        finish: Finish::Complete,
        attempts: vec![Attempt {
            provider: "p".to_owned(),
            upstream_model: "m".to_owned(),
            status: 200,
            upstream_id: Some("nul \u{0} and \\ and é".to_owned()),
            started_at: 1,
            ended_at: 2,
        }],
        idem: None,
    }
}

/// What `open` has used so far.
fn checkpoint(open: &HoldOpen, cost: i64) -> Checkpoint {
    Checkpoint {
        hold_id: open.hold_id,
        cost: NanoUsd(cost),
        usage: Usage { output_text: cost.cast_unsigned(), ..Usage::default() },
        basis: UsageBasis::Counted,
    }
}

fn void(open: &HoldOpen) -> HoldResolve {
    HoldResolve {
        charge: NanoUsd::ZERO,
        usage: Usage::default(),
        finish: Finish::Failed,
        attempts: Vec::new(),
        ..settle(open, 0)
    }
}

fn granted(verdicts: &[OpenVerdict]) -> usize {
    verdicts.iter().filter(|verdict| matches!(verdict, OpenVerdict::Granted { .. })).count()
}

/// Changes rows past the server's code.
async fn spoil(raw: &DatabaseConnection, sql: &str, values: Vec<Value>) {
    let backend = raw.get_database_backend();
    let statement = Statement::from_sql_and_values(backend, sql, values);
    let changed = raw.execute_raw(statement).await.unwrap().rows_affected();
    assert!(changed > 0, "nothing was spoiled by {sql}");
}

/// Lets [`spoil`] write what the schema forbids.
async fn without_checks(raw: &DatabaseConnection) {
    if raw.get_database_backend() == DbBackend::Sqlite {
        raw.execute_unprepared("PRAGMA ignore_check_constraints = ON").await.unwrap();
        return;
    }
    let drop_all = "DO $$ DECLARE r record; BEGIN
        FOR r IN SELECT conrelid::regclass AS t, conname FROM pg_constraint
            WHERE contype = 'c' AND conrelid::regclass::text LIKE 'ledger%'
        LOOP EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', r.t, r.conname); END LOOP;
        END $$";
    raw.execute_unprepared(drop_all).await.unwrap();
}
