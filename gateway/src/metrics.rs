//! The metrics of the gateway. No label comes from user input: routes are templates, models are configured.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use http::Method;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::upstream::{BreakerState, Models};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    route: Cow<'static, str>,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: Cow<'static, str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LimitLabels {
    limit: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UpstreamLabels {
    model: String,
    upstream: String,
}

type Durations = Family<RouteLabels, Histogram, fn() -> Histogram>;

/// The gateway's metrics. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Metrics {
    registry: Arc<Registry>,
    requests: Family<RequestLabels, Counter>,
    durations: Durations,
    in_flight: Gauge<i64, AtomicI64>,
    limited: Family<LimitLabels, Counter>,
    upstream_up: Family<UpstreamLabels, Gauge>,
    breaker: Family<UpstreamLabels, Gauge>,
    upstream_in_flight: Family<UpstreamLabels, Gauge>,
    sockets: Gauge<i64, AtomicI64>,
}

/// Counts one request as in flight until it is dropped.
pub(crate) struct InFlightGuard(Gauge<i64, AtomicI64>);

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let buckets = || {
            Histogram::new([0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0])
        };
        let requests = Family::default();
        let durations = Durations::new_with_constructor(buckets);
        let in_flight = Gauge::default();
        let limited = Family::default();
        let upstream_up = Family::default();
        let breaker = Family::default();
        let upstream_in_flight = Family::default();
        let sockets = Gauge::default();
        let mut registry = Registry::with_prefix("videosdgx_gateway");
        registry.register("requests", "Requests answered", requests.clone());
        registry.register("request_duration_seconds", "Time until the response began", durations.clone());
        registry.register(
            "requests_in_flight",
            "Requests in flight, until the last byte of the response",
            in_flight.clone(),
        );
        registry.register("limited", "Requests refused by a limit", limited.clone());
        registry.register("upstream_up", "1 when the service answers", upstream_up.clone());
        registry.register("breaker_state", "0 closed, 1 half-open, 2 open", breaker.clone());
        registry.register(
            "upstream_in_flight",
            "Requests in flight to a service",
            upstream_in_flight.clone(),
        );
        registry.register("sockets", "Open WebSockets", sockets.clone());
        for limit in ["peer", "principal", "overload", "buffers", "connections", "sockets"] {
            drop(limited.get_or_create(&LimitLabels { limit }));
        }
        let registry = Arc::new(registry);
        Self {
            registry,
            requests,
            durations,
            in_flight,
            limited,
            upstream_up,
            breaker,
            upstream_in_flight,
            sockets,
        }
    }

    /// Counts a request and its duration under the route template.
    pub(crate) fn observe(&self, method: &Method, route: &str, status: u16, elapsed: Duration) {
        let method = match *method {
            Method::GET => "GET",
            Method::HEAD => "HEAD",
            Method::POST => "POST",
            Method::DELETE => "DELETE",
            Method::OPTIONS => "OPTIONS",
            Method::PUT => "PUT",
            Method::PATCH => "PATCH",
            _ => "other",
        };
        let route: Cow<'static, str> = Cow::Owned(route.to_owned());
        self.requests.get_or_create(&RequestLabels { method, route: route.clone(), status }).inc();
        self.durations.get_or_create(&RouteLabels { route }).observe(elapsed.as_secs_f64());
    }

    pub(crate) fn in_flight(&self) -> InFlightGuard {
        self.in_flight.inc();
        InFlightGuard(self.in_flight.clone())
    }

    /// Counts a request refused by a limit: `peer`, `principal`, `overload`, `buffers` or `sockets`.
    pub(crate) fn limited(&self, limit: &'static str) {
        self.limited.get_or_create(&LimitLabels { limit }).inc();
    }

    /// All metrics as Prometheus text, with the current state of the services.
    pub(crate) fn encode(&self, models: &Models, open_sockets: usize) -> Result<String, std::fmt::Error> {
        self.sockets.set(i64::try_from(open_sockets).unwrap_or(i64::MAX));
        for upstream in models.upstreams() {
            let labels =
                UpstreamLabels { model: upstream.model.clone(), upstream: upstream.base().to_owned() };
            let state = upstream.state();
            self.upstream_up.get_or_create(&labels).set(i64::from(state.up == Some(true)));
            let breaker = match upstream.breaker_state() {
                BreakerState::Closed => 0,
                BreakerState::HalfOpen => 1,
                BreakerState::Open => 2,
            };
            self.breaker.get_or_create(&labels).set(breaker);
            let in_flight = i64::try_from(state.in_flight).unwrap_or(i64::MAX);
            self.upstream_in_flight.get_or_create(&labels).set(in_flight);
        }
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
