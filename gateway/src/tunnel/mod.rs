//! HTTP upgrades (WebSocket): both ends switch, then bytes go both ways until one end closes.

mod frames;
mod join;
pub(crate) mod origin;
mod places;
pub(crate) mod token;

use axum::body::Body;
use axum::response::Response;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderValue};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
pub(crate) use places::{SocketPlace, SocketPlaces};
use videosdgx_api::Code;

use crate::Gateway;
use crate::config::duration;
use crate::failure::Failure;
use crate::hop_headers::strip;
use crate::upstream::Lease;

/// Whether a client asks for a WebSocket. No other protocol is let through: `h2c` behind a proxy is a way round it.
pub(crate) fn wanted(headers: &HeaderMap) -> bool {
    let has = |name, word: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|part| part.trim().eq_ignore_ascii_case(word))
    };
    has(CONNECTION, "upgrade") && has(UPGRADE, "websocket")
}

/// Puts the question into the request to the service.
pub(crate) fn ask(headers: &mut HeaderMap, protocol: &HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocol.clone());
}

/// Answers 101 and joins the two connections; lease and place last as long as they do.
pub(crate) fn open(
    gateway: &Gateway,
    response: reqwest::Response,
    client_side: Option<OnUpgrade>,
    lease: Lease,
    place: Option<SocketPlace>,
) -> Result<Response, Failure> {
    let (Some(client_side), Some(place)) = (client_side, place) else {
        return Err(Failure::new(Code::UpstreamUnavailable, "the service switched protocols unasked"));
    };
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = response.status();
    *answer.headers_mut() = response.headers().clone();
    let protocol = answer.headers().get(UPGRADE).cloned();
    strip(answer.headers_mut());
    if let Some(protocol) = protocol {
        ask(answer.headers_mut(), &protocol);
    }
    let idle = duration(gateway.config.limits.socket_idle_seconds);
    let draining = gateway.draining_token();
    gateway.tunnels.spawn(async move {
        let _held = (lease, place);
        let ends = async { Ok::<_, reqwest::Error>((response.upgrade().await?, client_side.await)) };
        match ends.await {
            Ok((service, Ok(client))) => join::join(TokioIo::new(client), service, idle, &draining).await,
            Ok((_, Err(error))) => tracing::debug!(event = "tunnel_broke", %error),
            Err(error) => tracing::debug!(event = "tunnel_broke", error = %error.without_url()),
        }
    });
    Ok(answer)
}
