//! The routes of a video service beside the shell's, one family of paths a file.

pub(crate) mod download;
pub(crate) mod events;
pub(crate) mod generate;
pub(crate) mod jobs;
pub(crate) mod metrics;
pub(crate) mod status;

use actix_web::web;

use videosdgx_shell::{
    Operation, operation,
    routes::{self as common, get, resource},
};

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

/// All routes. They need a `web::Data<Service>` beside the shell.
pub(crate) fn configure(config: &mut web::ServiceConfig) {
    config
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
        .service(resource("/metrics", "GET, HEAD").route(get().to(metrics::metrics)));
    common::configure(config);
}
