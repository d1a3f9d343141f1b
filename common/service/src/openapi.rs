//! The OpenAPI 3.1 document of a video service.

use utoipa::OpenApi;
use videosdgx_api::{Code, JobEvent, Problem};
use videosdgx_shell::{Access, Policy, complete_document, routes as common};

use crate::routes;

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
        common::status::root, common::status::health, common::status::ready, routes::status::info,
        routes::status::queue, routes::generate::generate, routes::generate::batch, routes::jobs::list,
        routes::jobs::job, routes::jobs::delete, routes::events::events, routes::download::download,
        common::model::load, common::model::unload, routes::metrics::metrics, common::docs::openapi,
        common::docs::leads_to_docs, common::docs::page, common::docs::file, common::docs::jwks,
    ),
    components(schemas(Problem, JobEvent))
)]
struct Document;

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
        _ => return common::policy(method, path),
    };
    Policy { access, refusals }
}

/// The document of the service `name`.
pub fn document(name: &str) -> utoipa::openapi::OpenApi {
    complete_document(Document::openapi(), name, policy, |_| false)
}
