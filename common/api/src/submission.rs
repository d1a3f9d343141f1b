//! What a submission becomes: the stored request, and the answers to the client.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{GenerateRequest, GenerationSettings, JobId, JobStatus};

/// A request with every default filled in and every limit checked: what the queue stores and the engine runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResolvedRequest {
    /// What to generate. Attachments are encoded files in base64, checked to decode when the request was accepted.
    #[serde(flatten)]
    pub settings: GenerationSettings,
    /// Name of the checkpoint that the defaults are from.
    pub checkpoint: String,
    /// [`ModelDescription::fingerprint`](crate::ModelDescription::fingerprint) of that checkpoint; absent in rows that earlier
    /// versions stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// The request as it was sent, without attachments and with its seed: if the checkpoint is exchanged before the job runs, it
    /// is resolved anew. Absent in rows that earlier versions stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Box<GenerateRequest>>,
    /// Warnings for the caller, for example words outside the checkpoint's vocabulary.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// Answer of `POST /generate` (202).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GenerateAccepted {
    /// Id of the job.
    pub job_id: JobId,
    /// `queued`, or the present status of an earlier job with the same `Idempotency-Key`.
    pub status: JobStatus,
    /// 1 = next; 0 = no longer waiting.
    pub queue_position: u64,
    /// Estimated seconds until completion, from the last jobs; includes loading when the model is not loaded.
    pub estimated_time_seconds: f64,
    /// Whether the model is in memory now.
    pub model_loaded: bool,
    /// Name of the checkpoint that will be used.
    pub checkpoint: String,
    /// Warnings for the caller, for example words outside the checkpoint's vocabulary.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// Body of `POST /generate/batch`: all are accepted, or none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchRequest {
    /// 1 to 64 requests.
    #[schema(min_items = 1, max_items = 64)]
    pub requests: Vec<GenerateRequest>,
}

/// Answer of `POST /generate/batch` (202), in the order of the requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BatchAccepted {
    /// One answer per request.
    pub jobs: Vec<GenerateAccepted>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{OutputFormat, Resolution, SchedulerName};

    /// `body` of a row of `jobs.sqlite` as version 0.1 wrote it.
    const STORED: &str = r#"{"prompt":"a red circle","negative_prompt":"blur","resolution":"64x48","num_frames":17,
        "fps":8,"steps":20,"guidance_scale":3.0,"seed":18446744073709551615,"format":"av1","scheduler":"euler",
        "checkpoint":"demo-shapes","warnings":["\"warn\" is not in the vocabulary"]}"#;

    #[test]
    fn rows_of_the_previous_version_are_read() {
        let request: ResolvedRequest = serde_json::from_str(STORED).unwrap();
        let settings = &request.settings;
        assert_eq!((settings.prompt.as_str(), settings.negative_prompt.as_str()), ("a red circle", "blur"));
        assert_eq!(settings.resolution, Resolution { width: 64, height: 48 });
        assert_eq!((settings.num_frames, settings.fps, settings.steps), (17, 8, 20));
        assert_eq!((settings.guidance_scale, settings.seed), (3.0, u64::MAX));
        assert_eq!((settings.format, settings.scheduler), (OutputFormat::Av1, SchedulerName::Euler));
        assert_eq!((settings.image.as_deref(), request.checkpoint.as_str()), (None, "demo-shapes"));
        assert_eq!(request.warnings.len(), 1);
        let stored: serde_json::Value = serde_json::from_str(STORED).unwrap();
        assert_eq!(serde_json::to_value(&request).unwrap(), stored, "and written in the same form");
    }

    #[test]
    fn rows_without_warnings_are_read_too() {
        let mut stored: serde_json::Value = serde_json::from_str(STORED).unwrap();
        stored.as_object_mut().unwrap().remove("warnings");
        stored["image"] = json!("aGk=");
        let request: ResolvedRequest = serde_json::from_value(stored).unwrap();
        assert_eq!((request.settings.image.as_deref(), request.warnings.len()), (Some("aGk="), 0));
    }
}
