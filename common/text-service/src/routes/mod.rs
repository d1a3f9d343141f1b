//! The routes of a text service beside the shell's, one family of paths a file.

pub(crate) mod completions;
pub(crate) mod generate;
pub(crate) mod metrics;
pub(crate) mod models;
pub(crate) mod socket;
pub(crate) mod status;
pub(crate) mod telemetry;
pub(crate) mod tokens;

use actix_web::web;
use videosdgx_shell::{
    Operation, operation,
    routes::{self as common, get, resource},
};

/// Every operation of a text service.
pub(crate) const OPERATIONS: [Operation; 22] = [
    operation("GET", "/", "Name, checkpoint, endpoints"),
    operation("GET", "/health", "The process answers; touches nothing else"),
    operation("GET", "/ready", "Whether the model is loaded, and why not"),
    operation("GET", "/info", "System, model, loader, engine"),
    operation("POST", "/v1/chat/completions", "Go on with a conversation"),
    operation("POST", "/v1/completions", "Go on with a text"),
    operation("GET", "/v1/models", "The models that there are: one"),
    operation("GET", "/v1/models/{id}", "One model"),
    operation("POST", "/stream/generate", "Generate from one prompt, many, or a body of lines"),
    operation("GET", "/stream", "Open a WebSocket"),
    operation("POST", "/tokenize", "Tokens of a text or a conversation"),
    operation("POST", "/detokenize", "Text of tokens"),
    operation("POST", "/load", "Load the model"),
    operation("POST", "/unload", "Unload the model and say what that freed"),
    operation("GET", "/metrics", "Prometheus text, or JSON"),
    operation("GET", "/telemetry", "What streams took: the newest sessions, sums, regressions"),
    operation("GET", "/dashboard", "A page that shows the engine at work"),
    operation("GET", "/openapi.json", "This API as OpenAPI 3.1"),
    operation("GET", "/docs", "Leads to /docs/"),
    operation("GET", "/docs/", "Swagger UI"),
    operation("GET", "/docs/{file}", "A file of Swagger UI"),
    operation("GET", "/.well-known/jwks.json", "The public keys that tokens are verified with"),
];

/// All routes. They need a `web::Data<TextService>` beside the shell.
pub(crate) fn configure(config: &mut web::ServiceConfig) {
    let chat = web::post().to(completions::chat);
    config
        .service(resource("/v1/chat/completions", "POST").route(chat))
        .service(resource("/v1/completions", "POST").route(web::post().to(completions::complete)))
        .service(resource("/v1/models", "GET, HEAD").route(get().to(models::list)))
        .service(resource("/v1/models/{id}", "GET, HEAD").route(get().to(models::retrieve)))
        .service(resource("/stream/generate", "POST").route(web::post().to(generate::generate)))
        .service(resource("/stream", "GET").route(web::get().to(socket::socket)))
        .service(resource("/tokenize", "POST").route(web::post().to(tokens::tokenize)))
        .service(resource("/detokenize", "POST").route(web::post().to(tokens::detokenize)))
        .service(resource("/info", "GET, HEAD").route(get().to(status::info)))
        .service(resource("/metrics", "GET, HEAD").route(get().to(metrics::metrics)))
        .service(resource("/telemetry", "GET, HEAD").route(get().to(telemetry::telemetry)))
        .service(resource("/dashboard", "GET, HEAD").route(get().to(telemetry::dashboard)));
    common::configure(config);
}
