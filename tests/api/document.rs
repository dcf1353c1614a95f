//! The OpenAPI document as tests read it: operations, their parameters, bodies and answers.

use serde_json::{Value, json};

use crate::{
    kit::{Dialect, json_request},
    support::{
        http::{Fetched, Request},
        server::TestServer,
    },
};

/// What `GET /openapi.json` answers.
#[derive(Debug)]
pub(crate) struct Document(pub(crate) Value);

/// An operation of the document.
#[derive(Debug, Clone)]
pub(crate) struct Operation {
    /// `GET`, …
    pub(crate) method: String,
    /// With its parameters in braces.
    pub(crate) path: String,
    /// `x-faces-access`.
    pub(crate) access: String,
    /// As the document has it.
    pub(crate) whole: Value,
}

/// The errors' dialect of a path.
pub(crate) fn dialect_of(path: &str) -> Dialect {
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| path.starts_with(prefix));
    if starts(&["/v1/anthropic", "/v1/messages"]) {
        Dialect::Anthropic
    } else if starts(&["/v1/chat", "/v1/openai", "/v1/models", "/v1/responses"]) {
        Dialect::OpenAi
    } else {
        Dialect::Faces
    }
}

impl Document {
    #[track_caller]
    pub(crate) fn of(server: &TestServer) -> Self {
        let answer = Request::get("/openapi.json").fetch(server.address());
        assert_eq!(answer.status, 200, "{}", answer.text());
        Self(answer.json())
    }

    /// All operations, in the document's order.
    pub(crate) fn operations(&self) -> Vec<Operation> {
        let mut all = Vec::new();
        for (path, item) in self.0["paths"].as_object().expect("paths") {
            for (method, whole) in item.as_object().expect("a path's operations") {
                let access = whole["x-faces-access"].as_str().unwrap_or_default().to_owned();
                let (method, path) = (method.to_ascii_uppercase(), path.clone());
                all.push(Operation { method, path, access, whole: whole.clone() });
            }
        }
        all
    }

    /// What a `$ref` leads to; anything else as it is.
    pub(crate) fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        let Some(path) = value["$ref"].as_str() else { return value };
        let found = self.0.pointer(path.trim_start_matches('#'));
        self.resolve(found.unwrap_or_else(|| panic!("{path} leads nowhere")))
    }

    /// Why `value` is not as `schema` says; `None` when it is.
    #[track_caller]
    pub(crate) fn fault(&self, schema: &Value, value: &Value) -> Option<String> {
        let mut whole = schema.clone();
        whole["components"] = self.0["components"].clone();
        let validator = jsonschema::validator_for(&whole).expect("a schema");
        validator.iter_errors(value).next().map(|error| error.to_string())
    }

    /// The schema of an operation's JSON body.
    pub(crate) fn body_schema<'a>(&self, operation: &'a Operation) -> Option<&'a Value> {
        operation.whole.pointer("/requestBody/content/application~1json/schema")
    }

    /// The example of an operation's JSON body.
    pub(crate) fn example(&self, operation: &Operation) -> Option<Value> {
        let schema = self.resolve(self.body_schema(operation)?);
        Some(schema.get("example").cloned().unwrap_or_else(|| json!({})))
    }

    /// A request with the example's body and these ids by the names of the path's parameters.
    #[track_caller]
    pub(crate) fn request(&self, operation: &Operation, ids: &[(&str, &str)]) -> Request {
        let path = operation.path_with(|name| {
            let known = ids.iter().find(|(one, _)| *one == name).map(|(_, id)| (*id).to_owned());
            known.unwrap_or_else(|| panic!("{}: no id for {{{name}}}", operation.path))
        });
        match self.example(operation) {
            Some(body) => json_request(&operation.method, &path, &body),
            None => Request::new(&operation.method, &path),
        }
    }
}

/// Registers somebody; the login token.
#[track_caller]
pub(crate) fn log_in(server: &TestServer) -> String {
    let body = json!({"email": "grace@example.org", "password": "Nanoseconds-are-11-inches"});
    let made = Request::post("/v1/auth/register", &body).fetch(server.address());
    assert_eq!(made.status, 200, "{}", made.text());
    let token = made.json()["token"].as_str().expect("a token").to_owned();
    server.plant_secret(&token);
    token
}

/// Hands in a text for `alice`; the document's id.
#[track_caller]
pub(crate) fn hand_in(server: &TestServer, key: &str) -> String {
    let body = json!({"alias": "alice", "content": "I keep the light. I count the ships.", "label": "diary"});
    let made = Request::post("/v1/compile/documents", &body).bearer(key).fetch(server.address());
    assert_eq!(made.status, 201, "{}", made.text());
    made.json()["id"].as_str().expect("an id").to_owned()
}

impl Operation {
    /// The path with a value for each parameter.
    pub(crate) fn path_with(&self, mut value: impl FnMut(&str) -> String) -> String {
        let parts = self.path.split('/').map(|part| {
            match part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
                Some(name) => value(name),
                None => part.to_owned(),
            }
        });
        parts.collect::<Vec<_>>().join("/")
    }

    /// The names of its parameters in the query.
    pub(crate) fn query_names(&self) -> Vec<String> {
        let parameters = self.whole["parameters"].as_array().into_iter().flatten();
        let in_query = parameters.filter(|one| one["in"] == "query");
        in_query.filter_map(|one| Some(one["name"].as_str()?.to_owned())).collect()
    }

    /// How it is called in messages.
    pub(crate) fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

/// Body and status without what differs between any two answers.
pub(crate) fn comparable(answer: &Fetched, id: &str) -> (u16, String) {
    let id_of_request = answer.header("x-request-id").unwrap_or("-");
    (answer.status, answer.text().replace(id_of_request, "*").replace(id, "*"))
}
