use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use videosdgx_api::Code;

use crate::Gateway;
use crate::config::duration;
use crate::failure::Failure;

/// An answer must begin in time; how long its body takes is its own business.
pub(crate) async fn limit(State(gateway): State<Arc<Gateway>>, request: Request, next: Next) -> Response {
    let limit = duration(gateway.config.limits.response_seconds);
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Failure::new(Code::Timeout, "the service did not answer in time").into_response(),
    }
}
