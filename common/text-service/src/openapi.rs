//! The OpenAPI 3.1 document of a text service.

use utoipa::{
    OpenApi,
    openapi::{RefOr, schema::Schema},
};
use videosdgx_api::{ClientMessage, Problem, ServerMessage, openai::ErrorBody};

use crate::routes::API;

#[derive(OpenApi)]
#[openapi(
    info(description = "API of a text service: OpenAI's completions, streams over HTTP and WebSocket, state of the service."),
    tags(
        (name = "completions", description = "OpenAI's routes, and those that vLLM adds"),
        (name = "streams", description = "Results while they are generated"),
        (name = "model", description = "The model in memory"),
        (name = "status", description = "State of the service"),
        (name = "docs", description = "This document"),
    ),
    components(schemas(Problem, ErrorBody, ClientMessage, ServerMessage))
)]
struct Document;

/// The document of the service `name`.
pub fn document(name: &str) -> utoipa::openapi::OpenApi {
    let mut document = API.document(Document::openapi(), name);
    let schemas = document.components.iter_mut().flat_map(|components| components.schemas.values_mut());
    for schema in schemas {
        let RefOr::T(Schema::Object(schema)) = schema else { continue };
        let is_request =
            schema.properties.contains_key("messages") || schema.properties.contains_key("prompt");
        let is_request = is_request || schema.properties.contains_key("tokens");
        if let (true, Some(RefOr::T(Schema::Object(model)))) =
            (is_request, schema.properties.get_mut("model"))
        {
            // A service has one model; requests may also use the checkpoint's name.
            model.enum_values = Some(vec![name.into(), serde_json::Value::Null]);
        }
    }
    document
}
