//! The OpenAPI 3.1 document of a video service.

use utoipa::OpenApi;
use videosdgx_api::{JobEvent, Problem};

use crate::routes::API;

#[derive(OpenApi)]
#[openapi(
    info(description = "Native API of a video service: submit a prompt, follow it, download the video."),
    tags(
        (name = "jobs", description = "Submit, follow and cancel jobs, download videos"),
        (name = "model", description = "The model in memory"),
        (name = "status", description = "State of the service"),
        (name = "docs", description = "This document"),
    ),
    components(schemas(Problem, JobEvent))
)]
struct Document;

/// The document of the service `name`.
pub fn document(name: &str) -> utoipa::openapi::OpenApi {
    API.document(Document::openapi(), name)
}
