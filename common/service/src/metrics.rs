//! The service's own figures, in one typed struct. No label comes from user input.

use std::sync::{Mutex, PoisonError, atomic::AtomicU64};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use videosdgx_api::{JobStatus, LoaderReport, LoaderState, MemoryReport, Stage};
use videosdgx_jobs::{Counts, Totals};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabel {
    status: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PriorityLabel {
    priority: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StageLabel {
    stage: &'static str,
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

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;
type FloatGauge = Gauge<f64, AtomicU64>;

/// Everything that `/metrics` shows.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Mutex<Registry>,
    jobs: Family<StatusLabel, Counter>,
    submitted: Counter,
    leases_lost: Counter,
    running: Gauge,
    queued: Family<PriorityLabel, Gauge>,
    job_seconds: Histogram,
    stage_seconds: Histograms<StageLabel>,
    loader: Family<StateLabel, Gauge>,
    loads: Counter,
    idle_seconds: FloatGauge,
    memory: Family<KindLabel, FloatGauge>,
    draining: Gauge,
    requests: Family<AnswerLabel, Counter>,
    request_seconds: Histograms<RouteLabel>,
    event_streams: Gauge,
}

fn job_buckets() -> Histogram {
    Histogram::new([0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0])
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

impl Metrics {
    pub(crate) fn new(service: &str) -> Self {
        let label = [("service".into(), service.to_owned().into())];
        let mut registry = Registry::with_prefix_and_labels("videosdgx", label.into_iter());
        let metrics = Self {
            registry: Mutex::default(),
            jobs: Family::default(),
            submitted: Counter::default(),
            leases_lost: Counter::default(),
            running: Gauge::default(),
            queued: Family::default(),
            job_seconds: job_buckets(),
            stage_seconds: Family::new_with_constructor(job_buckets),
            loader: Family::default(),
            loads: Counter::default(),
            idle_seconds: FloatGauge::default(),
            memory: Family::default(),
            draining: Gauge::default(),
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(request_buckets),
            event_streams: Gauge::default(),
        };
        metrics.register(&mut registry);
        Self { registry: Mutex::new(registry), ..metrics }
    }

    fn register(&self, registry: &mut Registry) {
        registry.register(
            "jobs",
            "Jobs that came to an end, by how, since the queue was made",
            self.jobs.clone(),
        );
        registry.register("jobs_submitted", "Jobs accepted since the queue was made", self.submitted.clone());
        registry.register("leases_lost", "Attempts lost to a worker that died", self.leases_lost.clone());
        registry.register("jobs_running", "Jobs being made now", self.running.clone());
        registry.register("jobs_queued", "Jobs waiting now, by priority", self.queued.clone());
        registry.register_with_unit(
            "job_duration",
            "Time of the completing attempt of a job",
            Unit::Seconds,
            self.job_seconds.clone(),
        );
        registry.register_with_unit(
            "job_stage_duration",
            "Time of one stage of a completed job",
            Unit::Seconds,
            self.stage_seconds.clone(),
        );
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
        registry.register("draining", "1 while the service shuts down", self.draining.clone());
        registry.register("http_requests", "Answers by route template", self.requests.clone());
        registry.register_with_unit(
            "http_request_duration",
            "Time until the answer's headers, by route template",
            Unit::Seconds,
            self.request_seconds.clone(),
        );
        registry.register("event_streams", "Open event streams", self.event_streams.clone());
    }

    pub(crate) fn observe_request(&self, method: &str, route: &str, status: u16, seconds: f64) {
        let method = known_method(method);
        let label = AnswerLabel { method: method.clone(), route: route.to_owned(), status };
        self.requests.get_or_create(&label).inc();
        self.request_seconds.get_or_create(&RouteLabel { method, route: route.to_owned() }).observe(seconds);
    }

    pub(crate) fn observe_job(&self, seconds: f64, stages: &[(Stage, f64)]) {
        self.job_seconds.observe(seconds);
        for (stage, seconds) in stages {
            self.stage_seconds.get_or_create(&StageLabel { stage: stage_name(*stage) }).observe(*seconds);
        }
    }

    pub(crate) fn event_stream_opened(&self) {
        self.event_streams.inc();
    }

    pub(crate) fn event_stream_closed(&self) {
        self.event_streams.dec();
    }

    /// Takes over what others count, then writes everything in OpenMetrics text.
    pub(crate) fn encode(&self, now: &Now) -> Result<String, std::fmt::Error> {
        for (status, value) in [
            (JobStatus::Completed, now.totals.successful),
            (JobStatus::Failed, now.totals.failed),
            (JobStatus::Cancelled, now.totals.cancelled),
        ] {
            set(&self.jobs.get_or_create(&StatusLabel { status: status.as_str() }), value);
        }
        set(&self.submitted, now.totals.submitted);
        set(&self.leases_lost, now.totals.leases_lost);
        self.running.set(signed(now.counts.running));
        for (priority, waiting) in (0_u8..).zip(now.counts.queued_by_priority) {
            self.queued.get_or_create(&PriorityLabel { priority }).set(signed(waiting));
        }
        for (state, name) in LOADER_STATES {
            self.loader.get_or_create(&StateLabel { state: name }).set(i64::from(now.loader.state == state));
        }
        set(&self.loads, now.loader.loads);
        self.idle_seconds.set(now.loader.idle_seconds.unwrap_or(0.0));
        for (kind, gb) in [
            ("resident", now.memory.allocated_gb),
            ("free", now.memory.free_gb),
            ("total", now.memory.total_gb),
        ] {
            self.memory.get_or_create(&KindLabel { kind }).set((gb * 1e9).round());
        }
        self.draining.set(i64::from(now.draining));
        let mut text = String::new();
        encode(&mut text, &self.registry.lock().unwrap_or_else(PoisonError::into_inner))?;
        Ok(text)
    }
}

/// What others count, at one moment.
#[derive(Debug)]
pub(crate) struct Now {
    pub(crate) totals: Totals,
    pub(crate) counts: Counts,
    pub(crate) loader: LoaderReport,
    pub(crate) memory: MemoryReport,
    pub(crate) draining: bool,
}

/// A counter that is kept elsewhere, durably.
fn set(counter: &Counter, value: u64) {
    counter.inner().store(value, std::sync::atomic::Ordering::Relaxed);
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Methods are user input too.
fn known_method(method: &str) -> String {
    let known = matches!(method, "GET" | "HEAD" | "POST" | "PUT" | "DELETE" | "PATCH" | "OPTIONS");
    if known { method.to_owned() } else { "other".to_owned() }
}

pub(crate) fn stage_name(stage: Stage) -> &'static str {
    match stage {
        Stage::Loading => "loading",
        Stage::Encoding => "encoding",
        Stage::Denoising => "denoising",
        Stage::Decoding => "decoding",
        Stage::Saving => "saving",
    }
}
