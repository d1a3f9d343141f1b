//! Routes that every service has.

use super::{Access, Route};
use crate::{Code, Scope};

const LOAD: &[Code] = &[
    Code::InvalidField,
    Code::InvalidBody,
    Code::RequestTimeout,
    Code::BodyTooLarge,
    Code::RateLimited,
    Code::Overloaded,
    Code::InsufficientMemory,
    Code::CheckpointMissing,
    Code::CheckpointInvalid,
    Code::Draining,
];

const UNLOAD: &[Code] = &[
    Code::InvalidField,
    Code::InvalidBody,
    Code::RequestTimeout,
    Code::BodyTooLarge,
    Code::RateLimited,
    Code::Overloaded,
    Code::ModelBusy,
    Code::Draining,
];

/// Routes of every service: status, the model in memory, documentation.
pub const SHELL: &[Route] = &[
    Route::get("/", Access::Public, &[]),
    Route::get("/health", Access::Public, &[]),
    Route::get("/ready", Access::Public, &[]),
    Route::post("/load", Access::Scope(Scope::Generate), LOAD),
    Route::post("/unload", Access::Scope(Scope::Admin), UNLOAD),
    Route::get("/openapi.json", Access::Public, &[]),
    Route::get("/docs", Access::Public, &[]),
    Route::get("/docs/", Access::Public, &[]),
    Route::get("/docs/{file}", Access::Public, &[Code::NotFound]),
    Route::get("/.well-known/jwks.json", Access::Public, &[]),
];
