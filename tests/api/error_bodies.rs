//! What is wrong with a request's bytes is said in the dialect of its route, with the place.

use std::net::{Shutdown, TcpStream};

use serde_json::{Value, json};

use crate::{
    kit::{BODY_ROUTES, BodyRoute, Dialect, Stage, chat, error_of, json_request, with},
    support::{
        http::{Fetched, Request},
        models::{ANTHROPIC_MODEL, OPENAI_MODEL},
        replies::openai,
        server::TestServer,
    },
};

fn raw(route: &BodyRoute, content_type: &str, body: &[u8]) -> Request {
    Request::new(route.method, route.path).header("content-type", content_type).body(body)
}

#[test]
fn a_body_that_is_no_json_is_422_with_its_place_on_every_route() {
    let stage = Stage::new([]);
    let broken: [&[u8]; 8] = [
        b"{",
        b"{\"model\": }",
        b"not json",
        b"{\"model\":\"alice\",}",
        b"\xff\xfe\x00",
        b"{} trailing",
        b"{\"model\":\"\xff\"}",
        b"\x00",
    ];
    for route in &BODY_ROUTES {
        for body in broken {
            let answer = stage.fetch(&raw(route, "application/json", body));
            let shown = format!("{} {} {body:?}: {}", route.method, route.path, answer.text());
            assert_eq!(answer.status, 422, "{shown}");
            let error = error_of(&answer, route.dialect);
            assert_eq!(error.code, "invalid_json", "{shown}");
            if route.dialect == Dialect::Faces {
                assert_eq!(error.details["type"], "json_invalid", "{shown}");
                assert_eq!(error.details["loc"], json!(["body"]), "{shown}");
            }
        }
    }
}

#[test]
fn a_body_of_the_wrong_shape_is_422_on_every_route() {
    let stage = Stage::new([]);
    for route in &BODY_ROUTES {
        for body in [json!(null), json!(7), json!("text"), json!(true), json!(["alice"])] {
            let answer = stage.send(route.method, route.path, &body);
            let shown = format!("{} {} {body}: {}", route.method, route.path, answer.text());
            assert_eq!(answer.status, 422, "{shown}");
            assert_eq!(error_of(&answer, route.dialect).code, "invalid_request_body", "{shown}");
        }
    }
}

#[test]
fn an_empty_body_is_422_and_says_so() {
    let stage = Stage::new([]);
    for route in &BODY_ROUTES {
        for body in [&b""[..], b"  \n"] {
            let answer = stage.fetch(&raw(route, "application/json", body));
            assert_eq!(answer.status, 422, "{} {}", route.path, answer.text());
            let error = error_of(&answer, route.dialect);
            if body.is_empty() {
                assert!(error.message.contains("empty"), "{}", error.message);
            }
        }
    }
}

#[track_caller]
fn assert_invalid(answer: &Fetched, param: &str) {
    assert_eq!(answer.status, 422, "{param}: {}", answer.text());
    let error = error_of(answer, Dialect::OpenAi);
    assert_eq!(error.details["param"], json!(param), "{}", error.whole);
    assert_eq!(error.details["type"], "invalid_request_error", "{}", error.whole);
    assert!(error.message.contains(param), "the message names the field: {}", error.message);
}

#[test]
fn a_wrong_field_of_a_chat_is_named_by_its_path() {
    let stage = Stage::new([]);
    let wrong = [
        (json!({"model": null}), "model"),
        (json!({"model": 7}), "model"),
        (json!({"model": ""}), "model"),
        (json!({"messages": null}), "messages"),
        (json!({"messages": "hi"}), "messages"),
        (json!({"messages": []}), "messages"),
        (json!({"messages": {"role": "user"}}), "messages"),
        (json!({"messages": ["hi"]}), "messages[0]"),
        (json!({"messages": [{"content": "hi"}]}), "messages[0].role"),
        (json!({"messages": [{"role": 1, "content": "hi"}]}), "messages[0].role"),
        (json!({"messages": [{"role": "king", "content": "hi"}]}), "messages[0].role"),
        (json!({"messages": [{"role": "user"}]}), "messages[0].content"),
        (json!({"messages": [{"role": "user", "content": 7}]}), "messages[0].content"),
        (
            json!({"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": [{}]}]}),
            "messages[1].content[0].type",
        ),
        (json!({"stream": "yes"}), "stream"),
        (json!({"max_tokens": 0}), "max_tokens"),
        (json!({"max_tokens": -1}), "max_tokens"),
        (json!({"max_tokens": "10"}), "max_tokens"),
        (json!({"max_tokens": 1.5}), "max_tokens"),
        (json!({"max_completion_tokens": []}), "max_completion_tokens"),
        (json!({"n": 0}), "n"),
        (json!({"stream_options": 1}), "stream_options"),
        (json!({"stream_options": {"include_usage": 1}}), "stream_options.include_usage"),
    ];
    for (path, model) in
        [("/v1/chat/completions", "alice"), ("/v1/openai/chat/completions", OPENAI_MODEL)]
    {
        for (fields, param) in &wrong {
            assert_invalid(&stage.post(path, &with(chat(model), fields)), param);
        }
        let without = |field: &str| {
            let mut body = chat(model);
            body.as_object_mut().unwrap().remove(field);
            body
        };
        assert_invalid(&stage.post(path, &without("messages")), "messages");
        assert_invalid(&stage.post(path, &without("model")), "model");
        assert_invalid(&stage.post(path, &json!({})), "model");
    }
}

#[test]
fn a_wrong_field_of_a_native_message_is_422_in_anthropics_dialect() {
    let stage = Stage::new([]);
    let good = with(chat(ANTHROPIC_MODEL), &json!({"max_tokens": 16}));
    let wrong = [
        (json!({"messages": null}), "messages"),
        (json!({"messages": []}), "messages"),
        (json!({"messages": 1}), "messages"),
        (json!({"max_tokens": null}), "max_tokens"),
        (json!({"max_tokens": "x"}), "max_tokens"),
        (json!({"model": 1}), "model"),
        (json!({"stream": 1}), "stream"),
    ];
    for (fields, named) in &wrong {
        let answer = stage.post("/v1/anthropic/v1/messages", &with(good.clone(), fields));
        assert_eq!(answer.status, 422, "{fields}: {}", answer.text());
        let error = error_of(&answer, Dialect::Anthropic);
        assert_eq!(error.whole["error"]["type"], "invalid_request_error");
        assert!(error.message.contains(named), "{fields}: {}", error.message);
    }
}

#[test]
fn a_wrong_field_of_a_face_is_422_in_the_list_form() {
    let stage = Stage::new([]);
    let wrong = [
        (json!({}), json!(["body", "username"]), "missing"),
        (json!({"username": 7}), json!(["body", "username"]), "type_error"),
        (json!({"username": "Has Blanks"}), json!(["body", "username"]), "value_error"),
        (json!({"username": ""}), json!(["body", "username"]), "value_error"),
        (json!({"username": "a".repeat(33)}), json!(["body", "username"]), "value_error"),
        (json!({"username": "bob", "name": 1}), json!(["body", "name"]), "type_error"),
        (json!({"username": "bob", "name": " "}), json!(["body", "name"]), "value_error"),
        (
            json!({"username": "bob", "basic_facts": []}),
            json!(["body", "basic_facts"]),
            "type_error",
        ),
        (
            json!({"username": "bob", "facts": {"age": []}}),
            json!(["body", "basic_facts", "age"]),
            "type_error",
        ),
        (
            json!({"username": "bob", "facts": {"age": "x".repeat(501)}}),
            json!(["body", "basic_facts", "age"]),
            "value_error",
        ),
        (
            json!({"username": "bob", "default_tools": ["a", 2]}),
            json!(["body", "default_tools", 1]),
            "type_error",
        ),
        (json!({"username": "bob", "formula": "a | b"}), json!(["body", "formula"]), "value_error"),
        (
            json!({"username": "bob", "formula": "alice |"}),
            json!(["body", "formula"]),
            "value_error",
        ),
        (
            json!({"username": "bob", "formula": ["alice"]}),
            json!(["body", "formula"]),
            "type_error",
        ),
        (
            json!({"username": "bob", "formula": "alice", "facts": {"age": 3}}),
            json!(["body", "basic_facts"]),
            "value_error",
        ),
        (
            json!({"username": "bob", "description": "x".repeat(1_501)}),
            json!(["body", "description"]),
            "value_error",
        ),
        (
            json!({"username": "bob", "default_model": "no-such"}),
            json!(["body", "default_model"]),
            "value_error",
        ),
    ];
    for (body, loc, kind) in wrong {
        let answer = stage.post("/v1/faces", &body);
        assert_eq!(answer.status, 422, "{body}: {}", answer.text());
        let error = error_of(&answer, Dialect::Faces);
        assert_eq!((&error.details["loc"], &error.details["type"]), (&loc, &json!(kind)), "{body}");
    }
}

#[test]
fn another_content_type_is_415_and_the_message_helps_a_curl_user() {
    let stage = Stage::new([]);
    for route in &BODY_ROUTES {
        for content_type in ["application/x-www-form-urlencoded", "text/plain", "nonsense", ""] {
            let answer = stage.fetch(&raw(route, content_type, b"{}"));
            assert_eq!(answer.status, 415, "{} {content_type}: {}", route.path, answer.text());
            let error = error_of(&answer, route.dialect);
            assert_eq!(error.code, "unsupported_media_type");
            assert!(error.message.contains("-H 'Content-Type: application/json'"));
        }
        for content_type in
            ["application/json", "application/json; charset=utf-8", "Application/JSON"]
        {
            let answer = stage.fetch(&raw(route, content_type, b"7"));
            assert_eq!(answer.status, 422, "{} {content_type}: {}", route.path, answer.text());
        }
    }
}

/// The server that takes bodies of at most 4,096 bytes.
fn small_bodies() -> Stage {
    let builder = TestServer::builder()
        .env("FACES_BODY_BYTES_MAX", "4096")
        .env("FACES_PRIMITIVE_CHARS_MAX", "2000");
    Stage::with([openai::json_exchange("ok", 1, 1)], builder, "10")
}

#[test]
fn a_body_over_the_limit_is_413_by_its_length_and_when_it_is_chunked() {
    let stage = small_bodies();
    for route in &BODY_ROUTES {
        let body = json!({"model": "x".repeat(5_000)}).to_string().into_bytes();
        let announced = stage.fetch(&raw(route, "application/json", &body));
        let chunked = chunked(&stage, route, &body);
        for answer in [announced, chunked] {
            assert_eq!(answer.status, 413, "{}: {}", route.path, answer.text());
            let error = error_of(&answer, route.dialect);
            assert_eq!(error.code, "request_too_large");
            assert!(error.message.contains("4096"), "the limit is told: {}", error.message);
        }
    }
    // At the limit it is taken.
    let mut body = chat("alice");
    let missing = 4_096 - body.to_string().len() - ",\"user\":\"\"".len();
    body["user"] = json!("u".repeat(missing));
    assert_eq!(body.to_string().len(), 4_096);
    assert_eq!(stage.post("/v1/chat/completions", &body).status, 200);
}

/// The same request with a chunked body, whose end never comes: the server must not wait for it.
#[track_caller]
fn chunked(stage: &Stage, route: &BodyRoute, body: &[u8]) -> Fetched {
    let framed = [format!("{:x}\r\n", body.len()).as_bytes(), body, b"\r\n"].concat();
    Request::new(route.method, route.path)
        .header("content-type", "application/json")
        .header("transfer-encoding", "chunked")
        .bearer(&stage.account.key)
        .unframed_body(framed)
        .fetch(stage.server.address())
}

#[test]
fn a_body_that_breaks_off_is_never_taken_for_whole() {
    use std::io::{Read, Write};
    let stage = Stage::new([]);
    let body = chat("alice").to_string();
    let mut stream = TcpStream::connect(stage.server.address()).unwrap();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
         authorization: Bearer {}\r\ncontent-length: {}\r\n\r\n{body}",
        stage.account.key,
        body.len() + 10
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    // An answer is not owed: the client has gone. What matters is that nothing was served.
    let _ = stream.read_to_end(&mut answer);
    assert!(!String::from_utf8_lossy(&answer).contains(" 200 "));
    assert!(stage.upstream.requests().is_empty());
    assert!(stage.server.ledger().holds(&stage.account).is_empty());
}

#[test]
fn an_unknown_path_is_404_and_a_wrong_method_405_in_the_routes_dialect() {
    let stage = Stage::new([]);
    let unknown = [
        ("/", Dialect::Faces),
        ("/v1", Dialect::Faces),
        ("/v2/chat/completions", Dialect::Faces),
        ("/v1/chat", Dialect::OpenAi),
        ("/v1/chat/completions/more", Dialect::OpenAi),
        ("/v1/openai/embeddings", Dialect::OpenAi),
        ("/v1/anthropic", Dialect::Anthropic),
        ("/v1/anthropic/v1/complete", Dialect::Anthropic),
        ("/v1/faces/alice/nothing", Dialect::Faces),
        ("/v1/%ff%fe", Dialect::Faces),
        ("/../../etc/passwd", Dialect::Faces),
    ];
    for (path, dialect) in unknown {
        for answer in [stage.get(path), stage.post(path, &json!({}))] {
            assert_eq!(answer.status, 404, "{path}: {}", answer.text());
            assert_eq!(error_of(&answer, dialect).code, "route_not_found", "{path}");
        }
    }
    let wrong: [(&str, &str, Dialect, &str); 8] = [
        ("GET", "/v1/chat/completions", Dialect::OpenAi, "POST"),
        ("PUT", "/v1/openai/chat/completions", Dialect::OpenAi, "POST"),
        ("DELETE", "/v1/anthropic/v1/messages", Dialect::Anthropic, "POST"),
        ("POST", "/v1/models", Dialect::OpenAi, "GET"),
        ("PUT", "/v1/faces", Dialect::Faces, "GET, POST"),
        ("POST", "/v1/faces/alice", Dialect::Faces, "GET, PATCH, DELETE"),
        ("GET", "/v1/faces/alice/primitives", Dialect::Faces, "PUT"),
        ("POST", "/v1/billing/balance", Dialect::Faces, "GET"),
    ];
    for (method, path, dialect, allowed) in wrong {
        let answer = stage.fetch(&json_request(method, path, &json!({})));
        assert_eq!(answer.status, 405, "{method} {path}: {}", answer.text());
        let error = error_of(&answer, dialect);
        assert_eq!(error.code, "method_not_allowed");
        assert!(error.message.contains(method), "{}", error.message);
        assert_eq!(answer.header("allow"), Some(allowed), "{method} {path}");
    }
}

#[test]
fn rows_404_and_422_of_the_chat_page_serve_both_readers() {
    let stage = Stage::new([]);
    let missing = stage.post("/v1/chat/completions", &chat("nobody@sandbox"));
    assert_eq!(missing.status, 404);
    let error = error_of(&missing, Dialect::OpenAi);
    assert_eq!(error.code, "face_not_found");
    assert!(error.message.contains("not found or is not owned by you"), "{}", error.message);
    let neither = stage.post("/v1/chat/completions", &chat("nobody"));
    let error = error_of(&neither, Dialect::OpenAi);
    assert_eq!((neither.status, error.code.as_str()), (404, "model_not_found"));
    for place in ["face", "/v1/faces", "/v1/models"] {
        assert!(error.message.contains(place), "both possibilities: {}", error.message);
    }
    let unusable = stage.post("/v1/chat/completions", &chat("alice@no-such-model"));
    let error = error_of(&unusable, Dialect::OpenAi);
    assert_eq!((unusable.status, error.code.as_str()), (422, "unsupported_model"));
    assert!(error.message.contains("GET /v1/models"), "{}", error.message);
    let body: Value = json!({"model": "alice"});
    let invalid = stage.post("/v1/chat/completions", &body);
    assert_eq!(invalid.status, 422);
    assert_eq!(error_of(&invalid, Dialect::OpenAi).code, "invalid_request_body");
}
