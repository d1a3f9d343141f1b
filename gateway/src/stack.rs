//! The order of policy is the source text: what a request passes on its way in, from the top down.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;
use tracing::Instrument;

use crate::failure::{Failure, error_format, render};
use crate::layers::authenticate::authenticate;
use crate::layers::body_limit::BodyWatch;
use crate::layers::cors;
use crate::layers::in_flight::Place;
use crate::layers::rate::{self, ByPeer, ByPrincipal};
use crate::layers::request_id::{self, REQUEST_ID};
use crate::layers::timeout::in_time;
use crate::layers::trace::Trace;
use crate::{Gateway, panic_answer, routes, tunnel};

/// The whole gateway as one service. Accept limits (sockets, slow headers, idle connections) lie before it, in
/// [`crate::Server`].
pub(crate) fn stack(gateway: &Arc<Gateway>) -> Router {
    let layers = ServiceBuilder::new()
        // Names, watches and counts every request; writes problems.
        .layer(from_fn_with_state(Arc::clone(gateway), watch))
        // A bug in a handler costs one request.
        .layer(CatchPanicLayer::custom(panic_answer))
        // Browsers: only the listed origins; preflights end here.
        .option_layer(cors::layer(&gateway.config.cors_origins))
        // Everything that may refuse it.
        .layer(from_fn_with_state(Arc::clone(gateway), police));
    routes::router(gateway).layer(layers)
}

async fn watch(State(gateway): State<Arc<Gateway>>, mut request: Request, next: Next) -> Response {
    // The request and its client get their names.
    let id = request_id::name(&gateway, &mut request);
    // A span, an event and the metrics, for refused requests too.
    let trace = Trace::begin(&request, &id);
    let format = error_format(request.uri().path());
    let response = next.run(request).instrument(trace.span.clone()).await;
    // Problems get their body here, once, in the language of the path.
    let mut response = render(response, format, &id);
    response.headers_mut().insert(REQUEST_ID, id);
    trace.end(&gateway, &response);
    response
}

async fn police(State(gateway): State<Arc<Gateway>>, request: Request, next: Next) -> Response {
    admit(&gateway, request, next).await.unwrap_or_else(IntoResponse::into_response)
}

async fn admit(gateway: &Gateway, mut request: Request, next: Next) -> Result<Response, Failure> {
    let metrics = &gateway.metrics;
    // Too much at once: 503 without waiting. Nothing new while draining.
    let place = Place::take(gateway, &request)?;
    // Requests a second by address, before any signature is checked.
    rate::check(&gateway.peer_rate, &ByPeer, metrics, "peer", &request)?;
    // Pages of other origins open no WebSockets.
    if tunnel::wanted(request.headers()) {
        tunnel::origin::check(request.headers(), &gateway.config.cors_origins)?;
    }
    // Who is it, and does the token allow this?
    authenticate(gateway, &mut request).await?;
    // Requests a second by principal.
    rate::check(&gateway.principal_rate, &ByPrincipal, metrics, "principal", &request)?;
    // Bodies: how large, how slow.
    let (request, body) = BodyWatch::over(gateway, request)?;
    // An answer must begin in time. Route → breaker → proxy: in the handlers, once the model is known.
    let response = in_time(gateway, next.run(request)).await?;
    body.verdict()?;
    Ok(place.keep_for(response))
}
