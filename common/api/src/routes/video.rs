//! Routes of a video service.

use super::{Access, Route};
use crate::{Code, Scope};

const READ: Access = Access::Scope(Scope::Read);
const GENERATE: Access = Access::Scope(Scope::Generate);

const SUBMIT: &[Code] = &[
    Code::InvalidField,
    Code::InvalidBody,
    Code::RequestTimeout,
    Code::BodyTooLarge,
    Code::RateLimited,
    Code::Overloaded,
    Code::UnsupportedMediaType,
    Code::IdempotencyConflict,
    Code::QueueFull,
    Code::Draining,
    Code::CheckpointMissing,
    Code::CheckpointInvalid,
    Code::StorageFull,
];

const DOWNLOAD: &[Code] = &[
    Code::InvalidField,
    Code::JobNotFound,
    Code::NotCompleted,
    Code::OutputMissing,
    Code::RangeNotSatisfiable,
    Code::Draining,
];

const CANCEL: &[Code] = &[
    Code::InvalidField,
    Code::JobNotFound,
    Code::AlreadyEnded,
    Code::NotCompleted,
    Code::StorageFull,
    Code::Draining,
];

/// Routes of a video service in addition to [`super::SHELL`].
pub const VIDEO: &[Route] = &[
    Route::get("/info", READ, &[Code::Draining]),
    Route::get("/loras", READ, &[Code::CheckpointMissing, Code::CheckpointInvalid, Code::Draining]),
    Route::post("/generate", GENERATE, SUBMIT),
    Route::post("/generate/batch", GENERATE, SUBMIT),
    Route::get("/jobs", READ, &[Code::InvalidField, Code::Draining]),
    Route::get("/jobs/{id}", READ, &[Code::JobNotFound, Code::Draining]),
    Route::delete("/jobs/{id}", GENERATE, CANCEL),
    Route::get("/jobs/{id}/events", READ, &[Code::InvalidField, Code::JobNotFound, Code::Draining])
        .without_head(),
    Route::get("/jobs/{id}/download", READ, DOWNLOAD),
    Route::get("/queue/status", READ, &[Code::Draining]),
    Route::get("/metrics", READ, &[Code::Draining]),
];
