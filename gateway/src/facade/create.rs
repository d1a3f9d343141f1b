use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use videosdgx_api::openai::{ModelKind, Video, VideoStatus};
use videosdgx_api::{GenerateAccepted, GenerateRequest, Job};

use super::create_body::{CreateVideo, CreateVideoForm, VideoRequest};
use super::model_lookup::find_model;
use super::shape::{in_openai_names, video};
use crate::Gateway;
use crate::failure::Failure;
use crate::upstream_client::UpstreamClient;

/// Queues a video and returns at once. A repeated request with the same `Idempotency-Key` returns the same video.
#[utoipa::path(post, path = "/v1/videos", operation_id = "createVideo", tag = "OpenAI",
    params(("Idempotency-Key" = Option<String>, Header, description = "A request with the same key and body returns the same video.")),
    request_body(content((CreateVideo = "application/json"), (CreateVideoForm = "multipart/form-data"))),
    responses((status = 200, description = "Accepted.", body = Video)))]
pub(crate) async fn create_video(
    State(gateway): State<Arc<Gateway>>,
    request: Request,
) -> Result<Json<Video>, Failure> {
    let (parts, body) = request.into_parts();
    let client = UpstreamClient::new(&parts).with_idempotency_key(&parts);
    let video_request = VideoRequest::read(Request::from_parts(parts, body)).await?;
    let model = find_model(&gateway, video_request.model.as_deref(), ModelKind::Video)?;
    let (upstream, accepted) = client
        .post::<GenerateAccepted>(&gateway, model, "/generate", &video_request.request)
        .await
        .map_err(in_openai_names)?;
    gateway.job_locations.put(accepted.job_id.as_str(), &upstream);
    let path = format!("/jobs/{}", accepted.job_id);
    match client.get::<Job>(&gateway, &upstream, &path).await {
        Ok(job) => Ok(Json(video(job, &model.name))),
        // The job is accepted, even when the token may not read it or the service has just failed.
        Err(_) => Ok(Json(just_accepted(accepted, video_request.request, &model.name))),
    }
}

/// The video as far as it is known without reading the job.
fn just_accepted(accepted: GenerateAccepted, request: GenerateRequest, model: &str) -> Video {
    Video {
        id: accepted.job_id.to_string(),
        object: "video".to_owned(),
        model: model.to_owned(),
        status: VideoStatus::Queued,
        progress: 0,
        created_at: jiff::Timestamp::now().as_second(),
        completed_at: None,
        expires_at: None,
        prompt: Some(request.prompt),
        size: request.resolution.map_or_else(|| "auto".to_owned(), |size| size.to_string()),
        seconds: request.duration.map_or_else(|| "auto".to_owned(), |seconds| seconds.to_string()),
        remixed_from_video_id: None,
        error: None,
        checkpoint: accepted.checkpoint,
        warnings: accepted.warnings,
    }
}
