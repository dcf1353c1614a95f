//! Who makes embeddings: the built-in lexical rule, or a model of the catalog, whose calls the
//! asking account pays.
//!
//! A face's statements go to the model in batches. What is kept of an answer is not its vectors but
//! what they add to the face's centroids ([`CentroidSums`]), under a name that stands for the texts
//! (see [`llm::claim`]) and in the transaction of its settlement: whoever asks for the same texts
//! within a week, after a crash or for another face, gets it without a charge, and of two servers
//! that ask at once one is told to wait.

use std::{ops::Range, sync::Arc};

use sha2::{Digest as _, Sha256};

use super::{
    Caller, Failure, Flows,
    billing::{Bill, Billing, End},
    call,
    centroids::blocking,
    estimate::Estimate,
    llm, resolve,
    trace::RequestTrace,
};
use crate::{
    accounts::Payer,
    config::Limits,
    domain::{
        Access, ErrorCode, FaceId, NanoUsd, Usage, UsageBasis,
        ledger::{Finish, IdemClaim, IdemState, StoredResponse},
    },
    faces::{
        Component, Primitive,
        centroid::{self, CentroidSums, Centroids},
        embedding::{self, Embedding},
    },
    providers::{Catalog, Dispatch, Endpoint, Model, ModelKind},
    storage::ledger,
    wire::{UpstreamFault, embeddings},
};

/// Tokens that a tokenizer may add to each text (its marks of beginning and end).
const TEXT_OVERHEAD_TOKENS: u64 = 8;
/// Bytes of text per token when a usage must be estimated: the usual English rate.
const BYTES_PER_TOKEN_ESTIMATE: u64 = 4;
/// Names that a batch may use up by calls that were charged and left nothing, because their client
/// left. Beyond them its calls have no name.
const NAMES_PER_BATCH: u32 = 3;
/// When to come back for what another request is making, ms.
const IN_PROGRESS_RETRY_AFTER_MS: u64 = 1_000;
/// `Content-Type` of what is kept of an answer, for the books alone.
const SUMS_TYPE: &str = "application/octet-stream";

/// Who makes vectors of statements. All that are compared must come from the same one.
#[derive(Debug, Clone)]
pub(super) enum Embedder {
    /// [`embedding::embed`]: by words, free.
    Lexical,
    /// A model's embeddings endpoint.
    Model(Arc<EmbeddingModel>),
}

/// A model that makes vectors.
#[derive(Debug)]
pub(super) struct EmbeddingModel {
    model: Arc<Model>,
    /// Values of each vector.
    dimensions: usize,
    /// The name under which its vectors are stored.
    id: String,
}

impl Embedder {
    /// What the configuration chose.
    pub(super) fn chosen(catalog: &Catalog) -> Self {
        let Some(model) = catalog.embedding_model() else { return Self::Lexical };
        let ModelKind::Embeddings { dimensions } = model.kind else { return Self::Lexical };
        Self::Model(Arc::new(EmbeddingModel {
            id: format!("{}/{}/{dimensions}", model.provider.name, model.upstream_id),
            model: Arc::clone(model),
            dimensions: usize::try_from(dimensions).unwrap_or(usize::MAX),
        }))
    }

    /// The name under which its vectors are stored: those of another one are made again.
    pub(super) fn id(&self) -> &str {
        match self {
            Self::Lexical => embedding::EMBEDDER,
            Self::Model(model) => &model.id,
        }
    }

    /// Whether what it makes is to be stored at once, because it was paid for.
    pub(super) const fn is_billed(&self) -> bool {
        matches!(self, Self::Model(_))
    }
}

/// What one request may still ask for, and what it has used.
#[derive(Debug)]
pub(super) struct Tally {
    calls_left: u32,
    input_tokens: u64,
    cost: NanoUsd,
    has_paid: bool,
}

impl Tally {
    /// Nothing used.
    pub(super) const fn new(limits: &Limits) -> Self {
        let calls_left = limits.embedding_calls_max;
        Self { calls_left, input_tokens: 0, cost: NanoUsd::ZERO, has_paid: false }
    }

    fn add(&mut self, bill: &Bill) {
        self.has_paid = true;
        self.input_tokens = self.input_tokens.saturating_add(bill.usage.input_total());
        self.cost = NanoUsd(self.cost.0.saturating_add(bill.charge.0));
    }

    /// Writes the sum of all calls into the request's line, where each has written its own.
    pub(super) fn write(&self, trace: &RequestTrace) {
        if self.has_paid {
            trace.update(|line| {
                line.input_tokens = Some(self.input_tokens);
                line.cost = Some(self.cost);
            });
        }
    }
}

/// Statements that are embedded in one call. It owns its texts: the call may outlive the request.
struct Batch {
    face_id: FaceId,
    components: Vec<Component>,
    texts: Vec<String>,
    /// Stands for the embedder and the texts.
    name: String,
}

/// What the books know of a named call.
enum Kept {
    Sums(CentroidSums),
    /// It was charged, and its answer is not there.
    Lost,
    Nothing,
}

impl Flows {
    /// The centroids of a face with these statements; `None` when the request has made all the
    /// calls that it may, while some are still to be made.
    ///
    /// # Errors
    /// With a model: 403 when the credential may not spend or not use the model, 402, 503 while
    /// another request makes the same, and the provider's failures. The batches before stay paid
    /// and kept.
    ///
    /// # Cancel safety
    /// As [`Flows::chat`], for the batch that is under way: its input is charged once its request
    /// went out, and asked for again it is charged again.
    pub(super) async fn centroids_of(
        &self,
        caller: &Caller,
        face_id: FaceId,
        mut primitives: Vec<Primitive>,
        tally: &mut Tally,
        trace: &RequestTrace,
    ) -> Result<Option<Centroids>, Failure> {
        let Embedder::Model(asked) = &self.inner.embedder else {
            return blocking(move || Some(lexical(&primitives))).await;
        };
        primitives.retain(centroid::counts);
        let mut sums = CentroidSums::default();
        for range in self.batches(&asked.model, &primitives) {
            let Some(statements) = primitives.get(range) else { continue };
            let batch = Batch::new(asked, face_id, statements);
            let Some(part) = self.batch_sums(caller, asked, batch, tally, trace).await? else {
                return Ok(None);
            };
            sums.merge(&part);
        }
        Ok(Some(sums.finish()))
    }

    /// Statements in their order, as many to a batch as a call may have.
    fn batches(&self, model: &Model, statements: &[Primitive]) -> Vec<Range<usize>> {
        let limits = &self.inner.platform.inner.limits;
        let texts_max = usize::try_from(limits.embedding_batch_max).unwrap_or(usize::MAX);
        let bytes_max = usize::try_from(limits.embedding_batch_bytes_max).unwrap_or(usize::MAX);
        let mut batches: Vec<Range<usize>> = Vec::new();
        let mut bytes = 0_usize;
        for (at, statement) in statements.iter().enumerate() {
            let length = text_of(model, statement).len();
            bytes = bytes.saturating_add(length);
            match batches.last_mut() {
                Some(batch) if batch.len() < texts_max && bytes <= bytes_max => batch.end = at + 1,
                _ => {
                    bytes = length;
                    batches.push(at..at + 1);
                }
            }
        }
        batches
    }

    /// What a batch adds to its face's centroids: from the books, or by a call.
    async fn batch_sums(
        &self,
        caller: &Caller,
        asked: &Arc<EmbeddingModel>,
        batch: Batch,
        tally: &mut Tally,
        trace: &RequestTrace,
    ) -> Result<Option<CentroidSums>, Failure> {
        let mut claim = None;
        for number in 0..NAMES_PER_BATCH {
            let named = llm::claim(&format!("{}-{number}", batch.name));
            match self.kept_sums(caller, asked, &named).await? {
                Kept::Sums(sums) => return Ok(Some(sums)),
                Kept::Lost => {}
                Kept::Nothing => {
                    claim = Some(named);
                    break;
                }
            }
        }
        if tally.calls_left == 0 {
            return Ok(None);
        }
        permit_spending(caller)?;
        resolve::permit_model(caller, &asked.model)?;
        tally.calls_left -= 1;
        let (sums, bill) = self.ask_for_batch(caller, asked, batch, claim, trace).await?;
        tally.add(&bill);
        Ok(Some(sums))
    }

    async fn kept_sums(
        &self,
        caller: &Caller,
        asked: &EmbeddingModel,
        claim: &IdemClaim,
    ) -> Result<Kept, Failure> {
        let db = &self.inner.platform.inner.db;
        let found = ledger::find_key(db, caller.account_id, claim.key.clone()).await?;
        Ok(match found.map(|record| record.state) {
            None => Kept::Nothing,
            Some(IdemState::InProgress) => return Err(in_progress()),
            Some(IdemState::Done { response: None, .. }) => Kept::Lost,
            Some(IdemState::Done { response: Some(response), .. }) => {
                CentroidSums::from_bytes(&response.body, asked.dimensions)
                    .map_or(Kept::Lost, Kept::Sums)
            }
        })
    }

    /// One call: held before, settled after.
    async fn ask_for_batch(
        &self,
        caller: &Caller,
        asked: &Arc<EmbeddingModel>,
        batch: Batch,
        claim: Option<IdemClaim>,
        trace: &RequestTrace,
    ) -> Result<(CentroidSums, Bill), Failure> {
        let model = &asked.model;
        trace.update(|line| line.model = Some(model.id.clone()));
        let estimate = estimate_of(&batch.texts);
        let face_id = Some(batch.face_id);
        let opened = self.open_billing(caller, face_id, model, &estimate, claim, trace).await;
        let (mut billing, _) = opened.map_err(|failure| match failure.code {
            ErrorCode::IdempotencyInProgress => in_progress(),
            _ => failure,
        })?;
        let dispatch = Dispatch {
            provider: Arc::clone(&model.provider),
            endpoint: Endpoint::Embeddings,
            query: None,
            headers: Vec::new(),
            body: embeddings::request(&model.upstream_id, &batch.texts),
            stream: false,
            sent: billing.start(&estimate),
        };
        let sent = dispatch.sent.clone();
        let (flows, asked_for) = (self.clone(), Arc::clone(asked));
        let work = Box::pin(async move {
            flows.answer_batch(dispatch, billing, &asked_for, batch, &estimate).await
        });
        let answered = self.see_through(&model.provider, trace, sent, work).await;
        answered.map_err(|failure| not_the_callers(failure, model))
    }

    async fn answer_batch(
        &self,
        dispatch: Dispatch,
        billing: Billing,
        asked: &EmbeddingModel,
        batch: Batch,
        estimate: &Estimate,
    ) -> Result<(CentroidSums, Bill), Failure> {
        let model = &asked.model;
        let sent = self.inner.providers.dispatch(dispatch).await;
        let (response, mut billing) = call::accepted(sent, billing, model, false).await?;
        billing.answered(response.status);
        let collected = response.body.collect(self.inner.options.upstream_body_bytes_max).await;
        let body = match collected {
            Ok(body) => body,
            Err(error) => return Err(billing.broken_off(error).await),
        };
        let (dimensions, most) = (asked.dimensions, estimate.input_tokens_max);
        let read = blocking(move || {
            let answer = embeddings::read(&body, batch.texts.len(), dimensions, most)?;
            let sums = sums_of(&batch.components, &answer.vectors)?;
            Ok((sums, answer.usage, answer.implausible))
        });
        let (sums, usage, implausible) = match read.await.and_then(|read| read.map_err(told)) {
            Ok(read) => read,
            Err(failure) => {
                billing.void().await;
                return Err(failure);
            }
        };
        let counted =
            || Usage { input_uncached: estimate.input_tokens_estimate, ..Usage::default() };
        let basis = if usage.is_some() { UsageBasis::Provider } else { UsageBasis::Counted };
        let end = End {
            usage: usage.unwrap_or_else(counted),
            basis,
            finish: Finish::Complete,
            payer: Payer::Customer,
            upstream_id: None,
            implausible,
        };
        // Whatever the bound of customers' answers: a face of many batches gets on by these alone.
        billing.keep_response(|| StoredResponse {
            status: 200,
            content_type: SUMS_TYPE.to_owned(),
            body: sums.to_bytes().into(),
        });
        let bill = billing.settle(end).await?;
        Ok((sums, bill))
    }
}

impl Batch {
    fn new(asked: &EmbeddingModel, face_id: FaceId, statements: &[Primitive]) -> Self {
        let texts: Vec<String> =
            statements.iter().map(|it| text_of(&asked.model, it).to_owned()).collect();
        let mut digest = Sha256::new();
        digest.update(asked.id.as_bytes());
        digest.update([0]);
        // It decides where long texts are cut.
        digest.update(asked.model.context_tokens_max.to_le_bytes());
        digest.update(centroid::source_of(statements));
        let name: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Self {
            face_id,
            components: statements.iter().map(|it| it.component).collect(),
            texts,
            name: format!("embeddings-{name}"),
        }
    }
}

/// What the model gets of a statement: a token is at least a byte, so no text is longer than the
/// model's context.
fn text_of<'a>(model: &Model, statement: &'a Primitive) -> &'a str {
    let most = usize::try_from(model.context_tokens_max).unwrap_or(usize::MAX);
    let end = statement.text.floor_char_boundary(most);
    statement.text.get(..end).unwrap_or(&statement.text)
}

/// What a call with these texts can use: input alone.
fn estimate_of(texts: &[String]) -> Estimate {
    let count = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
    let bytes = texts.iter().fold(0, |sum: u64, text| sum.saturating_add(count(text.len())));
    let overhead = count(texts.len()).saturating_mul(TEXT_OVERHEAD_TOKENS);
    Estimate {
        input_tokens_max: bytes.saturating_add(overhead),
        input_tokens_estimate: bytes.div_ceil(BYTES_PER_TOKEN_ESTIMATE),
        output_tokens_max: 0,
        output_is_given: true,
        choices: 1,
        may_write_cache: false,
        slice_tokens: None,
    }
}

fn sums_of(components: &[Component], vectors: &[Vec<f64>]) -> Result<CentroidSums, UpstreamFault> {
    let mut sums = CentroidSums::default();
    for (component, values) in components.iter().zip(vectors) {
        let detail = "the values of a vector are too large";
        let vector = Embedding::from_values(values).ok_or(UpstreamFault::Malformed { detail })?;
        sums.add(*component, &vector);
    }
    Ok(sums)
}

fn lexical(primitives: &[Primitive]) -> Centroids {
    let mut sums = CentroidSums::default();
    for primitive in primitives.iter().filter(|primitive| centroid::counts(primitive)) {
        sums.add(primitive.component, &embedding::embed(&primitive.text));
    }
    sums.finish()
}

/// The log says what is wrong with the vectors: it may be the models file.
fn told(fault: UpstreamFault) -> Failure {
    if let UpstreamFault::Malformed { detail } = fault {
        log::warn!(target: "faces::providers", "embeddings can't be used: {detail}");
    }
    fault.into()
}

/// 403 when the credential may read and not spend.
fn permit_spending(caller: &Caller) -> Result<(), Failure> {
    if caller.scopes.allow(Access::Chat) {
        return Ok(());
    }
    // Clients sort 403s by the words `budget`, `face` and `model`: none may stand here.
    let scope = Access::Chat.scope().unwrap_or_default();
    Err(Failure::new(
        ErrorCode::Forbidden,
        format!(
            "This comparison needs new embeddings, which cost credit, and this API key lacks the \
             scope `{scope}`. Ask once with a login or a key that has it: what is made is kept."
        ),
    ))
}

/// Another request is making the same embeddings.
fn in_progress() -> Failure {
    Failure::new(
        ErrorCode::Overloaded,
        "Another request is making the embeddings of this comparison. Ask again in a moment.",
    )
    .retry_after(IN_PROGRESS_RETRY_AFTER_MS)
}

/// The caller wrote no request to this provider, so what the provider says against it is no fault of
/// the caller's: the configuration is wrong.
fn not_the_callers(failure: Failure, model: &Model) -> Failure {
    match failure.code {
        ErrorCode::UpstreamInvalidRequest
        | ErrorCode::ContextLengthExceeded
        | ErrorCode::ModelNotFound
        | ErrorCode::BodyTooLarge => {
            log::error!(
                target: "faces::providers",
                "provider={} model={}: it refused a request for embeddings ({}); check the \
                 model of FACES_EMBEDDING_MODEL",
                model.provider.name,
                model.upstream_id,
                failure.code.as_str()
            );
            Failure {
                upstream_code: failure.upstream_code,
                ..Failure::new(
                    ErrorCode::UpstreamFailed,
                    format!("The provider of embeddings refused the request: {}", failure.message),
                )
            }
        }
        _ => failure,
    }
}
