//! WebSockets: after the HTTP upgrade, bytes are relayed both ways until one end closes.

mod frames;
pub(crate) mod origin;
mod relay;
pub(crate) mod token;

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderValue};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use videosdgx_api::Code;

use crate::Gateway;
use crate::config::duration;
use crate::failure::Failure;
use crate::hop_headers::strip;
use crate::shares::Place;
use crate::upstream::UpstreamSlot;

/// Whether a request is a WebSocket upgrade. Other protocols are refused: `h2c` would bypass the gateway's checks.
pub(crate) fn is_requested(headers: &HeaderMap) -> bool {
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

/// Sets the headers of an upgrade to `protocol`.
pub(crate) fn set_upgrade_headers(headers: &mut HeaderMap, protocol: &HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocol.clone());
}

/// Answers 101 and relays bytes between the two connections; slot and permit are held until both are closed.
pub(crate) fn open(
    gateway: &Gateway,
    response: http::Response<Incoming>,
    client_side: Option<OnUpgrade>,
    slot: UpstreamSlot,
    permit: Option<Place<Arc<str>>>,
) -> Result<Response, Failure> {
    let (Some(client_side), Some(permit)) = (client_side, permit) else {
        return Err(Failure::new(
            Code::UpstreamUnavailable,
            "the service switched protocols without a request",
        ));
    };
    let mut switching = Response::new(Body::empty());
    *switching.status_mut() = response.status();
    *switching.headers_mut() = response.headers().clone();
    let protocol = switching.headers().get(UPGRADE).cloned();
    strip(switching.headers_mut());
    if let Some(protocol) = protocol {
        set_upgrade_headers(switching.headers_mut(), &protocol);
    }
    let idle = duration(gateway.config.limits.socket_idle_seconds);
    let draining = gateway.draining_token();
    gateway.tunnels.spawn(async move {
        let _held = (slot, permit);
        match tokio::try_join!(hyper::upgrade::on(response), client_side) {
            Ok((service, client)) => {
                relay::relay(TokioIo::new(client), TokioIo::new(service), idle, &draining).await;
            }
            Err(error) => tracing::debug!(event = "tunnel_broke", %error),
        }
    });
    Ok(switching)
}
