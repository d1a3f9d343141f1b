//! Metrics of every service, and the registry to which a service adds its own. No label comes from user input.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use actix_web::{HttpRequest, http::header};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use videosdgx_api::{LoaderReport, LoaderState, MemoryReport, accepted_media_types};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabel {
    method: String,
    route: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AnswerLabel {
    method: String,
    route: String,
    status: u16,
}

type FloatGauge = Gauge<f64, AtomicU64>;

/// The metrics that `/metrics` shows for every service.
#[derive(Debug)]
pub struct ShellMetrics {
    registry: Mutex<Registry>,
    loader: Family<StateLabel, Gauge>,
    loads: Counter,
    idle_seconds: FloatGauge,
    memory: Family<KindLabel, FloatGauge>,
    held_bodies: Gauge,
    draining: Gauge,
    requests: Family<AnswerLabel, Counter>,
    request_seconds: Family<RouteLabel, Histogram, fn() -> Histogram>,
}

fn request_buckets() -> Histogram {
    Histogram::new([0.0025, 0.01, 0.05, 0.25, 1.0, 5.0])
}

const LOADER_STATES: [(LoaderState, &str); 5] = [
    (LoaderState::Unloaded, "unloaded"),
    (LoaderState::Loading, "loading"),
    (LoaderState::Loaded, "loaded"),
    (LoaderState::Unloading, "unloading"),
    (LoaderState::Failed, "failed"),
];

/// Loader and memory at one moment.
#[derive(Debug, Clone)]
pub struct ProcessStatus {
    /// The loader.
    pub loader: LoaderReport,
    /// The process and the machine.
    pub memory: MemoryReport,
    /// Bytes of request bodies in memory.
    pub held_bodies: usize,
    /// Whether the service is shutting down.
    pub draining: bool,
}

impl ShellMetrics {
    pub(crate) fn new(service: &str) -> Self {
        let label = [("service".into(), service.to_owned().into())];
        let registry = Registry::with_prefix_and_labels("videosdgx", label.into_iter());
        let metrics = Self {
            registry: Mutex::new(registry),
            loader: Family::default(),
            loads: Counter::default(),
            idle_seconds: FloatGauge::default(),
            memory: Family::default(),
            held_bodies: Gauge::default(),
            draining: Gauge::default(),
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(request_buckets),
        };
        metrics.add(|registry| metrics.register(registry));
        metrics
    }

    fn register(&self, registry: &mut Registry) {
        registry.register("loader_state", "1 for the state that the model is in", self.loader.clone());
        registry.register("model_loads", "Loads since the process started", self.loads.clone());
        registry.register_with_unit(
            "model_idle",
            "Time since the last use",
            Unit::Seconds,
            self.idle_seconds.clone(),
        );
        registry.register_with_unit(
            "memory",
            "Resident, free and total memory",
            Unit::Bytes,
            self.memory.clone(),
        );
        registry.register_with_unit(
            "held_bodies",
            "Request bodies in memory",
            Unit::Bytes,
            self.held_bodies.clone(),
        );
        registry.register("draining", "1 while the service shuts down", self.draining.clone());
        registry.register("http_requests", "Answers by route template", self.requests.clone());
        registry.register_with_unit(
            "http_request_duration",
            "Time until the answer's headers, by route template",
            Unit::Seconds,
            self.request_seconds.clone(),
        );
    }

    /// Registers the service's own metrics.
    pub fn add(&self, register: impl FnOnce(&mut Registry)) {
        register(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(crate) fn observe_request(&self, method: &str, route: &str, status: u16, seconds: f64) {
        let method = known_method(method);
        let label = AnswerLabel { method: method.clone(), route: route.to_owned(), status };
        self.requests.get_or_create(&label).inc();
        self.request_seconds.get_or_create(&RouteLabel { method, route: route.to_owned() }).observe(seconds);
    }

    /// Everything in OpenMetrics text.
    ///
    /// # Errors
    /// Never in practice: when a metric cannot be formatted.
    pub fn encode(&self, now: &ProcessStatus) -> Result<String, std::fmt::Error> {
        for (state, name) in LOADER_STATES {
            self.loader.get_or_create(&StateLabel { state: name }).set(i64::from(now.loader.state == state));
        }
        set_counter(&self.loads, now.loader.loads);
        self.idle_seconds.set(now.loader.idle_seconds.unwrap_or(0.0));
        for (kind, gb) in [
            ("resident", now.memory.allocated_gb),
            ("free", now.memory.free_gb),
            ("total", now.memory.total_gb),
        ] {
            self.memory.get_or_create(&KindLabel { kind }).set((gb * 1e9).round());
        }
        self.held_bodies.set(i64::try_from(now.held_bodies).unwrap_or(i64::MAX));
        self.draining.set(i64::from(now.draining));
        let mut text = String::new();
        encode(&mut text, &self.registry.lock().unwrap_or_else(PoisonError::into_inner))?;
        Ok(text)
    }
}

/// Media type of [`ShellMetrics::encode`].
pub const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Sets a counter whose value is counted elsewhere.
pub fn set_counter(counter: &Counter, value: u64) {
    counter.inner().store(value, Ordering::Relaxed);
}

/// The method as a label: unknown ones, which are user input, become `other`.
fn known_method(method: &str) -> String {
    let known = matches!(method, "GET" | "HEAD" | "POST" | "PUT" | "DELETE" | "PATCH" | "OPTIONS");
    if known { method.to_owned() } else { "other".to_owned() }
}

/// Whether `Accept` names JSON before any text format.
#[must_use]
pub fn wants_json(request: &HttpRequest) -> bool {
    let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or("");
    accepted_media_types(accept)
        .find(|kind| {
            matches!(
                kind.essence_str(),
                "application/json" | "text/plain" | "application/openmetrics-text" | "*/*"
            )
        })
        .is_some_and(|kind| kind.essence_str() == "application/json")
}
