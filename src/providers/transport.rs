//! One thread's HTTP client: sends a request, judges the head, pumps the body.

use std::{
    cell::{Cell, RefCell},
    future::Future,
    io,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use actix_service::Service;
use actix_tls::connect::{
    ConnectError as TcpError, ConnectInfo, Connection, Connector as Tcp, ConnectorService,
};
use awc::{
    Client, ClientResponse, Connector,
    error::{ConnectError, PayloadError, SendRequestError},
    http::{StatusCode, Uri, Version, header},
};
use futures_util::{StreamExt, future::LocalBoxFuture};
use tokio::{
    net::TcpStream,
    sync::{mpsc, watch},
    time::Instant,
};

use super::{
    Dispatch, ProviderError,
    body::Part,
    endpoint::endpoint_url,
    headers::{auth_headers, forward_response_headers},
    pool::PoolLimits,
    sent::MarkedBody,
};
use crate::telemetry::metrics::AttemptEnd;

/// How long a released body may take to end, and how many bytes (guess: the end is one packet
/// behind the last event; beyond that a new connection is cheaper).
const RELEASE_WAIT: Duration = Duration::from_millis(250);
const RELEASE_BYTES_MAX: usize = 65_536;
/// Idle time after which a pooled connection is not used again (awc's own default; below the
/// keep-alive of the usual front ends, so that few connections turn out stale).
const POOL_KEEP_ALIVE: Duration = Duration::from_secs(15);

tokio::task_local! {
    /// Set by [`Opening`] when the running request opens a connection of its own.
    static OPENED: Rc<Cell<bool>>;
}

/// The TCP connector, with two things added. A mark on the request for which it is called: awc
/// does not tell whether a request went over a pooled connection, and only such a request may be
/// repeated. And TCP_NODELAY, which awc leaves off: the last packet of a long prompt would wait
/// for the acknowledgement of the one before.
#[derive(Clone)]
struct Opening(ConnectorService);

impl Service<ConnectInfo<Uri>> for Opening {
    type Response = Connection<Uri, TcpStream>;
    type Error = TcpError;
    type Future = LocalBoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Service::<ConnectInfo<Uri>>::poll_ready(&self.0, context)
    }

    fn call(&self, request: ConnectInfo<Uri>) -> Self::Future {
        // Outside a request of ours there is nobody to tell.
        let _ = OPENED.try_with(|opened| opened.set(true));
        let connecting = self.0.call(request);
        Box::pin(async move {
            let connection = connecting.await?;
            if let Err(error) = connection.io_ref().set_nodelay(true) {
                log::debug!("TCP_NODELAY can't be set on a provider's connection: {error}");
            }
            Ok(connection)
        })
    }
}

/// The head of a response and the rest of its stream.
pub(super) struct Opened {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: RestOfBody,
}

/// A body that has not been read yet.
pub(super) struct RestOfBody {
    status: u16,
    /// `None`: nothing to read (no body, or one that is left out).
    response: Option<ClientResponse>,
    /// Declared length.
    length: Option<u64>,
}

/// The clients of one thread.
pub(super) struct Transport {
    pooled: RefCell<Client>,
    /// Never takes a connection out of a pool: for the one repetition.
    fresh: Client,
    tls: Arc<rustls::ClientConfig>,
    limits: PoolLimits,
    cut: watch::Receiver<bool>,
}

impl Transport {
    pub(super) fn new(
        tls: &Arc<rustls::ClientConfig>,
        limits: PoolLimits,
        cut: watch::Receiver<bool>,
    ) -> Self {
        Self {
            pooled: RefCell::new(client(tls, &limits, POOL_KEEP_ALIVE)),
            fresh: client(tls, &limits, Duration::ZERO),
            tls: Arc::clone(tls),
            limits,
            cut,
        }
    }

    /// Sends the request and waits for the head, at most until `deadline`.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection.
    pub(super) async fn open(
        &self,
        dispatch: &Dispatch,
        started: Instant,
    ) -> Result<Opened, ProviderError> {
        let first_byte = started + self.limits.first_byte_timeout;
        let total = started + self.limits.total_timeout;
        let timeout = if total < first_byte {
            ProviderError::TotalTimeout
        } else {
            ProviderError::FirstByteTimeout
        };
        match tokio::time::timeout_at(first_byte.min(total), self.send(dispatch)).await {
            Ok(opened) => opened,
            Err(_) => Err(timeout),
        }
    }

    async fn send(&self, dispatch: &Dispatch) -> Result<Opened, ProviderError> {
        let provider = &dispatch.provider;
        let url = endpoint_url(&provider.base_url, dispatch.endpoint, dispatch.query.as_deref())
            .ok_or(ProviderError::Bug { what: "a URL that does not parse" })?;
        let opened = Rc::new(Cell::new(false));
        let first = request(&self.pooled.borrow(), &url, dispatch, false);
        match OPENED.scope(Rc::clone(&opened), first).await {
            Ok(response) => {
                if !is_framed(&response) {
                    // awc has put the connection back already, and the next call would read what
                    // still comes as its own response: the whole pool of this thread is dropped,
                    // before any other task can run. (`fresh` keeps no connections.)
                    let clean = client(&self.tls, &self.limits, POOL_KEEP_ALIVE);
                    self.pooled.replace(clean);
                }
                judge(response)
            }
            Err(error) if !opened.get() && is_stale(&error) => {
                dispatch.sent.repeat();
                let second = request(&self.fresh, &url, dispatch, true).await;
                judge(second.map_err(send_error)?)
            }
            Err(error) => Err(send_error(error)),
        }
    }

    /// Moves the body into the channel until it ends, fails, is too slow, or nobody listens.
    pub(super) async fn pump(
        &self,
        body: RestOfBody,
        parts: &mpsc::Sender<Part>,
        released: &AtomicBool,
        started: Instant,
    ) -> (AttemptEnd, Option<Part>) {
        let RestOfBody { status, response, length } = body;
        let complete = AttemptEnd::answered(status);
        let Some(mut response) = response else {
            return (complete, Some(Part::End));
        };
        let left = |released| if released { complete } else { AttemptEnd::Cancelled };
        let failed = |error: ProviderError| (error.attempt_end(), Some(Part::Failed(error)));
        let idle = tokio::time::sleep(self.limits.idle_timeout);
        let total = tokio::time::sleep_until(started + self.limits.total_timeout);
        let mut cut = self.cut.clone();
        let cut = cut.wait_for(|is_cut| *is_cut);
        tokio::pin!(idle, total, cut);
        let mut received: u64 = 0;
        loop {
            idle.as_mut().reset(Instant::now() + self.limits.idle_timeout);
            let item = tokio::select! {
                biased;
                () = parts.closed() => return (left(leave(response, released).await), None),
                item = response.next() => item,
                () = &mut idle => return failed(ProviderError::IdleTimeout),
                () = &mut total => return failed(ProviderError::TotalTimeout),
                _ = &mut cut => return failed(ProviderError::ShuttingDown),
            };
            let chunk = match item {
                Some(Ok(chunk)) if chunk.is_empty() => continue,
                Some(Ok(chunk)) => chunk,
                Some(Err(error)) => return failed(payload_error(&error)),
                None if length.is_some_and(|length| received < length) => {
                    return failed(ProviderError::Truncated);
                }
                None => return (complete, Some(Part::End)),
            };
            received = received.saturating_add(u64::try_from(chunk.len()).unwrap_or(u64::MAX));
            tokio::select! {
                biased;
                sent = parts.send(Part::Chunk(chunk)) => if sent.is_err() {
                    return (left(leave(response, released).await), None);
                },
                () = &mut total => return failed(ProviderError::TotalTimeout),
            }
        }
    }
}

/// The reader is gone. One who left because it had everything ([`super::UpstreamBody::release`])
/// gets the few bytes that end the body read, so that the connection goes back to the pool; any
/// other takes the connection along. Returns whether it had everything.
async fn leave(mut response: ClientResponse, released: &AtomicBool) -> bool {
    if !released.load(Ordering::Acquire) {
        return false;
    }
    let rest = async {
        let mut bytes = 0;
        while let Some(Ok(chunk)) = response.next().await {
            bytes += chunk.len();
            if bytes > RELEASE_BYTES_MAX {
                break;
            }
        }
    };
    // Whether the end came in time decides only about the connection.
    let _ = tokio::time::timeout(RELEASE_WAIT, rest).await;
    true
}

/// awc's defaults are wrong for long streams (5 s, 100 connections, redirects): every one is set
/// here.
fn client(tls: &Arc<rustls::ClientConfig>, limits: &PoolLimits, keep_alive: Duration) -> Client {
    let tcp = Opening(Tcp::default().service());
    let connector = Connector::new()
        .connector(tcp)
        .rustls_0_23(Arc::clone(tls))
        .timeout(limits.connect_timeout)
        .handshake_timeout(limits.connect_timeout)
        .limit(limits.inflight_max)
        .conn_keep_alive(keep_alive);
    Client::builder()
        .connector(connector)
        .disable_timeout()
        .disable_redirects()
        .no_default_headers()
        .finish()
}

fn request(
    client: &Client,
    url: &Uri,
    dispatch: &Dispatch,
    close: bool,
) -> impl Future<Output = Result<ClientResponse, SendRequestError>> + use<> {
    let provider = &dispatch.provider;
    let accept = if dispatch.stream { "text/event-stream" } else { "application/json" };
    let mut request = client
        .post(url.clone())
        .no_decompress()
        .insert_header((header::USER_AGENT, concat!("faces/", env!("CARGO_PKG_VERSION"))))
        .insert_header((header::ACCEPT, accept))
        .insert_header((header::ACCEPT_ENCODING, "identity"))
        .insert_header((header::CONTENT_TYPE, "application/json"));
    for (name, value) in &dispatch.headers {
        request = request.insert_header((name.as_str(), value.as_str()));
    }
    let auth = auth_headers(provider.format, provider.key.as_ref(), &dispatch.headers);
    for (name, value) in auth {
        request = request.insert_header((name, value));
    }
    if close {
        request = request.force_close();
    }
    request.send_body(MarkedBody::new(dispatch.body.clone(), dispatch.sent.clone()))
}

/// Whether the end of the response is known: it is the final one, and it has a length, chunks, no
/// body, or the connection's end (HTTP/1.0, which awc reads to its close).
fn is_framed(response: &ClientResponse) -> bool {
    let headers = response.headers();
    !response.status().is_informational()
        && (headers.contains_key(header::CONTENT_LENGTH)
            || headers.contains_key(header::TRANSFER_ENCODING)
            || is_bodiless(response.status())
            || response.version() != Version::HTTP_11)
}

fn is_bodiless(status: StatusCode) -> bool {
    matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// Decides from the head whether the body can be read, and how its end will be known.
///
/// A failure (400 and above) whose body can't be read keeps its status and comes without a body:
/// the status says enough.
fn judge(response: ClientResponse) -> Result<Opened, ProviderError> {
    let unreadable = |why| Err(ProviderError::Unreadable { why });
    let status = response.status();
    let is_failure = status.is_client_error() || status.is_server_error();
    let text = |name: header::HeaderName| {
        response.headers().get(name).and_then(|value| value.to_str().ok())
    };
    let encoded = text(header::CONTENT_ENCODING).is_some_and(|coding| {
        !coding.trim().is_empty() && !coding.eq_ignore_ascii_case("identity")
    });
    let framed = is_framed(&response);
    if status.is_informational() {
        return unreadable("an interim status in place of an answer");
    }
    if encoded && !is_failure {
        return unreadable("it is compressed although identity was asked for");
    }
    if !framed && !is_failure {
        // awc would give an empty body: an empty success is the worst of all answers.
        return unreadable("it has neither a length nor chunks");
    }
    let chunked = response.headers().contains_key(header::TRANSFER_ENCODING);
    let length = text(header::CONTENT_LENGTH)
        .filter(|_| !chunked)
        .and_then(|length| length.trim().parse().ok());
    let headers = forward_response_headers(
        response
            .headers()
            .iter()
            .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?))),
    );
    let has_body = framed && !encoded && !is_bodiless(status);
    let status = status.as_u16();
    let response = has_body.then_some(response);
    Ok(Opened { status, headers, body: RestOfBody { status, response, length } })
}

/// Whether the connection was closed under the request before anything came back. An end after a
/// part of the head is an error of another kind (awc has bytes left over) and not among them.
fn is_stale(error: &SendRequestError) -> bool {
    match error {
        SendRequestError::Connect(ConnectError::Disconnected) => true,
        SendRequestError::Send(error) => is_closed(error),
        SendRequestError::Response(error) => io_source(error).is_some_and(is_closed),
        _ => false,
    }
}

/// The I/O error inside awc's parse error (its type is not awc's own, so it has no name here).
fn io_source(error: &dyn std::error::Error) -> Option<&io::Error> {
    error.source()?.downcast_ref()
}

fn is_closed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::NotConnected
            | io::ErrorKind::UnexpectedEof
            | io::ErrorKind::WriteZero
    )
}

fn send_error(error: SendRequestError) -> ProviderError {
    match error {
        SendRequestError::Connect(error) => connect_error(&error),
        SendRequestError::Url(_) | SendRequestError::Http(_) => {
            ProviderError::Bug { what: "a request that can't be sent" }
        }
        SendRequestError::Timeout => ProviderError::FirstByteTimeout,
        SendRequestError::Response(error) => match io_source(&error) {
            Some(error) => reset(error),
            None => ProviderError::Unreadable { why: "its head can't be parsed" },
        },
        error => reset(&error),
    }
}

fn connect_error(error: &ConnectError) -> ProviderError {
    match error {
        // awc's word for "closed before the head", on a connection that was there.
        ConnectError::Disconnected => {
            ProviderError::Reset { detail: "closed before an answer".to_owned() }
        }
        ConnectError::Io(error) if is_tls(error) => {
            ProviderError::Tls { detail: error.to_string() }
        }
        error => ProviderError::Connect { detail: error.to_string() },
    }
}

fn is_tls(error: &io::Error) -> bool {
    error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<rustls::Error>)
}

fn payload_error(error: &PayloadError) -> ProviderError {
    let io = match error {
        PayloadError::Io(io) | PayloadError::Incomplete(Some(io)) => io,
        PayloadError::Incomplete(None) => return ProviderError::Truncated,
        error => return reset(error),
    };
    if io.kind() == io::ErrorKind::UnexpectedEof {
        return ProviderError::Truncated;
    }
    reset(io)
}

fn reset(error: &dyn std::fmt::Display) -> ProviderError {
    ProviderError::Reset { detail: error.to_string() }
}
