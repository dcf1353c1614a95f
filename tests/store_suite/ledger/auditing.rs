//! The audit finds what is planted.

use faces::storage::{Db, DbOptions, DbRole, ledger::audit};
use sea_orm::Value;

use super::{Books, budgets::Budgeted, opens, resolves, settle, spoil, void, without_checks};
use crate::store::TestStore;

async fn a_reader_beside_a_running_server_audits_it(store: TestStore) {
    let books = Books::new(&store, 1_000).await;
    let open = books.open(100);
    books.flush(1, opens(vec![open.clone()])).await.unwrap();
    let options = DbOptions { role: DbRole::ReadOnly, migrate: false, ..store.options() };
    let reader = Db::open(options).await.unwrap();
    let during = audit(&reader).await.unwrap();
    assert!(during.clean, "{during:#?}");
    assert_eq!((during.counts.holds_open, during.totals.leased), (1, 100));
    books.flush(2, resolves(vec![settle(&open, 30)])).await.unwrap();
    let after = audit(&reader).await.unwrap();
    assert!(after.clean, "{after:#?}");
    assert_eq!((after.totals.debits, after.totals.revenue), (30, 30));
    assert_eq!((after.totals.credits, after.totals.cash_clearing), (1_000, -1_000));
}

/// Spoils clean books by one statement; the audit must name the invariant.
async fn check(store: &TestStore, invariant: &str, sql: &str, which: Which) {
    let budgeted = Budgeted::new(store, 1_000, 500).await;
    let (open, settled, voided) = (budgeted.open(100), budgeted.open(100), budgeted.open(100));
    let books = &budgeted.books;
    let batch = opens(vec![open.clone(), settled.clone(), voided.clone()]);
    books.flush(1, batch).await.unwrap();
    let ends = resolves(vec![settle(&settled, 130), void(&voided)]);
    books.flush(2, ends).await.unwrap();
    books.assert_audit_is_clean().await;
    let raw = store.raw().await;
    without_checks(&raw).await;
    let values: Vec<Value> = match which {
        Which::Account => vec![books.account.0.into()],
        Which::Budget => vec![budgeted.cap.0.into()],
        Which::Settled => vec![settled.hold_id.0.into()],
        Which::Voided => vec![voided.hold_id.0.into()],
        Which::Open => vec![open.hold_id.0.into()],
    };
    spoil(&raw, sql, values).await;
    let report = audit(&books.db).await.unwrap();
    assert!(!report.clean, "not found: {sql}");
    let named = report.differences.iter().any(|difference| difference.invariant == invariant);
    assert!(named, "{sql} must be named {invariant}: {:#?}", report.differences);
    let json = serde_json::to_value(&report).unwrap();
    assert!(json["differences"][0]["what"].is_string());
}

enum Which {
    Account,
    Budget,
    Settled,
    Voided,
    Open,
}

macro_rules! planted {
    ($($name:ident: $invariant:literal, $which:ident, $sql:literal;)+) => {
        $(async fn $name(store: TestStore) {
            check(&store, $invariant, $sql, Which::$which).await;
        })+
        crate::on_both_databases! { a_reader_beside_a_running_server_audits_it, $($name,)+ }
    };
}

planted! {
    an_account_that_owes_more_than_it_has: "I1", Account,
        "UPDATE ledger_account SET leased = credits + 1 WHERE id = $1";
    a_budget_that_is_overspent: "I1", Budget,
        "UPDATE ledger_account SET leased = credits + 1 WHERE id = $1";
    a_settled_hold_without_its_charge: "I2", Settled,
        "DELETE FROM ledger_transfer WHERE id = $1 AND kind = 1";
    a_charge_of_another_amount: "I2", Settled,
        "UPDATE ledger_transfer SET amount = amount + 1 WHERE id = $1 AND kind = 1";
    a_charge_of_a_hold_that_is_open: "I2", Open,
        "INSERT INTO ledger_transfer (id, kind, debit_account, credit_account, amount, hold_id, created_at)
         SELECT id, 1, account_id, instance_id, 5, id, 0 FROM ledger_hold WHERE id = $1";
    a_voided_hold_with_a_cost: "I2", Voided,
        "UPDATE ledger_hold SET cost = 1 WHERE id = $1";
    a_lease_that_posted_what_no_hold_cost: "I2", Account,
        "UPDATE ledger_lease SET posted = posted - 1, folded = folded - 1 WHERE account_id = $1";
    a_budget_charged_for_what_no_hold_cost: "I2", Budget,
        "UPDATE ledger_lease SET posted = posted - 1, folded = folded - 1 WHERE account_id = $1";
    credits_that_nobody_paid: "I4", Account,
        "UPDATE ledger_account SET credits = credits + 1 WHERE id = $1";
    debits_without_a_charge: "I4", Account,
        "UPDATE ledger_account SET debits = debits + 1 WHERE id = $1";
    a_budget_with_debits_without_a_hold: "I4", Budget,
        "UPDATE ledger_account SET debits = debits + 1 WHERE id = $1";
    a_hold_on_another_keys_budget: "I4", Budget,
        "UPDATE ledger_account SET owner_id = parent_id WHERE id = $1";
    a_hold_on_a_budget_of_another_wallet: "I4", Budget,
        "UPDATE ledger_account SET parent_id = owner_id WHERE id = $1";
    an_operator_account_with_counters: "I4", Account,
        "UPDATE ledger_account SET credits = 1 WHERE kind = 101 AND id <> $1";
    a_transfer_of_nobody: "I4", Settled,
        "UPDATE ledger_transfer SET credit_account = id WHERE id = $1 AND kind = 1";
    a_hold_without_an_account: "I4", Open,
        "UPDATE ledger_hold SET account_id = id WHERE id = $1";
    leased_credit_without_a_lease: "I5", Account,
        "UPDATE ledger_account SET leased = leased + 1 WHERE id = $1";
    a_leased_budget_without_a_lease: "I5", Budget,
        "UPDATE ledger_account SET leased = leased + 1 WHERE id = $1";
    a_lease_of_a_budget_smaller_than_its_holds: "I6", Budget,
        "UPDATE ledger_lease SET granted = granted - 1 WHERE account_id = $1";
    an_open_hold_without_a_lease_on_its_budget: "I6", Budget,
        "UPDATE ledger_lease SET state = 2 WHERE account_id = $1";
    a_lease_smaller_than_its_holds: "I6", Account,
        "UPDATE ledger_lease SET granted = granted - 1 WHERE account_id = $1";
    an_open_hold_without_a_lease: "I6", Account,
        "UPDATE ledger_lease SET state = 2 WHERE account_id = $1";
    a_cost_above_its_hold: "I8", Settled,
        "UPDATE ledger_hold SET cost = amount + 1 WHERE id = $1";
    an_open_hold_with_a_cost: "I8", Open,
        "UPDATE ledger_hold SET cost = 0 WHERE id = $1";
    a_settled_hold_without_usage: "I8", Settled,
        "DELETE FROM ledger_usage WHERE hold_id = $1";
    usage_without_a_settled_hold: "I8", Open,
        "INSERT INTO ledger_usage SELECT id, 0, 0, 0, 0, 0, 0, 1, 1 FROM ledger_hold WHERE id = $1";
    usage_that_costs_something_else: "I8", Settled,
        "UPDATE ledger_usage SET out_text = out_text + 1 WHERE hold_id = $1";
    an_overrun_that_was_not_used: "I8", Settled,
        "UPDATE ledger_transfer SET amount = amount + 1 WHERE id = $1 AND kind = 4";
    a_price_that_is_not_in_the_list: "I8", Settled,
        "UPDATE ledger_hold SET price_id = 12345 WHERE id = $1";
}
