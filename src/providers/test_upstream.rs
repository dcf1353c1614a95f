//! A scripted upstream over real sockets, for this room's tests.

use std::{
    cell::RefCell,
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// What the upstream does with one request.
#[derive(Debug, Clone)]
pub(super) enum Step {
    /// Writes these bytes.
    Send(Vec<u8>),
    /// Waits.
    Pause(Duration),
    /// Says nothing until the client closes.
    Silence,
    /// Writes these bytes again and again until the client closes.
    Repeat(Vec<u8>, Duration),
    /// Closes with FIN.
    Close,
    /// Closes with RST.
    Reset,
}

/// A request as it arrived.
#[derive(Debug, Clone)]
pub(super) struct Recorded {
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl Recorded {
    /// The value of a header, `None` when it was not sent.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(':'))
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
    }
}

#[derive(Debug, Default)]
struct Log {
    connections: usize,
    requests: Vec<Recorded>,
    closed_by_client: usize,
}

/// A running upstream. The n-th request gets the n-th script, the last one repeats.
pub(super) struct Upstream {
    address: SocketAddr,
    log: Rc<RefCell<Log>>,
}

impl Upstream {
    pub(super) async fn start(scripts: Vec<Vec<Step>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let log = Rc::new(RefCell::new(Log::default()));
        let accepted = Rc::clone(&log);
        actix::spawn(async move {
            let scripts = Rc::new(scripts);
            while let Ok((stream, _)) = listener.accept().await {
                accepted.borrow_mut().connections += 1;
                actix::spawn(serve(stream, Rc::clone(&scripts), Rc::clone(&accepted)));
            }
        });
        Self { address, log }
    }

    pub(super) async fn answering(response: impl Into<Vec<u8>>) -> Self {
        Self::start(vec![vec![Step::Send(response.into())]]).await
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn requests(&self) -> Vec<Recorded> {
        self.log.borrow().requests.clone()
    }

    pub(super) fn connections(&self) -> usize {
        self.log.borrow().connections
    }

    /// Waits until `count` requests have arrived.
    pub(super) async fn wait_for_requests(&self, count: usize) {
        wait_until("requests", || self.log.borrow().requests.len() >= count).await;
    }

    /// Waits, at most a second, until the upstream has seen `count` connections closed by us.
    pub(super) async fn wait_for_closed(&self, count: usize) {
        let bound = Duration::from_secs(1);
        wait_at_most(bound, "closed connections", || self.log.borrow().closed_by_client >= count)
            .await;
    }
}

/// Waits for a condition, so long that only a broken one fails on a busy machine.
#[track_caller]
pub(super) fn wait_until(what: &str, condition: impl Fn() -> bool) -> impl Future<Output = ()> {
    wait_at_most(Duration::from_secs(10), what, condition)
}

#[track_caller]
fn wait_at_most(
    bound: Duration,
    what: &str,
    condition: impl Fn() -> bool,
) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move {
        let start = Instant::now();
        while !condition() {
            assert!(start.elapsed() < bound, "no {what} within {bound:?}, {caller}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

async fn serve(mut stream: TcpStream, scripts: Rc<Vec<Vec<Step>>>, log: Rc<RefCell<Log>>) {
    while let Some(request) = read_request(&mut stream).await {
        let number = log.borrow().requests.len();
        log.borrow_mut().requests.push(request);
        let script = scripts.get(number).or_else(|| scripts.last()).unwrap();
        for step in script {
            match step {
                Step::Send(bytes) => {
                    let _ = stream.write_all(bytes).await;
                }
                Step::Pause(pause) => tokio::time::sleep(*pause).await,
                Step::Silence => {
                    let _ = stream.read(&mut [0; 64]).await;
                    log.borrow_mut().closed_by_client += 1;
                    return;
                }
                Step::Repeat(bytes, pause) => {
                    while stream.write_all(bytes).await.is_ok() {
                        tokio::time::sleep(*pause).await;
                    }
                    log.borrow_mut().closed_by_client += 1;
                    return;
                }
                Step::Close => return,
                Step::Reset => {
                    let stream = stream.into_std().unwrap();
                    let socket = TcpStream::from_std(stream).unwrap();
                    #[expect(deprecated, reason = "a linger of 0 is how a test sends RST")]
                    socket.set_linger(Some(Duration::ZERO)).unwrap();
                    return;
                }
            }
        }
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<Recorded> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = memchr::memmem::find(&bytes, b"\r\n\r\n") {
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
            let mut request = Recorded { head, body: bytes.split_off(end + 4) };
            let length: usize = request.header("content-length").map_or(0, |n| n.parse().unwrap());
            while request.body.len() < length {
                if stream.read_buf(&mut request.body).await.ok()? == 0 {
                    return None;
                }
            }
            return Some(request);
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

/// A response with a length.
pub(super) fn with_length(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut response =
        format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n", body.len())
            .into_bytes();
    response.extend_from_slice(body);
    response
}

/// The head of a chunked event stream.
pub(super) fn stream_head() -> Vec<u8> {
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        .to_vec()
}

/// One chunk.
pub(super) fn chunk(body: &str) -> Vec<u8> {
    format!("{:x}\r\n{body}\r\n", body.len()).into_bytes()
}
