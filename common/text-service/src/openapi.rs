//! The OpenAPI 3.1 document of a text service.

use utoipa::{
    OpenApi,
    openapi::{RefOr, schema::Schema},
};
use videosdgx_api::{ClientMessage, Code, Problem, ServerMessage, openai::ErrorBody};
use videosdgx_shell::{Access, Policy, complete_document, routes as common};

use crate::routes;

#[derive(OpenApi)]
#[openapi(
    info(description = "API of a text service: OpenAI's completions, streams over HTTP and WebSocket, and what the service \
                        says of itself."),
    tags(
        (name = "completions", description = "OpenAI's routes, and vLLM's beside them"),
        (name = "streams", description = "Results as they are made"),
        (name = "model", description = "The model in memory"),
        (name = "status", description = "What the service says of itself"),
        (name = "docs", description = "This document"),
    ),
    paths(
        routes::completions::chat, routes::completions::complete, routes::models::list, routes::models::retrieve,
        routes::generate::generate, routes::socket::socket, routes::tokens::tokenize, routes::tokens::detokenize, common::status::root, common::status::health, common::status::ready, routes::status::info,
        common::model::load, common::model::unload, routes::metrics::metrics, routes::telemetry::telemetry,
        routes::telemetry::dashboard, common::docs::openapi, common::docs::leads_to_docs, common::docs::page,
        common::docs::file, common::docs::jwks,
    ),
    components(schemas(Problem, ErrorBody, ClientMessage, ServerMessage))
)]
struct Document;

/// Whether problems at `path` are OpenAI's error objects: its own routes, and those that vLLM puts beside them.
pub(crate) fn speaks_openai(path: &str) -> bool {
    path.starts_with("/v1/") || matches!(path, "/tokenize" | "/detokenize")
}

const GENERATE: &[Code] = &[
    Code::InvalidField,
    Code::ContextLengthExceeded,
    Code::InvalidBody,
    Code::ModelNotFound,
    Code::RequestTimeout,
    Code::BodyTooLarge,
    Code::UnsupportedMediaType,
    Code::QueueFull,
    Code::Draining,
    Code::Overloaded,
    Code::CheckpointMissing,
    Code::CheckpointInvalid,
    Code::InsufficientMemory,
];

const TOKENIZE: &[Code] = &[
    Code::InvalidField,
    Code::InvalidBody,
    Code::ModelNotFound,
    Code::RequestTimeout,
    Code::BodyTooLarge,
    Code::UnsupportedMediaType,
    Code::CheckpointMissing,
    Code::CheckpointInvalid,
];

/// The policy of each operation beside the shell's.
pub(crate) fn policy(method: &str, path: &str) -> Policy {
    let (access, refusals): (Access, &'static [Code]) = match (method, path) {
        ("POST", "/v1/chat/completions" | "/v1/completions" | "/stream/generate") => {
            (Access::Scope("generate"), GENERATE)
        }
        ("GET", "/stream") => {
            (Access::Scope("generate"), &[Code::InvalidField, Code::OriginNotAllowed, Code::Draining])
        }
        ("POST", "/tokenize" | "/detokenize") => (Access::Scope("read"), TOKENIZE),
        ("GET", "/v1/models") => (Access::Scope("read"), &[]),
        ("GET", "/v1/models/{id}") => (Access::Scope("read"), &[Code::ModelNotFound]),
        ("GET", "/info" | "/metrics") => (Access::Scope("read"), &[]),
        ("GET", "/telemetry") => (Access::Scope("read"), &[Code::InvalidField]),
        _ => return common::policy(method, path),
    };
    Policy { access, refusals }
}

/// The document of the service `name`.
pub fn document(name: &str) -> utoipa::openapi::OpenApi {
    let mut document = Document::openapi();
    let schemas = document.components.iter_mut().flat_map(|components| components.schemas.values_mut());
    for schema in schemas {
        let RefOr::T(Schema::Object(schema)) = schema else { continue };
        let asks = schema.properties.contains_key("messages") || schema.properties.contains_key("prompt");
        let asks = asks || schema.properties.contains_key("tokens");
        if let (true, Some(RefOr::T(Schema::Object(model)))) = (asks, schema.properties.get_mut("model")) {
            // There is one; who knows the checkpoint's name may say that instead.
            model.enum_values = Some(vec![name.into(), serde_json::Value::Null]);
        }
    }
    complete_document(document, name, policy, speaks_openai)
}
