use std::sync::Arc;

use axum::extract::Request;
use axum::response::Response;
use tokio::sync::OwnedSemaphorePermit;
use videosdgx_api::Code;

use super::access::is_status_path;
use crate::Gateway;
use crate::failure::Failure;
use crate::guarded_body::GuardedBody;
use crate::metrics::Gauged;

/// One of the places for requests under way; health checks need none.
pub(crate) struct Place(Option<(OwnedSemaphorePermit, Gauged)>);

impl Place {
    /// Takes a place; with none left it says so at once. While the gateway drains only health checks are answered.
    pub(crate) fn take(gateway: &Gateway, request: &Request) -> Result<Self, Failure> {
        if is_status_path(request.uri().path()) {
            return Ok(Self(None));
        }
        if gateway.is_draining() {
            return Err(Failure::later(Code::Draining, "the gateway is shutting down, try again", 5));
        }
        let permit = Arc::clone(&gateway.in_flight).try_acquire_owned().map_err(|_| {
            gateway.metrics.limited("overload");
            Failure::later(Code::Overloaded, "too many requests are under way, try again", 1)
        })?;
        Ok(Self(Some((permit, gateway.metrics.in_flight()))))
    }

    /// Keeps the place until the last byte of the answer.
    pub(crate) fn keep_for(self, response: Response) -> Response {
        match self.0 {
            Some(held) => response.map(|body| GuardedBody::wrap(body, held)),
            None => response,
        }
    }
}
