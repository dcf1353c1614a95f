//! People register, log in and stay logged in; what is refused, and in which words.

use std::{io::Write as _, process::Stdio};

use serde_json::{Value, json};

use crate::{
    kit::{Dialect, chat, error_of, json_request, nanousd},
    support::{
        BOUND,
        http::{Fetched, Request},
        login::{PASSWORD, Person},
        server::{Builder, TestServer},
        wait_for,
    },
};

pub(crate) fn start(settings: &[(&str, &str)]) -> TestServer {
    let with = |builder: Builder, (name, value): &(&str, &str)| builder.env(name, value);
    settings.iter().fold(TestServer::builder(), with).start()
}

#[track_caller]
fn post(server: &TestServer, path: &str, body: &Value) -> Fetched {
    Request::post(path, body).fetch(server.address())
}

pub(crate) fn login(server: &TestServer, email: &str, password: &str) -> Fetched {
    post(server, "/auth/login", &json!({"email": email, "password": password}))
}

/// Checks a session's whole shape; its token.
#[track_caller]
pub(crate) fn token_of(server: &TestServer, answer: &Fetched) -> String {
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let body = answer.json();
    let token = body["token"].as_str().expect("a token").to_owned();
    server.plant_secret(&token);
    assert_eq!((&body["success"], &body["messages"]), (&json!(true), &json!([])));
    assert_eq!((&body["error"], &body["meta"]), (&Value::Null, &Value::Null));
    let data = json!({"token": token, "user_id": body["user_id"], "is_admin": body["is_admin"]});
    assert_eq!(body["data"], data, "the same in the envelope and at the top");
    assert_eq!((&body["access_token"], &body["token_type"]), (&json!(token), &json!("bearer")));
    assert_eq!(body["expires_in"], 86_400);
    token
}

pub(crate) fn me(server: &TestServer, token: &str) -> Fetched {
    Request::get("/v1/auth/me").bearer(token).fetch(server.address())
}

#[test]
fn a_person_registers_logs_in_and_refreshes_on_both_families_of_paths() {
    let server = start(&[]);
    let families =
        [("/auth/register-email", "/auth", "ada"), ("/v1/auth/register", "/v1/auth", "bob")];
    for (register, prefix, name) in families {
        let email = format!("{name}@example.com");
        let body = json!({"name": "A Person", "email": email, "password": PASSWORD,
            "username": name, "invite_key": null});
        let registered = post(&server, register, &body);
        let first = token_of(&server, &registered);
        let id = registered.json()["user_id"].clone();
        let credentials = json!({"email": email, "password": PASSWORD});
        let second = token_of(&server, &post(&server, &format!("{prefix}/login"), &credentials));
        // As the command-line client does it: no body and no content type.
        let refresh = Request::new("POST", &format!("{prefix}/refresh")).bearer(&second);
        let third = token_of(&server, &refresh.fetch(server.address()));
        for token in [first, second, third] {
            let me = me(&server, &token);
            assert_eq!(me.status, 200, "{}", me.text());
            let me = me.json();
            assert_eq!((&me["id"], &me["user_id"]), (&id, &id));
            let told = (&me["email"], &me["username"], &me["name"], &me["is_admin"]);
            assert_eq!(told, (&json!(email), &json!(name), &json!("A Person"), &json!(false)));
            assert!(me["created_at"].as_str().is_some_and(|at| at.ends_with('Z')), "{me}");
        }
    }
}

#[test]
fn an_address_and_a_username_belong_to_one_account_whatever_their_case() {
    let server = start(&[]);
    let register = |email: &str, username: Option<&str>| {
        let body = json!({"email": email, "password": PASSWORD, "username": username});
        post(&server, "/v1/auth/register", &body)
    };
    token_of(&server, &register("Ada.King@Example.com", None));
    for email in ["ada.king@example.com", " ADA.KING@EXAMPLE.COM "] {
        token_of(&server, &login(&server, email, PASSWORD));
        let taken = register(email, Some("other"));
        assert_eq!(taken.status, 422, "{}", taken.text());
        assert_eq!(taken.json()["messages"], json!(["EMAIL_EXISTS"]));
        assert_eq!(error_of(&taken, Dialect::Faces).details["loc"], json!(["body", "email"]));
    }
    let taken = register("new@example.com", Some("ada-king"));
    assert_eq!((taken.status, &taken.json()["messages"]), (422, &json!(["USERNAME_EXISTS"])));
    assert_eq!(error_of(&taken, Dialect::Faces).details["loc"], json!(["body", "username"]));
    // A derived one gives way.
    let second = token_of(&server, &register("ada.king@example.org", None));
    assert_eq!(me(&server, &second).json()["username"], "ada-king-2");
    assert_eq!(me(&server, &second).json()["name"], "ada-king-2", "a name is not asked for");
    // What was refused made no account.
    assert_eq!(server.admin(&["account", "list"])["data"].as_array().unwrap().len(), 2);
}

#[test]
fn what_is_wrong_with_a_registration_is_named() {
    let server = start(&[]);
    let good = json!({"name": "Ada", "email": "ada@example.com", "password": PASSWORD});
    let long = format!("Aa1!{}", "x".repeat(253));
    let wrong = [
        ("email", Value::Null, "email", json!(null)),
        ("email", json!("ada"), "email", json!(null)),
        ("email", json!(1), "email", json!(null)),
        ("email", json!("a\u{0}@b"), "email", json!(null)),
        ("name", json!("a\u{0}b"), "name", json!(null)),
        ("name", json!(["Ada"]), "name", json!(null)),
        ("username", json!("Ada"), "username", json!(null)),
        ("username", json!("a_b"), "username", json!(null)),
        ("password", Value::Null, "password", json!(null)),
        ("password", json!(12_345_678), "password", json!(null)),
        ("password", json!("Aa1!aaa"), "password", json!(["PASSWORD_TOO_SHORT"])),
        ("password", json!(long), "password", json!(["PASSWORD_TOO_LONG"])),
        ("password", json!("AA1!AAAA"), "password", json!(["PASSWORD_NO_LOWERCASE"])),
        (
            "password",
            json!("aaaaaaaa"),
            "password",
            json!(["PASSWORD_NO_UPPERCASE", "PASSWORD_NO_DIGIT", "PASSWORD_NO_SPECIAL"]),
        ),
    ];
    for (field, value, loc, messages) in wrong {
        let mut body = good.clone();
        body[field] = value;
        let refused = post(&server, "/auth/register-email", &body);
        assert_eq!(refused.status, 422, "{body}: {}", refused.text());
        let error = error_of(&refused, Dialect::Faces);
        assert_eq!(error.details["loc"], json!(["body", loc]), "{body}");
        assert_eq!(error.whole["messages"], messages, "{body}");
    }
    for body in ["", "[]", "{", "null"] {
        let request =
            Request::new("POST", "/auth/login").header("content-type", "application/json");
        let refused = request.body(body).fetch(server.address());
        assert_eq!(refused.status, 422, "{body}: {}", refused.text());
    }
    let large = json!({"email": "ada@example.com", "password": "x".repeat(20_000)});
    assert_eq!(post(&server, "/auth/login", &large).status, 413, "anybody may send one");
    assert_eq!(server.admin(&["account", "list"])["data"], json!([]));
}

#[test]
fn an_unknown_address_and_a_wrong_password_get_the_same_answer() {
    let server = start(&[]);
    Person::register(&server, "ada");
    let told = |answer: &Fetched| {
        assert_eq!(answer.status, 401, "{}", answer.text());
        assert!(answer.header("www-authenticate").is_some());
        answer.text()
    };
    let wrong = told(&login(&server, "ada@example.com", "Wrong-password-1"));
    assert_eq!(told(&login(&server, "bob@example.com", PASSWORD)), wrong);
    assert_eq!(told(&login(&server, "ada@example.com", &"x".repeat(1_000))), wrong);
    assert_eq!(told(&login(&server, "ada@example.com", "")), wrong);
    assert!(wrong.contains(r#""detail":"Invalid email or password""#), "{wrong}");
    token_of(&server, &login(&server, "ada@example.com", PASSWORD));
}

#[test]
fn a_token_is_over_after_its_life() {
    let server = start(&[("FACES_LOGIN_TOKEN_MS", "1000")]);
    let ada = Person::register(&server, "ada");
    let over = wait_for("the token's end", BOUND, || {
        let answer = me(&server, &ada.token);
        (answer.status != 200).then_some(answer)
    });
    assert_eq!(over.status, 401, "{}", over.text());
    assert_eq!(error_of(&over, Dialect::Faces).code, "invalid_api_key");
    let refresh = Request::new("POST", "/auth/refresh").bearer(&ada.token);
    assert_eq!(refresh.fetch(server.address()).status, 401, "what is over is not refreshed");
}

#[test]
fn a_secret_is_replaced_without_ending_anybodys_login() {
    let (old, new) = ("a".repeat(40), "b".repeat(40));
    let mut server = start(&[("FACES_JWT_SECRETS", &old)]);
    server.plant_secret(&old);
    server.plant_secret(&new);
    let ada = Person::register(&server, "ada");
    let mut with = |secrets: &str| {
        assert!(server.terminate().success());
        server.set_env("FACES_JWT_SECRETS", secrets);
        server.start_again();
        me(&server, &ada.token).status
    };
    assert_eq!(with(&format!("{new},{old}")), 200);
    assert_eq!(with(&new), 401);
    token_of(&server, &login(&server, &ada.email, PASSWORD));
}

#[test]
fn without_a_configured_secret_a_login_outlives_a_restart() {
    let mut server = start(&[]);
    let ada = Person::register(&server, "ada");
    server.kill();
    server.start_again();
    assert_eq!(me(&server, &ada.token).status, 200);
}

#[test]
fn a_short_secret_stops_the_start_and_is_not_shown() {
    let server = start(&[]);
    let mut command = server.program();
    command.env("FACES_JWT_SECRETS", format!("{},short-one-4711", "a".repeat(40))).arg("serve");
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("FACES_JWT_SECRETS") && !text.contains("4711"), "{text}");
}

#[track_caller]
fn set_password(server: &TestServer, arguments: &[&str], password: &str) -> Value {
    let mut command = server.program();
    command.args(["admin", "account", "set-password", "--json"]).args(arguments);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    writeln!(child.stdin.take().unwrap(), "{password}").unwrap();
    let output = child.wait_with_output().unwrap();
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn another_password_ends_every_token_and_an_account_without_a_login_gets_one() {
    const OTHER: &str = "Another-1-password";
    let server = start(&[]);
    server.plant_secret(OTHER);
    let ada = Person::register(&server, "ada");
    let key = ada.key(&server, &json!({}))["key"].as_str().unwrap().to_owned();
    let refused = set_password(&server, &["--account", &ada.id], "too easy");
    assert_eq!(refused["error"]["code"], "invalid_request_body");
    assert_eq!(me(&server, &ada.token).status, 200);
    let set = set_password(&server, &["--account", &ada.id], OTHER);
    assert_eq!(set["email"], json!(ada.email), "{set}");
    assert_eq!(me(&server, &ada.token).status, 401);
    assert_eq!(login(&server, &ada.email, PASSWORD).status, 401);
    let token = token_of(&server, &login(&server, &ada.email, OTHER));
    assert_eq!(me(&server, &token).status, 200);
    let with_key = Request::get("/v1/account/state").bearer(&key).fetch(server.address());
    assert_eq!(with_key.status, 200, "keys stay");
    // An account of the command line.
    let shop = server.account();
    assert_eq!(
        set_password(&server, &["--account", &shop.id], OTHER)["error"]["code"],
        "not_found"
    );
    let taken = set_password(&server, &["--account", &shop.id, "--email", &ada.email], OTHER);
    assert_eq!(taken["error"]["code"], "conflict");
    let set = set_password(&server, &["--account", &shop.id, "--email", "Shop@x"], OTHER);
    assert_eq!((&set["email"], &set["username"]), (&json!("shop@x"), &json!("shop")));
    token_of(&server, &login(&server, "shop@x", OTHER));
}

#[test]
fn too_many_failures_of_a_login_are_refused_with_the_time_to_wait() {
    let server = start(&[("FACES_LOGIN_FAILURES_PER_ACCOUNT_MAX", "3")]);
    let ada = Person::register(&server, "ada");
    let bob = Person::register(&server, "bob");
    for email in [ada.email.as_str(), "nobody@example.com"] {
        for _ in 0..3 {
            assert_eq!(login(&server, email, "Wrong-password-1").status, 401);
        }
        let refused = login(&server, email, PASSWORD);
        assert_eq!(refused.status, 429, "{}", refused.text());
        assert_eq!(error_of(&refused, Dialect::Faces).code, "too_many_attempts");
        let wait = refused.header("retry-after").expect("retry-after").parse::<u64>().unwrap();
        assert!((1..=300).contains(&wait), "{wait}");
    }
    assert_eq!(me(&server, &ada.token).status, 200, "who is logged in stays so");
    for _ in 0..5 {
        token_of(&server, &login(&server, &bob.email, PASSWORD));
    }
}

#[test]
fn attempts_are_counted_by_the_clients_address_behind_a_trusted_proxy_too() {
    let limits = [
        ("FACES_LOGINS_PER_ADDRESS_MAX", "2"),
        ("FACES_REGISTRATIONS_PER_ADDRESS_MAX", "2"),
        ("FACES_LOGIN_WINDOW_MS", "86400000"),
    ];
    let direct = start(&limits);
    let proxied = start(&[&limits[..], &[("FACES_TRUSTED_PROXIES", "127.0.0.0/8,::1")]].concat());
    let from = |server: &TestServer, path: &str, host: &str| {
        let body = json!({"email": format!("{}@x", host.len()), "password": "x"});
        Request::post(path, &body).header("x-forwarded-for", host).fetch(server.address()).status
    };
    for (path, refused) in [("/auth/login", 401), ("/v1/auth/register", 422)] {
        // Nobody trusts the header: all come from here.
        let hosts = ["192.0.2.1", "192.0.2.2", "192.0.2.3"];
        assert_eq!(hosts.map(|host| from(&direct, path, host)), [refused, refused, 429]);
        let hosts = ["192.0.2.1", "192.0.2.2", "192.0.2.1", "6.6.6.6, 192.0.2.1", "192.0.2.2"];
        let told = hosts.map(|host| from(&proxied, path, host));
        assert_eq!(told, [refused, refused, refused, 429, refused], "{path}");
    }
}

#[test]
fn closed_registration_is_a_403_and_logins_go_on() {
    let mut server = start(&[("FACES_REGISTRATION", "open")]);
    let ada = Person::register(&server, "ada");
    assert!(server.terminate().success());
    server.set_env("FACES_REGISTRATION", "closed");
    server.start_again();
    let body = json!({"email": "bob@example.com", "password": PASSWORD});
    let refused = post(&server, "/auth/register-email", &body);
    assert_eq!(refused.status, 403, "{}", refused.text());
    let text = error_of(&refused, Dialect::Faces).message.to_lowercase();
    assert!(!["budget", "face", "allowlist", "model"].iter().any(|word| text.contains(word)));
    token_of(&server, &login(&server, &ada.email, PASSWORD));
}

#[test]
fn the_welcome_credit_is_a_gift_in_the_books() {
    let server = start(&[("FACES_WELCOME_CREDIT_USD", "0.25")]);
    let ada = Person::register(&server, "ada");
    let balance = ada.get(&server, "/v1/billing/balance").json();
    assert_eq!(nanousd(&balance["balance_usd"]), 250_000_000, "{balance}");
    let export = server.command(&["ledger", "export", "--format", "csv"]);
    let text = String::from_utf8_lossy(&export.stdout).into_owned();
    assert!(text.contains("promo") && text.contains(&ada.id), "{text}");
}

#[test]
fn an_administrator_is_who_the_configuration_names() {
    let mut server = start(&[("FACES_ADMIN_EMAIL", "Ada@Example.com")]);
    let (ada, bob) = (Person::register(&server, "ada"), Person::register(&server, "bob"));
    let is_admin = |server: &TestServer, person: &Person| {
        let state = person.get(server, "/v1/account/state").json();
        let me = person.get(server, "/v1/auth/me").json();
        let logged_in = login(server, &person.email, PASSWORD).json();
        assert_eq!(state["is_admin"], me["is_admin"]);
        assert_eq!(logged_in["data"]["is_admin"], me["is_admin"]);
        me["is_admin"].clone()
    };
    assert_eq!((is_admin(&server, &ada), is_admin(&server, &bob)), (json!(true), json!(false)));
    assert!(server.terminate().success());
    server.set_env("FACES_ADMIN_EMAIL", "bob@example.com");
    server.start_again();
    assert_eq!((is_admin(&server, &ada), is_admin(&server, &bob)), (json!(false), json!(true)));
}

#[test]
fn a_login_may_all_that_a_key_may_and_a_key_is_no_login() {
    let server = start(&[]);
    let ada = Person::register(&server, "ada");
    ada.credit(&server, "1");
    let face = json!({"username": "bo", "default_model": "sandbox"});
    assert_eq!(ada.send(&server, "POST", "/v1/faces", &face).status, 201);
    assert_eq!(ada.send(&server, "POST", "/v1/chat/completions", &chat("bo")).status, 200);
    assert_eq!(ada.get(&server, "/v1/faces").json()["data"][0]["username"], "bo");
    assert_eq!(ada.get(&server, "/v1/models").status, 200);
    let state = ada.get(&server, "/v1/account/state").json();
    let expected = json!({"user_id": ada.id, "plan": "free", "subscription_status": "active",
        "has_payment_method": false, "has_first_face": true, "onboarding_complete": true,
        "frozen": false, "is_admin": false, "email": ada.email, "username": "ada"});
    for (field, value) in expected.as_object().unwrap() {
        assert_eq!(state[field], *value, "{field}: {state}");
    }
    // A token is no API key.
    let as_key = Request::get("/v1/models").header("x-api-key", &ada.token);
    assert_eq!(as_key.fetch(server.address()).status, 401);
    let key = ada.key(&server, &json!({"scopes": ["v1:*"]}))["key"].as_str().unwrap().to_owned();
    for (method, path) in [
        ("GET", "/v1/auth/me"),
        ("POST", "/auth/refresh"),
        ("POST", "/v1/auth/refresh"),
        ("POST", "/auth/password"),
        ("POST", "/v1/auth/password"),
        ("GET", "/v1/api-keys"),
        ("POST", "/v1/auth/api-keys"),
        ("PATCH", "/v1/api-keys/x"),
        ("DELETE", "/v1/auth/api-keys/x"),
    ] {
        let refused = json_request(method, path, &json!({})).bearer(&key).fetch(server.address());
        assert_eq!(refused.status, 403, "{method} {path}: {}", refused.text());
        let error = error_of(&refused, Dialect::Faces);
        assert_eq!(error.code, "forbidden");
        let text = error.message.to_lowercase();
        assert!(!["budget", "face", "allowlist", "model"].iter().any(|word| text.contains(word)));
        let nobody = json_request(method, path, &json!({})).fetch(server.address());
        assert_eq!(nobody.status, 401, "{method} {path}");
    }
}

#[test]
fn a_frozen_account_can_log_in_and_not_spend() {
    let server = start(&[]);
    let ada = Person::register(&server, "ada");
    ada.credit(&server, "1");
    server.admin(&["account", "freeze", "--account", &ada.id]);
    let token = token_of(&server, &login(&server, &ada.email, PASSWORD));
    let chat = Request::post("/v1/chat/completions", &chat("sandbox")).bearer(&token);
    let refused = chat.fetch(server.address());
    assert_eq!(refused.status, 402, "{}", refused.text());
    assert_eq!(ada.get(&server, "/v1/account/state").json()["frozen"], true);
}
