//! Rows to types.

use jiff::Timestamp;
use rusqlite::{Row, types::FromSqlError};
use videosdgx_api::{JobEvent, JobId, JobStatus, Priority};

use super::names;
use crate::{
    IdempotencyKey, JobFailure, JobOutput, JobRecord, Principal, Progress,
    state::{Job, Phase},
};

/// Columns that [`job`] reads.
pub(super) const JOB: &str = "number, id, principal, priority, idempotency_key, body_hash, prompt_characters, enqueued, \
    status, not_before, attempt, attempts_used, cancel_requested, stage, step, steps, sequence, failure_code, \
    failure_message, created_at, started_at, finished_at, output_path";

/// Columns that [`record`] reads besides.
pub(super) const RECORD: &str = "output_bytes, output_used, (SELECT body FROM requests WHERE requests.number = jobs.number) \
    AS body, (SELECT json_group_array(text ORDER BY place) FROM warnings WHERE warnings.number = jobs.number) AS warnings";

/// Columns that [`event`] reads.
pub(super) const EVENT: &str = "sequence, kind, status, progress, stage, step, steps, attempt, error";

/// A job as the machine knows it.
pub(super) fn job(row: &Row<'_>) -> rusqlite::Result<Job> {
    let status = names::status_from(row.get_ref("status")?)?;
    let key: Option<String> = row.get("idempotency_key")?;
    let body_hash: Option<[u8; 32]> = row.get("body_hash")?;
    let failure_code: Option<String> = row.get("failure_code")?;
    let failure_message: Option<String> = row.get("failure_message")?;
    Ok(Job {
        number: row.get("number")?,
        id: job_id(row)?,
        principal: Principal::new(row.get::<_, String>("principal")?),
        priority: Priority::new(row.get("priority")?).ok_or(FromSqlError::InvalidType)?,
        idempotency: key.zip(body_hash).map(|(key, body_hash)| IdempotencyKey { key, body_hash }),
        prompt_characters: row.get("prompt_characters")?,
        enqueued: row.get("enqueued")?,
        phase: match status {
            JobStatus::Queued => Phase::Queued { not_before: row.get("not_before")? },
            // Queue times of an attempt mean nothing to another process; leases are given afresh.
            JobStatus::Running => Phase::Running { lease_until: 0, started: row.get("not_before")? },
            ended => Phase::Ended(ended),
        },
        attempt: row.get("attempt")?,
        attempts_used: row.get("attempts_used")?,
        cancel_requested: row.get("cancel_requested")?,
        progress: progress(row)?,
        sequence: row.get("sequence")?,
        failure: failure_code.zip(failure_message).map(|(code, message)| JobFailure { code, message }),
        created_at: timestamp(row, "created_at")?.ok_or(FromSqlError::InvalidType)?,
        started_at: timestamp(row, "started_at")?,
        finished_at: timestamp(row, "finished_at")?,
        output_path: row.get("output_path")?,
    })
}

/// A job as its owner sees it; the place in the queue is not in the database.
pub(super) fn record(row: &Row<'_>) -> rusqlite::Result<JobRecord> {
    let job = job(row)?;
    let (bytes, used): (Option<u64>, Option<String>) = (row.get("output_bytes")?, row.get("output_used")?);
    let warnings: String = row.get("warnings")?;
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
        body: row.get("body")?,
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
    Ok(JobEvent {
        sequence: row.get("sequence")?,
        job_id: id.clone(),
        kind: names::kind_from(row.get_ref("kind")?)?,
        status: names::status_from(row.get_ref("status")?)?,
        progress: row.get("progress")?,
        stage: names::stage_from(row.get_ref("stage")?)?,
        step: row.get("step")?,
        stage_steps: row.get("steps")?,
        attempt: row.get("attempt")?,
        error: row.get("error")?,
    })
}

fn job_id(row: &Row<'_>) -> rusqlite::Result<JobId> {
    let id: String = row.get("id")?;
    Ok(id.parse().map_err(|_| FromSqlError::InvalidType)?)
}

fn progress(row: &Row<'_>) -> rusqlite::Result<Option<Progress>> {
    let stage = names::stage_from(row.get_ref("stage")?)?;
    let (step, steps): (Option<u32>, Option<u32>) = (row.get("step")?, row.get("steps")?);
    Ok(stage.zip(step).zip(steps).map(|((stage, step), steps)| Progress { stage, step, steps }))
}

fn timestamp(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<Timestamp>> {
    let milliseconds: Option<i64> = row.get(column)?;
    let timestamp = milliseconds.map(Timestamp::from_millisecond).transpose();
    Ok(timestamp.map_err(|_| FromSqlError::InvalidType)?)
}
