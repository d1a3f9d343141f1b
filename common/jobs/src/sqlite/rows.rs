//! Rows to types.

use jiff::Timestamp;
use rusqlite::{
    Row,
    types::{FromSql, FromSqlError, ValueRef},
};
use videosdgx_api::{JobEvent, JobId, JobStatus, Priority};

use super::names;
use crate::{
    IdempotencyKey, JobFailure, JobOutput, JobRecord, Principal, Progress,
    state::{Job, Phase},
};

/// Columns that [`job`] reads, in this order.
pub(super) const JOB: &str = "number, id, principal, priority, idempotency_key, body_hash, prompt_characters, enqueued, \
    status, not_before, attempt, attempts_used, cancel_requested, stage, step, steps, sequence, failure_code, \
    failure_message, created_at, started_at, finished_at, output_path";

/// Columns that [`record`] reads after those of [`JOB`], in this order.
pub(super) const RECORD: &str = "output_bytes, output_used, (SELECT body FROM requests WHERE requests.number = jobs.number) \
    AS body, (SELECT json_group_array(text ORDER BY place) FROM warnings WHERE warnings.number = jobs.number) AS warnings";

/// Columns that [`event`] reads, in this order.
pub(super) const EVENT: &str = "sequence, kind, status, progress, stage, step, steps, attempt, error";

/// Takes the columns of a row one after the other: looking each up by its name takes most of the time of reading many.
struct Columns<'r, 's> {
    row: &'r Row<'s>,
    next: usize,
}

impl<'r> Columns<'r, '_> {
    fn value(&mut self) -> rusqlite::Result<ValueRef<'r>> {
        let value = self.row.get_ref(self.next)?;
        self.next += 1;
        Ok(value)
    }

    fn take<T: FromSql>(&mut self) -> rusqlite::Result<T> {
        let value = self.row.get(self.next)?;
        self.next += 1;
        Ok(value)
    }

    fn time(&mut self) -> rusqlite::Result<Option<Timestamp>> {
        let milliseconds: Option<i64> = self.take()?;
        let timestamp = milliseconds.map(Timestamp::from_millisecond).transpose();
        Ok(timestamp.map_err(|_| FromSqlError::InvalidType)?)
    }
}

/// A job as the machine knows it, from the columns of [`JOB`].
pub(super) fn job(row: &Row<'_>) -> rusqlite::Result<Job> {
    read_job(&mut Columns { row, next: 0 })
}

/// Takes the columns in the order of [`JOB`].
fn read_job(columns: &mut Columns<'_, '_>) -> rusqlite::Result<Job> {
    let number = columns.take()?;
    let id = columns.value()?.as_str()?.parse().map_err(|_| FromSqlError::InvalidType)?;
    let principal = Principal::new(columns.value()?.as_str()?);
    let priority = Priority::new(columns.take()?).ok_or(FromSqlError::InvalidType)?;
    let key: Option<String> = columns.take()?;
    let body_hash: Option<[u8; 32]> = columns.take()?;
    let prompt_characters = columns.take()?;
    let enqueued = columns.take()?;
    let status = names::status_from(columns.value()?)?;
    let not_before = columns.take()?;
    let attempt = columns.take()?;
    let attempts_used = columns.take()?;
    let cancel_requested = columns.take()?;
    let stage = names::stage_from(columns.value()?)?;
    let (step, steps): (Option<u32>, Option<u32>) = (columns.take()?, columns.take()?);
    let sequence = columns.take()?;
    let (failure_code, failure_message): (Option<String>, Option<String>) =
        (columns.take()?, columns.take()?);
    let created_at = columns.time()?.ok_or(FromSqlError::InvalidType)?;
    let (started_at, finished_at) = (columns.time()?, columns.time()?);
    Ok(Job {
        number,
        id,
        principal,
        priority,
        idempotency: key.zip(body_hash).map(|(key, body_hash)| IdempotencyKey { key, body_hash }),
        prompt_characters,
        enqueued,
        phase: match status {
            JobStatus::Queued => Phase::Queued { not_before },
            // One column for both; leases are renewed when a machine is restored.
            JobStatus::Running => Phase::Running { lease_until: 0, started: not_before },
            ended => Phase::Ended(ended),
        },
        attempt,
        attempts_used,
        cancel_requested,
        progress: stage.zip(step).zip(steps).map(|((stage, step), steps)| Progress { stage, step, steps }),
        sequence,
        failure: failure_code.zip(failure_message).map(|(code, message)| JobFailure { code, message }),
        created_at,
        started_at,
        finished_at,
        output_path: columns.take()?,
    })
}

/// A job as its owner sees it; the place in the queue is not in the database.
pub(super) fn record(row: &Row<'_>) -> rusqlite::Result<JobRecord> {
    let mut columns = Columns { row, next: 0 };
    let job = read_job(&mut columns)?;
    let (bytes, used): (Option<u64>, Option<String>) = (columns.take()?, columns.take()?);
    let body = columns.take()?;
    let warnings: String = columns.take()?;
    Ok(JobRecord {
        status: job.status(),
        percent: job.percent(),
        output: job.output_path.zip(bytes).zip(used).map(|((path, bytes), used)| JobOutput {
            path,
            bytes,
            used,
        }),
        number: job.number,
        id: job.id,
        principal: job.principal,
        priority: job.priority,
        body,
        created_at: job.created_at,
        started_at: job.started_at,
        finished_at: job.finished_at,
        attempt: job.attempt,
        attempts_used: job.attempts_used,
        cancel_requested: job.cancel_requested,
        progress: job.progress,
        queue_position: None,
        sequence: job.sequence,
        warnings: serde_json::from_str(&warnings).map_err(|_| FromSqlError::InvalidType)?,
        failure: job.failure,
    })
}

/// An event of the job `id`.
pub(super) fn event(id: &JobId, row: &Row<'_>) -> rusqlite::Result<JobEvent> {
    let mut columns = Columns { row, next: 0 };
    Ok(JobEvent {
        sequence: columns.take()?,
        job_id: id.clone(),
        kind: names::kind_from(columns.value()?)?,
        status: names::status_from(columns.value()?)?,
        progress: columns.take()?,
        stage: names::stage_from(columns.value()?)?,
        step: columns.take()?,
        stage_steps: columns.take()?,
        attempt: columns.take()?,
        error: columns.take()?,
    })
}
