//! The skeleton of a text service: everything between a socket and a [`TextBackend`]. On the shell that every service has
//! (`videosdgx_shell`) it puts OpenAI's chat and text completions, the WebSocket `/stream`, `/stream/generate`, and what
//! a service says of itself. It promises that whatever is wrong with a request is named before anything is computed, that a client
//! which leaves frees its place within a step, and that SIGTERM lets streams end within the grace time. It never links libtorch.
//!
//! A service's `main` is [`main()`] and a [`TextBackend`]; [`Running`] is the same inside another program, for tests.

mod backend;
mod chat;
mod completion;
mod conversation;
mod failed;
#[cfg(feature = "fake")]
pub mod fake;
mod fetch;
mod knobs;
mod limits;
mod logprobs;
mod main_loop;
mod metrics;
mod openapi;
mod output;
mod pictures;
mod prompt;
mod ready;
mod routes;
mod server;
mod service;
mod settings;
mod socket;
mod sse;
mod stream;
mod structure;
mod submission;
mod usage;

pub use backend::TextBackend;
pub use main_loop::main;
pub use openapi::document as openapi_document;
pub use server::Running;
pub use settings::TextSettings;
pub use videosdgx_api::TextModel;
pub use videosdgx_model::ModelError;
pub use videosdgx_shell::ServiceConfig;
