//! The scripted upstream against the SDKs themselves, no server between: what the SDKs make of it
//! is what a server that adds nothing and loses nothing must give them.

use serde_json::json;

use crate::{
    driver::{self, Call},
    install,
    support::{
        replies::{anthropic, openai},
        upstream::Upstream,
    },
};

#[test]
fn the_openai_sdks_understand_the_scripted_upstream() {
    let Some(sdks) = install::openai() else { return };
    let upstream = Upstream::start([
        openai::json_exchange("whole", 7, 3).streaming(false).any_times(),
        openai::stream_exchange(&["in ", "pieces"], 7, 3).streaming(true).any_times(),
    ]);
    let params = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
    let calls = [
        Call::chat("json", params.clone()),
        Call::chat("stream", params.clone()).streamed(),
        Call::chat("async", params).streamed().asynchronous(),
    ];
    for report in driver::run(sdks, &format!("{}/v1", upstream.url()), "key", &calls) {
        report.assert("json", "/content", "whole");
        report.assert("json", "/usage/total_tokens", 10);
        for name in ["stream", "async"] {
            report.assert(name, "/content", "in pieces");
            report.assert(name, "/finish_reason", "stop");
            report.assert(name, "/usage/completion_tokens", 3);
        }
    }
    upstream.finish();
}

#[test]
fn the_anthropic_sdks_understand_the_scripted_upstream() {
    let Some(sdks) = install::anthropic() else { return };
    let upstream = Upstream::start([
        anthropic::json_exchange("whole", 7, 3).streaming(false).any_times(),
        anthropic::stream_exchange(&["in ", "pieces"], 7, 3).streaming(true).any_times(),
    ]);
    let params = json!({"model": "m", "max_tokens": 16,
        "messages": [{"role": "user", "content": "hi"}]});
    let calls = [
        Call::message("json", params.clone()),
        Call::message("stream", params.clone()).streamed(),
        Call::message("async", params).streamed().asynchronous(),
    ];
    for report in driver::run(sdks, &upstream.url(), "key", &calls) {
        report.assert("json", "/content", "whole");
        report.assert("json", "/stop_reason", "end_turn");
        for name in ["stream", "async"] {
            report.assert(name, "/content", "in pieces");
            report.assert(name, "/streamed", "in pieces");
            report.assert(name, "/usage/output_tokens", 3);
        }
    }
    upstream.finish();
}
