//! Every operation of the OpenAPI document with every kind of credential.

use crate::{
    document::{Document, Operation, hand_in, log_in},
    kit::json_request,
    support::{
        http::Request,
        ledger::Ledger,
        server::{Account, TestServer},
    },
};

const ADMIN_KEY: &str = "operator-key-of-the-matrix-0123456789";

/// A kind of credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    None,
    Malformed,
    Unknown,
    Revoked,
    Expired,
    Key,
    ChatKey,
    ReadKey,
    AdminKey,
    Login,
    Operator,
}

/// What a credential must lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// This status.
    Status(u16),
    /// The credential is good: whatever comes is about something else.
    Passes,
}

/// The table. An access that it does not know fails the test.
fn expected(operation: &Operation, kind: Kind) -> Expected {
    let scoped = match kind {
        Kind::ChatKey => Some("chat"),
        Kind::ReadKey => Some("read"),
        Kind::AdminKey => Some("admin"),
        _ => None,
    };
    let is_known = kind == Kind::Key || scoped.is_some();
    match operation.access.as_str() {
        "public" => Expected::Passes,
        // The signature is the credential, and no request of the matrix has one.
        "signed" => Expected::Status(401),
        "operator" if kind == Kind::Operator => Expected::Passes,
        "operator" => Expected::Status(401),
        "any" | "chat" | "read" | "admin" | "user" if kind == Kind::Login => Expected::Passes,
        "chat" | "read" | "admin" if scoped.is_some_and(|scope| scope != operation.access) => {
            Expected::Status(403)
        }
        "any" | "chat" | "read" | "admin" if is_known => Expected::Passes,
        "user" if is_known => Expected::Status(403),
        "any" | "chat" | "read" | "admin" | "user" => Expected::Status(401),
        other => panic!("{}: x-faces-access is {other:?}", operation.name()),
    }
}

#[test]
fn every_operation_asks_of_a_credential_what_the_document_says() {
    let builder = TestServer::builder()
        .env("FACES_ADMIN_KEY", ADMIN_KEY)
        .env("FACES_WEBHOOK_SECRETS", "whsec-of-the-matrix-0123456789abcdef");
    let server = builder.start();
    let account = server.account();
    let document = Document::of(&server);
    let credentials = credentials(&server, &account);
    for operation in document.operations() {
        make_alice(&server, &account);
        let id = hand_in(&server, &account.key);
        let ids = [
            ("face", "alice"),
            ("file", "index.html"),
            ("id", id.as_str()),
            ("key", "01990000-0000-7000-8000-00000000dead"),
            ("model", "sandbox"),
            ("month", "2026-11"),
        ];
        for (kind, secret) in &credentials {
            // The one before may have deleted it.
            make_alice(&server, &account);
            let request = document.request(&operation, &ids);
            let mut requests = Vec::new();
            match secret {
                Some(secret) => {
                    requests.push(request.clone().bearer(secret));
                    if ![Kind::Operator, Kind::Login].contains(kind)
                        && operation.access != "operator"
                    {
                        requests.push(request.header("x-api-key", secret));
                    }
                }
                None => requests.push(request),
            }
            for request in requests {
                check(&operation, *kind, &request, &server);
            }
        }
    }
}

fn make_alice(server: &TestServer, account: &Account) {
    let body = serde_json::json!({"username": "alice"});
    json_request("POST", "/v1/faces", &body).bearer(&account.key).fetch(server.address());
}

#[track_caller]
fn check(operation: &Operation, kind: Kind, request: &Request, server: &TestServer) {
    let answer = request.fetch(server.address());
    let at =
        format!("{} ({}) with {kind:?}: {}", operation.name(), operation.access, answer.text());
    match expected(operation, kind) {
        Expected::Status(status) => assert_eq!(answer.status, status, "{at}"),
        Expected::Passes => {
            assert!(
                ![401, 403].contains(&answer.status) || refuses_by_itself(operation),
                "{} {at}",
                answer.status
            );
            assert!(answer.status < 500, "{} {at}", answer.status);
        }
    }
    let documented = &operation.whole["responses"][answer.status.to_string()];
    assert!(documented.is_object(), "{} is not documented: {at}", answer.status);
}

/// A top-up answers 403 for a payment that nobody knows, and a login 401 for a wrong password,
/// whoever asks.
fn refuses_by_itself(operation: &Operation) -> bool {
    operation.path == "/v1/billing/topup" || operation.path.ends_with("/auth/login")
}

fn credentials(server: &TestServer, account: &Account) -> Vec<(Kind, Option<String>)> {
    let unknown = {
        let other = TestServer::builder().start();
        other.account().key
    };
    server.plant_secret(&unknown);
    let revoked = server.key(&account.id, &["--name", "revoked"]);
    let expired = server.key(&account.id, &["--name", "expired", "--expires-in-days", "1"]);
    let keys = server.admin(&["key", "list", "--account", &account.id]);
    let id_of = |name: &str| {
        let keys = keys["data"].as_array().expect("keys").iter();
        let id = keys.filter(|key| key["name"] == name).find_map(|key| key["id"].as_str());
        id.expect("the key's id").to_owned()
    };
    server.admin(&["key", "revoke", "--key", &id_of("revoked")]);
    let books: Ledger = server.writable_ledger();
    books.rows("UPDATE api_key SET expires_at = 1 WHERE name = 'expired' RETURNING id");
    let login = log_in(server);
    let scoped = |scope: &str| {
        let terms = serde_json::json!({"name": scope, "scopes": [scope]});
        let made =
            Request::post("/v1/auth/api-keys", &terms).bearer(&login).fetch(server.address());
        assert_eq!(made.status, 201, "{}", made.text());
        let key = made.json()["key"].as_str().expect("a key").to_owned();
        server.plant_secret(&key);
        Some(key)
    };
    vec![
        (Kind::ChatKey, scoped("v1:chat")),
        (Kind::ReadKey, scoped("v1:read")),
        (Kind::AdminKey, scoped("v1:admin")),
        (Kind::Login, Some(login)),
        (Kind::None, None),
        (Kind::Malformed, Some("sk-faces-nonsense".to_owned())),
        (Kind::Unknown, Some(unknown)),
        (Kind::Revoked, Some(revoked)),
        (Kind::Expired, Some(expired)),
        (Kind::Key, Some(account.key.clone())),
        (Kind::Operator, Some(ADMIN_KEY.to_owned())),
    ]
}
