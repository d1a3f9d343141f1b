//! The limit of requests in flight.

use std::net::IpAddr;

use axum::extract::Request;
use axum::response::Response;
use videosdgx_api::Code;
use videosdgx_connection::network;

use super::access::is_status_path;
use super::request_id::ClientIp;
use crate::Gateway;
use crate::failure::Failure;
use crate::guarded_body::GuardedBody;
use crate::metrics::InFlightGuard;
use crate::shares::{Full, Place};

const UNKNOWN: IpAddr = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);

/// Permission for one request in flight; health checks need none.
pub(crate) struct InFlightPermit(Option<(Place<IpAddr>, InFlightGuard)>);

impl InFlightPermit {
    /// Fails at once when no permit is left, with 429 when the client's address has its share of them in use, else with 503.
    /// While the gateway drains only health checks are admitted.
    pub(crate) fn acquire(gateway: &Gateway, request: &Request) -> Result<Self, Failure> {
        if is_status_path(request.uri().path()) {
            return Ok(Self(None));
        }
        if gateway.is_draining() {
            return Err(Failure::later(Code::Draining, "the gateway is shutting down, try again", 5));
        }
        let client = request.extensions().get::<ClientIp>().map_or(UNKNOWN, |client| network(client.ip));
        let permit = gateway.in_flight.acquire(client).map_err(|full| {
            gateway.metrics.limited("overload");
            match full {
                Full::Total => {
                    Failure::later(Code::Overloaded, "too many requests are in flight, try again", 1)
                }
                Full::Holder(limit) => {
                    let detail = "your address has too many requests in flight, wait";
                    Failure::later(Code::RateLimited, detail, 1)
                        .map(|problem| problem.limit = Some(limit.into()))
                }
            }
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
