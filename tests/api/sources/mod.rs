//! Where the texts of faces come from: uploaded files, transcripts, and interviews whose questions
//! are billed to the credits.

mod threads;
mod uploads;

use serde_json::{Value, json};

use crate::{
    kit::{balance, json_request},
    support::{
        http::{Fetched, Request},
        models::OPENAI_MODEL,
        server::{Account, Builder, TestServer},
        upstream::Upstream,
    },
};

const UPLOAD: &str = "/v1/faces/ann/upload";
const THREADS: &str = "/v1/compile/threads";
const BOUNDARY: &str = "faces-test-boundary";

/// A server, an account, and the face `ann`.
struct Desk {
    server: TestServer,
    account: Account,
}

impl Desk {
    /// Only the sandbox answers.
    fn offline() -> Self {
        Self::open(TestServer::builder(), "10")
    }

    fn scripted(upstream: &Upstream) -> Self {
        let builder = TestServer::builder().with_upstream(upstream);
        Self::open(builder.env("FACES_COMPILE_MODEL", OPENAI_MODEL), "10")
    }

    fn open(builder: Builder, credit_usd: &str) -> Self {
        let server = builder.env("FACES_COMPILE_POLL_MS", "20").start();
        let account = server.account_with_usd(credit_usd);
        let desk = Self { server, account };
        let made = desk.post("/v1/faces", &json!({"username": "ann", "name": "Ann Lee"}));
        assert_eq!(made.status, 201, "{}", made.text());
        desk
    }

    fn fetch(&self, request: Request) -> Fetched {
        request.bearer(&self.account.key).fetch(self.server.address())
    }

    fn post(&self, path: &str, body: &Value) -> Fetched {
        self.fetch(json_request("POST", path, body))
    }

    fn patch(&self, path: &str, body: &Value) -> Fetched {
        self.fetch(json_request("PATCH", path, body))
    }

    #[track_caller]
    fn get(&self, path: &str) -> Value {
        let answer = self.fetch(Request::get(path));
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }

    fn upload(&self, parts: &[Part<'_>]) -> Fetched {
        self.fetch(form(UPLOAD, parts))
    }

    fn spent(&self) -> i64 {
        10_000_000_000 - balance(&self.server, &self.account)
    }
}

/// A part of a form: a field, or a file.
pub(crate) enum Part<'a> {
    Field(&'a str, &'a str),
    File(&'a str, &'a str, &'a [u8]),
}
use Part::{Field, File};

pub(crate) fn form(path: &str, parts: &[Part<'_>]) -> Request {
    let mut body = Vec::new();
    for part in parts {
        let (head, content) = match part {
            Field(name, value) => (format!("name=\"{name}\"\r\n"), value.as_bytes()),
            File(name, content_type, content) => (
                format!("name=\"file\"; filename=\"{name}\"\r\nContent-Type: {content_type}\r\n"),
                *content,
            ),
        };
        let start = format!("--{BOUNDARY}\r\nContent-Disposition: form-data; {head}\r\n");
        body.extend_from_slice(start.as_bytes());
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
    let content_type = format!("multipart/form-data; boundary={BOUNDARY}");
    Request::new("POST", path).header("content-type", &content_type).body(body)
}

#[track_caller]
fn refused(answer: &Fetched, status: u16, loc: &str, words: &str) {
    assert_eq!(answer.status, status, "{}", answer.text());
    if status == 422 {
        let path = answer.json()["detail"][0]["loc"].clone();
        let path: Vec<String> =
            path.as_array().unwrap().iter().map(|step| step.to_string().replace('"', "")).collect();
        assert_eq!(path.join("."), loc, "{}", answer.text());
    }
    assert!(answer.text().contains(words), "{words}: {}", answer.text());
}
