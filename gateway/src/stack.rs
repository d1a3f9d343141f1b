//! The order of policy is the source text: what a request passes on its way in, from the top down.

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;

use crate::layers::{authenticate, body_limit, cors, in_flight, rate, request_id, timeout, trace};
use crate::{Gateway, panic_answer, routes};

/// The whole gateway as one service. Accept limits (sockets, slow headers, idle connections) lie before it, in
/// [`crate::Server`].
pub(crate) fn stack(gateway: &Arc<Gateway>) -> Router {
    let state = || Arc::clone(gateway);
    let metrics = || gateway.metrics.clone();
    let layers = ServiceBuilder::new()
        // Names the request and its client. On the way out: writes problems in the shape that the path speaks.
        .layer(from_fn_with_state(state(), request_id::assign))
        // A span, an event and the metrics, for refused requests too.
        .layer(from_fn_with_state(state(), trace::trace))
        // A bug in a handler costs one request.
        .layer(CatchPanicLayer::custom(panic_answer))
        // Browsers: only the listed origins; preflights end here.
        .option_layer(cors::layer(&gateway.config.cors_origins))
        // Too much at once: 503 without waiting. Nothing new while draining.
        .layer(from_fn_with_state(state(), in_flight::limit))
        // Requests a second by address, before any signature is checked.
        .layer(rate::layer(&gateway.peer_rate, metrics(), "peer"))
        // Who is it, and does the token allow this?
        .layer(from_fn_with_state(state(), authenticate::authenticate))
        // Requests a second by principal.
        .layer(rate::layer(&gateway.principal_rate, metrics(), "principal"))
        // Bodies: how large, how slow.
        .layer(from_fn_with_state(state(), body_limit::limit))
        // An answer must begin in time.
        .layer(from_fn_with_state(state(), timeout::limit));
    // Route → breaker → proxy: in the handlers, once the model is known.
    routes::router(gateway).layer(layers)
}
