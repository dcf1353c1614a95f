//! One claimed job: from the text to pieces, from pieces to what they say, and into the face.

use std::{cell::Cell, collections::VecDeque, convert::Infallible, time::Duration};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::sync::watch;

use crate::{
    domain::{
        ErrorCode, Scopes, clock,
        compile::{CompileState, Perspective, SourceKind},
        error_code::{ErrorKind, FundsReason},
    },
    faces::{
        ImportLimits,
        extract::{self, Extraction, Subject},
    },
    flows::{
        Caller, Failure, Flows, RequestTrace,
        llm::{LlmCall, LlmRole},
    },
    storage::{
        StorageError,
        compile::{
            self as storage_compile, ChunkRow, Job, JobEnd, JobSignal, SourceRow, Transition,
        },
        faces as storage_faces, keys,
    },
    telemetry::AccessLine,
};

/// Beats per lease: a job survives two that are lost.
const BEATS_PER_LEASE: u64 = 3;

/// Why a job is not done yet.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It is somebody else's by now, or its source is gone or has another text.
    Lost,
    /// This server stops.
    Stopping,
    /// The same call runs elsewhere: to be asked again after so many milliseconds.
    Elsewhere(u64),
    /// It may pass by itself.
    Passing(String),
    /// Its owner can do something.
    Owner(String),
    /// Nothing helps.
    Fatal(String),
}

/// What is known of a job while it runs.
struct Beat {
    /// What its owner wants; `None` when the lease is lost.
    signal: Cell<Option<JobSignal>>,
    stop: watch::Receiver<bool>,
    /// Whether a piece was finished since the claim: then the tries begin anew.
    has_progressed: Cell<bool>,
}

impl Beat {
    /// Whether the next piece may be begun.
    fn goes_on(&self) -> bool {
        self.signal.get().is_some_and(|signal| !signal.pausing) && !*self.stop.borrow()
    }
}

impl Flows {
    /// Works on a job until it is done, rests or has to be left to a later try. One that its
    /// workers died of before, as often as there may be tries, fails instead.
    ///
    /// # Cancel safety
    /// Dropped, its calls are cancelled as those of a client that leaves; the job is claimed again
    /// when its lease is over.
    pub(super) async fn run_job(&self, job: Job, stop: watch::Receiver<bool>) {
        let beat =
            Beat { signal: Cell::new(Some(job.signal)), stop, has_progressed: Cell::new(false) };
        let attempts_max = self.inner.platform.inner.limits.compile_attempts_max;
        let ended = if job.is_given_up(attempts_max) {
            log::warn!(
                target: "faces::flows",
                "compiling {} is given up: no try of {attempts_max} came to an end", job.source_id
            );
            Err(Trouble::Fatal(given_up(attempts_max)))
        } else {
            tokio::select! {
                never = self.keep_lease(&job, &beat) => match never {},
                ended = self.work(&job, &beat) => ended,
            }
        };
        if let Err(trouble) = ended
            && let Err(error) = self.leave(&job, &beat, trouble).await
        {
            // The lease runs out, and another try begins where this one was.
            log::warn!(
                target: "faces::flows",
                "a compile job could not be given back: {}", crate::telemetry::chain(&error)
            );
        }
    }

    /// Extends the lease in time, for as long as it is this worker's.
    async fn keep_lease(&self, job: &Job, beat: &Beat) -> Infallible {
        let platform = &self.inner.platform.inner;
        let lease_ms = platform.limits.compile_lease_ms;
        let pause = Duration::from_millis(lease_ms / BEATS_PER_LEASE);
        while beat.signal.get().is_some() {
            tokio::time::sleep(pause).await;
            self.listen(job, beat).await;
        }
        // The calls that run are finished: their answers wait in the books.
        std::future::pending().await
    }

    /// Extends the lease and hears what the owner wants by now.
    async fn listen(&self, job: &Job, beat: &Beat) {
        let platform = &self.inner.platform.inner;
        let lease_ms = as_i64(platform.limits.compile_lease_ms);
        match storage_compile::extend_lease(&platform.db, job, lease_ms).await {
            Ok(signal) => beat.signal.set(signal),
            Err(error) => log::warn!(
                target: "faces::flows",
                "the lease of a compile job was not extended: {}", crate::telemetry::chain(&error)
            ),
        }
    }

    async fn leave(&self, job: &Job, beat: &Beat, trouble: Trouble) -> Result<(), StorageError> {
        let platform = &self.inner.platform.inner;
        let (db, limits) = (&platform.db, &platform.limits);
        let attempts = if beat.has_progressed.get() { 1 } else { job.attempts };
        let end = match trouble {
            Trouble::Lost => return Ok(()),
            Trouble::Stopping => return storage_compile::release_lease(db, job).await,
            Trouble::Elsewhere(wait_ms) => {
                return storage_compile::retry_job(db, job, as_i64(wait_ms), false).await;
            }
            Trouble::Passing(reason) => {
                if attempts < i64::from(limits.compile_attempts_max) {
                    let wait_ms = backoff_ms(limits.compile_backoff_ms, attempts);
                    log::info!(
                        target: "faces::flows",
                        "compiling {} is tried again in {wait_ms} ms: {reason}", job.source_id
                    );
                    return storage_compile::retry_job(db, job, as_i64(wait_ms), true).await;
                }
                JobEnd::Stall(reason)
            }
            Trouble::Owner(reason) => JobEnd::Stall(reason),
            Trouble::Fatal(reason) => JobEnd::Fail(reason),
        };
        match storage_compile::end_job(db, job, end).await {
            Ok(_) | Err(StorageError::Stale { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn work(&self, job: &Job, beat: &Beat) -> Result<(), Trouble> {
        let platform = &self.inner.platform.inner;
        loop {
            let found =
                storage_compile::find_source(&platform.db, job.account_id, job.source_id).await;
            let source = found.map_err(trouble_of)?.ok_or(Trouble::Lost)?;
            match source.state {
                CompileState::Preparing | CompileState::Pausing => {
                    let end = self.read_text(job, beat, &source).await?;
                    // A pause that was taken back in the same moment: the state says what is next.
                    match storage_compile::end_job(&platform.db, job, end).await {
                        Ok(Transition::Done(_)) => {}
                        Ok(Transition::NotNow(_)) => self.listen(job, beat).await,
                        Err(error) => return Err(trouble_of(error)),
                    }
                }
                CompileState::Syncing => return self.write_to_face(job, &source).await,
                CompileState::Idle
                | CompileState::Paused
                | CompileState::Prepared
                | CompileState::Synced
                | CompileState::Stalled
                | CompileState::Failed => return Ok(()),
            }
        }
    }

    /// Reads the pieces that are not read yet, some at a time.
    async fn read_text(
        &self,
        job: &Job,
        beat: &Beat,
        source: &SourceRow,
    ) -> Result<JobEnd, Trouble> {
        let platform = &self.inner.platform.inner;
        if source.chunks_total == 0 {
            self.cut(job, source).await?;
        }
        let open = storage_compile::open_chunks(&platform.db, source.id, source.generation).await;
        let mut open: VecDeque<ChunkRow> = open.map_err(trouble_of)?.into();
        let reader = self.reader(job, source).await?;
        let at_once = usize::try_from(platform.limits.compile_chunks_max).unwrap_or(1);
        let mut running = FuturesUnordered::new();
        let mut trouble = None;
        loop {
            while trouble.is_none() && beat.goes_on() && running.len() < at_once {
                let Some(chunk) = open.pop_front() else { break };
                running.push(self.read_piece(job, beat, source, &reader, chunk));
            }
            match running.next().await {
                None => break,
                // A pause holds before the next piece, and not only from the next beat on.
                Some(Ok(())) => self.listen(job, beat).await,
                Some(Err(found)) => trouble = trouble.or(Some(found)),
            }
        }
        match trouble {
            Some(trouble) => Err(trouble),
            None if open.is_empty() => Ok(JobEnd::ChunksDone),
            None if beat.signal.get().is_none() => Err(Trouble::Lost),
            None if *beat.stop.borrow() => Err(Trouble::Stopping),
            None => Ok(JobEnd::Rest),
        }
    }

    /// Cuts the text into pieces and keeps them.
    async fn cut(&self, job: &Job, source: &SourceRow) -> Result<(), Trouble> {
        let platform = &self.inner.platform.inner;
        let text = match source.kind {
            SourceKind::Document => source.content.clone(),
            SourceKind::Thread => {
                let messages = storage_compile::list_messages(&platform.db, source.id).await;
                let messages = messages.map_err(trouble_of)?;
                extract::said_by_the_person(
                    messages
                        .iter()
                        .map(|message| (message.role.as_str(), message.content.as_str())),
                )
            }
        };
        let tokens = u64::from(platform.limits.compile_chunk_tokens);
        let cut = tokio::task::spawn_blocking(move || {
            extract::pieces(&text, tokens).into_iter().map(str::to_owned).collect::<Vec<_>>()
        });
        let pieces = cut.await.map_err(|_| Trouble::Passing("The work was lost.".to_owned()))?;
        if pieces.is_empty() {
            return Err(Trouble::Fatal("There is no text of the person in it.".to_owned()));
        }
        let generation = source.generation;
        let planned = storage_compile::plan_chunks(&platform.db, job, generation, pieces).await;
        planned.map_err(trouble_of)
    }

    /// Who asks, and what is asked of each piece.
    async fn reader(&self, job: &Job, source: &SourceRow) -> Result<Reader, Trouble> {
        let db = &self.inner.platform.inner.db;
        let caller = self.caller_of(job).await?;
        let face = storage_faces::find_face(db, job.account_id, &source.face).await;
        let face = face.map_err(trouble_of)?.ok_or(Trouble::Lost)?;
        Ok(Reader {
            caller,
            name: face.name,
            perspective: source.perspective.unwrap_or(Perspective::FirstPerson),
        })
    }

    /// The caller whose request began a job, with what its key may spend now.
    async fn caller_of(&self, job: &Job) -> Result<Caller, Trouble> {
        let platform = &self.inner.platform.inner;
        let Some(key_id) = job.key_id else {
            return Ok(Caller {
                account_id: job.account_id,
                key_id: None,
                login_epoch: None,
                allowed_faces: None,
                allowed_models: None,
                budget: None,
                scopes: Scopes::LOGIN,
            });
        };
        let now = clock::now();
        let key = keys::find_key(&platform.db, job.account_id, key_id).await.map_err(trouble_of)?;
        let valid = key.filter(|key| {
            key.revoked_at.is_none() && key.expires_at.is_none_or(|expires_at| expires_at > now)
        });
        let key = valid.ok_or_else(|| {
            Trouble::Owner(
                "The API key that asked for this is not valid any more. Ask again with another."
                    .to_owned(),
            )
        })?;
        let budget = platform.directory.budget_of(&key, now).await.map_err(trouble_of)?;
        Ok(Caller::of(&key, budget))
    }

    /// Asks the model about one piece and keeps what it says.
    async fn read_piece(
        &self,
        job: &Job,
        beat: &Beat,
        source: &SourceRow,
        reader: &Reader,
        chunk: ChunkRow,
    ) -> Result<(), Trouble> {
        let platform = &self.inner.platform.inner;
        let (generation, n) = (source.generation, chunk.n);
        let name = format!("compile:{}:{generation}:{n}:{}", source.id, chunk.rekeyed);
        let subject = Subject { name: &reader.name, perspective: reader.perspective };
        let call = LlmCall {
            model: self.inner.options.compile_model.as_deref(),
            face_id: Some(source.face_id),
            system: Some(extract::instructions()),
            messages: vec![(LlmRole::User, extract::question(&subject, &chunk.content))],
            max_tokens: u64::from(platform.limits.compile_answer_tokens_max),
            json_schema: Some(extract::answer_schema()),
            idem_key: Some(&name),
        };
        let trace = RequestTrace::new(
            AccessLine {
                request_id: format!("compile_{}_{n}", source.id),
                method: "JOB".to_owned(),
                route: "compile".to_owned(),
                status: 200,
                account: Some(job.account_id),
                key: job.key_id,
                ..AccessLine::default()
            },
            std::time::Instant::now(),
            None,
        );
        let answered = self.complete(&reader.caller, call, &trace).await;
        let answer = match answered {
            Ok(answer) => answer,
            Err(failure) => {
                trace.update(|line| {
                    line.status = failure.code.row().status;
                    line.error = Some(failure.code);
                });
                if failure.code == ErrorCode::AlreadyCompleted {
                    self.rekey(job, generation, n).await?;
                }
                return Err(trouble_of_call(failure));
            }
        };
        let limits = self.import_limits();
        let Ok(extraction) = Extraction::read_answer(&answer.text, answer.is_cut, &limits) else {
            // It was paid for, and the same question gets the same answer from the books.
            self.rekey(job, generation, n).await?;
            return Err(Trouble::Passing(
                "The model did not answer with the JSON that it was asked for.".to_owned(),
            ));
        };
        let stored = extraction.to_stored();
        let finished =
            storage_compile::finish_chunk(&platform.db, job, generation, n, stored, answer.cost);
        finished.await.map_err(trouble_of)?;
        beat.has_progressed.set(true);
        Ok(())
    }

    async fn rekey(&self, job: &Job, generation: i64, n: i64) -> Result<(), Trouble> {
        let db = &self.inner.platform.inner.db;
        storage_compile::rekey_chunk(db, job, generation, n).await.map_err(trouble_of)
    }

    fn import_limits(&self) -> ImportLimits {
        let limits = &self.inner.platform.inner.limits;
        ImportLimits {
            primitives_max: limits.primitives_max,
            primitive_chars_max: limits.primitive_chars_max,
        }
    }
}

/// What is the same for all pieces of a text.
struct Reader {
    caller: Caller,
    name: String,
    perspective: Perspective,
}

pub(super) fn trouble_of(error: StorageError) -> Trouble {
    match error {
        StorageError::Stale { .. } | StorageError::Missing { .. } => Trouble::Lost,
        other => Trouble::Passing(Failure::from(other).message),
    }
}

pub(super) fn trouble_of_call(failure: Failure) -> Trouble {
    match failure.code {
        ErrorCode::ShuttingDown => return Trouble::Stopping,
        ErrorCode::IdempotencyInProgress => {
            return Trouble::Elsewhere(failure.retry_after_ms.unwrap_or(1_000));
        }
        // It has another name by now.
        ErrorCode::AlreadyCompleted => return Trouble::Passing(failure.message),
        _ => {}
    }
    let is_reserved =
        failure.funds.is_some_and(|funds| funds.reason == FundsReason::CreditReserved);
    match failure.code.row().kind {
        ErrorKind::Funds if !is_reserved => Trouble::Owner(failure.message),
        ErrorKind::Caller | ErrorKind::Auth => Trouble::Fatal(failure.message),
        ErrorKind::Funds
        | ErrorKind::Limit
        | ErrorKind::Upstream
        | ErrorKind::Unavailable
        | ErrorKind::Bug => Trouble::Passing(failure.message),
    }
}

/// Why a job failed that its workers died of.
fn given_up(attempts_max: u32) -> String {
    format!(
        "The work was begun {attempts_max} times and broke off each time without a step forward: the server that was at it stopped or failed. Change the text, or ask again."
    )
}

/// The pause before another try: doubled with each, at most 2^10 times the first.
fn backoff_ms(first_ms: u64, attempts: i64) -> u64 {
    let doublings = u32::try_from(attempts.clamp(1, 11) - 1).unwrap_or_default();
    first_ms.saturating_mul(2_u64.pow(doublings))
}

fn as_i64(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
