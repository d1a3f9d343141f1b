use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument;

use super::request_id::RequestId;
use crate::Gateway;

/// A span with the request's id round everything below, one event at its end, and the metrics.
///
/// Answers below 500 are logged at debug level: the metrics count them, and a line each costs more than the proxying.
pub(crate) async fn trace(State(gateway): State<Arc<Gateway>>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let id = request.extensions().get::<RequestId>().cloned();
    let span = tracing::info_span!(
        "request",
        request_id = id.as_ref().and_then(|id| id.0.to_str().ok()).unwrap_or(""),
        method = method.as_str(),
        path = request.uri().path()
    );
    let response = next.run(request).instrument(span.clone()).await;
    let status = response.status().as_u16();
    let elapsed = started.elapsed();
    let route = route.as_ref().map_or("unmatched", MatchedPath::as_str);
    gateway.metrics.observe(&method, route, status, elapsed);
    let milliseconds = elapsed.as_secs_f64() * 1e3;
    let _entered = span.enter();
    if status >= 500 {
        tracing::warn!(event = "answered", status, milliseconds);
    } else {
        tracing::debug!(event = "answered", status, milliseconds);
    }
    response
}
