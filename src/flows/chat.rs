//! `POST /v1/chat/completions`: a face, or a bare model, answers in OpenAI's format.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    Caller, Failure, Flows,
    billing::{Bill, Billing, End},
    call::{self, Reply, ReplyNotes},
    chat_stream::ChatSession,
    estimate::Estimate,
    resolve::Target,
    trace::RequestTrace,
};
use crate::{
    domain::{FaceId, clock, ledger::IdemClaim},
    providers::{Dispatch, Endpoint, SentMark, UpstreamResponse},
    wire::{
        Retelling, UpstreamFormat,
        completion::{self, CompletionOptions},
        openai_chat::{ChatRequest, OpenAiEdit},
        translate::{self, AnthropicTarget},
    },
};

/// A request that is ready to be sent.
struct Prepared {
    dispatch: Dispatch,
    dropped: Vec<&'static str>,
    unwrap_tool: bool,
}

/// A request whose target is known.
pub(super) struct Question {
    pub(super) request: ChatRequest,
    pub(super) target: Target,
    /// What stands after the persona: profiles of faces that the messages mention.
    pub(super) background: Option<String>,
    /// Whose use it is in the books.
    pub(super) face_id: Option<FaceId>,
    pub(super) idem: Option<IdemClaim>,
    /// How the answer is told, when the client did not ask in the chat format.
    pub(super) telling: Telling,
}

/// The format that a client asked in, when it is not chat's.
#[derive(Default)]
pub(super) struct Telling {
    pub(super) retelling: Option<Arc<Retelling>>,
    /// Fields that chat has no place for.
    pub(super) dropped: Vec<&'static str>,
}

impl Flows {
    /// Answers a chat request.
    ///
    /// Returns when the status is known: for JSON after the settlement is durable, for a stream
    /// after the upstream's first event, so that an upstream failure is still a real status.
    ///
    /// # Errors
    /// [`Failure`] with the code of the first step that said no. Nothing is charged then.
    ///
    /// # Cancel safety
    /// Dropped (the client left), the upstream call is cancelled and the hold is settled for the
    /// input, or released when nothing had been sent. Where cancelling does not stop the
    /// provider's bill, the call goes on without the client and its real usage is settled.
    pub async fn chat(
        &self,
        caller: &Caller,
        body: Bytes,
        idem: Option<IdemClaim>,
        trace: &RequestTrace,
    ) -> Result<Reply<ChatSession>, Failure> {
        let request = ChatRequest::parse(body)?;
        let target = self.resolve(caller, request.model()).await?;
        call::trace_target(trace, request.model(), &target.model);
        if let Some(stored) = self.answered_before(caller, idem.as_ref(), trace).await? {
            return Ok(Reply::Replayed(stored));
        }
        let (request, background) = self.expand(caller, &target, request).await?;
        let face_id = target.face.as_ref().map(|face| face.id);
        let telling = Telling::default();
        let question = Question { request, target, background, face_id, idem, telling };
        Box::pin(self.run_chat(caller, question, trace)).await
    }

    /// Holds, sends and reads the answer as far as [`Flows::chat`] says.
    ///
    /// # Errors
    /// As [`Flows::chat`].
    ///
    /// # Cancel safety
    /// As [`Flows::chat`].
    pub(super) async fn run_chat(
        &self,
        caller: &Caller,
        question: Question,
        trace: &RequestTrace,
    ) -> Result<Reply<ChatSession>, Failure> {
        let Question { request, target, background, face_id, idem, telling } = question;
        let persona = with_background(persona_of(&target, &request), background);
        let mut estimate = estimate_of(&target, &request, persona.as_deref());
        estimate.slice_tokens =
            self.slice_tokens(&target.model, request.stream(), request.asks_for_reasoning());
        let (mut billing, clamp) =
            self.open_billing(caller, face_id, &target.model, &estimate, idem, trace).await?;
        let mut prepared = match prepare(&target, &request, persona.as_deref(), clamp) {
            Ok(prepared) => prepared,
            Err(error) => {
                billing.void().await;
                return Err(error);
            }
        };
        let sent = billing.start(&estimate);
        prepared.dispatch.sent = sent.clone();
        let provider = Arc::clone(&target.model.provider);
        let Prepared { dispatch, dropped: untranslated, unwrap_tool } = prepared;
        let Telling { retelling, mut dropped } = telling;
        dropped.extend(untranslated);
        let job = Job { request, target, estimate, trace: trace.clone(), unwrap_tool, retelling };
        let notes = ReplyNotes {
            model: Arc::clone(&job.target.model),
            max_tokens: clamp,
            dropped,
            headers: Vec::new(),
            bill: None,
        };
        let flows = self.clone();
        let work = Box::pin(async move { flows.answer(dispatch, billing, job, notes).await });
        self.see_through(&provider, trace, sent, work).await
    }

    /// Sends a prepared request and reads its answer, a stream's as far as its first event.
    async fn answer(
        &self,
        dispatch: Dispatch,
        billing: Billing,
        job: Job,
        mut notes: ReplyNotes,
    ) -> Result<Reply<ChatSession>, Failure> {
        let sent = self.inner.providers.dispatch(dispatch).await;
        let model = &job.target.model;
        let (response, mut billing) =
            call::accepted(sent, billing, model, job.request.stream()).await?;
        billing.answered(response.status);
        notes.headers.clone_from(&response.headers);
        if job.request.stream() {
            let session = ChatSession::start(self, response, billing, &job).await?;
            let session = self.for_client(session, &model.provider, job.trace.clone());
            return Ok(Reply::Stream { session, notes });
        }
        self.finish_json(response, billing, &job, notes).await
    }

    async fn finish_json(
        &self,
        response: UpstreamResponse,
        mut billing: Billing,
        job: &Job,
        mut notes: ReplyNotes,
    ) -> Result<Reply<ChatSession>, Failure> {
        let collected = response.body.collect(self.inner.options.upstream_body_bytes_max).await;
        let body = match collected {
            Ok(body) => body,
            Err(error) => return Err(billing.broken_off(error).await),
        };
        let options = CompletionOptions {
            model_echo: job.request.model(),
            created: clock::now().seconds(),
            fallback_id: format!("chatcmpl-{}", job.trace.request_id()),
            context_tokens_max: job.target.model.context_tokens_max,
            unwrap_tool: job.unwrap_tool,
        };
        let read = match completion::read(job.target.model.provider.format, &body, &options) {
            Ok(read) => read,
            Err(fault) => {
                billing.void().await;
                return Err(fault.into());
            }
        };
        let end = End::complete(&read.meter, job.estimate.input_tokens_estimate);
        let told = job.retelling.as_ref().map(|retelling| retelling.whole(&read.body, &end.usage));
        let body = match told.unwrap_or(Ok(read.body)) {
            Ok(body) => body,
            Err(fault) => {
                billing.void().await;
                return Err(fault.into());
            }
        };
        self.keep_answer(&mut billing, &body);
        let bill: Bill = billing.settle(end).await?;
        notes.bill = Some(bill);
        Ok(Reply::Json { body, notes })
    }
}

/// What the reading of the answer needs to know about the question.
pub(super) struct Job {
    pub(super) request: ChatRequest,
    pub(super) target: Target,
    pub(super) estimate: Estimate,
    pub(super) trace: RequestTrace,
    pub(super) unwrap_tool: bool,
    retelling: Option<Arc<Retelling>>,
}

fn persona_of(target: &Target, request: &ChatRequest) -> Option<Arc<str>> {
    target.persona(|| request.conversation_text())
}

/// The whole text that goes before the caller's own system text.
pub(super) fn with_background(
    persona: Option<Arc<str>>,
    background: Option<String>,
) -> Option<Arc<str>> {
    match (persona, background) {
        (persona, None) => persona,
        (None, Some(background)) => Some(background.into()),
        (Some(persona), Some(background)) => Some(format!("{persona}\n\n{background}").into()),
    }
}

fn estimate_of(target: &Target, request: &ChatRequest, persona: Option<&str>) -> Estimate {
    let model = &target.model;
    let omitted = match model.provider.format {
        UpstreamFormat::OpenAiChat => None,
        // The field is required there, so what is omitted is sent as the model's default.
        UpstreamFormat::AnthropicMessages => Some(model.output_tokens_default),
    };
    let mut estimate = Estimate::new(
        model,
        &request.input_bound(),
        persona.map_or(0, str::len),
        request.max_tokens().or(omitted),
        request.n(),
        request.may_write_cache(),
    );
    estimate.output_is_given = request.max_tokens().is_some();
    estimate
}

fn prepare(
    target: &Target,
    request: &ChatRequest,
    persona: Option<&str>,
    clamp: Option<u64>,
) -> Result<Prepared, Failure> {
    let model = &target.model;
    let (endpoint, body, dropped, unwrap_tool) = match model.provider.format {
        UpstreamFormat::OpenAiChat => {
            let edit = OpenAiEdit {
                model: &model.upstream_id,
                system_prefix: persona,
                include_usage: true,
                max_tokens: clamp
                    .or_else(|| request.limit_to_write(model.tokens_field))
                    .map(|tokens| (model.tokens_field, tokens)),
            };
            (Endpoint::ChatCompletions, request.to_openai(&edit), Vec::new(), false)
        }
        UpstreamFormat::AnthropicMessages => {
            let wanted = request.max_tokens().unwrap_or(model.output_tokens_default);
            let anthropic = AnthropicTarget {
                model: &model.upstream_id,
                max_tokens: clamp.unwrap_or(wanted).min(model.output_tokens_max),
                system_prefix: persona,
                accepts_sampling: model.accepts_sampling,
                adaptive_thinking: model.adaptive_thinking,
                native_structured_output: model.native_structured_output,
                accepts_forced_tool_choice: model.accepts_forced_tool_choice,
                accepts_mid_system: model.accepts_mid_system,
            };
            let translated = translate::request_to_anthropic(request, &anthropic)?;
            (Endpoint::Messages, translated.body, translated.dropped, translated.unwrap_tool)
        }
    };
    let dispatch = Dispatch {
        provider: Arc::clone(&model.provider),
        endpoint,
        query: None,
        headers: Vec::new(),
        body,
        stream: request.stream(),
        sent: SentMark::default(),
    };
    Ok(Prepared { dispatch, dropped, unwrap_tool })
}
