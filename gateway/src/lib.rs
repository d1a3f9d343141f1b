//! The gateway of VideosDGX: the only service that is reachable from outside.
//!
//! A request passes the layers of `stack` in the order in which they are written there, is routed by its model and
//! forwarded to the least busy healthy service. `/models/{model}/…` are the services' own paths, `/v1/…` is OpenAI's API
//! over all of them. The gateway keeps no state that must survive a restart.

mod config;
mod docs;
mod error;
mod event_stream;
mod facade;
mod failure;
mod forwarding_client;
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
mod retry;
mod reusable_body;
mod routes;
mod server;
mod shares;
mod stack;
mod tunnel;
mod unread_body;
mod upstream;
mod upstream_client;
mod workers;

pub use config::{GatewayConfig, Limits, ModelConfig};
pub use error::GatewayError;
pub(crate) use gateway::Gateway;
pub use server::Server;

/// The gateway's own OpenAPI document, without the services'.
pub fn openapi_document() -> serde_json::Value {
    openapi::own()
}

/// The response to a request whose handler panicked.
pub(crate) fn panic_response(_: Box<dyn std::any::Any + Send + 'static>) -> axum::response::Response {
    use axum::response::IntoResponse;
    let failure =
        failure::Failure::new(videosdgx_api::Code::Internal, "this is a bug; see the log for details");
    failure.into_response()
}
