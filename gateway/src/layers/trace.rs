//! Span, log event and metrics of a request.

use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::response::Response;
use http::{HeaderValue, Method, Uri};
use tracing::Span;

use crate::Gateway;

/// Observes one request: a span with its id around the inner layers, one log event at its end, and the metrics.
///
/// The span and the event of a response below 500 have debug level: the metrics count them, and writing their fields
/// for each request takes up to a fifth of the time of proxying. Warnings carry the request id themselves.
pub(crate) struct Trace {
    started: Instant,
    id: HeaderValue,
    method: Method,
    uri: Uri,
    route: Option<MatchedPath>,
    pub(crate) span: Span,
}

impl Trace {
    pub(crate) fn begin(request: &Request, id: &HeaderValue) -> Self {
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let span = tracing::debug_span!(
            "request",
            request_id = log_value(id),
            method = method.as_str(),
            path = uri.path()
        );
        let route = request.extensions().get::<MatchedPath>().cloned();
        Self { started: Instant::now(), id: id.clone(), method, uri, route, span }
    }

    /// The path of the request.
    pub(crate) fn path(&self) -> &str {
        self.uri.path()
    }

    pub(crate) fn end(self, gateway: &Gateway, response: &Response) {
        let status = response.status().as_u16();
        let elapsed = self.started.elapsed();
        let route = self.route.as_ref().map_or("unmatched", MatchedPath::as_str);
        gateway.metrics.observe(&self.method, route, status, elapsed);
        let milliseconds = elapsed.as_secs_f64() * 1e3;
        if status >= 500 {
            let (request_id, method, path) = (log_value(&self.id), self.method.as_str(), self.uri.path());
            tracing::warn!(event = "answered", request_id, method, path, status, milliseconds);
        } else {
            tracing::debug!(parent: &self.span, event = "answered", status, milliseconds);
        }
    }
}

/// A request id as a field of a log event.
pub(crate) fn log_value(id: &HeaderValue) -> &str {
    id.to_str().unwrap_or("")
}
