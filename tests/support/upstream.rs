//! A scripted provider: plays a list of exchanges over real TCP and records what arrived.
//!
//! Routing is by script, never by magic model names: a request is answered by the first exchange
//! that is not used up and whose conditions fit. What no exchange fits is answered 599 and fails
//! the test at the end; so does an exchange that nobody asked for, and a peer that left before the
//! script of its exchange was through, unless the exchange allows it.

mod connection;

use std::{
    collections::HashSet,
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{BOUND, lock, wait_for};

/// How a response's body is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Each write is one chunk; the terminator follows at the script's end.
    Chunked,
    /// `content-length`: the sum of all writes, plus this many bytes that never come.
    Length { missing: usize },
    /// Neither: the end of the connection is the end of the body.
    Close,
}

/// One step of an answer.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Status line and headers.
    Head { status: u16, headers: Vec<(String, String)>, framing: Framing },
    /// One write (one chunk, when chunked).
    Write(Vec<u8>),
    /// One write per byte.
    OneByOne(Vec<u8>),
    /// Waits until the test opens the gate of that name.
    Wait(String),
    /// Says nothing for that long.
    Pause(Duration),
    /// Says nothing more until the peer leaves.
    Stall,
    /// Writes this again and again, a moment apart, until the peer leaves.
    Repeat(Vec<u8>),
    /// FIN without the body's terminator.
    Fin,
    /// FIN inside a chunk that promised more bytes than these.
    CutMidChunk(Vec<u8>),
    /// RST.
    Reset,
}

/// How often an exchange may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Uses {
    Exactly(usize),
    Any,
}

/// A request that is expected, and its answer.
#[derive(Debug, Clone)]
pub(crate) struct Exchange {
    path: Option<String>,
    contains: Vec<String>,
    streaming: Option<bool>,
    uses: Uses,
    may_be_left: bool,
    steps: Vec<Step>,
}

impl Exchange {
    /// An exchange for any request, once, with an answer of these steps.
    pub(crate) fn new(steps: Vec<Step>) -> Self {
        Self {
            path: None,
            contains: Vec::new(),
            streaming: None,
            uses: Uses::Exactly(1),
            may_be_left: false,
            steps,
        }
    }

    /// A JSON answer with a content length.
    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self::bytes(status, "application/json", body.to_string().into_bytes())
    }

    /// An answer of these bytes with a content length.
    pub(crate) fn bytes(status: u16, content_type: &str, body: Vec<u8>) -> Self {
        let headers = vec![("content-type".to_owned(), content_type.to_owned())];
        let framing = Framing::Length { missing: 0 };
        Self::new(vec![Step::Head { status, headers, framing }, Step::Write(body)])
    }

    /// An event stream: each of `chunks` is written as one chunk, exactly.
    pub(crate) fn sse<T: Into<Vec<u8>>>(chunks: impl IntoIterator<Item = T>) -> Self {
        let writes = chunks.into_iter().map(|chunk| Step::Write(chunk.into()));
        Self::new(std::iter::once(sse_head()).chain(writes).collect())
    }

    /// Takes the connection and never answers.
    pub(crate) fn never() -> Self {
        Self::new(vec![Step::Stall])
    }

    /// Only requests to this path (without the query).
    pub(crate) fn path(mut self, path: &str) -> Self {
        self.path = Some(path.to_owned());
        self
    }

    /// Only requests whose head or body has this text.
    pub(crate) fn containing(mut self, text: &str) -> Self {
        self.contains.push(text.to_owned());
        self
    }

    /// Only requests whose JSON body has `stream: true`, or only those that have not.
    pub(crate) fn streaming(mut self, streaming: bool) -> Self {
        self.streaming = Some(streaming);
        self
    }

    /// For exactly this many requests.
    pub(crate) fn times(mut self, count: usize) -> Self {
        self.uses = Uses::Exactly(count);
        self
    }

    /// For any number of requests, none included.
    pub(crate) fn any_times(mut self) -> Self {
        self.uses = Uses::Any;
        self
    }

    /// The peer may leave before the script is through: the test expects a cancellation.
    pub(crate) fn may_be_left(mut self) -> Self {
        self.may_be_left = true;
        self
    }

    /// Adds a response header.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        for step in &mut self.steps {
            if let Step::Head { headers, .. } = step {
                headers.push((name.to_owned(), value.to_owned()));
            }
        }
        self
    }

    /// Changes the body's framing.
    pub(crate) fn framed(mut self, new: Framing) -> Self {
        for step in &mut self.steps {
            if let Step::Head { framing, .. } = step {
                *framing = new;
            }
        }
        self
    }

    /// Appends a step.
    pub(crate) fn then(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// Appends a wait for a gate.
    pub(crate) fn then_wait(self, gate: &str) -> Self {
        self.then(Step::Wait(gate.to_owned()))
    }

    /// Appends one write.
    pub(crate) fn then_write(self, bytes: impl Into<Vec<u8>>) -> Self {
        self.then(Step::Write(bytes.into()))
    }

    fn fits(&self, request: &Recorded) -> bool {
        self.path.as_ref().is_none_or(|path| *path == request.path)
            && self.contains.iter().all(|text| request.has(text))
            && self.streaming.is_none_or(|streaming| request.asks_for_stream() == streaming)
    }
}

/// Status line and headers of an event stream, chunked.
pub(crate) fn sse_head() -> Step {
    let headers = vec![("content-type".to_owned(), "text/event-stream; charset=utf-8".to_owned())];
    Step::Head { status: 200, headers, framing: Framing::Chunked }
}

/// How a peer left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    /// It closed (FIN).
    Fin,
    /// It reset the connection, or a write failed.
    Reset,
}

/// A request that arrived.
#[derive(Debug, Clone)]
pub(crate) struct Recorded {
    /// `POST`.
    pub(crate) method: String,
    /// Without the query.
    pub(crate) path: String,
    /// After `?`, when there was one.
    pub(crate) query: Option<String>,
    /// In order; names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// Whole.
    pub(crate) body: Vec<u8>,
    /// When it was complete.
    pub(crate) at: Instant,
    /// How and when the peer left before the answer was through; `None` when it did not.
    pub(crate) left: Option<(Left, Instant)>,
    /// Whether the script of the answer was played to its end.
    pub(crate) answered: bool,
}

impl Recorded {
    /// The first header of that name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the upstream got a JSON body")
    }

    fn asks_for_stream(&self) -> bool {
        serde_json::from_slice(&self.body).is_ok_and(|body: Value| body["stream"] == true)
    }

    /// Whether the path, a header's value or the body has `text`.
    pub(crate) fn has(&self, text: &str) -> bool {
        self.path.contains(text)
            || self.headers.iter().any(|(_, value)| value.contains(text))
            || String::from_utf8_lossy(&self.body).contains(text)
    }
}

/// Makes the answer to a request when it comes.
type Answerer = Box<dyn Fn(&Recorded) -> Exchange + Send + Sync>;

/// What the connections share.
struct Shared {
    exchanges: Mutex<Vec<(Exchange, usize)>>,
    /// Answers what no exchange fits.
    answerer: Option<Answerer>,
    requests: Mutex<Vec<Recorded>>,
    problems: Mutex<Vec<String>>,
    gates: Mutex<HashSet<String>>,
    connections: Mutex<Vec<JoinHandle<()>>>,
    connection_count: Mutex<usize>,
    stopping: AtomicBool,
}

impl Shared {
    /// Records a request; gives its number and the exchange that answers it.
    fn take(&self, request: Recorded) -> (usize, Option<Exchange>) {
        let found = {
            let mut exchanges = lock(&self.exchanges);
            let position = exchanges.iter().position(|(exchange, used)| {
                let left = match exchange.uses {
                    Uses::Exactly(count) => *used < count,
                    Uses::Any => true,
                };
                left && exchange.fits(&request)
            });
            position.map(|at| {
                exchanges[at].1 += 1;
                exchanges[at].0.clone()
            })
        };
        let found = found.or_else(|| Some(self.answerer.as_ref()?(&request)));
        if found.is_none() {
            let line = format!("unexpected request {} {}", request.method, request.path);
            lock(&self.problems).push(line);
        }
        let mut requests = lock(&self.requests);
        requests.push(request);
        (requests.len() - 1, found)
    }

    fn gate_is_open(&self, name: &str) -> bool {
        lock(&self.gates).contains(name)
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// The scripted provider. Dropping it checks that the script was played as written.
#[derive(Debug)]
pub(crate) struct Upstream {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

impl Upstream {
    /// Listens on a free port of the loopback interface and plays `exchanges`.
    pub(crate) fn start(exchanges: impl IntoIterator<Item = Exchange>) -> Self {
        Self::listen(exchanges.into_iter().map(|exchange| (exchange, 0)).collect(), None)
    }

    /// As [`Upstream::start`], with a script that is made request by request.
    pub(crate) fn answering(
        answerer: impl Fn(&Recorded) -> Exchange + Send + Sync + 'static,
    ) -> Self {
        Self::listen(Vec::new(), Some(Box::new(answerer)))
    }

    fn listen(exchanges: Vec<(Exchange, usize)>, answerer: Option<Answerer>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("its address");
        let shared = Arc::new(Shared {
            exchanges: Mutex::new(exchanges),
            answerer,
            requests: Mutex::default(),
            problems: Mutex::default(),
            gates: Mutex::default(),
            connections: Mutex::default(),
            connection_count: Mutex::default(),
            stopping: AtomicBool::new(false),
        });
        let acceptor = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Self { address, shared, acceptor: Some(acceptor) }
    }

    /// `http://127.0.0.1:PORT`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Adds an exchange at the script's end.
    pub(crate) fn expect(&self, exchange: Exchange) {
        lock(&self.shared.exchanges).push((exchange, 0));
    }

    /// Opens a gate, for good.
    pub(crate) fn open(&self, gate: &str) {
        lock(&self.shared.gates).insert(gate.to_owned());
    }

    /// All requests so far.
    pub(crate) fn requests(&self) -> Vec<Recorded> {
        lock(&self.shared.requests).clone()
    }

    /// The only request so far.
    #[track_caller]
    pub(crate) fn only_request(&self) -> Recorded {
        let requests = self.requests();
        assert_eq!(requests.len(), 1, "the upstream should have got one request");
        requests.into_iter().next().expect("one")
    }

    /// Connections accepted so far.
    pub(crate) fn connection_count(&self) -> usize {
        *lock(&self.shared.connection_count)
    }

    /// Waits until `count` requests have arrived.
    #[track_caller]
    pub(crate) fn wait_requests(&self, count: usize) -> Vec<Recorded> {
        wait_for(&format!("{count} upstream requests"), BOUND, || {
            let requests = self.requests();
            (requests.len() >= count).then_some(requests)
        })
    }

    /// Waits until the peer of request `index` left before its answer was through; says how, and
    /// how long after `since`.
    #[track_caller]
    pub(crate) fn wait_left(&self, index: usize, since: Instant) -> (Left, Duration) {
        wait_for(&format!("the peer of upstream request {index} to leave"), BOUND, || {
            let (left, at) = lock(&self.shared.requests).get(index)?.left?;
            Some((left, at.saturating_duration_since(since)))
        })
    }

    /// Waits until the script of request `index` was played to its end.
    #[track_caller]
    pub(crate) fn wait_answered(&self, index: usize) {
        wait_for(&format!("the answer to upstream request {index}"), BOUND, || {
            lock(&self.shared.requests).get(index)?.answered.then_some(())
        });
    }

    /// Stops, and checks that the script was played as written.
    ///
    /// # Panics
    /// When a request was unexpected, an exchange was not asked for as often as it should, or a
    /// peer left early without leave.
    #[track_caller]
    pub(crate) fn finish(self) {
        let problems = self.into_problems();
        assert!(problems.is_empty(), "the upstream's script was not kept: {problems:#?}");
    }

    /// Stops; says how the script was not kept.
    pub(crate) fn into_problems(mut self) -> Vec<String> {
        self.stop()
    }

    fn stop(&mut self) -> Vec<String> {
        let Some(acceptor) = self.acceptor.take() else { return Vec::new() };
        self.shared.stopping.store(true, Ordering::Release);
        // Wakes `accept`; when it fails, the listener is gone already.
        drop(TcpStream::connect(self.address));
        let mut problems = Vec::new();
        if acceptor.join().is_err() {
            problems.push("the acceptor panicked".to_owned());
        }
        for connection in std::mem::take(&mut *lock(&self.shared.connections)) {
            if connection.join().is_err() {
                problems.push("a connection panicked".to_owned());
            }
        }
        problems.append(&mut lock(&self.shared.problems));
        for (exchange, used) in lock(&self.shared.exchanges).iter() {
            if let Uses::Exactly(count) = exchange.uses
                && *used != count
            {
                let (path, contains) = (&exchange.path, &exchange.contains);
                problems.push(format!("asked {used} times, not {count}: {path:?} {contains:?}"));
            }
        }
        problems
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        let problems = self.stop();
        assert!(
            problems.is_empty() || std::thread::panicking(),
            "the upstream's script was not kept: {problems:#?}"
        );
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.is_stopping() {
            return;
        }
        let Ok(stream) = stream else { continue };
        *lock(&shared.connection_count) += 1;
        let serve = {
            let shared = Arc::clone(shared);
            move || connection::serve(stream, &shared)
        };
        lock(&shared.connections).push(std::thread::spawn(serve));
    }
}
