//! HTTP upgrades (WebSocket): both ends switch, then bytes go both ways until one end closes.

use axum::body::Body;
use axum::response::Response;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderValue};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use videosdgx_api::Code;

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

/// Answers 101 and joins the two connections; the lease lasts as long as they do.
pub(crate) fn open(
    response: reqwest::Response,
    client_side: Option<OnUpgrade>,
    lease: Lease,
) -> Result<Response, Failure> {
    let Some(client_side) = client_side else {
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
    tokio::spawn(async move {
        let _lease = lease;
        let joined = async {
            let mut service = response.upgrade().await.map_err(std::io::Error::other)?;
            let mut client = TokioIo::new(client_side.await.map_err(std::io::Error::other)?);
            tokio::io::copy_bidirectional(&mut client, &mut service).await
        };
        if let Err(error) = joined.await {
            tracing::debug!(event = "tunnel_broke", %error);
        }
    });
    Ok(answer)
}
