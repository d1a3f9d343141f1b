//! The routes of every service, one family of paths a file.

pub mod docs;
pub mod model;
pub mod status;

use actix_web::{HttpResponse, Resource, Route, guard, http::header, web};
use videosdgx_api::{Code, Endpoint};

use crate::{Access, Failure, Policy};

/// One operation: what `GET /` lists, and the OpenAPI document is held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    /// `GET`, `POST`, …
    pub method: &'static str,
    /// Path template.
    pub path: &'static str,
    /// One sentence, the same as in the document.
    pub summary: &'static str,
}

/// One operation.
#[must_use]
pub const fn operation(method: &'static str, path: &'static str, summary: &'static str) -> Operation {
    Operation { method, path, summary }
}

/// Those that `GET /` lists.
pub(crate) fn endpoints(operations: &[Operation]) -> Vec<Endpoint> {
    let listed = |operation: &&Operation| !operation.path.starts_with("/docs/");
    operations
        .iter()
        .filter(listed)
        .map(|operation| Endpoint {
            method: operation.method.to_owned(),
            path: operation.path.to_owned(),
            description: operation.summary.to_owned(),
        })
        .collect()
}

/// The policies of the shell's routes; any other is public and never refuses.
#[must_use]
pub fn policy(method: &str, path: &str) -> Policy {
    let (access, refusals): (Access, &'static [Code]) = match (method, path) {
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

/// The shell's routes.
pub fn configure(config: &mut web::ServiceConfig) {
    config
        .service(resource("/", "GET, HEAD").route(get().to(status::root)))
        .service(resource("/health", "GET, HEAD").route(get().to(status::health)))
        .service(resource("/ready", "GET, HEAD").route(get().to(status::ready)))
        .service(resource("/load", "POST").route(web::post().to(model::load)))
        .service(resource("/unload", "POST").route(web::post().to(model::unload)))
        .service(resource("/openapi.json", "GET, HEAD").route(get().to(docs::openapi)))
        .service(resource("/docs", "GET, HEAD").route(get().to(docs::leads_to_docs)))
        .service(resource("/docs/", "GET, HEAD").route(get().to(docs::page)))
        .service(resource("/docs/{file}", "GET, HEAD").route(get().to(docs::file)))
        .service(resource("/.well-known/jwks.json", "GET, HEAD").route(get().to(docs::jwks)));
}

/// GET, and HEAD with the same headers.
pub fn get() -> Route {
    web::route().guard(guard::Any(guard::Get()).or(guard::Head()))
}

/// A path that says which methods it takes.
pub fn resource(path: &str, allow: &'static str) -> Resource {
    web::resource(path).default_service(web::to(move || async move {
        let problem = Failure::new(Code::MethodNotAllowed, format!("this path takes {allow}"));
        let mut response = HttpResponse::from_error(problem);
        response.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static(allow));
        response
    }))
}
