use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::OwnedSemaphorePermit;
use videosdgx_api::Code;

use super::access::is_status_path;
use crate::Gateway;
use crate::failure::Failure;
use crate::guarded_body::GuardedBody;
use crate::metrics::Gauged;

/// Takes one of the places for requests under way, until the last byte of the answer; with none left it says so at
/// once. Health checks need none, and while the gateway drains only they are answered.
pub(crate) async fn limit(State(gateway): State<Arc<Gateway>>, request: Request, next: Next) -> Response {
    if is_status_path(request.uri().path()) {
        return next.run(request).await;
    }
    if gateway.is_draining() {
        return Failure::later(Code::Draining, "the gateway is shutting down, try again", 5).into_response();
    }
    let Ok(permit) = Arc::clone(&gateway.in_flight).try_acquire_owned() else {
        gateway.metrics.limited("overload");
        return Failure::later(Code::Overloaded, "too many requests are under way, try again", 1)
            .into_response();
    };
    let place: (OwnedSemaphorePermit, Gauged) = (permit, gateway.metrics.in_flight());
    let response = next.run(request).await;
    response.map(|body| GuardedBody::wrap(body, place))
}
