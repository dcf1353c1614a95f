//! The OpenAPI document as tests read it: operations, their parameters, bodies and answers.

use serde_json::{Value, json};

use crate::{
    kit::{Dialect, json_request},
    support::{
        http::{Fetched, Request},
        login::Person,
        server::{Account, TestServer, alice},
    },
};

/// Bodies of other people's formats: their documents are elsewhere.
const OPEN: [&str; 6] =
    ["ChatCompletion", "Message", "Model", "ModelList", "OpenAiErrorDetails", "ResponseObject"];

/// A file as clients upload it.
const FORM: &str = "--edge\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\n\r\n\
                    I keep the light.\r\n--edge--\r\n";

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

    /// The same document, with bodies that may have no other field than those that it names.
    pub(crate) fn closed(&self) -> Self {
        let mut whole = self.0.clone();
        let schemas = whole.pointer_mut("/components/schemas").expect("schemas");
        for (name, schema) in schemas.as_object_mut().expect("schemas by name") {
            let has_fields = schema["properties"].is_object();
            if has_fields && !OPEN.contains(&name.as_str()) {
                schema["additionalProperties"] = json!(false);
            }
        }
        Self(whole)
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

    /// A request with the example's body and these ids by what the path's parameters stand for.
    #[track_caller]
    pub(crate) fn request(&self, operation: &Operation, ids: &[(&str, &str)]) -> Request {
        let path = operation.path_with(|name| {
            let thing = operation.thing(name);
            let known = ids.iter().find(|(one, _)| *one == thing).map(|(_, id)| (*id).to_owned());
            known.unwrap_or_else(|| panic!("{}: no id for {{{name}}}", operation.path))
        });
        let path = format!("{path}{}", operation.query(ids));
        let is_form =
            operation.whole.pointer("/requestBody/content/multipart~1form-data").is_some();
        match self.example(operation) {
            Some(body) => json_request(&operation.method, &path, &body),
            None if is_form => Request::new(&operation.method, &path)
                .header("content-type", "multipart/form-data; boundary=edge")
                .body(FORM),
            None => Request::new(&operation.method, &path),
        }
    }
}

/// The setting by which no provider is asked to compile.
pub(crate) const OFFLINE: (&str, &str) = ("FACES_COMPILE_MODEL", "sandbox");

/// Somebody who has registered, with credit and one of everything that has an id.
#[derive(Debug)]
pub(crate) struct Owner {
    pub(crate) person: Person,
    /// With a key that nothing happens to.
    pub(crate) account: Account,
    /// The id of another key.
    pub(crate) key: String,
    /// The id of the face `alice`.
    pub(crate) face: String,
    pub(crate) document: String,
    pub(crate) thread: String,
    /// This month, as invoices have it.
    pub(crate) month: String,
}

impl Owner {
    /// `alice` answers by the sandbox. What is compiled should be compiled by it, too
    /// ([`OFFLINE`]).
    #[track_caller]
    pub(crate) fn new(server: &TestServer, name: &str) -> Self {
        let person = Person::register(server, name);
        person.credit(server, "10");
        let made = person.key(server, &json!({"name": "everyday"}));
        let key = made["key"].as_str().expect("the key").to_owned();
        let id = person.id.clone();
        let invoices = person.get(server, "/v1/billing/invoices").json();
        let mut owner = Self {
            account: Account { id, key },
            key: String::new(),
            face: String::new(),
            document: String::new(),
            thread: String::new(),
            month: invoices["data"][0]["id"].as_str().expect("a month").to_owned(),
            person,
        };
        owner.make_again(server);
        owner
    }

    /// Makes what a request may have deleted or changed.
    #[track_caller]
    pub(crate) fn make_again(&mut self, server: &TestServer) {
        let there = self.person.get(server, "/v1/faces/alice");
        if there.status == 404 {
            server.face(&self.account, &alice(Some("sandbox")));
        }
        let face = self.person.get(server, "/v1/faces/alice").json();
        self.face = face["uid"].as_str().expect("an id").to_owned();
        let exists = |path: String| self.person.get(server, &path).status == 200;
        if !exists(format!("/v1/compile/documents/{}", self.document)) {
            let text = "I keep the light. I count the ships.";
            let body = json!({"alias": "alice", "content": text, "label": "diary"});
            self.document = self.make(server, "/v1/compile/documents", &body);
        }
        if !exists(format!("/v1/compile/threads/{}", self.thread)) {
            self.thread = self.make(server, "/v1/compile/threads", &json!({"alias": "alice"}));
            let path = format!("/v1/compile/threads/{}/messages", self.thread);
            let said = json!({"message": "I walk to the harbour every morning."});
            let answer = self.person.send(server, "POST", &path, &said);
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
        let key = self.person.get(server, &format!("/v1/auth/api-keys/{}", self.key)).json();
        if key["revoked"] != false {
            self.key = self.make(server, "/v1/auth/api-keys", &json!({"name": "another"}));
        }
    }

    #[track_caller]
    fn make(&self, server: &TestServer, path: &str, body: &Value) -> String {
        let made = self.person.send(server, "POST", path, body);
        assert_eq!(made.status, 201, "{path}: {}", made.text());
        let made = made.json();
        if let Some(key) = made["key"].as_str() {
            server.plant_secret(key);
        }
        made["id"].as_str().expect("an id").to_owned()
    }

    /// What stands for the parameters of a path.
    pub(crate) fn ids(&self) -> Vec<(&str, &str)> {
        vec![
            ("face", "alice"),
            ("faces", "alice,bo"),
            ("file", "index.html"),
            ("document", &self.document),
            ("thread", &self.thread),
            ("key", &self.key),
            ("model", "sandbox"),
            ("month", &self.month),
        ]
    }
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

    /// What each parameter of the path stands for: its name, but `document` or `thread` for `id`.
    pub(crate) fn things(&self) -> Vec<&str> {
        let names =
            self.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        names.map(|name| self.thing(name)).collect()
    }

    /// A query with the parameters that must be there.
    fn query(&self, ids: &[(&str, &str)]) -> String {
        let parameters = self.whole["parameters"].as_array().into_iter().flatten();
        let needed = parameters.filter(|one| one["in"] == "query" && one["required"] == true);
        let pairs: Vec<String> = needed
            .filter_map(|one| {
                let name = one["name"].as_str()?;
                let known = ids.iter().find(|(id, _)| *id == name).map(|(_, value)| *value);
                Some(format!("{name}={}", known.or_else(|| one["example"].as_str())?))
            })
            .collect();
        if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
    }

    fn thing<'a>(&self, name: &'a str) -> &'a str {
        match name {
            "id" if self.path.contains("/threads/") => "thread",
            "id" => "document",
            other => other,
        }
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
