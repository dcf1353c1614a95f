//! What SQLite plans for the ledger's statements.

use sea_orm::{ConnectionTrait as _, Statement};

use super::*;
use crate::storage::{DatabaseUrl, Db, DbOptions, DbRole};

type Plans = Vec<(&'static str, String)>;

/// The steps that SQLite plans for these statements; none may walk a table of the ledger.
async fn plans(all: Vec<&'static str>) -> Plans {
    let directory = tempfile::tempdir().unwrap();
    let db = Db::open(DbOptions {
        url: DatabaseUrl::Sqlite(directory.path().join("faces.db")),
        connections_max: 2,
        acquire_timeout_ms: 5_000,
        read_timeout_ms: 5_000,
        migrate: true,
        role: DbRole::Server,
    })
    .await
    .unwrap();
    let planned = db.run("plan", move |db| async move {
        let mut plans = Vec::new();
        for sql in all {
            let explain = format!("EXPLAIN QUERY PLAN {sql}");
            let statement = Statement::from_string(DbBackend::Sqlite, explain);
            let rows = db.writer("plan")?.query_all_raw(statement).await.unwrap();
            for row in rows {
                plans.push((sql, row.try_get_by_index::<String>(3).unwrap()));
            }
        }
        Ok(plans)
    });
    let plans = planned.await.unwrap();
    for (sql, step) in &plans {
        assert!(!step.starts_with("SCAN ledger_"), "{step}: {sql}");
    }
    plans
}

#[track_caller]
fn assert_looks_up(plans: &Plans, sql: &str, lookup: &str) {
    let of = plans.iter().filter(|(planned, _)| *planned == sql);
    let steps = of.map(|(_, step)| step.as_str()).collect::<Vec<_>>().join("\n");
    assert!(steps.contains(lookup), "{steps}\n{sql}");
}

#[tokio::test]
async fn no_statement_of_a_flush_reads_a_whole_table() {
    let sql = statements(DbBackend::Sqlite);
    let all = [
        &sql.fence,
        &sql.read_instance,
        &sql.read_accounts,
        &sql.update_accounts,
        &sql.update_leases,
        &sql.insert_leases,
        &sql.insert_holds,
        &sql.resolve_holds,
        &sql.insert_transfers,
        &sql.write_usage,
        &sql.read_leases,
        &sql.read_rows,
        &sql.extend_holds,
        &sql.checkpoint_holds,
        &sql.recover_usage,
        &sql.insert_attempts,
        &sql.read_holds,
        &sql.open_holds,
        &sql.recover_holds,
        &sql.open_leases,
        &sql.close_leases,
        &sql.read_claims,
        &sql.claim_keys,
        &sql.finish_keys,
        &sql.free_keys,
        &sql.find_key,
        &sql.purge_keys,
    ];
    let plans = plans(all.map(String::as_str).to_vec()).await;
    for (sql, lookup) in [
        (&sql.update_accounts, "ledger_account USING PRIMARY KEY (id=?)"),
        (&sql.update_leases, "ledger_lease USING PRIMARY KEY (instance_id=? AND account_id=?)"),
        (&sql.resolve_holds, "ledger_hold USING PRIMARY KEY (id=?)"),
        (&sql.extend_holds, "ledger_hold USING PRIMARY KEY (id=?)"),
        (&sql.checkpoint_holds, "ledger_hold USING PRIMARY KEY (id=?)"),
        (&sql.recover_holds, "ledger_hold USING PRIMARY KEY (id=?)"),
        (&sql.read_leases, "USING INDEX ledger_lease_account (account_id=?)"),
        (&sql.open_holds, "ledger_hold USING INDEX ledger_hold_open"),
        (&sql.read_rows, "USING INDEX ledger_hold_open (instance_id=? AND account_id=?)"),
        (&sql.read_claims, "SEARCH i USING INDEX sqlite_autoindex_ledger_idem_1"),
        (&sql.finish_keys, "ledger_idem USING INDEX ledger_idem_hold (hold_id=?)"),
        (&sql.free_keys, "ledger_idem USING INDEX ledger_idem_hold (hold_id=?)"),
        (&sql.find_key, "SEARCH i USING INDEX sqlite_autoindex_ledger_idem_1"),
        (&sql.purge_keys, "USING COVERING INDEX ledger_idem_hold (hold_id=?)"),
        (&sql.purge_keys, "SEARCH i USING INDEX ledger_idem_expiry (expires_at<?)"),
    ] {
        assert_looks_up(&plans, sql, lookup);
    }
}

#[tokio::test]
async fn no_statement_of_a_row_reads_a_whole_table() {
    let sql = by_row();
    let lookups = [
        (&sql.read_accounts, "SEARCH a USING PRIMARY KEY (id=?)"),
        (&sql.read_leases, "USING INDEX ledger_lease_account (account_id=?)"),
        (&sql.read_claims, "SEARCH i USING INDEX sqlite_autoindex_ledger_idem_1"),
        (&sql.update_accounts, "ledger_account USING PRIMARY KEY (id=?)"),
        (&sql.update_leases, "ledger_lease USING PRIMARY KEY (instance_id=? AND account_id=?)"),
        (&sql.extend_holds, "ledger_hold USING PRIMARY KEY (id=?)"),
        (&sql.checkpoint_holds, "ledger_hold USING PRIMARY KEY (id=?)"),
        (&sql.resolve_holds, "ledger_hold USING PRIMARY KEY (id=?)"),
        (&sql.finish_keys, "ledger_idem USING INDEX ledger_idem_hold (hold_id=?)"),
        (&sql.free_keys, "ledger_idem USING INDEX ledger_idem_hold (hold_id=?)"),
    ];
    let inserts = [
        &sql.insert_leases,
        &sql.insert_holds,
        &sql.insert_transfers,
        &sql.write_usage,
        &sql.insert_attempts,
        &sql.claim_keys,
    ];
    let all = lookups.iter().map(|(sql, _)| *sql).chain(inserts).map(String::as_str);
    let plans = plans(all.collect()).await;
    for (sql, lookup) in lookups {
        assert_looks_up(&plans, sql, lookup);
    }
}

#[tokio::test]
async fn what_a_key_spent_is_looked_up() {
    let sql = statements(DbBackend::Sqlite);
    let plans = plans(vec![&sql.read_caps, &sql.move_cap, &sql.read_spent]).await;
    let cap = "ledger_account_cap (owner_id=? AND cap_window=? AND window_start=?)";
    assert_looks_up(&plans, &sql.read_caps, cap);
    let spent = "USING COVERING INDEX ledger_hold_key (key_id=? AND cost>?)";
    assert_looks_up(&plans, &sql.read_spent, spent);
}
