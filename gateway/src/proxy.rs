//! The proxy: a request goes to a service, the answer comes back, bodies flow through unbuffered both ways.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::header::{ORIGIN, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use videosdgx_api::Code;
use videosdgx_auth::Identity;

use crate::Gateway;
use crate::event_stream::{EventStream, is_event_stream};
use crate::failure::Failure;
use crate::guarded_body::GuardedBody;
use crate::hop_headers::{strip, strip_request};
use crate::layers::request_id::{ClientIp, FORWARDED_FOR, REQUEST_ID};
use crate::layers::trace::shown;
use crate::reusable_body::ReusableBody;
use crate::tunnel;
use crate::upstream::{Lease, Model, Outcome, Upstream};

/// Where a request goes.
pub(crate) enum Destination<'a> {
    /// The least busy service of a model.
    Any(&'a Model),
    /// This one: it has the job.
    Only(&'a Arc<Upstream>),
}

impl Destination<'_> {
    fn lease(&self, tried: &[Arc<Upstream>]) -> Option<Lease> {
        match self {
            Destination::Any(model) => model.lease(tried),
            Destination::Only(upstream) if tried.is_empty() => upstream.lease(),
            Destination::Only(_) => None,
        }
    }
}

/// Sends `request` to `path_and_query` of a service. What never reached one is tried at the next.
pub(crate) async fn forward(
    gateway: &Gateway,
    destination: Destination<'_>,
    request: Request,
    path_and_query: &str,
) -> Result<Response, Failure> {
    let (mut parts, body) = request.into_parts();
    let upgrade = tunnel::wanted(&parts.headers).then(|| parts.headers.get(UPGRADE).cloned()).flatten();
    let client_side =
        upgrade.is_some().then(|| parts.extensions.remove::<hyper::upgrade::OnUpgrade>()).flatten();
    let mut place = match (&upgrade, parts.extensions.get::<Identity>()) {
        (Some(_), Some(identity)) => {
            let taken = gateway.sockets.take(identity.principal().shared());
            Some(taken.inspect_err(|_| gateway.metrics.limited("sockets"))?)
        }
        _ => None,
    };
    let mut headers = std::mem::take(&mut parts.headers);
    strip_request(&mut headers);
    if let Some(ClientIp(ip)) = parts.extensions.get::<ClientIp>()
        && let Ok(ip) = HeaderValue::try_from(ip.to_string())
    {
        headers.insert(FORWARDED_FOR, ip);
    }
    if let Some(protocol) = &upgrade {
        tunnel::ask(&mut headers, protocol);
        // It has been checked against this host; the service has another.
        headers.remove(ORIGIN);
    }
    let body = ReusableBody::new(body);
    let mut tried = Vec::new();
    let mut failure = unavailable();
    while let Some(mut lease) = destination.lease(&tried) {
        let url = lease.upstream.url(path_and_query);
        let mut outgoing = reqwest::Request::new(parts.method.clone(), url);
        *outgoing.headers_mut() = headers.clone();
        *outgoing.body_mut() = body.attempt();
        match gateway.client.execute(outgoing).await {
            Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                lease.report(Outcome::Success);
                return tunnel::open(gateway, response, client_side, lease, place.take());
            }
            Ok(response) => return Ok(pass_on(gateway, &parts.method, response, lease)),
            Err(error) => {
                let (upstream, request_id) =
                    (lease.upstream.base(), headers.get(&REQUEST_ID).map_or("", shown));
                tracing::warn!(event = "upstream_failed", request_id, upstream, error = %root(&error));
                if error.is_timeout() {
                    failure = Failure::new(Code::Timeout, "the service did not answer in time");
                }
                // A body that the client broke off is not the service's fault.
                let clients_fault =
                    error.is_body() || !body.untouched() && error.is_request() && is_body_fault(&error);
                lease.report(if clients_fault { Outcome::Unknown } else { Outcome::Failure });
                if !(error.is_connect() && body.untouched()) {
                    return Err(failure);
                }
                tried.push(Arc::clone(&lease.upstream));
            }
        }
    }
    Err(failure)
}

/// The service's answer, less what was meant for its connection. The lease lasts until the last byte.
fn pass_on(gateway: &Gateway, method: &Method, response: reqwest::Response, mut lease: Lease) -> Response {
    let failed = matches!(response.status(), StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT);
    lease.report(if failed { Outcome::Failure } else { Outcome::Success });
    let (mut parts, body) = http::Response::<reqwest::Body>::from(response).into_parts();
    strip(&mut parts.headers);
    remove_cors(&mut parts.headers);
    parts.extensions.clear();
    let mut body = Body::new(body);
    // What was asked for by GET can be asked for again; the answer to a POST is let finish.
    if method == Method::GET && is_event_stream(&parts.headers) {
        body = EventStream::wrap(body, gateway.drained());
    }
    Response::from_parts(parts, GuardedBody::wrap(body, lease))
}

/// Who may read an answer in a browser is decided here, not by a service.
fn remove_cors(headers: &mut HeaderMap) {
    for name in ["access-control-allow-origin", "access-control-allow-credentials", "x-request-id"] {
        headers.remove(name);
    }
}

fn unavailable() -> Failure {
    Failure::later(Code::UpstreamUnavailable, "the service does not answer, try again", 5)
}

/// Whether the request's own body failed: the client broke off, was too slow or sent too much.
fn is_body_fault(error: &reqwest::Error) -> bool {
    let mut source: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(error) = source {
        if error.is::<axum::Error>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// The innermost cause: the outer ones name the URL, whose query may hold what is nobody's business.
fn root(error: &reqwest::Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    if std::ptr::addr_eq(innermost, error) { "failed".to_owned() } else { innermost.to_string() }
}
