//! What the document says by a rule rather than at each handler.

use utoipa::{
    Modify,
    openapi::{
        Components, OpenApi, Ref, RefOr, Required,
        path::{Operation, Parameter, ParameterIn, PathItem},
        security::{
            ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityRequirement, SecurityScheme,
        },
    },
};

use super::{super::problem::Dialect, errors};

/// Paths that lead to the same handler: the path of the document's annotation, and the other one.
const ALIASES: &[(&str, &str)] = &[
    ("/v1/anthropic/messages", "/v1/anthropic/v1/messages"),
    ("/v1/anthropic/messages/count_tokens", "/v1/anthropic/v1/messages/count_tokens"),
    ("/v1/compile/documents/{id}/prepare", "/v1/compile/documents/{id}/make"),
    ("/v1/compile/documents/{id}/prepare", "/v1/compile/documents/{id}/sync"),
    ("/v1/compile/documents/{id}/prepare", "/v1/compile/documents/{id}/pause"),
    ("/v1/compile/documents/{id}/prepare", "/v1/compile/documents/{id}/reset"),
    ("/v1/compile/threads/{id}/make", "/v1/compile/threads/{id}/sync"),
    ("/v1/compile/threads/{id}/make", "/v1/compile/threads/{id}/pause"),
    ("/v1/compile/threads/{id}/make", "/v1/compile/threads/{id}/reset"),
    ("/v1/faces/{face}/documents", "/v1/faces/{face}/compile/documents"),
    ("/v1/auth/register", "/auth/register-email"),
    ("/v1/auth/login", "/auth/login"),
    ("/v1/auth/refresh", "/auth/refresh"),
    ("/v1/auth/password", "/auth/password"),
    ("/v1/auth/api-keys", "/v1/api-keys"),
    ("/v1/auth/api-keys/{key}", "/v1/api-keys/{key}"),
    ("/v1/models", "/v1/openai/models"),
    ("/v1/models", "/v1/anthropic/v1/models"),
];

/// Errors that a route can answer, by what it asks for: status, when.
const PUBLIC: &[u16] = &[];
const KNOWN: &[u16] = &[401, 503];
const SCOPED: &[u16] = &[401, 403, 503];
const CHAT: &[u16] = &[400, 401, 402, 403, 404, 409, 429, 502, 503, 504];
const OPERATOR: &[u16] = &[401, 404, 503];

/// Completes the document.
#[derive(Debug)]
pub(super) struct Finish;

impl Modify for Finish {
    fn modify(&self, document: &mut OpenApi) {
        // Without servers the document speaks of the host that it came from.
        let components = document.components.get_or_insert_with(Components::new);
        add_schemes(components);
        errors::register(components);
        for (path, other) in ALIASES {
            let Some(mut item) = document.paths.paths.get(*path).cloned() else { continue };
            let word = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '_' };
            for operation in operations(&mut item) {
                let name = operation.operation_id.take().unwrap_or_default();
                let place: String = other.chars().map(word).collect();
                operation.operation_id = Some(format!("{name}_at{place}"));
                operation.description.get_or_insert_with(|| format!("The same as at `{path}`."));
            }
            match document.paths.paths.get_mut(*other) {
                Some(known) => known.merge_operations(item),
                None => drop(document.paths.paths.insert((*other).to_owned(), item)),
            }
        }
        for (path, item) in &mut document.paths.paths {
            let dialect = Dialect::of_path(path);
            for operation in operations(item) {
                secure(operation);
                for status in errors_of(operation) {
                    let responses = &mut operation.responses.responses;
                    let response = responses.entry(status.to_string());
                    response.or_insert_with(|| {
                        errors::add_response(components, dialect, status);
                        let name = errors::response_name(dialect, status);
                        RefOr::Ref(Ref::from_response_name(name))
                    });
                }
                fill(operation, dialect);
            }
        }
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let all = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch];
    all.into_iter().flatten()
}

fn access_of(operation: &Operation) -> String {
    let access = operation.extensions.as_ref().and_then(|all| all.get("x-faces-access"));
    access.and_then(|access| access.as_str()).unwrap_or_default().to_owned()
}

fn add_schemes(components: &mut Components) {
    let bearer = |description: &str| {
        let mut scheme = Http::new(HttpAuthScheme::Bearer);
        scheme.description = Some(description.to_owned());
        SecurityScheme::Http(scheme)
    };
    let header =
        ApiKeyValue::with_description("x-api-key", "An API key, as Anthropic's SDKs send it.");
    components.add_security_scheme("apiKey", bearer("An API key: `sk-faces-…`."));
    components.add_security_scheme("xApiKey", SecurityScheme::ApiKey(ApiKey::Header(header)));
    components.add_security_scheme("login", bearer("The token of a login."));
    components.add_security_scheme("adminKey", bearer("The server's `FACES_ADMIN_KEY`."));
}

fn secure(operation: &mut Operation) {
    let names: &[&str] = match access_of(operation).as_str() {
        "any" | "chat" | "read" | "admin" => &["apiKey", "xApiKey", "login"],
        "user" => &["login"],
        "operator" => &["adminKey"],
        _ => &[],
    };
    let none = Vec::<String>::new;
    operation.security =
        Some(names.iter().map(|name| SecurityRequirement::new(*name, none())).collect());
}

const fn in_of(parameter: &Parameter) -> &ParameterIn {
    &parameter.parameter_in
}

fn errors_of(operation: &mut Operation) -> Vec<u16> {
    let by_access = match access_of(operation).as_str() {
        "any" => KNOWN,
        "read" | "admin" | "user" => SCOPED,
        "chat" => CHAT,
        "operator" => OPERATOR,
        _ => PUBLIC,
    };
    let mut statuses = by_access.to_vec();
    let parameters = operation.parameters.as_deref().unwrap_or_default();
    let has = |place: &ParameterIn| {
        let is_there = |one: &RefOr<_>| match one {
            RefOr::T(one) => in_of(one) == place,
            RefOr::Ref(_) => false,
        };
        parameters.iter().any(is_there)
    };
    if has(&ParameterIn::Path) {
        statuses.push(404);
    }
    if has(&ParameterIn::Query) {
        statuses.push(422);
    }
    if let Some(RefOr::T(body)) = &mut operation.request_body {
        body.required = Some(Required::True);
        statuses.extend([413, 415, 422]);
    }
    statuses
}

/// Gives errors that a handler's annotation names without a body the body of the dialect.
fn fill(operation: &mut Operation, dialect: Dialect) {
    for (status, response) in &mut operation.responses.responses {
        let RefOr::T(response) = response else { continue };
        if !status.starts_with(['4', '5']) || !response.content.is_empty() {
            continue;
        }
        let content = errors::content(dialect, status == "422");
        response.content.insert("application/json".to_owned(), RefOr::T(content));
    }
}
