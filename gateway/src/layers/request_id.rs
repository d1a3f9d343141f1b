//! The request id and the client's address.

use std::net::IpAddr;

use axum::extract::Request;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::Gateway;

/// The id of a request, from the client or generated, in the request to the service and in the response.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(crate) const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The peer address of the connection; the server adds it to each request.
#[derive(Debug, Clone)]
pub(crate) struct Peer(ClientIp);

impl Peer {
    pub(crate) fn new(ip: IpAddr) -> Self {
        Self(ClientIp::new(ip))
    }
}

/// The client's address: the peer's, or the one that a trusted proxy reports.
#[derive(Debug, Clone)]
pub(crate) struct ClientIp {
    pub(crate) ip: IpAddr,
    /// The address as the value of `X-Forwarded-For`.
    pub(crate) header: HeaderValue,
}

impl ClientIp {
    fn new(ip: IpAddr) -> Self {
        let ip = ip.to_canonical();
        let header = HeaderValue::try_from(ip.to_string());
        Self { ip, header: header.unwrap_or_else(|_| HeaderValue::from_static("0.0.0.0")) }
    }
}

/// Sets the request id and the client's address for the inner layers and for the service.
pub(crate) fn assign(gateway: &Gateway, request: &mut Request) -> HeaderValue {
    let id = request.headers().get(&REQUEST_ID).filter(|id| is_valid(id)).cloned().unwrap_or_else(new_id);
    let Peer(peer) =
        request.extensions_mut().remove().unwrap_or_else(|| Peer::new(IpAddr::from([0, 0, 0, 0])));
    let ip = client_ip(peer.ip, request.headers(), &gateway.config.trusted_proxies);
    request.headers_mut().insert(REQUEST_ID, id.clone());
    request.extensions_mut().insert(if ip == peer.ip { peer } else { ClientIp::new(ip) });
    id
}

/// 1 to 64 letters, digits, `-`, `_`, `.`: safe in a log line.
fn is_valid(id: &HeaderValue) -> bool {
    let id = id.as_bytes();
    (1..=64).contains(&id.len()) && id.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
}

fn new_id() -> HeaderValue {
    let id = uuid::Uuid::now_v7().simple().to_string();
    HeaderValue::try_from(id).unwrap_or_else(|_| HeaderValue::from_static("unnamed"))
}

/// The last address in `X-Forwarded-For` that is not a trusted proxy, if the peer is a trusted proxy; else the peer's.
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
    fn forwarded_for_is_read_from_its_end_and_only_from_a_trusted_proxy() {
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
    fn valid_ids_only() {
        for (id, valid) in [("abc-1.2_3", true), ("", false), ("a b", false), ("a\"b", false)] {
            assert_eq!(is_valid(&HeaderValue::from_str(id).unwrap()), valid, "{id:?}");
        }
        assert!(!is_valid(&HeaderValue::from_str(&"a".repeat(65)).unwrap()));
        assert!(is_valid(&new_id()));
    }
}
