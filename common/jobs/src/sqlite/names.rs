//! How enumerations are spelled in the database.

use rusqlite::types::{FromSqlError, FromSqlResult, ValueRef};
use videosdgx_api::{EventKind, JobStatus, Stage};

pub(super) fn status(status: JobStatus) -> &'static str {
    match status {
        JobStatus::Queued => "queued",
        JobStatus::Running => "running",
        JobStatus::Completed => "completed",
        JobStatus::Failed => "failed",
        JobStatus::Cancelled => "cancelled",
        JobStatus::Dead => "dead",
    }
}

pub(super) fn stage(stage: Stage) -> &'static str {
    match stage {
        Stage::Loading => "loading",
        Stage::Encoding => "encoding",
        Stage::Denoising => "denoising",
        Stage::Decoding => "decoding",
        Stage::Saving => "saving",
    }
}

const STAGES: [Stage; 5] =
    [Stage::Loading, Stage::Encoding, Stage::Denoising, Stage::Decoding, Stage::Saving];

pub(super) fn status_from(value: ValueRef<'_>) -> FromSqlResult<JobStatus> {
    let text = value.as_str()?;
    JobStatus::ALL.into_iter().find(|known| status(*known) == text).ok_or(FromSqlError::InvalidType)
}

pub(super) fn stage_from(value: ValueRef<'_>) -> FromSqlResult<Option<Stage>> {
    let Some(text) = value.as_str_or_null()? else { return Ok(None) };
    STAGES.into_iter().find(|known| stage(*known) == text).map(Some).ok_or(FromSqlError::InvalidType)
}

pub(super) fn kind_from(value: ValueRef<'_>) -> FromSqlResult<EventKind> {
    let text = value.as_str()?;
    let kinds = [EventKind::State, EventKind::Progress];
    kinds.into_iter().find(|known| known.as_str() == text).ok_or(FromSqlError::InvalidType)
}
