//! Metrics of the job queue. No label comes from user input.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use videosdgx_api::{JobStatus, Stage};
use videosdgx_jobs::{Counts, Totals};

use videosdgx_shell::{ShellMetrics, set_counter};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabel {
    status: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PriorityLabel {
    priority: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StageLabel {
    stage: &'static str,
}

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// The job metrics that `/metrics` shows.
#[derive(Debug)]
pub(crate) struct JobMetrics {
    jobs: Family<StatusLabel, Counter>,
    submitted: Counter,
    leases_lost: Counter,
    running: Gauge,
    queued: Family<PriorityLabel, Gauge>,
    job_seconds: Histogram,
    stage_seconds: Histograms<StageLabel>,
    event_streams: Gauge,
}

fn job_buckets() -> Histogram {
    Histogram::new([0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0])
}

impl JobMetrics {
    /// Registers the job metrics with those of `shell`.
    pub(crate) fn new(shell: &ShellMetrics) -> Self {
        let metrics = Self {
            jobs: Family::default(),
            submitted: Counter::default(),
            leases_lost: Counter::default(),
            running: Gauge::default(),
            queued: Family::default(),
            job_seconds: job_buckets(),
            stage_seconds: Family::new_with_constructor(job_buckets),
            event_streams: Gauge::default(),
        };
        shell.add(|registry| metrics.register(registry));
        metrics
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
        registry.register("event_streams", "Open event streams", self.event_streams.clone());
    }

    pub(crate) fn observe_job(&self, seconds: f64, stages: &[(Stage, f64)]) {
        self.job_seconds.observe(seconds);
        for (stage, seconds) in stages {
            self.stage_seconds.get_or_create(&StageLabel { stage: stage.as_str() }).observe(*seconds);
        }
    }

    pub(crate) fn event_stream_opened(&self) {
        self.event_streams.inc();
    }

    pub(crate) fn event_stream_closed(&self) {
        self.event_streams.dec();
    }

    /// Copies the queue's counts.
    pub(crate) fn copy_from(&self, totals: &Totals, counts: &Counts) {
        for (status, value) in [
            (JobStatus::Completed, totals.successful),
            (JobStatus::Failed, totals.failed),
            (JobStatus::Cancelled, totals.cancelled),
        ] {
            set_counter(&self.jobs.get_or_create(&StatusLabel { status: status.as_str() }), value);
        }
        set_counter(&self.submitted, totals.submitted);
        set_counter(&self.leases_lost, totals.leases_lost);
        self.running.set(signed(counts.running));
        for (priority, waiting) in (0_u8..).zip(counts.queued_by_priority) {
            self.queued.get_or_create(&PriorityLabel { priority }).set(signed(waiting));
        }
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
