//! Converts a record of the queue to the job that its owner sees.

use serde::{Deserialize, Serialize};
use videosdgx_api::{Job, JobStatus, ResolvedRequest, Stage};
use videosdgx_jobs::JobRecord;

use videosdgx_shell::{Failure, HandlerResult};

/// The data that is stored with a completed job.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Used {
    /// Seconds spent in each stage, in order.
    pub(crate) stage_seconds: Vec<(Stage, f64)>,
    /// The request that was run, if it was resolved anew because the checkpoint was exchanged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) resolved_anew: Option<ResolvedRequest>,
}

/// The request as it is stored.
pub(crate) fn request(body: &str) -> Result<ResolvedRequest, serde_json::Error> {
    serde_json::from_str(body)
}

/// The job of the service `model_name`.
pub(crate) fn job(model_name: &str, record: JobRecord) -> HandlerResult<Job> {
    let mut request = request(&record.body)
        .map_err(|error| Failure::internal(format!("job {} cannot be read: {error}", record.id)))?;
    let completed = record.status == JobStatus::Completed;
    if let Some(output) = record.output.as_ref().filter(|_| completed) {
        // Without it, the job is shown as it was accepted.
        let used: Used = serde_json::from_str(&output.used).unwrap_or_default();
        request = used.resolved_anew.unwrap_or(request);
    }
    let active = !record.status.is_terminal();
    let attempt = attempt(&record);
    let progress = record
        .progress
        .filter(|progress| record.status == JobStatus::Running || progress.stage == Stage::Waiting);
    let output = record.output.filter(|_| completed);
    let failure = record.failure.filter(|_| !completed && record.status != JobStatus::Cancelled);
    let mut warnings = request.warnings.clone();
    for warning in record.warnings {
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }
    Ok(Job {
        download_url: output.as_ref().map(|_| format!("/jobs/{}/download", record.id)),
        job_id: record.id,
        model_name: model_name.to_owned(),
        status: record.status,
        duration: request.settings.duration(),
        checkpoint: request.checkpoint,
        settings: request.settings,
        priority: record.priority,
        created_at: record.created_at,
        started_at: record.started_at,
        completed_at: record.finished_at,
        output_bytes: output.as_ref().map(|output| output.bytes),
        output_path: output.map(|output| output.path),
        error: failure.as_ref().map(|failure| failure.message.clone()),
        error_code: failure.map(|failure| failure.code),
        progress: record.percent,
        stage: progress.map(|progress| progress.stage),
        step: progress.map(|progress| progress.step),
        stage_steps: progress.map(|progress| progress.steps),
        attempt,
        queue_position: record.queue_position.filter(|_| active),
        warnings,
    })
}

/// The attempt as the API shows it: one that was interrupted by a shutdown of the service does not count.
fn attempt(record: &JobRecord) -> u32 {
    match record.status {
        JobStatus::Queued => record.attempts_used,
        JobStatus::Running | JobStatus::Completed => record.attempts_used + 1,
        JobStatus::Failed | JobStatus::Cancelled | JobStatus::Dead => {
            record.attempts_used.max(record.attempt.min(1))
        }
    }
}
