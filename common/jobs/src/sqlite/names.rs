//! Spelling of enumerations in the database.

use rusqlite::types::{FromSqlError, FromSqlResult, ValueRef};
use videosdgx_api::{EventKind, JobStatus, Stage};

pub(super) fn status(status: JobStatus) -> &'static str {
    match status {
        // The API's spelling is `processing`; the database keeps the name of the state.
        JobStatus::Running => "running",
        other => other.as_str(),
    }
}

pub(super) fn status_from(value: ValueRef<'_>) -> FromSqlResult<JobStatus> {
    let text = value.as_str()?;
    JobStatus::ALL.into_iter().find(|known| status(*known) == text).ok_or(FromSqlError::InvalidType)
}

pub(super) fn stage_from(value: ValueRef<'_>) -> FromSqlResult<Option<Stage>> {
    let Some(text) = value.as_str_or_null()? else { return Ok(None) };
    Stage::ALL.into_iter().find(|known| known.as_str() == text).map(Some).ok_or(FromSqlError::InvalidType)
}

pub(super) fn kind_from(value: ValueRef<'_>) -> FromSqlResult<EventKind> {
    let text = value.as_str()?;
    let kinds = [EventKind::State, EventKind::Progress];
    kinds.into_iter().find(|known| known.as_str() == text).ok_or(FromSqlError::InvalidType)
}
