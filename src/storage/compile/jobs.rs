//! The queue: what owners ask for, and how workers claim it.

use sea_orm::{DatabaseTransaction, DbErr, QueryResult, Value};
use uuid::Uuid;

use super::{
    super::{Db, StorageError},
    SourceRow, WHAT, execute, flag, one, sources,
};
use crate::domain::{
    AccountId, KeyId, SourceId,
    clock::{self, UnixMicros},
    compile::{CompileEvent, CompileGoal, CompileState},
};

const LEASE: &str = "the lease of a compile job";

/// One claim of a job; the next claim has another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LeaseId(Uuid);

/// A claimed job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// What is to be compiled.
    pub source_id: SourceId,
    /// Who pays.
    pub account_id: AccountId,
    /// The key that asked for it; `None` for a login.
    pub key_id: Option<KeyId>,
    /// The claim.
    pub lease: LeaseId,
    /// What its owner wants, as of the claim.
    pub signal: JobSignal,
    /// How often it was claimed since the last step forward, this time included.
    pub attempts: i64,
}

impl Job {
    /// Whether `attempts_max` claims went by without a step forward and without a word: whoever
    /// reports the last of them ends the job, so the workers must have died of it.
    #[must_use]
    pub fn is_given_up(&self, attempts_max: u32) -> bool {
        self.attempts > i64::from(attempts_max)
    }
}

/// What a job's owner wants of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobSignal {
    /// How far it is to go.
    pub goal: CompileGoal,
    /// Whether it is to rest after what is being done.
    pub pausing: bool,
}

/// How a worker ends a job, or its first part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobEnd {
    /// All chunks are done. The job stays, when its goal is the face.
    ChunksDone,
    /// The pause that was asked for begins.
    Rest,
    /// Given up for now, with the reason for the owner.
    Stall(String),
    /// Given up, with the reason for the owner.
    Fail(String),
}

/// What became of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transition {
    /// It happened; the source afterwards.
    Done(Box<SourceRow>),
    /// The state does not allow it; nothing was changed.
    NotNow(CompileState),
}

/// Applies what an owner asks for (a start or a pause): the new state, and its job.
///
/// # Errors
/// [`StorageError::Missing`] when the account has no such source.
pub async fn apply_event(
    db: &Db,
    account_id: AccountId,
    id: SourceId,
    event: CompileEvent,
    key_id: Option<KeyId>,
) -> Result<Transition, StorageError> {
    let now = clock::now();
    db.in_transaction(WHAT, move |tx| {
        Box::pin(async move {
            let source = sources::lock(tx, account_id, id).await?;
            let next = match source.state.after(event) {
                Ok(next) => next,
                Err(refused) => return Ok(Transition::NotNow(refused.state)),
            };
            match event {
                CompileEvent::Start(goal) if next.is_running() => {
                    enqueue(tx, &source, goal, key_id).await?;
                }
                CompileEvent::Pause if next == CompileState::Pausing => {
                    let sql = "UPDATE compile_job SET pausing = 1, next_attempt_at = {now}
                        WHERE source_id = $1";
                    execute(tx, sql, [id.0.into()]).await?;
                }
                _ => {}
            }
            if next != source.state {
                set_state(tx, id, next, None, now).await?;
            }
            Ok(Transition::Done(Box::new(sources::existing(tx, account_id, id).await?)))
        })
    })
    .await
}

/// Puts a source into the queue, or asks more of its job: it is then tried at once, and whoever
/// asked last pays.
async fn enqueue(
    tx: &DatabaseTransaction,
    source: &SourceRow,
    goal: CompileGoal,
    key_id: Option<KeyId>,
) -> Result<(), StorageError> {
    let sql = "INSERT INTO compile_job (source_id, account_id, key_id, goal, pausing, lease,
            lease_until, attempts, next_attempt_at, created_at)
        VALUES ($1, $2, $3, $4, 0, NULL, NULL, 0, {now}, {now})
        ON CONFLICT (source_id) DO UPDATE SET pausing = 0, attempts = 0,
            key_id = excluded.key_id, next_attempt_at = excluded.next_attempt_at,
            goal = CASE WHEN excluded.goal > compile_job.goal THEN excluded.goal
                ELSE compile_job.goal END";
    let values: [Value; 4] = [
        source.id.0.into(),
        source.account_id.0.into(),
        key_id.map(|key| key.0).into(),
        goal.db_code().into(),
    ];
    execute(tx, sql, values).await.map(drop)
}

async fn set_state(
    tx: &DatabaseTransaction,
    id: SourceId,
    state: CompileState,
    failure: Option<String>,
    now: UnixMicros,
) -> Result<(), StorageError> {
    let sql = "UPDATE compile_source SET state = $2, failure = $3, updated_at = $4 WHERE id = $1";
    let values: [Value; 4] = [id.0.into(), state.as_str().into(), failure.into(), now.0.into()];
    execute(tx, sql, values).await.map(drop)
}

/// Claims the job that has waited longest for `lease_ms`, if there is one to do now. Jobs of
/// workers that did not extend their lease in time are among them; the claim itself counts as a try,
/// so that a job that its workers die of is not claimed for ever ([`Job::is_given_up`]).
///
/// # Errors
/// [`StorageError::Unavailable`].
///
/// # Cancel safety
/// Dropping the future does not stop it: a claim that nobody took notice of ends with its lease.
pub async fn claim_job(db: &Db, lease_ms: i64) -> Result<Option<Job>, StorageError> {
    db.run(WHAT, move |db| async move {
        let lease = Uuid::now_v7();
        let sql = "UPDATE compile_job
            SET lease = $1, lease_until = {now} + $2, attempts = attempts + 1
            WHERE (lease_until IS NULL OR lease_until < {now}) AND source_id = (
                SELECT j.source_id FROM compile_job AS j
                WHERE j.next_attempt_at <= {now}
                    AND (j.lease_until IS NULL OR j.lease_until < {now})
                ORDER BY j.next_attempt_at LIMIT 1{skip})
            RETURNING source_id, account_id, key_id, goal, pausing, attempts";
        let values: [Value; 2] = [lease.into(), lease_ms.saturating_mul(1_000).into()];
        let row = one(db.writer(WHAT)?, sql, values).await?;
        row.map(|row| job_of(&row, lease)).transpose().map_err(StorageError::on(WHAT))
    })
    .await
}

/// Extends a lease to `lease_ms` from now; answers what the owner wants by now, `None` when the job
/// is somebody else's or gone.
///
/// # Errors
/// [`StorageError::Unavailable`].
pub async fn extend_lease(
    db: &Db,
    job: &Job,
    lease_ms: i64,
) -> Result<Option<JobSignal>, StorageError> {
    let (id, lease) = (job.source_id, job.lease);
    db.run(WHAT, move |db| async move {
        let sql = "UPDATE compile_job SET lease_until = {now} + $3
            WHERE source_id = $1 AND lease = $2 RETURNING goal, pausing";
        let values: [Value; 3] =
            [id.0.into(), lease.0.into(), lease_ms.saturating_mul(1_000).into()];
        let row = one(db.writer(WHAT)?, sql, values).await?;
        row.as_ref().map(signal_of).transpose().map_err(StorageError::on(WHAT))
    })
    .await
}

/// Gives a claimed job back as if it had not been claimed: another worker can have it at once.
///
/// # Errors
/// [`StorageError::Unavailable`].
pub async fn release_lease(db: &Db, job: &Job) -> Result<(), StorageError> {
    retry_job(db, job, 0, false).await
}

/// Gives a claimed job back, to be tried again in `delay_ms`; whether this try `counts`.
///
/// # Errors
/// [`StorageError::Unavailable`].
pub async fn retry_job(
    db: &Db,
    job: &Job,
    delay_ms: i64,
    counts: bool,
) -> Result<(), StorageError> {
    let (id, lease) = (job.source_id, job.lease);
    db.run(WHAT, move |db| async move {
        let sql = "UPDATE compile_job SET lease = NULL, lease_until = NULL,
                next_attempt_at = {now} + $3,
                attempts = CASE WHEN attempts > $4 THEN attempts - $4 ELSE 0 END
            WHERE source_id = $1 AND lease = $2";
        let values: [Value; 4] = [
            id.0.into(),
            lease.0.into(),
            delay_ms.saturating_mul(1_000).into(),
            i64::from(!counts).into(),
        ];
        execute(db.writer(WHAT)?, sql, values).await.map(drop)
    })
    .await
}

/// Ends a claimed job, or its first part: the new state, and what becomes of the job.
///
/// # Errors
/// [`StorageError::Stale`] when the lease is lost.
pub async fn end_job(db: &Db, job: &Job, end: JobEnd) -> Result<Transition, StorageError> {
    let now = clock::now();
    let job = job.clone();
    db.in_transaction(WHAT, move |tx| {
        let (job, end) = (job.clone(), end.clone());
        Box::pin(async move {
            let (source, signal) = lock_leased(tx, &job).await?;
            let (event, failure) = match end {
                JobEnd::ChunksDone => (CompileEvent::ChunksDone(signal.goal), None),
                JobEnd::Rest => (CompileEvent::Rest, None),
                JobEnd::Stall(reason) => (CompileEvent::Stall, Some(reason)),
                JobEnd::Fail(reason) => (CompileEvent::Fail, Some(reason)),
            };
            let next = match source.state.after(event) {
                Ok(next) => next,
                Err(refused) => return Ok(Transition::NotNow(refused.state)),
            };
            if !next.is_running() {
                remove_job(tx, source.id).await?;
            }
            set_state(tx, source.id, next, failure, now).await?;
            let after = sources::existing(tx, source.account_id, source.id).await?;
            Ok(Transition::Done(Box::new(after)))
        })
    })
    .await
}

pub(super) async fn remove_job(tx: &DatabaseTransaction, id: SourceId) -> Result<(), StorageError> {
    let sql = "DELETE FROM compile_job WHERE source_id = $1";
    execute(tx, sql, [id.0.into()]).await.map(drop)
}

/// Locks the source of a claimed job and checks the claim.
pub(super) async fn lock_leased(
    tx: &DatabaseTransaction,
    job: &Job,
) -> Result<(SourceRow, JobSignal), StorageError> {
    let lost = || StorageError::Stale { what: LEASE };
    let source = match sources::lock(tx, job.account_id, job.source_id).await {
        Err(StorageError::Missing { .. }) => return Err(lost()),
        source => source?,
    };
    let sql = "SELECT goal, pausing FROM compile_job WHERE source_id = $1 AND lease = $2{lock}";
    let row = one(tx, sql, [job.source_id.0.into(), job.lease.0.into()]).await?;
    let signal = signal_of(&row.ok_or_else(lost)?).map_err(StorageError::on(WHAT))?;
    Ok((source, signal))
}

fn job_of(row: &QueryResult, lease: Uuid) -> Result<Job, DbErr> {
    Ok(Job {
        source_id: SourceId(row.try_get("", "source_id")?),
        account_id: AccountId(row.try_get("", "account_id")?),
        key_id: row.try_get::<Option<Uuid>>("", "key_id")?.map(KeyId),
        lease: LeaseId(lease),
        signal: signal_of(row)?,
        attempts: row.try_get("", "attempts")?,
    })
}

fn signal_of(row: &QueryResult) -> Result<JobSignal, DbErr> {
    let goal = CompileGoal::from_db_code(row.try_get("", "goal")?);
    let goal = goal.ok_or_else(|| DbErr::Type("a goal of a compile job".to_owned()))?;
    Ok(JobSignal { goal, pausing: flag(row, "pausing")? })
}
