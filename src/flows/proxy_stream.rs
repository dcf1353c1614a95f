//! A native stream: the provider's bytes, relayed record by record, billed from a tee.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use futures_util::Stream;

use super::{
    Failure, Flows,
    billing::Billing,
    drains::Relay,
    failure,
    stream_money::{Closing, Ending, MoneyTerms, StreamMoney},
};
use crate::{
    domain::{ErrorCode, Usage},
    providers::{ProviderError, UpstreamBody, UpstreamResponse},
    wire::{
        ProxyStep, ProxyStream, ProxyStreamOptions, SseDecoder, SseRecord, UpstreamFault,
        UpstreamFormat, anthropic, errors::ErrorBody,
    },
};

/// What a native answer needs to be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct ProxyPlan {
    pub(super) format: UpstreamFormat,
    pub(super) hide_usage: bool,
    pub(super) context_tokens_max: u64,
    pub(super) input_tokens_estimate: u64,
    /// The most that the input can be billed as.
    pub(super) input_max: Usage,
}

/// One thing to send to the client, in order.
#[derive(Debug)]
pub enum ProxyEvent {
    /// The provider's bytes, whole records, untouched.
    Bytes(Bytes),
    /// The stream failed in a way that the provider did not tell the client; nothing follows.
    Failed(Failure),
}

/// A running native stream.
///
/// Dropped (the client left, and what [`super::drains`] does for it is done), it cancels the
/// upstream and its `Billing` settles what was metered.
#[derive(Debug)]
pub struct ProxySession {
    /// `None` once the upstream is done.
    body: Option<UpstreamBody>,
    decoder: SseDecoder,
    tee: ProxyStream,
    /// What `message_start` is to say it is by, until it has come.
    model_echo: Option<String>,
    ready: VecDeque<ProxyEvent>,
    /// The last record, while the credit that is held does not pay for it. Nothing is read meanwhile.
    withheld: Option<Bytes>,
    held_back: Bytes,
    /// Whether what is held back is the provider's own error event.
    provider_told: bool,
    /// Whether the client has been sent a record (and so a status line).
    is_begun: bool,
    money: StreamMoney,
}

impl ProxySession {
    /// Waits for the first record, so that a failure before it is a real HTTP status.
    ///
    /// # Errors
    /// The upstream's failure before its first record; the hold is released.
    ///
    /// # Cancel safety
    /// As [`ProxySession`]'s drop.
    pub(super) async fn start(
        flows: &Flows,
        response: UpstreamResponse,
        billing: Billing,
        plan: &ProxyPlan,
        model_echo: Option<String>,
    ) -> Result<Self, Failure> {
        let mut session = Self {
            body: Some(response.body),
            decoder: SseDecoder::new(flows.inner.options.sse_record_bytes_max),
            tee: ProxyStream::new(
                plan.format,
                ProxyStreamOptions {
                    hide_usage: plan.hide_usage,
                    context_tokens_max: plan.context_tokens_max,
                },
            ),
            model_echo,
            ready: VecDeque::new(),
            withheld: None,
            held_back: Bytes::new(),
            provider_told: false,
            is_begun: false,
            money: StreamMoney::new(
                billing,
                MoneyTerms {
                    input_tokens_estimate: plan.input_tokens_estimate,
                    input_max: plan.input_max,
                    charge_partial: flows.inner.options.charge_partial_on_upstream_error,
                },
            ),
        };
        std::future::poll_fn(|cx| {
            while session.ready.is_empty() {
                if !ready!(session.poll_step(cx)) {
                    break;
                }
            }
            Poll::Ready(())
        })
        .await;
        match session.ready.front() {
            Some(ProxyEvent::Failed(failure)) => Err(failure.clone()),
            _ => Ok(session),
        }
    }

    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        if self.withheld.is_some() {
            let covered = ready!(self.money.poll_covered(cx));
            self.decided(covered.is_ok());
            return Poll::Ready(true);
        }
        if self.money.is_relaying() {
            let read = match &mut self.body {
                Some(body) => ready!(body.poll_next(cx)),
                None => None,
            };
            self.read(read);
            return Poll::Ready(true);
        }
        match ready!(self.money.poll_closing(cx)) {
            Some(closing) => self.close(closing),
            None => return Poll::Ready(false),
        }
        Poll::Ready(true)
    }

    fn read(&mut self, read: Option<Result<Bytes, ProviderError>>) {
        match read {
            Some(Ok(_)) if !self.money.may_release() => self.fail(failure::ledger_unavailable()),
            Some(Ok(chunk)) => {
                self.decoder.push(chunk);
                self.relay(BytesMut::new());
            }
            Some(Err(error)) => self.fail(error),
            None => match self.tee.end_of_body() {
                Ok(()) => self.end(Ending::Complete),
                Err(fault) => self.fail(fault),
            },
        }
    }

    /// It is known whether there is credit for what was withheld.
    fn decided(&mut self, is_covered: bool) {
        let withheld = self.withheld.take().unwrap_or_default();
        if !is_covered {
            self.end(Ending::Exhausted);
        } else if self.money.may_release() {
            self.relay(BytesMut::from(withheld));
        } else {
            self.fail(failure::ledger_unavailable());
        }
    }

    /// Shows `run`, and what has arrived after it.
    fn relay(&mut self, mut run: BytesMut) {
        self.decode(&mut run);
        self.money.progress(self.tee.meter());
        if !run.is_empty() {
            self.is_begun = true;
            self.ready.push_back(ProxyEvent::Bytes(run.freeze()));
        }
    }

    /// Appends to `run` what may be shown now. The terminal record waits for the settlement.
    fn decode(&mut self, run: &mut BytesMut) {
        loop {
            let record = match self.decoder.next() {
                Ok(Some(record)) => record,
                Ok(None) => return,
                Err(error) => return self.fail(UpstreamFault::from(error)),
            };
            match self.tee.push(&record) {
                ProxyStep::Relay if self.money.covers(self.tee.meter()) => {
                    run.extend_from_slice(&self.shown(record));
                }
                ProxyStep::Relay => {
                    self.withheld = Some(self.shown(record));
                    return;
                }
                ProxyStep::Hide => {}
                ProxyStep::Terminal => {
                    self.held_back = whole_line_end(record.raw);
                    return self.end(Ending::Complete);
                }
                ProxyStep::ErrorEvent(fault) => {
                    // The provider's own words reach the client as they came.
                    self.held_back = whole_line_end(record.raw);
                    self.provider_told = true;
                    return self.fail(fault);
                }
                ProxyStep::Failed(fault) => return self.fail(fault),
            }
        }
    }

    /// A record as the client gets it.
    fn shown(&mut self, record: SseRecord) -> Bytes {
        let Some(model) = &self.model_echo else { return record.raw };
        match anthropic::echo_model_at_start(&record, model) {
            Some(edited) => {
                self.model_echo = None;
                edited
            }
            None => record.raw,
        }
    }

    fn fail(&mut self, failure: impl Into<Failure>) {
        self.end(Ending::Failed(failure.into()));
    }

    fn end(&mut self, ending: Ending) {
        // Dropped, the body cancels the call.
        if let Some(body) = self.body.take()
            && matches!(ending, Ending::Complete)
        {
            // Its own end was seen: the connection can be used again.
            body.release();
        }
        self.money.end(self.tee.meter(), ending);
    }

    fn close(&mut self, closing: Closing) {
        // Held back: the provider's terminal record, or its own error event.
        let held_back = std::mem::take(&mut self.held_back);
        match closing {
            Closing::Exhausted(_) => {
                let message = failure::CREDIT_EXHAUSTED_MESSAGE;
                let error = ErrorBody::new(ErrorCode::CreditExhausted, message);
                let usage = self.money.usage(self.tee.meter());
                self.ready.push_back(ProxyEvent::Bytes(self.tee.cut_off(&usage, &error)));
            }
            Closing::Complete(_) if held_back.is_empty() => {}
            // An error that comes first becomes a real status, which no client takes for success.
            Closing::Failed(failure)
                if held_back.is_empty() || !self.provider_told || !self.is_begun =>
            {
                self.ready.push_back(ProxyEvent::Failed(failure));
            }
            Closing::Complete(_) | Closing::Failed(_) => {
                self.ready.push_back(ProxyEvent::Bytes(held_back))
            }
        }
    }
}

/// A record is over at its blank line's CR; the LF that belongs to it may come with the next read.
/// After the last record there is no next one, so it is put here.
fn whole_line_end(raw: Bytes) -> Bytes {
    if !raw.ends_with(b"\r\n\r") {
        return raw;
    }
    let mut whole = BytesMut::from(raw);
    whole.extend_from_slice(b"\n");
    whole.freeze()
}

impl Stream for ProxySession {
    type Item = ProxyEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Poll::Ready(Some(event));
            }
            if !ready!(self.poll_step(cx)) {
                return Poll::Ready(None);
            }
        }
    }
}

impl Relay for ProxySession {
    fn is_relaying(&self) -> bool {
        self.money.is_relaying()
    }
}

impl Drop for ProxySession {
    fn drop(&mut self) {
        self.money.client_left(self.tee.meter());
    }
}
