use std::net::{IpAddr, SocketAddr};

use axum::extract::Request;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::Gateway;

/// The header that names a request, from the client or made here, all the way to the service and back.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(crate) const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The other end of the connection, put into each request by the server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// The client's address: the peer's, or what a trusted proxy says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClientIp(pub(crate) IpAddr);

/// Names the request and its client, for everything below and for the service.
pub(crate) fn name(gateway: &Gateway, request: &mut Request) -> HeaderValue {
    let id = request.headers().get(&REQUEST_ID).filter(|id| is_sane(id)).cloned().unwrap_or_else(new_id);
    let peer = request.extensions().get::<Peer>().map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.0.ip());
    let client = client_ip(peer, request.headers(), &gateway.config.trusted_proxies);
    request.headers_mut().insert(REQUEST_ID, id.clone());
    request.extensions_mut().insert(ClientIp(client));
    id
}

/// 1 to 64 of letters, digits, `-`, `_`, `.`: fit for a log line.
fn is_sane(id: &HeaderValue) -> bool {
    let id = id.as_bytes();
    (1..=64).contains(&id.len()) && id.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
}

fn new_id() -> HeaderValue {
    let id = uuid::Uuid::now_v7().simple().to_string();
    HeaderValue::try_from(id).unwrap_or_else(|_| HeaderValue::from_static("unnamed"))
}

/// The last address in `X-Forwarded-For` that is not one of our own proxies, when our own proxy is the peer.
fn client_ip(peer: IpAddr, headers: &HeaderMap, trusted: &[IpAddr]) -> IpAddr {
    if trusted.is_empty() || !trusted.contains(&peer.to_canonical()) {
        return peer.to_canonical();
    }
    let hops: Vec<&str> = headers
        .get_all(&FORWARDED_FOR)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .collect();
    for hop in hops.iter().rev() {
        match hop.parse::<IpAddr>() {
            Ok(ip) if trusted.contains(&ip.to_canonical()) => {}
            Ok(ip) => return ip.to_canonical(),
            Err(_) => break,
        }
    }
    peer.to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn forwarded_for_counts_only_from_a_trusted_proxy_and_from_its_end() {
        let mut headers = HeaderMap::new();
        headers.insert(FORWARDED_FOR, HeaderValue::from_static("1.1.1.1, 9.9.9.9, 10.0.0.2"));
        let (proxy, second) = (ip("10.0.0.1"), ip("10.0.0.2"));
        assert_eq!(client_ip(ip("8.8.8.8"), &headers, &[]), ip("8.8.8.8"));
        assert_eq!(client_ip(ip("8.8.8.8"), &headers, &[proxy]), ip("8.8.8.8"));
        assert_eq!(client_ip(proxy, &headers, &[proxy]), second);
        assert_eq!(client_ip(proxy, &headers, &[proxy, second]), ip("9.9.9.9"));
        assert_eq!(client_ip(ip("::ffff:10.0.0.1"), &headers, &[proxy, second]), ip("9.9.9.9"));
        headers.insert(FORWARDED_FOR, HeaderValue::from_static("9.9.9.9, nonsense"));
        assert_eq!(client_ip(proxy, &headers, &[proxy]), proxy);
    }

    #[test]
    fn sane_ids_only() {
        for (id, sane) in [("abc-1.2_3", true), ("", false), ("a b", false), ("a\"b", false)] {
            assert_eq!(is_sane(&HeaderValue::from_str(id).unwrap()), sane, "{id:?}");
        }
        assert!(!is_sane(&HeaderValue::from_str(&"a".repeat(65)).unwrap()));
        assert!(is_sane(&new_id()));
    }
}
