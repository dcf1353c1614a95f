//! A chat stream's one end: receiver, translator, meter and money in one value.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::Stream;

use super::{
    Failure, Flows,
    billing::Billing,
    chat::Job,
    drains::Relay,
    failure,
    stream_money::{Closing, Ending, MoneyTerms, StreamMoney},
};
use crate::{
    domain::{ErrorCode, clock},
    providers::{UpstreamBody, UpstreamResponse},
    wire::{
        ChatStream, ChatStreamOptions, SseDecoder, StreamStep, UpstreamFault, errors::ErrorBody,
    },
};

/// One thing to send to the client, in order.
#[derive(Debug)]
pub enum ChatEvent {
    /// A `chat.completion.chunk` as JSON text.
    Chunk(Bytes),
    /// `[DONE]`: only after the settlement is durable (gate 2).
    Done,
    /// The stream failed; nothing follows. Never a fake finish.
    Failed(Failure),
}

/// A running chat stream.
///
/// Polled as a [`Stream`]. Dropped (the client left, and what [`super::drains`] does for it is
/// done), it cancels the upstream and its `Billing` settles what was metered.
#[derive(Debug)]
pub struct ChatSession {
    /// `None` once the upstream is done.
    body: Option<UpstreamBody>,
    decoder: SseDecoder,
    translator: ChatStream,
    chunks: VecDeque<Bytes>,
    /// What the last record made, while the credit that is held does not pay for it. Nothing is
    /// read meanwhile.
    withheld: Option<VecDeque<Bytes>>,
    tail: VecDeque<ChatEvent>,
    money: StreamMoney,
    include_usage: bool,
}

impl ChatSession {
    /// Waits for the first event, so that a failure before it is a real HTTP status.
    ///
    /// # Errors
    /// The upstream's failure before its first event; the hold is released.
    ///
    /// # Cancel safety
    /// As [`ChatSession`]'s drop.
    pub(super) async fn start(
        flows: &Flows,
        response: UpstreamResponse,
        billing: Billing,
        job: &Job,
    ) -> Result<Self, Failure> {
        let model = &job.target.model;
        let options = ChatStreamOptions {
            model_echo: job.request.model(),
            include_usage: job.request.include_usage(),
            created: clock::now().seconds(),
            fallback_id: format!("chatcmpl-{}", job.trace.request_id()),
            context_tokens_max: model.context_tokens_max,
            unwrap_tool: job.unwrap_tool,
        };
        let input_max = job.estimate.input_max(billing.prices());
        let mut session = Self {
            body: Some(response.body),
            decoder: SseDecoder::new(flows.inner.options.sse_record_bytes_max),
            translator: ChatStream::new(model.provider.format, options),
            chunks: VecDeque::new(),
            withheld: None,
            tail: VecDeque::new(),
            money: StreamMoney::new(
                billing,
                MoneyTerms {
                    input_tokens_estimate: job.estimate.input_tokens_estimate,
                    input_max,
                    charge_partial: flows.inner.options.charge_partial_on_upstream_error,
                },
            ),
            include_usage: job.request.include_usage(),
        };
        session.first_event().await?;
        Ok(session)
    }

    async fn first_event(&mut self) -> Result<(), Failure> {
        std::future::poll_fn(|cx| {
            while self.chunks.is_empty() && self.tail.is_empty() {
                if !ready!(self.poll_step(cx)) {
                    break;
                }
            }
            Poll::Ready(())
        })
        .await;
        match self.tail.front() {
            Some(ChatEvent::Failed(failure)) if self.chunks.is_empty() => Err(failure.clone()),
            _ => Ok(()),
        }
    }

    /// Makes one step; `false` when there is nothing left to do.
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

    fn read(&mut self, read: Option<Result<Bytes, crate::providers::ProviderError>>) {
        match read {
            Some(Ok(_)) if !self.money.may_release() => self.fail(failure::ledger_unavailable()),
            Some(Ok(chunk)) => {
                self.decoder.push(chunk);
                self.decode();
            }
            Some(Err(error)) => self.fail(error),
            None => match self.translator.end_of_body(&mut self.chunks) {
                Ok(()) => self.end(Ending::Complete),
                Err(fault) => self.fail(fault),
            },
        }
    }

    fn decode(&mut self) {
        loop {
            let record = match self.decoder.next() {
                Ok(Some(record)) => record,
                Ok(None) => break,
                Err(error) => return self.fail(UpstreamFault::from(error)),
            };
            let shown = self.chunks.len();
            match self.translator.push(&record, &mut self.chunks) {
                StreamStep::Continue if self.money.covers(self.translator.meter()) => {}
                StreamStep::Continue => {
                    self.withheld = Some(self.chunks.split_off(shown));
                    break;
                }
                StreamStep::Ended => return self.end(Ending::Complete),
                StreamStep::Failed(fault) => return self.fail(fault),
            }
        }
        self.money.progress(self.translator.meter());
    }

    /// It is known whether there is credit for what was withheld.
    fn decided(&mut self, is_covered: bool) {
        let withheld = self.withheld.take();
        if !is_covered {
            self.end(Ending::Exhausted);
        } else if self.money.may_release() {
            self.chunks.extend(withheld.into_iter().flatten());
            self.decode();
        } else {
            self.fail(failure::ledger_unavailable());
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
        self.money.end(self.translator.meter(), ending);
    }

    fn close(&mut self, closing: Closing) {
        let bill = match closing {
            Closing::Complete(bill) => bill,
            Closing::Exhausted(bill) => {
                let message = failure::CREDIT_EXHAUSTED_MESSAGE;
                let error = ErrorBody::new(ErrorCode::CreditExhausted, message);
                self.translator.cut_off(&error, &mut self.chunks);
                bill
            }
            Closing::Failed(failure) => return self.tail.push_back(ChatEvent::Failed(failure)),
        };
        if self.include_usage {
            let usage = self.money.usage(self.translator.meter());
            let money =
                bill.map(|bill| (bill.charge.to_json_number(), bill.balance.to_json_number()));
            let extra = money.as_ref().map(|(cost, balance)| {
                [("cost_usd", cost.as_ref()), ("balance_usd", balance.as_ref())]
            });
            let chunk = self
                .translator
                .usage_chunk(&usage, extra.as_ref().map_or(&[][..], |extra| &extra[..]));
            self.tail.push_back(ChatEvent::Chunk(chunk));
        }
        self.tail.push_back(ChatEvent::Done);
    }
}

impl Stream for ChatSession {
    type Item = ChatEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(chunk) = self.chunks.pop_front() {
                return Poll::Ready(Some(ChatEvent::Chunk(chunk)));
            }
            if let Some(event) = self.tail.pop_front() {
                return Poll::Ready(Some(event));
            }
            if !ready!(self.poll_step(cx)) {
                return Poll::Ready(None);
            }
        }
    }
}

impl Relay for ChatSession {
    fn is_relaying(&self) -> bool {
        self.money.is_relaying()
    }
}

impl Drop for ChatSession {
    fn drop(&mut self) {
        self.money.client_left(self.translator.meter());
    }
}
