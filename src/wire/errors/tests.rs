//! Every code in every dialect.

use std::fmt::Write as _;

use super::*;

fn text(bytes: &Bytes) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn every_code_is_rendered_in_three_dialects() {
    let mut all = String::new();
    for code in ErrorCode::ALL {
        let error = ErrorBody { request_id: Some("req_1"), ..ErrorBody::new(*code, "m") };
        writeln!(all, "{} {}", code.row().status, code.as_str()).unwrap();
        for body in
            [openai_error_json(&error), anthropic_error_json(&error), faces_error_json(&error)]
        {
            writeln!(all, "  {}", text(&body)).unwrap();
        }
    }
    insta::assert_snapshot!(all);
}

#[test]
fn extra_fields_stand_beside_the_code_and_never_replace_it() {
    let extra = [
        ("reason", json!("hold_exceeds_balance")),
        ("max_affordable_tokens", json!(12)),
        ("code", json!("x")),
    ];
    let error = ErrorBody {
        param: Some("max_tokens"),
        extra: &extra,
        ..ErrorBody::new(ErrorCode::InsufficientCredits, "too \"little\"")
    };
    insta::assert_snapshot!(text(&openai_error_json(&error)), @r#"{"error":{"message":"too \"little\"","type":"insufficient_quota","param":"max_tokens","code":"insufficient_credits","reason":"hold_exceeds_balance","max_affordable_tokens":12},"detail":"too \"little\""}"#);
    insta::assert_snapshot!(text(&faces_error_json(&error)), @r#"{"detail":"too \"little\"","code":"insufficient_credits","reason":"hold_exceeds_balance","max_affordable_tokens":12}"#);
}

#[test]
fn stream_errors_are_one_record_in_the_clients_dialect() {
    let error = ErrorBody::new(ErrorCode::UpstreamFailed, "line\nbreak");
    insta::assert_snapshot!(text(&openai_error_event(&error)), @r#"data: {"error":{"message":"line\nbreak","type":"server_error","param":null,"code":"upstream_error"}}"#);
    insta::assert_snapshot!(text(&anthropic_error_event(&error)), @r#"
    event: error
    data: {"type":"error","error":{"type":"api_error","message":"line\nbreak","details":{"error_code":"upstream_error"}},"request_id":null}
    "#);
    assert!(openai_error_event(&error).ends_with(b"\n\n"));
}

#[test]
fn a_validation_error_has_the_list_form() {
    let error = crate::wire::RequestError::missing("messages[2].role");
    insta::assert_snapshot!(text(&faces_validation_json(&error.loc, error.type_word(), &error.message, error.code(), &[])), @r#"{"detail":[{"type":"missing","loc":["body","messages",2,"role"],"msg":"the field `messages[2].role` is required: add it"}],"code":"invalid_request_body"}"#);
}
