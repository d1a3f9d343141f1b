//! The limit of requests in flight.

use std::sync::Arc;

use axum::extract::Request;
use axum::response::Response;
use tokio::sync::OwnedSemaphorePermit;
use videosdgx_api::Code;

use super::access::is_status_path;
use crate::Gateway;
use crate::failure::Failure;
use crate::guarded_body::GuardedBody;
use crate::metrics::InFlightGuard;

/// Permission for one request in flight; health checks need none.
pub(crate) struct InFlightPermit(Option<(OwnedSemaphorePermit, InFlightGuard)>);

impl InFlightPermit {
    /// Fails at once with 503 when no permit is left. While the gateway drains only health checks are admitted.
    pub(crate) fn acquire(gateway: &Gateway, request: &Request) -> Result<Self, Failure> {
        if is_status_path(request.uri().path()) {
            return Ok(Self(None));
        }
        if gateway.is_draining() {
            return Err(Failure::later(Code::Draining, "the gateway is shutting down, try again", 5));
        }
        let permit = Arc::clone(&gateway.in_flight).try_acquire_owned().map_err(|_| {
            gateway.metrics.limited("overload");
            Failure::later(Code::Overloaded, "too many requests are in flight, try again", 1)
        })?;
        Ok(Self(Some((permit, gateway.metrics.in_flight()))))
    }

    /// Holds the permit until the last byte of the response.
    pub(crate) fn hold_until_sent(self, response: Response) -> Response {
        match self.0 {
            Some(held) => response.map(|body| GuardedBody::wrap(body, held)),
            None => response,
        }
    }
}
