//! The skeleton of a text service: everything between an HTTP connection and a [`TextBackend`]. On the shell that every service
//! has it adds OpenAI's chat and text completions, the WebSocket `/stream`, `/stream/generate`, and status routes. Invalid
//! requests are refused, with the name of the field, before anything is computed; a client that disconnects frees its sequence
//! within one step; after SIGTERM open streams may finish within the grace time. The crate does not link libtorch.
//!
//! A service's `main` calls [`main()`] with its [`TextBackend`]; [`Running`] runs the same service inside another program, for
//! tests.
//!
//! Modules only import modules above them in this list:
//!
//! | layer | modules |
//! |---|---|
//! | configuration, interface to the model | `settings`, `limits`, `backend`, `metrics` |
//! | checks of request fields | `sampling`, `constraint`, `conversation`, `pictures`, `fetch` |
//! | core | `checkpoints`, `runtime`, `prompt`, `output`, `submission` |
//! | protocols | `chat`, `completion`, `stream`, with `response`, `logprobs`, `errors`, `sse` |
//! | shared state | `service` |
//! | edge | `socket`, `routes`, `openapi`, then `server` and `main_loop` |

mod backend;
mod chat;
mod checkpoints;
mod completion;
mod constraint;
mod conversation;
mod errors;
#[cfg(feature = "fake")]
pub mod fake;
mod fetch;
mod limits;
mod logprobs;
mod long_texts;
mod main_loop;
mod metrics;
mod openapi;
mod output;
mod pictures;
mod prompt;
mod response;
mod routes;
mod runtime;
mod sampling;
mod server;
mod service;
mod settings;
mod socket;
mod sse;
mod stream;
mod submission;

pub use backend::{TextBackend, TextCheckpoint};
pub use main_loop::main;
pub use openapi::document as openapi_document;
pub use server::Running;
pub use settings::{ImageUrls, TextSettings};
pub use videosdgx_api::TextModelDescription;
pub use videosdgx_model::{CheckpointVersion, ModelError};
pub use videosdgx_shell::ServiceConfig;
