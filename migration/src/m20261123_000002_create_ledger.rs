//! The ledger: accounts, instances, leases, holds, the books, usage and attempts.
//!
//! CHECKs and primary keys repeat the invariants of the design (I1, I2, I6, I8), so that a bug of
//! the program is an error and not a wrong balance. Every index here is read by a statement: each
//! request pays for its upkeep.

use sea_orm_migration::{prelude::*, sea_orm::DbBackend};

use crate::ddl;

/// The `ledger_…` tables but `ledger_price`.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const TABLES: &[&str] = &[
    // A wallet, or an account of the operator (kind >= 100). The operator's counters stay 0: they
    // would be one hot row for every request of every instance; its balances are sums of transfers.
    // The solvency CHECK (I1) is a difference, which can't overflow.
    "CREATE TABLE ledger_account (
        id {id} PRIMARY KEY NOT NULL,
        kind {smallint} NOT NULL,
        owner_id {id} NOT NULL,
        parent_id {id} NULL,
        window_start {bigint} NULL,
        credits {bigint} NOT NULL DEFAULT 0,
        debits {bigint} NOT NULL DEFAULT 0,
        leased {bigint} NOT NULL DEFAULT 0,
        overdraft_limit {bigint} NOT NULL DEFAULT 0,
        flags {int} NOT NULL DEFAULT 0,
        recall_seq {bigint} NOT NULL DEFAULT 0,
        version {bigint} NOT NULL DEFAULT 0,
        CHECK (credits >= 0 AND debits >= 0 AND leased >= 0 AND overdraft_limit >= 0),
        CHECK (kind >= 100 OR credits - debits - leased >= -overdraft_limit)
    ){clustered}",
    // One incarnation of a server process. State 1 live, 2 draining, 3 fenced, 4 recovered,
    // 5 closed. `flush_seq` numbers its writing transactions.
    "CREATE TABLE ledger_instance (
        id {id} PRIMARY KEY NOT NULL,
        node TEXT NOT NULL,
        shard {smallint} NOT NULL DEFAULT 0,
        protocol {smallint} NOT NULL DEFAULT 1,
        state {smallint} NOT NULL CHECK (state BETWEEN 1 AND 5),
        flush_seq {bigint} NOT NULL DEFAULT 0,
        flush_digest {bigint} NOT NULL DEFAULT 0,
        expires_at {bigint} NOT NULL,
        started_at {bigint} NOT NULL
    ){clustered}",
    // The slice of an account that an instance has. State 1 open, 2 closed.
    "CREATE TABLE ledger_lease (
        instance_id {id} NOT NULL,
        account_id {id} NOT NULL,
        state {smallint} NOT NULL CHECK (state BETWEEN 1 AND 2),
        granted {bigint} NOT NULL,
        posted {bigint} NOT NULL,
        folded {bigint} NOT NULL,
        last_seq {bigint} NOT NULL,
        opened_at {bigint} NOT NULL,
        PRIMARY KEY (instance_id, account_id),
        CHECK (0 <= folded AND folded <= posted AND posted <= granted)
    ){clustered}",
    // The worst case of one request. State 1 open, 2 settled, 3 voided, 4 recovered.
    "CREATE TABLE ledger_hold (
        id {id} PRIMARY KEY NOT NULL,
        account_id {id} NOT NULL,
        instance_id {id} NOT NULL,
        key_id {id} NULL,
        face_id {id} NULL,
        price_id {bigint} NOT NULL,
        model TEXT NOT NULL,
        amount {bigint} NOT NULL,
        checkpoint {bigint} NOT NULL DEFAULT 0,
        state {smallint} NOT NULL CHECK (state BETWEEN 1 AND 4),
        cost {bigint} NULL,
        flush_seq {bigint} NOT NULL,
        opened_at {bigint} NOT NULL,
        resolved_at {bigint} NULL,
        CHECK (amount >= 0 AND checkpoint >= 0 AND checkpoint <= amount),
        CHECK ((state = 1) = (cost IS NULL)),
        CHECK (cost IS NULL OR (cost >= 0 AND cost <= amount))
    ){clustered}",
    "CREATE INDEX ledger_hold_open ON ledger_hold (instance_id) WHERE state = 1",
    // A line of the books; never changed. For what a hold causes, `id` is the hold's id: the
    // primary key proves that no hold is charged twice (I2).
    "CREATE TABLE ledger_transfer (
        id {id} NOT NULL,
        kind {smallint} NOT NULL,
        debit_account {id} NOT NULL,
        credit_account {id} NOT NULL,
        amount {bigint} NOT NULL CHECK (amount >= 0),
        hold_id {id} NULL,
        external_ref TEXT NULL,
        instance_id {id} NULL,
        flush_seq {bigint} NULL,
        created_at {bigint} NOT NULL,
        memo TEXT NULL,
        PRIMARY KEY (id, kind)
    ){clustered}",
    "CREATE UNIQUE INDEX ledger_transfer_external_ref ON ledger_transfer (external_ref)
        WHERE external_ref IS NOT NULL",
    // Tokens of a settled hold, each in one bucket, and how they were learned.
    "CREATE TABLE ledger_usage (
        hold_id {id} PRIMARY KEY NOT NULL,
        in_uncached {bigint} NOT NULL,
        in_cache_read {bigint} NOT NULL,
        in_cache_write_5m {bigint} NOT NULL,
        in_cache_write_1h {bigint} NOT NULL,
        out_text {bigint} NOT NULL,
        out_reasoning {bigint} NOT NULL,
        usage_source {smallint} NOT NULL,
        finish {smallint} NOT NULL
    ){clustered}",
    // Calls of upstreams made for a hold.
    "CREATE TABLE ledger_attempt (
        hold_id {id} NOT NULL,
        n {smallint} NOT NULL,
        provider TEXT NOT NULL,
        upstream_model TEXT NOT NULL,
        upstream_id TEXT NULL,
        status {int} NOT NULL,
        started_at {bigint} NOT NULL,
        ended_at {bigint} NOT NULL,
        PRIMARY KEY (hold_id, n)
    ){clustered}",
];

/// Counters change at every flush: room on the page keeps those updates off the indexes.
const POSTGRES_ONLY: &[&str] = &[
    "ALTER TABLE ledger_account SET (fillfactor = 50)",
    "ALTER TABLE ledger_lease SET (fillfactor = 50)",
    "ALTER TABLE ledger_instance SET (fillfactor = 50)",
];

/// Kinds of the operator's accounts; the id of each is its kind as a 128-bit number.
const OPERATOR_KINDS: [u8; 5] = [100, 101, 102, 103, 104];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        ddl::run(manager, TABLES).await?;
        let connection = manager.get_connection();
        let sqlite = connection.get_database_backend() == DbBackend::Sqlite;
        for kind in OPERATOR_KINDS {
            let id = if sqlite { format!("x'{kind:032x}'") } else { format!("'{kind:032x}'") };
            let insert = format!(
                "INSERT INTO ledger_account (id, kind, owner_id) VALUES ({id}, {kind}, {id})"
            );
            connection.execute_unprepared(&insert).await?;
        }
        if sqlite { Ok(()) } else { ddl::run(manager, POSTGRES_ONLY).await }
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let drops = [
            "DROP TABLE ledger_attempt",
            "DROP TABLE ledger_usage",
            "DROP TABLE ledger_transfer",
            "DROP TABLE ledger_hold",
            "DROP TABLE ledger_lease",
            "DROP TABLE ledger_instance",
            "DROP TABLE ledger_account",
        ];
        ddl::run(manager, &drops).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
