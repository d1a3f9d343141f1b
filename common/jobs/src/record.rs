//! Records of jobs.

use std::{fmt, num::ParseIntError, str::FromStr};

use jiff::Timestamp;
use videosdgx_api::{JobId, JobStatus, Priority, Stage};

use crate::Principal;

/// The stage and step that a running job has reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The current stage.
    pub stage: Stage,
    /// Steps of this stage that are done.
    pub step: u32,
    /// Steps of this stage in all.
    pub steps: u32,
}

impl Progress {
    /// Percent of the whole job, 0 to 99.
    #[must_use]
    pub fn percent(self) -> u8 {
        self.stage.percent(self.step, self.steps)
    }
}

/// A finished file, already under its final name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobOutput {
    /// File name in the outputs folder.
    pub path: String,
    /// Size of the file.
    pub bytes: u64,
    /// Settings and timings of the generation, JSON; opaque to the queue.
    pub used: String,
}

/// Why a job, or one attempt at it, failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobFailure {
    /// Stable code.
    pub code: String,
    /// Message for the owner.
    pub message: String,
}

/// Everything the queue knows of one job.
#[derive(Debug, Clone, PartialEq)]
pub struct JobRecord {
    /// Grows with each job of a queue; the order of listings, and a [`Cursor`].
    pub number: u64,
    /// Its id.
    pub id: JobId,
    /// Its owner.
    pub principal: Principal,
    /// Its state.
    pub status: JobStatus,
    /// Its priority.
    pub priority: Priority,
    /// The request as submitted, JSON.
    pub body: String,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When its newest attempt began.
    pub started_at: Option<Timestamp>,
    /// When it reached a final state.
    pub finished_at: Option<Timestamp>,
    /// Number of the newest claim, from 1; 0 before the first.
    pub attempt: u32,
    /// Attempts that ended without a result (releases do not count).
    pub attempts_used: u32,
    /// The owner requested cancellation and the worker has not yet confirmed it.
    pub cancel_requested: bool,
    /// Progress of the newest attempt; of a job that waits for memory or disk space, the stage [`Stage::Waiting`].
    pub progress: Option<Progress>,
    /// 0 to 100; 100 only when completed.
    pub percent: u8,
    /// 1 = next; only while queued. An estimate: later, more urgent jobs overtake.
    pub queue_position: Option<u64>,
    /// Sequence number of the newest event.
    pub sequence: u64,
    /// Warnings for the owner.
    pub warnings: Vec<String>,
    /// The file, once completed.
    pub output: Option<JobOutput>,
    /// Why it failed or died; while it waits for another attempt, why the last one failed or what the job waits for.
    pub failure: Option<JobFailure>,
}

/// A place in a listing: the number of the last job seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor(pub u64);

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Cursor {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        text.parse().map(Self)
    }
}

/// Order of a listing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ListOrder {
    /// The newest job first.
    #[default]
    NewestFirst,
    /// The oldest job first.
    OldestFirst,
}

/// Filter, order and page of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListQuery {
    /// Only these statuses; empty = all.
    pub statuses: Vec<JobStatus>,
    /// Order of the jobs.
    pub order: ListOrder,
    /// Jobs after this place in the order; `None` = from the first.
    pub cursor: Option<Cursor>,
    /// Jobs after this one in the order.
    pub after: Option<JobId>,
    /// Jobs that were submitted before this time.
    pub created_before: Option<Timestamp>,
    /// Jobs that were submitted after this time.
    pub created_after: Option<Timestamp>,
    /// Most jobs on the page; clamped to 1..=[`ListQuery::MAX_LIMIT`].
    pub limit: usize,
}

impl ListQuery {
    /// Most jobs on one page.
    pub const MAX_LIMIT: usize = 200;
}

impl Default for ListQuery {
    fn default() -> Self {
        Self {
            statuses: Vec::new(),
            order: ListOrder::default(),
            cursor: None,
            after: None,
            created_before: None,
            created_after: None,
            limit: 20,
        }
    }
}

/// One page of a listing.
#[derive(Debug, Clone, PartialEq)]
pub struct JobPage {
    /// In the order of the query.
    pub jobs: Vec<JobRecord>,
    /// Where the next page begins; `None` on the last.
    pub next: Option<Cursor>,
}

/// Result of a write that ends an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttemptOutcome {
    /// Status of the job now. After `complete`: `Completed`, or `Cancelled` if the owner had requested that first (then remove
    /// the file). After `fail`: `Queued` (it is retried) or `Failed`. After `release`: `Queued` or `Cancelled`.
    pub status: JobStatus,
}

/// A job that the queue no longer knows; its files can be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forgotten {
    /// The job.
    pub id: JobId,
    /// Its file in the outputs folder, if it had one.
    pub output_path: Option<String>,
}
