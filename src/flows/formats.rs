//! `POST /v1/messages` and `POST /v1/responses`: a face, or a bare model, answers in Anthropic's
//! Messages or OpenAI's Responses format, whatever its provider speaks.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    Caller, Failure, Flows, NativeParts,
    call::{self, Reply},
    chat::{Question, Telling},
    chat_stream::ChatSession,
    proxy::NativeQuestion,
    proxy_stream::ProxySession,
    resolve::Target,
    trace::RequestTrace,
};
use crate::{
    domain::{ErrorCode, ledger::IdemClaim},
    providers::{HiddenReasoning, Model},
    wire::{
        AsChat, Retelling, UpstreamFormat,
        anthropic::MessagesRequest,
        messages::{self, MessagesTarget},
        responses,
    },
};

/// The answer to a Messages request.
#[derive(Debug)]
pub enum MessagesReply {
    /// From a model that speaks the format itself.
    Native(Reply<ProxySession>),
    /// From any other.
    Retold(RetoldReply),
}

/// A chat answer that is told in another format.
#[derive(Debug)]
pub struct RetoldReply {
    /// The answer: JSON that is told already, or chunks that are still to be.
    pub reply: Reply<ChatSession>,
    /// What tells the chunks.
    pub retelling: Arc<Retelling>,
}

/// A request of another format that is run as a chat request.
struct Retold {
    asked: AsChat,
    retelling: Retelling,
    target: Target,
    background: Option<String>,
    idem: Option<IdemClaim>,
}

impl Flows {
    /// `POST /v1/messages`. A model that speaks the format gets the request as it is, with the persona
    /// before its system text and its placeholders replaced; for any other it is run as a chat
    /// request.
    ///
    /// # Errors
    /// As [`Flows::chat`]; 400 when the target has no equivalent for something that matters.
    ///
    /// # Cancel safety
    /// As [`Flows::chat`].
    pub async fn messages(
        &self,
        caller: &Caller,
        body: Bytes,
        parts: NativeParts,
        trace: &RequestTrace,
    ) -> Result<MessagesReply, Failure> {
        let request = MessagesRequest::parse_lenient(body)?;
        let target = self.resolve(caller, request.model()).await?;
        call::trace_target(trace, request.model(), &target.model);
        if let Some(stored) = self.answered_before(caller, parts.idem.as_ref(), trace).await? {
            return Ok(MessagesReply::Native(Reply::Replayed(stored)));
        }
        let (request, background) = self.expand(caller, &target, request).await?;
        if target.model.provider.format == UpstreamFormat::AnthropicMessages {
            let question = NativeQuestion { request, target, background };
            let reply = Box::pin(self.native_messages(caller, question, parts, trace)).await?;
            return Ok(MessagesReply::Native(reply));
        }
        let asked = messages::to_chat(&request, takes(&target.model))?;
        let retelling = Retelling::messages(&request);
        let retold = Retold { asked, retelling, target, background, idem: parts.idem };
        self.retold(caller, retold, trace).await.map(MessagesReply::Retold)
    }

    /// `POST /v1/responses`: run as a chat request.
    ///
    /// # Errors
    /// As [`Flows::chat`]; 400 for what needs stored responses or OpenAI's own tools.
    ///
    /// # Cancel safety
    /// As [`Flows::chat`].
    pub async fn responses(
        &self,
        caller: &Caller,
        body: Bytes,
        idem: Option<IdemClaim>,
        trace: &RequestTrace,
    ) -> Result<RetoldReply, Failure> {
        let (AsChat { request, dropped }, retelling) = responses::to_chat(&body)?;
        let target = self.resolve(caller, request.model()).await?;
        call::trace_target(trace, request.model(), &target.model);
        if let Some(stored) = self.answered_before(caller, idem.as_ref(), trace).await? {
            let retelling = Arc::new(retelling);
            return Ok(RetoldReply { reply: Reply::Replayed(stored), retelling });
        }
        let (request, background) = self.expand(caller, &target, request).await?;
        let asked = AsChat { request, dropped };
        let retold = Retold { asked, retelling, target, background, idem };
        self.retold(caller, retold, trace).await
    }

    /// `POST /v1/messages/count_tokens`: counted by the provider with the persona, not billed.
    ///
    /// # Errors
    /// As [`Flows::chat`], less the 402s; 400 when the model's provider does not count.
    pub async fn count_message_tokens(
        &self,
        caller: &Caller,
        body: Bytes,
        parts: NativeParts,
        trace: &RequestTrace,
    ) -> Result<Bytes, Failure> {
        let request = MessagesRequest::parse_count_tokens(body)?;
        let target = self.resolve(caller, request.model()).await?;
        let model = Arc::clone(&target.model);
        call::trace_target(trace, request.model(), &model);
        if model.provider.format != UpstreamFormat::AnthropicMessages {
            let message =
                "Only the models of Anthropic's format count tokens: name one of them after the @.";
            let mut failure = Failure::invalid("model", message);
            failure.code = ErrorCode::UnsupportedParameter;
            return Err(failure);
        }
        let (request, background) = self.expand(caller, &target, request).await?;
        let mut question = NativeQuestion { request, target, background };
        let prompt = question.prompt();
        let body = question.request.with_persona(&model.upstream_id, prompt.as_deref());
        self.forward_count(&model, body, parts).await
    }

    async fn retold(
        &self,
        caller: &Caller,
        retold: Retold,
        trace: &RequestTrace,
    ) -> Result<RetoldReply, Failure> {
        let Retold { asked: AsChat { request, dropped }, target, background, idem, .. } = retold;
        let retelling = Arc::new(retold.retelling);
        let face_id = target.face.as_ref().map(|face| face.id);
        let telling = Telling { retelling: Some(Arc::clone(&retelling)), dropped };
        let question = Question { request, target, background, face_id, idem, telling };
        let reply = Box::pin(self.run_chat(caller, question, trace)).await?;
        Ok(RetoldReply { reply, retelling })
    }
}

/// What a model that is asked in the chat format takes of a Messages request.
fn takes(model: &Model) -> MessagesTarget {
    MessagesTarget { takes_effort: model.hidden_reasoning != HiddenReasoning::Never }
}
