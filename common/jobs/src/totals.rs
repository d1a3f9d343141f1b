//! Counts and totals over all jobs.

use serde::{Deserialize, Serialize};
use videosdgx_api::{InferenceRecord, JobStatus};

/// Number of jobs in each state now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Jobs waiting at each priority, index 0 to 9.
    pub queued_by_priority: [u64; 10],
    /// Running jobs.
    pub running: u64,
    /// Completed jobs that are still stored.
    pub completed: u64,
    /// Failed jobs that are still stored.
    pub failed: u64,
    /// Cancelled jobs that are still stored.
    pub cancelled: u64,
    /// Dead jobs (their worker died in every attempt) that are still stored.
    pub dead: u64,
    /// Workers waiting for a job.
    pub waiting_workers: u64,
}

impl Counts {
    /// Number of waiting jobs of all priorities.
    #[must_use]
    pub fn queued(&self) -> u64 {
        self.queued_by_priority.iter().sum()
    }

    /// Number of jobs with this status.
    #[must_use]
    pub fn of(&self, status: JobStatus) -> u64 {
        match status {
            JobStatus::Queued => self.queued(),
            JobStatus::Running => self.running,
            JobStatus::Completed => self.completed,
            JobStatus::Failed => self.failed,
            JobStatus::Cancelled => self.cancelled,
            JobStatus::Dead => self.dead,
        }
    }
}

/// Totals since the queue was created; they survive a restart.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    /// Jobs accepted.
    pub submitted: u64,
    /// Jobs that ran to an end: `successful + failed`.
    pub total_inferences: u64,
    /// Completed.
    pub successful: u64,
    /// Failed or dead.
    pub failed: u64,
    /// Cancelled.
    pub cancelled: u64,
    /// Attempts lost to a worker that died or stopped renewing.
    pub leases_lost: u64,
    /// Sum of the durations of completed jobs: seconds from the start of the last attempt to its end.
    pub duration_seconds_sum: f64,
    /// The shortest of these durations; `None` before the first.
    pub duration_seconds_min: Option<f64>,
    /// The longest of these durations; `None` before the first.
    pub duration_seconds_max: Option<f64>,
    /// Characters of all accepted prompts.
    pub prompt_characters_sum: u64,
    /// The last ten jobs that ran to an end, newest first.
    pub last_10: Vec<InferenceRecord>,
}

impl Totals {
    /// Number of jobs in `last_10`.
    pub(crate) const LAST: usize = 10;

    /// Counts a job that ran to an end.
    pub(crate) fn add(&mut self, record: InferenceRecord) {
        match record.status {
            JobStatus::Cancelled | JobStatus::Queued | JobStatus::Running => {
                self.cancelled += 1;
                return;
            }
            JobStatus::Failed | JobStatus::Dead => self.failed += 1,
            JobStatus::Completed => {
                let seconds = record.duration_seconds;
                self.successful += 1;
                self.duration_seconds_sum += seconds;
                self.duration_seconds_min =
                    Some(self.duration_seconds_min.map_or(seconds, |min| min.min(seconds)));
                self.duration_seconds_max =
                    Some(self.duration_seconds_max.map_or(seconds, |max| max.max(seconds)));
            }
        }
        self.total_inferences += 1;
        self.last_10.insert(0, record);
        self.last_10.truncate(Self::LAST);
    }

    /// Average seconds of a completed job; `None` before the first.
    #[must_use]
    pub fn duration_seconds_avg(&self) -> Option<f64> {
        (self.successful > 0).then(|| self.duration_seconds_sum / self.successful as f64)
    }

    /// Average length of a prompt in characters; `None` before the first.
    #[must_use]
    pub fn prompt_characters_avg(&self) -> Option<f64> {
        (self.submitted > 0).then(|| self.prompt_characters_sum as f64 / self.submitted as f64)
    }

    /// Share of completed jobs among those that ran to an end, 0 to 1; `None` before the first.
    #[must_use]
    pub fn success_rate(&self) -> Option<f64> {
        (self.total_inferences > 0).then(|| self.successful as f64 / self.total_inferences as f64)
    }
}
