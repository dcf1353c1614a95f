//! Another password for whoever is logged in.

use serde_json::json;

use crate::{
    identity::{login, me, start, token_of},
    kit::{Dialect, error_of},
    support::{
        http::{Fetched, Request},
        login::{PASSWORD, Person},
        server::TestServer,
    },
};

fn change(server: &TestServer, token: &str, path: &str, current: &str, new: &str) -> Fetched {
    let body = json!({"current_password": current, "new_password": new});
    Request::post(path, &body).bearer(token).fetch(server.address())
}

#[test]
fn whoever_knows_the_password_changes_it_and_only_the_new_session_goes_on() {
    const OTHER: &str = "Another-1-password";
    let server = start(&[]);
    server.plant_secret(OTHER);
    let ada = Person::register(&server, "ada");
    let bob = Person::register(&server, "bob");
    let key = ada.key(&server, &json!({}))["key"].as_str().unwrap().to_owned();
    let second = token_of(&server, &login(&server, &ada.email, PASSWORD));
    let changed = change(&server, &ada.token, "/v1/auth/password", PASSWORD, OTHER);
    let third = token_of(&server, &changed);
    assert_eq!(changed.json()["user_id"], json!(ada.id));
    assert_eq!(me(&server, &third).status, 200);
    for old in [&ada.token, &second] {
        assert_eq!(me(&server, old).status, 401);
        let late = change(&server, old, "/auth/password", OTHER, PASSWORD);
        assert_eq!(late.status, 401, "what is over changes nothing: {}", late.text());
    }
    assert_eq!(login(&server, &ada.email, PASSWORD).status, 401);
    token_of(&server, &login(&server, &ada.email, OTHER));
    let with_key = Request::get("/v1/account/state").bearer(&key).fetch(server.address());
    assert_eq!(with_key.status, 200, "keys stay");
    assert_eq!(me(&server, &bob.token).status, 200, "others have nothing to do with it");
    // And back, on the other path.
    let back = token_of(&server, &change(&server, &third, "/auth/password", OTHER, PASSWORD));
    assert_eq!((me(&server, &third).status, me(&server, &back).status), (401, 200));
}

#[test]
fn a_change_of_the_password_that_is_refused_changes_nothing() {
    let server = start(&[]);
    let ada = Person::register(&server, "ada");
    let attempt =
        |current: &str, new: &str| change(&server, &ada.token, "/v1/auth/password", current, new);
    for current in ["Wrong-password-1", "", &"x".repeat(1_000)] {
        let refused = attempt(current, "Another-1-password");
        assert_eq!(refused.status, 401, "{}", refused.text());
        assert_eq!(refused.header("cache-control"), Some("no-store"));
        let error = error_of(&refused, Dialect::Faces);
        assert_eq!(error.code, "invalid_login");
        assert_eq!(error.message, "The current password is wrong.");
    }
    let long = format!("Aa1!{}", "x".repeat(253));
    for (new, words) in [
        ("Aa1!aaa", json!(["PASSWORD_TOO_SHORT"])),
        (&long, json!(["PASSWORD_TOO_LONG"])),
        ("aaaaaaaa1!", json!(["PASSWORD_NO_UPPERCASE"])),
    ] {
        let refused = attempt(PASSWORD, new);
        assert_eq!(refused.status, 422, "{}", refused.text());
        let error = error_of(&refused, Dialect::Faces);
        assert_eq!(error.details["loc"], json!(["body", "new_password"]));
        assert_eq!(error.whole["messages"], words);
    }
    for (body, field) in [
        (json!({"new_password": "Another-1-password"}), "current_password"),
        (json!({"current_password": PASSWORD}), "new_password"),
        (json!({"current_password": PASSWORD, "new_password": 7}), "new_password"),
    ] {
        let refused = ada.send(&server, "POST", "/auth/password", &body);
        assert_eq!(refused.status, 422, "{}", refused.text());
        let error = error_of(&refused, Dialect::Faces);
        assert_eq!(error.details["loc"], json!(["body", field]));
    }
    assert_eq!(me(&server, &ada.token).status, 200);
    token_of(&server, &login(&server, &ada.email, PASSWORD));
}

#[test]
fn guesses_at_the_current_password_are_counted_with_failed_logins() {
    let server = start(&[("FACES_LOGIN_FAILURES_PER_ACCOUNT_MAX", "3")]);
    let ada = Person::register(&server, "ada");
    let attempt =
        |current: &str| change(&server, &ada.token, "/v1/auth/password", current, PASSWORD);
    assert_eq!(attempt("Wrong-password-1").status, 401);
    let token = token_of(&server, &login(&server, &ada.email, PASSWORD));
    let attempt = |current: &str| change(&server, &token, "/auth/password", current, PASSWORD);
    for _ in 0..2 {
        assert_eq!(attempt("Wrong-password-1").status, 401);
    }
    assert_eq!(login(&server, &ada.email, "Wrong-password-1").status, 401);
    let refused = attempt(PASSWORD);
    assert_eq!(refused.status, 429, "{}", refused.text());
    assert_eq!(error_of(&refused, Dialect::Faces).code, "too_many_attempts");
    assert!(refused.header("retry-after").is_some());
    assert_eq!(me(&server, &token).status, 200, "who is logged in stays so");
}
