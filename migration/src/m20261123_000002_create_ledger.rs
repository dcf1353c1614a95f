//! Tables of the ledger (all but `ledger_price`): accounts, instances, leases, holds, transfers,
//! usage and attempts.
//!
//! Written as SQL, not with the schema builder: STRICT tables, `WITHOUT ROWID`, CHECKs and partial
//! indexes carry the ledger's invariants, and one text serves both databases with three words
//! replaced. Every index here is read by a statement; an index that nothing reads is paid for by
//! each request.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DbBackend;

/// Creates and drops the ledger's tables.
#[derive(Debug)]
pub struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m20261123_000002_create_ledger"
    }
}

/// `{ID}`: 16 bytes, `{INT}`: 64 bits signed, `{TABLE}`: what follows the column list.
const UP: &[&str] = &[
    // A wallet, or an account of the operator (kind >= 100). The operator's counters stay 0: they
    // would be one hot row for every request of every instance; its balances are sums of transfers.
    // The solvency CHECK (I1) is written as a difference so that it can't overflow.
    "CREATE TABLE ledger_account (
        id {ID} NOT NULL PRIMARY KEY,
        kind {INT} NOT NULL,
        owner_id {ID},
        parent_id {ID},
        window_start_at {INT},
        credits {INT} NOT NULL DEFAULT 0,
        debits {INT} NOT NULL DEFAULT 0,
        leased {INT} NOT NULL DEFAULT 0,
        overdraft_limit {INT} NOT NULL DEFAULT 0,
        flags {INT} NOT NULL DEFAULT 0,
        recall_seq {INT} NOT NULL DEFAULT 0,
        version {INT} NOT NULL DEFAULT 0,
        CHECK (credits >= 0 AND debits >= 0 AND leased >= 0 AND overdraft_limit >= 0),
        CHECK (kind >= 100 OR credits - debits - leased >= -overdraft_limit)
    ){TABLE}",
    // One incarnation of a server process. `flush_seq` numbers its writing transactions.
    "CREATE TABLE ledger_instance (
        id {ID} NOT NULL PRIMARY KEY,
        node TEXT NOT NULL,
        shard {INT} NOT NULL DEFAULT 0,
        protocol {INT} NOT NULL DEFAULT 1,
        state {INT} NOT NULL,
        flush_seq {INT} NOT NULL DEFAULT 0,
        flush_digest {INT} NOT NULL DEFAULT 0,
        expires_at {INT} NOT NULL,
        started_at {INT} NOT NULL,
        CHECK (state BETWEEN 1 AND 5)
    ){TABLE}",
    // The slice of an account that an instance holds. State 1 open, 2 closed.
    "CREATE TABLE ledger_lease (
        instance_id {ID} NOT NULL,
        account_id {ID} NOT NULL,
        state {INT} NOT NULL,
        granted {INT} NOT NULL,
        posted {INT} NOT NULL,
        folded {INT} NOT NULL,
        last_seq {INT} NOT NULL,
        opened_at {INT} NOT NULL,
        PRIMARY KEY (instance_id, account_id),
        CHECK (0 <= folded AND folded <= posted AND posted <= granted)
    ){TABLE}",
    // The worst case of one request. State 1 open, 2 settled, 3 voided, 4 recovered.
    "CREATE TABLE ledger_hold (
        id {ID} NOT NULL PRIMARY KEY,
        account_id {ID} NOT NULL,
        instance_id {ID} NOT NULL,
        key_id {ID},
        face_id {ID},
        price_id {INT} NOT NULL,
        model TEXT NOT NULL,
        amount {INT} NOT NULL,
        checkpoint {INT} NOT NULL DEFAULT 0,
        state {INT} NOT NULL,
        cost {INT},
        flush_seq {INT} NOT NULL,
        opened_at {INT} NOT NULL,
        resolved_at {INT},
        CHECK (amount >= 0 AND checkpoint >= 0 AND checkpoint <= amount),
        CHECK (state BETWEEN 1 AND 4),
        CHECK ((state = 1) = (cost IS NULL)),
        CHECK (cost IS NULL OR (cost >= 0 AND cost <= amount))
    ){TABLE}",
    "CREATE INDEX ledger_hold_open ON ledger_hold (instance_id) WHERE state = 1",
    // A line of the books; never updated. For what a hold causes, `id` is the hold's id, so the
    // primary key is the proof that no hold is charged twice (I2).
    "CREATE TABLE ledger_transfer (
        id {ID} NOT NULL,
        kind {INT} NOT NULL,
        debit_account {ID} NOT NULL,
        credit_account {ID} NOT NULL,
        amount {INT} NOT NULL,
        external_ref TEXT,
        memo TEXT,
        created_at {INT} NOT NULL,
        PRIMARY KEY (id, kind),
        CHECK (amount >= 0),
        CHECK (debit_account <> credit_account)
    ){TABLE}",
    "CREATE UNIQUE INDEX ledger_transfer_external_ref ON ledger_transfer (external_ref)
        WHERE external_ref IS NOT NULL",
    // Tokens of a settled hold, each in one bucket, and how they were learned.
    "CREATE TABLE ledger_usage (
        hold_id {ID} NOT NULL PRIMARY KEY,
        in_uncached {INT} NOT NULL,
        in_cache_read {INT} NOT NULL,
        in_cache_write_5m {INT} NOT NULL,
        in_cache_write_1h {INT} NOT NULL,
        out_text {INT} NOT NULL,
        out_reasoning {INT} NOT NULL,
        usage_source {INT} NOT NULL,
        finish {INT} NOT NULL
    ){TABLE}",
    // Calls of upstreams made for a hold.
    "CREATE TABLE ledger_attempt (
        hold_id {ID} NOT NULL,
        n {INT} NOT NULL,
        provider TEXT NOT NULL,
        upstream_model TEXT NOT NULL,
        upstream_id TEXT,
        status {INT} NOT NULL,
        started_at {INT} NOT NULL,
        ended_at {INT} NOT NULL,
        PRIMARY KEY (hold_id, n)
    ){TABLE}",
];

const TABLES: &[&str] = &[
    "ledger_attempt",
    "ledger_usage",
    "ledger_transfer",
    "ledger_hold",
    "ledger_lease",
    "ledger_instance",
    "ledger_account",
];

/// Kinds of the operator's accounts; the id of each is its kind as a 128-bit number.
const OPERATOR_KINDS: [u128; 5] = [100, 101, 102, 103, 104];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let sqlite = manager.get_database_backend() == DbBackend::Sqlite;
        let (id, int, table) = if sqlite {
            ("BLOB", "INTEGER", " STRICT, WITHOUT ROWID")
        } else {
            ("UUID", "BIGINT", "")
        };
        let connection = manager.get_connection();
        for statement in UP {
            let statement =
                statement.replace("{ID}", id).replace("{INT}", int).replace("{TABLE}", table);
            connection.execute_unprepared(&statement).await?;
        }
        for kind in OPERATOR_KINDS {
            let literal =
                if sqlite { format!("x'{kind:032x}'") } else { format!("'{kind:032x}'::uuid") };
            let statement =
                format!("INSERT INTO ledger_account (id, kind) VALUES ({literal}, {kind})");
            connection.execute_unprepared(&statement).await?;
        }
        if !sqlite {
            // Counters change at every flush: room on the page keeps those updates off the index.
            for table in ["ledger_account", "ledger_lease", "ledger_instance"] {
                let statement = format!("ALTER TABLE {table} SET (fillfactor = 50)");
                connection.execute_unprepared(&statement).await?;
            }
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in TABLES {
            manager
                .get_connection()
                .execute_unprepared(&format!("DROP TABLE {table}"))
                .await?;
        }
        Ok(())
    }
}
