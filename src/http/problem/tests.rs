//! The whole table as a client sees it: status, headers that matter, body, in three dialects.

use std::fmt::Write as _;

use actix_web::{body::to_bytes, rt::System};

use super::*;
use crate::{
    domain::{ErrorCode, NanoUsd, Usage, clock::UnixMicros, error_code::FundsReason},
    flows::failure::Finished,
};

const DIALECTS: [Dialect; 3] = [Dialect::OpenAi, Dialect::Anthropic, Dialect::Faces];

/// Status, headers (sorted) and body of a rendered failure.
fn shown(dialect: Dialect, failure: &Failure) -> String {
    let response = render(dialect, failure, Some("req_1"));
    let mut out = format!("  {dialect:?} {}", response.status().as_u16());
    let mut headers: Vec<_> = response
        .headers()
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    headers.sort();
    for header in headers.iter().filter(|header| *header != "content-type: application/json") {
        write!(out, " [{header}]").unwrap();
    }
    assert_eq!(headers.len() - out.matches(" [").count(), 1, "each error is JSON: {headers:?}");
    let body = System::new().block_on(to_bytes(response.into_body()));
    let body = body.unwrap_or_else(|_| panic!("the body is whole"));
    writeln!(out, "\n    {}", std::str::from_utf8(&body).unwrap()).unwrap();
    out
}

fn in_all_dialects(title: &str, failure: &Failure) -> String {
    let rendered: String = DIALECTS.iter().map(|dialect| shown(*dialect, failure)).collect();
    format!("{title}\n{rendered}")
}

#[test]
fn every_code_in_three_dialects() {
    let all: String = ErrorCode::ALL
        .iter()
        .map(|code| in_all_dialects(code.as_str(), &Failure::new(*code, "What is wrong.")))
        .collect();
    insta::assert_snapshot!(all);
}

#[test]
fn what_a_finished_request_used_in_three_dialects() {
    let mut failure = Failure::new(ErrorCode::AlreadyCompleted, "It has finished.");
    let usage = Usage {
        input_uncached: 10,
        cache_read: 4,
        cache_write_5m: 3,
        cache_write_1h: 2,
        output_text: 20,
        reasoning: 5,
    };
    let finished = Finished { usage, cost: NanoUsd(123_456_789) };
    failure.details = Some(Box::new(Details::Finished(finished)));
    let done = in_all_dialects("done", &failure);
    let running = Failure::new(ErrorCode::IdempotencyInProgress, "It runs.").retry_after(2_000);
    insta::assert_snapshot!(done + &in_all_dialects("running", &running));
}

#[test]
fn every_reason_of_a_402_in_three_dialects() {
    let reasons = [
        FundsReason::InsufficientCredits,
        FundsReason::HoldExceedsBalance,
        FundsReason::CreditReserved,
        FundsReason::KeyBudgetExceeded,
        FundsReason::AccountFrozen,
    ];
    let all: String = reasons
        .into_iter()
        .map(|reason| {
            let mut failure = Failure::funds(reason, "Insufficient credits.");
            if let Some(funds) = &mut failure.funds {
                if reason == FundsReason::HoldExceedsBalance {
                    funds.max_affordable_tokens = Some(1_000);
                }
                if reason == FundsReason::KeyBudgetExceeded {
                    funds.resets_at = Some(UnixMicros(1_795_737_600_000_000));
                }
            }
            in_all_dialects(reason.as_str(), &failure)
        })
        .collect();
    insta::assert_snapshot!(all);
}

#[test]
fn places_waits_and_a_providers_words_in_three_dialects() {
    let place = |loc: &[&str]| Failure {
        loc: loc.iter().map(|part| (*part).to_owned()).collect(),
        validation: "missing",
        ..Failure::new(ErrorCode::InvalidRequest, "The field is required.")
    };
    let refused = Failure {
        headers: vec![
            ("retry-after".to_owned(), "7".to_owned()),
            ("x-should-retry".to_owned(), "false".to_owned()),
        ],
        upstream_code: Some("insufficient_quota".to_owned()),
        ..Failure::new(ErrorCode::UpstreamRateLimited, "slow down")
    };
    let busy = Failure::new(ErrorCode::Overloaded, "Full.").retry_after(1_001);
    let all = [
        in_all_dialects("a field", &place(&["body", "messages", "0", "content", "1", "type"])),
        in_all_dialects("the body", &place(&["body"])),
        in_all_dialects("a query parameter", &place(&["query", "limit"])),
        in_all_dialects("a provider's refusal", &refused),
        in_all_dialects("a wait, rounded up to seconds", &busy),
    ];
    insta::assert_snapshot!(all.concat());
}
