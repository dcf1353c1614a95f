//! Uploads and threads: `/v1/faces/{face}/upload`, `/v1/compile/threads…` and their like under a
//! face.

use actix_multipart::{Field, Multipart, MultipartError};
use actix_web::{
    HttpRequest, HttpResponse, Resource,
    http::{StatusCode, header},
    web,
};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use serde::Deserialize;

use super::{
    body, edge,
    openapi::{Page, compile::SourceProgress, threads as docs},
    problem,
    reads::json,
    routes::{HttpState, resource},
};
use crate::{
    domain::{Access, ErrorCode, SourceId, compile::SourceKind},
    flows::{Failure, Upload},
};

/// Most parts of a form.
const PARTS_MAX: usize = 16;
/// Most bytes of a part that is no file.
const TEXT_PART_BYTES_MAX: usize = 4_096;
/// What the frame of a form may add to its file, bytes.
const FRAME_BYTES_MAX: u64 = 65_536;

#[derive(Debug, Deserialize)]
struct ListQuery {
    /// Threads in the page, 1 to 1,000.
    limit: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// Of one face only: these four are one.
    model: Option<String>,
    alias: Option<String>,
    username: Option<String>,
    face: Option<String>,
}

/// What a `POST` without a body asks of a thread.
#[derive(Debug, Clone, Copy)]
enum Step {
    Make,
    Sync,
    Pause,
    Reset,
}

/// Registers the routes of this file.
pub(super) fn routes(config: &mut web::ServiceConfig) {
    config
        .service(resource("/v1/faces/{face}/upload", "POST").route(web::post().to(upload)))
        .service(
            resource("/v1/compile/threads", "GET, POST")
                .route(web::get().to(list))
                .route(web::post().to(create)),
        )
        .service(
            resource("/v1/faces/{face}/compile/threads", "GET, POST")
                .route(web::get().to(list_of_face))
                .route(web::post().to(create_for_face)),
        )
        .service(
            resource("/v1/compile/threads/{id}", "GET, PATCH, DELETE")
                .route(web::get().to(read))
                .route(web::patch().to(update))
                .route(web::delete().to(delete)),
        )
        .service(
            resource("/v1/compile/threads/{id}/messages", "POST, PATCH")
                .route(web::post().to(send_message))
                .route(web::patch().to(replace_messages)),
        )
        .service(step_route("/v1/compile/threads/{id}/make", Step::Make))
        .service(step_route("/v1/compile/threads/{id}/sync", Step::Sync))
        .service(step_route("/v1/compile/threads/{id}/pause", Step::Pause))
        .service(step_route("/v1/compile/threads/{id}/reset", Step::Reset));
}

fn step_route(path: &str, step: Step) -> Resource {
    let handler = move |req: HttpRequest, path: web::Path<String>, state: web::Data<HttpState>| async move {
        take(&req, &path, &state, step).await
    };
    resource(path, "POST").route(web::post().to(handler))
}

/// Compile a thread, stop it, or drop what came of it
#[utoipa::path(post, path = "/v1/compile/threads/{id}/make", tag = "Compile", operation_id = "make_thread",
    params(("id" = String, Path, description = "The thread's id.")),
    responses((status = 200, description = "How far it is.", body = SourceProgress),
        (status = 202, description = "It has begun.", body = SourceProgress),
        (status = 402, description = "The plan's quota has no room for it."),
        (status = 409, description = "Its state does not allow this."),
        (status = 422, description = "There is nothing to compile yet.")),
    extensions(("x-faces-access" = json!("admin"))))]
async fn take(req: &HttpRequest, id: &str, state: &HttpState, step: Step) -> HttpResponse {
    let kind = SourceKind::Thread;
    let taken = async {
        let caller = body::caller(req, &state.flows, Access::Admin).await?;
        match step {
            Step::Make => state.flows.make_source(&caller, kind, id).await,
            Step::Sync => state.flows.sync_source(&caller, kind, id).await,
            Step::Pause => state.flows.pause_source(&caller, kind, id).await,
            Step::Reset => state.flows.reset_source(&caller, kind, id).await,
        }
    };
    match (taken.await, step) {
        (Ok(taken), Step::Make) => HttpResponse::build(StatusCode::ACCEPTED).json(taken),
        (taken, _) => json(req, taken),
    }
}

/// Begin an interview
#[utoipa::path(post, path = "/v1/compile/threads", tag = "Compile", operation_id = "create_thread",
    request_body = docs::NewThread,
    responses((status = 201, description = "The thread with its first question.", body = docs::Turn),
        (status = 402, description = "Nothing pays for the question."),
        (status = 404, description = "There is no such face."),
        (status = 502, description = "The model did not answer; nothing was kept.")),
    extensions(("x-faces-access" = json!("admin"))))]
async fn create(
    req: HttpRequest,
    payload: web::Payload,
    state: web::Data<HttpState>,
) -> HttpResponse {
    begin(&req, payload, &state, None).await
}

/// Begin an interview of a face
#[utoipa::path(post, path = "/v1/faces/{face}/compile/threads", tag = "Compile", operation_id = "create_thread_of_face",
    params(("face" = String, Path, description = "The face's handle.", example = "alice")),
    request_body = docs::NewThread,
    responses((status = 201, description = "The thread with its first question.", body = docs::Turn),
        (status = 402, description = "Nothing pays for the question."),
        (status = 404, description = "There is no such face."),
        (status = 502, description = "The model did not answer; nothing was kept.")),
    extensions(("x-faces-access" = json!("admin"))))]
async fn create_for_face(
    req: HttpRequest,
    path: web::Path<String>,
    payload: web::Payload,
    state: web::Data<HttpState>,
) -> HttpResponse {
    begin(&req, payload, &state, Some(&path)).await
}

async fn begin(
    req: &HttpRequest,
    payload: web::Payload,
    state: &HttpState,
    face: Option<&str>,
) -> HttpResponse {
    let created = async {
        let caller = body::caller(req, &state.flows, Access::Admin).await?;
        let body = body::json_body(req, payload, state.body_bytes_max).await?;
        state.flows.create_thread(&caller, face, &body, &edge::trace(req)).await
    };
    match created.await {
        Ok(thread) => HttpResponse::build(StatusCode::CREATED).json(thread),
        Err(failure) => problem::respond(req, &failure),
    }
}

/// List threads
#[utoipa::path(get, path = "/v1/compile/threads", tag = "Compile", operation_id = "list_threads",
    params(Page, ("alias" = Option<String>, Query, description = "Of one face; `model`, `username` and `face` are other names.")),
    responses((status = 200, description = "A page of threads.", body = docs::ThreadPage),
        (status = 404, description = "There is no such face.")),
    extensions(("x-faces-access" = json!("read"))))]
async fn list(req: HttpRequest, state: web::Data<HttpState>) -> HttpResponse {
    page(&req, &state, None).await
}

/// List the threads of a face
#[utoipa::path(get, path = "/v1/faces/{face}/compile/threads", tag = "Compile", operation_id = "list_threads_of_face",
    params(Page, ("face" = String, Path, description = "The face's handle.", example = "alice")),
    responses((status = 200, description = "A page of threads.", body = docs::ThreadPage),
        (status = 404, description = "There is no such face.")),
    extensions(("x-faces-access" = json!("read"))))]
async fn list_of_face(
    req: HttpRequest,
    path: web::Path<String>,
    state: web::Data<HttpState>,
) -> HttpResponse {
    page(&req, &state, Some(&path)).await
}

async fn page(req: &HttpRequest, state: &HttpState, face: Option<&str>) -> HttpResponse {
    let listed = async {
        let caller = body::caller(req, &state.flows, Access::Read).await?;
        let query = web::Query::<ListQuery>::from_query(req.query_string())
            .map_err(|_| bad_query("query", "The query can't be read."))?
            .into_inner();
        let limit = match &query.limit {
            None => None,
            Some(text) => {
                Some(text.parse().map_err(|_| bad_query("limit", "limit must be a whole number"))?)
            }
        };
        let after = match &query.cursor {
            None => None,
            Some(text) => Some(text.parse::<SourceId>().map_err(|_| {
                bad_query("cursor", "cursor must be the next_cursor of the page before")
            })?),
        };
        let named = query.model.or(query.alias).or(query.username).or(query.face);
        state.flows.list_threads(&caller, face.or(named.as_deref()), after, limit).await
    };
    json(req, listed.await)
}

/// Read a thread with its messages
#[utoipa::path(get, path = "/v1/compile/threads/{id}", tag = "Compile", operation_id = "get_thread",
    params(("id" = String, Path, description = "The thread's id.")),
    responses((status = 200, description = "The thread.", body = docs::Thread)),
    extensions(("x-faces-access" = json!("read"))))]
async fn read(
    req: HttpRequest,
    path: web::Path<String>,
    state: web::Data<HttpState>,
) -> HttpResponse {
    let read = async {
        let caller = body::caller(&req, &state.flows, Access::Read).await?;
        state.flows.read_thread(&caller, &path).await
    };
    json(&req, read.await)
}

/// Rename a thread, or say who in it is the face
#[utoipa::path(patch, path = "/v1/compile/threads/{id}", tag = "Compile", operation_id = "update_thread",
    params(("id" = String, Path, description = "The thread's id.")),
    request_body = docs::ThreadChange,
    responses((status = 200, description = "The thread.", body = docs::Thread),
        (status = 409, description = "Others keep adding messages to it.")),
    extensions(("x-faces-access" = json!("admin"))))]
async fn update(
    req: HttpRequest,
    path: web::Path<String>,
    payload: web::Payload,
    state: web::Data<HttpState>,
) -> HttpResponse {
    let updated = async {
        let caller = body::caller(&req, &state.flows, Access::Admin).await?;
        let body = body::json_body(&req, payload, state.body_bytes_max).await?;
        state.flows.update_thread(&caller, &path, &body).await
    };
    json(&req, updated.await)
}

/// Delete a thread with what only it told
#[utoipa::path(delete, path = "/v1/compile/threads/{id}", tag = "Compile", operation_id = "delete_thread",
    params(("id" = String, Path, description = "The thread's id.")),
    responses((status = 200, description = "It is gone.", body = docs::ThreadDeleted)),
    extensions(("x-faces-access" = json!("admin"))))]
async fn delete(
    req: HttpRequest,
    path: web::Path<String>,
    state: web::Data<HttpState>,
) -> HttpResponse {
    let deleted = async {
        let caller = body::caller(&req, &state.flows, Access::Admin).await?;
        state.flows.delete_source(&caller, SourceKind::Thread, None, &path).await
    };
    json(&req, deleted.await)
}

/// Answer, and get the next question
#[utoipa::path(post, path = "/v1/compile/threads/{id}/messages", tag = "Compile", operation_id = "send_message",
    params(("id" = String, Path, description = "The thread's id.")),
    request_body = docs::ThreadAnswer,
    responses((status = 200, description = "The next question.", body = docs::Turn),
        (status = 402, description = "Nothing pays for the question."),
        (status = 404, description = "There is no such thread."),
        (status = 502, description = "The model did not answer; nothing was kept.")),
    extensions(("x-faces-access" = json!("admin"))))]
async fn send_message(
    req: HttpRequest,
    path: web::Path<String>,
    payload: web::Payload,
    state: web::Data<HttpState>,
) -> HttpResponse {
    let sent = async {
        let caller = body::caller(&req, &state.flows, Access::Admin).await?;
        let body = body::json_body(&req, payload, state.body_bytes_max).await?;
        state.flows.send_message(&caller, &path, &body, &edge::trace(&req)).await
    };
    json(&req, sent.await)
}

/// Replace all messages of a thread
#[utoipa::path(patch, path = "/v1/compile/threads/{id}/messages", tag = "Compile", operation_id = "replace_messages",
    params(("id" = String, Path, description = "The thread's id.")),
    request_body = docs::ThreadMessages,
    responses((status = 200, description = "The thread.", body = docs::Thread)),
    extensions(("x-faces-access" = json!("admin"))))]
async fn replace_messages(
    req: HttpRequest,
    path: web::Path<String>,
    payload: web::Payload,
    state: web::Data<HttpState>,
) -> HttpResponse {
    let replaced = async {
        let caller = body::caller(&req, &state.flows, Access::Admin).await?;
        let body = body::json_body(&req, payload, state.body_bytes_max).await?;
        state.flows.replace_messages(&caller, &path, &body).await
    };
    json(&req, replaced.await)
}

/// Upload a file as a document or a transcript
#[utoipa::path(post, path = "/v1/faces/{face}/upload", tag = "Compile", operation_id = "upload_file",
    params(("face" = String, Path, description = "The face's handle.", example = "alice")),
    request_body(content = docs::UploadForm, content_type = "multipart/form-data"),
    responses((status = 200, description = "The document or thread.", body = docs::Uploaded),
        (status = 400, description = "The kind of file is not read here."),
        (status = 404, description = "There is no such face."),
        (status = 413, description = "The file is too large."),
        (status = 422, description = "There is no text in it, or a field is wrong.")),
    extensions(("x-faces-access" = json!("admin"))))]
async fn upload(
    req: HttpRequest,
    path: web::Path<String>,
    payload: web::Payload,
    state: web::Data<HttpState>,
) -> HttpResponse {
    let uploaded = async {
        let caller = body::caller(&req, &state.flows, Access::Admin).await?;
        let form = read_form(&req, payload, state.upload_bytes_max).await?;
        state.flows.upload(&caller, &path, form).await
    };
    json(&req, uploaded.await)
}

/// Reads a form, its parts in any order; the file is not read on beyond its limit.
///
/// # Errors
/// 415 when it is no form, 413 for a file above the limit, 422 for a form that can't be read.
async fn read_form(
    req: &HttpRequest,
    payload: web::Payload,
    file_bytes_max: u64,
) -> Result<Upload, Failure> {
    let announced = req.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let announced = announced.and_then(|length| length.parse::<u64>().ok());
    if announced.is_some_and(|length| length > file_bytes_max.saturating_add(FRAME_BYTES_MAX)) {
        return Err(too_large(file_bytes_max));
    }
    let mut form = Multipart::new(req.headers(), payload);
    let mut upload = Upload::default();
    let mut parts = 0;
    while let Some(field) = form.next().await {
        let mut field = field.map_err(|error| unreadable(&error))?;
        parts += 1;
        if parts > PARTS_MAX {
            return Err(Failure::invalid("file", format!("a form has at most {PARTS_MAX} parts")));
        }
        let name = field.name().unwrap_or_default().to_owned();
        if name != "file" {
            let text = read_text(&mut field, &name).await?;
            match name.as_str() {
                "type" => upload.kind = Some(text),
                "perspective" => upload.perspective = Some(text),
                "face_speaker" => upload.face_speaker = Some(text),
                "label" => upload.label = Some(text),
                _ => {}
            }
            continue;
        }
        if upload.file.is_some() {
            return Err(Failure::invalid("file", "file stands twice: send one at a time"));
        }
        let disposition = field.content_disposition();
        upload.file_name =
            disposition.and_then(|disposition| disposition.get_filename()).map(str::to_owned);
        upload.content_type = field.content_type().map(ToString::to_string);
        upload.file = Some(read_file(&mut field, file_bytes_max).await?);
    }
    Ok(upload)
}

async fn read_file(field: &mut Field, bytes_max: u64) -> Result<Bytes, Failure> {
    let bytes_max_here = usize::try_from(bytes_max).unwrap_or(usize::MAX);
    let mut bytes = BytesMut::new();
    while let Some(chunk) = field.next().await {
        let chunk = chunk.map_err(|error| unreadable(&error))?;
        if bytes.len().saturating_add(chunk.len()) > bytes_max_here {
            return Err(too_large(bytes_max));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes.freeze())
}

async fn read_text(field: &mut Field, name: &str) -> Result<String, Failure> {
    let too_long = || {
        let name: String = name.chars().take(64).collect();
        Failure::invalid(&name, format!("{name} has more than {TEXT_PART_BYTES_MAX} bytes"))
    };
    let mut bytes = Vec::new();
    while let Some(chunk) = field.next().await {
        let chunk = chunk.map_err(|error| unreadable(&error))?;
        if bytes.len().saturating_add(chunk.len()) > TEXT_PART_BYTES_MAX {
            return Err(too_long());
        }
        bytes.extend_from_slice(&chunk);
    }
    let text = String::from_utf8(bytes);
    text.map_err(|_| Failure::invalid("file", "the fields of a form must be UTF-8"))
}

fn too_large(bytes_max: u64) -> Failure {
    Failure::new(
        ErrorCode::BodyTooLarge,
        format!("The file is larger than {bytes_max} bytes, the most. Upload it in parts."),
    )
}

fn unreadable(error: &MultipartError) -> Failure {
    match error {
        MultipartError::ContentTypeMissing
        | MultipartError::ContentTypeParse
        | MultipartError::ContentTypeIncompatible
        | MultipartError::BoundaryMissing => Failure::new(
            ErrorCode::UnsupportedMediaType,
            "The content type must be multipart/form-data. With curl: -F type=document -F file=@bio.txt",
        ),
        _ => Failure {
            loc: vec!["body".to_owned()],
            ..Failure::new(
                ErrorCode::InvalidRequest,
                "The form can't be read: it is malformed or broke off before its end.",
            )
        },
    }
}

fn bad_query(name: &str, message: &str) -> Failure {
    Failure {
        loc: vec!["query".to_owned(), name.to_owned()],
        ..Failure::new(ErrorCode::InvalidRequest, message)
    }
}
