//! The proxy: forwards a request to a service and its response to the client. Bodies are streamed both ways.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::header::{ORIGIN, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::client::legacy::Error;
use videosdgx_api::Code;
use videosdgx_auth::Identity;

use crate::Gateway;
use crate::event_stream::{EventStream, is_event_stream};
use crate::failure::Failure;
use crate::forwarding_client::{is_body_error, is_timeout};
use crate::guarded_body::GuardedBody;
use crate::hop_headers::{strip, strip_request};
use crate::layers::request_id::{ClientIp, FORWARDED_FOR, REQUEST_ID};
use crate::retry::{Attempt, AttemptError, Destination, until_reached};
use crate::reusable_body::ReusableBody;
use crate::shares::{Full, Place};
use crate::tunnel;
use crate::upstream::{Outcome, UpstreamSlot};
use crate::upstream_client::{log_failure, unavailable};

/// Sends `request` to `path_and_query` of a service; to the next one when nothing of it reached the first.
pub(crate) async fn forward(
    gateway: &Gateway,
    destination: Destination<'_>,
    request: Request,
    path_and_query: &str,
) -> Result<Response, Failure> {
    let (mut parts, body) = request.into_parts();
    let upgrade = tunnel::is_requested(&parts.headers).then(|| parts.headers.get(UPGRADE).cloned()).flatten();
    let client_side = upgrade.is_some().then(|| parts.extensions.remove::<OnUpgrade>()).flatten();
    let permit = match (&upgrade, parts.extensions.get::<Identity>()) {
        (Some(_), Some(identity)) => {
            let permit = gateway.sockets.acquire(identity.principal().shared());
            Some(permit.map_err(|full| too_many_sockets(gateway, full))?)
        }
        _ => None,
    };
    let headers = outgoing_headers(&mut parts, upgrade.as_ref());
    let body = ReusableBody::new(body);
    let request = ForwardedRequest {
        gateway,
        method: parts.method,
        path_and_query,
        headers,
        body,
        client_side,
        permit,
        timed_out: false,
    };
    until_reached(destination, request).await
}

fn too_many_sockets(gateway: &Gateway, full: Full) -> Failure {
    gateway.metrics.limited("sockets");
    match full {
        Full::Total => Failure::later(Code::Overloaded, "too many WebSockets are open, try again", 1),
        Full::Holder(limit) => {
            let detail = "you have too many WebSockets open, close one";
            Failure::later(Code::RateLimited, detail, 1).map(|problem| problem.limit = Some(limit.into()))
        }
    }
}

/// The request of a client, and what it needs for each attempt.
struct ForwardedRequest<'a> {
    gateway: &'a Gateway,
    method: Method,
    path_and_query: &'a str,
    headers: HeaderMap,
    body: ReusableBody,
    /// Of a WebSocket: the client's connection once it is upgraded.
    client_side: Option<OnUpgrade>,
    permit: Option<Place<Arc<str>>>,
    /// Whether an attempt has timed out.
    timed_out: bool,
}

impl Attempt for ForwardedRequest<'_> {
    type Response = Response;

    async fn send(&mut self, mut slot: UpstreamSlot) -> Result<Response, AttemptError> {
        let uri = slot
            .upstream
            .uri(self.path_and_query)
            .map_err(|_| AttemptError::Final(Failure::new(Code::NotFound, "the path cannot be forwarded")))?;
        let client = self.gateway.forwarding();
        let mut sent = client.request(self.outgoing(uri.clone())).await;
        if sent.as_ref().is_err_and(|error| self.may_repeat(error)) {
            sent = client.request(self.outgoing(uri)).await;
        }
        match sent {
            Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                slot.report(Outcome::Success);
                tunnel::open(self.gateway, response, self.client_side.take(), slot, self.permit.take())
                    .map_err(AttemptError::Final)
            }
            Ok(response) => Ok(relay(self.gateway, &self.method, response, slot)),
            Err(error) => Err(self.failed(slot, &error)),
        }
    }
}

impl ForwardedRequest<'_> {
    fn outgoing(&self, uri: Uri) -> http::Request<Body> {
        let mut outgoing = http::Request::new(self.body.attempt());
        *outgoing.method_mut() = self.method.clone();
        *outgoing.uri_mut() = uri;
        *outgoing.headers_mut() = self.headers.clone();
        outgoing
    }

    /// Whether the connection was closed without a response, for example because the service closed an idle connection at the
    /// moment it was used again, and the request can be repeated without harm.
    fn may_repeat(&self, error: &Error) -> bool {
        let broke = !error.is_connect() && !is_timeout(error);
        broke && self.method.is_safe() && self.client_side.is_none() && self.body.untouched()
    }

    fn failed(&mut self, mut slot: UpstreamSlot, error: &Error) -> AttemptError {
        log_failure(&slot.upstream, &self.headers, error);
        self.timed_out |= is_timeout(error);
        let failure = if self.timed_out {
            Failure::new(Code::Timeout, "the service did not answer in time")
        } else {
            unavailable()
        };
        let untouched = self.body.untouched();
        // A body that the client broke off is not the service's failure.
        let client_failed = !untouched && is_body_error(error);
        slot.report(if client_failed { Outcome::Unknown } else { Outcome::Failure });
        if error.is_connect() && untouched {
            AttemptError::NotReached(Arc::clone(&slot.upstream), failure)
        } else {
            AttemptError::Final(failure)
        }
    }
}

/// The headers that the service gets: those of the request without what concerns only the client's connection.
fn outgoing_headers(parts: &mut Parts, upgrade: Option<&HeaderValue>) -> HeaderMap {
    let mut headers = std::mem::take(&mut parts.headers);
    strip_request(&mut headers);
    if let Some(client) = parts.extensions.get::<ClientIp>() {
        headers.insert(FORWARDED_FOR, client.header.clone());
    }
    if let Some(protocol) = upgrade {
        tunnel::set_upgrade_headers(&mut headers, protocol);
        // Already checked against the gateway's host; the service has another one.
        headers.remove(ORIGIN);
    }
    headers
}

/// The service's response without the headers that concern only its connection. The slot is held until the last byte.
fn relay(
    gateway: &Gateway,
    method: &Method,
    response: http::Response<Incoming>,
    mut slot: UpstreamSlot,
) -> Response {
    slot.report(Outcome::of_status(response.status()));
    let (mut parts, body) = response.into_parts();
    // 426 names the protocol that the path needs.
    let needed = parts.headers.get(UPGRADE).filter(|_| parts.status == StatusCode::UPGRADE_REQUIRED).cloned();
    strip(&mut parts.headers);
    if let Some(protocol) = needed {
        tunnel::set_upgrade_headers(&mut parts.headers, &protocol);
    }
    remove_cors(&mut parts.headers);
    parts.extensions.clear();
    let mut body = Body::new(body);
    // A GET can be repeated, so its stream may end early; the response to a POST runs to its end.
    if method == Method::GET && is_event_stream(&parts.headers) {
        body = EventStream::wrap(body, gateway.drained());
    }
    Response::from_parts(parts, GuardedBody::wrap(body, slot))
}

/// The gateway sets these headers itself; a service does not decide which pages may read a response.
fn remove_cors(headers: &mut HeaderMap) {
    use http::header::{ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_ORIGIN};
    for name in [ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_ALLOW_CREDENTIALS, REQUEST_ID] {
        headers.remove(name);
    }
}
