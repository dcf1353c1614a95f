//! The actor that owns one thread's HTTP clients.

use std::{
    rc::Rc,
    sync::{Arc, atomic::AtomicBool},
};

use actix::{Actor, Context, Handler, Message};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc, oneshot, watch},
    time::Instant,
};

use super::{
    Dispatch, ProviderError, ProviderKind, UpstreamBody, UpstreamResponse,
    body::Part,
    pool::{PoolLimits, ProviderState},
    sandbox,
    transport::Transport,
};
use crate::telemetry::metrics::AttemptEnd;

/// One call: what to send, who waits, and the place it takes among the provider's calls.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Call {
    pub(super) dispatch: Dispatch,
    pub(super) reply: oneshot::Sender<Result<UpstreamResponse, ProviderError>>,
    pub(super) state: Arc<ProviderState>,
    pub(super) permit: OwnedSemaphorePermit,
}

/// Owns the clients of the thread it runs on; its calls are tasks of that thread.
///
/// A call is a task of its own and not a future of the actor: an actor polls all its futures at
/// each wake, which is quadratic in the number of streams. What a call holds (permit, connection)
/// goes with its task; `Providers::drain` waits for the permits.
pub(super) struct ProviderWorker {
    transport: Rc<Transport>,
    limits: PoolLimits,
    cut: watch::Receiver<bool>,
}

impl ProviderWorker {
    pub(super) fn new(
        tls: &Arc<rustls::ClientConfig>,
        limits: PoolLimits,
        cut: watch::Receiver<bool>,
    ) -> Self {
        Self { transport: Rc::new(Transport::new(tls, limits, cut.clone())), limits, cut }
    }
}

impl Actor for ProviderWorker {
    type Context = Context<Self>;
}

impl Handler<Call> for ProviderWorker {
    type Result = ();

    fn handle(&mut self, call: Call, _: &mut Self::Context) {
        match call.dispatch.provider.kind {
            ProviderKind::Http => {
                actix::spawn(run(Rc::clone(&self.transport), self.limits, call));
            }
            ProviderKind::Sandbox => {
                actix::spawn(run_sandbox(self.limits, self.cut.clone(), call));
            }
        }
    }
}

/// One call over HTTP, from its request to the last byte of the response.
///
/// The caller who leaves ends it at any point: before the head the reply channel closes, after it
/// the body's channel does. Both are watched while the upstream is silent.
async fn run(transport: Rc<Transport>, limits: PoolLimits, call: Call) {
    let Call { dispatch, mut reply, state, permit } = call;
    let started = Instant::now();
    let opened = tokio::select! {
        biased;
        () = reply.closed() => None,
        opened = Box::pin(transport.open(&dispatch, started)) => Some(opened),
    };
    if dispatch.sent.repeated_at().is_some() {
        state.ended(AttemptEnd::Stale);
    }
    let opened = match opened {
        Some(Ok(opened)) => opened,
        None => return state.ended(AttemptEnd::Cancelled),
        Some(Err(error)) => {
            state.ended(error.attempt_end());
            log::debug!("{}: {error}", dispatch.provider.name);
            drop(permit);
            // A caller who has left needs no error.
            let _ = reply.send(Err(error));
            return;
        }
    };
    drop(dispatch);
    state.metrics.first_byte(started.elapsed());
    let (parts, body) = mpsc::channel(limits.channel_chunks);
    let released = Arc::new(AtomicBool::new(false));
    let response = UpstreamResponse {
        status: opened.status,
        headers: opened.headers,
        body: UpstreamBody::new(body, Arc::clone(&released)),
    };
    if reply.send(Ok(response)).is_err() {
        return state.ended(AttemptEnd::Cancelled);
    }
    let (end, last) = Box::pin(transport.pump(opened.body, &parts, &released, started)).await;
    state.ended(end);
    // The connection is closed or back in the pool: a slow reader of the last part keeps nobody
    // else from the provider.
    drop(permit);
    if let Some(last) = last {
        let _ = parts.send(last).await;
    }
}

/// One call to the sandbox: the same channel, the same cancellation, no network.
async fn run_sandbox(limits: PoolLimits, mut cut: watch::Receiver<bool>, call: Call) {
    let Call { dispatch, reply, state, permit } = call;
    let started = Instant::now();
    dispatch.sent.set();
    let answer = sandbox::answer(&dispatch.body, dispatch.endpoint);
    state.metrics.first_byte(started.elapsed());
    let (parts, body) = mpsc::channel(limits.channel_chunks);
    let response = UpstreamResponse {
        status: answer.status,
        headers: vec![("content-type".to_owned(), answer.content_type.to_owned())],
        body: UpstreamBody::new(body, Arc::default()),
    };
    let paced = answer.chunks.len() > 1 && !limits.sandbox_delta_interval.is_zero();
    if reply.send(Ok(response)).is_err() {
        return state.ended(AttemptEnd::Cancelled);
    }
    for (index, chunk) in answer.chunks.into_iter().enumerate() {
        if paced && index > 0 {
            tokio::select! {
                biased;
                () = parts.closed() => return state.ended(AttemptEnd::Cancelled),
                _ = cut.wait_for(|is_cut| *is_cut) => {
                    state.ended(AttemptEnd::Shutdown);
                    let _ = parts.send(Part::Failed(ProviderError::ShuttingDown)).await;
                    return;
                }
                () = tokio::time::sleep(limits.sandbox_delta_interval) => {}
            }
        }
        if parts.send(Part::Chunk(chunk)).await.is_err() {
            return state.ended(AttemptEnd::Cancelled);
        }
    }
    state.ended(AttemptEnd::answered(answer.status));
    drop(permit);
    let _ = parts.send(Part::End).await;
}
