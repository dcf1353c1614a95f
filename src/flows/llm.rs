//! The server's own questions to a model, on behalf of an account: billed like any chat, without
//! an HTTP request.
//!
//! Compiling and interviews are made of such calls. Each goes the way of `POST
//! /v1/chat/completions` (hold → dispatch → settle, Anthropic's models through the translation) and
//! stands in the books as any other use. A call with a name is made once: asked for again after a
//! crash, it gives the answer that was paid for.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::{
    Caller, Failure, Flows,
    call::{self, Reply},
    chat::{Question, Telling},
    failure, idempotency,
    resolve::{self, Target},
    trace::RequestTrace,
};
use crate::{
    domain::{
        ErrorCode, FaceId, NanoUsd, Usage,
        ledger::{IdemClaim, IdemKey, IdemState},
    },
    providers::{Model, ProviderKind},
    storage::ledger,
    telemetry::metrics,
    wire::openai_chat::ChatRequest,
};

/// How long the answer of a named call is kept, ms (7 days): a job that crashed is taken up again
/// long before. Later, the call is made and billed anew.
const NAMED_CALL_TTL_MS: i64 = 7 * 86_400_000;

/// Who says a message of an [`LlmCall`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LlmRole {
    /// The asking side.
    User,
    /// The model's earlier answers.
    Assistant,
}

/// A question to a model. `Debug` shows no text.
#[derive(Clone, Default)]
pub struct LlmCall<'a> {
    /// A model of the catalog or an alias (never a face); `None`: the server's default.
    pub model: Option<&'a str>,
    /// Whose use it is in the books.
    pub face_id: Option<FaceId>,
    /// The system text.
    pub system: Option<String>,
    /// The conversation; not empty.
    pub messages: Vec<(LlmRole, String)>,
    /// Most tokens of the answer, reasoning included; what the model allows is the most.
    pub max_tokens: u64,
    /// Asks for JSON of this schema.
    pub json_schema: Option<Value>,
    /// Names the call within the account: of all calls with a name, one is made and billed. The
    /// name alone decides, so it must stand for all that is asked.
    pub idem_key: Option<&'a str>,
}

impl std::fmt::Debug for LlmCall<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LlmCall")
            .field("model", &self.model)
            .field("messages", &self.messages.len())
            .field("max_tokens", &self.max_tokens)
            .finish_non_exhaustive()
    }
}

/// What a model said. `Debug` shows no text.
#[derive(Clone)]
pub struct LlmAnswer {
    /// The text, empty when it refused or only thought.
    pub text: String,
    /// Whether `max_tokens` cut it off.
    pub is_cut: bool,
    /// Billed tokens.
    pub usage: Usage,
    /// What the account paid; of a repeated call, what it paid then.
    pub cost: NanoUsd,
    /// Whether this is the answer of the same call before, so that nothing was charged now.
    pub is_replay: bool,
}

impl std::fmt::Debug for LlmAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LlmAnswer")
            .field("text_bytes", &self.text.len())
            .field("is_cut", &self.is_cut)
            .field("usage", &self.usage)
            .field("cost", &self.cost)
            .field("is_replay", &self.is_replay)
            .finish()
    }
}

impl Flows {
    /// Asks a model and waits for its whole answer; the settlement is durable then.
    ///
    /// # Errors
    /// As [`Flows::chat`], and nothing is charged. For a named call also
    /// [`ErrorCode::IdempotencyInProgress`] while the same call runs (wait and ask again), and
    /// [`ErrorCode::AlreadyCompleted`] when it was billed but its answer was too large to be kept
    /// (`idempotency_body_bytes_max`): only another name gives an answer.
    ///
    /// # Cancel safety
    /// As [`Flows::chat`]. A named call that was dropped after its request went out stays taken
    /// only when it was billed.
    pub async fn complete(
        &self,
        caller: &Caller,
        call: LlmCall<'_>,
        trace: &RequestTrace,
    ) -> Result<LlmAnswer, Failure> {
        let model = self.llm_model(caller, call.model)?;
        call::trace_target(trace, &model.id, &model);
        let idem = call.idem_key.map(claim);
        if let Some(answer) = self.completed_before(caller, idem.as_ref()).await? {
            return Ok(answer);
        }
        let request = ChatRequest::parse(request_body(&model, &call).into())?;
        let target = Target { face: None, model };
        let telling = Telling::default();
        let face_id = call.face_id;
        let background = None;
        let question = Question { request, target, background, face_id, idem, telling };
        match Box::pin(self.run_chat(caller, question, trace)).await? {
            Reply::Json { body, notes } => {
                let bill = notes.bill.ok_or_else(internal)?;
                let (text, is_cut) = read_answer(&body).ok_or_else(internal)?;
                let (usage, cost) = (bill.usage, bill.charge);
                Ok(LlmAnswer { text, is_cut, usage, cost, is_replay: false })
            }
            Reply::Stream { .. } | Reply::Replayed(_) => Err(internal()),
        }
    }

    /// Whether that model is the built-in sandbox, which understands no prompt.
    ///
    /// # Errors
    /// 422 when the model is not usable, 403 when the key does not allow it.
    pub fn is_sandbox(&self, caller: &Caller, model: Option<&str>) -> Result<bool, Failure> {
        Ok(self.llm_model(caller, model)?.provider.kind == ProviderKind::Sandbox)
    }

    fn llm_model(&self, caller: &Caller, name: Option<&str>) -> Result<Arc<Model>, Failure> {
        let model = match name {
            None => Arc::clone(self.inner.providers.catalog().default_model()),
            Some(name) => self.usable_override(name)?,
        };
        resolve::permit_model(caller, &model)?;
        Ok(model)
    }

    /// The answer of a named call that was made before; `None` when it is to be made.
    async fn completed_before(
        &self,
        caller: &Caller,
        claim: Option<&IdemClaim>,
    ) -> Result<Option<LlmAnswer>, Failure> {
        let Some(claim) = claim else { return Ok(None) };
        let db = &self.inner.platform.inner.db;
        let found = ledger::find_key(db, caller.account_id, claim.key.clone()).await?;
        let Some(record) = found else { return Ok(None) };
        match record.state {
            IdemState::InProgress => Err(idempotency::in_progress()),
            IdemState::Done { response: Some(response), usage, cost } => {
                metrics::traffic().replayed();
                let (text, is_cut) = read_answer(&response.body).ok_or_else(internal)?;
                Ok(Some(LlmAnswer { text, is_cut, usage, cost, is_replay: true }))
            }
            IdemState::Done { response: None, usage, cost } => {
                Err(idempotency::already_completed(failure::Finished { usage, cost }))
            }
        }
    }
}

/// What makes a call with that name one, of all of its account.
pub(super) fn claim(name: &str) -> IdemClaim {
    let fingerprint = Sha256::digest(name.as_bytes()).into();
    IdemClaim { key: IdemKey::internal(name), fingerprint, ttl_ms: NAMED_CALL_TTL_MS }
}

fn request_body(model: &Model, call: &LlmCall<'_>) -> String {
    let system = call.system.iter().map(|text| json!({"role": "system", "content": text}));
    let turns = call.messages.iter().map(|(role, text)| {
        let role = match role {
            LlmRole::User => "user",
            LlmRole::Assistant => "assistant",
        };
        json!({"role": role, "content": text})
    });
    let mut body = Map::new();
    body.insert("model".to_owned(), json!(model.id));
    body.insert("messages".to_owned(), system.chain(turns).collect());
    let max_tokens = call.max_tokens.clamp(1, model.output_tokens_max.max(1));
    body.insert(model.tokens_field.as_str().to_owned(), json!(max_tokens));
    if let Some(schema) = &call.json_schema {
        let schema = json!({"name": "answer", "strict": true, "schema": schema});
        let format = json!({"type": "json_schema", "json_schema": schema});
        body.insert("response_format".to_owned(), format);
    }
    Value::Object(body).to_string()
}

/// The text of a `chat.completion`, and whether it was cut off.
fn read_answer(body: &[u8]) -> Option<(String, bool)> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let choice = body.get("choices")?.get(0)?;
    let text = choice["message"]["content"].as_str().unwrap_or_default().to_owned();
    Some((text, choice["finish_reason"] == "length"))
}

fn internal() -> Failure {
    Failure::new(ErrorCode::Internal, failure::INTERNAL_MESSAGE)
}
