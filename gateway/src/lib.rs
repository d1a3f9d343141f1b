//! The only public door of VideosDGX.
//!
//! A request passes the layers of [`stack`] in the order in which they are written there, is routed by its model and
//! proxied to the least busy service that is well. `/models/{model}/…` are the services' own paths, `/v1/…` is OpenAI's
//! API over all of them. The gateway holds no state that matters: killing it loses nothing.

mod call;
mod config;
mod docs;
mod error;
mod event_stream;
mod facade;
mod failure;
mod gateway;
mod guarded_body;
mod hop_headers;
mod jobs;
mod layers;
mod metrics;
mod native;
mod openapi;
mod pages;
mod proxy;
mod reusable_body;
mod routes;
mod server;
mod socket;
mod stack;
mod tunnel;
mod upstream;

pub use config::{GatewayConfig, Limits, ModelConfig};
pub use error::GatewayError;
pub(crate) use gateway::Gateway;
pub use server::Server;

/// The gateway's own OpenAPI document, without the services'.
pub fn openapi_document() -> serde_json::Value {
    openapi::own()
}

/// The answer to a request whose handler panicked.
pub(crate) fn panic_answer(_: Box<dyn std::any::Any + Send + 'static>) -> axum::response::Response {
    use axum::response::IntoResponse;
    let failure =
        failure::Failure::new(videosdgx_api::Code::Internal, "this is a bug; the log has the details");
    failure.into_response()
}
