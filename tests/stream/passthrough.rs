//! What must survive the way through: retry advice, request ids, statuses and messages.

use crate::{
    route::{Route, Stage},
    support::{http::Answer, replies::openai, upstream::Exchange},
};

fn id_of(answer: &Answer, route: Route) -> Option<String> {
    let name = if route.tells_anthropic() { "request-id" } else { "x-request-id" };
    answer.header(name).map(str::to_owned)
}

#[test]
fn retry_advice_of_the_upstream_reaches_the_client() {
    for route in Route::ALL {
        let limited = Exchange::json(429, &route.error_body("rate_limit_error"))
            .header("retry-after", "7")
            .header("retry-after-ms", "7000")
            .header("x-should-retry", "false")
            .times(2);
        let stage = Stage::new([limited]);
        for stream in [false, true] {
            let answer = stage.open(route, "limited", stream);
            let what = format!("{route:?} stream={stream}: {answer:?}");
            assert_eq!(answer.status, 429, "{what}");
            assert_eq!(answer.header("retry-after"), Some("7"), "{what}");
            assert_eq!(answer.header("retry-after-ms"), Some("7000"), "{what}");
            assert_eq!(answer.header("x-should-retry"), Some("false"), "{what}");
            assert!(id_of(&answer, route).is_some(), "{what}");
            let kind = answer.header("content-type").unwrap_or_default().to_owned();
            assert!(kind.starts_with("application/json"), "{what}");
            let body = answer.fetch().json();
            let message = body["error"]["message"].as_str().unwrap_or_default();
            assert!(message.contains("scripted failure"), "{what}: {body}");
        }
        stage.assert_books(2, |_| false);
    }
}

#[test]
fn every_answer_has_a_request_id_of_its_own() {
    for route in Route::ALL {
        let stage = Stage::new([
            Exchange::sse(route.records()).streaming(true).times(2),
            Exchange::json(200, &route.completion("x")).streaming(false).times(2),
        ]);
        let mut ids = Vec::new();
        for stream in [true, true, false, false] {
            let answer = stage.open(route, "id", stream);
            ids.push(id_of(&answer, route).unwrap_or_else(|| panic!("{route:?}: {answer:?}")));
            answer.fetch();
        }
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 4, "{route:?}: {ids:?}");
    }
}

#[test]
fn headers_of_one_hop_and_cookies_of_the_upstream_stay_there() {
    for route in Route::ALL {
        let answer = Exchange::json(200, &route.completion("x"))
            .header("set-cookie", "session=upstream")
            .header("connection", "x-hop")
            .header("x-hop", "1")
            .header("cf-ray", "1");
        let stage = Stage::new([answer]);
        let answer = stage.open(route, "headers", false);
        assert_eq!(answer.status, 200);
        for name in ["set-cookie", "x-hop", "cf-ray"] {
            assert_eq!(answer.header(name), None, "{route:?} {name}");
        }
        answer.fetch();
    }
}

#[test]
fn a_redirect_of_the_upstream_is_not_followed() {
    for route in Route::ALL {
        let elsewhere = crate::support::upstream::Upstream::start([]);
        let target = format!("{}/stolen", elsewhere.url());
        let redirect = Exchange::bytes(307, "text/plain", Vec::new()).header("location", &target);
        let stage = Stage::new([redirect]);
        let answer = stage.open(route, "redirect", false).fetch();
        assert!(answer.status >= 500, "{route:?}: {}", answer.text());
        assert!(elsewhere.requests().is_empty(), "the platform's key went elsewhere");
        stage.assert_books(1, |_| false);
    }
}

#[test]
fn an_upstream_that_closed_its_idle_connection_costs_no_request() {
    let exchange = |text: &str| openai::json_exchange(text, 1, 1).containing(text);
    let stage = Stage::new([
        exchange("first.").then(crate::support::upstream::Step::Fin),
        exchange("second."),
    ]);
    for marker in ["first.", "second."] {
        let answer = stage.open(Route::ChatOpenAi, marker, false).fetch();
        assert_eq!(answer.status, 200, "{marker}: {}", answer.text());
    }
    stage.assert_books(2, |_| true);
}
