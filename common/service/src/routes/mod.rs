//! The native API, one family of paths a file.

pub(crate) mod docs;
pub(crate) mod download;
pub(crate) mod events;
pub(crate) mod generate;
pub(crate) mod jobs;
pub(crate) mod metrics;
pub(crate) mod model;
pub(crate) mod status;

use actix_web::{HttpResponse, Resource, Route, guard, http::header, web};
use videosdgx_api::{Code, Endpoint};

use crate::problem_response::Failure;

/// One operation: what `GET /` lists, and the OpenAPI document is held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Operation {
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    pub(crate) summary: &'static str,
}

const fn operation(method: &'static str, path: &'static str, summary: &'static str) -> Operation {
    Operation { method, path, summary }
}

/// Every operation of a service.
pub(crate) const OPERATIONS: [Operation; 21] = [
    operation("GET", "/", "Name, checkpoint, endpoints"),
    operation("GET", "/health", "The process answers; touches nothing else"),
    operation("GET", "/ready", "Whether the model is loaded, and why not"),
    operation("GET", "/info", "System, model, loader, queue"),
    operation("POST", "/generate", "Submit a job"),
    operation("POST", "/generate/batch", "Submit many jobs, all or none"),
    operation("GET", "/jobs", "Your jobs, newest first"),
    operation("GET", "/jobs/{id}", "A job with its progress"),
    operation("DELETE", "/jobs/{id}", "Cancel a job, or forget it with its file"),
    operation("GET", "/jobs/{id}/events", "Progress as server-sent events"),
    operation("GET", "/jobs/{id}/download", "The video"),
    operation("HEAD", "/jobs/{id}/download", "Size and ETag of the video"),
    operation("POST", "/load", "Load the model"),
    operation("POST", "/unload", "Unload the model and say what that freed"),
    operation("GET", "/queue/status", "Depth by state and priority, estimated wait"),
    operation("GET", "/metrics", "Prometheus text, or JSON"),
    operation("GET", "/openapi.json", "This API as OpenAPI 3.1"),
    operation("GET", "/docs", "Leads to /docs/"),
    operation("GET", "/docs/", "Swagger UI"),
    operation("GET", "/docs/{file}", "A file of Swagger UI"),
    operation("GET", "/.well-known/jwks.json", "The public keys that tokens are verified with"),
];

pub(crate) fn endpoints() -> Vec<Endpoint> {
    let listed = |operation: &&Operation| !operation.path.starts_with("/docs/");
    OPERATIONS
        .iter()
        .filter(listed)
        .map(|operation| Endpoint {
            method: operation.method.to_owned(),
            path: operation.path.to_owned(),
            description: operation.summary.to_owned(),
        })
        .collect()
}

/// All routes. They need a `web::Data<Service>`.
pub(crate) fn configure(config: &mut web::ServiceConfig) {
    config
        .service(resource("/", "GET, HEAD").route(get().to(status::root)))
        .service(resource("/health", "GET, HEAD").route(get().to(status::health)))
        .service(resource("/ready", "GET, HEAD").route(get().to(status::ready)))
        .service(resource("/info", "GET, HEAD").route(get().to(status::info)))
        .service(resource("/queue/status", "GET, HEAD").route(get().to(status::queue)))
        .service(resource("/generate", "POST").route(web::post().to(generate::generate)))
        .service(resource("/generate/batch", "POST").route(web::post().to(generate::batch)))
        .service(resource("/jobs", "GET, HEAD").route(get().to(jobs::list)))
        .service(
            resource("/jobs/{id}", "GET, HEAD, DELETE")
                .route(get().to(jobs::job))
                .route(web::delete().to(jobs::delete)),
        )
        .service(resource("/jobs/{id}/events", "GET").route(web::get().to(events::events)))
        .service(
            resource("/jobs/{id}/download", "GET, HEAD")
                .route(web::get().to(download::download))
                .route(web::head().to(download::download)),
        )
        .service(resource("/load", "POST").route(web::post().to(model::load)))
        .service(resource("/unload", "POST").route(web::post().to(model::unload)))
        .service(resource("/metrics", "GET, HEAD").route(get().to(metrics::metrics)))
        .service(resource("/openapi.json", "GET, HEAD").route(get().to(docs::openapi)))
        .service(resource("/docs", "GET, HEAD").route(get().to(docs::leads_to_docs)))
        .service(resource("/docs/", "GET, HEAD").route(get().to(docs::page)))
        .service(resource("/docs/{file}", "GET, HEAD").route(get().to(docs::file)))
        .service(resource("/.well-known/jwks.json", "GET, HEAD").route(get().to(docs::jwks)));
}

/// GET, and HEAD with the same headers.
fn get() -> Route {
    web::route().guard(guard::Any(guard::Get()).or(guard::Head()))
}

/// A path that says which methods it takes.
fn resource(path: &str, allow: &'static str) -> Resource {
    web::resource(path).default_service(web::to(move || async move {
        let problem = Failure::new(Code::MethodNotAllowed, format!("this path takes {allow}"));
        let mut response = HttpResponse::from_error(problem);
        response.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static(allow));
        response
    }))
}
