use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::response::Response;
use http::{HeaderValue, Method};
use tracing::Span;

use crate::Gateway;

/// A request being watched: a span with its id round everything below, one event at its end, and the metrics.
///
/// Answers below 500 are logged at debug level: the metrics count them, and a line each costs more than the proxying.
pub(crate) struct Trace {
    started: Instant,
    method: Method,
    route: Option<MatchedPath>,
    pub(crate) span: Span,
}

impl Trace {
    pub(crate) fn begin(request: &Request, id: &HeaderValue) -> Self {
        let method = request.method().clone();
        let span = tracing::info_span!(
            "request",
            request_id = id.to_str().unwrap_or(""),
            method = method.as_str(),
            path = request.uri().path()
        );
        let route = request.extensions().get::<MatchedPath>().cloned();
        Self { started: Instant::now(), method, route, span }
    }

    pub(crate) fn end(self, gateway: &Gateway, response: &Response) {
        let status = response.status().as_u16();
        let elapsed = self.started.elapsed();
        let route = self.route.as_ref().map_or("unmatched", MatchedPath::as_str);
        gateway.metrics.observe(&self.method, route, status, elapsed);
        let milliseconds = elapsed.as_secs_f64() * 1e3;
        if status >= 500 {
            tracing::warn!(parent: &self.span, event = "answered", status, milliseconds);
        } else {
            tracing::debug!(parent: &self.span, event = "answered", status, milliseconds);
        }
    }
}
