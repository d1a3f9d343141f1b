//! Conversion of native types to OpenAI's.

use videosdgx_api::openai::{Video, VideoError, VideoStatus};
use videosdgx_api::{Job, JobStatus};

use crate::failure::Failure;

/// A job as a video of the model `model`.
pub(crate) fn video(job: Job, model: &str) -> Video {
    let status = match job.status {
        JobStatus::Queued => VideoStatus::Queued,
        JobStatus::Running => VideoStatus::InProgress,
        JobStatus::Completed => VideoStatus::Completed,
        JobStatus::Failed | JobStatus::Cancelled | JobStatus::Dead => VideoStatus::Failed,
    };
    let error = matches!(status, VideoStatus::Failed).then(|| {
        let (code, message) = match job.status {
            JobStatus::Cancelled => ("cancelled", "the job was cancelled"),
            JobStatus::Dead => ("dead", "the job failed in its last attempt"),
            _ => ("failed", "the job failed"),
        };
        VideoError {
            code: job.error_code.unwrap_or_else(|| code.to_owned()),
            message: job.error.unwrap_or_else(|| message.to_owned()),
        }
    });
    Video {
        id: job.job_id.to_string(),
        object: "video".to_owned(),
        model: model.to_owned(),
        status,
        progress: job.progress,
        created_at: job.created_at.as_second(),
        completed_at: job.completed_at.filter(|_| error.is_none()).map(|at| at.as_second()),
        expires_at: None,
        prompt: Some(job.settings.prompt),
        size: job.settings.resolution.to_string(),
        seconds: seconds(job.duration),
        remixed_from_video_id: None,
        error,
        checkpoint: job.checkpoint,
        warnings: job.warnings,
    }
}

/// At most three decimals, without trailing zeros: `2.0` is `2`, `2.125` is `2.125`.
fn seconds(duration: f64) -> String {
    let text = format!("{duration:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Settings that OpenAI names differently: its name, and the name in the native API.
pub(crate) const SETTING_NAMES: [(&str, &str); 3] =
    [("size", "resolution"), ("seconds", "duration"), ("input_reference", "image")];

/// Renames the field of a service's problem to its OpenAI name.
pub(crate) fn in_openai_names(failure: Failure) -> Failure {
    failure.map(|problem| {
        let Some(field) = problem.field.as_deref() else { return };
        let mut names = SETTING_NAMES.into_iter().chain([("after", "cursor")]);
        if let Some((name, _)) = names.find(|(_, native)| *native == field) {
            problem.field = Some(name.to_owned());
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn job(status: &str) -> Job {
        serde_json::from_value(json!({
            "job_id": "wan21-abc", "model_name": "wan21", "checkpoint": "demo-shapes", "status": status,
            "prompt": "a red circle", "negative_prompt": "", "duration": 2.125, "resolution": "64x64", "fps": 8,
            "num_frames": 17, "steps": 20, "guidance_scale": 3.0, "seed": 1, "format": "h264",
            "scheduler": "unipc", "priority": 5, "created_at": "2026-01-01T00:00:00Z", "started_at": null,
            "completed_at": "2026-01-01T00:00:10Z", "output_path": null, "download_url": null,
            "output_bytes": null, "error": null, "error_code": null, "progress": 45, "stage": null,
            "step": null, "stage_steps": null, "attempt": 1, "queue_position": null, "warnings": ["w"]
        }))
        .unwrap()
    }

    #[test]
    fn every_status_is_mapped() {
        for (native, openai, code) in [
            ("queued", "queued", None),
            ("processing", "in_progress", None),
            ("completed", "completed", None),
            ("failed", "failed", Some("failed")),
            ("cancelled", "failed", Some("cancelled")),
            ("dead", "failed", Some("dead")),
        ] {
            let video = serde_json::to_value(video(job(native), "wan21")).unwrap();
            assert_eq!(video["status"], openai);
            assert_eq!(video["error"]["code"].as_str(), code);
            assert_eq!(video["created_at"], 1_767_225_600);
            assert_eq!(video["completed_at"].is_null(), code.is_some());
            assert_eq!(video["seconds"], "2.125");
            assert_eq!(video["object"], "video");
        }
    }

    #[test]
    fn seconds_have_no_trailing_zeros() {
        for (duration, text) in [(2.0, "2"), (2.125, "2.125"), (10.0, "10"), (1.0 / 3.0, "0.333"), (0.0, "0")]
        {
            assert_eq!(seconds(duration), text);
        }
    }
}
