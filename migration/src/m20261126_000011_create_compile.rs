//! Compiling: the texts that faces are made from, the queue of work on them, what came out of them
//! and what they cost of a plan's quota.

use sea_orm_migration::prelude::*;

use crate::ddl;

/// `compile_…`, `face_primitive_source`, `face_primitive.imported` and
/// `account.allow_compile_overflow`.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const UP: &[&str] = &[
    // Kind 1 document, 2 thread. `content` is empty for a thread: its text is in `compile_message`.
    // `version` counts contents, `generation` extractions of them; `charged_version` is the version
    // that was charged to the quota last. `facts` and `counts` are what the last sync wrote.
    "CREATE TABLE compile_source (
        id {id} PRIMARY KEY NOT NULL,
        account_id {id} NOT NULL REFERENCES account (id),
        face_id {id} NOT NULL REFERENCES face (id) ON DELETE CASCADE,
        kind {smallint} NOT NULL CHECK (kind BETWEEN 1 AND 2),
        label TEXT NOT NULL,
        content TEXT NOT NULL,
        perspective TEXT NULL CHECK (perspective IN ('first-person', 'third-person')),
        source TEXT NOT NULL,
        face_speaker TEXT NULL,
        interviewer_payer TEXT NULL,
        version {bigint} NOT NULL CHECK (version >= 1),
        generation {bigint} NOT NULL CHECK (generation >= 1),
        token_count {bigint} NOT NULL CHECK (token_count >= 0),
        state TEXT NOT NULL CHECK (state IN ('idle', 'preparing', 'pausing', 'paused', 'prepared',
            'syncing', 'synced', 'stalled', 'failed')),
        failure TEXT NULL,
        chunks_total {bigint} NOT NULL CHECK (chunks_total >= 0),
        chunks_completed {bigint} NOT NULL CHECK (chunks_completed BETWEEN 0 AND chunks_total),
        counts TEXT NULL,
        facts TEXT NULL,
        synced_at {bigint} NULL,
        charged_version {bigint} NULL,
        tokens_charged {bigint} NOT NULL CHECK (tokens_charged >= 0),
        overflow_billed {smallint} NOT NULL CHECK (overflow_billed BETWEEN 0 AND 1),
        created_at {bigint} NOT NULL,
        updated_at {bigint} NOT NULL
    ){strict}",
    "CREATE INDEX compile_source_account ON compile_source (account_id, kind, id)",
    "CREATE INDEX compile_source_face ON compile_source (face_id, kind, id)",
    "CREATE TABLE compile_message (
        source_id {id} NOT NULL REFERENCES compile_source (id) ON DELETE CASCADE,
        position {bigint} NOT NULL,
        role TEXT NOT NULL CHECK (role IN ('user', 'assistant')),
        content TEXT NOT NULL,
        name TEXT NULL,
        archived {smallint} NOT NULL CHECK (archived BETWEEN 0 AND 1),
        created_at {bigint} NOT NULL,
        PRIMARY KEY (source_id, position)
    ){strict}",
    // The queue. A row is there while there is work; `goal` 1 prepare, 2 make. `lease` is
    // new with each claim, so that a worker that lost its lease can't write any more.
    "CREATE TABLE compile_job (
        source_id {id} PRIMARY KEY NOT NULL REFERENCES compile_source (id) ON DELETE CASCADE,
        account_id {id} NOT NULL,
        key_id {id} NULL,
        goal {smallint} NOT NULL CHECK (goal BETWEEN 1 AND 2),
        pausing {smallint} NOT NULL CHECK (pausing BETWEEN 0 AND 1),
        lease {id} NULL,
        lease_until {bigint} NULL,
        attempts {bigint} NOT NULL CHECK (attempts >= 0),
        next_attempt_at {bigint} NOT NULL,
        created_at {bigint} NOT NULL,
        CHECK ((lease IS NULL) = (lease_until IS NULL))
    ){strict}",
    "CREATE INDEX compile_job_next ON compile_job (next_attempt_at)",
    // `extraction` is the JSON that came out of the chunk; NULL while it is to be done. `rekeyed`
    // counts the idempotency keys whose answers were lost.
    "CREATE TABLE compile_chunk (
        source_id {id} NOT NULL REFERENCES compile_source (id) ON DELETE CASCADE,
        generation {bigint} NOT NULL,
        n {bigint} NOT NULL CHECK (n >= 0),
        content TEXT NOT NULL,
        rekeyed {bigint} NOT NULL CHECK (rekeyed >= 0),
        extraction TEXT NULL,
        cost {bigint} NULL CHECK (cost >= 0),
        completed_at {bigint} NULL,
        PRIMARY KEY (source_id, generation, n),
        CHECK ((extraction IS NULL) = (completed_at IS NULL))
    ){strict}",
    // 1: handed in by hand, 0: only by sources, and deleted with the last of them.
    "ALTER TABLE face_primitive ADD COLUMN imported {smallint} NOT NULL DEFAULT 1
        CHECK (imported BETWEEN 0 AND 1)",
    "CREATE TABLE face_primitive_source (
        face_id {id} NOT NULL,
        position {bigint} NOT NULL,
        source_id {id} NOT NULL REFERENCES compile_source (id) ON DELETE CASCADE,
        PRIMARY KEY (face_id, position, source_id),
        FOREIGN KEY (face_id, position) REFERENCES face_primitive (face_id, position)
            ON DELETE CASCADE
    ){strict}",
    "CREATE INDEX face_primitive_source_source ON face_primitive_source (source_id)",
    "CREATE TABLE compile_quota (
        account_id {id} NOT NULL REFERENCES account (id),
        period_start {bigint} NOT NULL,
        tokens_used {bigint} NOT NULL CHECK (tokens_used >= 0),
        PRIMARY KEY (account_id, period_start)
    ){strict}",
    "CREATE TABLE compile_face_quota (
        face_id {id} NOT NULL REFERENCES face (id) ON DELETE CASCADE,
        period_start {bigint} NOT NULL,
        tokens_used {bigint} NOT NULL CHECK (tokens_used >= 0),
        PRIMARY KEY (face_id, period_start)
    ){strict}",
    "ALTER TABLE account ADD COLUMN allow_compile_overflow {smallint} NOT NULL DEFAULT 0
        CHECK (allow_compile_overflow BETWEEN 0 AND 1)",
];

const DOWN: &[&str] = &[
    "ALTER TABLE account DROP COLUMN allow_compile_overflow",
    "DROP TABLE compile_face_quota",
    "DROP TABLE compile_quota",
    "DROP TABLE face_primitive_source",
    "ALTER TABLE face_primitive DROP COLUMN imported",
    "DROP TABLE compile_chunk",
    "DROP TABLE compile_job",
    "DROP TABLE compile_message",
    "DROP TABLE compile_source",
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        ddl::run(manager, UP).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        ddl::run(manager, DOWN).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
