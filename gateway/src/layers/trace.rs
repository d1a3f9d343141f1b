use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::response::Response;
use http::{HeaderValue, Method, Uri};
use tracing::Span;

use crate::Gateway;

/// A request being watched: a span with its id round everything below, one event at its end, and the metrics.
///
/// The span and the event of an answer below 500 are of debug level: the metrics count them, and writing their fields
/// for each request costs as much as a fifth of the proxying. Warnings carry the request's id themselves.
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
            request_id = shown(id),
            method = method.as_str(),
            path = uri.path()
        );
        let route = request.extensions().get::<MatchedPath>().cloned();
        Self { started: Instant::now(), id: id.clone(), method, uri, route, span }
    }

    pub(crate) fn end(self, gateway: &Gateway, response: &Response) {
        let status = response.status().as_u16();
        let elapsed = self.started.elapsed();
        let route = self.route.as_ref().map_or("unmatched", MatchedPath::as_str);
        gateway.metrics.observe(&self.method, route, status, elapsed);
        let milliseconds = elapsed.as_secs_f64() * 1e3;
        if status >= 500 {
            let (request_id, method, path) = (shown(&self.id), self.method.as_str(), self.uri.path());
            tracing::warn!(event = "answered", request_id, method, path, status, milliseconds);
        } else {
            tracing::debug!(parent: &self.span, event = "answered", status, milliseconds);
        }
    }
}

/// An id for a log line.
pub(crate) fn shown(id: &HeaderValue) -> &str {
    id.to_str().unwrap_or("")
}
