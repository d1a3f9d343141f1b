//! Routes of a text service.

use super::{Access, Route};
use crate::{Code, Scope};

const READ: Access = Access::Scope(Scope::Read);
const GENERATE: Access = Access::Scope(Scope::Generate);

const COMPLETE: &[Code] = &[
    Code::InvalidField,
    Code::ContextLengthExceeded,
    Code::InvalidBody,
    Code::ModelNotFound,
    Code::RequestTimeout,
    Code::BodyTooLarge,
    Code::RateLimited,
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
    Code::RateLimited,
    Code::Overloaded,
    Code::UnsupportedMediaType,
    Code::CheckpointMissing,
    Code::CheckpointInvalid,
];

const SOCKET: &[Code] = &[Code::InvalidField, Code::OriginNotAllowed, Code::Draining];

/// Routes of a text service in addition to [`super::SHELL`].
pub const TEXT: &[Route] = &[
    Route::get("/info", READ, &[]),
    Route::post("/v1/chat/completions", GENERATE, COMPLETE).openai(),
    Route::post("/v1/completions", GENERATE, COMPLETE).openai(),
    Route::get("/v1/models", READ, &[]).openai(),
    Route::get("/v1/models/{id}", READ, &[Code::ModelNotFound]).openai(),
    Route::post("/stream/generate", GENERATE, COMPLETE),
    // A WebSocket: opened with GET, used to generate.
    Route::get("/stream", GENERATE, SOCKET).without_head(),
    Route::post("/tokenize", READ, TOKENIZE).openai(),
    Route::post("/detokenize", READ, TOKENIZE).openai(),
    Route::get("/metrics", READ, &[]),
    Route::get("/telemetry", READ, &[Code::InvalidField]),
    Route::get("/dashboard", Access::Public, &[]),
];
