//! People who register with a server and log in to it.

use serde_json::{Value, json};

use super::{
    http::{Fetched, Request},
    server::TestServer,
};

/// A password that is no easy guess; everybody has it.
pub(crate) const PASSWORD: &str = "Lighthouse-7-ships";

/// Somebody who has registered.
#[derive(Debug, Clone)]
pub(crate) struct Person {
    /// The account's id.
    pub(crate) id: String,
    /// What they log in with, beside [`PASSWORD`].
    pub(crate) email: String,
    /// A login token.
    pub(crate) token: String,
}

impl Person {
    /// Registers `name@example.com`.
    #[track_caller]
    pub(crate) fn register(server: &TestServer, name: &str) -> Self {
        let email = format!("{name}@example.com");
        let body = json!({"name": name, "email": email, "password": PASSWORD, "username": name});
        let answer = Request::post("/v1/auth/register", &body).fetch(server.address());
        assert_eq!(answer.status, 200, "{}", answer.text());
        let answer = answer.json();
        let text = |name: &str| answer[name].as_str().expect("a text").to_owned();
        let (id, token) = (text("user_id"), text("token"));
        server.plant_secret(&token);
        server.plant_secret(PASSWORD);
        Self { id, email, token }
    }

    /// Sends with the login token and reads the whole answer.
    #[track_caller]
    pub(crate) fn fetch(&self, server: &TestServer, request: Request) -> Fetched {
        request.bearer(&self.token).fetch(server.address())
    }

    /// `METHOD` of JSON with the login token.
    #[track_caller]
    pub(crate) fn send(
        &self,
        server: &TestServer,
        method: &str,
        path: &str,
        body: &Value,
    ) -> Fetched {
        let request = Request::new(method, path).header("content-type", "application/json");
        self.fetch(server, request.body(body.to_string().into_bytes()))
    }

    /// `GET` with the login token.
    #[track_caller]
    pub(crate) fn get(&self, server: &TestServer, path: &str) -> Fetched {
        self.fetch(server, Request::get(path))
    }

    /// Makes a key; `body` as `POST /v1/auth/api-keys` takes it. The answer has the `key`.
    #[track_caller]
    pub(crate) fn key(&self, server: &TestServer, body: &Value) -> Value {
        let made = self.send(server, "POST", "/v1/auth/api-keys", body);
        assert_eq!(made.status, 201, "{}", made.text());
        let made = made.json();
        server.plant_secret(made["key"].as_str().expect("the key"));
        made
    }

    /// Adds credit as the operator does.
    #[track_caller]
    pub(crate) fn credit(&self, server: &TestServer, usd: &str) {
        let reference = format!("credit of {} {usd}", self.email);
        server.admin(&["topup", "--account", &self.id, "--usd", usd, "--ref", &reference]);
    }
}
