use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use videosdgx_api::openai::{ModelKind, Video, VideoStatus};
use videosdgx_api::{GenerateAccepted, GenerateRequest, Job};

use super::choice;
use super::create_body::{CreateVideo, CreateVideoForm, Wanted};
use super::shape::{in_openai_names, video};
use crate::Gateway;
use crate::call::Caller;
use crate::failure::Failure;

/// Makes a video: the answer comes at once, the work is queued. `Idempotency-Key` makes a repeated request the same job.
#[utoipa::path(post, path = "/v1/videos", operation_id = "createVideo", tag = "OpenAI",
    params(("Idempotency-Key" = Option<String>, Header, description = "The same key and body: the same video.")),
    request_body(content((CreateVideo = "application/json"), (CreateVideoForm = "multipart/form-data"))),
    responses((status = 200, description = "Accepted.", body = Video)))]
pub(crate) async fn create_video(
    State(gateway): State<Arc<Gateway>>,
    request: Request,
) -> Result<Json<Video>, Failure> {
    let (parts, body) = request.into_parts();
    let caller = Caller::of(&parts).with_idempotency_key(&parts);
    let wanted = Wanted::read(Request::from_parts(parts, body)).await?;
    let model = choice::model(&gateway, wanted.model.as_deref(), ModelKind::Video)?;
    let (upstream, accepted) = caller
        .post::<GenerateAccepted>(&gateway, model, "/generate", &wanted.request)
        .await
        .map_err(in_openai_names)?;
    gateway.places.put(accepted.job_id.as_str(), &upstream);
    let path = format!("/jobs/{}", accepted.job_id);
    match caller.get::<Job>(&gateway, &upstream, &path).await {
        Ok(job) => Ok(Json(video(job, &model.name))),
        // Accepted is accepted, also when the token may not read or the service went away just now.
        Err(_) => Ok(Json(just_accepted(accepted, wanted.request, &model.name))),
    }
}

/// What is known without reading the job.
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
