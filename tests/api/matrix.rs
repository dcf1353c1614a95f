//! Every operation of the OpenAPI document with every kind of credential.

use serde_json::json;

use crate::{
    document::{Document, OFFLINE, Operation, Owner},
    support::{BOUND, http::Request, ledger::Ledger, login::Person, server::TestServer, wait_for},
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
    ExpiredLogin,
    /// A key of another account.
    Foreign,
    /// A login of another account.
    ForeignLogin,
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
    let access = operation.access.as_str();
    let is_theirs = |thing: &&str| ["face", "document", "thread", "key"].contains(thing);
    let names_a_thing = operation.things().iter().any(is_theirs);
    match (access, kind) {
        ("public", _) | ("operator", Kind::Operator) => Expected::Passes,
        // The signature is the credential, and no request of the matrix has one.
        ("operator" | "signed", _) => Expected::Status(401),
        ("any" | "chat" | "read" | "admin" | "user", _) => match kind {
            Kind::Login => Expected::Passes,
            Kind::Key | Kind::Foreign | Kind::ChatKey | Kind::ReadKey | Kind::AdminKey
                if access == "user" =>
            {
                Expected::Status(403)
            }
            Kind::ChatKey if !["any", "chat"].contains(&access) => Expected::Status(403),
            Kind::ReadKey if !["any", "read"].contains(&access) => Expected::Status(403),
            Kind::AdminKey if !["any", "admin"].contains(&access) => Expected::Status(403),
            Kind::Foreign | Kind::ForeignLogin if names_a_thing => Expected::Status(404),
            Kind::Foreign | Kind::ForeignLogin => Expected::Passes,
            Kind::Key | Kind::ChatKey | Kind::ReadKey | Kind::AdminKey => Expected::Passes,
            Kind::None
            | Kind::Malformed
            | Kind::Unknown
            | Kind::Revoked
            | Kind::Expired
            | Kind::ExpiredLogin
            | Kind::Operator => Expected::Status(401),
        },
        (other, _) => panic!("{}: x-faces-access is {other:?}", operation.name()),
    }
}

#[test]
fn every_operation_asks_of_a_credential_what_the_document_says() {
    let builder = TestServer::builder()
        .env(OFFLINE.0, OFFLINE.1)
        .env("FACES_ADMIN_KEY", ADMIN_KEY)
        .env("FACES_LOGIN_TOKEN_MS", "1000")
        .env("FACES_WEBHOOK_SECRETS", "whsec-of-the-matrix-0123456789abcdef");
    let mut server = builder.start();
    let expired_login = expired_login(&mut server);
    let mut owner = Owner::new(&server, "grace");
    let document = Document::of(&server);
    let credentials = credentials(&server, &owner, expired_login);
    for operation in document.operations() {
        for (kind, secret) in &credentials {
            // The one before may have deleted something.
            owner.make_again(&server);
            let request = document.request(&operation, &owner.ids());
            let mut requests = Vec::new();
            match secret {
                Some(secret) => {
                    requests.push(request.clone().bearer(secret));
                    let is_login = [Kind::Login, Kind::ForeignLogin, Kind::ExpiredLogin];
                    let is_key = *kind != Kind::Operator && !is_login.contains(kind);
                    if is_key && operation.access != "operator" {
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

/// A login token that was good once; the server then issues longer ones.
fn expired_login(server: &mut TestServer) -> String {
    let person = Person::register(server, "late");
    wait_for("the token's end", BOUND, || {
        (person.get(server, "/v1/auth/me").status == 401).then_some(())
    });
    server.terminate();
    server.set_env("FACES_LOGIN_TOKEN_MS", "86400000");
    server.start_again();
    person.token
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

/// A top-up answers 403 for a payment that nobody knows, and a login and a change of the password
/// 401 for a wrong password, whoever asks.
fn refuses_by_itself(operation: &Operation) -> bool {
    let path = operation.path.as_str();
    path == "/v1/billing/topup" || path.ends_with("/auth/login") || path.ends_with("/auth/password")
}

fn credentials(
    server: &TestServer,
    owner: &Owner,
    expired_login: String,
) -> Vec<(Kind, Option<String>)> {
    let unknown = {
        let other = TestServer::builder().start();
        other.account().key
    };
    server.plant_secret(&unknown);
    let key = |terms: &serde_json::Value| {
        let made = owner.person.key(server, terms);
        let text = |name: &str| made[name].as_str().expect("a text").to_owned();
        (text("key"), text("id"))
    };
    let (revoked, id) = key(&json!({"name": "revoked"}));
    server.admin(&["key", "revoke", "--key", &id]);
    let (expired, _) = key(&json!({"name": "expired", "expires_in_days": 1}));
    let books: Ledger = server.writable_ledger();
    books.rows("UPDATE api_key SET expires_at = 1 WHERE name = 'expired' RETURNING id");
    let scoped = |scope: &str| Some(key(&json!({"name": scope, "scopes": [scope]})).0);
    let thief = Person::register(server, "thief");
    let foreign = thief.key(server, &json!({}))["key"].as_str().expect("a key").to_owned();
    // First those that must not change anything.
    vec![
        (Kind::None, None),
        (Kind::Malformed, Some("sk-faces-nonsense".to_owned())),
        (Kind::Unknown, Some(unknown)),
        (Kind::Revoked, Some(revoked)),
        (Kind::Expired, Some(expired)),
        (Kind::ExpiredLogin, Some(expired_login)),
        (Kind::Foreign, Some(foreign)),
        (Kind::ForeignLogin, Some(thief.token)),
        (Kind::Operator, Some(ADMIN_KEY.to_owned())),
        (Kind::ChatKey, scoped("v1:chat")),
        (Kind::ReadKey, scoped("v1:read")),
        (Kind::AdminKey, scoped("v1:admin")),
        (Kind::Key, Some(owner.account.key.clone())),
        (Kind::Login, Some(owner.person.token.clone())),
    ]
}
