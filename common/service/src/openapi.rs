//! The OpenAPI 3.1 document: every operation, and every status that each can answer with.

use std::collections::BTreeMap;

use utoipa::{
    OpenApi,
    openapi::{
        HttpMethod, Ref, RefOr, Response,
        content::ContentBuilder,
        header::HeaderBuilder,
        path::Operation,
        response::ResponseBuilder,
        schema::{ObjectBuilder, Type},
        security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
    },
};
use videosdgx_api::{Code, JobEvent, Problem};

use crate::{problem_response::PROBLEM_JSON, routes, service::VERSION};

#[derive(OpenApi)]
#[openapi(
    info(description = "Native API of a video service: submit a prompt, follow it, download the video."),
    tags(
        (name = "jobs", description = "Videos in the making"),
        (name = "model", description = "The model in memory"),
        (name = "status", description = "What the service says of itself"),
        (name = "docs", description = "This document"),
    ),
    paths(
        routes::status::root, routes::status::health, routes::status::ready, routes::status::info,
        routes::status::queue, routes::generate::generate, routes::generate::batch, routes::jobs::list,
        routes::jobs::job, routes::jobs::delete, routes::events::events, routes::download::download,
        routes::model::load, routes::model::unload, routes::metrics::metrics, routes::docs::openapi,
        routes::docs::leads_to_docs, routes::docs::page, routes::docs::file, routes::docs::jwks,
    ),
    components(schemas(Problem, JobEvent))
)]
struct Document;

const BEARER: &str = "bearer";

/// Who may call an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Anybody.
    Public,
    /// A token with this scope.
    Scope(&'static str),
}

/// What an operation needs and how it can refuse.
pub(crate) struct Policy {
    pub(crate) access: Access,
    pub(crate) refusals: &'static [Code],
}

const SUBMIT: &[Code] = &[
    Code::InvalidField,
    Code::InvalidBody,
    Code::RequestTimeout,
    Code::BodyTooLarge,
    Code::UnsupportedMediaType,
    Code::IdempotencyConflict,
    Code::QueueFull,
    Code::Draining,
    Code::CheckpointMissing,
    Code::CheckpointInvalid,
    Code::StorageFull,
];

/// The policy of each operation; one without a line here is public and never refuses, which a test forbids for job routes.
pub(crate) fn policy(method: &str, path: &str) -> Policy {
    let (access, refusals): (Access, &'static [Code]) = match (method, path) {
        ("POST", "/generate" | "/generate/batch") => (Access::Scope("generate"), SUBMIT),
        ("GET", "/info" | "/queue/status" | "/metrics") => (Access::Scope("read"), &[Code::Draining]),
        ("GET", "/jobs") => (Access::Scope("read"), &[Code::InvalidField, Code::Draining]),
        ("GET", "/jobs/{id}") => (Access::Scope("read"), &[Code::JobNotFound, Code::Draining]),
        ("GET", "/jobs/{id}/events") => {
            (Access::Scope("read"), &[Code::InvalidField, Code::JobNotFound, Code::Draining])
        }
        ("GET" | "HEAD", "/jobs/{id}/download") => (
            Access::Scope("read"),
            &[
                Code::JobNotFound,
                Code::NotCompleted,
                Code::OutputMissing,
                Code::RangeNotSatisfiable,
                Code::Draining,
            ],
        ),
        ("DELETE", "/jobs/{id}") => (
            Access::Scope("generate"),
            &[
                Code::InvalidField,
                Code::JobNotFound,
                Code::AlreadyEnded,
                Code::NotCompleted,
                Code::StorageFull,
                Code::Draining,
            ],
        ),
        ("POST", "/load") => (
            Access::Scope("generate"),
            &[
                Code::InvalidField,
                Code::InvalidBody,
                Code::RequestTimeout,
                Code::BodyTooLarge,
                Code::InsufficientMemory,
                Code::CheckpointMissing,
                Code::CheckpointInvalid,
                Code::Draining,
            ],
        ),
        ("POST", "/unload") => (
            Access::Scope("admin"),
            &[
                Code::InvalidField,
                Code::InvalidBody,
                Code::RequestTimeout,
                Code::BodyTooLarge,
                Code::ModelBusy,
                Code::Draining,
            ],
        ),
        ("GET", "/docs/{file}") => (Access::Public, &[Code::NotFound]),
        _ => (Access::Public, &[]),
    };
    Policy { access, refusals }
}

/// The document of the service `name`.
pub fn document(name: &str) -> utoipa::openapi::OpenApi {
    let mut document = Document::openapi();
    document.info.title = format!("VideosDGX {name}");
    VERSION.clone_into(&mut document.info.version);
    let scheme = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("JWT")
        .description(Some("Scopes: `generate`, `read`, `admin`. `videosdgx token` mints one."))
        .build();
    let components = document.components.get_or_insert_default();
    components.add_security_scheme(BEARER, SecurityScheme::Http(scheme));
    for (path, item) in &mut document.paths.paths {
        for (method, operation) in [
            (HttpMethod::Get, &mut item.get),
            (HttpMethod::Head, &mut item.head),
            (HttpMethod::Post, &mut item.post),
            (HttpMethod::Delete, &mut item.delete),
        ] {
            if let Some(operation) = operation {
                complete(operation, method_name(&method), path);
            }
        }
    }
    document
}

fn method_name(method: &HttpMethod) -> &'static str {
    match method {
        HttpMethod::Head => "HEAD",
        HttpMethod::Post => "POST",
        HttpMethod::Delete => "DELETE",
        _ => "GET",
    }
}

fn complete(operation: &mut Operation, method: &str, path: &str) {
    let Policy { access, refusals } = policy(method, path);
    let mut by_status: BTreeMap<u16, Vec<&'static str>> = BTreeMap::new();
    for code in refusals {
        by_status.entry(code.status()).or_default().push(code.as_str());
    }
    if let Access::Scope(scope) = access {
        operation.security = Some(vec![SecurityRequirement::new(BEARER, [scope])]);
        for code in [Code::Unauthorized, Code::InsufficientScope, Code::Internal] {
            by_status.entry(code.status()).or_default().push(code.as_str());
        }
    } else {
        operation.security = Some(Vec::new());
    }
    for (status, codes) in by_status {
        let key = status.to_string();
        let refusal = refusal(status, &codes);
        match operation.responses.responses.get(&key) {
            // HEAD and /ready describe theirs themselves.
            Some(_) => {}
            None => {
                operation.responses.responses.insert(key, RefOr::T(refusal));
            }
        }
    }
    for response in operation.responses.responses.values_mut() {
        if let RefOr::T(response) = response {
            response
                .headers
                .insert("x-request-id".to_owned(), text_header("The request, as in the log").into());
        }
    }
    if method == "HEAD" {
        for response in operation.responses.responses.values_mut() {
            if let RefOr::T(response) = response {
                response.content.clear();
            }
        }
        operation.operation_id = operation.operation_id.take().map(|id| format!("{id}_head"));
        operation.summary = Some("Size and ETag of the video".to_owned());
    }
}

fn refusal(status: u16, codes: &[&str]) -> Response {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    let codes: Vec<String> = codes.iter().map(|code| format!("`{code}`")).collect();
    let mut response = ResponseBuilder::new().description(codes.join(", ")).content(PROBLEM_JSON, content);
    if matches!(status, 409 | 429 | 503 | 507) {
        let seconds = HeaderBuilder::new()
            .schema(Some(ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1))))
            .description(Some("Seconds to wait"))
            .build();
        response = response.header("retry-after", seconds);
    }
    if status == 401 {
        response = response.header("www-authenticate", text_header("Bearer"));
    }
    response.build()
}

fn text_header(description: &str) -> utoipa::openapi::Header {
    HeaderBuilder::new()
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
        .description(Some(description))
        .build()
}
