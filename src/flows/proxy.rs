//! The native proxies: the provider's own request and answer, billed to the account.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    Caller, Failure, Flows,
    billing::{Billing, End},
    call::{self, Reply, ReplyNotes},
    chat::with_background,
    estimate::Estimate,
    proxy_stream::{ProxyPlan, ProxySession},
    resolve::Target,
    trace::RequestTrace,
};
use crate::{
    domain::{FaceId, ledger::IdemClaim},
    providers::{Dispatch, Endpoint, Model, SentMark, UpstreamResponse, forward_request_headers},
    wire::{
        self, InputBound, UpstreamFormat,
        anthropic::{self, MessagesRequest},
        openai_chat::{ChatRequest, OpenAiEdit},
    },
};

/// A native request, as far as it must be understood to be billed.
struct Native {
    model: Arc<Model>,
    stream: bool,
    /// Whether the usage chunk must be hidden from the client.
    hide_usage: bool,
    bound: InputBound,
    max_tokens: Option<u64>,
    choices: u64,
    may_write_cache: bool,
    asks_for_reasoning: bool,
    persona: Persona,
    parsed: Parsed,
}

/// A Messages request to a model of Anthropic's, resolved and with its placeholders replaced.
pub(super) struct NativeQuestion {
    pub(super) request: MessagesRequest,
    pub(super) target: Target,
    /// What stands after the persona: profiles of faces that the messages mention.
    pub(super) background: Option<String>,
}

impl NativeQuestion {
    /// The whole text that goes before the caller's own system text.
    pub(super) fn prompt(&mut self) -> Option<Arc<str>> {
        let persona = self.target.persona(|| self.request.conversation_text());
        with_background(persona, self.background.take())
    }
}

/// In whose name a native request is made; nobody's on the native proxies.
#[derive(Default)]
struct Persona {
    face_id: Option<FaceId>,
    prompt: Option<Arc<str>>,
    /// What the answer says it is by; `None`: what the provider says.
    model_echo: Option<String>,
}

enum Parsed {
    OpenAi(ChatRequest),
    Anthropic(MessagesRequest),
}

impl Native {
    /// A request of Anthropic's format in nobody's name.
    fn anthropic(request: MessagesRequest, model: Arc<Model>) -> Self {
        Self {
            stream: request.stream(),
            hide_usage: false,
            bound: request.input_bound(),
            max_tokens: Some(request.max_tokens()),
            choices: 1,
            may_write_cache: request.may_write_cache(),
            asks_for_reasoning: request.asks_for_reasoning(),
            persona: Persona::default(),
            parsed: Parsed::Anthropic(request),
            model,
        }
    }
}

/// What the reading of a native answer needs to know.
struct NativeJob {
    plan: ProxyPlan,
    stream: bool,
    model_echo: Option<String>,
    trace: RequestTrace,
}

/// What came with the request besides its body.
#[derive(Debug, Clone, Default)]
pub struct NativeParts {
    /// The request's headers; only the end-to-end ones that belong to the provider are forwarded.
    pub headers: Vec<(String, String)>,
    /// The query string (`beta=true`).
    pub query: Option<String>,
    /// The idempotency key.
    pub idem: Option<IdemClaim>,
}

impl Flows {
    /// `POST /v1/openai/chat/completions`.
    ///
    /// # Errors
    /// As [`Flows::chat`]; the provider's own errors keep their message.
    ///
    /// # Cancel safety
    /// As [`Flows::chat`].
    pub async fn proxy_openai(
        &self,
        caller: &Caller,
        body: Bytes,
        parts: NativeParts,
        trace: &RequestTrace,
    ) -> Result<Reply<ProxySession>, Failure> {
        let request = ChatRequest::parse(body)?;
        let model = self.resolve_native(caller, request.model(), UpstreamFormat::OpenAiChat)?;
        let native = Native {
            stream: request.stream(),
            hide_usage: request.stream() && !request.include_usage(),
            bound: request.input_bound(),
            max_tokens: request.max_tokens(),
            choices: request.n(),
            may_write_cache: request.may_write_cache(),
            asks_for_reasoning: request.asks_for_reasoning(),
            persona: Persona::default(),
            parsed: Parsed::OpenAi(request),
            model,
        };
        self.proxy(caller, native, parts, trace).await
    }

    /// `POST /v1/anthropic/messages`.
    ///
    /// # Errors
    /// As [`Flows::chat`]; the provider's own errors keep their message.
    ///
    /// # Cancel safety
    /// As [`Flows::chat`].
    pub async fn proxy_anthropic(
        &self,
        caller: &Caller,
        body: Bytes,
        parts: NativeParts,
        trace: &RequestTrace,
    ) -> Result<Reply<ProxySession>, Failure> {
        let request = MessagesRequest::parse(body)?;
        let model =
            self.resolve_native(caller, request.model(), UpstreamFormat::AnthropicMessages)?;
        self.proxy(caller, Native::anthropic(request, model), parts, trace).await
    }

    /// Runs a Messages request on a model of Anthropic's: everything is relayed as it is, but for the
    /// persona before the caller's system text and the `model` that the answer repeats. Whether
    /// it was answered before is the caller's to ask.
    ///
    /// # Errors
    /// As [`Flows::proxy_anthropic`].
    ///
    /// # Cancel safety
    /// As [`Flows::chat`].
    pub(super) async fn native_messages(
        &self,
        caller: &Caller,
        mut question: NativeQuestion,
        parts: NativeParts,
        trace: &RequestTrace,
    ) -> Result<Reply<ProxySession>, Failure> {
        let prompt = question.prompt();
        let NativeQuestion { request, target, .. } = question;
        let persona = Persona {
            face_id: target.face.as_ref().map(|face| face.id),
            prompt,
            model_echo: Some(request.model().to_owned()),
        };
        let native = Native { persona, ..Native::anthropic(request, target.model) };
        self.run_native(caller, native, parts, trace).await
    }

    /// `POST /v1/anthropic/messages/count_tokens`: forwarded, not billed (the provider does not
    /// bill it either).
    ///
    /// # Errors
    /// As [`Flows::chat`], less the 402s.
    pub async fn count_tokens(
        &self,
        caller: &Caller,
        body: Bytes,
        parts: NativeParts,
        trace: &RequestTrace,
    ) -> Result<Bytes, Failure> {
        let request = MessagesRequest::parse_count_tokens(body)?;
        let model =
            self.resolve_native(caller, request.model(), UpstreamFormat::AnthropicMessages)?;
        call::trace_target(trace, &model.id, &model);
        let body = request.with_model(&model.upstream_id);
        self.forward_count(&model, body, parts).await
    }

    /// Forwards a request to count tokens.
    ///
    /// # Errors
    /// The provider's refusal or failure.
    pub(super) async fn forward_count(
        &self,
        model: &Model,
        body: Bytes,
        parts: NativeParts,
    ) -> Result<Bytes, Failure> {
        let dispatch = Dispatch {
            provider: Arc::clone(&model.provider),
            endpoint: Endpoint::CountTokens,
            headers: forwarded(model, &parts),
            query: parts.query,
            body,
            stream: false,
            // Nothing is billed, so nobody asks.
            sent: SentMark::default(),
        };
        let response = self.inner.providers.dispatch(dispatch).await?;
        if !(200..300).contains(&response.status) {
            return Err(call::refused(model.provider.format, response).await);
        }
        Ok(response.body.collect(self.inner.options.upstream_body_bytes_max).await?)
    }

    async fn proxy(
        &self,
        caller: &Caller,
        native: Native,
        parts: NativeParts,
        trace: &RequestTrace,
    ) -> Result<Reply<ProxySession>, Failure> {
        call::trace_target(trace, &native.model.id, &native.model);
        if let Some(stored) = self.answered_before(caller, parts.idem.as_ref(), trace).await? {
            return Ok(Reply::Replayed(stored));
        }
        self.run_native(caller, native, parts, trace).await
    }

    /// Holds, sends and reads the answer as far as [`Flows::chat`] says.
    async fn run_native(
        &self,
        caller: &Caller,
        native: Native,
        mut parts: NativeParts,
        trace: &RequestTrace,
    ) -> Result<Reply<ProxySession>, Failure> {
        let model = Arc::clone(&native.model);
        let mut estimate = Estimate::new(
            &model,
            &native.bound,
            native.persona.prompt.as_deref().map_or(0, str::len),
            native.max_tokens,
            native.choices,
            native.may_write_cache,
        );
        estimate.slice_tokens = self.slice_tokens(&model, native.stream, native.asks_for_reasoning);
        let idem = parts.idem.take();
        let (mut billing, clamp) = self
            .open_billing(caller, native.persona.face_id, &model, &estimate, idem, trace)
            .await?;
        let dispatch = Dispatch {
            provider: Arc::clone(&model.provider),
            endpoint: match native.parsed {
                Parsed::OpenAi(_) => Endpoint::ChatCompletions,
                Parsed::Anthropic(_) => Endpoint::Messages,
            },
            headers: forwarded(&model, &parts),
            query: parts.query,
            body: upstream_body(&native, clamp),
            stream: native.stream,
            sent: billing.start(&estimate),
        };
        let sent = dispatch.sent.clone();
        let job = NativeJob {
            plan: ProxyPlan {
                format: model.provider.format,
                hide_usage: native.hide_usage,
                context_tokens_max: model.context_tokens_max,
                input_tokens_estimate: estimate.input_tokens_estimate,
                input_max: estimate.input_max(billing.prices()),
            },
            stream: native.stream,
            model_echo: native.persona.model_echo,
            trace: trace.clone(),
        };
        let notes = ReplyNotes {
            model: Arc::clone(&model),
            max_tokens: clamp,
            dropped: Vec::new(),
            headers: Vec::new(),
            bill: None,
        };
        let flows = self.clone();
        let work =
            Box::pin(async move { flows.answer_native(dispatch, billing, job, notes).await });
        self.see_through(&model.provider, trace, sent, work).await
    }

    /// Sends a native request and reads its answer, a stream's as far as its first record.
    async fn answer_native(
        &self,
        dispatch: Dispatch,
        billing: Billing,
        job: NativeJob,
        mut notes: ReplyNotes,
    ) -> Result<Reply<ProxySession>, Failure> {
        let sent = self.inner.providers.dispatch(dispatch).await;
        let (response, mut billing) =
            call::accepted(sent, billing, &notes.model, job.stream).await?;
        billing.answered(response.status);
        notes.headers.clone_from(&response.headers);
        if job.stream {
            let NativeJob { plan, model_echo, .. } = &job;
            let started = ProxySession::start(self, response, billing, plan, model_echo.clone());
            let session = started.await?;
            let session = self.for_client(session, &notes.model.provider, job.trace);
            return Ok(Reply::Stream { session, notes });
        }
        self.finish_native_json(response, billing, &job, notes).await
    }

    async fn finish_native_json(
        &self,
        response: UpstreamResponse,
        mut billing: Billing,
        job: &NativeJob,
        mut notes: ReplyNotes,
    ) -> Result<Reply<ProxySession>, Failure> {
        let plan = &job.plan;
        let collected = response.body.collect(self.inner.options.upstream_body_bytes_max).await;
        let mut body = match collected {
            Ok(body) => body,
            Err(error) => return Err(billing.broken_off(error).await),
        };
        let meter = match wire::read_native_usage(plan.format, &body, plan.context_tokens_max) {
            Ok(meter) => meter,
            Err(fault) => {
                billing.void().await;
                return Err(fault.into());
            }
        };
        let end = End::complete(&meter, plan.input_tokens_estimate);
        if let Some(model) = &job.model_echo {
            body = anthropic::echo_model(&body, model);
        }
        self.keep_answer(&mut billing, &body);
        notes.bill = Some(billing.settle(end).await?);
        Ok(Reply::Json { body, notes })
    }
}

/// The client's headers that belong to the provider's format.
fn forwarded(model: &Model, parts: &NativeParts) -> Vec<(String, String)> {
    let headers = parts.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    forward_request_headers(model.provider.format, headers)
}

fn upstream_body(native: &Native, clamp: Option<u64>) -> Bytes {
    let model = &native.model;
    match &native.parsed {
        Parsed::OpenAi(request) => request.to_openai(&OpenAiEdit {
            model: &model.upstream_id,
            system_prefix: None,
            include_usage: true,
            max_tokens: clamp
                .or_else(|| request.limit_to_write(model.tokens_field))
                .map(|tokens| (model.tokens_field, tokens)),
        }),
        Parsed::Anthropic(request) => {
            request.with_persona(&model.upstream_id, native.persona.prompt.as_deref())
        }
    }
}
