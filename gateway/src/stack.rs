//! The layers of the gateway, in the order in which a request passes them.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;
use tracing::Instrument;

use crate::failure::{Failure, error_format, render};
use crate::layers::authenticate::authenticate;
use crate::layers::body_limit::BodyMonitor;
use crate::layers::cors;
use crate::layers::in_flight::InFlightPermit;
use crate::layers::rate::{self, ByPeer, ByPrincipal};
use crate::layers::request_id::{self, REQUEST_ID};
use crate::layers::security_headers;
use crate::layers::timeout::with_timeout;
use crate::layers::trace::Trace;
use crate::{Gateway, panic_response, routes, tunnel};

/// All routes with their layers. Limits of connections (number, slow headers, idling) come before, in [`crate::Server`].
pub(crate) fn stack(gateway: &Arc<Gateway>) -> Router {
    let cors = cors::layer(&gateway.config.cors_origins);
    let cors = cors.map(|layer| (from_fn(cors::keep_allowed_headers), layer));
    let layers = ServiceBuilder::new()
        // Request id, tracing, metrics and problem bodies, for every request.
        .layer(from_fn_with_state(Arc::clone(gateway), observe))
        // A panic in a handler becomes a 500 of one request.
        .layer(CatchPanicLayer::custom(panic_response))
        // CORS: only the configured origins; answers preflights.
        .option_layer(cors)
        // Limits, authentication, timeouts.
        .layer(from_fn_with_state(Arc::clone(gateway), enforce));
    routes::router(gateway).layer(layers)
}

async fn observe(State(gateway): State<Arc<Gateway>>, mut request: Request, next: Next) -> Response {
    // Request id and client address.
    let id = request_id::assign(&gateway, &mut request);
    // Span, log event and metrics, for refused requests too.
    let trace = Trace::begin(&request, &id);
    let response = next.run(request).instrument(trace.span.clone()).await;
    // Problems get their body here, once, in the error format of the path.
    let mut response = render(response, || error_format(trace.path()), &id);
    response.headers_mut().insert(REQUEST_ID, id);
    security_headers::set(response.headers_mut());
    trace.end(&gateway, &response);
    response
}

async fn enforce(State(gateway): State<Arc<Gateway>>, request: Request, next: Next) -> Response {
    admit(&gateway, request, next).await.unwrap_or_else(IntoResponse::into_response)
}

async fn admit(gateway: &Gateway, mut request: Request, next: Next) -> Result<Response, Failure> {
    let metrics = &gateway.metrics;
    // Too many requests in flight, or draining: 503 without waiting.
    let permit = InFlightPermit::acquire(gateway, &request)?;
    // Requests per second by address, before any signature is verified.
    rate::check(&gateway.peer_rate, &ByPeer, metrics, "peer", &request)?;
    // WebSockets from pages: only from allowed origins.
    if tunnel::is_requested(request.headers()) {
        tunnel::origin::check(request.headers(), &gateway.config.cors_origins)?;
    }
    // Token and scope.
    authenticate(gateway, &mut request).await?;
    // Requests per second by principal.
    rate::check(&gateway.principal_rate, &ByPrincipal, metrics, "principal", &request)?;
    // Size and pace of the body.
    let (request, body) = BodyMonitor::wrap(gateway, request)?;
    // The response must begin in time. Model, breaker and proxy follow in the handlers.
    let response = with_timeout(gateway, next.run(request)).await?;
    body.check()?;
    Ok(permit.hold_until_sent(response))
}
