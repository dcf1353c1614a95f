//! A small HTTP/1.1 client for tests: it reads a body as it comes, tells a clean end from a
//! truncated one, and leaves in every way in which a client can leave.

use std::{
    collections::VecDeque,
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::net::TcpSocket;

use super::BOUND;

/// A request to be sent.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// The body's framing is the test's own: no `content-length` is added.
    is_unframed: bool,
}

impl Request {
    /// A request without a body.
    pub(crate) fn new(method: &str, path: &str) -> Self {
        let (method, path) = (method.to_owned(), path.to_owned());
        Self { method, path, headers: Vec::new(), body: Vec::new(), is_unframed: false }
    }

    /// `POST` with a JSON body.
    pub(crate) fn post(path: &str, body: &Value) -> Self {
        Self::new("POST", path)
            .header("content-type", "application/json")
            .body(body.to_string().into_bytes())
    }

    /// `GET`.
    pub(crate) fn get(path: &str) -> Self {
        Self::new("GET", path)
    }

    /// Adds a header.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds `Authorization: Bearer`.
    pub(crate) fn bearer(self, key: &str) -> Self {
        self.header("authorization", &format!("Bearer {key}"))
    }

    /// Sets the body, as it is.
    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Sets bytes that follow the head as they are: their framing is the test's own.
    pub(crate) fn unframed_body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.is_unframed = true;
        self.body(body)
    }

    /// Connects and sends; the answer is not waited for.
    #[track_caller]
    pub(crate) fn send(&self, address: SocketAddr) -> Sent {
        self.try_send(address).expect("the server takes a connection")
    }

    /// As [`Request::send`], to a server that may be gone.
    ///
    /// # Errors
    /// The connection was refused or reset.
    pub(crate) fn try_send(&self, address: SocketAddr) -> std::io::Result<Sent> {
        let stream = TcpStream::connect_timeout(&address, BOUND)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(BOUND))?;
        let mut head = format!("{} {} HTTP/1.1\r\nhost: {address}\r\n", self.method, self.path);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !self.is_unframed && (!self.body.is_empty() || self.method != "GET") {
            head.push_str(&format!("content-length: {}\r\n", self.body.len()));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(&self.body);
        let mut sent = Sent { stream, buffered: VecDeque::new() };
        // A server may refuse early and close: then the answer is what matters.
        let _ = sent.stream.write_all(&bytes);
        Ok(sent)
    }

    /// Sends, and reads the whole answer.
    #[track_caller]
    pub(crate) fn fetch(&self, address: SocketAddr) -> Fetched {
        self.send(address).answer().fetch()
    }
}

/// A connection whose request is sent.
#[derive(Debug)]
pub(crate) struct Sent {
    stream: TcpStream,
    buffered: VecDeque<u8>,
}

/// What a read gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Got {
    Bytes,
    Fin,
    Reset,
}

/// How a body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// As its framing says: the last chunk, or the whole content length.
    Clean,
    /// The connection ended first.
    Truncated,
    /// The connection was reset.
    Reset,
}

impl Sent {
    /// Whether a byte of an answer comes within `window`.
    pub(crate) fn has_answer_within(&self, window: Duration) -> bool {
        self.stream.set_read_timeout(Some(window)).expect("a timeout can be set");
        matches!(self.stream.peek(&mut [0]), Ok(count) if count > 0)
    }

    /// Closes in the usual way.
    pub(crate) fn close_fin(self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Closes with a reset.
    pub(crate) fn close_rst(self) {
        let socket = TcpSocket::from_std_stream(self.stream);
        socket.set_zero_linger().expect("SO_LINGER can be set");
    }

    /// Waits for the head of the answer.
    ///
    /// # Panics
    /// When none comes, or the connection ends first.
    #[track_caller]
    pub(crate) fn answer(self) -> Answer {
        self.try_answer().expect("a response head before the connection's end")
    }

    /// Waits for the head of the answer; `None` when the connection ends first.
    #[track_caller]
    pub(crate) fn try_answer(mut self) -> Option<Answer> {
        let deadline = Instant::now() + BOUND;
        let mut lines = Vec::new();
        loop {
            match self.line(deadline) {
                Ok(line) if line.is_empty() => break,
                Ok(line) => lines.push(line),
                Err(_) => return None,
            }
        }
        let mut lines = lines.into_iter();
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| {
                let (name, value) = line.split_once(':')?;
                Some((name.to_ascii_lowercase(), value.trim().to_owned()))
            })
            .collect();
        let value_of = |name: &str| {
            headers.iter().find(|(have, _)| have == name).map(|(_, value)| value.clone())
        };
        let body = match (value_of("transfer-encoding"), value_of("content-length")) {
            (Some(_), _) => Body::Chunked { left: 0, started: false },
            (None, Some(length)) => Body::Length { left: length.parse().ok()? },
            (None, None) => Body::Close,
        };
        Some(Answer { sent: self, status, headers, body, end: None })
    }

    /// Reads once, until `deadline`.
    #[track_caller]
    fn fill(&mut self, deadline: Instant) -> Got {
        let mut bytes = [0_u8; 16_384];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "the server said nothing within the bound");
            self.stream.set_read_timeout(Some(left)).expect("a read timeout can be set");
            match self.stream.read(&mut bytes) {
                Ok(0) => return Got::Fin,
                Ok(count) => {
                    self.buffered.extend(&bytes[..count]);
                    return Got::Bytes;
                }
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {}
                    _ => return Got::Reset,
                },
            }
        }
    }

    /// The next line without its CRLF.
    #[track_caller]
    fn line(&mut self, deadline: Instant) -> Result<String, Got> {
        loop {
            if let Some(at) = self.buffered.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffered.drain(..=at).collect();
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            match self.fill(deadline) {
                Got::Bytes => {}
                got => return Err(got),
            }
        }
    }
}

#[derive(Debug)]
enum Body {
    Chunked { left: usize, started: bool },
    Length { left: usize },
    Close,
}

/// An answer whose head is read.
#[derive(Debug)]
pub(crate) struct Answer {
    sent: Sent,
    /// HTTP status.
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    body: Body,
    end: Option<End>,
}

impl Answer {
    /// The first header of that name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str())
    }

    /// The next bytes of the body, as they come; `None` at its end (see [`Answer::end`]).
    #[track_caller]
    pub(crate) fn next_bytes(&mut self) -> Option<Vec<u8>> {
        let deadline = Instant::now() + BOUND;
        if self.end.is_some() {
            return None;
        }
        let most = match &mut self.body {
            Body::Close => usize::MAX,
            Body::Length { left } => *left,
            Body::Chunked { .. } => match self.chunk_left(deadline) {
                Ok(left) => left,
                Err(got) => return self.ended(got),
            },
        };
        if most == 0 {
            self.end = Some(End::Clean);
            return None;
        }
        if self.sent.buffered.is_empty() {
            match self.sent.fill(deadline) {
                Got::Bytes => {}
                got => return self.ended(got),
            }
        }
        let count = most.min(self.sent.buffered.len());
        match &mut self.body {
            Body::Chunked { left, .. } | Body::Length { left } => *left -= count,
            Body::Close => {}
        }
        Some(self.sent.buffered.drain(..count).collect())
    }

    /// Bytes left of the current chunk, after reading the next chunk's size when there are none;
    /// 0 at the last chunk.
    #[track_caller]
    fn chunk_left(&mut self, deadline: Instant) -> Result<usize, Got> {
        let Body::Chunked { left, started } = &mut self.body else { return Ok(0) };
        if *left > 0 {
            return Ok(*left);
        }
        if *started {
            self.sent.line(deadline)?;
        }
        let line = self.sent.line(deadline)?;
        let size = line.split(';').next().unwrap_or_default().trim();
        *left = usize::from_str_radix(size, 16).expect("a chunk's size");
        *started = true;
        let size = *left;
        if size == 0 {
            self.sent.line(deadline)?;
        }
        Ok(size)
    }

    fn ended(&mut self, got: Got) -> Option<Vec<u8>> {
        self.end = Some(match (got, &self.body) {
            (Got::Reset, _) => End::Reset,
            (_, Body::Close) => End::Clean,
            (_, _) => End::Truncated,
        });
        None
    }

    /// How the body ended, once it did.
    pub(crate) fn end(&self) -> Option<End> {
        self.end
    }

    /// Reads the rest.
    #[track_caller]
    pub(crate) fn fetch(mut self) -> Fetched {
        let mut body = Vec::new();
        while let Some(bytes) = self.next_bytes() {
            body.extend_from_slice(&bytes);
        }
        let end = self.end.expect("the body ended");
        Fetched { status: self.status, headers: self.headers, body, end }
    }

    /// Reads the body as an event stream.
    pub(crate) fn events(self) -> Events {
        Events { answer: self, text: Vec::new() }
    }

    /// Closes in the usual way.
    pub(crate) fn close_fin(self) {
        self.sent.close_fin();
    }

    /// Closes with a reset.
    pub(crate) fn close_rst(self) {
        self.sent.close_rst();
    }
}

/// A whole answer.
#[derive(Debug, Clone)]
pub(crate) struct Fetched {
    /// HTTP status.
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    /// Decoded from its framing.
    pub(crate) body: Vec<u8>,
    /// How it ended.
    pub(crate) end: End,
}

impl Fetched {
    /// The first header of that name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("not JSON ({error}): {:?}", self.text()))
    }
}

/// A record of an event stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// A comment.
    Comment(String),
    /// A record with an `event` (empty when it had none) and its data lines, joined.
    Message { event: String, data: String },
}

impl Event {
    /// The data as JSON; `None` for comments and `[DONE]`.
    #[track_caller]
    pub(crate) fn json(&self) -> Option<Value> {
        match self {
            Self::Message { data, .. } if data != "[DONE]" => Some(
                serde_json::from_str(data)
                    .unwrap_or_else(|error| panic!("an event without JSON ({error}): {data:?}")),
            ),
            _ => None,
        }
    }
}

/// An event stream being read.
#[derive(Debug)]
pub(crate) struct Events {
    answer: Answer,
    text: Vec<u8>,
}

impl Events {
    /// The next record (LF, CRLF or CR line ends); `None` at the end.
    #[track_caller]
    pub(crate) fn next_event(&mut self) -> Option<Event> {
        loop {
            while let Some((record, rest)) = split_record(&self.text) {
                let event = read_record(&self.text[..record]);
                self.text.drain(..rest);
                if let Some(event) = event {
                    return Some(event);
                }
            }
            let Some(bytes) = self.answer.next_bytes() else {
                // A CR that might have been half of a CRLF is a line's end after all.
                let record = self.text.strip_suffix(b"\r\n\r").and_then(read_record);
                self.text.clear();
                return record;
            };
            self.text.extend_from_slice(&bytes);
        }
    }

    /// The next record that is not a comment.
    #[track_caller]
    pub(crate) fn next_message(&mut self) -> Option<Event> {
        loop {
            match self.next_event()? {
                Event::Comment(_) => {}
                message @ Event::Message { .. } => return Some(message),
            }
        }
    }

    /// How the body ended, once it did.
    pub(crate) fn end(&self) -> Option<End> {
        self.answer.end()
    }

    /// Closes in the usual way.
    pub(crate) fn close_fin(self) {
        self.answer.close_fin();
    }

    /// Closes with a reset.
    pub(crate) fn close_rst(self) {
        self.answer.close_rst();
    }
}

/// End of the first record's text and start of what follows its blank line.
fn split_record(text: &[u8]) -> Option<(usize, usize)> {
    (0..text.len()).find_map(|at| {
        let rest = &text[at..];
        [&b"\r\n\r\n"[..], b"\n\n", b"\r\r"]
            .iter()
            .find(|blank| rest.starts_with(blank))
            .map(|blank| (at, at + blank.len()))
    })
}

fn read_record(record: &[u8]) -> Option<Event> {
    let text = String::from_utf8_lossy(record);
    let (mut event, mut data, mut comment) = (String::new(), Vec::new(), None);
    for line in text.trim_start_matches('\u{feff}').split(['\r', '\n']).filter(|l| !l.is_empty()) {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" => comment = Some(value.to_owned()),
            "event" => event = value.to_owned(),
            "data" => data.push(value.to_owned()),
            _ => {}
        }
    }
    if data.is_empty() && event.is_empty() {
        return comment.map(Event::Comment);
    }
    Some(Event::Message { event, data: data.join("\n") })
}

/// Waits until the server closes an otherwise silent connection; how long that took.
#[track_caller]
pub(crate) fn wait_closed(mut sent: Sent) -> Duration {
    let started = Instant::now();
    while sent.fill(started + BOUND) == Got::Bytes {}
    started.elapsed()
}
