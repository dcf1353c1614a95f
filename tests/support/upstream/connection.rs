//! One connection of the scripted provider: reads requests, plays answers, notices a peer that
//! leaves while the script waits or writes.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    time::{Duration, Instant},
};

use tokio::net::TcpSocket;

use super::{Exchange, Framing, Left, Recorded, Shared, Step};
use crate::support::lock;

/// How often a waiting connection looks at its gate and at its peer.
const TICK: Duration = Duration::from_millis(10);
/// Longest write to a peer that does not read.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// What a wait on the socket found.
enum Peer {
    Quiet,
    Sent,
    Gone(Left),
}

/// What playing a script came to.
enum Played {
    /// To its end; the connection can carry another request.
    KeepAlive,
    /// To its end; the script or the framing ends the connection.
    Closed,
    /// The script ends with a reset.
    Reset,
    /// The peer left first.
    Left(Left),
    /// The test is over.
    Stopped,
}

struct Connection<'a> {
    stream: TcpStream,
    shared: &'a Shared,
    buffered: Vec<u8>,
}

/// Serves a connection until either side ends it or the test is over.
pub(super) fn serve(stream: TcpStream, shared: &Shared) {
    if stream.set_read_timeout(Some(TICK)).is_err()
        || stream.set_write_timeout(Some(WRITE_TIMEOUT)).is_err()
        || stream.set_nodelay(true).is_err()
    {
        return;
    }
    let mut connection = Connection { stream, shared, buffered: Vec::new() };
    while let Some(request) = connection.read_request() {
        let (index, exchange) = shared.take(request);
        let Some(exchange) = exchange else {
            let _ = connection.stream.write_all(
                b"HTTP/1.1 599 Unexpected\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            );
            return;
        };
        let played = connection.play(&exchange);
        note(shared, index, &exchange, &played);
        match played {
            Played::KeepAlive => {}
            Played::Closed => return connection.linger(),
            Played::Reset => return reset(connection.stream),
            Played::Left(_) | Played::Stopped => return,
        }
    }
}

/// Writes the end of an answer into the record.
fn note(shared: &Shared, index: usize, exchange: &Exchange, played: &Played) {
    if let Played::Left(left) = played
        && !exchange.may_be_left
        && !matches!(exchange.steps.last(), Some(Step::Stall | Step::Repeat(_)))
    {
        lock(&shared.problems).push(format!("the peer of request {index} left early: {left:?}"));
    }
    let mut requests = lock(&shared.requests);
    let request = &mut requests[index];
    match played {
        Played::Left(left) => request.left = Some((*left, Instant::now())),
        Played::KeepAlive | Played::Closed | Played::Reset => request.answered = true,
        Played::Stopped => {}
    }
}

/// Closes with RST: `SO_LINGER` of zero.
fn reset(stream: TcpStream) {
    let socket = TcpSocket::from_std_stream(stream);
    socket.set_zero_linger().expect("SO_LINGER can be set");
    drop(socket);
}

impl Connection<'_> {
    /// The next request; `None` when the peer is done or the test is over.
    fn read_request(&mut self) -> Option<Recorded> {
        let head_end = loop {
            if let Some(at) = find(&self.buffered, b"\r\n\r\n") {
                break at;
            }
            self.fill()?;
        };
        let head = String::from_utf8_lossy(&self.buffered[..head_end]).into_owned();
        self.buffered.drain(..head_end + 4);
        let mut lines = head.split("\r\n");
        let mut start = lines.next()?.split(' ');
        let (method, target) = (start.next()?.to_owned(), start.next()?.to_owned());
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let find_header = |name: &str| {
            headers.iter().find(|(have, _)| have == name).map(|(_, value)| value.clone())
        };
        let body = if find_header("transfer-encoding").is_some_and(|te| te.contains("chunked")) {
            self.read_chunked()?
        } else {
            let length = find_header("content-length").and_then(|text| text.parse().ok());
            self.read_exactly(length.unwrap_or(0))?
        };
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path.to_owned(), Some(query.to_owned())),
            None => (target, None),
        };
        let at = Instant::now();
        Some(Recorded { method, path, query, headers, body, at, left: None, answered: false })
    }

    fn read_exactly(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.buffered.len() < length {
            self.fill()?;
        }
        Some(self.buffered.drain(..length).collect())
    }

    fn read_chunked(&mut self) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line_end = loop {
                if let Some(at) = find(&self.buffered, b"\r\n") {
                    break at;
                }
                self.fill()?;
            };
            let line = String::from_utf8_lossy(&self.buffered[..line_end]).into_owned();
            self.buffered.drain(..line_end + 2);
            let size = usize::from_str_radix(line.split(';').next()?.trim(), 16).ok()?;
            let mut chunk = self.read_exactly(size + 2)?;
            chunk.truncate(size);
            if size == 0 {
                return Some(body);
            }
            body.append(&mut chunk);
        }
    }

    /// Reads some bytes; `None` when there will be none.
    fn fill(&mut self) -> Option<()> {
        let mut bytes = [0_u8; 16_384];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => return None,
                Ok(count) => {
                    self.buffered.extend_from_slice(&bytes[..count]);
                    return Some(());
                }
                Err(error) if is_timeout(error.kind()) => {
                    if self.shared.is_stopping() {
                        return None;
                    }
                }
                Err(_) => return None,
            }
        }
    }

    fn play(&mut self, exchange: &Exchange) -> Played {
        let mut framing = Framing::Length { missing: 0 };
        for step in &exchange.steps {
            let result = match step {
                Step::Head { status, headers, framing: new } => {
                    framing = *new;
                    self.write(&head(*status, headers, framing, &exchange.steps))
                }
                Step::Write(bytes) => self.write_framed(framing, bytes),
                Step::OneByOne(bytes) => {
                    bytes.iter().try_for_each(|byte| self.write_framed(framing, &[*byte]))
                }
                Step::Wait(gate) => self.wait(|shared| shared.gate_is_open(gate)),
                Step::Pause(pause) => {
                    let until = Instant::now() + *pause;
                    self.wait(|_| Instant::now() >= until)
                }
                Step::Stall => self.wait(|_| false),
                Step::Repeat(bytes) => self.repeat(framing, bytes),
                Step::Fin => return self.fin(),
                Step::CutMidChunk(bytes) => {
                    let mut cut = format!("{:x}\r\n", bytes.len() + 64).into_bytes();
                    cut.extend_from_slice(bytes);
                    if let Err(played) = self.write(&cut) {
                        return played;
                    }
                    return self.fin();
                }
                Step::Reset => return Played::Reset,
            };
            if let Err(played) = result {
                return played;
            }
        }
        match framing {
            // A peer that saw the last event may leave without waiting for the terminator.
            Framing::Chunked => match self.write(b"0\r\n\r\n") {
                Ok(()) => Played::KeepAlive,
                Err(_) => Played::Closed,
            },
            Framing::Length { missing: 0 } => Played::KeepAlive,
            Framing::Length { .. } | Framing::Close => self.fin(),
        }
    }

    fn fin(&self) -> Played {
        match self.stream.shutdown(Shutdown::Write) {
            Ok(()) => Played::Closed,
            Err(_) => Played::Left(Left::Reset),
        }
    }

    fn write_framed(&mut self, framing: Framing, bytes: &[u8]) -> Result<(), Played> {
        if framing != Framing::Chunked {
            return self.write(bytes);
        }
        // One system call for a whole chunk: its boundary on the wire is the test's.
        let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
        chunk.extend_from_slice(bytes);
        chunk.extend_from_slice(b"\r\n");
        self.write(&chunk)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Played> {
        self.stream.write_all(bytes).map_err(|_| Played::Left(Left::Reset))
    }

    /// Waits until `done`, watching the peer.
    fn wait(&mut self, done: impl Fn(&Shared) -> bool) -> Result<(), Played> {
        loop {
            if done(self.shared) {
                return Ok(());
            }
            if self.shared.is_stopping() {
                return Err(Played::Stopped);
            }
            match self.peek() {
                Peer::Quiet => {}
                Peer::Sent => std::thread::park_timeout(TICK),
                Peer::Gone(left) => return Err(Played::Left(left)),
            }
        }
    }

    fn repeat(&mut self, framing: Framing, bytes: &[u8]) -> Result<(), Played> {
        loop {
            self.write_framed(framing, bytes)?;
            match self.peek() {
                _ if self.shared.is_stopping() => return Err(Played::Stopped),
                Peer::Quiet | Peer::Sent => {}
                Peer::Gone(left) => return Err(Played::Left(left)),
            }
        }
    }

    /// Looks at the peer for one tick.
    fn peek(&self) -> Peer {
        match self.stream.peek(&mut [0_u8; 1]) {
            Ok(0) => Peer::Gone(Left::Fin),
            Ok(_) => Peer::Sent,
            Err(error) if is_timeout(error.kind()) => Peer::Quiet,
            Err(_) => Peer::Gone(Left::Reset),
        }
    }

    /// After a FIN: waits for the peer's, so that what was written is not lost to a reset.
    fn linger(&mut self) {
        while !self.shared.is_stopping() {
            match self.stream.read(&mut [0_u8; 1024]) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if is_timeout(error.kind()) => {}
                Err(_) => return,
            }
        }
    }
}

fn is_timeout(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// The bytes of a response head.
fn head(status: u16, headers: &[(String, String)], framing: Framing, steps: &[Step]) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {status} Scripted\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    let written: usize = steps
        .iter()
        .map(|step| match step {
            Step::Write(bytes) | Step::OneByOne(bytes) => bytes.len(),
            _ => 0,
        })
        .sum();
    text.push_str(&match framing {
        Framing::Chunked => "transfer-encoding: chunked\r\n".to_owned(),
        Framing::Length { missing } => format!("content-length: {}\r\n", written + missing),
        Framing::Close => "connection: close\r\n".to_owned(),
    });
    text.push_str("\r\n");
    text.into_bytes()
}
