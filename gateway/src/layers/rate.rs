//! Rate limits by client address and by principal.

use std::net::IpAddr;
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
use videosdgx_connection::network;

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
        Ok(network(client.ip))
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
