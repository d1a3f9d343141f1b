//! Rate limits by client address and by principal.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use governor::clock::{Clock, DefaultClock, QuantaInstant};
use governor::middleware::NoOpMiddleware;
use tower_governor::GovernorError;
use tower_governor::governor::{GovernorConfig, GovernorConfigBuilder};
use tower_governor::key_extractor::KeyExtractor;
use videosdgx_api::Code;
use videosdgx_auth::Identity;

use super::request_id::ClientIp;
use crate::failure::Failure;
use crate::metrics::Metrics;

/// A rate limit with the state of its keys.
pub(crate) type Config<K> = GovernorConfig<K, NoOpMiddleware<QuantaInstant>>;

/// Requests per second by client address.
#[derive(Debug, Clone)]
pub(crate) struct ByPeer;

impl KeyExtractor for ByPeer {
    type Key = IpAddr;

    fn extract<T>(&self, request: &http::Request<T>) -> Result<IpAddr, GovernorError> {
        let client = request.extensions().get::<ClientIp>().ok_or(GovernorError::UnableToExtractKey)?;
        Ok(network(client.0))
    }
}

/// Requests per second by principal; by client address on public paths.
#[derive(Debug, Clone)]
pub(crate) struct ByPrincipal;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum PrincipalKey {
    Subject(Arc<str>),
    Anonymous(IpAddr),
}

impl KeyExtractor for ByPrincipal {
    type Key = PrincipalKey;

    fn extract<T>(&self, request: &http::Request<T>) -> Result<PrincipalKey, GovernorError> {
        match request.extensions().get::<Identity>() {
            Some(identity) => Ok(PrincipalKey::Subject(identity.principal().shared())),
            None => ByPeer.extract(request).map(PrincipalKey::Anonymous),
        }
    }
}

/// The network that counts as one client: an IPv4 address, or an IPv6 /64.
fn network(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

/// A limit of `per_second` requests for each key, with bursts of twice as many.
pub(crate) fn config<K: KeyExtractor>(key: K, per_second: u32) -> Option<Arc<Config<K>>> {
    let period = Duration::from_secs(1) / per_second.max(1);
    GovernorConfigBuilder::default()
        .period(period)
        .burst_size(per_second.saturating_mul(2).max(1))
        .key_extractor(key)
        .finish()
        .map(Arc::new)
}

/// Fails with 429 when the key of the request is over its rate. `Retry-After` is in whole seconds, rounded up.
pub(crate) fn check<K: KeyExtractor>(
    config: &Config<K>,
    key: &K,
    metrics: &Metrics,
    limit: &'static str,
    request: &Request,
) -> Result<(), Failure> {
    let key = key
        .extract(request)
        .map_err(|_| Failure::new(Code::Internal, "the request has no client address"))?;
    config.limiter().check_key(&key).map_err(|until| {
        metrics.limited(limit);
        let wait = until.wait_time_from(DefaultClock::default().now());
        let seconds = u64::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u64::MAX);
        Failure::later(
            Code::RateLimited,
            format!("too many requests per second for this {limit}, wait"),
            seconds,
        )
    })
}

/// Drops keys that have regained their full allowance; never returns.
pub(crate) async fn evict_idle<K: KeyExtractor>(config: Arc<Config<K>>, every: Duration)
where
    K::Key: Send + Sync,
{
    let mut ticks = tokio::time::interval(every);
    loop {
        ticks.tick().await;
        config.limiter().retain_recent();
        config.limiter().shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_network_is_one_key() {
        let same = ["2001:db8::1", "2001:db8::ffff:2"].map(|ip| network(ip.parse().unwrap()));
        assert_eq!(same[0], same[1]);
        assert_ne!(same[0], network("2001:db8:0:1::1".parse().unwrap()));
        assert_eq!(network("10.0.0.7".parse().unwrap()), "10.0.0.7".parse::<IpAddr>().unwrap());
    }
}
